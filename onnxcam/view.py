"""Heat maps as pictures: in colour, and over the photo."""

import cv2
import numpy as np
import numpy.typing as npt

from onnxcam.errors import InputError
from onnxcam.image import Photo, check

Map = npt.NDArray[np.floating]


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
