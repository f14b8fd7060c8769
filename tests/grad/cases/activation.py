"""Activation: one row for every way of using an operator that has its own path through a rule."""

import numpy as np

from tests.grad.harness import Case, case, normal


def far(rng, shape):
    """Between the kinks of the saturating activations, on all of their pieces."""
    return normal(rng, shape) * 2.3


CASES: list[Case] = [
    *(case(o, (2, 7)) for o in ("Relu", "Sigmoid", "Tanh", "Softplus", "Softsign")),
    case("ThresholdedRelu", (2, 7), alpha=0.5, since=10),
    case("LeakyRelu", (2, 7), alpha=0.1),
    case("LeakyRelu", (2, 7), alpha=-0.3),
    case("PRelu", (2, 3, 4), (3, 1)),
    case("PRelu", (2, 3, 4), (1,)),
    *(case(o, (2, 7)) for o in ("Elu", "Selu")),
    case("Elu", (2, 7), alpha=0.4),
    case("Celu", (2, 7), alpha=0.4, since=12),
    case("HardSigmoid", (2, 9), sample=far),
    case("HardSigmoid", (2, 9), sample=far, alpha=1 / 6, beta=0.5),
    case("HardSwish", (2, 9), sample=far, since=14),
    case("Mish", (2, 7), since=18),
    case("Gelu", (2, 7), since=20),
    case("Gelu", (2, 7), approximate="tanh", since=20),
    case("Clip", (2, 7), min=np.float32(-0.5), max=np.float32(1.0), since=11),
    case("Clip", (2, 7), min=np.float32(0.0), max=np.float32(1.0), since=11),
    case("Clip", (2, 7), min=np.float32(-0.5), since=11),
    case("Clip", (2, 7), max=np.float32(0.5), since=11),
    case("Clip", (2, 7), min=-0.5, max=1.0, until=11),
    case("Clip", (2, 7), min=0.0, until=11),
    case("Clip", (2, 7), since=11),
    case("Clip", (2, 7), (), np.float32(1.5), since=11, sample=lambda r, s: normal(r, s) if s else np.float64(0.2)),
    case("Clip", (2, 7), np.float32(-1.5), (), since=11, sample=lambda r, s: normal(r, s) if s else np.float64(0.2)),
    case("Shrink", (2, 7), lambd=0.7, bias=0.2, since=9),
]
