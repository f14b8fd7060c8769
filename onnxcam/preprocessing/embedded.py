"""Preprocessing that a model file itself tells in its metadata: ours, ultralytics', and ONNX's own keys for images."""

import ast
from collections.abc import Mapping
from dataclasses import replace

from onnxcam import metadata
from onnxcam.preprocessing.presets import IMAGENET_MEAN, IMAGENET_STD, PRESETS, fitted
from onnxcam.preprocessing.spec import Preprocess, Slot

OURS = "from the model's metadata"
ONNX = "from the model's ONNX image metadata"

# https://github.com/onnx/onnx/blob/main/docs/MetadataProps.md
_RANGES = {"NominalRange_0_255": (0.0, 1.0), "Normalized_0_1": (0.0, 255.0), "Normalized_1_1": (127.5, 127.5)}
_COLORS = {"Gray8": "GRAY", "Rgb8": "RGB", "Bgr8": "BGR", "Rgba8": "RGB", "Bgra8": "BGR"}


def ours(said: Mapping[str, str], slot: Slot) -> Preprocess | None:
    """The JSON object in `cam.preprocess`. Raises ModelError where it is no JSON, InputError where it is wrong."""
    fields = metadata.preprocess(said)
    if fields is None:
        return None
    before = fields.get("source")
    return Preprocess.from_fields(dict(fields), f"{OURS} ({before})" if isinstance(before, str) else OURS, slot)


def ultralytics(said: Mapping[str, str], slot: Slot) -> Preprocess | None:
    """What YOLOv5 and ultralytics' exporters tell with `stride`, `names`, `task` and `imgsz`.

    A detector letterboxes; a classifier takes the centre, and one of YOLOv5, which names no task, normalises too.
    """
    if not {"stride", "names"} <= set(said):
        return None
    size = slot.size or _size(said.get("imgsz", "")) or (640, 640)
    if said.get("task") == "classify":  # torchvision's Resize of one number is the short side, that of two is exact
        found = Preprocess(size, std=(255.0,), resize="crop", shortest_edge=size[0])
        if size[0] != size[1]:
            found = Preprocess(size, std=(255.0,))
    elif "task" not in said and not slot.dense:
        found = Preprocess(size, IMAGENET_MEAN, IMAGENET_STD, resize="crop", crop_ratio=1, interpolation="linear")
    else:
        found = PRESETS["yolo"]
    return fitted(replace(found, size=size, source="from the model's ultralytics metadata"), slot)


def onnx_image(said: Mapping[str, str], slot: Slot) -> Preprocess | None:
    """What `Image.BitmapPixelFormat` and `Image.NominalPixelRange` say; the photo is stretched to the input.

    Without a range the values are those of the format's 8 bits.
    """
    color, range_ = said.get("Image.BitmapPixelFormat"), said.get("Image.NominalPixelRange", "NominalRange_0_255")
    if color not in _COLORS or range_ not in _RANGES or slot.size is None:
        return None
    mean, std = _RANGES[range_]
    return fitted(Preprocess(slot.size, (mean,), (std,), _COLORS[color], source=ONNX), slot)


def _size(text: str) -> tuple[int, int] | None:
    """`[640, 480]` or `640`: height and width."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    sides = [value, value] if isinstance(value, int) else value
    if isinstance(sides, (list, tuple)) and len(sides) == 2 and all(isinstance(s, int) and s > 0 for s in sides):
        return int(sides[0]), int(sides[1])
    return None
