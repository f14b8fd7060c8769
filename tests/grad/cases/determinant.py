"""Determinants of regular and of singular matrices."""

from tests.grad.harness import Case, case, normal


def of_rank_two(rng, shape):
    """Singular 3 by 3 matrices, whose cofactors are not 0."""
    return normal(rng, (*shape[:-1], 2)) @ normal(rng, (*shape[:-2], 2, shape[-1]))


CASES: list[Case] = [
    case("Det", (3, 3), since=11),
    case("Det", (2, 2, 4, 4), since=11),
    case("Det", (2, 1, 1), since=11, dynamic=(0, 1, 2)),
    case("Det", (2, 2, 2), since=11),
    case("Det", (2, 3, 3), since=11, sample=of_rank_two),
]
