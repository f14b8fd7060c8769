"""Compare what onnxcam makes of photographs with what the libraries make of them that models are trained with.

    scripts/compare preprocessing                     in the environment that it needs
    python scripts/check_preprocessing.py             where torchvision, timm, transformers, ultralytics and keras are
    python scripts/check_preprocessing.py --freeze    only write the numbers that tests/preprocessing compares with

Each library's own code runs on two photographs of models/ and a part of odd sides of one; ours runs on what the
library writes into a model or beside it, or on a preset. Differences are in units of the model's input, and in levels
of 0..255. Libraries that resize tensors round otherwise than Pillow, and their bicubic filter enlarges otherwise: by up
to a level, and up to a dozen at sharp edges. Pillow 13 takes the rows first where that is cheaper, which is a level as
well; Pillow up to 12, with which models were trained, takes the columns first, and so does onnxcam.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from common import ROOT, markdown, versions, write_result
from PIL import Image

from onnxcam import image
from onnxcam.preprocessing import Preprocess, Slot, embedded, huggingface, preset, timm

os.environ.setdefault("KERAS_BACKEND", "torch")
GOLDEN = ROOT / "tests" / "golden" / "preprocessing.npz"
Photo = np.ndarray
Transform = Callable[[Photo], np.ndarray]

FORMS: dict[str, Callable[[dict[str, Any]], Preprocess]] = {
    "fields": lambda told: Preprocess.from_fields(told),
    "preset": lambda told: preset(told["name"], told["size"] and tuple(told["size"]), told.get("layout", "NCHW")),
    "timm": lambda told: timm.read(told, Slot(), "")[0],
    "huggingface": lambda told: huggingface.read(told, Slot(), "")[0],
    "ultralytics": lambda told: embedded.ultralytics(told, Slot(dense=told["task"] == "detect")),
}
IMAGENET = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}


class Case(NamedTuple):
    """What a library makes of a photo, and what it tells, which one of FORMS reads."""

    name: str
    theirs: Transform
    form: str
    told: dict[str, Any]

    @property
    def ours(self) -> Preprocess:
        """What we make of what it tells."""
        return FORMS[self.form](self.told)


def photographs() -> dict[str, Photo]:
    cat, espresso = (image.read(ROOT / "models" / f"{name}.png") for name in ("cat", "espresso"))
    return {"cat": cat, "espresso": espresso, "odd": np.ascontiguousarray(espresso[3:330, 5:238])}


def torchvision_cases() -> Iterator[Case]:
    from torchvision.transforms import InterpolationMode, _presets

    for crop, edge, name in ((224, 256, "bilinear"), (224, 232, "bilinear"), (384, 384, "bicubic")):
        mode = InterpolationMode(name)
        transform = _presets.ImageClassification(crop_size=crop, resize_size=edge, interpolation=mode)
        told = {"size": [crop, crop], "resize": "crop", "shortest_edge": edge, "interpolation": name, **IMAGENET}
        for kind, convert in (("Pillow", Image.fromarray), ("tensor", tensor)):
            yield Case(f"torchvision: {crop} of {edge} {name}, {kind}", batch(transform, convert), "fields", told)
    told = {"name": "imagenet", "size": [224, 224]}
    yield Case("torchvision: preset imagenet", batch(_presets.ImageClassification(crop_size=224)), "preset", told)
    told = {"resize": "proportional", "shortest_edge": 520, **IMAGENET}
    yield Case("torchvision: segmentation 520", batch(_presets.SemanticSegmentation(resize_size=520)), "fields", told)
    told = {"name": "unit", "size": None}
    yield Case("torchvision: detection", batch(_presets.ObjectDetection()), "preset", told)


def timm_cases() -> Iterator[Case]:
    from timm.data import create_transform, resolve_data_config

    rows: list[tuple[int, int, dict[str, Any]]] = [
        (224, 224, {"crop_pct": 0.95, "interpolation": "bicubic"}),
        (224, 224, {"crop_pct": 0.875, "interpolation": "bilinear"}),
        (224, 224, {"crop_pct": 0.9, "crop_mode": "squash"}),
        (224, 224, {"crop_pct": 1.0, "crop_mode": "border"}),
        (240, 240, {"crop_pct": 0.882}),
        (256, 128, {"crop_pct": 0.95}),
    ]
    for height, width, more in rows:
        cfg = {"input_size": [3, height, width], "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], **more}
        transform = create_transform(**resolve_data_config(pretrained_cfg=cfg))
        words = ", ".join(str(v) for v in (f"{height}×{width}", *more.values()))
        yield Case(f"timm: {words}", batch(transform), "timm", {"pretrained_cfg": cfg})


def huggingface_cases() -> Iterator[Case]:
    import transformers

    square, short = {"height": 224, "width": 224}, {"shortest_edge": 224}
    families: dict[str, dict[str, Any]] = {
        "ViT": {}, "DeiT": {}, "Beit": {}, "CLIP": {}, "Siglip": {}, "Bit": {"size": {"shortest_edge": 256}},
        "ConvNext": {"size": short}, "ConvNext ": {}, "PoolFormer": {}, "Levit": {}, "MobileNetV1": {},
        "MobileNetV2": {}, "MobileViT": {"do_normalize": False}, "EfficientNet": {"size": square, "resample": 0},
        "Segformer": {}, "RTDetr": {}, "Yolos": {"do_pad": False}, "Detr": {"do_pad": False}, "Blip": {}, "DPT": {},
        "Pvt": {},
    }  # fmt: skip
    for family, given in families.items():
        for end, backend in (("ImageProcessorPil", "Pillow"), ("ImageProcessor", "torchvision")):
            processor = getattr(transformers, family.strip() + end)(**given)
            told = json.loads(processor.to_json_string())
            name = f"Hugging Face: {family.strip()} {_words(told)}, {backend}"
            yield Case(
                name, lambda p, f=processor: array(f(p, return_tensors="np")["pixel_values"]), "huggingface", told
            )


def ultralytics_cases() -> Iterator[Case]:
    import cv2
    from ultralytics.data.augment import LetterBox, classify_transforms

    def letterboxed(height: int, width: int) -> Transform:
        return lambda p: LetterBox((height, width))(image=p).transpose(2, 0, 1)[None].astype(np.float32) / 255

    def yolox(photo: Photo) -> np.ndarray:
        """YOLOX's preproc, github.com/Megvii-BaseDetection/YOLOX/blob/main/yolox/data/data_augment.py."""
        padded = np.full((416, 416, 3), 114, np.uint8)
        ratio = min(416 / photo.shape[0], 416 / photo.shape[1])
        size = int(photo.shape[1] * ratio), int(photo.shape[0] * ratio)
        resized = cv2.resize(np.ascontiguousarray(photo[:, :, ::-1]), size, interpolation=cv2.INTER_LINEAR)
        padded[: size[1], : size[0]] = resized
        return padded.transpose(2, 0, 1)[None].astype(np.float32)

    for height, width in ((640, 640), (320, 480)):
        told = {"stride": "32", "names": "{0: 'a'}", "task": "detect", "imgsz": f"[{height}, {width}]"}
        yield Case(f"ultralytics: LetterBox {height}×{width}", letterboxed(height, width), "ultralytics", told)
    told = {"stride": "1", "names": "{0: 'a'}", "task": "classify", "imgsz": "[224, 224]"}
    yield Case("ultralytics: classify 224", batch(classify_transforms(224)), "ultralytics", told)
    yield Case("YOLOX: preset yolox", yolox, "preset", {"name": "yolox", "size": [416, 416]})


