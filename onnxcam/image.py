"""Photographs in and out, and the way from a photograph to the tensor that a model takes, and back.

The trap: a map is only in the right place if the geometry that made the input is undone exactly. So `Preprocess.fit`
is the one description of it, and both directions (`apply`, `restore`) read it.
"""

import dataclasses
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from onnxcam import files
from onnxcam.errors import InputError, unknown
from onnxcam.geometry import Geometry, Size, fit, resample

Photo = npt.NDArray[np.uint8]  # (H, W, 3), RGB
Floats = npt.NDArray[np.floating]
PathLike = str | os.PathLike[str]

LETTERBOX_GREY = 114  # of 255: what detectors are trained with (darknet, ultralytics)

CHOICES = {
    "color": ("RGB", "BGR", "GRAY"),
    "resize": ("stretch", "crop", "letterbox"),
    "interpolation": ("nearest", "bilinear", "bicubic", "lanczos"),
    "layout": ("NCHW", "NHWC"),
    "dtype": ("float32", "float16", "float64", "uint8", "int8", "uint16", "int16", "int32"),
}


def read(path: PathLike) -> Photo:
    """Read a photograph: (H, W, 3) uint8 RGB, turned as its EXIF says, transparent parts over white.

    Raises InputError where the file is missing, or is no picture that OpenCV can decode completely.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"Cannot read photo '{path}': {error.strerror}.") from error
    if data.startswith(b"\x89PNG") and b"IEND" not in data:  # libpng would write a complaint of its own to stderr
        raise InputError(f"Cannot decode photo '{path}': the PNG file is cut off.")
    picture = _decode(np.frombuffer(data, np.uint8))
    if picture is None:
        raise InputError(f"Cannot decode photo '{path}': it is not a complete JPEG, PNG, WebP, TIFF, BMP or GIF file.")
    return picture


def write(path: PathLike, picture: npt.NDArray[np.uint8]) -> None:
    """Write (H, W, 3) RGB or (H, W) grey uint8 in the format that the suffix names; the file appears complete or not.

    Raises InputError for another array, a suffix that OpenCV does not write, or a place that cannot be written.
    """
    if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or picture.shape[2:] not in ((), (3,)):
        raise InputError(f"A picture is (height, width) or (height, width, 3) uint8, not {_kind(picture)}.")
    path = Path(path)
    with _silent():
        try:
            done, data = cv2.imencode(path.suffix, picture if picture.ndim == 2 else picture[:, :, ::-1])
        except cv2.error as error:
            raise InputError(f"Cannot write '{path}': use .png, .jpg or .webp for a picture.") from error
    if not done:
        raise InputError(f"Cannot write '{path}': {_kind(picture)} does not fit into this format.")
    files.write(path, data.tobytes())


def check(photo: npt.NDArray[np.generic]) -> None:
    """Raise InputError unless this is a photograph as everything here takes it: (H, W, 3) uint8, not empty."""
    if getattr(photo, "dtype", None) != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or not photo.size:
        raise InputError(f"A photo is an array (height, width, 3) of uint8, RGB, not {_kind(photo)}.")


@dataclass(frozen=True)
class Preprocess:
    """How a photo becomes a model's input: geometry, colours, `(x − mean) / std` with x in 0..255, layout.

    `size` is (height, width), or None for the photo's own. `mean` and `std` are in the order of `color`.
    `crop` is what classifiers are evaluated with: the short side to `size / crop_ratio`, then the centre.
    Raises InputError where a field has a value that cannot be meant.
    """

    size: Size | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    color: str = "RGB"
    resize: str = "stretch"
    crop_ratio: float = 0.875
    interpolation: str = "bilinear"
    layout: str = "NCHW"
    dtype: str = "float32"
    source: str = field(default="given", compare=False)

    def __post_init__(self) -> None:
        for name in ("size", "mean", "std"):
            if isinstance(getattr(self, name), list):  # as JSON has them
                object.__setattr__(self, name, tuple(getattr(self, name)))
        for name, names in CHOICES.items():
            if getattr(self, name) not in names:
                raise unknown(f"preprocessing {name}", str(getattr(self, name)), names)
        channels = 1 if self.color == "GRAY" else 3
        counts = {1, channels}
        rules = {
            "size": (self.size is None or _positive(self.size, {2}, whole=True), "[height, width], whole and above 0"),
            "mean": (_numbers(self.mean, counts), f"a list of {channels} numbers, or of 1"),
            "std": (_positive(self.std, counts), f"a list of {channels} numbers above 0, or of 1"),
            "crop_ratio": (_positive((self.crop_ratio,), {1}) and self.crop_ratio <= 1, "above 0 and at most 1"),
            "source": (isinstance(self.source, str), "a text"),
        }
        for name, (good, wanted) in rules.items():
            if not good:
                raise InputError(f"Preprocessing: '{name}' must be {wanted}, not {getattr(self, name)!r}.")

    def fit(self, photo_shape: tuple[int, ...]) -> Geometry:
        """Give the geometry for a photo of this shape, (H, W) or (H, W, 3)."""
        photo = photo_shape[0], photo_shape[1]
        return fit(photo, photo) if self.size is None else fit(photo, self.size, self.resize, self.crop_ratio)

    def apply(self, photo: Photo) -> npt.NDArray[np.generic]:
        """Make the model's input from a photo (H, W, 3) uint8 RGB: [1, C, h, w] or [1, h, w, C] of `dtype`.

        Raises InputError for another array.
        """
        check(photo)
        geometry = self.fit(photo.shape)
        picture = np.full((*geometry.size, 3), LETTERBOX_GREY, np.uint8)
        if self.interpolation != "nearest":  # 10 times faster on 12 megapixels, as Pillow's reducing_gap
            height, width = (min(n, 4 * r) for n, r in zip(geometry.photo, geometry.resized, strict=True))
            photo = np.asarray(cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
        picture[geometry.inside] = resample(photo, geometry.resized, geometry.shown, self.interpolation)
        if self.color == "BGR":
            picture = picture[:, :, ::-1]
        elif self.color == "GRAY":
            picture = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8)[:, :, None]
        values = (picture - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
        if np.dtype(self.dtype).kind in "iu":
            limits = np.iinfo(self.dtype)
            values = np.rint(values).clip(limits.min, limits.max)
        if self.layout == "NCHW":
            values = values.transpose(2, 0, 1)
        return np.ascontiguousarray(values[None], self.dtype)

    def restore(self, map01: Floats, photo_shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Bring a map (h, w) of the input's size back to the photo: (H, W) float32, 0 where the model saw nothing.

        Raises InputError for a map of another size.
        """
        geometry = self.fit(photo_shape)
        if map01.shape != geometry.size:
            raise InputError(f"A map {map01.shape} is none of this photo: the model's input is {geometry.size}.")
        rows, columns = (
            slice(round(part.start / scale), round(part.stop / scale))
            for part, scale in zip(geometry.shown, geometry.scale, strict=True)
        )
        restored = np.zeros(geometry.photo, np.float32)
        height, width = restored[rows, columns].shape
        restored[rows, columns] = cv2.resize(map01[geometry.inside].astype(np.float32), (width, height))
        return restored

    def describe(self) -> str:
        """Say it in one line for a person."""
        size = "photo's own size"
        if self.size is not None:
            words = {
                "stretch": "stretched to",
                "letterbox": "letterboxed to",
                "crop": f"centre crop {self.crop_ratio:g} of",
            }
            size = f"{words[self.resize]} {self.size[0]}×{self.size[1]} ({self.interpolation})"
        return f"{size}, {self.color}, {_formula(self.mean, self.std)}, {self.layout} {self.dtype}; {self.source}"

    def to_json(self) -> str:
        """Write every field as one JSON object."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str, source: str | None = None) -> "Preprocess":
        """Read what `to_json` wrote; fields that are left out have their defaults.

        Raises InputError for text that is no JSON object, unknown fields and wrong values.
        """
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"Preprocessing{f' of {source}' if source else ''} is not JSON: {error}.") from error
        if not isinstance(fields, dict):
            raise InputError(f"Preprocessing is a JSON object with fields like 'mean', not {type(fields).__name__}.")
        names = [f.name for f in dataclasses.fields(cls)]
        for key in fields:
            if key not in names:
                raise unknown("preprocessing field", key, names)
        return cls(**fields | ({"source": source} if source else {}))

    @classmethod
    def from_file(cls, path: PathLike) -> "Preprocess":
        """Read a JSON file, which becomes the `source`. Raises InputError where that is not possible."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"Cannot read preprocessing '{path}': {getattr(error, 'strerror', 'it is not UTF-8 text')}."
            ) from error
        return cls.from_json(text, source=f"file '{path}'")


