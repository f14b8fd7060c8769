"""Masks without comparisons: what every provider runs, and the fastest form on CPU.

ORT's Where on a feature map costs thirty times a HardSigmoid, and several providers have neither Where nor Greater.
"""

import math

import onnx

from onnxcam.grad.tensor import Value, op

# The lowest value that may pad a maximum: finite, since a convolution multiplies it by zero.
LOWEST: dict[int, float] = {
    onnx.TensorProto.FLOAT: -3e38,
    onnx.TensorProto.DOUBLE: -1e300,
    onnx.TensorProto.FLOAT16: -6e4,
    onnx.TensorProto.BFLOAT16: -3e38,
}
# Powers of two: a bound times the slope is exact, so that bounds themselves lie outside.
_SLOPES: dict[int, float] = {onnx.TensorProto.DOUBLE: 2.0**900, onnx.TensorProto.FLOAT16: 2.0**15}


def step(x: Value) -> Value:
    """1 where `x` is positive, 0 elsewhere, in the type of `x`; exact for |x| above 2^−100 (float16: 2^−15)."""
    return _ramp(x, _SLOPES.get(x.dtype, 2.0**100), 0.0)


def within(x: Value, low: float | None, high: float | None) -> Value:
    """1 where low < x < high, 0 elsewhere; None is unbounded, on one side at most."""
    slope = _SLOPES.get(x.dtype, 2.0**100)
    if x.dtype == onnx.TensorProto.FLOAT16:  # a bound times the slope must not overflow
        slope = 2.0 ** (15 - max(0, math.frexp(max(abs(low or 0), abs(high or 0)))[1]))
    masks = [] if low is None else [_ramp(x, slope, -low * slope)]
    masks += [] if high is None else [_ramp(x, -slope, high * slope)]
    return masks[0] if len(masks) == 1 else masks[0] * masks[1]


def _ramp(x: Value, slope: float, offset: float) -> Value:
    """Clip slope·x + offset to 0..1."""
    if x.dtype == onnx.TensorProto.DOUBLE:  # ORT's HardSigmoid is float32 only, and its attribute cannot hold the slope
        return op.Clip(x * slope + offset if offset else x * slope, min=0.0, max=1.0)
    return op.HardSigmoid(x, alpha=slope, beta=offset)