def other_cases() -> Iterator[Case]:
    import keras
    import open_clip

    def load(mode: str) -> Transform:
        def apply(photo: Photo) -> np.ndarray:
            resized = Image.fromarray(photo).resize((224, 224), Image.Resampling.BILINEAR)
            given = np.asarray(resized, np.float32)[None]
            return keras.applications.imagenet_utils.preprocess_input(given, "channels_last", mode)

        return apply

    for mode in ("tf", "caffe"):
        told = {"name": mode, "size": [224, 224], "layout": "NHWC"}
        yield Case(f"keras.applications: preset {mode}", load(mode), "preset", told)
    told = {"size": [224, 224], "layout": "NHWC", **IMAGENET}
    yield Case("keras.applications: mode torch", load("torch"), "fields", told)
    told = {"name": "clip", "size": [224, 224]}
    yield Case("open_clip: preset clip", batch(open_clip.image_transform(224, is_train=False)), "preset", told)


GROUPS = (torchvision_cases, timm_cases, huggingface_cases, ultralytics_cases, other_cases)


def tensor(photo: Photo) -> Any:
    import torch

    return torch.from_numpy(photo.transpose(2, 0, 1).copy())


def batch(transform: Callable[[Any], Any], convert: Callable[[Photo], Any] = Image.fromarray) -> Transform:
    return lambda photo: array(transform(convert(photo)))[None]


