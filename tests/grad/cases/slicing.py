"""Slicing: one row for every way of using an operator that has its own path through a rule."""

import numpy as np

from tests.grad.harness import Case, case, fed, normal

X = (2, 3, 6, 5)  # an image that is not square, so that exchanged axes show
FAR = 2**62


def value(rng, shape):
    """The padding value is a scalar."""
    return normal(rng, shape) if shape else np.float64(0.7)


def bounds(starts, ends, *more):
    """Bounds that are known at run time; how many there are is known before."""
    return [fed(v, open=False) for v in (starts, ends, *more)]


CASES: list[Case] = [
    case("Concat", (2, 3, 2), (2, 1, 2), (2, 4, 2), axis=1),
    case("Concat", (2, 3), (4, 3), axis=0),
    case("Concat", (2, 3), (2, 3), axis=-1, since=11),
    case("Split", (2, 6), axis=1, split=[1, 2, 3], outputs=3, dynamic=(0,)),
    case("Split", (2, 6), axis=1, outputs=3, until=18, dynamic=(0,)),
    case("Split", (2, 7), axis=1, num_outputs=3, outputs=3, since=18, dynamic=(0,)),
    case("Slice", (5, 6), starts=[1, 2], ends=[4, 5]),
    case("Slice", (5, 6), starts=[1], ends=[2**31 - 1], axes=[0]),
    case("Slice", (5, 6), starts=[-3], ends=[-1], axes=[1]),
    case("Slice", (5, 6), starts=[1, 5], ends=[5, -7], axes=[0, 1], steps=[2, -2], since=10, dynamic=()),
    case("Slice", (5, 6), starts=[0], ends=[6], axes=[-1], steps=[3], since=10),
    case("Pad", X, pads=[0, 0, 1, 2, 0, 0, 3, 0]),
    case("Pad", X, pads=[0, 0, -1, 2, 0, 0, 1, -1], forward="ort"),
    case("Pad", X, pads=[0, 0, 1, 2, 0, 0, 2, 3], mode="reflect", dynamic=(0,)),
    case("Pad", X, pads=[0, 0, 1, 2, 0, 0, 2, 3], mode="edge", dynamic=(0,)),
    case("Pad", X, pads=[0, 0, 1, 2, 0, 0, 2, 3], mode="wrap", since=19, dynamic=(0,)),
    case(
        "Pad", (2, 3), np.int64([1, 0, 0, 2]), (), since=11, sample=lambda r, s: normal(r, s) if s else np.float64(0.7)
    ),
    # bounds at run time
    case("Split", (2, 6), fed([1, 2, 3]), axis=1, outputs=3, since=13),
    case("Slice", (5, 6), *bounds([1, -4], [4, FAR]), since=10),
    case("Slice", (5, 6), *bounds([1, -4], [4, FAR]), np.int64([1, 0]), np.int64([2, 3]), since=10),
    case("Slice", (5, 6), *bounds([FAR, -2], [-FAR, 0]), np.int64([0, -1]), np.int64([-2, -1]), since=10),
    case("Slice", (5, 6), *bounds([-9], [3]), np.int64([1]), since=10),
    case("Slice", (5, 6), *(fed(v, np.int32, open=False) for v in ([0, 2], [4, -1], [1, 0])), since=10),
    case("Slice", (5, 6), np.int32([0]), fed([4], np.int32, open=False), np.int32([1]), since=10),
    case("Slice", (5, 6), *bounds([4], [3]), np.int64([1]), since=10),
    case("Slice", (5, 6), *bounds([1], [3]), np.int64([1]), np.int64([-1]), since=10),
    case("Slice", (5, 6), np.int64([1]), fed([4], open=False), np.int64([1]), since=10),
    case("Slice", (5, 6), *bounds([1, 5], [5, -9], [0, 1], [2, -2]), since=10),
    case("Slice", (5, 6, 2), *bounds([1], [-1], [1]), since=10),
    case("Slice", (5, 6), fed([1, 2]), fed([3, 6]), since=10),
    case("Slice", (5, 6), *bounds([1, 2], [3, 6]), None, fed([1, 3], open=False), since=10),
    # lengths at run time
    case("Slice", (2, 6, 7), starts=[0, 1], ends=[FAR, FAR], axes=[1, 2], steps=[2, 2], since=10),
    case("Slice", (2, 6, 7), starts=[-1, -2], ends=[-FAR, 0], axes=[1, 2], steps=[-1, -3], since=10),
    case("Slice", (2, 6), starts=[9], ends=[FAR], axes=[1]),
    case("Slice", (2, 6), starts=[-9], ends=[3], axes=[1]),
    *(
        case("Pad", X, pads=[0, 0, b, c, 0, 0, d, e], mode=m, since=s)
        for m, s in (("reflect", 7), ("edge", 7), ("wrap", 19))
        for b, c, d, e in ((1, 2, 2, 3), (5, 0, 0, 4), (0, 1, 1, 0))
    ),
    case("Pad", X, pads=[0, 0, -1, 2, 0, 0, 1, -1], mode="reflect", forward="ort"),
    # pads and axes at run time
    case("Pad", X, fed([0, 0, 1, 2, 0, 1, 3, 0], open=False), since=11),
    case("Pad", X, fed([0, 0, -1, 2, 0, 0, 1, -1], open=False), since=11, forward="ort"),
    case("Pad", X, np.int64([1, 2, 0, 3]), None, fed([-1, 1], open=False), since=18),
    case("Pad", X, fed([1, 2, 0, 3]), np.float32(0.5), fed([3, 1]), since=18),
    case("Pad", X, fed([1, 2, 2, 3]), None, fed([3, 2]), mode="reflect", since=18, forward="ort"),
    case("Pad", X, fed([0, 0, 1, 2, 0, 0, 2, 3], open=False), mode="edge", since=11),
    case("Pad", (2, 150), fed([0, 2, 0, 3], open=False), mode="reflect", since=11),
    case("Pad", (2, 3), fed([1, 0, 0, 2], open=False), (), since=11, sample=value),
    case("Pad", (2, 3), fed([1, 2]), (), fed([1]), since=18, sample=value),
    case("CenterCropPad", (5, 4, 3), np.int64([3, 7]), axes=[0, -2], since=18),
    case("CenterCropPad", (5, 4, 3), fed([2, 7], open=False), axes=[0, 1], since=18),
    case("CenterCropPad", (5, 4), fed([8, 1], open=False), since=18),
]  # fmt: skip
