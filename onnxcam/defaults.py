"""What is found where the caller says nothing: class names, preprocessing; and the words that say what was assumed."""

import os
from collections.abc import Iterable, Sequence

from onnxcam.errors import InputError
from onnxcam.inspection import Score
from onnxcam.inspection.preparation import photographs, slot
from onnxcam.original import VERSION
from onnxcam.plan import Plan
from onnxcam.preprocessing import PRESETS, Preprocess, fitted, from_file, preset, sized


def find_labels(labels: str | os.PathLike[str] | Sequence[str], chosen: Plan) -> list[str] | None:
    """Class names: the model's own, a file with one a line, or a list. Raises InputError where they do not fit."""
    if isinstance(labels, str) and labels == "auto":
        found = _completed(list(chosen.inspection.labels), chosen.score) if chosen.inspection.labels else None
        return found if found is None or chosen.score.classes in (None, len(found)) else None
    if isinstance(labels, (str, os.PathLike)):
        where = f" in '{labels}'"
        try:
            with open(labels, encoding="utf-8-sig") as file:
                names = [line.strip() for line in file.read().splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"Cannot read the labels '{labels}': {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}."
            ) from error
    else:
        if not isinstance(labels, Iterable):
            raise InputError(f"Labels are 'auto', a file with one a line, or a list of names, not {labels!r}.")
        where, names = "", [str(name) for name in labels]
    names = _completed(names, chosen.score)
    if chosen.score.classes is not None and len(names) != chosen.score.classes:
        raise InputError(
            f"{len(names)} class names{where} for a score of {chosen.score.classes} classes. Give one for each."
        )
    return names


def _completed(names: list[str], score: Score) -> list[str]:
    """The names with those of classes that files leave out: the blank and the space of a reader of text, no object."""
    lacking = 0 if score.classes is None else score.classes - len(names)
    if score.kind == "sequence" and lacking in (1, 2):
        return ["blank", *names, *[" "] * (lacking - 1)]
    if lacking == 1 and score.boxes is not None and score.boxes.background is not None:
        at = score.boxes.background
        return [*names[:at], "no object", *names[at:]]
    return names


def find_preprocess(
    given: str | os.PathLike[str] | Preprocess, chosen: Plan
) -> tuple[Preprocess | None, tuple[str, ...]]:
    """The preprocessing, and lines on where it is from and what was guessed.

    `given` is "auto" for what `inspect` shows, a preset's name, or a JSON or YAML file. Raises InputError for another
    name, and for a file that does not say it.
    """
    inspection = chosen.inspection
    if isinstance(given, Preprocess):
        return given, ()
    if given == "auto":
        return inspection.preprocess, inspection.assumed
    if not isinstance(given, (str, os.PathLike)):
        raise InputError(f"Preprocessing is 'auto', the name of a preset, a file, or a `Preprocess`, not {given!r}.")
    picture = photographs(inspection.inputs, inspection.sources.get(chosen.layers[0].tensor, ()))
    if str(given) not in PRESETS:
        if isinstance(given, str) and not os.path.exists(given) and not given.endswith((".json", ".yaml", ".yml")):
            preset(given)  # raises with the closest names
        return from_file(given, slot(picture, chosen.score) if picture else None)
    if picture is None:
        return None, ()
    wanted = slot(picture, chosen.score)
    found = sized(fitted(preset(str(given)), wanted, asked=True), wanted)
    where = f"{found.size[0]}×{found.size[1]}" if found.size else f"height {found.shortest_edge}"
    open_ = f"preprocessing at {where} is a guess: the model's input has an open size"
    return found, () if wanted.size else (f"{open_}; set it with --preprocess and a file",)


def assumptions(
    chosen: Plan,
    layers: object,
    score: str,
    labels: object,
    found: list[str] | None,
    said: Sequence[str],
    providers: object,
    provider: str,
) -> list[str]:
    """Lines that say what was chosen automatically, for a person."""
    lines = []
    if chosen.told:
        lines.append(f"made by onnxcam {chosen.told[VERSION]}: what is not given is as the file was made with")
    elif layers == "auto" and chosen.score.boxes is not None and chosen.layers[0].tensor in chosen.score.boxes.levels:
        names = ", ".join(f"'{layer.name}'" for layer in chosen.layers)
        lines.append(f"layer {names}: what the convolutions that make the boxes' scores read")
    elif layers == "auto":
        layer = chosen.layers[0]
        position = layer.why.partition(",")[0]
        grid = "×".join(str(d) if isinstance(d, int) else "?" for d in layer.grid)
        lines.append(f"layer '{layer.name}': {position}, {layer.layout}, grid {grid}")
        lines += filter(None, [layer.note])
    if score == "auto" and not chosen.told:
        lines.append(", ".join(filter(None, [f"score '{chosen.score.tensor}'", chosen.score.where])))
    lines += said
    if labels == "auto" and found is None:
        lines.append("no class names in the model; set them with --labels")
    elif labels == "auto" and chosen.inspection.labels_from:
        lines.append(f"class names from {chosen.inspection.labels_from}")
    if providers == "auto":
        lines.append(f"provider {provider.removesuffix('ExecutionProvider')}")
    return lines


def of_method(name: str, chosen: Plan) -> list[str]:
    """What to know of a method that nobody named; scripts/results/pointing.md has the numbers behind the second."""
    if name != "gradcam":
        return [f"method {name}: what is explained is in one place"]
    if chosen.layers[0].prefix and not all(layer.heard for layer in chosen.inspection.layers):
        return ["method gradcam: hirescam tells classes apart better where one token is the answer"]
    return []
