"""What is found where the caller says nothing: class names, preprocessing; and the words that say what was assumed."""

import json
import os
from collections.abc import Sequence
from dataclasses import replace

from onnxcam import image
from onnxcam.errors import InputError
from onnxcam.explainable import Plan
from onnxcam.image import PRESETS, Preprocess
from onnxcam.inspection import Input


def find_labels(labels: str | os.PathLike[str] | Sequence[str], chosen: Plan) -> list[str] | None:
    """Class names: the model's own, a file with one a line, or a list. Raises InputError where they do not fit."""
    if isinstance(labels, str) and labels == "auto":
        found = list(chosen.inspection.labels) if chosen.inspection.labels else None
        return found if found is None or chosen.score.classes in (None, len(found)) else None
    if isinstance(labels, (str, os.PathLike)):
        try:
            with open(labels, encoding="utf-8") as file:
                names = [line.strip() for line in file.read().splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"Cannot read the labels '{labels}': {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}."
            ) from error
    else:
        names = [str(name) for name in labels]
    if chosen.score.classes is not None and len(names) != chosen.score.classes:
        raise InputError(
            f"{len(names)} labels for a score of {chosen.score.classes} classes. Give one label for each class."
        )
    return names


def find_preprocess(given: str | os.PathLike[str] | Preprocess, chosen: Plan) -> tuple[Preprocess | None, str | None]:
    """The preprocessing, and the assumption to state where it was guessed."""
    inspection = chosen.inspection
    if isinstance(given, Preprocess):
        return given, None
    picture = next((i for i in inspection.inputs if i.layout in ("NCHW", "NHWC")), None)
    if given != "auto" and (picture is None or str(given) not in PRESETS):
        if isinstance(given, str) and not os.path.exists(given) and not given.endswith(".json"):
            image.preset(given, (224, 224), "NCHW", "float32")  # not a preset: raises with the closest names
        return Preprocess.from_file(given), None
    if picture is None:
        return None, None
    if given == "auto" and inspection.preprocess is not None:
        return Preprocess.from_json(json.dumps(inspection.preprocess), source="from the model's metadata"), None
    size = picture.size if all(isinstance(d, int) for d in picture.size) else (224, 224)
    name = str(given) if given != "auto" else _guess(picture)
    found = image.preset(name, (int(size[0]), int(size[1])), str(picture.layout), picture.dtype)
    if picture.channels == 1:
        found = replace(found, color="GRAY", mean=_grey(found.mean), std=_grey(found.std))
    guessed = given == "auto" or size != picture.size
    return (
        found,
        f"preprocessing '{name}' at {size[0]}×{size[1]} is a guess; set it with --preprocess" if guessed else None,
    )


def _grey(values: tuple[float, ...]) -> tuple[float, ...]:
    """One number for three colours."""
    return (sum(values) / len(values),)


def _guess(picture: Input) -> str:
    if picture.dtype == "uint8":
        return "raw"
    if picture.channels == 1:
        return "unit"
    return "imagenet" if picture.layout == "NCHW" else "tf"


def assumptions(
    chosen: Plan,
    layers: object,
    score: str,
    labels: object,
    found: list[str] | None,
    said: str | None,
    providers: object,
    provider: str,
) -> list[str]:
    """Lines that say what was chosen automatically, for a person."""
    lines = []
    if layers == "auto":
        layer = chosen.layers[0]
        grid = "×".join(str(d) if isinstance(d, int) else "?" for d in layer.grid)
        lines.append(f"layer '{layer.name}': the last feature map with a spatial extent, {layer.layout}, grid {grid}")
    if score == "auto":
        before = {"softmax": ", before the softmax", "sigmoid": ", before the sigmoid"}.get(
            chosen.score.activation or "", ""
        )
        lines.append(f"score '{chosen.score.tensor}'{before}")
    if said:
        lines.append(said)
    if labels == "auto" and found is None:
        lines.append("no class names in the model; set them with --labels")
    if providers == "auto":
        lines.append(f"provider {provider.removesuffix('ExecutionProvider')}")
    return lines
