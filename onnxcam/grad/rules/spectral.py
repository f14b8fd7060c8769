"""Fourier transforms: linear, so the gradient is the conjugate transform of g, with the scale that the other one has.

Complex numbers lie as pairs along the last axis; a real operand takes the real part. What a transform leaves out of a
spectrum (`onesided`) or of a signal (`dft_length`) counts as zero on the way back.
"""

import numpy as np

from onnxcam.grad.registry import STOP, vjp
from onnxcam.grad.scatter import add_rows, numbers
from onnxcam.grad.shapes import INT64, crop, each_size, of_rank, pad, reshape, sizes, slice_, static
from onnxcam.grad.tensor import Value, op


# ----- DFT -----
def dft(
    g: Value,
    y: Value,
    x: Value,
    dft_length: Value | None = None,
    axis: Value | None = None,
    *,
    inverse: int,
    onesided: int,
) -> Value:
    """The transform the other way, of the N elements that y has, or that the signal had."""
    g, y = of_rank(g, x.rank), of_rank(y, x.rank)
    along = _axis(x, axis)
    if inverse and onesided:
        n = _length(y, along)
        back = _transform(g, along, onesided=1) * _mirrored(n, along, x) / _number(n, x)
    elif inverse:
        back = _transform(g, along) / _number(_length(y, along), x)
    else:
        n = _length(x, along) if dft_length is None else reshape(dft_length, [1])
        back = _transform(g, along, n if onesided else None, inverse=1) * _number(n, x)
    real = crop(of_rank(back, x.rank), x, [0], [x.rank - 1])
    return real if dft_length is None else _as_long(real, x, along)


def _axis(x: Value, axis: Value | None) -> Value:
    """The axis of a transform, int64 [1], not negative."""
    if axis is None:
        return x.tape.constant([x.rank - 2], INT64)
    if axis.constant is not None:
        return x.tape.constant([int(np.asarray(axis.constant).reshape(-1)[0]) % x.rank], INT64)
    return op.Mod(op.Cast(reshape(axis, [1]), to=INT64), x.tape.constant([x.rank], INT64))


def _transform(v: Value, axis: Value, length: Value | None = None, inverse: int = 0, onesided: int = 0) -> Value:
    """DFT along an axis, an attribute before opset 20, of `length` elements where there are fewer."""
    many = None if length is None else op.Squeeze(length, axes=[0])
    if v.tape.graph.opsets[""] < 20:
        attribute = int(np.asarray(axis.constant).reshape(-1)[0])
        return op.DFT(v, many, axis=attribute, inverse=inverse, onesided=onesided)
    return op.DFT(v, many, op.Squeeze(axis, axes=[0]), inverse=inverse, onesided=onesided)


def _length(v: Value, axis: Value) -> Value:
    """The size of `v` along an axis, int64 [1]."""
    return op.Gather(op.Shape(v), axis) if axis.constant is None else sizes(v, [int(axis.constant[0])])


def _number(n: Value, like: Value) -> "Value | float":
    return op.Cast(n, to=like.dtype) if n.constant is None else float(np.asarray(n.constant).reshape(-1)[0])


def _at(axis: Value, rank: int) -> Value:
    """1 at an axis, 0 at the others, int64 [rank]."""
    if axis.constant is not None:
        return axis.tape.constant(np.eye(rank)[int(axis.constant[0])], INT64)
    return op.Cast(op.Equal(axis.tape.constant(range(rank), INT64), axis), to=INT64)


def _mirrored(n: Value, axis: Value, like: Value) -> Value:
    """How many of N bins each of a half spectrum stands for: itself and its mirror image, if that is another."""
    tape, one = n.tape, n.tape.constant([1], INT64)
    two = tape.constant([2], INT64)
    k = numbers(op.Add(op.Div(n, two), one))
    single = [op.Cast(op.Equal(a, b), to=like.dtype) for a, b in ((k, tape.constant([0], INT64)), (op.Mul(k, two), n))]
    shape = op.Sub(one, op.Mul(two, _at(axis, like.rank)))
    return op.Reshape(2.0 - single[0] - single[1], shape)


def _as_long(v: Value, x: Value, axis: Value) -> Value:
    """`v` cut to the length of `x` along an axis, or zeros appended."""
    if axis.constant is not None:
        a = int(axis.constant[0])
        long, short = static(x, [a]), static(v, [a])
        if long and short:
            return crop(v, x, [0], [a]) if short >= long else pad(v, [0], [long[0] - short[0]], [a])
    target = _length(x, axis)
    cut = op.Slice(v, v.tape.constant([0], INT64), target, axis)
    after = op.Mul(_at(axis, x.rank), op.Sub(target, _length(cut, axis)))
    return op.Pad(cut, pads=op.Concat(v.tape.constant([0] * x.rank, INT64), after, axis=0))


vjp("DFT", dft, STOP, STOP)


# ----- STFT -----
def _places(signal: Value, g: Value, frame_step: Value, window: Value | None, frame_length: Value | None) -> Value:
    """Where in the signal the elements of each frame lie, int64 [F, N]."""
    g = of_rank(g, 4)
    if window is not None:
        n = sizes(window, [0])
    else:
        n = sizes(signal, [1]) if frame_length is None else op.Cast(reshape(frame_length, [1]), to=INT64)
    start = op.Mul(numbers(sizes(g, [1])), op.Cast(reshape(frame_step, [1]), to=INT64))
    return op.Add(op.Unsqueeze(start, axes=[1]), op.Unsqueeze(numbers(n), axes=[0]))


def _frames_back(g: Value, places: Value, signal: Value) -> Value:
    """The gradient of the windowed frames, (B, F, N, 1 or 2)."""
    n = sizes(places, [1])
    back = _transform(of_rank(g, 4), g.tape.constant([2], INT64), n, inverse=1) * _number(n, signal)
    return slice_(of_rank(back, 4), g.tape.constant([0], INT64), sizes(signal, [2]), [3])


def stft_signal(
    g: Value,
    y: Value,
    signal: Value,
    frame_step: Value,
    window: Value | None = None,
    frame_length: Value | None = None,
    *,
    onesided: int,
) -> Value:
    """Frames transformed back, windowed, and added up where they overlap."""
    places = _places(signal, g, frame_step, window, frame_length)
    frames = _frames_back(g, places, signal)
    if window is not None:
        frames = frames * op.Unsqueeze(window, axes=[1])
    rows = reshape(frames, [*each_size(signal, [0]), -1, *each_size(signal, [2])])
    return add_rows(rows, op.Reshape(places, g.tape.constant([-1], INT64)), sizes(signal, [1]), 1)


def stft_window(
    g: Value,
    y: Value,
    signal: Value,
    frame_step: Value,
    window: Value,
    frame_length: Value | None = None,
    *,
    onesided: int,
) -> Value:
    """What each element of the window multiplied, times what that is worth."""
    places = _places(signal, g, frame_step, window, frame_length)
    frames = op.Gather(signal, places, axis=1)
    return op.ReduceSum(frames * _frames_back(g, places, signal), axes=[0, 1, 3], keepdims=0)


vjp("STFT", stft_signal, STOP, stft_window, STOP)

# The edges of its filters are rounded to whole bins.
vjp("MelWeightMatrix", STOP, STOP, STOP, STOP, STOP)
