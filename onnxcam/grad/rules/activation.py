"""Activation functions. Masks come from the output where they can: a fused Conv and Relu then stay fused."""

import math

import numpy as np

from onnxcam.grad.mask import complement, step, within
from onnxcam.grad.registry import elementwise
from onnxcam.grad.tensor import Value, op

elementwise("Relu", lambda g, y, x: g * step(y))
elementwise("Sigmoid", lambda g, y, x: g * (y * complement(y)))
elementwise("Tanh", lambda g, y, x: g * complement(y * y))
elementwise("Softplus", lambda g, y, x: g * op.Sigmoid(x))
elementwise("Softsign", lambda g, y, x: g / op.Pow(1 + op.Abs(x), 2.0))
elementwise("ThresholdedRelu", lambda g, y, x, *, alpha: g * step(x - alpha))
elementwise("HardSigmoid", lambda g, y, x, *, alpha, beta: g * alpha * within(y, 0, 1))


def leaky_relu(g: Value, y: Value, x: Value, *, alpha: float) -> Value:
    """1 above zero, alpha below; the output tells which unless alpha turns its sign."""
    return g * (alpha + (1 - alpha) * step(y if alpha >= 0 else x))


elementwise("LeakyRelu", leaky_relu)
elementwise(
    "PRelu",
    lambda g, y, x, slope: g * (slope + (1 - slope) * step(x)),
    lambda g, y, x, slope: g * (x - op.Relu(x)),
)


def elu(g: Value, y: Value, x: Value, *, alpha: float) -> Value:
    """1 above zero, y + alpha = alpha·exp(x) below."""
    up = step(x)
    return g * (up + (1 - up) * (y + alpha))


def selu(g: Value, y: Value, x: Value, *, alpha: float, gamma: float) -> Value:
    """Gamma above zero, y + gamma·alpha below."""
    up = step(x)
    return g * (up * gamma + (1 - up) * (y + alpha * gamma))


def celu(g: Value, y: Value, x: Value, *, alpha: float) -> Value:
    """1 above zero, exp(x/alpha) = y/alpha + 1 below."""
    up = step(x)
    return g * (up + (1 - up) * (y / alpha + 1))


elementwise("Elu", elu)
elementwise("Selu", selu)
elementwise("Celu", celu)


def hard_swish(g: Value, y: Value, x: Value) -> Value:
    """x·clip(x/6 + ½, 0, 1): its derivative is the gate plus x/6 where the gate is open."""
    gate = op.HardSigmoid(x, alpha=1 / 6, beta=0.5)
    return g * (gate + x * within(gate, 0, 1) * (1 / 6))


elementwise("HardSwish", hard_swish)


def swish(g: Value, y: Value, x: Value, *, alpha: float = 1.0) -> Value:
    """x·s with s = sigmoid(alpha·x): s + alpha·y·(1 − s)."""
    s = op.Sigmoid(x if alpha == 1 else x * alpha)
    return g * (s + (y if alpha == 1 else y * alpha) * complement(s))


elementwise("Swish", swish)


def mish(g: Value, y: Value, x: Value) -> Value:
    """x·tanh(softplus(x)), with t the tanh: t + x·(1 − t²)·sigmoid(x)."""
    t = op.Tanh(op.Softplus(x))
    return g * (t + x * (1 - t * t) * op.Sigmoid(x))


elementwise("Mish", mish)


def gelu(g: Value, y: Value, x: Value, *, approximate: str = "none") -> Value:
    """x·Φ(x): Φ + x·φ, or the derivative of its tanh approximation, which is 0 or 1 long before x³ overflows."""
    if approximate == "tanh":
        c = math.sqrt(2 / math.pi)
        x = op.Clip(x, min=-10.0, max=10.0)
        t = op.Tanh((x + x * x * x * 0.044715) * c)
        return g * 0.5 * (1 + t + x * (1 - t * t) * ((1 + x * x * (3 * 0.044715)) * c))
    cdf = (1 + op.Erf(x * math.sqrt(0.5))) * 0.5
    return g * (cdf + x * op.Exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi)))


elementwise("Gelu", gelu)


def clip(g: Value, y: Value, x: Value, min: Value | None = None, max: Value | None = None) -> Value:
    """1 strictly inside the bounds, read from the output."""
    low, high = _bound(min), _bound(max)
    if _computed(min) or _computed(max):
        inside = g
        if min is not None:
            inside = inside * step(y - min)
        return inside if max is None else inside * step(max - y)
    return g if low is None and high is None else g * within(y, low, high)


def _computed(bound: Value | None) -> bool:
    return bound is not None and bound.constant is None


def _bound(bound: Value | None) -> float | None:
    """A constant bound; none where it is as wide as the type (exporters write ±3.4e38 for 'unbounded')."""
    if bound is None or bound.constant is None:
        return None
    value = float(np.asarray(bound.constant).reshape(-1)[0])
    return value if abs(value) < 1e18 else None


elementwise(
    "Clip",
    clip,
    lambda g, y, x, min=None, max=None: g * (step(min - x) if max is None else step(min - x) * step(max - min)),
    lambda g, y, x, min=None, max=None: g * (step(x - max) if min is None else 1 - step(max - x) * step(max - min)),
)


def shrink(g: Value, y: Value, x: Value, *, bias: float, lambd: float) -> Value:
    """1 outside ±lambd, 0 inside."""
    return g * (step(x - lambd) + step(-lambd - x))


elementwise("Shrink", shrink)
