"""What the caller wants explained: one target for all samples, several for each, or one for each sample.

Plain classes of a row of scores are numbers that a run takes; every other target is a `Goal`, written into the graph.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from onnxcam.errors import InputError
from onnxcam.inspection import Score
from onnxcam.target import TOP, class_index, top_k
from onnxcam.targets.boxes import Box
from onnxcam.targets.classes import Class, Finer, LogOdds, Probability, Sum
from onnxcam.targets.goal import TARGET, Array, Goal
from onnxcam.targets.places import Masked, Point, Rectangle, Region
from onnxcam.targets.sequences import Character, Step
from onnxcam.targets.text import ARRAYS, GRAMMAR, Files, Reader
from onnxcam.targets.vectors import Similarity, Towards, Weighted

__all__ = [
    "GRAMMAR", "Box", "Character", "Class", "Files", "Finer", "Goal", "LogOdds", "Masked", "Point", "Probability",
    "Rectangle", "Region", "Similarity", "Step", "Sum", "Target", "Targets", "Towards", "Weighted", "is_local",
    "read_targets",
]  # fmt: skip

Target = int | str | Goal | Sequence[int | str | Goal] | None


@dataclass(frozen=True)
class Targets:
    """Rows of classes: `same` for every sample, or one row for each; −k−1 is the class of rank k.

    With `goals`, what is written into the graph for each row of a sample, and `inputs`, the values of their inputs,
    [1, …] for all samples or [N, …].
    """

    same: tuple[int, ...] = (TOP,)
    each: tuple[int, ...] | None = None
    goals: tuple[Goal, ...] = ()
    inputs: Mapping[str, Array] = field(default_factory=dict)

    @property
    def best(self) -> int:
        """The number of classes where the best of every sample are wanted, in order; 0 where others are."""
        ranks = tuple(TOP - i for i in range(len(self.same)))
        return len(ranks) if self.each is None and len(ranks) > 1 and self.same == ranks else 0

    def rows(self, count: int) -> list[list[int]]:
        """Classes for each of `count` samples. Raises InputError where another number of them was given."""
        if self.each is None:
            return [list(self.same)] * count
        if len(self.each) != count:
            raise InputError(f"{len(self.each)} targets for {count} samples: give one for each, or one for all.")
        return [[c] for c in self.each]

    def given(self, start: int, stop: int) -> dict[str, Array]:
        """The inputs of samples `start` to `stop`."""
        if self.each is None:
            return {k: np.repeat(v, stop - start, axis=0) for k, v in self.inputs.items()}
        return {k: v[start:stop] for k, v in self.inputs.items()}


def read_targets(target: Target, score: Score, labels: Sequence[str] | None, files: Files = ARRAYS) -> Targets:
    """Understand a target. Raises InputError for a class that is not there, or what is no target at all."""
    names = tuple(labels) if labels else None
    reader = Reader(score, names, files)
    if target is None:
        return Targets() if _is_plain(score) else _aimed([reader.default()])
    if isinstance(target, (str, int, np.integer)) or _is_goal(target):
        return _one(target, reader)
    if not isinstance(target, (Sequence, np.ndarray)) or not len(target):
        raise InputError(f"A target is an index, a name, 'top5', or a list of one for each sample, not {target!r}.")
    return _each(list(target), reader)


def is_local(goal: Goal) -> bool:
    """Whether a target is in some places of the picture, or steps of a text, and not in others."""
    if isinstance(goal, Sum):
        return any(is_local(term) for _, term in goal.terms)
    peak = isinstance(goal, Region) and goal.where == "peak"
    return peak or isinstance(goal, (Box, Character, Masked, Point, Rectangle, Step))


def _one(target: object, reader: Reader) -> Targets:
    """One target for all samples."""
    score, names = reader.score, reader.labels
    plain = _plain_class(target, reader)
    if plain is not None:
        return Targets((plain,))
    if isinstance(target, str) and _is_plain(score) and not _named(target, names) and (ranks := top_k(target)):
        if score.classes is not None and ranks > score.classes:
            raise InputError(f"'{target}' asks for more classes than the {score.classes} of '{score.tensor}'.")
        return Targets(tuple(TOP - i for i in range(ranks)))
    return _aimed(_goals(target, reader))


def _each(targets: list[object], reader: Reader) -> Targets:
    """One target for each sample."""
    plain = [_plain_class(t, reader) for t in targets]
    if all(p is not None for p in plain):
        return Targets(each=tuple(p for p in plain if p is not None))
    rows = [_goals(t, reader) for t in targets]
    if any(len(goals) != 1 for goals in rows):
        raise InputError("'topK' is for all samples: give it alone, or one target for each sample.")
    goals = [goals[0] for goals in rows]
    forms = {goal.form for goal in goals}
    if len(forms) > 1:
        raise InputError(f"Targets of one batch have to be of one form, and these are of {len(forms)}: run them apart.")
    inputs = {k: np.concatenate([g.inputs[k] for g in goals]) for k in goals[0].inputs}
    return Targets(each=(TOP,) * len(goals), goals=(goals[0],), inputs=inputs)


def _aimed(goals: Sequence[Goal]) -> Targets:
    inputs = {k: v for goal in goals for k, v in goal.inputs.items()}
    return Targets((TOP,) * len(goals), goals=tuple(goals), inputs=inputs)


def _goals(target: object, reader: Reader) -> tuple[Goal, ...]:
    if isinstance(target, Goal):
        goals: tuple[Goal, ...] = (target,)
    elif isinstance(plain := _plain(target), int):
        goals = (reader.of_class(class_index(plain, reader.score, reader.labels)),)
    else:
        goals = reader.read(plain)
    for goal in goals:
        _check(goal, reader)
    return goals


def _check(goal: Goal, reader: Reader) -> None:
    """Raise InputError for a class that the score does not have."""
    for name, given in goal.inputs.items():
        if name.startswith(TARGET):
            class_index(int(given[0]), reader.score, reader.labels)


def _plain_class(target: object, reader: Reader) -> int | None:
    """The index of a class where that is all that is asked for, of a score with its classes at axis 1; else None."""
    score = reader.score
    if _is_goal(target) or not _is_plain(score):
        return None
    plain = _plain(target)
    if isinstance(plain, str) and not _named(plain, reader.labels):
        if plain.strip() == "top":
            return TOP
        if _is_more(plain, reader):
            return None
    return class_index(plain, score, reader.labels)


def _is_plain(score: Score) -> bool:
    """Whether a class of the score is a number that a run takes."""
    return score.kind in ("classes", "regions") and score.axis == 1


def _is_more(text: str, reader: Reader) -> bool:
    """Whether a text is more than the name of a class."""
    if top_k(text):
        return True
    goals = reader.read(text) if any(mark in text for mark in ":@=*") or " - " in text or " + " in text else ()
    return bool(goals) and not isinstance(goals[0], Class)


def _named(text: str, names: tuple[str, ...] | None) -> bool:
    return text.casefold() in {name.casefold() for name in names or ()}


def _is_goal(target: object) -> bool:
    return isinstance(target, Goal)


def _plain(target: object) -> int | str:
    if isinstance(target, np.integer):
        return int(target)
    if not isinstance(target, (int, str)) or isinstance(target, bool):
        raise InputError(f"No class {target!r}: a class is an index or a name.")
    return target
