"""Where preprocessing and class names are found, in this order: in the file, beside it, in the graph, by habit."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from onnxcam import metadata
from onnxcam.errors import InputError, ModelError
from onnxcam.preprocessing import beside, embedded
from onnxcam.preprocessing.guess import Entry, guess, remaining
from onnxcam.preprocessing.spec import Preprocess, Slot


@dataclass(frozen=True)
class Found:
    """Preprocessing, and the lines that a person should know of it: where it is from, what is assumed.

    `guessed` where nothing in the file or beside it says so.
    """

    preprocess: Preprocess
    said: tuple[str, ...] = ()
    guessed: bool = False


def find(slot: Slot, said: Mapping[str, str], path: Path | None, entry: Entry) -> Found:
    """The preprocessing of a model: `said` is its metadata, `path` its file where it has one."""
    notes: tuple[str, ...] = ()
    try:
        own = embedded.ours(said, slot)
    except (InputError, ModelError) as error:  # a person can still give another
        own, notes = None, (f"the model's 'cam.preprocess' is passed over: {error}",)
    if own is not None:
        return Found(own)
    found = embedded.ultralytics(said, slot) or embedded.onnx_image(said, slot)
    if found is None and path is not None:
        found, more = beside.preprocess(path, slot)
        notes = (*notes, *more)
    if found is None:
        guessed, why = guess(slot, entry)
        return Found(guessed, (*why, *notes), guessed=True)
    found, changed = remaining(found, slot, entry)
    return Found(found, (f"preprocessing {found.source}", *changed, *notes))


def find_names(
    said: Mapping[str, str], path: Path | None, count: int | None
) -> tuple[tuple[str, ...] | None, str | None]:
    """Class names, and the file beside the model that they are from; None for the model's own."""
    own = metadata.labels(said)
    if own is not None or path is None:
        return own, None
    names, source = beside.labels(path, count)
    return (None if names is None else tuple(names)), source


def count_names(said: Mapping[str, str], path: Path | None) -> int | None:
    """How many classes the model names, or a configuration beside it has."""
    own = metadata.labels(said)
    return len(own) if own is not None else beside.counted(path) if path is not None else None