def _kind(array: npt.NDArray[np.generic]) -> str:
    return f"{getattr(array, 'shape', '')} {getattr(array, 'dtype', type(array).__name__)}".lstrip()


def _numbers(values: object, counts: set[int], whole: bool = False) -> bool:
    """Is it a tuple of this many sensible numbers? True and False are none, though Python counts them as such."""
    kinds = (int,) if whole else (int, float)
    return (
        isinstance(values, tuple)
        and len(values) in counts
        and all(isinstance(v, kinds) and not isinstance(v, bool) and abs(v) < 1e9 for v in values)
    )


def _positive(values: tuple[float, ...], counts: set[int], whole: bool = False) -> bool:
    return _numbers(values, counts, whole) and min(values) > 0


def _formula(mean: tuple[float, ...], std: tuple[float, ...]) -> str:
    def text(values: tuple[float, ...]) -> str:
        return f"{values[0]:.4g}" if len(set(values)) == 1 else f"[{' '.join(f'{v:.4g}' for v in values)}]"

    top = f"(x − {text(mean)})" if any(mean) else "x"
    return f"{top} / {text(std)}" if set(std) != {1} else f"{top} of 0..255"


@contextmanager
def _silent() -> Iterator[None]:
    """Keep OpenCV's own log lines off stderr: an InputError says it in one."""
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


