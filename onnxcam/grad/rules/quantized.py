"""Quantisation: straight through it, except where it saturates.

In the walk's copy a quantiser and what dequantises its result are one operator, `Quantized`, from float to float. Where
it may, its rule reads the float tensor before; where that would keep the runtime from computing in integers, the walk
puts the dequantised tensor in its place, and a value at a bound of the range counts as beyond it.
"""

import numpy as np
import numpy.typing as npt
import onnx

from onnxcam.errors import UnsupportedGradient
from onnxcam.grad.lowering import MICROSOFT, WALK
from onnxcam.grad.mask import within
from onnxcam.grad.registry import STOP, vjp
from onnxcam.grad.shapes import each_size, pad, reshape, reshape_like
from onnxcam.grad.tensor import Value, op

Floats = npt.NDArray[np.float32]
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
    step_, zero_ = s.astype(np.float32), z.astype(np.float32)
    low, high = (np.asarray((np.float32(e) - zero_) * step_) for e in (lowest - reach, highest + reach))
    return g * within(x, _bound(low, x, axis, block_size), _bound(high, x, axis, block_size))


def _bound(bound: Floats, x: Value, axis: int, block_size: int) -> "float | Value":
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
for _domain in ("", MICROSOFT):
    vjp("QuantizeLinear", STOP, STOP, STOP, domain=_domain)
vjp("DynamicQuantizeLinear", STOP)


def dequantized_scale(
    g: Value, y: Value, x: Value, x_scale: Value, x_zero_point: Value | None = None,
    *, axis: int = 1, block_size: int = 0, output_dtype: int = 0,
) -> Value:  # fmt: skip
    """Linear in the scale: y = (x − z)·s, so Σ g·(x − z) over all that shares it."""
    steps = op.Cast(x, to=g.dtype)
    zero = None if x_zero_point is None else op.Cast(x_zero_point, to=g.dtype)
    axis %= max(x.rank, 1)
    if block_size:
        g, steps = _in_blocks(g, x_scale, axis, block_size), _in_blocks(steps, x_scale, axis, block_size)
        shared, alone = [axis + 1], [axis + 1]
    else:
        whole = x_scale.shape in ((), (1,))
        shared = [a for a in range(x.rank) if whole or a != axis]
        alone = [] if whole else shared
    if zero is not None:
        steps = steps - (op.Unsqueeze(zero, axes=alone) if alone else zero)
    total = op.ReduceSum(g * steps, axes=shared, keepdims=0) if shared else g * steps
    return op.Cast(reshape_like(total, x_scale), to=x_scale.dtype)


def _in_blocks(v: Value, scale: Value, axis: int, block_size: int) -> Value:
    """The axis split into (blocks, elements of a block); what the last block lacks is zero."""
    blocks, size = scale.shape[axis], v.shape[axis]
    if not isinstance(blocks, int) or not isinstance(size, int):
        raise UnsupportedGradient(f"the axis of '{v.name}' that is quantised by blocks has no fixed size")
    whole = pad(v, [0], [blocks * block_size - size], [axis])
    lengths = each_size(v, range(v.rank))
    return reshape(whole, [*lengths[:axis], blocks, block_size, *lengths[axis + 1 :]])


for _domain in ("", MICROSOFT):
    vjp("DequantizeLinear", STOP, dequantized_scale, STOP, domain=_domain)