def array(value: Any) -> np.ndarray:
    return np.asarray(value.numpy() if hasattr(value, "numpy") else value, np.float32)


def _words(told: dict[str, Any]) -> str:
    sides = [str(told[k]) for k in ("size", "crop_size") if isinstance(told.get(k), dict)]
    return " ".join(sides).replace("'", "").replace("shortest_edge", "short").replace("longest_edge", "long")


def measure(case: Case, photo: Photo) -> tuple[float, float, float]:
    """Largest difference; largest and mean one in levels of 0..255."""
    found, true = case.ours.apply(photo), case.theirs(photo)
    if found.shape != true.shape:
        return np.inf, np.inf, np.inf
    gap = np.abs(found.astype(np.float64) - true)
    std = np.asarray(case.ours.std, np.float64)
    levels = gap * (std if case.ours.layout == "NHWC" else std[:, None, None])
    return float(gap.max()), float(levels.max()), float(levels.mean())


def freeze(cases: list[Case], photo: Photo) -> None:
    """Write some pixels of each case on Pillow or OpenCV, and what the library tells, for tests without any of them."""
    arrays = {}
    for case in cases:
        if not case.name.endswith((", tensor", ", torchvision")):
            true = case.theirs(photo)
            space = (1, 2) if case.ours.layout == "NHWC" else (2, 3)
            step = min(true.shape[a] for a in space) // 10
            part = tuple(slice(step // 2, None, step) if a in space else slice(None) for a in range(4))
            arrays[json.dumps([case.name, case.form, case.told])] = true[part]
    np.savez_compressed(GOLDEN, names=np.array(list(arrays)), **{f"{n}": v for n, v in enumerate(arrays.values())})
    print(f"written: {GOLDEN.relative_to(ROOT)} ({GOLDEN.stat().st_size} bytes)")


def main() -> int:
    """Measure, print, write the report."""
    cases = [case for group in GROUPS for case in group()]
    photos = photographs()
    if "--freeze" in sys.argv[1:]:
        freeze(cases, photos["odd"])
        return 0
    rows = []
    for case in cases:
        largest, levels, mean = (max(c) for c in zip(*(measure(case, p) for p in photos.values()), strict=True))
        rows.append([case.name, f"{largest:.1g}", f"{levels:.2g}", f"{mean:.1g}"])
    table = markdown(["library", "largest difference", "in levels of 255", "mean, in levels"], rows)
    print(table)
    made = versions("torchvision", "timm", "transformers", "ultralytics", "keras", "open_clip_torch", "pillow")
    about = __doc__.partition("compares with\n\n")[2].strip()
    text = [
        "# Preprocessing against the libraries",
        f"Made by `scripts/compare preprocessing` with {made}.",
        about,
        table,
    ]
    write_result("preprocessing", "\n\n".join(text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
