"""Masks without comparisons: what every provider runs, and the fastest form on CPU.

ORT's Where on a feature map costs thirty times a HardSigmoid, and several providers have neither Where nor Greater.
"""

import onnx

from onnxcam.grad.tensor import Value, op

# The lowest value that may pad a maximum: finite, since a convolution multiplies it by zero.
LOWEST: dict[int, float] = {
    onnx.TensorProto.FLOAT: -3e38,
    onnx.TensorProto.DOUBLE: -1e300,
    onnx.TensorProto.FLOAT16: -6e4,
    onnx.TensorProto.BFLOAT16: -3e38,
}
_SLOPES: dict[int, float] = {onnx.TensorProto.DOUBLE: 1e300, onnx.TensorProto.FLOAT16: 6e4}


def step(x: Value) -> Value:
    """1 where `x` is positive, 0 elsewhere, in the type of `x`; exact for |x| above 1e-30 (float16: 1.7e-5)."""
    slope = _SLOPES.get(x.dtype, 1e30)
    if x.dtype == onnx.TensorProto.DOUBLE:  # ORT's HardSigmoid is float32 only, and its attribute cannot hold the slope
        return op.Clip(x * slope, min=0.0, max=1.0)
    return op.HardSigmoid(x, alpha=slope, beta=0.0)


def within(x: Value, low: float | None, high: float | None) -> Value:
    """1 where low < x < high, 0 elsewhere; None is unbounded, on one side at most."""
    above = x if not low else x - low
    if high is None:
        return step(above)
    return step(high - x) if low is None else step(above * (high - x))
