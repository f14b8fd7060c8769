"""Resize: one row for every way of using an operator that has its own path through a rule."""

import numpy as np

from tests.grad.harness import Case, case, fed, unit

ROI = np.float32([])
SMALL, LARGE, ROW = (1, 2, 4, 5), (1, 2, 6, 8), {"dynamic": (0,)}
DOUBLE = np.float32([1, 1, 2, 3])
CROP = {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"}
FOR_NEAREST = {"coordinate_transformation_mode": "tf_half_pixel_for_nn"}
SYMMETRIC = {"coordinate_transformation_mode": "half_pixel_symmetric"}
FACTOR = fed([1, 1, 1.5, 0.6], np.float32)
BOTH = fed([1.5, 0.4], np.float32)
ORT = {"forward": "ort"}  # the reference has no Resize-10, no linear Upsample, and takes lengths that are not whole

CONSTANT: list[Case] = [
    *(
        case("Resize", SMALL, ROI, np.float32([1, 1, f, f]), since=11, mode=m, coordinate_transformation_mode=c, **ORT)
        for f in (2.0, 0.6, 2.7)
        for m in ("nearest", "linear", "cubic")
        for c in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
    ),
    *(
        case("Resize", SMALL, None, np.float32([1, 1, 1.7, 0.7]), since=19, mode=m, **c)
        for m in ("linear", "cubic")
        for c in (SYMMETRIC, {"antialias": 1})
    ),
    *(
        case("Resize", SMALL, None, np.float32([1, 1, 1.7, 0.7]), since=13, nearest_mode=n)
        for n in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    ),
    case(
        "Resize",
        SMALL,
        ROI,
        DOUBLE,
        since=11,
        until=13,
        **{**ORT, "coordinate_transformation_mode": "tf_half_pixel_for_nn"},
    ),
    *(
        case("Resize", SMALL, ROI, DOUBLE, since=11, mode="nearest", nearest_mode=n, coordinate_transformation_mode=c)
        for c, n in (("asymmetric", "floor"), ("half_pixel", "round_prefer_floor"))
    ),
    case("Resize", (2, 3, 4), None, np.float32([2, 3, 2]), since=13),
    case("Resize", (1, 2, 3, 2, 3, 2), None, np.float32([1, 1, 2, 1, 3, 2]), since=13),
    case("Resize", (1, 2, 3, 4, 2), None, np.float32([1, 1, 2, 0.5, 1.5]), since=13, mode="linear"),
    case("Resize", (1, 1, 3, 4), None, np.float32([1, 1, 0.4, 0.3]), since=13, mode="linear", **ORT),  # to one element
    case("Resize", SMALL, None, np.float32([1, 1, 1.1, 1.1]), since=13, mode="linear"),  # another scale, the same size
    case("Resize", SMALL, ROI, ROI, np.int64([1, 2, 7, 3]), since=11, until=13, mode="linear"),
    case("Resize", SMALL, None, None, np.int64([1, 2, 7, 3]), since=13, mode="linear"),
    case("Resize", SMALL, None, None, np.int64([3, 7]), since=18, mode="cubic", axes=[-1, -2], **ORT),
    *(
        case("Resize", SMALL, None, None, np.int64(s), since=18, mode="linear", axes=[2, 3], keep_aspect_ratio_policy=p)
        for s in ([7, 7], [3, 2])
        for p in ("not_larger", "not_smaller")
    ),
    # The reference implementation of antialias differs from the runtime's at the borders.
    case("Resize", LARGE, ROI, np.float32([1, 1, 0.5, 0.5]), since=18, mode="linear", antialias=1, **ORT),
    case("Resize", LARGE, ROI, np.float32([1, 1, 0.6, 0.7]), since=18, mode="cubic", antialias=1, exclude_outside=1),
    case("Resize", SMALL, None, np.float32([1, 1, 1.7, 0.7]), since=13, mode="cubic", exclude_outside=1),
    case("Resize", SMALL, None, np.float32([1, 1, 1.7, 0.7]), since=13, mode="cubic", cubic_coeff_a=-0.5),
    case("Resize", SMALL, DOUBLE, since=10, until=11, mode="nearest", **ORT),
    case("Resize", SMALL, DOUBLE, since=10, until=11, mode="linear", **ORT),
    case("Resize", LARGE, np.float32([1, 1, 0.6, 0.4]), since=10, until=11, mode="nearest", **ORT),
    case("Upsample", SMALL, scales=DOUBLE, until=10, mode="nearest", **ORT),
    case("Upsample", SMALL, scales=DOUBLE, since=9, until=10, mode="linear", **ORT),
    case("Upsample", SMALL, scales=DOUBLE, until=9, mode="linear", **ORT, **ROW),
    case("Upsample", SMALL, scales=np.float32([1, 1, 1.5, 2.5]), since=9, until=10, mode="nearest", **ORT),
]

COMPUTED: list[Case] = [
    *(case("Resize", SMALL, None, FACTOR, wrt=(0,), since=13, mode=m) for m in ("nearest", "linear", "cubic")),
    *(
        case("Resize", SMALL, None, FACTOR, wrt=(0,), since=13, mode="linear", coordinate_transformation_mode=c, **ORT)
        for c in ("asymmetric", "align_corners", "pytorch_half_pixel")
    ),
    case(
        "Resize",
        SMALL,
        None,
        FACTOR,
        wrt=(0,),
        since=19,
        mode="cubic",
        **SYMMETRIC,
    ),
    case("Resize", SMALL, None, BOTH, wrt=(0,), since=18, mode="cubic", antialias=1, axes=[2, 3]),
    case("Resize", SMALL, None, FACTOR, wrt=(0,), since=13, mode="cubic", exclude_outside=1),
    case("Resize", SMALL, ROI, ROI, fed([1, 2, 7, 3], open=False), wrt=(0,), since=11, until=13, mode="linear"),
    case(
        "Resize",
        SMALL,
        None,
        None,
        fed([1, 2, 7, 3], open=False),
        wrt=(0,),
        since=13,
        mode="nearest",
        nearest_mode="floor",
    ),
    case("Resize", SMALL, None, None, fed([1, 2, 1, 1], open=False), wrt=(0,), since=13, mode="linear", **ORT),
    *(
        case(
            "Resize",
            SMALL,
            None,
            None,
            fed([7, 7], open=False),
            wrt=(0,),
            since=18,
            mode="linear",
            axes=[3, 2],
            keep_aspect_ratio_policy=p,
        )
        for p in ("not_larger", "not_smaller")
    ),
    case("Resize", SMALL, fed([1, 1, 1.5, 0.6], np.float32), wrt=(0,), since=10, until=11, mode="linear", **ORT),
    case("Upsample", SMALL, fed([1, 1, 1.5, 2], np.float32), wrt=(0,), since=9, until=10, mode="nearest", **ORT),
]

# Regions inside the image and around it, with and without what lies outside; their corners carry a gradient too.
REGIONS: list[Case] = [
    case("Resize", SMALL, np.float32([0.1, 0.3, 0.8, 1.2]), None, np.int64([6, 5]), since=18, axes=[2, 3], **CROP),
    *(
        case("Resize", SMALL, (4,), None, np.int64([6, 5]), since=18, axes=[2, 3], sample=unit, **{**CROP, "mode": m})
        for m in ("nearest", "linear", "cubic")
    ),
    case(
        "Resize",
        SMALL,
        (4,),
        None,
        fed([4, 1], open=False),
        since=18,
        axes=[3, 2],
        sample=unit,
        extrapolation_value=0.5,
        **CROP,
    ),
]

CASES = CONSTANT + COMPUTED + REGIONS
