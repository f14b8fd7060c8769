"""What is in a model: inputs, scores, feature maps worth explaining, and what stands between them.

A feature map is a tensor on the way from the image to the score that still has a place in the picture. Which of its
axes is the channel follows from the operators: a convolution's output has it second, a Transpose moves it, elementwise
operators keep it. The last one is the best default: it is where Grad-CAM is defined, and where a gradient costs least.
"""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass

import numpy as np
import onnx

import onnxcam.grad.rules  # noqa: F401 - fills the registry, which tells what is missing
from onnxcam import metadata
from onnxcam.errors import InputError, ModelError, unknown
from onnxcam.grad.forward import Forward, Node
from onnxcam.grad.infer import Shape
from onnxcam.grad.prepare import prepare
from onnxcam.grad.quantized import dequantized, shown
from onnxcam.grad.reverse import missing
from onnxcam.grad.tensor import Tape
from onnxcam.model import ModelLike, Source, read

_CHANNEL_SECOND = frozenset({
    "AveragePool", "BatchNormalization", "Conv", "ConvTranspose", "DepthToSpace", "GlobalAveragePool", "GlobalLpPool",
    "GlobalMaxPool", "GroupNormalization", "InstanceNormalization", "LRN", "LpPool", "MaxPool", "SpaceToDepth",
    "Upsample",
})  # fmt: skip
_MOVES = frozenset({
    "AveragePool", "Cast", "DequantizeLinear", "Dropout", "DynamicQuantizeLinear", "Identity", "Pad", "QuantizeLinear",
    "Reshape", "Slice", "Transpose",
})  # fmt: skip
_FINISHES = frozenset({
    "BatchNormalization", "Celu", "Clip", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "PRelu",
    "Relu", "Selu", "Sigmoid", "Softplus", "Swish", "Tanh",
})  # fmt: skip
_ENDINGS = {"Softmax": "softmax", "LogSoftmax": "softmax", "Sigmoid": "sigmoid"}
_CARRIES = frozenset({
    "ArgMax", "Cast", "DequantizeLinear", "Dropout", "Flatten", "Identity", "QuantizeLinear", "Reshape", "Squeeze",
    "TopK", "Unsqueeze",
})  # fmt: skip
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
    sources: Mapping[str, frozenset[str]]

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

    def sees(self, layer: Layer) -> Input | None:
        """The image input that a layer depends on; None where there is none, or the layer is made from others."""
        return next((i for i in self.inputs if i.layout and i.name in self.sources.get(layer.tensor, ())), None)

    def to_json(self) -> str:
        """Everything as one JSON object."""
        found = dataclasses.asdict(dataclasses.replace(self, sources={}))
        del found["sources"]
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
    said = {p.key: p.value for p in source.proto.metadata_props}
    return Inspection(
        layers, scores, inputs, tuple(str(n) for n in lost), metadata.preprocess(said), metadata.labels(said),
        forward.opsets[""], f"{source.proto.producer_name} {source.proto.producer_version}".strip(),
        _sources(forward, inputs, layers),
    )  # fmt: skip


def _missing(forward: Forward, score: str, layer: str) -> list[Node]:
    """Operators between layer and score without a gradient, after all rewrites."""
    prepared = copy(forward)
    tape = Tape(prepared)
    score, layer = (dequantized(name, prepared, tape) for name in (score, layer))
    prepare(prepared, tape, keep=[layer], of=score)
    return missing(prepared, score, [layer])


# ----- inputs -----
def _input(forward: Forward, name: str) -> Input:
    type_ = forward.type(name)
    shape = type_.shape or ()
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(type_.dtype)).name
    return Input(name, shape, dtype, _layout(forward, name, shape))


