"""Resize: one row for every way of using an operator that has its own path through a rule."""

import numpy as np

from tests.grad.harness import Case, case

ROI = np.float32([])
SMALL, LARGE, ROW = (1, 2, 4, 5), (1, 2, 6, 8), {"dynamic": (0,)}
DOUBLE = np.float32([1, 1, 2, 3])
CASES: list[Case] = [
    *(
        case("Resize", SMALL, ROI, np.float32([1, 1, f, f]), since=11, mode=m, coordinate_transformation_mode=c, **ROW)
        for f in (2.0, 0.6, 2.6)
        for m in ("nearest", "linear", "cubic")
        for c in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
    ),
    *(
        case("Resize", SMALL, ROI, DOUBLE, since=11, mode="nearest", nearest_mode=n, coordinate_transformation_mode=c)
        for c, n in (("asymmetric", "floor"), ("half_pixel", "round_prefer_floor"))
    ),
    case("Resize", SMALL, ROI, ROI, np.int64([1, 2, 7, 3]), since=11, until=13, mode="linear", dynamic=()),
    case("Resize", SMALL, None, None, np.int64([1, 2, 7, 3]), since=13, mode="linear", dynamic=()),
    # The reference implementation of antialias differs from the runtime's at the borders.
    case(
        "Resize", LARGE, ROI, np.float32([1, 1, 0.5, 0.5]), since=18, mode="linear", antialias=1, forward="ort", **ROW
    ),
    case(
        "Resize",
        LARGE,
        ROI,
        np.float32([1, 1, 0.6, 0.7]),
        since=18,
        mode="cubic",
        antialias=1,
        exclude_outside=1,
        **ROW,
    ),
    # The reference has no Resize-10 and no linear Upsample.
    case("Resize", SMALL, DOUBLE, since=10, until=11, mode="nearest", forward="ort"),
    case("Resize", SMALL, DOUBLE, since=10, until=11, mode="linear", forward="ort", **ROW),
    case("Upsample", SMALL, scales=DOUBLE, since=9, until=10, mode="nearest"),
    case("Upsample", SMALL, scales=DOUBLE, since=9, until=10, mode="linear", forward="ort", **ROW),
]
