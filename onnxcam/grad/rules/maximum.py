"""MaxPool and GlobalMaxPool: the gradient goes to the first of the largest elements of each window, as in PyTorch.

It is written without the Indices output and without Scatter: half of the providers have neither, and asking for
Indices makes the forward pool thirty times slower on CPU.
"""

from collections.abc import Sequence

import numpy as np

from onnxcam.grad.mask import LOWEST, complement, step
from onnxcam.grad.registry import vjp
from onnxcam.grad.rules.pooling import as_many, fitted
from onnxcam.grad.scatter import numbers
from onnxcam.grad.shapes import END, INT64, crop, cut, interlace, move, pad, reshape, reshape_like, sizes, static
from onnxcam.grad.tensor import Value, op
from onnxcam.grad.window import Window


def max_pool(
    g: Value,
    y: Value,
    x: Value,
    *,
    kernel_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    ceil_mode: int = 0,
    storage_order: int = 0,
) -> Value:
    """The gradient goes to the first row that has a window's maximum, and there to the first place.

    A maximum of maxima, one axis at a time, the channels last: a place is a run of memory then.
    """
    window = fitted(x, y, Window.of(kernel_shape, strides, dilations, pads), bool(ceil_mode))
    last = [0, *range(2, x.rank), 1]
    top, levels = op.Transpose(x, perm=last), []
    for axis in reversed(range(window.rank)):
        level, taps = top, _taps(top, window, axis)
        top = op.Max(*taps)
        levels.append((level, taps, top))
    if ceil_mode and static(g, range(2, x.rank)) is None:
        g = as_many(g, top, range(1, x.rank - 1))
    g = op.Transpose(g, perm=last)
    for axis, (level, taps, top) in enumerate(reversed(levels)):
        g = _put(_to_first(g, top, taps), level, window, axis)
    return op.Transpose(g, perm=[0, x.rank - 1, *range(1, x.rank - 1)])


def _taps(x: Value, window: Window, axis: int) -> list[Value]:
    """The first, second, … element of every window along a spatial axis of `x` (N, *space, C)."""
    reach = window.reach[axis]
    padded = pad(x, [window.begin[axis]], [window.end[axis]], [axis + 1], LOWEST[x.dtype])
    firsts = range(0, reach, window.dilations[axis])
    return [cut(padded, axis + 1, first, first + 1 - reach or END, window.strides[axis]) for first in firsts]


def _to_first(g: Value, top: Value, taps: Sequence[Value]) -> list[Value]:
    """For each tap `g` where it is the first that is `top`, zeros elsewhere."""
    parts = []
    for tap in taps[:-1]:
        rest = g * step(top - tap)
        parts.append(g - rest)
        g = rest
    return [*parts, g]


def _put(parts: Sequence[Value], x: Value, window: Window, axis: int) -> Value:
    """The transpose of `_taps`: each part back in its places along an axis of `x`, added up where windows overlap.

    Places a multiple of the stride apart are a phase, to which parts are added shifted; then the phases interlace.
    """
    stride, along = window.strides[axis], axis + 1
    have, many = static(x, [along]), static(parts[0], [along])
    if have is None or many is None:
        spare = -(-(window.reach[axis] + stride - 1 - window.begin[axis]) // stride) - 1
    else:
        spare = -(-have[0] // stride) - many[0]
    phases: dict[int, Value] = {}
    for phase, taps in window.phases(axis).items():
        for tap, shift in taps:
            if many is None or -many[0] < shift < many[0] + spare:  # else all of it lies in the padding
                moved = move(parts[tap], shift, spare - shift, along)
                phases[phase] = phases[phase] + moved if phase in phases else moved
    return crop(interlace(phases, stride, along), x, [0], [along])


vjp("MaxPool", max_pool)


def global_max_pool(g: Value, y: Value, x: Value) -> Value:
    """The gradient goes to the first maximum of each channel."""
    space = static(x, list(range(2, x.rank)))
    flat = op.Reshape(x, x.tape.constant([0, 0, int(np.prod(space)) if space else -1], INT64))
    return reshape_like(first_largest(flat, 2), x) * g


vjp("GlobalMaxPool", global_max_pool)


def first_largest(x: Value, axis: int) -> Value:
    """1 at the first of the largest elements along an axis, 0 elsewhere."""
    along = [-1 if a == axis else 1 for a in range(x.rank)]
    if known := static(x, [axis]):
        order = x.tape.constant((np.arange(known[0]) / max(1, known[0])).reshape(along), x.dtype)
    else:
        length = sizes(x, [axis])
        order = reshape(op.Cast(numbers(length), to=x.dtype), along) / op.Cast(length, to=x.dtype)
    rank = step(op.ReduceMax(x, axes=[axis], keepdims=1) - x) + order
    return complement(step(rank - op.ReduceMin(rank, axes=[axis], keepdims=1)))
