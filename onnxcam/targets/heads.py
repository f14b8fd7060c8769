"""The outputs of detectors in one form: scores (N, boxes, classes), corners, and the way back for a seed."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from onnxcam.choice import FLOAT, HUGE, INT32, equal, floats, numbers, softmax, total
from onnxcam.errors import InputError
from onnxcam.grad.shapes import as_type
from onnxcam.grad.tensor import Value, op
from onnxcam.inspection import Boxes
from onnxcam.targets.goal import Array, Scene


@dataclass(frozen=True)
class Candidates:
    """What a detector offers.

    scores: (N, boxes, classes), what is explained. certainty: the same in 0..1, to choose by. labels: int32 (N, boxes,
    1), the class of each box where `scores` has one column for all. back: a seed of `scores` as one of the score.
    """

    scores: Value
    certainty: Value
    back: Callable[[Value], Value]
    labels: Value | None = None


def candidates(scene: Scene) -> Candidates:
    """Read the score of a detector. Raises InputError for another one."""
    if scene.score.boxes is None:
        raise InputError(f"'{scene.score.tensor}' is not the output of a detector: there is no box to explain.")
    return _READERS[scene.score.boxes.layout](scene, scene.score.boxes)


def _rows(scene: Scene, boxes: Boxes) -> Candidates:
    """(N, boxes, 4 + objectness + classes): y = objectness · class."""
    z = scene.z
    sure, classes = _cut(z, 2, 4, 5), _cut(z, 2, 5, _end(z, 2, 5, boxes))
    rest = _after(z, 2, 5, boxes)

    def back(seed: Value) -> Value:
        to_sure = total(seed * classes, [2])
        return op.Concat(_zeros(to_sure, 2, 4), to_sure, seed * sure, *_padding(to_sure, 2, rest), axis=2)

    return Candidates(sure * classes, sure * classes, back)


def _columns(scene: Scene, boxes: Boxes) -> Candidates:
    """(N, 4 + classes, boxes)."""
    z = scene.z
    scores = op.Transpose(_cut(z, 1, 4, _end(z, 1, 4, boxes)), perm=[0, 2, 1])
    rest = _after(z, 1, 4, boxes)

    def back(seed: Value) -> Value:
        turned = op.Transpose(seed, perm=[0, 2, 1])
        one = total(turned, [1])
        return op.Concat(_zeros(one, 1, 4), turned, *_padding(one, 1, rest), axis=1)

    return Candidates(scores, scores, back)


def _list(scene: Scene, boxes: Boxes) -> Candidates:
    """(N, boxes, 6 or more): corners, score, class."""
    z = scene.z
    column = z.tape.constant(np.eye(int(z.shape[2]))[4], FLOAT)
    scores = _cut(z, 2, 4, 5)
    return Candidates(scores, scores, lambda seed: seed * column, as_type(_cut(z, 2, 5, 6), INT32))


def _apart(scene: Scene, boxes: Boxes) -> Candidates:
    """(N, boxes, classes), or (N, classes, boxes), beside the coordinates."""
    z, turned = scene.z, boxes.layout == "classes first"
    scores = op.Transpose(z, perm=[0, 2, 1]) if turned else z
    shared = scene.score.activation == "softmax" or boxes.background is not None
    certainty = softmax(scores, 2) if shared else op.Sigmoid(scores)
    if boxes.background is not None:
        certainty = certainty * (1 - equal(numbers(scores, 2), boxes.background))
    return Candidates(scores, certainty, lambda seed: op.Transpose(seed, perm=[0, 2, 1]) if turned else seed)


def _certain(scene: Scene, boxes: Boxes) -> Candidates:
    """(N, boxes, classes), as certain as they are."""
    certainty = scene.z
    if boxes.background is not None:
        certainty = certainty * (1 - equal(numbers(certainty, 2), boxes.background))
    return Candidates(scene.z, certainty, lambda seed: seed)


def _few(scene: Scene, boxes: Boxes) -> Candidates:
    """(boxes,) or (N, boxes): those that the graph has chosen, with a tensor of class numbers."""
    scores = op.Unsqueeze(scene.z, axes=[2])
    labels = op.Unsqueeze(_batched(as_type(scene.y.tape.value(boxes.labels), INT32), 2), axes=[2])
    return Candidates(scores, scores, lambda seed: op.Squeeze(seed, axes=[2]), labels)


_READERS: dict[str, Callable[[Scene, Boxes], Candidates]] = {
    "rows": _rows,
    "columns": _columns,
    "list": _list,
    "apart": _apart,
    "classes first": _apart,
    "few": _few,
    "certain": _certain,
}


def corners(scene: Scene) -> Value:
    """Left, top, right and bottom of each box in pixels of the model's input, (N, boxes, 4).

    Where nothing tells what the coordinates are they come as they are: overlaps and order do not depend on it.
    """
    boxes = scene.score.boxes
    assert boxes is not None  # noqa: S101 - `candidates` has refused other scores
    z = _batched(floats(scene.y.tape.value(boxes.corners)), 3)
    z = op.Transpose(z, perm=[0, 2, 1]) if boxes.layout == "columns" else z
    a, b, c, d = (_cut(z, 2, i, i + 1) for i in range(4))
    if boxes.cells:
        x, y, step = (z.tape.constant(column, FLOAT) for column in _grids(boxes))
        a, b, c, d = (a + x) * step, (b + y) * step, op.Exp(c) * step, op.Exp(d) * step
    if boxes.form == "cxcywh":
        a, b, c, d = a - c * 0.5, b - d * 0.5, a + c * 0.5, b + d * 0.5
    elif boxes.form == "yxyx":
        a, b, c, d = b, a, d, c
    joined = op.Concat(a, b, c, d, axis=2)
    return joined * op.Concat(scene.extent, scene.extent, axis=0) if boxes.unit == "fractions" else joined


def _grids(boxes: Boxes) -> tuple[Array, ...]:
    """Column, row and pixels of a step, (1, boxes, 1) each, of the cells that boxes are offset from."""
    rows = [(x, y, step) for h, w, step in boxes.cells for y in range(h) for x in range(w)]
    return tuple(np.asarray(column, np.float32)[None, :, None] for column in zip(*rows, strict=True))


def overlap(a: Value, b: Value) -> Value:
    """Intersection over union of boxes (N, boxes, 4) and (N or 1, 1, 4): (N, boxes, 1)."""
    left, top, right, bottom = (_cut(a, 2, i, i + 1) for i in range(4))
    left_, top_, right_, bottom_ = (_cut(b, 2, i, i + 1) for i in range(4))
    width = op.Relu(op.Min(right, right_) - op.Max(left, left_))
    height = op.Relu(op.Min(bottom, bottom_) - op.Max(top, top_))
    both = op.Abs((right - left) * (bottom - top)) + op.Abs((right_ - left_) * (bottom_ - top_))
    inside = width * height
    return inside / op.Clip(both - inside, min=1e-9, max=HUGE)


def _batched(x: Value, rank: int) -> Value:
    return x if x.rank == rank else op.Unsqueeze(x, axes=[0])


def _cut(x: Value, axis: int, start: int, end: int) -> Value:
    return op.Slice(x, starts=[start], ends=[end], axes=[axis])


def _end(z: Value, axis: int, start: int, boxes: Boxes) -> int:
    size = z.shape[axis]
    return start + boxes.classes if boxes.classes is not None else int(size)


def _after(z: Value, axis: int, start: int, boxes: Boxes) -> int:
    """How many columns come after the classes: masks, keypoints, angles."""
    return int(z.shape[axis]) - _end(z, axis, start, boxes)


def _zeros(beside: Value, axis: int, count: int) -> Value:
    """`count` columns of zeros beside one column."""
    shape = [1, 1, 1]
    shape[axis] = count
    return beside * beside.tape.constant(np.zeros(shape), FLOAT)


def _padding(beside: Value, axis: int, count: int) -> list[Value]:
    return [_zeros(beside, axis, count)] if count else []
