"""Choosing in float arithmetic: masks of 0 and 1 for the largest element, for a number, for a place.

No ArgMax, OneHot, Equal or Where, which several providers lack or run on the CPU.
"""

from collections.abc import Sequence

import numpy as np
import onnx

from onnxcam.errors import InputError
from onnxcam.grad.mask import LOWEST, step
from onnxcam.grad.shapes import sizes
from onnxcam.grad.tensor import Value, op

FLOAT = onnx.TensorProto.FLOAT
INT64 = onnx.TensorProto.INT64
HUGE = -LOWEST[FLOAT]


def floats(x: Value) -> Value:
    """`x` as finite float32: a mask's zero times infinity would be no number."""
    return op.Clip(x if x.dtype == FLOAT else op.Cast(x, to=FLOAT), min=-HUGE, max=HUGE)


def equal(a: Value, b: Value) -> Value:
    """1 where two float values are the same, 0 elsewhere."""
    return 1 - step(op.Abs(a - b))


def length(x: Value, axis: int) -> "Value | float":
    """The size of an axis, float32."""
    size = x.shape[axis]
    return float(size) if isinstance(size, int) else op.Squeeze(op.Cast(sizes(x, [axis]), to=FLOAT), axes=[0])


def numbers(x: Value, axis: int) -> Value:
    """0, 1, 2 … along `axis` of `x`, float32, to broadcast against it. Raises InputError where no operator counts."""
    size, after = x.shape[axis], x.rank - 1 - axis % x.rank
    if isinstance(size, int):
        return x.tape.constant(np.arange(size).reshape(-1, *[1] * after), FLOAT)
    opset = x.tape.graph.opsets[""]
    if opset < 9:
        raise InputError(
            f"The size of axis {axis} of '{x.name}' is not fixed, and opset {opset} cannot count it. Fix it."
        )
    if opset < 11:
        one = onnx.numpy_helper.from_array(np.ones(1, np.float32), "one")
        counted = op.NonZero(op.ConstantOfShape(sizes(x, [axis]), value=one))
    else:
        counted = op.Range(x.tape.constant(0, INT64), op.Squeeze(sizes(x, [axis]), axes=[0]), x.tape.constant(1, INT64))
    shape = x.tape.constant([-1, *[1] * after], INT64)
    return op.Cast(op.Reshape(counted, shape), to=FLOAT)


def largest(x: Value, axis: int) -> Value:
    """1 at the first of the largest elements along `axis`, 0 elsewhere."""
    index = numbers(x, axis)
    return equal(index, first(x, axis, index))


def first(x: Value, axis: int, index: Value) -> Value:
    """The number of the first of the largest elements along `axis`, kept as an axis of one."""
    below = step(op.ReduceMax(x, axes=[axis], keepdims=1) - x)
    return op.ReduceMin(below * length(x, axis) + index, axes=[axis], keepdims=1)


def choose(x: Value, axis: int, wanted: Value) -> Value:
    """1 at element number `wanted` along `axis` (shaped to broadcast), or where that is −1 at the largest one."""
    index = numbers(x, axis)
    automatic = step(-wanted)
    return equal(index, automatic * first(x, axis, index) + (1 - automatic) * wanted)


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
    """Parameters [1] or [N], float32, shaped to broadcast against a tensor of that rank."""
    values = op.Cast(x, to=FLOAT) if x.dtype != FLOAT else x
    return op.Unsqueeze(values, axes=list(range(1, rank)))


def per_sample(x: Value) -> Value:
    """Everything of a sample summed: (N, …) to [N]."""
    return x if x.rank == 1 else op.ReduceSum(x, axes=list(range(1, x.rank)), keepdims=0)


def column(x: Value, i: int) -> Value:
    """Column `i` of [N, n], as [N]."""
    return op.Squeeze(op.Gather(x, x.tape.constant([i], INT64), axis=1), axes=[1])


def entry(x: Value, i: int) -> Value:
    """Element `i` of a vector, as [1]."""
    return op.Gather(x, x.tape.constant([i], INT64), axis=0)
