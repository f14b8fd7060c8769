"""What a model file says of itself: class names and preprocessing, in the forms that exporters write them."""

import ast
import json
from collections.abc import Mapping

from onnxcam.errors import ModelError

_CLASSES = ("cam.classes", "names", "classes", "labels", "character")


def preprocess(metadata: Mapping[str, str]) -> Mapping[str, object] | None:
    """The JSON object of `cam.preprocess`. Raises ModelError where it is none."""
    text = metadata.get("cam.preprocess")
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError as error:
        message = f"The model's metadata 'cam.preprocess' is not JSON: {error}. Give the preprocessing by hand."
        raise ModelError(message) from error
    return found if isinstance(found, dict) else None


def labels(metadata: Mapping[str, str]) -> tuple[str, ...] | None:
    """Class names: a JSON list in `cam.classes`, ultralytics' dict in `names`, one a line in Paddle's `character`."""
    for key in _CLASSES:
        found = _names(metadata.get(key, ""))
        if found:
            return tuple(str(name) for name in found)
    return None


def _names(text: str) -> list[object] | None:
    if text.lstrip()[:1] not in ("[", "{"):
        lines = [line for line in text.splitlines() if line.strip()]
        return list(lines) if len(lines) > 1 else None
    try:
        found = json.loads(text)
    except ValueError:
        try:
            found = ast.literal_eval(text)  # Python's own notation, as ultralytics writes it
        except (ValueError, SyntaxError):
            return None
    if isinstance(found, dict):
        if not all(str(key).isdecimal() for key in found):
            return None
        return [found[key] for key in sorted(found, key=lambda k: int(str(k)))]
    return found if isinstance(found, list) else None
