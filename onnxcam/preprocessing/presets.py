"""Preprocessing under the names that people know it by."""

import dataclasses

from onnxcam.errors import unknown
from onnxcam.preprocessing.spec import Preprocess, Slot

IMAGENET_MEAN = (123.675, 116.28, 103.53)  # (0.485, 0.456, 0.406) · 255
IMAGENET_STD = (58.395, 57.12, 57.375)
CLIP_MEAN = (0.48145466 * 255, 0.4578275 * 255, 0.40821073 * 255)
CLIP_STD = (0.26862954 * 255, 0.26130258 * 255, 0.27577711 * 255)

BYTES = {"uint8": (0.0,), "int8": (128.0,)}  # what to subtract, for models that take bytes

PRESETS = {
    "imagenet": Preprocess(mean=IMAGENET_MEAN, std=IMAGENET_STD, resize="crop"),  # torchvision
    "tf": Preprocess(mean=(127.5,), std=(127.5,)),  # −1..1: keras.applications' mode 'tf'
    "caffe": Preprocess(mean=(103.939, 116.779, 123.68), color="BGR"),  # keras.applications' mode 'caffe'
    "clip": Preprocess(mean=CLIP_MEAN, std=CLIP_STD, resize="crop", crop_ratio=1.0, interpolation="bicubic"),
    "siglip": Preprocess(mean=(127.5,), std=(127.5,), interpolation="bicubic"),  # −1..1, the whole photo
    "unit": Preprocess(std=(255.0,)),  # 0..1
    "raw": Preprocess(),  # 0..255: the model normalises by itself
    "yolo": Preprocess(std=(255.0,), resize="letterbox", interpolation="linear"),  # ultralytics, YOLOv5
    "yolox": Preprocess(color="BGR", resize="letterbox", anchor="top-left", interpolation="linear"),
}


def preset(
    name: str, size: tuple[int, int] | None = None, layout: str = "NCHW", dtype: str = "float32", channels: int = 3
) -> Preprocess:
    """Give the preset of this name for a model's input; raises InputError with the closest names for another."""
    if name not in PRESETS:
        raise unknown("preprocessing preset", name, PRESETS)
    found = gray(PRESETS[name]) if channels == 1 else PRESETS[name]
    return dataclasses.replace(found, size=size, layout=layout, dtype=dtype, source=f"preset '{name}'")


def fitted(given: Preprocess, slot: Slot, asked: bool = False) -> Preprocess:
    """The same for the input that a model has: its layout, type and number of colours.

    uint8 takes the bytes as they are, and int8 the same less 128, unless a person `asked` for the values.
    """
    found = gray(given) if slot.channels == 1 else given
    found = dataclasses.replace(found, layout=slot.layout, dtype=slot.dtype)
    return found if asked or slot.dtype not in BYTES else dataclasses.replace(found, mean=BYTES[slot.dtype], std=(1.0,))


def gray(given: Preprocess) -> Preprocess:
    """The same for one channel: the mean of the three colours' numbers."""
    mean, std = ((sum(values) / len(values),) for values in (given.mean, given.std))
    return dataclasses.replace(given, color="GRAY", mean=mean, std=std)
