"""Choosing inside a graph: masks of 0 and 1 for the largest element, for a number, for a place.

No ArgMax, OneHot, Equal or Where, which several providers lack or run on the CPU: the largest is found as in a max
pool, and one number among others is 1 − step(|a − b|). The trap: a runtime may compute in bfloat16 of its own accord,
as OpenVINO does, and there 285.0 is 284. So numbers of classes, boxes and places are int32, which stays what it is, and
only their differences are cast: they may be rounded, but never to zero. (int64 is what WebGPU lacks.)
"""

from collections.abc import Sequence

import numpy as np
import onnx

from onnxcam.errors import InputError
from onnxcam.grad.mask import LOWEST, step
from onnxcam.grad.scatter import numbers as counting
from onnxcam.grad.shapes import as_type, sizes
from onnxcam.grad.tensor import Value, op

FLOAT = onnx.TensorProto.FLOAT
INT32 = onnx.TensorProto.INT32
INT64 = onnx.TensorProto.INT64
HUGE = -LOWEST[FLOAT]
# More elements than any axis has. It is odd: −2³¹, which a processor makes of what is no number, stays itself times it.
_FAR = 2**24 - 1


def floats(x: Value) -> Value:
    """`x` as finite float32: a mask's zero times infinity would be no number."""
    return op.Clip(as_type(x, FLOAT), min=-HUGE, max=HUGE)


def equal(a: Value, b: "Value | int") -> Value:
    """1 where two values, float or int32 both, are the same, 0 elsewhere: float32."""
    return 1 - step(op.Abs(as_type(a - b, FLOAT)))


def negative(x: Value) -> Value:
    """1 where a whole number is below 0, 0 elsewhere: float32."""
    return step(-as_type(x, FLOAT))


def length(x: Value, axis: int) -> "Value | float":
    """The size of an axis, float32."""
    size = x.shape[axis]
    return float(size) if isinstance(size, int) else op.Squeeze(op.Cast(sizes(x, [axis]), to=FLOAT), axes=[0])


def numbers(x: Value, axis: int, dtype: int = INT32) -> Value:
    """0, 1, 2 … along `axis` of `x`, to broadcast against it. Raises InputError where no operator counts."""
    size, after = x.shape[axis], x.rank - 1 - axis % x.rank
    if isinstance(size, int):
        return x.tape.constant(np.arange(size).reshape(-1, *[1] * after), dtype)
    opset = x.tape.graph.opsets[""]
    if opset < 9:
        raise InputError(
            f"The size of axis {axis} of '{x.name}' is not fixed, and opset {opset} cannot count it. Fix it."
        )
    shape = x.tape.constant([-1, *[1] * after], INT64)
    return op.Cast(op.Reshape(counting(sizes(x, [axis])), shape), to=dtype)


def largest(x: Value, axis: int) -> Value:
    """1 at the first of the largest elements along `axis`, 0 elsewhere."""
    order = _ordered(x, axis)
    return 1 - step(as_type(order - op.ReduceMin(order, axes=[axis], keepdims=1), FLOAT))


def first(x: Value, axis: int) -> Value:
    """The number of the first of the largest elements along `axis`, int32, kept as an axis of one."""
    return op.ReduceMin(_ordered(x, axis), axes=[axis], keepdims=1)


def _ordered(x: Value, axis: int) -> Value:
    """The numbers along `axis`, those of elements that are not the largest behind all others."""
    below = step(op.ReduceMax(x, axes=[axis], keepdims=1) - x)
    return as_type(below, INT32) * _FAR + numbers(x, axis)


def elect(x: Value, axis: int, wanted: Value) -> Value:
    """The number `wanted` (int32, shaped to broadcast), or where that is −1 that of the largest along `axis`."""
    return wanted + as_type(negative(wanted), INT32) * (first(x, axis) + 1)


def choose(x: Value, axis: int, wanted: Value) -> Value:
    """1 at the element that `elect` names, 0 elsewhere."""
    return equal(numbers(x, axis), elect(x, axis, wanted))


def located(mask: Value, axis: int) -> Value:
    """The number along `axis` of the one place in each sample where a mask is 1, int32 [N]; −1 where there is none."""
    return per_sample(as_type(mask, INT32) * (numbers(mask, axis) + 1)) - 1


def least(number: Value, bound: int) -> Value:
    """Numbers from `bound` on, where that can be written: scores that are no numbers have elected none."""
    return op.Max(number, bound) if number.tape.graph.opsets[""] >= 12 else number


def reshaped(number: Value, rank: int) -> Value:
    """A number for each sample, [N, 1, …], with as many axes as are asked for."""
    return number if number.rank == rank else op.Reshape(number, number.tape.constant([-1, *[1] * (rank - 1)], INT64))


def ranked(x: Value, axis: int, rank: int) -> Value:
    """1 at the element of that rank along `axis`, 0 being the largest; of equal ones the first comes first."""
    taken: Value | None = None
    for _ in range(rank):
        pick = largest(x if taken is None else lowered(x, taken), axis)
        taken = pick if taken is None else taken + pick
    return largest(x if taken is None else lowered(x, taken), axis)


def lowered(x: Value, mask: Value) -> Value:
    """`x` with the lowest number there is where the mask is 1."""
    return x * (1 - mask) - mask * HUGE


def total(x: Value, axes: Sequence[int]) -> Value:
    """The sum over `axes`, kept as axes of one."""
    return op.ReduceSum(x, axes=list(axes), keepdims=1)


def softmax(z: Value, axis: int) -> Value:
    """Softmax along one axis, which ONNX's own takes from opset 13 on."""
    e = op.Exp(z - op.ReduceMax(z, axes=[axis], keepdims=1))
    return e / total(e, [axis])


def row(x: Value, rank: int) -> Value:
    """Parameters [1] or [N], int32 or float32, shaped to broadcast against a tensor of that rank."""
    values = as_type(x, INT32) if x.dtype == INT64 else x
    return op.Unsqueeze(values, axes=list(range(1, rank))) if rank > 1 else values


def per_sample(x: Value) -> Value:
    """Everything of a sample summed: (N, …) to [N]."""
    return x if x.rank == 1 else op.ReduceSum(x, axes=list(range(1, x.rank)), keepdims=0)


def column(x: Value, i: int) -> Value:
    """Column `i` of [N, n], as [N]."""
    return op.Squeeze(op.Gather(x, x.tape.constant([i], INT64), axis=1), axes=[1])


def entry(x: Value, i: int) -> Value:
    """Element `i` of a vector, as [1]."""
    return op.Gather(x, x.tape.constant([i], INT64), axis=0)
