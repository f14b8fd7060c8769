"""Targets of a dense score, classes at every place: one where it is predicted, in a mask, at a point, at its peak.

Segmentation, heat maps of keypoints, and whatever else has a row of classes at each of its places.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from onnxcam.choice import (
    FLOAT,
    INT32,
    INT64,
    column,
    entry,
    equal,
    largest,
    length,
    numbers,
    per_sample,
    row,
    total,
)  # fmt: skip
from onnxcam.errors import InputError
from onnxcam.grad.mask import step
from onnxcam.grad.shapes import as_type, shape_of, sizes
from onnxcam.grad.tensor import Value, op
from onnxcam.target import TOP
from onnxcam.targets.goal import BOX, TARGET, Answer, Array, OfClass, Scene, measured

MASK = "cam/mask"
POINT = "cam/point"


@dataclass(frozen=True)
class Region(OfClass):
    """The score of one class, summed over the places where it is the largest ("predicted"), or at its peak.

    −1 is the class with the largest sum, or with the highest peak.
    """

    cls: int = TOP
    where: Literal["predicted", "peak"] = "predicted"

    @property
    def form(self) -> tuple[object, ...]:
        """One for all classes."""
        return type(self), self.where

    def answer(self, scene: Scene, given: Mapping[str, Value]) -> Answer:
        """1[c] at the places chosen."""
        z = _dense(scene)
        mask, cls = scene.pick(given[TARGET], peak=self.where == "peak")
        own = total(mask * z, [scene.axis])
        if self.where == "predicted":
            best = op.ReduceMax(z, axes=[scene.axis], keepdims=1)
            places = step(own) if scene.score.classes == 1 else equal(own, best)
            return _answer(scene, mask, places, {"class": cls})
        places = _peak(own)
        return _answer(scene, mask, places, {"class": cls, "place": _pixels(scene, places)})


@dataclass(frozen=True)
class Masked(OfClass):
    """The score of one class, summed over a mask (h, w) of weights that covers the image."""

    mask: Array = field(compare=False)
    cls: int = TOP

    @property
    def form(self) -> tuple[object, ...]:
        """One for all classes and masks of one size."""
        return type(self), self.mask.shape

    @property
    def inputs(self) -> dict[str, Array]:
        """`cam/target`: the class, −1 the one with the largest sum in the mask; `cam/mask`: float32 [1, h, w]."""
        return super().inputs | {MASK: measured(self.mask)}

    def answer(self, scene: Scene, given: Mapping[str, Value]) -> Answer:
        """1[c] times the mask, resized to the places of the score."""
        z = _dense(scene)
        if self.mask.ndim != len(scene.places):
            raise InputError(
                f"The mask has {self.mask.ndim} axes, '{scene.score.tensor}' has places along {len(scene.places)}."
            )
        weights = op.Unsqueeze(_resized(given[MASK], z, scene.places), axes=[scene.axis])
        mask, cls = scene.pick(given[TARGET], weights)
        return _answer(scene, mask, weights, {"class": cls})


@dataclass(frozen=True)
class Point(OfClass):
    """The score of one class at one place, (x, y) in pixels of the model's input."""

    x: float
    y: float
    cls: int = TOP

    @property
    def inputs(self) -> dict[str, Array]:
        """`cam/target`: the class, −1 the one with the largest score there; `cam/point`: float32 [1, 2]."""
        return super().inputs | {POINT: measured([self.x, self.y])}

    def answer(self, scene: Scene, given: Mapping[str, Value]) -> Answer:
        """1[c] at the place whose cell holds the point."""
        z, extent = _plane(scene), scene.extent
        within = []
        for axis, i in zip(scene.places, (1, 0), strict=True):
            cell = op.Floor(column(given[POINT], i) * length(z, axis) / entry(extent, i))
            within.append(equal(numbers(z, axis), row(as_type(cell, INT32), z.rank)))
        places = within[0] * within[1]
        mask, cls = scene.pick(given[TARGET], places)
        none = op.Unsqueeze(as_type(cls * 0, FLOAT), axes=[1])
        return _answer(scene, mask, places, {"class": cls, "place": given[POINT] + none})


@dataclass(frozen=True)
class Rectangle(OfClass):
    """The score of one class, summed over the places with their middles in a rectangle, in the input's pixels."""

    left: float
    top: float
    right: float
    bottom: float
    cls: int = TOP

    @property
    def inputs(self) -> dict[str, Array]:
        """`cam/target`: the class, −1 the one with the largest sum there; `cam/box`: float32 [1, 4]."""
        corners = measured([self.left, self.top, self.right, self.bottom])
        return super().inputs | {BOX: corners}

    def answer(self, scene: Scene, given: Mapping[str, Value]) -> Answer:
        """1[c] times the rectangle."""
        z, extent = _plane(scene), scene.extent
        within = []
        for axis, i in zip(scene.places, (1, 0), strict=True):
            middle = (numbers(z, axis, FLOAT) + 0.5) * (entry(extent, i) / length(z, axis))
            after = step(middle - row(column(given[BOX], i), z.rank))
            within.append(after * step(row(column(given[BOX], i + 2), z.rank) - middle))
        places = within[0] * within[1]
        mask, cls = scene.pick(given[TARGET], places)
        return _answer(scene, mask, places, {"class": cls})


def _answer(scene: Scene, mask: Value, places: Value, found: Mapping[str, Value]) -> Answer:
    seed = mask * places
    return Answer(scene.seed(seed), per_sample(seed * scene.z), found)


def _dense(scene: Scene) -> Value:
    if not scene.places:
        raise InputError(
            f"'{scene.score.tensor}' has one row of classes a sample and no places: name the class alone, without '@'."
        )
    return scene.z


def _plane(scene: Scene) -> Value:
    z = _dense(scene)
    if len(scene.places) != 2:
        raise InputError(
            f"A point or a rectangle needs two axes of places: '{scene.score.tensor}' has {len(scene.places)}."
        )
    return z


def _peak(z: Value) -> Value:
    """1 at the first of the largest elements of each sample, 0 elsewhere."""
    flat = op.Reshape(z, z.tape.constant([0, -1], INT64))
    return z.tape.retype(op.Reshape(largest(flat, 1), shape_of(z)), z.type)


def _pixels(scene: Scene, places: Value) -> Value:
    """The middle of the one place chosen, (x, y) in pixels of the model's input, [N, 2]; y is 0 where there is no y."""
    columns = []
    for axis, i in zip(scene.places[::-1], (0, 1), strict=False):
        at = per_sample(places * numbers(scene.z, axis, FLOAT))
        columns.append(op.Unsqueeze((at + 0.5) * entry(scene.extent, i) / length(scene.z, axis), axes=[1]))
    return op.Concat(columns[0], columns[1] if len(columns) > 1 else columns[0] * 0.0, axis=1)


def _resized(mask: Value, z: Value, places: list[int]) -> Value:
    """A mask (N, h, w) at the places of the score: linear, half-pixel centres."""
    due = tuple(z.shape[a] for a in places)
    if mask.shape[1:] == due:
        return mask
    if mask.tape.graph.opsets[""] < 11:
        raise InputError(f"The model's opset is below 11: give the mask at the size of the score, {due}.")
    plane, none = op.Unsqueeze(mask, axes=[1]), mask.tape.constant(np.zeros(0), FLOAT)
    size = op.Concat(sizes(plane, [0, 1]), sizes(z, places), axis=0)
    return op.Squeeze(op.Resize(plane, none, none, size, mode="linear"), axes=[1])
