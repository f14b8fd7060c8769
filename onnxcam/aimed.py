"""Targets in photographs: what they take is laid into the model's input, what they find is laid back."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam import image
from onnxcam.errors import InputError
from onnxcam.geometry import Geometry
from onnxcam.inspection import Score
from onnxcam.targets import Box, Character, Goal, Step
from onnxcam.targets.goal import BOX, INDEX, TARGET
from onnxcam.targets.places import MASK, POINT

Array = npt.NDArray[Any]
Asked = tuple[Mapping[str, Array], int]  # the inputs of one sample, and the column of its target where it has several

_AGAIN = {"class": TARGET, "index": INDEX}


def read_mask(path: str) -> Array:
    """A mask (h, w) in 0..1 from a picture: its brightness. Raises InputError for a file that cannot be read."""
    return np.asarray(image.read(path).mean(axis=2) / 255, np.float32)


def into_inputs(given: Mapping[str, Array], laid: Sequence[Geometry]) -> dict[str, Array]:
    """Boxes, points and masks of photos, a row for each, as those of the model's inputs."""
    placed = dict(given)
    for name, values in given.items():
        kind = name.rpartition("/")[0] if name.rpartition("/")[2].isdigit() else name
        if kind in (BOX, POINT):
            placed[name] = np.stack([_across(row, g) for row, g in zip(values, laid, strict=True)])
        elif kind == MASK:
            placed[name] = np.stack([_laid(row, g) for row, g in zip(values, laid, strict=True)])
    return placed


def into_photos(found: Mapping[str, Array] | None, laid: Sequence[Geometry]) -> dict[str, Array] | None:
    """Boxes and places that were found in the model's inputs, a row for each, as those of the photos."""
    if found is None:
        return None
    back = [replace(g, photo=g.resized, resized=g.photo, offset=(0, 0)) for g in laid]
    placed = dict(found)
    for name in {"box", "place"} & found.keys():
        corners = [(_shifted(row, g), b) for row, g, b in zip(found[name], laid, back, strict=True)]
        placed[name] = np.stack([_across(row, b) for row, b in corners])
    return placed


def refuse_lost(
    found: Mapping[str, Array], goals: Sequence[Goal], given: Mapping[str, Array], first: int, score: Score,
    shape: Sequence[int],
) -> None:  # fmt: skip
    """Raise InputError for a class, box, step or character that is not there; `shape` is the score's in this run."""
    classes = shape[score.axis if len(shape) > 1 else 0]
    for name, asked in given.items():
        if name.startswith(TARGET) and score.boxes is None and asked.max() >= classes:
            raise InputError(f"No class {asked.max()}: the model answered with {classes} classes.")
    for k, goal in enumerate(goals):
        lost: list[int] = np.flatnonzero(found["index"][:, k] < 0).tolist() if "index" in found else []
        every = isinstance(goal, Character) and goal.index < 0
        if lost and not every and isinstance(goal, (Box, Character, Step)):
            kind = type(goal).__name__.lower()
            number = f" number {goal.index}" if goal.index >= 0 else f" of rank {k + 1}" if k else ""
            raise InputError(
                f"Sample {first + lost[0]} has no such {kind}{number}. Look at the model's outputs, or ask for "
                "another: 'top' is the best there is."
            )


def asked_again(given: Mapping[str, Array], found: Mapping[str, Array], k: int) -> list[Asked]:
    """The inputs of each sample that choose again what target `k` chose, whatever is done to the picture."""
    fixed = {name: found[key][:, k].astype(np.int64) for key, name in _AGAIN.items() if key in found and name in given}
    rows = dict(given) | fixed
    return [({name: v[n : n + 1] for name, v in rows.items()}, k) for n in range(len(next(iter(found.values()))))]


def _across(row: Array, geometry: Geometry) -> Array:
    """Points (x, y, …) of the photo as points of the input."""
    scale, offset = geometry.scale[::-1], geometry.offset[::-1]
    times = len(row) // 2
    return np.asarray(row * np.tile(scale, times) + np.tile(offset, times), np.float32)


def _shifted(row: Array, geometry: Geometry) -> Array:
    return np.asarray(row - np.tile(geometry.offset[::-1], len(row) // 2))


def _laid(mask: Array, geometry: Geometry) -> Array:
    """A mask that covers the photo at any size, at the size of the input: the nearest of its pixels, 0 beside it."""
    reads, shown = [], []
    for n, inside, offset, resized in zip(mask.shape, geometry.size, geometry.offset, geometry.resized, strict=True):
        at = (np.arange(inside) + 0.5 - offset) / resized * n
        shown.append((at >= 0) & (at < n))
        reads.append(at.astype(np.int64).clip(0, n - 1))
    return np.asarray(mask[np.ix_(*reads)] * np.outer(*shown), np.float32)
