"""Targets of a sequence, classes at every step: one step, or one character or the whole text of a CTC reader.

A CTC reader says at each step a class or `blank`; equal classes in a row are one character.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from onnxcam.errors import InputError
from onnxcam.grad.mask import step
from onnxcam.grad.tensor import Value, op
from onnxcam.target import TOP
from onnxcam.targets.choice import FLOAT, INT64, choose, equal, first, numbers, per_sample, row, total
from onnxcam.targets.goal import INDEX, TARGET, Answer, Array, OfClass, Scene, chosen

STEPS, CLASSES = 1, 2


@dataclass(frozen=True)
class Step(OfClass):
    """The score of one class, −1 for the best, at one step of scores (N, steps, classes)."""

    index: int
    cls: int = TOP

    @property
    def inputs(self) -> dict[str, Array]:
        """`cam/target`: the class; `cam/index`: the step."""
        return super().inputs | {INDEX: chosen(self.index)}

    def answer(self, scene: Scene, given: Mapping[str, Value]) -> Answer:
        """1[t] 1[c]."""
        z = _sequence(scene)
        index = row(given[INDEX], 3)
        here = equal(numbers(z, STEPS), index)
        mask = choose(total(here * z, [STEPS]), CLASSES, row(given[TARGET], 3))
        seed = here * mask
        cls = per_sample(mask * numbers(z, CLASSES))
        at = per_sample(here * (index + 1.0)) - 1.0
        return Answer(scene.seed(seed), per_sample(seed * z), {"class": cls, "index": at + cls * 0.0})


@dataclass(frozen=True)
class Character:
    """The score of one character that a CTC reader reads, 0 for the first; −1 adds up all of them."""

    index: int = -1
    blank: int = 0

    @property
    def form(self) -> tuple[object, ...]:
        """One for all characters."""
        return type(self), self.blank

    @property
    def inputs(self) -> dict[str, Array]:
        """`cam/index`: the character."""
        return {INDEX: chosen(self.index)}

    def answer(self, scene: Scene, given: Mapping[str, Value]) -> Answer:
        """1[c] of the largest class, at the step where the character begins."""
        z = _sequence(scene)
        index = numbers(z, CLASSES)
        cls = first(z, CLASSES, index)
        spoken = step(op.Abs(cls - float(self.blank)))
        begins = spoken * step(op.Abs(cls - _before(cls)))
        count = op.CumSum(begins, z.tape.constant(STEPS, INT64))
        wanted = row(given[INDEX], 3)
        every = step(-wanted)
        here = begins * (every + (1 - every) * equal(count, wanted + 1.0))
        seed = here * equal(index, cls)
        one = here * (1 - every)
        what = {"class": per_sample(one * (cls + 1.0)) - 1.0, "index": per_sample(one * count) - 1.0}
        return Answer(scene.seed(seed), per_sample(seed * z), what)


def _before(cls: Value) -> Value:
    """The class of the step before, (N, steps, 1); −1 at the first."""
    shifted = op.Pad(cls, cls.tape.constant([0, 1, 0, 0, 0, 0], INT64), cls.tape.constant(-1.0, FLOAT))
    return op.Slice(shifted, starts=[0], ends=[-1], axes=[STEPS])


def _sequence(scene: Scene) -> Value:
    """The score. Raises InputError where it has no steps."""
    if scene.y.rank != 3:
        raise InputError(
            f"Steps and characters need scores (N, steps, classes): '{scene.score.tensor}' is {list(scene.y.shape)}."
        )
    return scene.z
