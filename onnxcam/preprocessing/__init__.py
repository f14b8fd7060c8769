"""How photographs become inputs of a model: what it is, and where it is found."""

from onnxcam.preprocessing.documents import from_file
from onnxcam.preprocessing.guess import DEFAULT, Entry
from onnxcam.preprocessing.presets import PRESETS, fitted, preset
from onnxcam.preprocessing.search import Found, find, find_names
from onnxcam.preprocessing.spec import CHOICES, Preprocess, Slot

__all__ = [
    "CHOICES", "DEFAULT", "PRESETS", "Entry", "Found", "Preprocess", "Slot", "find", "find_names", "fitted",
    "from_file", "preset",
]  # fmt: skip
