"""Cumulative: one row for every way of using an operator that has its own path through a rule."""

import numpy as np

from tests.grad.harness import Case, case, fed, normal


def with_zeros(rng, shape):
    """One 0 in the first row, two in the second, none in the third."""
    values = normal(rng, shape)
    for place in ((0, 2), (1, 1), (1, 3)):
        values[place] = 0
    return values


def scalars(rng, shape):
    """A start or a step; either way the limit lies well between two elements."""
    return np.asarray(rng.uniform(0.55, 0.6))


WAYS = [{"exclusive": e, "reverse": r} for e in (0, 1) for r in (0, 1)]

CASES: list[Case] = [
    *(case("CumSum", (3, 5), fed(axis), **way, since=11) for axis in (0, -1) for way in WAYS),
    case("CumSum", (3, 5), np.int32(1), since=11),
    *(case("CumProd", (3, 5), fed(axis), **way, since=26) for axis in (0, -1) for way in WAYS),
    case("Range", (), np.float32(3.1), (), since=11, sample=scalars),
    case("Range", (), np.float32(-3.1), np.float32(-0.7), since=11, sample=scalars),
    *(case("CumProd", (3, 5), np.int64(1), **way, since=26, sample=with_zeros) for way in WAYS),
]
