"""What an explanation is, and its record on disk: pictures, arrays, and one JSON file a photo."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import onnxcam
from onnxcam import files, image, view
from onnxcam.errors import InputError
from onnxcam.image import Photo

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Explanation:
    """Maps of R rows; a row is one sample and one class.

    maps: float32 [R, H, W] in 0..1 at the input's size; from photographs a list of [H, W], each at its photo's size.
    raw: the method's own signed maps per layer, [R, *space]. targets, scores, probabilities, samples: [R].
    found: of targets that choose in the picture, what was chosen: `index` [R], `box` [R, 4] as left, top, right and
    bottom, `place` [R, 2] as x and y, in pixels; None for a class.
    outputs: the model's own, untouched. warnings: what a person should know before believing a map.
    first: the number of the first sample, where these are some of many (`Explainer.stream`).
    stems: how the files of each photo are called.
    """

    maps: Any
    raw: dict[str, Floats]
    targets: npt.NDArray[np.int64]
    scores: Floats
    probabilities: Floats | None
    samples: npt.NDArray[np.int64]
    outputs: dict[str, npt.NDArray[np.generic]]
    layers: tuple[str, ...]
    warnings: list[str] = field(default_factory=list)
    labels: list[str] | None = None
    photos: list[Photo] | None = None
    names: list[str | None] | None = None
    about: dict[str, object] = field(default_factory=dict)
    found: dict[str, npt.NDArray[Any]] | None = None
    first: int = 0
    stems: list[str] | None = None

    def overlays(self) -> list[Photo]:
        """The map over its photo for each row, uint8 RGB (H, W, 3)."""
        photos = self._photos()
        return [view.overlay(photos[s - self.first], m) for s, m in zip(self.samples, self.maps, strict=True)]

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write for each row `<photo>_overlay.png`, `_heatmap.png` and `.npz`, and for each photo `<photo>.json`.

        Several rows of a photo carry their class in the name, photos of the same name a number. Each file appears whole
        or not at all. Returns the paths. Raises InputError where the folder cannot be written.
        """
        target, photos = Path(files.named(folder)), self._photos()
        stems = self.stems or file_names(self.names or [None] * len(photos))
        files.folder(target)
        return [path for i, stem in enumerate(stems) for path in self._save_sample(target, stem, i)]

    def record(self, row: int) -> dict[str, object]:
        """What is known of one row, as JSON can hold it."""
        cls = int(self.targets[row])
        return {
            "class": cls,
            "label": self.labels[cls] if self.labels and 0 <= cls < len(self.labels) else None,
            "probability": None if self.probabilities is None else float(self.probabilities[row]),
            "score": float(self.scores[row]),
            "peak": [int(i) for i in np.unravel_index(int(np.argmax(self.maps[row])), self.maps[row].shape)],
            **{name: v[row].tolist() for name, v in (self.found or {}).items() if name not in ("class", "certainty")},
        }

    def _save_sample(self, folder: Path, stem: str, index: int) -> list[Path]:
        photo, sample = self._photos()[index], self.first + index
        rows = [int(r) for r in np.flatnonzero(self.samples == sample)]
        written, records = [], []
        for row in rows:
            twins = [r for r in rows if self.targets[r] == self.targets[row]]
            number = f".{twins.index(row) + 1}" if len(twins) > 1 else ""
            name = stem if len(rows) == 1 else f"{stem}.{self.targets[row]}{number}"
            paths = [folder / f"{name}{end}" for end in ("_overlay.png", "_heatmap.png", ".npz")]
            image.write(paths[0], view.overlay(photo, self.maps[row]))
            image.write(paths[1], view.colour(self.maps[row]))
            files.write(paths[2], _npz({"map": self.maps[row], **{f"raw/{k}": v[row] for k, v in self.raw.items()}}))
            records.append({**self.record(row), "files": [p.name for p in paths]})
            written += paths
        path = folder / f"{stem}.json"
        source = self.names[index] if self.names else None
        record = {
            "photo": source,
            "size": list(photo.shape[:2]),
            **self.about,
            "rows": records,
            "version": onnxcam.__version__,
        }
        record["warnings"] = [w for w in self.warnings if w.startswith(f"sample {sample}:")]
        files.write(path, json.dumps(record, indent=2, ensure_ascii=False).encode())
        return [*written, path]

    def _photos(self) -> list[Photo]:
        if self.photos is None:
            raise InputError(
                "There are no photos here: pictures come from explainer.images(photos), arrays have .maps."
            )
        return self.photos


def file_names(photos: Sequence[str | None]) -> list[str]:
    """The start of the file names for each photo, by its path where it has one, distinct from the others'."""
    stems: dict[str, None] = {}
    for i, path in enumerate(photos):
        base = re.sub(r"[\x00-\x1f/\\:]", "_", Path(path).stem) if path else f"photo{i}"
        stem, n = base, 2
        while stem in stems:
            stem, n = f"{base}_{n}", n + 1
        stems[stem] = None
    return list(stems)


def join(parts: Sequence[Explanation], *, alone: bool = False) -> Explanation:
    """The rows of several batches, one after the other; `alone`: the outputs of each are those of one sample."""
    first = parts[0]
    if len(parts) == 1:
        return first
    lists = isinstance(first.maps, list)
    return dataclasses.replace(
        first,
        maps=[m for p in parts for m in p.maps] if lists else np.concatenate([p.maps for p in parts]),
        raw={k: _together([p.raw[k] for p in parts]) for k in first.raw},
        targets=np.concatenate([p.targets for p in parts]),
        scores=np.concatenate([p.scores for p in parts]),
        probabilities=None
        if first.probabilities is None
        else np.concatenate([p.probabilities for p in parts if p.probabilities is not None]),
        samples=np.concatenate([p.samples for p in parts]),
        outputs={k: _together([_row(p.outputs[k], alone) for p in parts]) for k in first.outputs},
        warnings=[w for p in parts for w in p.warnings],
        photos=None if first.photos is None else [x for p in parts for x in p.photos or []],
        names=None if first.names is None else [x for p in parts for x in p.names or []],
        stems=None if first.stems is None else [x for p in parts for x in p.stems or []],
        found=None if first.found is None else {k: _together([(p.found or {})[k] for p in parts]) for k in first.found},
    )


def _row(output: Any, alone: bool) -> Any:
    return output[None] if alone and isinstance(output, np.ndarray) else output


def _together(arrays: Sequence[Any]) -> Any:
    """One array; an object array where photos of several sizes gave several shapes; a list of what has no rows."""
    if not all(isinstance(a, np.ndarray) and a.ndim for a in arrays):
        return list(arrays)
    if len({a.shape[1:] for a in arrays}) == 1:
        return np.concatenate(arrays)
    rows = [row for a in arrays for row in a]
    result = np.empty(len(rows), object)
    result[:] = rows
    return result


def _npz(arrays: Mapping[str, npt.NDArray[np.generic]]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for its own options
    return buffer.getvalue()
