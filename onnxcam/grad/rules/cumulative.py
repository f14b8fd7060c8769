"""Running sums and products."""

from onnxcam.grad.mask import step
from onnxcam.grad.registry import STOP, vjp
from onnxcam.grad.scatter import numbers
from onnxcam.grad.shapes import sizes
from onnxcam.grad.tensor import Value, op


def cumsum(g: Value, y: Value, x: Value, axis: Value, *, exclusive: int, reverse: int) -> Value:
    """An element is in every sum that comes after it: the running sum of g from the other side."""
    return op.CumSum(g, axis, exclusive=exclusive, reverse=1 - reverse)


def cumprod(g: Value, y: Value, x: Value, axis: Value, *, exclusive: int, reverse: int) -> Value:
    """The running sum, from the other side, of g times the products without this element.

    Up to the first 0 that is g·y / x. For the first 0 itself the products are those with a 1 in its place. Whatever
    comes after a 0 is in products that are 0 without it too.
    """
    zero = 1 - step(op.Abs(x))
    until = op.CumSum(zero, axis, reverse=reverse)  # zeros so far, this element included
    before, first = 1 - step(until), zero * (1 - step(until - 1))
    mended = op.CumProd(x + first, axis, exclusive=exclusive, reverse=reverse)
    quotient, without = (
        cumsum(g * products, y, x, axis, exclusive=exclusive, reverse=reverse) for products in (y, mended)
    )
    return before * quotient / (x + zero) + first * without


vjp("CumSum", cumsum, STOP)
vjp("CumProd", cumprod, STOP)


def range_delta(g: Value, y: Value, start: Value, limit: Value, delta: Value) -> Value:
    """Element i is start + i·delta; how many there are is no matter of degree."""
    return op.ReduceSum(g * op.Cast(numbers(sizes(y, [0])), to=g.dtype), keepdims=0)


vjp("Range", lambda g, y, start, limit, delta, *, stash_type=1: op.ReduceSum(g, keepdims=0), STOP, range_delta)
