"""Movement: one row for every way of using an operator that has its own path through a rule."""

import numpy as np

from tests.grad.harness import Case, case, fed

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
    case("Tile", (2, 3), fed([2, 3], open=False)),
    case("Tile", (2, 1, 3), np.int64([1, 3, 2]), dynamic=(0, 2)),
    case("Tile", (2, 3), fed([0, 2], open=False)),
    case("ReverseSequence", (4, 3, 2), fed([4, 1, 3]), since=10),
    case("ReverseSequence", (3, 4), np.int64([2, 4, 1]), batch_axis=0, time_axis=1, since=10),
    case("Trilu", (2, 4, 5), since=14),
    case("Trilu", (4, 3), fed(-1), upper=0, since=14),
    case("Trilu", (3, 5), np.int64(2), since=14),
    case("DepthToSpace", (2, 8, 3, 2), blocksize=2),
    case("DepthToSpace", (2, 8, 3, 2), blocksize=2, mode="CRD", since=11),
    case("DepthToSpace", (2, 8, 3, 2), blocksize=2, mode="DCR", since=11),
    case("SpaceToDepth", (2, 3, 4, 6), blocksize=2),
    case("SpaceToDepth", (2, 3, 4, 6), blocksize=2, mode="CRD", since=28),
    case("SpaceToDepth", (2, 3, 4, 6), blocksize=2, mode="DCR", since=28),
]
