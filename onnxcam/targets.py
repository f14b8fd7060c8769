"""What the caller wants explained, as classes for each sample: one index or name, the top k, or one for each sample."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxcam.errors import InputError
from onnxcam.inspection import Score
from onnxcam.target import TOP, class_index, top_k

Target = int | str | Sequence[int | str] | None


@dataclass(frozen=True)
class Targets:
    """Rows of classes: `same` for every sample, or one row for each; −k−1 is the class of rank k."""

    same: tuple[int, ...] = (TOP,)
    each: tuple[int, ...] | None = None

    def rows(self, count: int) -> list[list[int]]:
        """Classes for each of `count` samples. Raises InputError where another number of them was given."""
        if self.each is None:
            return [list(self.same)] * count
        if len(self.each) != count:
            raise InputError(f"{len(self.each)} targets for {count} samples: give one for each, or one for all.")
        return [[c] for c in self.each]


def read_targets(target: Target, score: Score, labels: Sequence[str] | None) -> Targets:
    """Understand a target. Raises InputError for a class that is not there, or what is no class at all."""
    names = tuple(labels) if labels else None
    if target is None:
        return Targets()
    if isinstance(target, str):
        ranks = top_k(target) if target.casefold() not in {n.casefold() for n in names or ()} else None
        if ranks is None:
            return Targets((class_index(target, score, names),))
        if score.classes is not None and ranks > score.classes:
            raise InputError(f"'{target}' asks for more classes than the {score.classes} of '{score.tensor}'.")
        return Targets(tuple(TOP - i for i in range(ranks)))
    if isinstance(target, (int, np.integer)):
        return Targets((class_index(_plain(target), score, names),))
    if not isinstance(target, (Sequence, np.ndarray)) or not len(target):
        raise InputError(f"A target is an index, a name, 'top5', or a list of one for each sample, not {target!r}.")
    return Targets(each=tuple(class_index(_plain(t), score, names) for t in target))


def _plain(target: object) -> int | str:
    if isinstance(target, np.integer):
        return int(target)
    if not isinstance(target, (int, str)) or isinstance(target, bool):
        raise InputError(f"A class is an index or a name, not {target!r}.")
    return target
