"""Sampling between pixels: one row for every way of using an operator that has its own path through a rule."""

import numpy as np

from tests.grad.harness import Case, case, fed

IMAGE, GRID = (2, 3, 4, 5), (2, 3, 4, 2)
VOLUME, GRID_3D = (2, 2, 3, 4, 3), (2, 2, 3, 2, 3)
ORT = {"forward": "ort"}  # the reference knows only the new names of the modes, and clamps cubic positions


def inside(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Values for images; for grids positions in and around them, off the kinks at whole and half pixels."""
    if shape[-1] not in (2, 3):
        return rng.standard_normal(shape)
    pixels = rng.integers(-5, 8, shape) + rng.choice([0.2, 0.3, 0.7, 0.8], shape)
    return pixels / 2.5 - 0.8 * (1 + 0.25 * np.arange(shape[-1]))


SAMPLED: list[Case] = [
    *(
        case("GridSample", IMAGE, GRID, since=16, padding_mode=p, align_corners=a, sample=inside, **ORT)
        for p in ("zeros", "border", "reflection")
        for a in (0, 1)
    ),
    *(
        case("GridSample", IMAGE, GRID, since=s, until=u, mode=m, padding_mode=p, align_corners=a, sample=inside, **ORT)
        for s, u, m in ((16, 20, "bicubic"), (20, 23, "cubic"), (16, 23, "nearest"))
        for p in ("zeros", "border", "reflection")
        for a in (0, 1)
    ),
    *(
        case("GridSample", VOLUME, GRID_3D, since=20, mode=m, padding_mode=p, sample=inside, **ORT)
        for m in ("linear", "nearest")
        for p in ("zeros", "border", "reflection")
    ),
    case("GridSample", VOLUME, GRID_3D, since=20, align_corners=1, sample=inside, **ORT),
    case("GridSample", (1, 20, 12, 11), (1, 5, 6, 2), since=16, sample=inside, **ORT),
]

# The reference rounds to float32, which a difference step of 1e-4 does not survive.
GRIDS: list[Case] = [
    case("AffineGrid", theta, size, since=20, align_corners=a, **ORT)
    for theta, d in (((2, 2, 3), [2, 3, 4, 5]), ((1, 2, 3), [1, 1, 1, 3]), ((2, 3, 4), [2, 1, 3, 4, 2]))
    for size in (np.int64(d), fed(d, open=False))
    for a in (0, 1)
]

CASES = SAMPLED + GRIDS