def _layout(forward: Forward, name: str, shape: Shape) -> str | None:
    """The layout of an input: by the operator that reads it, else by where a number of colours stands."""
    if len(shape) != 4:
        return _LAYOUTS.get((len(shape), 1))
    for reader in forward.consumers().get(name, []):
        if reader.op == "Transpose" and _ints(reader.attributes.get("perm")) == [0, 3, 1, 2]:
            return "NHWC"
        if reader.op in _CHANNEL_SECOND:
            return "NCHW"
    colours = (1, 3, 4)
    if shape[3] in colours and shape[1] not in colours:
        return "NHWC"
    return "NCHW" if isinstance(shape[1], int) else None


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
    if _plain(node) in _CHANNEL_SECOND:
        return rank - 1 if node.op.startswith("Nhwc") or node.attributes.get("channels_last") else 1
    known = [(axes[i], _rank(forward, i)) for i in node.inputs if i in axes]
    if node.op == "Transpose" and known:
        perm = [int(p) for p in _ints(node.attributes.get("perm"))] or list(range(rank))[::-1]
        return perm.index(known[0][0])
    return next((axis for axis, own in known if own == rank and node.op != "Reshape"), None)


def _plain(node: Node) -> str:
    """The operator that a quantised or fused one is for."""
    name = node.op.removeprefix("QLinear").removeprefix("Nhwc").removesuffix("Integer")
    return name.removeprefix("Fused") if node.domain else name


def _ints(value: object) -> list[int]:
    return [int(v) for v in value] if isinstance(value, (list, tuple)) else []


def _rank(forward: Forward, name: str) -> int | None:
    shape = forward.type(name).shape if forward.has_type(name) else None
    return None if shape is None else len(shape)


def _layers(forward: Forward, channels: Mapping[str, int], score: str) -> tuple[Layer, ...]:
    """Feature maps on the way to the score, last first; those that only move or begin another one are left out."""
    wanted = _ancestors(forward, score)
    dependent = _descendants(forward, forward.inputs)
    readers = forward.consumers()
    names = Counter(node.name for node in forward.nodes)
    stands = shown(forward)
    found = []
    for node in forward.nodes:
        name = node.outputs[0]
        if (
            name not in channels
            or name not in wanted
            or name not in dependent
            or score in (name, stands.get(name))
            or not (forward.type(name).is_float or name in stands)
        ):
            continue
        tensor = stands.get(name, name)
        own = node.name if node.name and names[node.name] == 1 else name
        layer = Layer(own, tensor, node.op, forward.type(name).shape or (), channels[name])
        following = [*readers.get(name, []), *readers.get(tensor, [])]
        unfinished = [r for r in following if _plain(r) in _FINISHES and r.outputs[0] in channels]
        if any(d != 1 for d in layer.grid) and node.op not in _MOVES and not unfinished:
            found.append(layer)
    return tuple(found[::-1])


def _ancestors(forward: Forward, score: str) -> set[str]:
    wanted = {score}
    for node in reversed(forward.nodes):
        if wanted.intersection(node.outputs):
            wanted.update(node.inputs)
    return wanted


def _descendants(forward: Forward, names: Iterable[str]) -> set[str]:
    """Tensors that depend on one of `names`."""
    reached = set(names)
    for node in forward.nodes:
        if reached.intersection(node.inputs):
            reached.update(node.outputs)
    return reached


def _sources(forward: Forward, inputs: Iterable[Input], layers: Iterable[Layer]) -> dict[str, frozenset[str]]:
    """The image inputs that each feature map depends on."""
    reach = {i.name: _descendants(forward, [i.name]) for i in inputs if i.layout}
    return {x.tensor: frozenset(name for name, seen in reach.items() if x.tensor in seen) for x in layers}


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
    stands = shown(forward)
    while (node := producers.get(walk)) and _plain(node) in _CARRIES | _ENDINGS.keys():
        walk = node.inputs[0]
        if _plain(node) in _ENDINGS:
            name, activation = stands.get(walk, walk), _ENDINGS[_plain(node)]
            break
        if node.op in ("ArgMax", "TopK"):
            name = walk
    if not forward.has_type(name) or not (forward.type(name).is_float or name in stands):
        return None
    return Score(name, output, forward.type(name).shape or (), activation)


def _score_named(forward: Forward, name: str) -> Score:
    if not forward.has_type(name):
        raise unknown("score tensor", name, [s.tensor for s in _scores(forward)] + forward.outputs + forward.names())
    if not (forward.type(name).is_float or name in shown(forward)):
        raise InputError(f"Tensor '{name}' holds integers and cannot be the score: it has no gradient.")
    node = next((n for n in forward.nodes if n.op in _ENDINGS and n.inputs[0] == name), None)
    return Score(name, name, forward.type(name).shape or (), _ENDINGS[node.op] if node else None)
