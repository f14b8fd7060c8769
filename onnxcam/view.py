"""From raw maps to pictures, in pytorch-grad-cam's order: relu, min-max, resize, mean over layers, relu, min-max.

Where a sample's map is nowhere positive the result is 0 everywhere: nothing to show, and no noise is blown up.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from onnxcam.errors import InputError
from onnxcam.image import Photo, check
from onnxcam.methods.array import minmax, relu, upsample

Map = npt.NDArray[np.floating]
Map32 = npt.NDArray[np.float32]

EPS = 1e-7  # pytorch-grad-cam's


def relu_minmax(raw: Map) -> Map32:
    """Scale (N, *space) to 0..1 per sample: m = max(raw, 0), then (m − min) / (1e-7 + max(m − min)); float32."""
    m = relu(np.asarray(raw, np.float32))
    return np.asarray(minmax(m, tuple(range(1, m.ndim)), EPS))


def resize(maps: Map, size: Sequence[int]) -> Map32:
    """Resize (N, *space) to (N, *size), float32: linear, half-pixel centres, no antialias (`cv2.INTER_LINEAR`)."""
    return np.asarray(upsample(np.asarray(maps, np.float32), size))


def fuse(maps: Sequence[Map]) -> Map32:
    """Make one map of several layers' (N, *size), each scaled and resized before: their mean, scaled to 0..1 again."""
    return relu_minmax(np.mean(maps, axis=0))


def colour(map01: Map) -> Photo:
    """Colour a map (H, W) in 0..1 as (H, W, 3) uint8 RGB, from blue over green to red.

    Jet, which readers of Grad-CAM pictures know. Even maps of colour are no better here: over a photo, both ends of
    Turbo turn brown, and viridis, magma and inferno cannot be told from the photo's own shadows.

    Raises InputError for values that are not finite.
    """
    if map01.ndim != 2 or not np.isfinite(map01).all():
        raise InputError(f"A map to colour is (height, width) of finite numbers; this is {map01.shape}, or has NaN.")
    levels = np.rint(np.clip(map01, 0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(cv2.applyColorMap(levels, cv2.COLORMAP_JET)[:, :, ::-1], np.uint8)


def overlay(photo: Photo, map01: Map, alpha: float = 0.5) -> Photo:
    """Blend the coloured map over the photo in grey, so that every colour is the map's: (H, W, 3) uint8 RGB.

    alpha · colour(map) + (1 − alpha) · grey. A red object in the photo would look like evidence otherwise.
    Raises InputError where the map is not of the photo's size.
    """
    check(photo)
    if map01.shape != photo.shape[:2]:
        raise InputError(f"A map {map01.shape} cannot be laid over a photo {photo.shape[:2]}: resize it first.")
    grey = cv2.cvtColor(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return np.asarray(cv2.addWeighted(colour(map01), alpha, grey, 1 - alpha, 0), np.uint8)
