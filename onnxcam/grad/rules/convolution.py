"""Convolution: linear in its input, so the gradient is `g` convolved back with the same weights (grad/spread.py)."""

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
    not_negative,
    of_rank,
    reshape,
    reshape_like,
    sizes,
    static,
    told_apart,
)
from onnxcam.grad.spread import channels_of, spread
from onnxcam.grad.tensor import Value, op
from onnxcam.grad.window import Window

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
    g, w = told_apart(g, w, group)
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
