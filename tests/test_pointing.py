"""Tiny trained networks on digits with known places: do the maps point at the digit whose class they explain?

`scripts/pointing_game.py` trained the networks, a CNN, a ViT with a class token and a ConvNeXt, and drew the pictures;
`scripts/results/pointing.md` has the scores on more of them. The limits are what each method gives here, less three
maps of 24; what blind choice gives is about 0.35.
"""

import functools
from pathlib import Path

import numpy as np
import pytest

from onnxcam import Explainer

GOLDEN = Path(__file__).parent / "golden"
MARGIN = 2  # pixels: half a cell of the 8×8 grid


@functools.cache
def pictures(kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, classes and boxes, a row for each digit."""
    with np.load(GOLDEN / "digits.npz") as arrays:
        seen, classes, boxes = (arrays[f"{kind}/{name}"] for name in ("pictures", "classes", "boxes"))
    inputs = np.repeat(seen.transpose(0, 3, 1, 2).astype(np.float32) / 255 * 2 - 1, classes.shape[1], axis=0)
    return inputs, classes.reshape(-1).astype(int), boxes.reshape(-1, 4).astype(int)


def hits(network: str, method: str, kind: str) -> float:
    """Share of the maps whose largest value lies on the digit's box."""
    inputs, classes, boxes = pictures(kind)
    maps = Explainer(GOLDEN / f"digits-{network}.onnx", method, target=classes.tolist())(inputs).maps
    found = []
    for heat, (left, top, right, bottom) in zip(maps, boxes, strict=True):
        y, x = np.unravel_index(heat.argmax(), heat.shape)
        found.append(left - MARGIN <= x < right + MARGIN and top - MARGIN <= y < bottom + MARGIN)
    return float(np.mean(found))
