"""Operators that move elements without changing them: the gradient moves back."""

from collections.abc import Sequence

import numpy as np

from onnxcam.errors import UnsupportedGradient
from onnxcam.grad.registry import STOP, vjp
from onnxcam.grad.shapes import reshape, reshape_like, sizes, static, sum_to, take
from onnxcam.grad.tensor import Value, op

# ----- shape only -----
vjp("Reshape", lambda g, y, x, shape, *, allowzero=0: reshape_like(g, x), STOP)
vjp("Flatten", lambda g, y, x, *, axis: reshape_like(g, x))
vjp("Squeeze", lambda g, y, x, axes=None: reshape_like(g, x), STOP)
vjp("Unsqueeze", lambda g, y, x, axes: reshape_like(g, x), STOP)


def transpose(g: Value, y: Value, x: Value, *, perm: Sequence[int] | None = None) -> Value:
    """The inverse permutation."""
    order = list(perm) if perm else list(range(x.rank))[::-1]
    return op.Transpose(g, perm=[int(i) for i in np.argsort(order)])


vjp("Transpose", transpose)
vjp("Expand", lambda g, y, x, shape: sum_to(g, y, x), STOP)


def tile(g: Value, y: Value, x: Value, repeats: Value) -> Value:
    """The copies added up: every axis split into (copies, length)."""
    split: list[int | Value] = []
    copies = []
    for axis in range(x.rank):
        times = take(repeats, [axis], 0) if repeats.constant is None else int(repeats.constant[axis])
        if times != 1:
            copies.append(len(split))
            split.append(times)
        split.append(sizes(x, [axis]))
    return reshape_like(op.ReduceSum(reshape(g, split), axes=copies, keepdims=0), x) if copies else g


vjp("Tile", tile, STOP)


# ----- order -----
def reverse_sequence(g: Value, y: Value, x: Value, sequence_lens: Value, *, batch_axis: int, time_axis: int) -> Value:
    """Reversed again."""
    return op.ReverseSequence(g, sequence_lens, batch_axis=batch_axis, time_axis=time_axis)


def trilu(g: Value, y: Value, x: Value, k: Value | None = None, *, upper: int) -> Value:
    """The same triangle."""
    return op.Trilu(g, *([] if k is None else [k]), upper=upper)


vjp("ReverseSequence", reverse_sequence, STOP)
vjp("Trilu", trilu, STOP)


# ----- blocks -----
def depth_to_space(g: Value, y: Value, x: Value, *, blocksize: int, mode: str = "DCR") -> Value:
    """Space to depth; in column-row-depth order the channels are sorted back afterwards."""
    blocks = op.SpaceToDepth(g, blocksize=blocksize)
    if mode == "DCR":
        return blocks
    return take(blocks, _crd_order(x, blocksize), axis=1)


def _crd_order(x: Value, blocksize: int) -> list[int]:
    channels = static(x, [1])
    if channels is None:
        raise UnsupportedGradient("the number of its channels is unknown. Fix it in the model")
    area = blocksize**2
    return [int(i) for i in np.arange(channels[0]).reshape(area, channels[0] // area).T.reshape(-1)]


vjp("DepthToSpace", depth_to_space)


def space_to_depth(g: Value, y: Value, x: Value, *, blocksize: int, mode: str = "DCR") -> Value:
    """Depth to space; before opset 11 there is one order, and no name for it."""
    return op.DepthToSpace(g, blocksize=blocksize, mode=None if mode == "DCR" else mode)


vjp("SpaceToDepth", space_to_depth)
