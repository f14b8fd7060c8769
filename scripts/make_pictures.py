"""Make `docs/cat-and-espresso.png`: a photograph of two things, and what in it speaks for each of them."""

from pathlib import Path

import numpy as np

import onnxcam
from onnxcam import image

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "models" / "efficientnet-lite0.onnx"
PHOTO = ROOT / "models" / "cat-and-espresso.png"
PICTURE = ROOT / "docs" / "cat-and-espresso.png"
CLASSES = ("Egyptian cat", "espresso")
GAP = 8


def draw() -> image.Photo:
    """Place the photograph and its map for each class side by side, with white between."""
    overlays = [onnxcam.Explainer(MODEL, target=name).images([PHOTO]).overlays()[0] for name in CLASSES]
    panels = [image.read(PHOTO), *overlays]
    gap = np.full((len(panels[0]), GAP, 3), 255, np.uint8)
    row = [part for panel in panels for part in (panel, gap)]
    return np.concatenate(row[:-1], axis=1)


if __name__ == "__main__":
    PICTURE.parent.mkdir(exist_ok=True)
    image.write(PICTURE, draw())
    print(f"written: {PICTURE}")
