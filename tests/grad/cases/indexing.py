"""Indexing: one row for every way of using an operator that has its own path through a rule."""

import numpy as np

from tests.grad.harness import Case, case, fed, normal


def with_zeros(rng, shape):
    """Every third element is 0."""
    values = normal(rng, shape)
    values.reshape(-1)[::3] = 0
    return values


def tied(rng, shape):
    """Far from each other, so that no maximum changes within a difference step."""
    return normal(rng, shape) * 3


ROWS = [[3, 0, 3], [1, 4, 4]]  # indices that repeat
LONG = [3, 150, 0, 150, 199]
PLACES = [[0, 2, 1], [2, 0, 0]]  # indices along the middle axis of (2, 3, …) that are distinct or repeat
NEGATIVE = [[-1, 0, -2], [1, -3, -3]]
TUPLES = [[0, 2], [1, 0], [1, 2]]
MASK = [True, False, True, True, False]

CASES: list[Case] = [
    # Gather
    case("Gather", (5, 6), fed([3, 0, 4]), axis=0),
    case("Gather", (5, 6), fed([3, 0, 3]), axis=1),
    case("Gather", (6,), fed([3, 0, 3])),
    case("Gather", (2, 5, 3), fed(ROWS), axis=1),
    case("Gather", (5, 6), fed(ROWS, np.int32), axis=0),
    case("Gather", (2, 5, 6), fed(-2), axis=-2, since=11),
    case("Gather", (200, 3), fed(LONG)),
    case("Gather", (3, 200), fed(LONG), axis=1),
    case("Gather", (2, 200, 3), fed([[-1, 7], [7, 0]]), axis=1, since=11),
    case("Gather", (2, 5, 3), np.int64([0, -1, 2, 2]), axis=1, since=11),
    case("Gather", (2, 5, 3), np.int64(-1), axis=1, since=11),
    case("Gather", (2, 5, 3), np.int64([2, 1]), axis=1),
    # GatherElements, GatherND
    case("GatherElements", (2, 3, 4), fed(np.int64(PLACES)[:, :, None].repeat(4, 2)), axis=1, since=11),
    case("GatherElements", (2, 3), fed(NEGATIVE), axis=-1, since=11),
    case("GatherElements", (3, 4), fed([[1, 2, 0]]), axis=0, since=11, forward="ort"),
    case("GatherElements", (3, 4), np.int64([[1, 1, 0], [1, -1, 0]]), axis=0, since=11, forward="ort"),
    case("GatherElements", (2, 3), np.int64(NEGATIVE), axis=1, since=11),
    *(
        case("GatherND", (2, 3, 4), i, since=11)
        for i in (fed(TUPLES, open=False), fed([[-1, 1], [-1, 1]], open=False), fed([[[1], [1]]], open=False))
    ),
    case("GatherND", (2, 3, 4), np.int64([[1, 2, 3], [0, 0, -1]]), since=11),
    case("GatherND", (2, 3, 4), fed([[1], [2]], open=False), batch_dims=1, since=12),
    case("GatherND", (2, 3, 4, 2), fed([[[0], [2], [0]], [[3], [1], [1]]], open=False), batch_dims=2, since=12),
    case("GatherND", (2, 20, 20), fed([[[19, 0], [19, 0]], [[3, 3], [3, 4]]], open=False), batch_dims=1, since=12),
    # scattering
    *(
        case("ScatterElements", (2, 3, 4), fed(np.int64(i)[:, :, None]), (2, 3, 1), axis=1, since=11)
        for i in ([[0, 2, 1], [2, 0, 1]], [[-1, 0, 1], [1, 0, 2]])
    ),
    case("ScatterElements", (4, 3), np.int64([[1, 0, 2], [3, 2, -4]]), (2, 3), since=11),
    case("Scatter", (4, 3), fed([[1, 0, 2], [3, 2, 0]]), (2, 3), axis=0, since=9, until=11, forward="ort"),
    case("Scatter", (3, 4), fed([[1, 0], [3, 2]]), (2, 2), axis=1, since=9, until=11, dynamic=(1,), forward="ort"),
    case("ScatterElements", (2, 3), fed(PLACES), (2, 3), axis=1, reduction="add", since=16),
    case("ScatterElements", (2, 3), fed(PLACES), (2, 3), axis=1, reduction="mul", since=16),
    case("ScatterElements", (2, 3), fed(PLACES), (2, 3), axis=1, reduction="mul", since=16, sample=with_zeros),
    *(
        case("ScatterElements", (3, 4), fed(PLACES), (2, 3), axis=0, reduction=r, since=18, sample=tied)
        for r in ("max", "min")
    ),
    case("ScatterND", (2, 3, 4), fed(TUPLES, open=False), (3, 4), since=11),
    case("ScatterND", (4, 3), fed([[[-1], [1]]], open=False), (1, 2, 3), since=11),
    *(
        case("ScatterND", (2, 3, 4), fed([*TUPLES, [1, -1]], open=False), (4, 4), reduction=r, since=16)
        for r in ("add", "mul")
    ),
    case("ScatterND", (2, 3), fed([*TUPLES, [1, 2]], open=False), (4,), reduction="mul", since=16, sample=with_zeros),
    *(
        case("ScatterND", (4, 3), fed([[1], [3], [1]], open=False), (3, 3), reduction=r, since=18, sample=tied)
        for r in ("max", "min")
    ),
    case("TensorScatter", (2, 3, 4, 5), (2, 3, 2, 5), fed([1, 2]), since=24),
    case("TensorScatter", (2, 3, 4, 5), (2, 3, 2, 5), fed([1, 3]), mode="circular", since=24),
    case("TensorScatter", (2, 4, 5), (2, 3, 5), axis=1, since=24),
    case("TensorScatter", (2, 4, 5), (2, 4, 2), fed([0, 3]), axis=-1, since=24),
    # choices
    case("Compress", (3, 5), fed(MASK, bool), axis=1, since=9),
    case("Compress", (3, 5), fed(MASK[:3], bool), axis=-2, since=11),
    case("Compress", (3, 5), fed(MASK[:3], bool), axis=0, since=9),
    case("Compress", (3, 5), fed([*MASK, *MASK], bool), since=9),
    case("Compress", (3, 5), np.array(MASK), axis=1, since=9),
    case("Compress", (3, 5), fed([False] * 3, bool), axis=0, since=9),
    case("TopK", (3, 5), K=[2], axis=1, outputs=2, since=10),
    case("TopK", (3, 5), k=2, axis=1, outputs=2, until=10),
    case("TopK", (3, 5), K=fed([2]), axis=0, outputs=2, since=10),
    case("TopK", (3, 5, 2), K=[3], axis=1, largest=0, sorted=0, outputs=2, since=11, forward="ort"),
    case("OneHot", fed([0, 2, 5, 1]), np.int64(4), (2,), since=9),
    case("OneHot", fed([[0, -1], [2, 7]]), fed(4), (2,), axis=1, since=11),
    case("Unique", (6,), since=11),
    case("Unique", (2, 3), since=11, sorted=0, forward="ort"),
    case("Unique", (3, 4), axis=1, since=11),
    case("MaxUnpool", (1, 2, 2, 2), fed([[[[5, 7], [13, 15]], [[16, 18], [25, 27]]]]), kernel_shape=[2, 2],
         strides=[2, 2], since=9),
    case("MaxUnpool", (1, 1, 2, 2), fed([[[[0, 2], [2, 8]]]]), kernel_shape=[2, 2], since=9),
    case("MaxUnpool", (1, 1, 2, 2), fed([[[[0, 2], [7, 24]]]]), fed([1, 1, 5, 5], open=False), kernel_shape=[2, 2],
         strides=[2, 2], since=9, forward="ort"),
]  # fmt: skip
