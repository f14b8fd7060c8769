"""Movement: one row for every way of using an operator that has its own path through a rule."""

import numpy as np

from tests.grad.harness import Case, case, normal

X = (2, 3, 6, 5)  # an image that is not square, so that exchanged axes show

CASES: list[Case] = [
    case("Reshape", (2, 3, 4), np.int64([4, 6])),
    case("Reshape", (2, 3, 4), np.int64([0, -1]), dynamic=(0,)),
    case("Flatten", X, axis=1),
    case("Flatten", X, axis=0),
    case("Transpose", (2, 3, 4), perm=[1, 2, 0]),
    case("Transpose", (2, 3, 4)),
    case("Squeeze", (2, 1, 3, 1), axes=[1, 3], dynamic=(0,)),
    case("Squeeze", (2, 1, 3), dynamic=()),
    case("Unsqueeze", (2, 3), axes=[0, 2]),
    case("Expand", (3, 1), np.int64([2, 3, 4]), since=8, dynamic=()),
    case("Tile", (2, 3), np.int64([2, 3])),
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
    case("DepthToSpace", (2, 8, 3, 2), blocksize=2),
    case("DepthToSpace", (2, 8, 3, 2), blocksize=2, mode="CRD", since=11),
    case("DepthToSpace", (2, 8, 3, 2), blocksize=2, mode="DCR", since=11),
    case("SpaceToDepth", (2, 3, 4, 6), blocksize=2),
    case("Gather", (5, 6), np.int64([3, 0, 4]), axis=0, dynamic=(1,)),
    case("Gather", (5, 6), np.int64([3, 0, 3]), axis=1, dynamic=(0,)),
    case("Gather", (2, 5, 6), np.int64(-2), axis=1, dynamic=(0,)),
    case("Gather", (2, 5, 3), np.int64([[1, 1], [0, 4]]), axis=1, dynamic=(0,)),
]
