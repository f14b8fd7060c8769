"""Feature maps: tensors on the way from the image to the score that still have a place in the picture.

Which of a tensor's axes is the channel follows from the operators: a convolution's output has it second, a Transpose
moves it, elementwise operators keep it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from onnxcam.grad.forward import Forward, Node
from onnxcam.grad.quantized import shown
from onnxcam.inspection.parts import Input, Layer
from onnxcam.inspection.walk import CHANNEL_SECOND, ancestors, descendants, ints, plain, rank

_MOVES = frozenset({
    "AveragePool", "Cast", "DequantizeLinear", "Dropout", "DynamicQuantizeLinear", "Identity", "Pad", "QuantizeLinear",
    "Reshape", "Slice", "Transpose",
})  # fmt: skip
_FINISHES = frozenset({
    "BatchNormalization", "Celu", "Clip", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "PRelu",
    "Relu", "Selu", "Sigmoid", "Softplus", "Swish", "Tanh",
})  # fmt: skip


def channel_axes(forward: Forward, inputs: tuple[Input, ...]) -> dict[str, int]:
    """Axis of the channels, for every tensor whose layout follows from the operators."""
    axes = {i.name: i.layout.index("C") for i in inputs if i.layout}
    for node in forward.nodes:
        for output in filter(None, node.outputs):
            axis = _channel_axis(forward, node, output, axes)
            if axis is not None:
                axes[output] = axis
    return axes


def _channel_axis(forward: Forward, node: Node, output: str, axes: Mapping[str, int]) -> int | None:
    dims = rank(forward, output)
    if dims is None or dims < 3:
        return None
    if plain(node) in CHANNEL_SECOND:
        return dims - 1 if node.op.startswith("Nhwc") or node.attributes.get("channels_last") else 1
    known = [(axes[i], rank(forward, i)) for i in node.inputs if i in axes]
    if node.op == "Transpose" and known:
        perm = [int(p) for p in ints(node.attributes.get("perm"))] or list(range(dims))[::-1]
        return perm.index(known[0][0])
    return next((axis for axis, own in known if own == dims and node.op != "Reshape"), None)


def find_layers(forward: Forward, channels: Mapping[str, int], score: str) -> tuple[Layer, ...]:
    """Feature maps on the way to the score, last first; those that only move or begin another one are left out."""
    wanted = ancestors(forward, score)
    dependent = descendants(forward, forward.inputs)
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
        unfinished = [r for r in following if plain(r) in _FINISHES and r.outputs[0] in channels]
        if any(d != 1 for d in layer.grid) and node.op not in _MOVES and not unfinished:
            found.append(layer)
    return tuple(found[::-1])


def image_sources(forward: Forward, inputs: Iterable[Input], layers: Iterable[Layer]) -> dict[str, frozenset[str]]:
    """The image inputs that each feature map depends on."""
    reach = {i.name: descendants(forward, [i.name]) for i in inputs if i.layout}
    return {x.tensor: frozenset(name for name, seen in reach.items() if x.tensor in seen) for x in layers}
