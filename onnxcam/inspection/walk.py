"""How operators are told apart and followed, whatever is looked for."""

from collections.abc import Container, Iterable, Mapping

from onnxcam.grad.forward import Forward
from onnxcam.grad.infer import Shape
from onnxcam.grad.node import Node

CHANNEL_SECOND = frozenset({
    "AveragePool", "BatchNormalization", "Conv", "ConvTranspose", "DepthToSpace", "GlobalAveragePool", "GlobalLpPool",
    "GlobalMaxPool", "GroupNormalization", "InstanceNormalization", "LRN", "LpPool", "MaxPool", "SpaceToDepth",
    "Upsample",
})  # fmt: skip

REGIONS = frozenset({"MaxRoiPool", "RoiAlign"})
HELD = {"RoiAlign": 1}  # the corners of its regions: constants, as in every framework that trains with them


def plain(node: Node) -> str:
    """The operator that a quantised or fused one is for."""
    name = node.op.removeprefix("QLinear").removeprefix("Nhwc").removesuffix("Integer")
    return name.removeprefix("Fused") if node.domain else name


def ints(value: object) -> list[int]:
    """The integers of an attribute; none where it is missing."""
    return [int(v) for v in value] if isinstance(value, (list, tuple)) else []


def rank(forward: Forward, name: str) -> int | None:
    """Number of dimensions of a tensor, where it is known."""
    shape = forward.type(name).shape if forward.has_type(name) else None
    return None if shape is None else len(shape)


def shape_of(forward: Forward, name: str) -> Shape:
    """The shape of a tensor; () where it is not known."""
    return (forward.type(name).shape or ()) if forward.has_type(name) else ()


def origin(producers: Mapping[str, Node], name: str, through: Container[str]) -> Node | None:
    """The node that makes a tensor, behind those of `through`, which only move it; None for an input or a weight."""
    node = producers.get(name)
    while node is not None and node.op in through:
        node = producers.get(node.inputs[0])
    return node


def in_regions(forward: Forward) -> set[str]:
    """Tensors that are made from regions cut out of feature maps: their places are those of a region."""
    cut = [o for node in forward.nodes if plain(node) in REGIONS for o in node.outputs]
    return descendants(forward, cut)


def kept_axes(forward: Forward, node: Node) -> list[int | None] | None:
    """The axis of its input that each axis of the output is, None for one of length 1 that is added.

    Of a node that adds axes, takes some away, or takes one element of an axis; None for any other.
    """
    before, after = (rank(forward, name) for name in (node.inputs[0], node.outputs[0]))
    if before is None or after is None:
        return None
    if node.op == "Unsqueeze":
        added = {a % after for a in _axes(forward, node)}
        rest = iter(range(before))
        return [None if a in added else next(rest, None) for a in range(after)] if added else None
    gone: set[int] = set()
    if node.op == "Squeeze":
        gone = {a % before for a in _axes(forward, node)}
    elif node.op == "Gather" and rank(forward, node.inputs[1]) == 0:
        gone = {int(str(node.attributes.get("axis", 0))) % before}
    elif node.op == "Reshape":
        shapes = [forward.type(name).shape or () for name in (node.inputs[0], node.outputs[0])]
        return _one_more(*shapes)
    return [a for a in range(before) if a not in gone] if gone else None


def _one_more(before: Shape, after: Shape) -> list[int | None] | None:
    """The axes of a tensor that is reshaped to one with an axis of 1 more; None for another shape."""
    axes: list[int | None] = list(range(len(before)))
    if after == (1, *before):
        return [None, *axes]
    fixed = all(isinstance(d, int) for d in before[1:])  # what is open has to be the samples then, whatever its name is
    for at in range(1, len(after)) if fixed and before else ():
        if after[1:] == (*before[1:at], 1, *before[at:]):
            return [*axes[:at], None, *axes[at:]]
    return None


def _axes(forward: Forward, node: Node) -> list[int]:
    """The axes of a Squeeze or Unsqueeze; none where only a run tells."""
    given = forward.constant(node.inputs[1]) if len(node.inputs) > 1 else None
    return ints(node.attributes.get("axes")) if given is None else [int(a) for a in given.reshape(-1)]


def ancestors(forward: Forward, score: str) -> set[str]:
    """Tensors that `score` is made from, itself included."""
    wanted = {score}
    for node in reversed(forward.nodes):
        if wanted.intersection(node.outputs):
            wanted.update(node.inputs)
    return wanted


def descendants(forward: Forward, names: Iterable[str], besides: Container[str] = ()) -> set[str]:
    """Tensors that depend on one of `names`, other than through the operators `besides`."""
    reached = set(names)
    for node in forward.nodes:
        if node.op not in besides and reached.intersection(node.inputs):
            reached.update(node.outputs)
    return reached
