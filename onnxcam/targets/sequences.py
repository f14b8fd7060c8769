"""Targets of a sequence, classes at every step: one step, or one character or the whole text of a CTC reader.

A CTC reader says at each step a class or `blank`; equal classes in a row are one character.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from onnxcam.choice import (
    FLOAT,
    INT32,
    INT64,
    choose,
    equal,
    largest,
    located,
    negative,
    numbers,
    per_sample,
    row,
    total,
)
from onnxcam.errors import InputError
from onnxcam.grad.shapes import as_type
from onnxcam.grad.tensor import Value, op
from onnxcam.target import TOP
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
        cls = located(mask, CLASSES)
        return Answer(scene.seed(seed), per_sample(seed * z), {"class": cls, "index": located(here, STEPS) + cls * 0})


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
        says = largest(z, CLASSES)
        spoken = 1 - total(says * equal(numbers(z, CLASSES), self.blank), [CLASSES])
        begins = spoken * (1 - total(says * _before(says), [CLASSES]))
        count = op.CumSum(begins, z.tape.constant(STEPS, INT64))
        wanted = row(given[INDEX], 3)
        every = negative(wanted)
        here = begins * (every + (1 - every) * equal(as_type(count, INT32), wanted + 1))
        seed = here * says
        one = here * (1 - every)
        what = {"class": located(one * says, CLASSES), "index": per_sample(as_type(one * count, INT32)) - 1}
        return Answer(scene.seed(seed), per_sample(seed * z), what)


def _before(says: Value) -> Value:
    """The mask of the class of the step before, (N, steps, classes); of none at the first."""
    shifted = op.Pad(says, says.tape.constant([0, 1, 0, 0, 0, 0], INT64), says.tape.constant(0.0, FLOAT))
    return op.Slice(shifted, starts=[0], ends=[-1], axes=[STEPS])


def _sequence(scene: Scene) -> Value:
    """The score. Raises InputError where it has no steps."""
    if scene.y.rank != 3:
        raise InputError(
            f"Steps and characters need scores (N, steps, classes): '{scene.score.tensor}' is {list(scene.y.shape)}."
        )
    return scene.z
