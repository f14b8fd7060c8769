"""Photographs in and out."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
import numpy.typing as npt

from onnxcam import files
from onnxcam.errors import InputError

Photo = npt.NDArray[np.uint8]  # (H, W, 3), RGB
PathLike = str | os.PathLike[str]

OPENCV = {"linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC, "area": cv2.INTER_AREA}


def refuse_missing(paths: Iterable[PathLike]) -> None:
    """Raise InputError for the first file that cannot be opened: before any work, where there are many."""
    for path in paths:
        with _opened(path):
            pass


def read(path: PathLike) -> Photo:
    """Read a photograph: (H, W, 3) uint8 RGB, turned as its EXIF says, transparent parts over white.

    Raises InputError where the file is missing, or is no picture that OpenCV can decode completely.
    """
    with _opened(path) as file:
        data = file.read()
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


def photograph(given: PathLike | npt.ArrayLike) -> Photo:
    """A photograph from a path, as `read` has it, or an array: RGB (H, W, 3), or grey (H, W) or (H, W, 1).

    Raises InputError for any other, and what `read` raises.
    """
    if isinstance(given, (str, os.PathLike)):
        return read(given)
    array = np.asarray(given)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (1,), (3,)) or not array.size:
        raise InputError(
            f"A photo is an array of uint8, RGB (height, width, 3) or grey (height, width), not {_kind(array)}."
        )
    return array if array.shape[2:] == (3,) else np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2)


def check(photo: npt.NDArray[np.generic]) -> None:
    """Raise InputError unless this is a photograph as everything here takes it: (H, W, 3) uint8, not empty."""
    if getattr(photo, "dtype", None) != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or not photo.size:
        raise InputError(f"A photo is an array of uint8, RGB (height, width, 3), not {_kind(photo)}.")


def resize(photo: Photo, size: tuple[int, int], interpolation: str) -> Photo:
    """Resize (H, W, C) uint8 to `size` (h, w) as OpenCV does it, which is not antialiased but for "area"."""
    resized = cv2.resize(np.ascontiguousarray(photo), size[::-1], interpolation=OPENCV[interpolation])
    return np.asarray(resized, np.uint8).reshape(*size, photo.shape[2])


@contextmanager
def _opened(path: PathLike) -> Iterator[BinaryIO]:
    try:
        with open(path, "rb") as file:
            yield file
    except OSError as error:
        raise InputError(f"Cannot read photo '{path}': {error.strerror or error}.") from error


def _kind(array: npt.NDArray[np.generic]) -> str:
    return f"{getattr(array, 'shape', '')} {getattr(array, 'dtype', type(array).__name__)}".lstrip()


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
