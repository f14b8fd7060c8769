"""Matrix products."""

from collections.abc import Callable

import onnx

from onnxcam.grad.infer import Type
from onnxcam.grad.registry import Rule, vjp
from onnxcam.grad.shapes import is_square, sum_to, told_apart
from onnxcam.grad.tensor import Value, op


def _transposed(x: Value) -> Value:
    return op.Transpose(x, perm=[*range(x.rank - 2), x.rank - 1, x.rank - 2])


def _batched(product: Value, y: Value, x: Value, rows: int | str, columns: int | str) -> Value:
    """A product of batched matrices, summed over the batch axes that `x` was stretched along."""
    batch = y.shape[: max(0, y.rank - 2)]
    wide = product.tape.retype(product, Type(product.dtype, (*batch, rows, columns)))
    return sum_to(wide, wide, x)


def matmul_left(g: Value, y: Value, a: Value, b: Value) -> Value:
    """DA = g Bᵀ; a vector is a matrix with one row or column."""
    if a.type.shape is None and b.rank == 2:
        return op.MatMul(g, _transposed(b))
    if a.rank == 1 and b.rank == 1:
        return g * b
    if b.rank == 1:
        return op.Unsqueeze(g, axes=[g.rank]) * b
    if a.rank == 1:
        rows = op.Unsqueeze(g, axes=[g.rank - 1])
        product = op.Squeeze(op.MatMul(rows, _transposed(b)), axes=[b.rank - 2])
        return op.ReduceSum(product, axes=list(range(product.rank - 1)), keepdims=0) if product.rank > 1 else product
    if a.rank == b.rank == 2 and (row := _row(g, b, 1)) is not None:
        return row
    left, right = told_apart(g, _transposed(b)) if b.rank == 2 else (g, _transposed(b))
    return _batched(op.MatMul(left, right), y, a, a.shape[-2], a.shape[-1])


def matmul_right(g: Value, y: Value, a: Value, b: Value) -> Value:
    """DB = Aᵀ g."""
    if a.rank == 1 and b.rank == 1:
        return g * a
    if a.rank == 1:
        return op.Unsqueeze(g, axes=[g.rank - 1]) * op.Unsqueeze(a, axes=[1])
    if b.rank == 1:
        product = a * op.Unsqueeze(g, axes=[g.rank])
        return op.ReduceSum(product, axes=list(range(product.rank - 1)), keepdims=0)
    return _batched(op.MatMul(_transposed(a), g), y, b, b.shape[-2], b.shape[-1])


vjp("MatMul", matmul_left, matmul_right)


def _row(g: Value, b: Value, axis: int) -> Value | None:
    """The product of one-hot rows and a matrix: its rows at those places; reading all of it costs more than a head."""
    place = g.tape.hot.get(g.name)
    if place is None or b.dtype not in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE):
        return None
    rows = op.Gather(b, place, axis=axis)
    return op.Transpose(rows, perm=[1, 0]) if axis else rows


def _gemm(a: Value, b: Value, trans_a: int, trans_b: int, alpha: float = 1.0) -> Value:
    """Alpha·A'B'; before opset 11 the third operand was not optional."""
    zero = [a.tape.constant([0], a.dtype)] if a.tape.graph.opsets[""] < 11 else []
    return op.Gemm(a, b, *zero, alpha=alpha, transA=trans_a, transB=trans_b)


def _scaled(v: Value, by: float) -> Value:
    return v if by == 1 else v * by


def _factor(gradient: Callable[[Value, Value, Value, int, int], Value]) -> Rule:
    """The rule for a factor of Y = alpha·A'B' + beta·C; the attributes are the same for both."""

    def rule(
        g: Value, y: Value, a: Value, b: Value, c: Value | None = None,
        *, alpha: float, beta: float, transA: int, transB: int,
    ) -> Value:  # fmt: skip
        return _scaled(gradient(g, a, b, transA, transB), alpha)

    return rule


def gemm_a(g: Value, a: Value, b: Value, trans_a: int, trans_b: int) -> Value:
    """DA' = g B'ᵀ."""
    if trans_a:
        return _gemm(b, g, trans_b, 1)
    if (row := _row(g, b, 1 - trans_b)) is not None:
        return row
    return _gemm(-g, b, 0, 1 - trans_b, alpha=-1.0) if is_square(b) else _gemm(g, b, 0, 1 - trans_b)


def gemm_b(g: Value, a: Value, b: Value, trans_a: int, trans_b: int) -> Value:
    """DB' = A'ᵀ g."""
    return _gemm(g, a, 1, trans_a) if trans_b else _gemm(a, g, 1 - trans_a, 0)


def gemm_c(
    g: Value, y: Value, a: Value, b: Value, c: Value, *, alpha: float, beta: float, transA: int, transB: int
) -> Value:
    """DC = beta·g, summed over what C was stretched along."""
    return sum_to(_scaled(g, beta), y, c)


vjp("Gemm", _factor(gemm_a), _factor(gemm_b), gemm_c)
