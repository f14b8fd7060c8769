"""Pools of sums: each is a convolution of each channel by itself, so its gradient is that convolution transposed.

The windows of any pool are `fitted`, and where a run may drop the last one, `as_many`: MaxPool takes both from here.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnxcam.errors import UnsupportedGradient
from onnxcam.grad.mask import step
from onnxcam.grad.registry import vjp
from onnxcam.grad.scatter import numbers
from onnxcam.grad.shapes import (
    INT64,
    as_type,
    count,
    crop,
    expand_like,
    pad,
    repeat,
    sizes,
    static,
)
from onnxcam.grad.spread import spread
from onnxcam.grad.tensor import Value, op
from onnxcam.grad.window import Window

_WIDE = 64 * 64  # taps of a window, from which on no kernel of ones is written


def average_pool(
    g: Value,
    y: Value,
    x: Value,
    *,
    kernel_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    ceil_mode: int = 0,
    count_include_pad: int = 0,
) -> Value:
    """G shared out among the elements that each window counted."""
    window = Window.of(kernel_shape, strides, dilations, pads)
    if window.tiles and window.volume > _WIDE:
        return _shared_out(g, y, x, window)
    return _sum_windows(
        g / _counted(x, y, window, bool(ceil_mode), bool(count_include_pad)), y, x, window, bool(ceil_mode)
    )


vjp("AveragePool", average_pool)


def _shared_out(g: Value, y: Value, x: Value, window: Window) -> Value:
    """The same for windows side by side, place by place: transformers' EfficientNet has 1280×1280 of them on 7×7."""
    for axis, k in zip(_space(x), window.kernel, strict=True):
        length, side = sizes(x, [axis]), x.tape.constant([k], INT64)
        beyond = as_type((numbers(sizes(y, [axis])) + 1) * side - length, x.dtype)
        counted = k - op.Relu(beyond)  # the last window of a ceil-mode pool may not be full
        g = g / op.Reshape(counted, x.tape.constant([-1, *[1] * (x.rank - 1 - axis)], INT64))
        g = op.Gather(pad(g, [0], [1], [axis]), numbers(length) / side, axis=axis)  # 0 behind the last window
    return g


def lp_pool(
    g: Value,
    y: Value,
    x: Value,
    *,
    kernel_shape: Sequence[int],
    p: int,
    strides: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    ceil_mode: int = 0,
) -> Value:
    """Y = (Σ|x|^p)^(1/p): sign(x)·|x|^(p−1)·y^(1−p), and 0 where the window is 0."""
    window = Window.of(kernel_shape, strides, dilations, pads)
    return _lp_inner(x, p) * _sum_windows(_lp_outer(g, y, p), y, x, window, bool(ceil_mode))


vjp("LpPool", lp_pool)


def _lp_inner(x: Value, p: int) -> Value:
    sign = step(x) - step(-x)
    return sign if p == 1 else x if p == 2 else sign * op.Pow(op.Abs(x), float(p - 1))


def _lp_outer(g: Value, y: Value, p: int) -> Value:
    if p == 1:
        return g
    some = step(y)
    return g * some / op.Pow(y + (1 - some), float(p - 1))


# ----- global pools -----
def _space(x: Value) -> list[int]:
    return list(range(2, x.rank))


vjp("GlobalAveragePool", lambda g, y, x: expand_like(g / count(x, _space(x)), x))
vjp("GlobalLpPool", lambda g, y, x, *, p: _lp_inner(x, p) * _lp_outer(g, y, p))


