"""The transposed convolution: what convolutions, pools and their like send back to where their windows were.

At stride 1 it is again a convolution, with the kernel flipped, which runtimes run fastest. With strides it is a
ConvTranspose, unless a faster form fits: zeros between the values of `g` and a window that moves by one, where every
channel has a kernel of its own, for onnxruntime computes such a ConvTranspose channel by channel; or a convolution for
every phase, the places that lie a stride apart, so that no product meets a zero.

ConvTranspose never gets `output_shape` (it would ignore pads) nor asymmetric pads (CUDA would hand it to the CPU): the
result is made long enough and cut.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnxcam.errors import UnsupportedGradient
from onnxcam.grad.shapes import (
    INT64,
    crop,
    each_size,
    interlace,
    pad,
    repeat,
    reshape,
    static,
    take,
    told_apart,
)
from onnxcam.grad.tensor import Value, op
from onnxcam.grad.window import Window

_BLOCK = 16  # channels that onnxruntime computes together


def spread(g: Value, w: Value, like: Value, window: Window, group: int) -> Value:
    """The transpose of `Conv(·, w)`: from the windows `g` (N, M, *out) back to the shape of `like` (N, C, *space)."""
    axes = range(2, 2 + window.rank)
    if window.dense and all(r > p for r, p in zip(window.reach, window.begin, strict=True)):
        return _flipped(g, w, like, window, group)
    given = static(like, axes)
    out = static(g, axes)
    if given is not None and out is not None:
        if _stuffing_is_faster(w, window, group):
            return _stuffed(g, w, like, window, group, out, given)
        if _phases_are_faster(w, window, group):
            return _phased(g, w, like, window, out, given)
    g, w = told_apart(g, w, group)
    if given is None or out is None:
        wide = op.ConvTranspose(
            g,
            w,
            group=group,
            strides=window.strides,
            dilations=window.dilations,
            output_padding=[s - 1 for s in window.strides],
        )
        return crop(wide, like, window.begin, list(axes))
    cut = [min(p) for p in zip(window.begin, window.end, strict=True)]
    begin = [b - c for b, c in zip(window.begin, cut, strict=True)]
    covered = [(o - 1) * s + r - 2 * c for o, s, r, c in zip(out, window.strides, window.reach, cut, strict=True)]
    lacking = [max(0, b + n - v) for b, n, v in zip(begin, given, covered, strict=True)]
    wide = op.ConvTranspose(
        g, w, group=group, strides=window.strides, dilations=window.dilations, pads=cut * 2, output_padding=lacking
    )
    return crop(wide, like, begin, list(axes))


def _flipped(g: Value, w: Value, like: Value, window: Window, group: int) -> Value:
    """Stride 1: `g` convolved with the flipped kernel. The runtime folds the flip of constant weights when it loads."""
    flipped = _swapped_channels(w, group)
    for axis, k in enumerate(window.kernel, start=2):
        if k > 1:
            flipped = take(flipped, range(k - 1, -1, -1), axis)
    begin = [r - 1 - p for r, p in zip(window.reach, window.begin, strict=True)]
    end = [r - 1 - p for r, p in zip(window.reach, window.end, strict=True)]
    spare = [max(0, -e) for e in end]  # padding beyond the kernel's reach: windows of nothing, to be cut off
    wide = op.Conv(g, flipped, group=group, dilations=window.dilations, pads=begin + [max(0, e) for e in end])
    return crop(wide, like, [0] * window.rank, list(range(2, 2 + window.rank))) if any(spare) else wide


def _stuffing_is_faster(w: Value, window: Window, group: int) -> bool:
    """Whether zeros between values are the faster form: one kernel for each channel or of one place, on two axes."""
    fits = static(w, [0, 1]) == [group, 1] or window.volume == 1
    reaches = all(r > p for r, p in zip(window.reach, window.begin, strict=True))
    return fits and window.rank == 2 and reaches and w.tape.graph.opsets[""] >= 13


def _stuffed(
    g: Value, w: Value, like: Value, window: Window, group: int, out: Sequence[int], space: Sequence[int]
) -> Value:
    """Strides as zeros: each value in the corner of a tile of zeros, and a window that moves by one.

    One of a single place is applied before there are zeros, and a convolution by ones follows: from there onnxruntime
    computes in blocks of channels, and keeps to them through all the sums of a residual network.
    """
    axes = range(2, 2 + window.rank)
    corner = np.zeros((1, 1, *window.strides))
    corner[0, 0, 0, 0] = 1
    grid = op.Tile(g.tape.constant(corner, g.dtype), g.tape.constant([1, 1, *out], INT64))
    end = [
        o * s + r - 1 - n - b
        for o, s, r, n, b in zip(out, window.strides, window.reach, space, window.begin, strict=True)
    ]
    if window.volume == 1:
        apart = op.Mul(repeat(op.Conv(g, _swapped_channels(w, group), group=group), window.strides), grid)
        apart = pad(apart, window.begin, [-e for e in end], list(axes))
        channels = group * channels_of(w)[1]
        return op.Conv(apart, g.tape.constant(np.ones((channels, 1, 1, 1)), g.dtype), group=channels)
    dense = replace(window, strides=(1,) * window.rank, end=tuple(end))
    return _flipped(op.Mul(repeat(g, window.strides), grid), w, like, dense, group)


def _phases_are_faster(w: Value, window: Window, group: int) -> bool:
    """Whether a convolution for each phase is the faster form: few phases, dense kernels, whole blocks of channels."""
    few = int(np.prod(window.strides)) <= 4 and set(window.dilations) == {1}
    overlaps = any(k > s for k, s in zip(window.kernel, window.strides, strict=True))
    channels = static(w, [0, 1])
    return window.rank == 2 and group == 1 and few and overlaps and channels is not None and min(channels) >= _BLOCK


def _phased(g: Value, w: Value, like: Value, window: Window, out: Sequence[int], space: Sequence[int]) -> Value:
    """Each phase by the taps that reach it, then the phases in turn."""
    turned = op.Transpose(w, perm=[1, 0, 2, 3])
    down, across = (_reached(window, axis, out[axis], space[axis]) for axis in (0, 1))
    rows = {}
    for y, (high, top, bottom) in down.items():
        columns = {}
        for x, (wide, left, right) in across.items():
            taps = take(take(turned, high, 2), wide, 3)
            within = pad(g, [min(0, top), min(0, left)], [min(0, bottom), min(0, right)], [2, 3])
            columns[x] = op.Conv(within, taps, pads=[max(0, p) for p in (top, left, bottom, right)])
        rows[y] = interlace(columns, window.strides[1], 3)
    return crop(interlace(rows, window.strides[0], 2), like, [0, 0], [2, 3])


def _reached(window: Window, axis: int, many: int, size: int) -> dict[int, tuple[list[int], int, int]]:
    """For each phase along an axis the taps that reach it, the last first, and what their convolution is padded by."""
    found = {}
    for phase, taps in window.phases(axis).items():
        first = taps[0][1]
        ends = first + len(taps) - 1, -(-size // window.strides[axis]) - many - first
        found[phase] = ([tap for tap, _ in reversed(taps)], *ends)
    return found


def _swapped_channels(w: Value, group: int) -> Value:
    """Weights (M, C/group, *k) as the transposed convolution reads them, (C, M/group, *k)."""
    swapped = [1, 0, *range(2, w.rank)]
    if group == 1:
        return op.Transpose(w, perm=swapped)
    m, c = channels_of(w)
    if c == 1 and m == group:
        return w
    kernel = each_size(w, range(2, w.rank))
    turned = op.Transpose(reshape(w, [group, m // group, c, *kernel]), perm=[0, 2, 1, *range(3, w.rank + 1)])
    return reshape(turned, [group * c, m // group, *kernel])


def channels_of(w: Value) -> tuple[int, int]:
    """M and C/group of weights. Raises UnsupportedGradient where they are unknown."""
    channels = static(w, [0, 1])
    if channels is None:
        raise UnsupportedGradient(f"the number of channels of its weight '{w.name}' is unknown. Fix the weight's shape")
    return channels[0], channels[1]