def _decode(data: npt.NDArray[np.uint8]) -> Photo | None:
    """Decode to RGB, or None. OpenCV drops transparency where it turns a picture, so both readings are needed."""
    with _silent():
        try:
            picture = cv2.imdecode(data, cv2.IMREAD_COLOR)
            jpeg = data[:2].tobytes() == b"\xff\xd8"
            full = None if jpeg or picture is None else cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
        except cv2.error:
            return None
    if picture is None:
        return None
    if full is not None and full.ndim == 3 and full.shape[2] == 4 and full.dtype.kind == "u":
        values = full / np.float32(255 if full.dtype == np.uint8 else 65535)
        picture = np.rint((values[:, :, :3] * values[:, :, 3:] + 1 - values[:, :, 3:]) * 255)
    return np.ascontiguousarray(picture[:, :, ::-1], np.uint8)


CLIP_MEAN = (0.48145466 * 255, 0.4578275 * 255, 0.40821073 * 255)
CLIP_STD = (0.26862954 * 255, 0.26130258 * 255, 0.27577711 * 255)

PRESETS = {
    "imagenet": Preprocess(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), resize="crop"),  # torchvision
    "tf": Preprocess(mean=(127.5,), std=(127.5,)),  # −1..1: keras.applications' mode 'tf'
    "caffe": Preprocess(mean=(103.939, 116.779, 123.68), color="BGR"),  # keras.applications' mode 'caffe'
    "clip": Preprocess(mean=CLIP_MEAN, std=CLIP_STD, resize="crop", crop_ratio=1.0, interpolation="bicubic"),
    "unit": Preprocess(std=(255.0,)),  # 0..1
    "raw": Preprocess(),  # 0..255: the model normalises by itself
}


def preset(name: str, size: Size | None = None, layout: str = "NCHW", dtype: str = "float32") -> Preprocess:
    """Give the preset of this name for a model's input; raises InputError with the closest names for another."""
    if name not in PRESETS:
        raise unknown("preprocessing preset", name, PRESETS)
    return dataclasses.replace(PRESETS[name], size=size, layout=layout, dtype=dtype, source=f"preset '{name}'")
