"""Preprocessing as a person gives it: a JSON or YAML file, with our own fields or in the form of others."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from onnxcam.errors import InputError
from onnxcam.preprocessing import huggingface, timm
from onnxcam.preprocessing.spec import Preprocess, Slot

PathLike = str | os.PathLike[str]


def from_file(path: PathLike, slot: Slot | None = None) -> tuple[Preprocess, tuple[str, ...]]:
    """Read a JSON or YAML file, which becomes the `source`: our fields, Hugging Face's or timm's configuration.

    Fields of ours that are left out are as the `slot` has them. Returns it with lines on what is not followed exactly.
    Raises InputError where the file cannot be read, has unknown fields, or is YAML and PyYAML is not installed.
    """
    content, source, slot = load(path), f"file '{path}'", slot or Slot()
    try:
        if isinstance(content, Mapping):
            if huggingface.recognises(content):
                return huggingface.read(content, slot, source)
            if timm.recognises(content):
                return timm.read(content, slot, source)
        return Preprocess.from_fields(content, source, slot), ()
    except InputError as error:
        raise InputError(f"'{path}': {error}") from error


def load(path: PathLike) -> object:
    """The content of a JSON or YAML file. Raises InputError where that is not possible."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"Cannot read preprocessing '{path}': {getattr(error, 'strerror', 'it is not UTF-8 text')}."
        ) from error
    if Path(path).suffix.lower() in (".yaml", ".yml"):
        return _yaml(text, path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"Preprocessing of file '{path}' is not JSON: {error}.") from error


def _yaml(text: str, path: PathLike) -> object:
    try:
        import yaml  # type: ignore[import-untyped, unused-ignore]  # an extra: absent, or present without types
    except ImportError as error:
        raise InputError(f"'{path}' is YAML, and PyYAML is not installed. Run: pip install PyYAML") from error
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        where = " ".join(str(error).split())
        raise InputError(f"Preprocessing of file '{path}' is not YAML: {where}.") from error
