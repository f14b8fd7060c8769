"""Which scalar is explained: the gradient of a score's elements, written into the graph."""

import re
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.choice import FLOAT, INT32, INT64, elect, equal, least, numbers, reshaped, row, total
from onnxcam.errors import InputError, unknown
from onnxcam.grad.shapes import as_type
from onnxcam.grad.tensor import Value, op, split
from onnxcam.inspection import Score

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]

TOP = -1  # the target that means: the class with the largest score


def picked(score: Value, target: Value) -> tuple[Value, list[Value]]:
    """The class of each sample that `target` means, int64 [N, 1], and its seed.

    `target` is int64 [1] or [N]; −1 is the top class: that with the largest sum over what is beyond the class axis.
    """
    cls = elect(_sums(score), _axis(score), row(target, score.rank))
    classes = reshaped(cls, 2)
    return op.Cast(least(classes, TOP), to=INT64), [one_hot(score, least(cls, 0))]


def best(score: Value, count: int) -> tuple[Value, list[Value]]:
    """The classes with the largest scores, best first, int64 [N, count], and a seed for each."""
    sums = _sums(score)
    flat = op.Squeeze(sums, axes=list(range(2, score.rank))) if score.rank > 2 else sums
    if score.rank == 1:
        flat = op.Unsqueeze(flat, axes=[0])
    size = count if flat.tape.graph.opsets[""] < 10 else [count]  # an attribute there
    _, classes = flat.tape.emit("TopK", [flat], {"K": size, "axis": 1}, 2)
    narrow = op.Cast(classes, to=INT32)
    columns = split(narrow, 1, [1] * count) if count > 1 else [narrow]
    return classes, [one_hot(score, reshaped(x, score.rank)) for x in columns]


def one_hot(score: Value, cls: Value) -> Value:
    """The seed: 1 at the class `cls`, int32 [N, 1, …] from 0 on, in the shape and type of `score` (N, C, …)."""
    hot = equal(numbers(score, _axis(score)), cls)
    if score.rank == 2 and score.dtype == FLOAT and score.tape.graph.opsets[""] >= 12:
        score.tape.hot[hot.name] = reshaped(cls, 1)
    seed = hot if score.rank < 3 else hot + score.tape.constant(0, FLOAT) * as_type(score, FLOAT)
    return as_type(seed, score.dtype)


def _axis(score: Value) -> int:
    """The axis of the classes."""
    return 1 if score.rank > 1 else 0


def _sums(score: Value) -> Value:
    """Sums of each class in float32, with further axes of length 1."""
    values = as_type(score, FLOAT)
    return total(values, range(2, score.rank)) if score.rank > 2 else values


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
            if pair := re.fullmatch(r"(\d+)([+-])(\d+)", wanted):
                message = f"No class '{wanted}'. With spaces it is a sum of targets: '{' '.join(pair.groups())}'."
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
