"""Reductions: the gradient of the result, put back where it was reduced from."""

from collections.abc import Callable

import numpy as np

from onnxcam.errors import UnsupportedGradient
from onnxcam.grad.mask import step
from onnxcam.grad.registry import STOP, vjp
from onnxcam.grad.shapes import count, expand_like, ints, static
from onnxcam.grad.tensor import Value, op

Formula = Callable[[Value, Value, Value, list[int]], Value]


def reduction(op_type: str, formula: Formula) -> None:
    """Register `formula(g, y, x, axes)`, where g and y keep the reduced axes at length 1."""

    def rule(
        g: Value, y: Value, x: Value, axes: Value | None = None, *, keepdims: int, noop_with_empty_axes: int = 0
    ) -> Value:
        named = sorted({a % x.rank for a in ints(axes, "axes")}) if axes is not None else []
        over = named or ([] if noop_with_empty_axes else list(range(x.rank)))
        if over and not keepdims:
            g, y = op.Unsqueeze(g, axes=over), op.Unsqueeze(y, axes=over)
        return expand_like(formula(g, y, x, over), x)

    vjp(op_type, rule, STOP)


def _sign(x: Value) -> Value:
    return step(x) - step(-x)


def _extremum(g: Value, y: Value, x: Value, axes: list[int]) -> Value:
    """To the largest or smallest element; elements that tie share it equally."""
    chosen = 1 - step(op.Abs(y - x))
    return g / op.ReduceSum(chosen, axes=axes, keepdims=1) * chosen if axes else g


def _norm(g: Value, y: Value, x: Value, axes: list[int]) -> Value:
    some = step(y)
    return g * some / (y + (1 - some)) * x


def _product(g: Value, y: Value, x: Value, axes: list[int]) -> Value:
    """The product of the other elements, which division by x cannot give where x is 0."""
    if not axes:
        return g
    first, rest = axes[0], axes[1:]
    inner = op.ReduceProd(x, axes=rest, keepdims=1) if rest else x
    length = static(x, [first])
    if length is None:
        raise UnsupportedGradient(
            f"the length of axis {first} of '{x.name}' is known at run time only. Fix it in the model"
        )
    eye = np.eye(length[0]).reshape(length[0], length[0], *[1] * (x.rank - first - 1))
    own = x.tape.constant(eye, x.dtype)
    others = op.ReduceProd(op.Unsqueeze(inner, axes=[first]) * (1 - own) + own, axes=[first + 1], keepdims=0)
    return _product(g * others, inner, x, rest)


reduction("ReduceSum", lambda g, y, x, axes: g)
reduction("ReduceMean", lambda g, y, x, axes: g / count(x, axes))
reduction("ReduceMax", _extremum)
reduction("ReduceMin", _extremum)
reduction("ReduceProd", _product)
reduction("ReduceSumSquare", lambda g, y, x, axes: g * 2 * x)
reduction("ReduceL1", lambda g, y, x, axes: g * _sign(x))
reduction("ReduceL2", _norm)
reduction("ReduceLogSum", lambda g, y, x, axes: g * op.Exp(-y))
reduction("ReduceLogSumExp", lambda g, y, x, axes: g * op.Exp(x - y))
