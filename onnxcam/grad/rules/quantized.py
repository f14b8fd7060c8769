"""Quantisation: straight through it, except where it saturates.

In the walk's copy a quantiser and what dequantises its result are one operator, `Quantized`, from float to float. Where
it may, its rule reads the float tensor before; where that would keep the runtime from computing in integers, the walk
puts the dequantised tensor in its place, and a value at a bound of the range counts as beyond it.
"""

import numpy as np
import onnx

from onnxcam.errors import UnsupportedGradient
from onnxcam.grad.lowering import WALK
from onnxcam.grad.mask import within
from onnxcam.grad.registry import STOP, vjp
from onnxcam.grad.tensor import Value, op

T = onnx.TensorProto
RANGES: dict[int, tuple[int, int]] = {
    T.UINT8: (0, 255), T.INT8: (-128, 127), T.UINT16: (0, 65535), T.INT16: (-32768, 32767), T.UINT4: (0, 15),
    T.INT4: (-8, 7), T.FLOAT8E4M3FN: (-448, 448), T.FLOAT8E4M3FNUZ: (-240, 240), T.FLOAT8E5M2: (-57344, 57344),
    T.FLOAT8E5M2FNUZ: (-57344, 57344),
}  # fmt: skip


def quantized(
    g: Value, y: Value, x: Value, scale: Value, zero_point: Value | None = None, *, axis: int, block_size: int, to: int
) -> Value:
    """1 inside (qmin − z)·s … (qmax − z)·s, and half a step beyond, which is rounded back; 0 outside."""
    lowest, highest = RANGES[to]
    reach = 0.5 if x.name != y.name else 0.0
    s, z = scale.constant, np.zeros(()) if zero_point is None else zero_point.constant
    if s is None or z is None:
        if scale.rank:
            raise UnsupportedGradient(f"the scales '{scale.name}' along an axis are computed at run time")
        zero = 0.0 if zero_point is None else op.Cast(zero_point, to=x.dtype)
        step = op.Cast(scale, to=x.dtype)
        return g * within(x, step * (lowest - reach - zero), step * (highest + reach - zero))
    s, z = s.astype(np.float32), z.astype(np.float32)
    low, high = ((extreme - z) * s for extreme in (np.float32(lowest - reach), np.float32(highest + reach)))
    return g * within(x, _bound(low, x, axis, block_size), _bound(high, x, axis, block_size))


def _bound(bound: np.ndarray, x: Value, axis: int, block_size: int) -> "float | Value":
    """A bound of the whole tensor, or of each slice or block of it along `axis`."""
    if (bound == bound.reshape(-1)[0]).all():
        return float(bound.reshape(-1)[0])
    if block_size:
        wide = np.repeat(bound, block_size, axis=axis)
        size = x.shape[axis]
        if not isinstance(size, int):
            raise UnsupportedGradient(f"the axis of '{x.name}' that is quantised by blocks has no fixed size")
        return x.tape.constant(wide.take(np.arange(size), axis=axis), x.dtype)
    return x.tape.constant(bound.reshape([-1 if a == axis % x.rank else 1 for a in range(x.rank)]), x.dtype)


vjp("Quantized", quantized, STOP, STOP, domain=WALK)
vjp("QuantizeLinear", STOP, STOP, STOP)
vjp("DynamicQuantizeLinear", STOP)


def dequantized_scale(
    g: Value, y: Value, x: Value, x_scale: Value, x_zero_point: Value | None = None,
    *, axis: int = 1, block_size: int = 0, output_dtype: int = 0,
) -> Value:  # fmt: skip
    """y = (x − z)·s is linear in the scale: Σ g·(x − z)."""
    if block_size:
        raise UnsupportedGradient("the gradient of scales by blocks is not offered")
    others = [a for a in range(x.rank) if x_scale.rank == 0 or a != axis % x.rank]
    centred = op.Cast(x, to=g.dtype)
    if x_zero_point is not None:
        zero = op.Cast(x_zero_point, to=g.dtype)
        centred = centred - (op.Unsqueeze(zero, axes=others) if zero.rank and others else zero)
    total = op.ReduceSum(g * centred, axes=others, keepdims=0) if others else g * centred
    return op.Cast(total, to=x_scale.dtype)


vjp("DequantizeLinear", STOP, dequantized_scale, STOP)
