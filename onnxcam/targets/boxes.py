"""One box of a detector: the best, the best of a class, the one most like a given box, or by its number."""

from collections.abc import Mapping
from dataclasses import dataclass

from onnxcam.choice import INT32, choose, equal, largest, located, negative, numbers, per_sample, row, total
from onnxcam.errors import InputError
from onnxcam.grad.mask import step
from onnxcam.grad.shapes import as_type
from onnxcam.grad.tensor import Value, op
from onnxcam.target import TOP
from onnxcam.targets.goal import BOX, INDEX, TARGET, Answer, Array, OfClass, Scene, chosen, measured
from onnxcam.targets.heads import Candidates, candidates, corners, overlap

SAME = 0.45  # boxes that overlap more are one thing found twice


@dataclass(frozen=True)
class Box(OfClass):
    """The score of one box for one class.

    index: its number among the model's boxes; −1 chooses the most certain of class `cls`, −1 being any. near: (x0, y0,
    x1, y1) in pixels of the model's input, chooses by overlap times certainty instead. rank: 0 the best, 1 the best of
    those that do not overlap with it, and so on.
    """

    cls: int = TOP
    index: int = -1
    near: tuple[float, float, float, float] | None = None
    rank: int = 0

    @property
    def form(self) -> tuple[object, ...]:
        """One for all classes, numbers, and boxes to be near to."""
        return type(self), self.near is None, self.rank

    @property
    def inputs(self) -> dict[str, Array]:
        """`cam/target`: the class; `cam/index`: the number of the box; `cam/box`: float32 [1, 4]."""
        given = super().inputs | {INDEX: chosen(self.index)}
        return given if self.near is None else given | {BOX: measured(self.near)}

    def answer(self, scene: Scene, given: Mapping[str, Value]) -> Answer:
        """1[box] 1[class], led back to the score tensor."""
        found = candidates(scene)
        if self.near is not None and scene.score.boxes and scene.score.boxes.form is None:
            named = f"in '{scene.score.boxes.corners}'" if scene.score.boxes.corners else "of its boxes"
            raise InputError(
                f"Nothing in the model tells what the coordinates {named} are: they cannot be compared with yours. "
                "Choose by class, or by number: 'box:3'."
            )
        wanted, index = row(given[TARGET], 3), row(given[INDEX], 3)
        raw = scene.score.boxes is not None and scene.score.boxes.raw
        places = scene.z if raw else corners(scene)
        preferred = _certainty(found, wanted)
        if self.near is not None:
            preferred = preferred * overlap(places, op.Unsqueeze(given[BOX], axes=[1]))
        for _ in range(self.rank):
            best = largest(preferred, 1)
            preferred = preferred * (1 - best)
            if not raw:
                preferred = preferred * (1 - step(overlap(places, total(best * places, [1])) - SAME))
        best = largest(preferred, 1) * step(op.ReduceMax(preferred, axes=[1], keepdims=1))
        automatic = negative(index)
        box = automatic * best + (1 - automatic) * equal(numbers(found.scores, 1), index)
        mask, cls = _class_of(found, box, wanted)
        seed = box * mask
        what = {
            "class": cls,
            "index": located(box, 1),
            "certainty": per_sample(seed * found.certainty),
        }
        if not raw:
            what["box"] = op.Squeeze(total(box * places, [1]), axes=[1])
        return Answer(scene.seed(found.back(seed)), per_sample(seed * found.scores), what)


def _certainty(found: Candidates, wanted: Value) -> Value:
    """How certain each box is of the class wanted, −1 for any: (N, boxes, 1)."""
    any_ = negative(wanted)
    if found.labels is not None:
        return found.certainty * (any_ + (1 - any_) * equal(found.labels, wanted))
    fits = any_ + (1 - any_) * equal(numbers(found.scores, 2), wanted)
    return op.ReduceMax(found.certainty * fits, axes=[2], keepdims=1)


def _class_of(found: Candidates, box: Value, wanted: Value) -> tuple[Value, Value]:
    """A mask of the class (N, 1, classes), the wanted or the most certain one of the box, and its number, int32 [N]."""
    if found.labels is not None:
        return total(box, [1]), per_sample(as_type(box, INT32) * (found.labels + 1)) - 1
    mask = choose(total(box * found.certainty, [1]), 2, wanted)
    return mask, located(mask * total(box, [1]), 2)