# ----- windows -----
def _sum_windows(g: Value, y: Value, x: Value, window: Window, ceil: bool) -> Value:
    """The transpose of summing each window."""
    axes = _space(x)
    if (
        window.tiles
        and x.rank == 4
        and g.tape.graph.opsets[""] >= 13
        and static(x, axes) == [n * k for n, k in zip(static(y, axes) or [], window.kernel, strict=False)]
    ):
        return repeat(g, window.kernel)
    window = fitted(x, y, window, ceil)
    channels = _channels(x)
    ones = x.tape.constant(np.ones((channels, 1, *window.kernel)), x.dtype)
    if ceil and static(g, axes) is None:
        padded = pad(x, window.begin, window.end, axes)
        counts = op.Conv(padded, ones, group=channels, strides=window.strides, dilations=window.dilations)
        g = as_many(g, counts, axes)
    return spread(g, ones, x, window, channels)


def fitted(x: Value, y: Value, window: Window, ceil: bool) -> Window:
    """The window with as much padding behind `x` as lets its last one end there."""
    have, out = static(x, _space(x)), static(y, _space(x))
    if have is not None and out is not None:
        need = [(o - 1) * s + r for o, s, r in zip(out, window.strides, window.reach, strict=True)]
        end = [max(0, n - b - h) for n, b, h in zip(need, window.begin, have, strict=True)]
    else:
        end = [e + (s - 1 if ceil else 0) for e, s in zip(window.end, window.strides, strict=True)]
    return replace(window, end=tuple(end))


def as_many(g: Value, windows: Value, axes: Sequence[int]) -> Value:
    """`g` with as many windows as `windows` has on `axes`: a ceil-mode pool of dynamic size may have dropped the last.

    Zeros are appended on the spatial axes of `g` (N, C, *space).
    """
    nothing = g.tape.constant([0] * (g.rank + 2), INT64)
    return op.Pad(g, pads=op.Concat(nothing, op.Sub(sizes(windows, axes), sizes(g, _space(g))), axis=0))


def _counted(x: Value, y: Value, window: Window, ceil: bool, include_pad: bool) -> "Value | float":
    """How many elements each window averaged: a number where all are full, else a tensor that broadcasts to y."""
    axes = _space(x)
    edge = any(window.begin + window.end)
    if not ceil and (include_pad or not edge):
        return float(window.volume)
    have, out = static(x, axes), static(y, axes)
    if have is not None and out is not None:
        result: Value | float = 1.0
        for i in range(window.rank):
            counts = _axis_counts(have[i], out[i], i, window, include_pad)
            if len(set(counts)) == 1:
                result = result * float(counts[0])
            else:
                shape = [1] * (2 + i) + [-1] + [1] * (window.rank - 1 - i)
                result = x.tape.constant(np.reshape(counts, shape), x.dtype) * result
        return result
    ones = op.Expand(x.tape.constant(1, x.dtype), op.Concat(x.tape.constant([1, 1], INT64), sizes(x, axes), axis=0))
    inner = pad(ones, window.begin, window.end, axes, 1.0) if include_pad else ones
    outer = [0] * window.rank if include_pad else window.begin
    tail = [0 if include_pad else e for e in window.end]
    framed = pad(inner, outer, [t + (s - 1 if ceil else 0) for t, s in zip(tail, window.strides, strict=True)], axes)
    kernel = x.tape.constant(np.ones((1, 1, *window.kernel)), x.dtype)
    counts_ = op.Conv(framed, kernel, strides=window.strides, dilations=window.dilations)
    return crop(counts_, y, [0] * window.rank, axes)


def _axis_counts(size: int, windows: int, axis: int, window: Window, include_pad: bool) -> list[int]:
    begin, end = window.begin[axis], window.end[axis]
    low, high = (-begin, size + end) if include_pad else (0, size)
    starts = [w * window.strides[axis] - begin for w in range(windows)]
    taps = [k * window.dilations[axis] for k in range(window.kernel[axis])]
    return [sum(low <= s + t < high for t in taps) for s in starts]


def _channels(x: Value) -> int:
    channels = static(x, [1])
    if channels is None:
        raise UnsupportedGradient(f"the number of channels of '{x.name}' is unknown. Fix it in the model")
    return channels[0]
