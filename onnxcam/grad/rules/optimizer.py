"""The steps of ai.onnx.preview.training: the update that each makes, which the walk goes through.

Inputs are the learning rate, the number of the update, then all tensors, all their gradients and all their
accumulators; outputs are all new tensors, then all new accumulators. An integer decides nothing smooth.
"""

from collections.abc import Callable, Sequence

import onnx

from onnxcam.grad.registry import formula
from onnxcam.grad.tensor import Value, op

DOMAIN = "ai.onnx.preview.training"

Values = tuple[Value, ...]


def _each(step: Callable[..., Values], tensors: Sequence[Value], kinds: int) -> Values:
    """`step` for each tensor, of `kinds` values in and one fewer out, sorted by kind again."""
    n = len(tensors) // kinds
    results = [step(*tensors[i::n]) for i in range(n)]
    return tuple(v for kind in zip(*results, strict=True) for v in kind)


def _real(t: Value, like: Value) -> Value:
    return op.Cast(t, to=like.dtype)


def _started(t: Value) -> Value:
    """Whether this is not the first update."""
    return op.Greater(_real(t, t.tape.constant(0, onnx.TensorProto.FLOAT)), 0.0)


def adagrad(
    r: Value, t: Value, *tensors: Value, decay_factor: float, epsilon: float, norm_coefficient: float
) -> Values:
    """H' = H + G², X' = X − r·G/(√H' + ε), with a rate that decays."""
    rate = r / (1 + _real(t, r) * decay_factor)

    def step(x: Value, g: Value, h: Value) -> Values:
        g = norm_coefficient * x + g
        h = h + g * g
        return x - rate * g / (op.Sqrt(h) + epsilon), h

    return _each(step, tensors, 3)


def adam(
    r: Value,
    t: Value,
    *tensors: Value,
    alpha: float,
    beta: float,
    epsilon: float,
    norm_coefficient: float,
    norm_coefficient_post: float,
) -> Values:
    """V' = αV + (1 − α)G, H' = βH + (1 − β)G², X' = X − r·V'/(√H' + ε), with a rate that undoes the bias to 0."""
    one = r.tape.constant(1, r.dtype)
    n = op.Where(_started(t), _real(t, r), one)
    unbiased = op.Sqrt(1 - op.Pow(one * beta, n)) / (1 - op.Pow(one * alpha, n))
    rate = r * op.Where(_started(t), unbiased, one)

    def step(x: Value, g: Value, v: Value, h: Value) -> Values:
        g = norm_coefficient * x + g
        v = alpha * v + (1 - alpha) * g
        h = beta * h + (1 - beta) * g * g
        return (1 - norm_coefficient_post) * (x - rate * v / (op.Sqrt(h) + epsilon)), v, h

    return _each(step, tensors, 4)


def momentum(
    r: Value, t: Value, *tensors: Value, alpha: float, beta: float, mode: str, norm_coefficient: float
) -> Values:
    """V' = αV + βG, where β is 1 at first, and X' = X − r·V'; Nesterov's looks ahead, X' = X − r·(G + αV')."""
    one = r.tape.constant(1, r.dtype)
    share = op.Where(_started(t), one * beta, one)

    def step(x: Value, g: Value, v: Value) -> Values:
        g = norm_coefficient * x + g
        v = alpha * v + share * g
        return x - r * (g + alpha * v if mode == "nesterov" else v), v

    return _each(step, tensors, 3)


formula("Adagrad", adagrad, domain=DOMAIN)
formula("Adam", adam, domain=DOMAIN)
formula("Momentum", momentum, domain=DOMAIN)
