"""Files beside a model that say how it was trained: configurations of Hugging Face and timm, and lists of class names.

Nobody asked for them by name, so what cannot be read there is said and passed over, never an error.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from onnxcam.errors import InputError
from onnxcam.preprocessing import huggingface, timm
from onnxcam.preprocessing.spec import Preprocess, Slot

LIMIT = 4_000_000  # bytes: no configuration or list of names is larger

LISTS = ("labels", "classes", "class_names", "synset", "synset_words", "imagenet_classes", "imagenet-classes")
OWN_LISTS = (".labels", "_labels", "-labels", ".classes", "_classes", "-classes", ".names")

Notes = tuple[str, ...]


def folders(path: Path) -> list[Path]:
    """The model's own folder, and the one above: optimum and transformers.js put `model.onnx` into `onnx/`."""
    own = path.resolve().parent
    return [own] if own.parent == own else [own, own.parent]


def preprocess(path: Path, slot: Slot) -> tuple[Preprocess | None, Notes]:
    """The configuration nearest to the model, and lines on what was not followed or not understood."""
    notes: list[str] = []
    for folder in folders(path):
        for name in ("preprocessor_config.json", "processor_config.json", "config.json"):
            config, complaint = _json(folder / name)
            if complaint:
                notes.append(complaint)
            form = timm if name == "config.json" else huggingface
            if not isinstance(config, dict) or not form.recognises(config):
                continue
            source = f"'{name}' {_place(path, folder)}"
            try:
                found, more = form.read(config, slot, source)
            except InputError as error:
                notes.append(f"{source} is passed over: {error}")
                continue
            return replace(found, source=f"from {source}"), (*notes, *more)
    return None, tuple(notes)


def labels(path: Path, count: int | None) -> tuple[list[str] | None, str | None]:
    """Names for `count` classes and the file that they are from; None where no file has so many."""
    if count is None:
        return None, None
    for file, names in _lists(path):
        if names is not None and len(names) == count:
            return names, f"'{file.name}' {_place(path, file.parent)}"
    return None, None


def counted(path: Path) -> int | None:
    """How many classes a `config.json` has, with names or without."""
    for folder in folders(path):
        config, _ = _json(folder / "config.json")
        names = config.get("id2label") if isinstance(config, dict) else None
        if isinstance(names, dict) and names:
            return len(names)
    return None


def _lists(path: Path) -> Iterator[tuple[Path, list[str] | None]]:
    """Every list of names, the model's own first."""
    own, *above = folders(path)
    for end in OWN_LISTS:
        for suffix in (".txt", ".json", ""):
            yield _named(own / f"{path.stem}{end}{suffix}")
    readers: tuple[Callable[[object], list[str] | None], ...] = (huggingface.labels, timm.labels)
    for folder in (own, *above):
        config, _ = _json(folder / "config.json")
        yield from ((folder / "config.json", read(config)) for read in readers)
    for folder in (own, *(f for f in above if own.name == "onnx")):
        for name in LISTS:
            for suffix in (".txt", ".json"):
                yield _named(folder / f"{name}{suffix}")


def _named(file: Path) -> tuple[Path, list[str] | None]:
    """The names in a file: one a line, or a JSON list, or a JSON object by number."""
    if file.suffix == ".json":
        content, _ = _json(file)
        if isinstance(content, dict):
            return file, _wordnet(content) or huggingface.labels({"id2label": content})
        return file, [str(n) for n in content] if isinstance(content, list) else None
    text = _text(file)
    return file, None if text is None else lines(text)


def lines(text: str) -> list[str]:
    """Names one a line; without the number or WordNet identifier that stands before each of them."""
    names = [line.strip() for line in text.splitlines() if line.strip()]
    for start in (re.compile(r"n\d{8}\s+"), re.compile(r"\d+[\s:,]+")):
        if names and all(start.match(name) for name in names):
            numbers = [name.split(maxsplit=1)[0].rstrip(":,") for name in names]
            if start.pattern.startswith("n") or numbers == [str(i) for i in range(len(names))]:
                return [start.sub("", name, count=1) for name in names]
    return names


def _wordnet(content: Mapping[str, object]) -> list[str] | None:
    """Keras's imagenet_class_index.json: {"0": ["n01440764", "tench"], …}."""
    if not content or not all(str(k).isdecimal() and isinstance(v, list) and v for k, v in content.items()):
        return None
    return [str(v[-1]) for _, v in sorted(content.items(), key=lambda item: int(item[0])) if isinstance(v, list)]


def _place(path: Path, folder: Path) -> str:
    return "beside the model" if folder == path.resolve().parent else "in the folder above the model"


def _text(file: Path) -> str | None:
    try:
        if not file.is_file() or file.stat().st_size > LIMIT:
            return None
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return None


def _json(file: Path) -> tuple[object, str | None]:
    """The content of a JSON file, None where there is none, and a line where it cannot be read."""
    text = _text(file)
    if text is None:
        return None, f"'{file.name}' is passed over: it cannot be read as text" if file.is_file() else None
    try:
        return json.loads(text), None
    except (ValueError, RecursionError) as error:
        return None, f"'{file.name}' is passed over: it is not JSON ({error})"
