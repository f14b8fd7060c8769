"""Masks without comparisons: what every provider runs, and the fastest form on CPU.

ORT's Where on a feature map costs thirty times a HardSigmoid, and several providers have neither Where nor Greater.
"""

import math

import onnx

from onnxcam.grad.tensor import Value, op

# What pads a maximum: finite, since the difference of two infinities is not a number.
LOWEST: dict[int, float] = {
    onnx.TensorProto.FLOAT: -3e38,
    onnx.TensorProto.DOUBLE: -1e300,
    onnx.TensorProto.FLOAT16: -6e4,
    onnx.TensorProto.BFLOAT16: -3e38,
}
# Powers of two: a bound times the slope is exact, so that bounds themselves lie outside.
_SLOPES: dict[int, float] = {onnx.TensorProto.DOUBLE: 2.0**900, onnx.TensorProto.FLOAT16: 2.0**15}
# OpenVINO's CPU takes a beta of 0 for one that is not given, and uses ONNX's default, 0.5. Clipped, this is 0 too.
_NOTHING = -(2.0**-100)


def step(x: Value) -> Value:
    """1 where `x` is positive, 0 elsewhere, in the type of `x`; exact for |x| above 2^−100 (float16: 2^−15)."""
    return _ramp(x, _SLOPES.get(x.dtype, 2.0**100), 0.0)


def complement(x: Value) -> Value:
    """1 − x of values in 0..1, without leaving the blocked layout in which ORT computes HardSigmoid but no Sub."""
    return _ramp(x, -1.0, 1.0)


def within(x: Value, low: "float | Value | None", high: "float | Value | None") -> Value:
    """1 where low < x < high, 0 elsewhere; None is unbounded, on one side at most."""
    masks = [_above(x, low)] if low is not None else []
    masks += [_below(x, high)] if high is not None else []
    return masks[0] if len(masks) == 1 else masks[0] * masks[1]


def _above(x: Value, low: "float | Value") -> Value:
    slope = _slope(x, low)
    return step(x - low) if isinstance(low, Value) else _ramp(x, slope, -low * slope)


def _below(x: Value, high: "float | Value") -> Value:
    slope = _slope(x, high)
    return step(high - x) if isinstance(high, Value) else _ramp(x, -slope, high * slope)


def _slope(x: Value, bound: "float | Value") -> float:
    """The steepest slope whose product with the bound is a number of the type."""
    room = 0 if isinstance(bound, Value) else max(0, math.frexp(bound)[1])
    return _SLOPES.get(x.dtype, 2.0**100) * 2.0 ** -(room if x.dtype == onnx.TensorProto.FLOAT16 else 0)


def _ramp(x: Value, slope: float, offset: float) -> Value:
    """Clip slope·x + offset to 0..1."""
    if x.dtype == onnx.TensorProto.DOUBLE:  # ORT's HardSigmoid is float32 only, and its attribute cannot hold the slope
        return op.Clip(x * slope + offset if offset else x * slope, min=0.0, max=1.0)
    return op.HardSigmoid(x, alpha=slope, beta=offset or _NOTHING)
