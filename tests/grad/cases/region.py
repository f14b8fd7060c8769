"""Pools over regions: one row for every way of using an operator that has its own path through a rule."""

import numpy as np

from tests.grad.harness import Case, case, fed, normal

X, R = (2, 3, 8, 7), (5, 4)
ROIS = np.array([[1, 2.2, 9.3, 12.7], [-3, -2.3, 5.6, 4], [0, 0, 20.4, 22.6], [3, 3, 2, 2], [4, 4, 4.5, 4.2]]) + 0.13
BATCH = np.int64([0, 1, 1, 0, 1])
# The first number of a region is its image; the last one has its end before its start.
WHOLE = np.float32([[0, 1, 2, 9, 12], [1, -2, -3, 6, 5], [1, 0, 0, 30, 25], [0, 3, 3, 3, 3], [1, 7, 6, 2, 2]])


def regions(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """An image, or regions inside it, across its edge, far around it, tiny, and with the end before the start."""
    return ROIS if shape == R else normal(rng, shape)


POOL = {"output_height": 3, "output_width": 2, "spatial_scale": 0.5, "sample": regions, "until": 22}
OUTER = {"coordinate_transformation_mode": "output_half_pixel"}
MAX_POOL = {"since": 9, "until": 22, "forward": "ort"}
CASES: list[Case] = [
    *(
        case("RoiAlign", X, R, BATCH, since=16, mode=m, sampling_ratio=s, **POOL)
        for m in ("avg", "max")
        for s in (0, 1, 3)
    ),
    *(
        case("RoiAlign", X, R, BATCH, **{**POOL, "since": 10, "until": 16, "forward": "ort", "mode": m})
        for m in ("avg", "max")
    ),
    *(
        case("RoiAlign", X, R, b, since=16, mode=m, **POOL, **OUTER)
        for m in ("avg", "max")
        for b in (BATCH, fed(BATCH))
    ),
    *(case("MaxRoiPool", X, WHOLE, pooled_shape=[3, 2], spatial_scale=s, **MAX_POOL) for s in (1.0, 0.5)),
    case("MaxRoiPool", X, WHOLE[:1], pooled_shape=[1, 1], **MAX_POOL),
]
