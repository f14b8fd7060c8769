"""What a target is: a score in, the gradient of one number with respect to it out, as nodes of the graph.

The form of a target is written into the graph; what may differ from run to run or from sample to sample (a class, a
box, a mask) is an optional input of the explainable model, [1, …] or [N, …], whose default is the target's own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from onnxcam.choice import FLOAT, INT64, elect, equal, floats, numbers, reshaped, row, total
from onnxcam.errors import InputError
from onnxcam.grad.shapes import as_type, shape_of, sizes
from onnxcam.grad.tensor import Value, op
from onnxcam.inspection import Input, Score
from onnxcam.target import TOP

Array = npt.NDArray[Any]

TARGET = "cam/target"
INDEX = "cam/index"
BOX = "cam/box"
_SWAPPED = [1, 0, 2]  # steps and samples


@dataclass(frozen=True)
class Scene:
    """What a target looks at: the score as a value of the graph and as inspection found it, and the image input."""

    y: Value
    score: Score
    image: Input | None = None

    @property
    def z(self) -> Value:
        """The score as finite float32 with the samples along axis 0, also where the model has no axis for them."""
        values = floats(self.y)
        if self.score.samples and self.y.rank == 3:
            return op.Transpose(values, perm=_SWAPPED)
        return values if self.y.rank > 1 else op.Unsqueeze(values, axes=[0])

    @property
    def axis(self) -> int:
        """The axis of the classes in `z`."""
        return self.score.axis % self.y.rank if self.y.rank > 1 else 1

    @property
    def places(self) -> list[int]:
        """The axes of `z` that are neither samples nor classes."""
        return [i for i in range(1, max(2, self.y.rank)) if i != self.axis]

    @property
    def extent(self) -> Value:
        """Width and height of the image, float32 [2]; of the score's own places where the model sees no image."""
        if self.image is None or self.image.layout is None:
            return op.Cast(sizes(self.y, (self.places[::-1] * 2)[:2]), to=FLOAT)
        picture = self.y.tape.value(self.image.name)
        space = self.image.space
        return op.Cast(sizes(picture, (space[::-1] * 2)[:2]), to=FLOAT)

    def pick(self, wanted: Value, weight: Value | None = None, *, peak: bool = False) -> tuple[Value, Value]:
        """A mask of one class along the class axis alone, and its number, int32 [N]: `wanted`, or the largest for −1.

        The largest has the largest sum over all places, each times `weight`; with `peak` the largest element.
        """
        of_class = self.z if weight is None else self.z * weight
        if self.places:
            of_class = op.ReduceMax(of_class, axes=self.places, keepdims=1) if peak else total(of_class, self.places)
        cls = elect(of_class, self.axis, row(wanted, of_class.rank))
        return equal(numbers(self.z, self.axis), cls), reshaped(cls, 1)

    def seed(self, seed: Value) -> Value:
        """A seed that broadcasts to the shape of `z`, in exactly the score's shape and type."""
        y = self.y
        full = seed if seed.type.is_static and seed.shape == self.z.shape else _spread(seed, self.z)
        full = op.Transpose(full, perm=_SWAPPED) if self.score.samples and y.rank == 3 else full
        full = full if y.rank > 1 else op.Squeeze(full, axes=[0])
        return y.tape.retype(as_type(full, y.dtype), y.type)

    def constant(self, array: Array) -> Value:
        """A constant beside the score: integers as int64, all else as float32."""
        return self.y.tape.constant(array, INT64 if array.dtype.kind in "iu" else FLOAT)


def _spread(seed: Value, z: Value) -> Value:
    """`seed` in the shape of the finite `z`: by Expand, which is there from opset 8 on."""
    return op.Expand(seed, shape_of(z)) if z.tape.graph.opsets[""] >= 8 else seed + z * 0.0


@dataclass(frozen=True)
class Answer:
    """What a target makes of a score.

    seed: d number / d score, in the score's shape and type. number: what is explained, float32 [N].
    found: what was chosen: `class` and `index`, int32 [N], −1 where there is none; float32 `certainty` [N], and `box`
    and `place` in pixels of the model's input, [N, 4] and [N, 2].
    """

    seed: Value
    number: Value
    found: Mapping[str, Value]


@runtime_checkable
class Goal(Protocol):
    """A target: `inputs`, its parameters as arrays [1, …] by the names of optional inputs, and `answer`.

    Targets of one `form` differ in their parameters only: one graph serves them all.
    """

    @property
    def form(self) -> tuple[object, ...]:
        """What is written into the graph."""
        ...

    @property
    def inputs(self) -> dict[str, Array]:
        """Names and defaults of the inputs that it adds to the model."""
        ...

    def answer(self, scene: Scene, given: Mapping[str, Value]) -> Answer:
        """Write the target into the graph; `given` are its inputs."""
        ...


def chosen(cls: int = TOP) -> Array:
    """The default of an input that takes a class or an index. Raises InputError for what is no whole number."""
    if isinstance(cls, bool) or not isinstance(cls, (int, np.integer)):
        raise InputError(f"A class or a number in a target is a whole number, not {cls!r}.")
    return np.array([cls], np.int64)


def measured(values: object) -> Array:
    """The default of an input that takes numbers, float32 [1, …]. Raises InputError for what float32 cannot hold."""
    try:
        with np.errstate(over="ignore"):
            found = np.asarray(values, np.float32)[None]
    except (ValueError, TypeError) as error:
        raise InputError(f"A target takes numbers: {error}.") from error
    if not np.isfinite(found).all():
        raise InputError("A target takes finite numbers, and was given one that float32 cannot hold.")
    return found


class Uniform:
    """Targets whose parameters are all inputs: one form serves them all."""

    @property
    def form(self) -> tuple[object, ...]:
        """The kind of target."""
        return (type(self),)


class OfClass(Uniform):
    """Targets that ask for a class, −1 for the one that says most."""

    cls: int

    @property
    def inputs(self) -> dict[str, Array]:
        """`cam/target`: the class."""
        return {TARGET: chosen(self.cls)}
