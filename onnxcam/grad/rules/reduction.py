"""Reductions: the gradient of the result, put back where it was reduced from."""

from collections.abc import Callable
from dataclasses import dataclass

from onnxcam.grad.mask import step
from onnxcam.grad.registry import STOP, vjp
from onnxcam.grad.scatter import opset_of
from onnxcam.grad.shapes import count, expand_like, ints
from onnxcam.grad.tensor import Value, op


@dataclass(frozen=True)
class Axes:
    """What is reduced over: axes that are known, none included, or a tensor of them that is known at run time."""

    of: list[int] | Value
    noop_with_empty_axes: int = 0

    def sum(self, v: Value) -> Value:
        """The sum over the axes, which stay at length 1."""
        return self._reduce("ReduceSum", v)

    def product(self, v: Value) -> Value:
        """The product over the axes, which stay at length 1."""
        return self._reduce("ReduceProd", v)

    def _reduce(self, op_type: str, v: Value) -> Value:
        if not self.of:
            return v
        noop = self.noop_with_empty_axes or None
        return v.tape.emit(op_type, [v], {"axes": self.of, "keepdims": 1, "noop_with_empty_axes": noop})[0]

    def count(self, x: Value, y: Value) -> Value | float:
        """How many elements of `x` make one of `y`."""
        if isinstance(self.of, list):
            return count(x, self.of)
        return op.Cast(op.Size(x), to=x.dtype) / op.Cast(op.Size(y), to=x.dtype)


Formula = Callable[[Value, Value, Value, Axes], Value]


def reduction(op_type: str, formula: Formula) -> None:
    """Register `formula(g, y, x, axes)`, where g and y keep the reduced axes at length 1."""

    def rule(
        g: Value, y: Value, x: Value, axes: Value | None = None, *, keepdims: int, noop_with_empty_axes: int = 0
    ) -> Value:
        if axes is not None and axes.constant is None:
            over = Axes(axes, noop_with_empty_axes)
            g, y = (v if keepdims else _unreduced(v, x, over) for v in (g, y))
            return expand_like(formula(g, y, x, over), x)
        named = sorted({a % x.rank for a in ints(axes, "axes")}) if axes is not None else []
        known = named or ([] if noop_with_empty_axes else list(range(x.rank)))
        if known and not keepdims:
            g, y = op.Unsqueeze(g, axes=known), op.Unsqueeze(y, axes=known)
        return expand_like(formula(g, y, x, Axes(known)), x)

    vjp(op_type, rule, STOP)


def _unreduced(v: Value, x: Value, axes: Axes) -> Value:
    """`v` with the reduced axes at length 1, in the shape that any reduction over them has."""
    return op.Reshape(v, op.Shape(axes.sum(x)), allowzero=1 if opset_of(x) >= 14 else None)


def _sign(x: Value) -> Value:
    return step(x) - step(-x)


def _extremum(g: Value, y: Value, x: Value, axes: Axes) -> Value:
    """To the largest or smallest element; elements that tie share it equally."""
    chosen = 1 - step(op.Abs(y - x))
    return g / axes.sum(chosen) * chosen


def _norm(g: Value, y: Value, x: Value, axes: Axes) -> Value:
    some = step(y)
    return g * some / (y + (1 - some)) * x


def _product(g: Value, y: Value, x: Value, axes: Axes) -> Value:
    """The product of the other elements: with zeros taken as 1 it is a quotient, and it is 0 if another one is 0."""
    zero = 1 - step(op.Abs(x))
    filled = x + zero
    return g * axes.product(filled) / filled * (1 - step(axes.sum(zero) - zero))


reduction("ReduceSum", lambda g, y, x, axes: g)
reduction("ReduceMean", lambda g, y, x, axes: g / axes.count(x, y))
reduction("ReduceMax", _extremum)
reduction("ReduceMin", _extremum)
reduction("ReduceProd", _product)
reduction("ReduceSumSquare", lambda g, y, x, axes: g * 2 * x)
reduction("ReduceL1", lambda g, y, x, axes: g * _sign(x))
reduction("ReduceL2", _norm)
reduction("ReduceLogSum", lambda g, y, x, axes: g * op.Exp(-y))
reduction("ReduceLogSumExp", lambda g, y, x, axes: g * op.Exp(x - y))
