"""The determinant: its gradient is the matrix of cofactors, which exists where the inverse does not."""

from onnxcam.errors import UnsupportedGradient
from onnxcam.grad.registry import vjp
from onnxcam.grad.scatter import numbers
from onnxcam.grad.shapes import INT64, sizes, static
from onnxcam.grad.tensor import Value, op

LARGEST = 64  # n² minors of (n − 1)² elements are laid out for a matrix of n rows


def det(g: Value, y: Value, x: Value) -> Value:
    """Jacobi's formula: element (i, j) has (−1)^(i + j) times the determinant of x without row i and column j."""
    if (size := static(x, [-1])) and size[0] > LARGEST:
        raise UnsupportedGradient(f"its matrices have {size[0]} rows, and the gradient has memory for {LARGEST}")
    one, two = (x.tape.constant([n], INT64) for n in (1, 2))
    place = numbers(sizes(x, [-1]))
    row = op.Unsqueeze(place, axes=[1])
    others = numbers(op.Sub(sizes(x, [-1]), one))
    left = op.Add(others, op.Cast(op.Not(op.Less(others, row)), to=INT64))  # row i: all places but i
    half = op.Gather(x, left, axis=x.rank - 2)  # […, i, k, column]
    minors = op.Gather(half, left, axis=half.rank - 1)  # […, i, k, j, m]
    order = [*range(x.rank - 2), *(x.rank + a for a in (-2, 0, -1, 1))]
    odd = op.Cast(op.Mod(op.Add(place, row), two), to=x.dtype)
    return op.Unsqueeze(g, axes=[g.rank, g.rank + 1]) * op.Det(op.Transpose(minors, perm=order)) * (1 - odd * 2)


vjp("Det", det)
