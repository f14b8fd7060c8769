"""Which scalar is explained: the gradient of a score's elements, written into the graph.

Only float arithmetic: no ArgMax, OneHot, Equal or Where, which several providers lack or run on the CPU. The largest
score is found as in a max pool, the one-hot row is 1 − step(|class − target|). The trap: a runtime may compute in
bfloat16 of its own accord, as OpenVINO does, and there 285 is 284. So a class is written with two digits, base 256.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnxcam.errors import InputError, unknown
from onnxcam.grad.mask import step
from onnxcam.grad.tensor import Value, op, split
from onnxcam.inspection import Score

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]

TOP = -1  # the target that means: the class with the largest score
_BASE = 256  # whole numbers up to it are exact in bfloat16


def one_hot(score: Value, target: Value) -> Value:
    """The seed: 1 at each sample's target class, in the shape and type of `score` (N, C, …).

    `target` is int64 [1] or [N]; −1 is the top class. Elements beyond the class axis are summed.
    """
    return picked(score, target)[1][0]


def picked(score: Value, target: Value) -> tuple[Value, list[Value]]:
    """The class of each sample that `target` means, int64 [N, 1], and its seed as `one_hot` makes it."""
    sums, axis = _sums(score), 1 if score.rank > 1 else 0
    below = step(op.ReduceMax(sums, axes=[axis], keepdims=1) - sums)
    wanted = op.Unsqueeze(target, axes=list(range(1, score.rank))) if score.rank > 1 else target
    automatic = step(-_float(wanted))
    chosen = []
    for digit, given in zip(_digits(score), _split(score, wanted), strict=True):
        top = op.ReduceMin(below * float(_BASE) + digit, axes=[axis], keepdims=1)
        below = below + step(op.Abs(digit - top))
        chosen.append(automatic * top + (1 - automatic) * given)
    classes = _joined([op.Unsqueeze(x, axes=[0]) if score.rank == 1 else x for x in chosen])
    if score.rank > 2:
        classes = op.Squeeze(classes, axes=list(range(2, score.rank)))
    return classes, [_row(score, chosen)]


def best(score: Value, count: int) -> tuple[Value, list[Value]]:
    """The classes with the largest scores, best first, int64 [N, count], and a seed for each as `one_hot` makes it."""
    sums = _sums(score)
    flat = op.Squeeze(sums, axes=list(range(2, score.rank))) if score.rank > 2 else sums
    if score.rank == 1:
        flat = op.Unsqueeze(flat, axes=[0])
    size = count if flat.tape.graph.opsets[""] < 10 else [count]  # an attribute there
    _, classes = flat.tape.emit("TopK", [flat], {"K": size, "axis": 1}, 2)
    seeds = []
    for column in split(classes, 1, [1] * count) if count > 1 else [classes]:
        chosen = op.Unsqueeze(column, axes=list(range(2, score.rank))) if score.rank > 2 else column
        seeds.append(_row(score, _split(score, chosen if score.rank > 1 else op.Squeeze(chosen, axes=[0]))))
    return classes, seeds


def _classes(score: Value) -> int:
    classes = score.shape[1 if score.rank > 1 else 0]
    if not isinstance(classes, int):
        raise InputError(
            f"The number of classes of '{score.name}' is not fixed in the model. Fix it, or choose another score."
        )
    return classes


def _sums(score: Value) -> Value:
    """Sums of each class in float32, with further axes of length 1."""
    values = _float(score)
    return op.ReduceSum(values, axes=list(range(2, score.rank)), keepdims=1) if score.rank > 2 else values


def _digits(score: Value) -> list[Value]:
    """The numbers of the classes, to compare with: float digits, the highest first."""
    numbers = np.arange(_classes(score)).reshape(-1, *[1] * (score.rank - 2))
    parts = [numbers] if _classes(score) <= _BASE else [numbers // _BASE, numbers % _BASE]
    return [score.tape.constant(part, onnx.TensorProto.FLOAT) for part in parts]


def _split(score: Value, chosen: Value) -> list[Value]:
    """The digits of int64 classes."""
    if _classes(score) <= _BASE:
        return [_float(chosen)]
    high = chosen / _BASE
    return [_float(high), _float(chosen - high * _BASE)]


def _joined(digits: Sequence[Value]) -> Value:
    """The int64 class of its digits."""
    whole = [op.Cast(digit, to=onnx.TensorProto.INT64) for digit in digits]
    joined = whole[0] if len(whole) == 1 else whole[0] * _BASE + whole[1]
    return op.Max(joined, -1) if joined.tape.graph.opsets[""] >= 12 else joined  # scores that are no numbers


def _row(score: Value, chosen: Sequence[Value]) -> Value:
    """The seed of the class with the digits `chosen`: (N, 1, …), or [1] for a score without a batch."""
    digits = zip(_digits(score), chosen, strict=True)
    rows = [1 - step(op.Abs(digit - each)) for digit, each in digits]
    row = rows[0] if len(rows) == 1 else rows[0] * rows[1]
    if score.rank == 2 and score.dtype == onnx.TensorProto.FLOAT and score.tape.graph.opsets[""] >= 12:
        place = op.Squeeze(_joined(chosen), axes=[1])
        score.tape.hot[row.name] = op.Max(place, 0)  # scores that are not numbers have no place
    seed = row if score.rank < 3 else row + score.tape.constant(0, onnx.TensorProto.FLOAT) * _float(score)
    return op.Cast(seed, to=score.dtype) if score.dtype != onnx.TensorProto.FLOAT else seed


def _float(score: Value) -> Value:
    return op.Cast(score, to=onnx.TensorProto.FLOAT) if score.dtype != onnx.TensorProto.FLOAT else score


def class_index(target: int | str, score: Score, labels: tuple[str, ...] | None) -> int:
    """The class that `target` names: an index, or a name of `labels`. Raises InputError for one that is not there."""
    classes = score.classes
    if isinstance(target, str):
        wanted = target
        names = [n.casefold() for n in labels or ()]
        if names.count(target.casefold()) > 1:
            places = [i for i, n in enumerate(names) if n == target.casefold()]
            listed = ", ".join(map(str, places[:5])) + (", …" if len(places) > 5 else "")
            raise InputError(f"{len(places)} classes are called '{target}': {listed}. Give the index of one.")
        if target.casefold() in names:
            return names.index(target.casefold())
        try:
            target = int(target)
        except ValueError:
            if not wanted.strip():
                raise InputError("The target lacks a class. Give its index or its name.") from None
            if re.fullmatch(r"top[-_ ]?\d+", wanted.lower()):
                message = f"'{wanted}' is no class: 'topK' stands alone, K from 1 on. The best one is 'top'."
                raise InputError(message) from None
            if not labels:
                message = f"No class '{target}': the model brings no class names. Give an index, or a file of labels."
                raise InputError(message) from None
            raise unknown("class", wanted, labels) from None
    if isinstance(target, (bool, float)) or target < TOP or (classes is not None and target >= classes):
        last = "" if classes is None else f"0 to {classes - 1}, or "
        raise InputError(f"No class {target}. There is {last}-1 for the top class.")
    return int(target)


# ----- the same choice on what a run returned -----
def totals(score: Array) -> Floats:
    """Scores (N, C), float32: elements beyond the class axis summed, as the seed does."""
    values = np.asarray(score, np.float32)
    if values.ndim < 2:
        return values.reshape(1, -1)
    return np.asarray(values.reshape(*values.shape[:2], -1).sum(2))


def ranked(scores: Floats, classes: Ints) -> Ints:
    """Classes (N, k) with ranks resolved: −1 is the largest of the scores (N, C), −2 the second, and so on.

    Raises InputError for a class that is not there: how many there are may be known at run time only.
    """
    if max(classes.max(), TOP - classes.min()) >= scores.shape[1]:
        raise InputError(f"The model answered with {scores.shape[1]} classes, and more were asked for.")
    if (classes >= TOP).all():
        return np.where(classes < 0, scores.argmax(axis=1)[:, None], classes)
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.where(classes < 0, np.take_along_axis(order, np.maximum(-classes - 1, 0), axis=1), classes)


def top_k(target: str) -> int | None:
    """5 for "top5"; None for anything else."""
    found = re.fullmatch(r"top[-_ ]?([1-9][0-9]*)", target.lower())
    return int(found.group(1)) if found else None
