"""Convolution, and the transposed convolution that pools share.

Convolution is linear in its input, so the gradient is `g` convolved back with the same weights. At stride 1 that is
again a convolution, with the kernel flipped, which runtimes run fastest; with strides it is a ConvTranspose. That one
never gets `output_shape` (it would ignore pads) nor asymmetric pads (CUDA would hand it to the CPU): the result is made
long enough and cut. Where every channel has a kernel of its own, ORT computes a ConvTranspose channel by channel, and
zeros between the values of `g` and a convolution of stride 1 are twice as fast.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from onnxcam.errors import UnsupportedGradient
from onnxcam.grad.registry import STOP, Rule, vjp
from onnxcam.grad.shapes import (
    INT64,
    crop,
    each_size,
    ints,
    is_square,
    not_negative,
    of_rank,
    pad,
    repeat,
    reshape,
    reshape_like,
    sizes,
    static,
    take,
)
from onnxcam.grad.tensor import Value, op
from onnxcam.grad.window import Window


def spread(g: Value, w: Value, like: Value, window: Window, group: int) -> Value:
    """The transpose of `Conv(·, w)`: from the windows `g` (N, M, *out) back to the shape of `like` (N, C, *space)."""
    axes = range(2, 2 + window.rank)
    if window.dense and all(r > p for r, p in zip(window.reach, window.begin, strict=True)):
        return _flipped(g, w, like, window, group)
    given = static(like, axes)
    out = static(g, axes)
    if given is not None and out is not None and _stuffs(w, window, group):
        return _stuffed(g, w, like, window, group)
    if is_square(w):
        g, w = -g, -w
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
    flipped = _swapchannels_of(w, group)
    for axis, k in enumerate(window.kernel, start=2):
        if k > 1:
            flipped = take(flipped, range(k - 1, -1, -1), axis)
    begin = [r - 1 - p for r, p in zip(window.reach, window.begin, strict=True)]
    end = [r - 1 - p for r, p in zip(window.reach, window.end, strict=True)]
    spare = [max(0, -e) for e in end]  # padding beyond the kernel's reach: windows of nothing, to be cut off
    wide = op.Conv(g, flipped, group=group, dilations=window.dilations, pads=begin + [max(0, e) for e in end])
    return crop(wide, like, [0] * window.rank, list(range(2, 2 + window.rank))) if any(spare) else wide


def _stuffs(w: Value, window: Window, group: int) -> bool:
    """Whether zeros between values are the faster form: one kernel for each channel or of one place, on two axes."""
    fits = static(w, [0, 1]) == [group, 1] or window.volume == 1
    reaches = all(r > p for r, p in zip(window.reach, window.begin, strict=True))
    return fits and window.rank == 2 and reaches and w.tape.graph.opsets[""] >= 13


def _stuffed(g: Value, w: Value, like: Value, window: Window, group: int) -> Value:
    """Strides as zeros: each value in the corner of a tile of zeros, and a window that moves by one.

    One of a single place is applied before there are zeros.
    """
    axes = range(2, 2 + window.rank)
    corner = np.zeros((1, 1, *window.strides))
    corner[0, 0, 0, 0] = 1
    out, space = static(g, axes) or [], static(like, axes) or []
    grid = op.Tile(g.tape.constant(corner, g.dtype), g.tape.constant([1, 1, *out], INT64))
    end = [
        o * s + r - 1 - n - b
        for o, s, r, n, b in zip(out, window.strides, window.reach, space, window.begin, strict=True)
    ]
    if window.volume == 1:
        apart = op.Mul(repeat(op.Conv(g, _swapchannels_of(w, group), group=group), window.strides), grid)
        return pad(apart, window.begin, [-e for e in end], list(axes))
    dense = replace(window, strides=(1,) * window.rank, end=tuple(end))
    return _flipped(op.Mul(repeat(g, window.strides), grid), w, like, dense, group)


def _swapchannels_of(w: Value, group: int) -> Value:
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


# ----- Conv -----
Gradient = Callable[[Value, Value, Value, Window, int], Value]  # (g, x, w, window, group)


def _conv(gradient: Gradient) -> Rule:
    """The rule for one input of Conv; the attributes are the same for all."""

    def rule(
        g: Value,
        y: Value,
        x: Value,
        w: Value,
        b: Value | None = None,
        *,
        group: int,
        kernel_shape: Sequence[int] | None = None,
        strides: Sequence[int] | None = None,
        dilations: Sequence[int] | None = None,
        pads: Sequence[int] | None = None,
    ) -> Value:
        return gradient(g, x, w, window_of(w, kernel_shape, strides, dilations, pads), group)

    return rule


def conv_input(g: Value, x: Value, w: Value, window: Window, group: int) -> Value:
    """dX: the transposed convolution of g."""
    return spread(g, w, x, window, group)


def conv_weight(g: Value, x: Value, w: Value, window: Window, group: int) -> Value:
    """dW: x correlated with g, batch and channels exchanged; strides and dilations change roles."""
    space = list(range(2, x.rank))
    exchanged = [1, 0, *space]
    if group == 1:
        images = op.Transpose(x, perm=exchanged)
    else:  # Every channel becomes a sample, every sample a channel; groups stay beside each other.
        _, c = channels_of(w)
        split = reshape(x, [-1, group, c, *each_size(x, space)])
        apart = op.Transpose(split, perm=[2, 1, 0, *[a + 1 for a in space]])
        images = reshape(apart, [c, -1, *each_size(x, space)])
    kernels = op.Transpose(g, perm=exchanged)
    pads = [*window.begin, *window.end]
    result = op.Conv(images, kernels, group=group, strides=window.dilations, dilations=window.strides, pads=pads)
    return crop(op.Transpose(of_rank(result, x.rank), perm=exchanged), w, [0] * window.rank, space)


def conv_bias(g: Value, x: Value, w: Value, window: Window, group: int) -> Value:
    """dB: g summed over everything but its channel."""
    return op.ReduceSum(g, axes=[0, *range(2, g.rank)], keepdims=0)


def window_of(
    w: Value,
    kernel_shape: Sequence[int] | None,
    strides: Sequence[int] | None,
    dilations: Sequence[int] | None,
    pads: Sequence[int] | None,
) -> Window:
    """The window of weights (M, C/group, *k). Raises UnsupportedGradient where its kernel is unknown."""
    kernel = static(w, range(2, w.rank)) or kernel_shape
    if kernel is None:
        raise UnsupportedGradient(f"the kernel size of its weight '{w.name}' is unknown. Fix the weight's shape")
    return Window.of(kernel, strides, dilations, pads)


def channels_of(w: Value) -> tuple[int, int]:
    """M and C/group of weights. Raises UnsupportedGradient where they are unknown."""
    channels = static(w, [0, 1])
    if channels is None:
        raise UnsupportedGradient(f"the number of channels of its weight '{w.name}' is unknown. Fix the weight's shape")
    return channels[0], channels[1]


vjp("Conv", _conv(conv_input), _conv(conv_weight), _conv(conv_bias))


# ----- ConvTranspose -----
def _transposed(gradient: Gradient) -> Rule:
    """The rule for one input of ConvTranspose: that of the Conv which leads from its output back to its input."""

    def rule(
        g: Value,
        y: Value,
        x: Value,
        w: Value,
        b: Value | None = None,
        *,
        group: int,
        auto_pad: str,
        kernel_shape: Sequence[int] | None = None,
        strides: Sequence[int] | None = None,
        dilations: Sequence[int] | None = None,
        pads: Sequence[int] | None = None,
        output_padding: Sequence[int] | None = None,
        output_shape: Sequence[int] | None = None,
    ) -> Value:
        automatic = output_shape is not None or auto_pad != "NOTSET"
        window = window_of(w, kernel_shape, strides, dilations, None if automatic else pads)
        if automatic:
            g, window = _restore(g, x, window, auto_pad, output_padding or [0] * window.rank, output_shape)
        return gradient(g, x, w, window, group)

    return rule


def _restore(
    g: Value, x: Value, window: Window, auto_pad: str, output_padding: Sequence[int], output_shape: Sequence[int] | None
) -> tuple[Value, Window]:
    """What the output was cut by (ConvTranspose, total_padding): as pads of the window, or put around g at run time."""
    if output_shape is None and auto_pad == "VALID":
        return g, window
    spare = [r + p for r, p in zip(window.reach, output_padding, strict=True)]  # beyond stride·(input_size − 1)
    lengths = static(x, range(2, x.rank))
    upper = auto_pad == "SAME_UPPER"
    if output_shape is None:
        total = [max(0, v - s) for v, s in zip(spare, window.strides, strict=True)]
    elif lengths is not None:
        whole = [s * (n - 1) + v for s, n, v in zip(window.strides, lengths, spare, strict=True)]
        total = [max(0, n - o) for n, o in zip(whole, output_shape, strict=True)]
    else:
        return _restore_at_run_time(g, x, window, upper, spare, output_shape), window
    begin = [t // 2 if upper else t - t // 2 for t in total]
    return g, replace(window, begin=tuple(begin), end=tuple(t - b for t, b in zip(total, begin, strict=True)))


def _restore_at_run_time(
    g: Value, x: Value, window: Window, upper: bool, spare: Sequence[int], output_shape: Sequence[int]
) -> Value:
    constant = [v - s - o for v, s, o in zip(spare, window.strides, output_shape, strict=True)]
    grown = op.Mul(sizes(x, range(2, x.rank)), x.tape.constant(window.strides, INT64))
    total = not_negative(op.Add(grown, x.tape.constant(constant, INT64)))
    half = op.Div(total, x.tape.constant([2], INT64))
    begin, end = (half, op.Sub(total, half)) if upper else (op.Sub(total, half), half)
    none = x.tape.constant([0, 0], INT64)
    return op.Pad(g, pads=op.Concat(none, begin, none, end, axis=0))


def conv_transpose_input(g: Value, x: Value, w: Value, window: Window, group: int) -> Value:
    """dX: the convolution with the same weights."""
    pads = [*window.begin, *window.end]
    g, w = (-g, -w) if is_square(w) else (g, w)
    back = op.Conv(g, w, group=group, strides=window.strides, dilations=window.dilations, pads=pads)
    return crop(of_rank(back, x.rank), x, [0] * window.rank, list(range(2, x.rank)))


def conv_transpose_weight(g: Value, x: Value, w: Value, window: Window, group: int) -> Value:
    """dW: that of the convolution from y to x, in which x is what the windows make."""
    return conv_weight(x, g, w, window, group)


vjp("ConvTranspose", _transposed(conv_transpose_input), _transposed(conv_transpose_weight), _transposed(conv_bias))


# ----- Col2Im -----
def col2im(
    g: Value,
    y: Value,
    x: Value,
    image_shape: Value,
    block_shape: Value,
    *,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Value:
    """The columns cut out again: a convolution with one kernel for each place of the block."""
    image = reshape(g, [-1, 1, *each_size(g, range(2, g.rank))])
    columns = op.Conv(image, _places(block_shape, g), dilations=dilations, pads=pads, strides=strides)
    return reshape_like(columns, x)


def _places(block_shape: Value, like: Value) -> Value:
    """The kernels (K, 1, *block) that each take one of the K elements of a block."""
    if block_shape.constant is not None:
        block = ints(block_shape, "block_shape")
        count = int(np.prod(block))
        return like.tape.constant(np.eye(count).reshape(count, 1, *block), like.dtype)
    many = op.ReduceProd(block_shape, keepdims=1)
    eye = op.EyeLike(op.ConstantOfShape(op.Concat(many, many, axis=0)), dtype=like.dtype)
    one = like.tape.constant([1], INT64)
    return of_rank(op.Reshape(eye, op.Concat(many, one, block_shape, axis=0)), like.rank)


vjp("Col2Im", col2im, STOP, STOP)
