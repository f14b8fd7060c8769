"""DeformConv: one row for every way of using it that has its own path through its rules."""

import numpy as np

from tests.grad.harness import Case, case


def between(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Values that are well off whole numbers, where positions have kinks."""
    return rng.integers(-2, 2, shape) + rng.choice([0.2, 0.3, 0.7, 0.8], shape)


X, W = (2, 4, 5, 6), (6, 4, 3, 2)
ROW = {"since": 19, "sample": between, "forward": "ort"}  # the reference takes seconds
CASES: list[Case] = [
    case("DeformConv", (1, 2, 4, 3), (2, 2, 2, 2), (1, 8, 3, 2), since=19, sample=between),
    case("DeformConv", X, W, (2, 12, 3, 5), **ROW),
    case("DeformConv", X, W, (2, 12, 3, 5), (6,), (2, 6, 3, 5), **ROW),
    case("DeformConv", X, W, (2, 12, 3, 4), None, (2, 6, 3, 4), strides=[2, 2], pads=[1, 1, 1, 1], **ROW),
    case("DeformConv", X, W, (2, 12, 3, 5), pads=[1, 0, 1, 1], dilations=[2, 2], kernel_shape=[3, 2], **ROW),
    case("DeformConv", X, (6, 2, 3, 2), (2, 12, 3, 5), (6,), group=2, **ROW),
    case("DeformConv", X, (6, 2, 3, 2), (2, 24, 3, 5), None, (2, 12, 3, 5), group=2, offset_group=2, **ROW),
    case("DeformConv", X, (8, 1, 3, 2), (2, 24, 3, 5), None, (2, 12, 3, 5), group=4, offset_group=2, **ROW),
    case("DeformConv", X, W, (2, 48, 3, 5), offset_group=4, **ROW),
]
