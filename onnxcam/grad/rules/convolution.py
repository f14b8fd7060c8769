"""Convolution, and the transposed convolution that pools share.

Convolution is linear in its input, so the gradient is `g` convolved back with the same weights. At stride 1 that is
again a convolution, with the kernel flipped, which runtimes run fastest; with strides it is a ConvTranspose. That one
never gets `output_shape` (it would ignore pads) nor asymmetric pads (CUDA would hand it to the CPU): the result is made
long enough and cut.
"""

from collections.abc import Sequence

from onnxcam.errors import UnsupportedGradient
from onnxcam.grad.registry import vjp
from onnxcam.grad.shapes import crop, each_size, of_rank, reshape, static, take
from onnxcam.grad.tensor import Value, op
from onnxcam.grad.window import Window


def spread(g: Value, w: Value, like: Value, window: Window, group: int) -> Value:
    """The transpose of `Conv(·, w)`: from the windows `g` (N, M, *out) back to the shape of `like` (N, C, *space)."""
    axes = range(2, 2 + window.rank)
    if window.dense and all(r > p for r, p in zip(window.reach, window.begin, strict=True)):
        return _flipped(g, w, like, window, group)
    given = static(like, axes)
    out = static(g, axes)
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
    flipped = _swap_channels(w, group)
    for axis, k in enumerate(window.kernel, start=2):
        if k > 1:
            flipped = take(flipped, range(k - 1, -1, -1), axis)
    begin = [r - 1 - p for r, p in zip(window.reach, window.begin, strict=True)]
    end = [r - 1 - p for r, p in zip(window.reach, window.end, strict=True)]
    spare = [max(0, -e) for e in end]  # padding beyond the kernel's reach: windows of nothing, to be cut off
    wide = op.Conv(g, flipped, group=group, dilations=window.dilations, pads=begin + [max(0, e) for e in end])
    return crop(wide, like, [0] * window.rank, list(range(2, 2 + window.rank))) if any(spare) else wide


def _swap_channels(w: Value, group: int) -> Value:
    """Weights (M, C/group, *k) as the transposed convolution reads them, (C, M/group, *k)."""
    swapped = [1, 0, *range(2, w.rank)]
    if group == 1:
        return op.Transpose(w, perm=swapped)
    channels = static(w, [0, 1])
    if channels is None:
        raise UnsupportedGradient(f"the number of channels of its weight '{w.name}' is unknown. Fix the weight's shape")
    m, c = channels
    if c == 1 and m == group:
        return w
    kernel = list(static(w, range(2, w.rank)) or [0] * (w.rank - 2))
    turned = op.Transpose(reshape(w, [group, m // group, c, *kernel]), perm=[0, 2, 1, *range(3, w.rank + 1)])
    return reshape(turned, [group * c, m // group, *kernel])


def conv_input(
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
    """dX: the transposed convolution of g."""
    return spread(g, w, x, _window(w, strides, dilations, pads), group)


def conv_weight(
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
    """dW: x correlated with g, batch and channels exchanged; strides and dilations change roles."""
    window = _window(w, strides, dilations, pads)
    space = list(range(2, x.rank))
    channels = static(w, [0, 1])
    if channels is None:
        raise UnsupportedGradient(f"the number of channels of its weight '{w.name}' is unknown. Fix the weight's shape")
    # Every channel becomes a sample, every sample a channel; groups stay beside each other.
    split = reshape(x, [-1, group, channels[1], *each_size(x, space)])
    images = op.Transpose(split, perm=[2, 1, 0, *[a + 1 for a in space]])
    images = reshape(images, [channels[1], -1, *each_size(x, space)])
    kernels = op.Transpose(g, perm=[1, 0, *space])
    pads = [*window.begin, *window.end]
    result = op.Conv(images, kernels, group=group, strides=window.dilations, dilations=window.strides, pads=pads)
    return crop(op.Transpose(of_rank(result, x.rank), perm=[1, 0, *space]), w, [0] * window.rank, space)


def conv_bias(
    g: Value,
    y: Value,
    x: Value,
    w: Value,
    b: Value,
    *,
    group: int,
    kernel_shape: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
) -> Value:
    """dB: g summed over everything but its channel."""
    return op.ReduceSum(g, axes=[0, *range(2, g.rank)], keepdims=0)


def _window(
    w: Value, strides: Sequence[int] | None, dilations: Sequence[int] | None, pads: Sequence[int] | None
) -> Window:
    kernel = static(w, range(2, w.rank))
    if kernel is None:
        raise UnsupportedGradient(f"the kernel size of its weight '{w.name}' is unknown. Fix the weight's shape")
    return Window.of(kernel, strides, dilations, pads)


vjp("Conv", conv_input, conv_weight, conv_bias)


def conv_transpose_input(
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
    output_padding: Sequence[int] | None = None,
) -> Value:
    """DX of the transposed convolution: the convolution with the same weights."""
    window = _window(w, strides, dilations, pads)
    back = op.Conv(
        g, w, group=group, strides=window.strides, dilations=window.dilations, pads=[*window.begin, *window.end]
    )
    return crop(back, x, [0] * window.rank, list(range(2, x.rank)))


vjp("ConvTranspose", conv_transpose_input)
