"""How operators are told apart and followed, whatever is looked for."""

from collections.abc import Iterable

from onnxcam.grad.forward import Forward, Node

CHANNEL_SECOND = frozenset({
    "AveragePool", "BatchNormalization", "Conv", "ConvTranspose", "DepthToSpace", "GlobalAveragePool", "GlobalLpPool",
    "GlobalMaxPool", "GroupNormalization", "InstanceNormalization", "LRN", "LpPool", "MaxPool", "SpaceToDepth",
    "Upsample",
})  # fmt: skip


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


def ancestors(forward: Forward, score: str) -> set[str]:
    """Tensors that `score` is made from, itself included."""
    wanted = {score}
    for node in reversed(forward.nodes):
        if wanted.intersection(node.outputs):
            wanted.update(node.inputs)
    return wanted


def descendants(forward: Forward, names: Iterable[str]) -> set[str]:
    """Tensors that depend on one of `names`."""
    reached = set(names)
    for node in forward.nodes:
        if reached.intersection(node.inputs):
            reached.update(node.outputs)
    return reached
