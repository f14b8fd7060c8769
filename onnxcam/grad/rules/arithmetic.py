"""Arithmetic and elementary functions, element by element."""

import math

from onnxcam.grad.mask import step
from onnxcam.grad.registry import STOP, elementwise, variadic
from onnxcam.grad.tensor import Value, op

# ----- two operands -----
elementwise("Add", lambda g, y, a, b: g, lambda g, y, a, b: g)
elementwise("Sub", lambda g, y, a, b: g, lambda g, y, a, b: -g)
elementwise("Mul", lambda g, y, a, b: g * b, lambda g, y, a, b: g * a)
elementwise("Div", lambda g, y, a, b: g / b, lambda g, y, a, b: -g * y / b)


def pow_base(g: Value, y: Value, x: Value, p: Value) -> Value:
    """D x^p / dx = p x^(p−1), which at p = 1 and 2 needs no power, and is 0 at p = 0 wherever x is."""
    exponent = None if p.constant is None or p.constant.size != 1 else float(p.constant.reshape(-1)[0])
    if exponent == 2:
        return g * x * 2
    if exponent == 1:
        return g
    p = op.Cast(p, to=x.dtype) if p.dtype != x.dtype else p
    nothing = p.constant is None or not p.constant.all()
    return g * p * op.Pow(x, p - step(op.Abs(p)) if nothing else p - 1)


def pow_exponent(g: Value, y: Value, x: Value, p: Value) -> Value:
    """D x^p / dp = x^p ln x, and 0 at x = 0."""
    positive = step(x)
    return op.Cast(g * y * op.Log(x * positive + (1 - positive)), to=p.dtype)


elementwise("Pow", pow_base, pow_exponent)


def mod(g: Value, y: Value, a: Value, b: Value, *, fmod: int) -> Value:
    """A mod b = a − b·q with q constant almost everywhere; q is the same integer in both roundings of y."""
    return -g * op.Round((a - y) / b)


elementwise("Mod", lambda g, y, a, b, *, fmod: g, mod)


# ----- one operand -----
elementwise("Neg", lambda g, y, x: -g)
elementwise("Abs", lambda g, y, x: g * (step(x) - step(-x)))
elementwise("Exp", lambda g, y, x: g * y)
elementwise("Log", lambda g, y, x: g / x)
elementwise("Sqrt", lambda g, y, x: g * 0.5 / y)
elementwise("Reciprocal", lambda g, y, x: -g * y * y)
elementwise("Erf", lambda g, y, x: g * op.Exp(-(x * x)) * (2 / math.sqrt(math.pi)))
elementwise("Sin", lambda g, y, x: g * op.Cos(x))
elementwise("Cos", lambda g, y, x: -g * op.Sin(x))
elementwise("Tan", lambda g, y, x: g * (1 + y * y))
elementwise("Asin", lambda g, y, x: g / op.Sqrt(1 - x * x))
elementwise("Acos", lambda g, y, x: -g / op.Sqrt(1 - x * x))
elementwise("Atan", lambda g, y, x: g / (1 + x * x))
elementwise("Sinh", lambda g, y, x: g * op.Cosh(x))
elementwise("Cosh", lambda g, y, x: g * op.Sinh(x))
elementwise("Asinh", lambda g, y, x: g / op.Sqrt(x * x + 1))
elementwise("Acosh", lambda g, y, x: g / op.Sqrt(x * x - 1))
elementwise("Atanh", lambda g, y, x: g / (1 - x * x))
elementwise("Identity", lambda g, y, x: g)
elementwise("Cast", lambda g, y, x, *, to, saturate=1, round_mode="up": op.Cast(g, to=x.dtype))
elementwise("CastLike", lambda g, y, x, target, *, saturate=1, round_mode="up": op.Cast(g, to=x.dtype), STOP)
for _name in ("Floor", "Ceil", "Round", "Sign"):
    elementwise(_name, STOP)
for _name in ("Binarizer", "TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor"):  # steps, like those
    elementwise(_name, STOP, domain="ai.onnx.ml")


# ----- choices -----
def where(g: Value, condition: Value) -> Value:
    """`g` where the condition holds."""
    return g * op.Cast(condition, to=g.dtype)


elementwise(
    "Where",
    STOP,
    lambda g, y, condition, a, b: where(g, condition),
    lambda g, y, condition, a, b: where(g, op.Not(condition)),
)

variadic("Sum", lambda g, y, index, *xs: g, elementwise=True)
variadic("Mean", lambda g, y, index, *xs: g * (1 / len(xs)), elementwise=True)


def extremum(g: Value, y: Value, index: int, *xs: Value) -> Value:
    """Max and Min: to the operand that was chosen; operands that tie share it equally."""
    if len(xs) == 1:
        return g
    chosen = [1 - step(op.Abs(y - x)) for x in xs]
    total = chosen[0]
    for other in chosen[1:]:
        total = total + other
    return g * chosen[index] / total


variadic("Max", extremum, elementwise=True)
variadic("Min", extremum, elementwise=True)
