"""What is in a model: inputs, scores, feature maps worth explaining, and what stands between them.

A feature map is a tensor on the way from the image to the score that still has a place in the picture. Which of its
axes is the channel follows from the operators: a convolution's output has it second, a Transpose moves it, elementwise
operators keep it. The last one is the best default: it is where Grad-CAM is defined, and where a gradient costs least.
"""

import ast
import dataclasses
import json
from collections import Counter
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

import onnxcam.grad.rules  # noqa: F401 - fills the registry, which tells what is missing
from onnxcam.errors import InputError, ModelError, unknown
from onnxcam.grad.forward import Forward, Node
from onnxcam.grad.infer import Shape
from onnxcam.grad.prepare import prepare
from onnxcam.grad.reverse import missing
from onnxcam.grad.tensor import Tape
from onnxcam.model import ModelLike, Source, read

_CHANNEL_SECOND = frozenset({
    "AveragePool", "BatchNormalization", "Conv", "ConvTranspose", "DepthToSpace", "GlobalAveragePool", "GlobalLpPool",
    "GlobalMaxPool", "GroupNormalization", "InstanceNormalization", "LRN", "LpPool", "MaxPool", "SpaceToDepth",
    "Upsample",
})  # fmt: skip
_MOVES = frozenset({"AveragePool", "Cast", "Dropout", "Identity", "Pad", "Reshape", "Slice", "Transpose"})
_FINISHES = frozenset({
    "BatchNormalization", "Celu", "Clip", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "PRelu",
    "Relu", "Selu", "Sigmoid", "Softplus", "Swish", "Tanh",
})  # fmt: skip
_ENDINGS = {"Softmax": "softmax", "LogSoftmax": "softmax", "Sigmoid": "sigmoid"}
_CARRIES = frozenset({"ArgMax", "Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "TopK", "Unsqueeze"})
_LAYOUTS = {(3, 1): "NCL", (3, 2): "NLC", (4, 1): "NCHW", (4, 3): "NHWC", (5, 1): "NCDHW", (5, 4): "NDHWC"}


@dataclass(frozen=True)
class Layer:
    """A feature map: the node that makes it (its tensor where names repeat), shape, and axis of the channels."""

    name: str
    tensor: str
    op: str
    shape: Shape
    channel_axis: int

    @property
    def layout(self) -> str:
        """Order of the axes, such as NCHW or NHWC."""
        return _LAYOUTS.get((len(self.shape), self.channel_axis), f"channels at axis {self.channel_axis}")

    @property
    def grid(self) -> Shape:
        """The spatial dimensions."""
        return tuple(d for i, d in enumerate(self.shape) if i not in (0, self.channel_axis))


@dataclass(frozen=True)
class Score:
    """A tensor whose elements can be explained: what the model says before its last Softmax or Sigmoid."""

    tensor: str
    output: str
    shape: Shape
    activation: str | None

    @property
    def classes(self) -> int | None:
        """Number of classes, where it is known."""
        size = self.shape[1 if len(self.shape) > 1 else 0]
        return size if isinstance(size, int) else None


@dataclass(frozen=True)
class Input:
    """An input of the model; `layout` only for one that looks like an image."""

    name: str
    shape: Shape
    dtype: str
    layout: str | None

    @property
    def channels(self) -> int | None:
        """Number of colour channels, where it is known."""
        if self.layout is None:
            return None
        size = self.shape[self.layout.index("C")]
        return size if isinstance(size, int) else None

    @property
    def size(self) -> Shape:
        """Height and width (or what space the layout has)."""
        channel = self.layout.index("C") if self.layout else -1
        return tuple(d for i, d in enumerate(self.shape) if i not in (0, channel))


@dataclass(frozen=True)
class Inspection:
    """What `inspect` found: `layers` and `scores` best first, `missing` operators, `preprocess` as the file has it."""

    layers: tuple[Layer, ...]
    scores: tuple[Score, ...]
    inputs: tuple[Input, ...]
    missing: tuple[str, ...]
    preprocess: Mapping[str, object] | None
    labels: tuple[str, ...] | None
    opset: int
    producer: str

    def layer(self, name: str) -> Layer:
        """The feature map of that node or tensor name. Raises InputError with the closest names."""
        for layer in self.layers:
            if name in (layer.name, layer.tensor):
                return layer
        raise unknown("layer", name, [layer.name for layer in self.layers])

    def image(self) -> Input:
        """The input that takes the picture. Raises ModelError where none looks like one."""
        for candidate in self.inputs:
            if candidate.layout:
                return candidate
        shapes = ", ".join(f"'{i.name}' {list(i.shape)}" for i in self.inputs)
        raise ModelError(
            f"No input of the model looks like an image (N×C×H×W or N×H×W×C): there is {shapes or 'none'}."
        )

    def to_json(self) -> str:
        """Everything as one JSON object."""
        found = dataclasses.asdict(self)
        for row, layer in zip(found["layers"], self.layers, strict=True):
            row |= {"layout": layer.layout, "grid": layer.grid}
        return json.dumps(found, indent=2)


def inspect(model: ModelLike, *, score: str = "auto") -> Inspection:
    """Look into a model: feature maps best first, scores, inputs, operators without a gradient, preprocessing, classes.

    Raises ModelError for a file that cannot be read, InputError for an unknown `score`.
    """
    source = read(model)
    return look(source, Forward(source.proto, source.folder), score)


def look(source: Source, forward: Forward, score: str = "auto") -> Inspection:
    """`inspect` on a graph that has been read already."""
    inputs = tuple(_input(forward, name) for name in forward.inputs)
    channels = _channel_axes(forward, inputs)
    scores = _scores(forward) if score == "auto" else (_score_named(forward, score),)
    layers: tuple[Layer, ...] = ()
    for candidate in scores:
        layers = _layers(forward, channels, candidate.tensor)
        if layers:
            scores = (candidate, *(s for s in scores if s is not candidate))
            break
    lost = _missing(forward, scores[0].tensor, layers[0].tensor) if layers else []
    metadata = {p.key: p.value for p in source.proto.metadata_props}
    return Inspection(
        layers, scores, inputs, tuple(str(n) for n in lost), _preprocess(metadata), _labels(metadata),
        forward.opsets[""], f"{source.proto.producer_name} {source.proto.producer_version}".strip(),
    )  # fmt: skip


def _missing(forward: Forward, score: str, layer: str) -> list[Node]:
    """Operators between layer and score without a gradient, after all rewrites."""
    prepared = copy(forward)
    prepare(prepared, Tape(prepared), keep=[score, layer])
    return missing(prepared, score, [layer])


# ----- inputs -----
def _input(forward: Forward, name: str) -> Input:
    type_ = forward.type(name)
    shape = type_.shape or ()
    layout = None
    if len(shape) == 4:
        layout = (
            "NHWC"
            if shape[3] in (1, 3, 4) and shape[1] not in (1, 3, 4)
            else "NCHW"
            if isinstance(shape[1], int)
            else None
        )
    elif len(shape) in (3, 5):
        layout = _LAYOUTS[len(shape), 1]
    return Input(name, shape, np.dtype(onnx.helper.tensor_dtype_to_np_dtype(type_.dtype)).name, layout)


# ----- feature maps -----
def _channel_axes(forward: Forward, inputs: tuple[Input, ...]) -> dict[str, int]:
    """Axis of the channels, for every tensor whose layout follows from the operators."""
    axes = {i.name: i.layout.index("C") for i in inputs if i.layout}
    for node in forward.nodes:
        for output in filter(None, node.outputs):
            axis = _channel_axis(forward, node, output, axes)
            if axis is not None:
                axes[output] = axis
    return axes


def _channel_axis(forward: Forward, node: Node, output: str, axes: Mapping[str, int]) -> int | None:
    rank = _rank(forward, output)
    if rank is None or rank < 3:
        return None
    if node.op in _CHANNEL_SECOND:
        return 1
    known = [(axes[i], _rank(forward, i)) for i in node.inputs if i in axes]
    if node.op == "Transpose" and known:
        perm = [int(p) for p in _ints(node.attributes.get("perm"))] or list(range(rank))[::-1]
        return perm.index(known[0][0])
    return next((axis for axis, own in known if own == rank and node.op != "Reshape"), None)


def _ints(value: object) -> list[int]:
    return [int(v) for v in value] if isinstance(value, (list, tuple)) else []


def _rank(forward: Forward, name: str) -> int | None:
    shape = forward.type(name).shape if forward.has_type(name) else None
    return None if shape is None else len(shape)


def _layers(forward: Forward, channels: Mapping[str, int], score: str) -> tuple[Layer, ...]:
    """Feature maps on the way to the score, last first; those that only move or begin another one are left out."""
    wanted = _ancestors(forward, score)
    dependent = _descendants(forward)
    readers = forward.consumers()
    names = Counter(node.name for node in forward.nodes)
    found = []
    for node in forward.nodes:
        name = node.outputs[0]
        if (
            name not in channels
            or name not in wanted
            or name not in dependent
            or name == score
            or not forward.type(name).is_float
        ):
            continue
        own = node.name if node.name and names[node.name] == 1 else name
        layer = Layer(own, name, node.op, forward.type(name).shape or (), channels[name])
        unfinished = [r for r in readers.get(name, []) if r.op in _FINISHES and r.outputs[0] in channels]
        if any(d != 1 for d in layer.grid) and node.op not in _MOVES and not unfinished:
            found.append(layer)
    return tuple(found[::-1])


def _ancestors(forward: Forward, score: str) -> set[str]:
    wanted = {score}
    for node in reversed(forward.nodes):
        if wanted.intersection(node.outputs):
            wanted.update(node.inputs)
    return wanted


def _descendants(forward: Forward) -> set[str]:
    """Tensors that depend on an input."""
    reached = set(forward.inputs)
    for node in forward.nodes:
        if reached.intersection(node.inputs):
            reached.update(node.outputs)
    return reached


# ----- scores -----
def _scores(forward: Forward) -> tuple[Score, ...]:
    """What each output says before its last Softmax or Sigmoid; outputs with one row of classes a sample come first."""
    producers = forward.producers()
    found = [s for output in forward.outputs if (s := _score(forward, producers, output))]
    if not found:
        raise ModelError("No output of the model is a float tensor that could be explained.")
    found.sort(key=lambda s: sum(d != 1 for d in s.shape[1:]) != 1)
    return tuple(dict.fromkeys(found))


def _score(forward: Forward, producers: Mapping[str, Node], output: str) -> Score | None:
    name, activation = output, None
    walk = output
    while (node := producers.get(walk)) and (node.op in _CARRIES or node.op in _ENDINGS) and not node.domain:
        walk = node.inputs[0]
        if node.op in _ENDINGS:
            name, activation = walk, _ENDINGS[node.op]
            break
        if node.op in ("ArgMax", "TopK"):
            name = walk
    if not forward.has_type(name) or not forward.type(name).is_float:
        return None
    return Score(name, output, forward.type(name).shape or (), activation)


def _score_named(forward: Forward, name: str) -> Score:
    if not forward.has_type(name):
        raise unknown("score tensor", name, [s.tensor for s in _scores(forward)] + forward.outputs + forward.names())
    if not forward.type(name).is_float:
        raise InputError(f"Tensor '{name}' holds integers and cannot be the score: it has no gradient.")
    node = next((n for n in forward.nodes if n.op in _ENDINGS and n.inputs[0] == name), None)
    return Score(name, name, forward.type(name).shape or (), _ENDINGS[node.op] if node else None)


# ----- the linear head of closed-form CAM -----
def linear_head(forward: Forward, layer: Layer, score: Score) -> npt.NDArray[np.float32]:
    """The weights (classes, K) with score = W·mean(A) + b. Raises ModelError where the head is not of that form."""
    producers = forward.producers()
    weights: npt.NDArray[np.float32] | None = None
    walk = score.tensor
    while walk != layer.tensor:
        node = producers.get(walk)
        if node is None:
            break
        following, found = _head_step(forward, node, layer)
        if following is None or (found is not None and weights is not None):
            break
        weights = found if found is not None else weights
        walk = following
    if walk != layer.tensor:
        node_ = producers.get(walk)
        raise ModelError(
            f"Method 'cam' needs a head of global average pooling and one linear layer after '{layer.name}', and meets "
            f"{node_ or walk}. Use 'gradcam', which equals it up to scale where both exist."
        )
    size = layer.shape[layer.channel_axis]
    return weights if weights is not None else np.eye(int(size), dtype=np.float32)


def _head_step(forward: Forward, node: Node, layer: Layer) -> tuple[str | None, npt.NDArray[np.float32] | None]:
    """One step from the score towards the layer: the tensor before, and the weights where this was the linear layer."""
    if node.op in ("Gemm", "MatMul", "Conv") and (w := forward.constant(node.inputs[1])) is not None:
        matrix = np.asarray(w, np.float32).reshape(w.shape[0], -1) if node.op == "Conv" else np.asarray(w, np.float32)
        if node.op == "Conv" and (w.size != matrix.shape[0] * w.shape[1] or node.attributes.get("group", 1) != 1):
            return None, None
        turned = node.op == "Conv" or bool(node.attributes.get("transB", 0))
        scale = float(str(node.attributes.get("alpha", 1.0)))
        return node.inputs[0], (matrix if turned else matrix.T) * np.float32(scale)
    if node.op == "Add":
        moving = [i for i in node.inputs if forward.constant(i) is None]
        return (moving[0], None) if len(moving) == 1 else (None, None)
    if node.op == "AveragePool" and all(d == 1 for d in (forward.type(node.outputs[0]).shape or (0, 0, 0))[2:]):
        return node.inputs[0], None
    if (
        node.op == "ReduceMean"
        or node.op in _CARRIES - {"ArgMax", "TopK"}
        or node.op in ("GlobalAveragePool", "Transpose")
    ):
        return node.inputs[0], None
    return None, None


# ----- what the file says of itself -----
def _preprocess(metadata: Mapping[str, str]) -> Mapping[str, object] | None:
    text = metadata.get("cam.preprocess")
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ModelError(
            f"The model's metadata 'cam.preprocess' is not JSON: {error}. Give the preprocessing by hand."
        ) from error
    return found if isinstance(found, dict) else None


def _labels(metadata: Mapping[str, str]) -> tuple[str, ...] | None:
    """Class names: a JSON list in `cam.classes`, ultralytics' `names`, one a line in Paddle's `character`."""
    for key in ("cam.classes", "names", "classes", "labels", "character"):
        text = metadata.get(key)
        if not text:
            continue
        try:
            found = ast.literal_eval(text) if text.lstrip()[:1] in "[{" else text.splitlines()
        except (ValueError, SyntaxError):
            continue
        values = [found[k] for k in sorted(found)] if isinstance(found, dict) else found
        if isinstance(values, list) and values:
            return tuple(str(v) for v in values)
    return None
