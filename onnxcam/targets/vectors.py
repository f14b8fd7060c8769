"""Targets of a vector: how like a reference an embedding is, how far an output is from a value, any weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from onnxcam.choice import INT64, per_sample, row, total
from onnxcam.errors import InputError
from onnxcam.grad.mask import step
from onnxcam.grad.tensor import Value, op
from onnxcam.targets.goal import TARGET, Answer, Array, OfClass, Scene, measured

REFERENCE = "cam/reference"
VALUE = "cam/goal"
WEIGHTS = "cam/seed"
TINY = 1e-12


@dataclass(frozen=True)
class Similarity:
    """How like a reference vector r (D) an embedding e is: cos = e·r / |e||r|, or the dot product e·r.

    Without a reference its own length |e|: what in the image makes the embedding.
    """

    reference: Array | None = field(default=None, compare=False)
    measure: Literal["cosine", "dot"] = "cosine"

    @property
    def form(self) -> tuple[object, ...]:
        """One for all references."""
        return type(self), self.measure, self.reference is None

    @property
    def inputs(self) -> dict[str, Array]:
        """`cam/reference`: float32 [1, D]."""
        return {} if self.reference is None else {REFERENCE: measured(self.reference).reshape(1, -1)}

    def answer(self, scene: Scene, given: Mapping[str, Value]) -> Answer:
        """Cosine: (r/|r| − cos · e/|e|) / |e|. Dot: r. Length: e/|e|."""
        e = scene.z
        axes = list(range(1, e.rank))
        length = _norm(e, axes)
        if self.reference is None:
            return Answer(scene.seed(e / length), per_sample(e * e / length), {})
        r = _shaped(given[REFERENCE], e, scene)
        if self.measure == "dot":
            return Answer(scene.seed(r), per_sample(e * r), {})
        r = r / _norm(r, axes)
        cos = total(e * r, axes) / length
        return Answer(scene.seed((r - cos * e / length) / length), per_sample(cos), {})


@dataclass(frozen=True)
class Towards(OfClass):
    """Output number `cls` brought to a value: −|y − value|, largest where it is reached."""

    value: float
    cls: int = 0

    @property
    def inputs(self) -> dict[str, Array]:
        """`cam/target`: which output; `cam/goal`: float32 [1], the value."""
        return super().inputs | {VALUE: measured(self.value)}

    def answer(self, scene: Scene, given: Mapping[str, Value]) -> Answer:
        """The sign of value − y."""
        z = scene.z
        mask, cls = scene.pick(given[TARGET])
        away = row(given[VALUE], z.rank) - total(mask * z, list(range(1, z.rank)))
        seed = mask * (step(away) - step(-away))
        return Answer(scene.seed(seed), per_sample(-op.Abs(away)), {"class": cls})


@dataclass(frozen=True)
class Weighted:
    """Any tensor with any weights, an array of the tensor's own shape without the samples: Σ w y."""

    weights: Array = field(compare=False)

    @property
    def form(self) -> tuple[object, ...]:
        """One for all weights of one shape."""
        return type(self), self.weights.shape

    @property
    def inputs(self) -> dict[str, Array]:
        """`cam/seed`: float32 [1, …]."""
        return {WEIGHTS: measured(self.weights)}

    def answer(self, scene: Scene, given: Mapping[str, Value]) -> Answer:
        """The weights."""
        w, due = given[WEIGHTS], scene.z.shape[1:]
        if w.rank != scene.z.rank or any(isinstance(d, int) and d != s for d, s in zip(due, w.shape[1:], strict=True)):
            raise InputError(
                f"The weights are {list(w.shape[1:])}, '{scene.score.tensor}' has {list(due)} for a sample."
            )
        return Answer(scene.seed(w), per_sample(w * scene.z), {})


def _norm(x: Value, axes: list[int]) -> Value:
    return op.Clip(op.Sqrt(total(x * x, axes)), min=TINY, max=3e38)


def _shaped(reference: Value, e: Value, scene: Scene) -> Value:
    """The reference [N, D] with the axes of the embedding. Raises InputError for another length."""
    dims = e.shape[1:]
    size = int(np.prod([d for d in dims if isinstance(d, int)]))
    if all(isinstance(d, int) for d in dims) and size != reference.shape[1]:
        raise InputError(
            f"The reference has {reference.shape[1]} values, the embedding '{scene.score.tensor}' has {size}."
        )
    if e.rank == 2:
        return reference
    return op.Reshape(reference, e.tape.constant([-1, *(d if isinstance(d, int) else 1 for d in dims)], INT64))
