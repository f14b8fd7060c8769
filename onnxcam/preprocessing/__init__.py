"""How photographs become inputs of a model: what it is, and where it is found."""

from onnxcam.preprocessing.documents import from_file
from onnxcam.preprocessing.guess import Entry, sized
from onnxcam.preprocessing.presets import PRESETS, fitted, preset
from onnxcam.preprocessing.search import Found, count_names, find, find_names
from onnxcam.preprocessing.spec import CHOICES, Preprocess, Slot

__all__ = [
    "CHOICES", "PRESETS", "Entry", "Found", "Preprocess", "Slot", "count_names", "find", "find_names", "fitted",
    "from_file", "preset", "sized",
]  # fmt: skip
