"""Tiny trained networks on digits with known places: do the maps point at the digit whose class they explain?

`scripts/pointing_game.py` trained the networks, a CNN, a ViT with a class token and a ConvNeXt, and drew the pictures;
`scripts/results/pointing.md` has the scores on more of them. The limits are what each method gives here, less three
maps of 24. Blind choice gives 0.3, and for two digits a method that ignores the class gives half. Grad-CAM and
XGrad-CAM average the gradient over places, which says little in a ViT whose head reads one token: they are left out.
"""

import functools
from pathlib import Path

import numpy as np
import pytest

from onnxcam import Explainer, inspect

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


@pytest.mark.parametrize(
    ("network", "layout", "prefix"), [("cnn", "NCHW", 0), ("vit", "tokens", 1), ("convnext", "NCHW", 0)]
)
def test_the_layer_is_the_last_one_with_a_grid(network, layout, prefix):
    layer = inspect(GOLDEN / f"digits-{network}.onnx").layers[0]
    assert (layer.layout, layer.grid, layer.prefix) == (layout, (8, 8), prefix)


@pytest.mark.parametrize(
    ("network", "method", "alone", "beside"),
    [
        ("cnn", "cam", 0.87, 0.87),
        ("cnn", "gradcam", 0.87, 0.87),
        ("cnn", "gradcam++", 0.87, 0.87),
        ("cnn", "xgradcam", 0.87, 0.87),
        ("cnn", "layercam", 0.87, 0.87),
        ("vit", "hirescam", 0.87, 0.72),
        ("vit", "gradcamelementwise", 0.87, 0.72),
        ("vit", "layercam", 0.87, 0.7),
        ("convnext", "gradcam", 0.83, 0.68),
        ("convnext", "xgradcam", 0.83, 0.68),
        ("convnext", "hirescam", 0.83, 0.68),
        ("convnext", "gradcamelementwise", 0.87, 0.68),
        ("convnext", "layercam", 0.83, 0.66),
    ],
)
def test_a_map_points_at_its_digit_and_not_at_the_one_beside_it(network, method, alone, beside):
    assert hits(network, method, "one") >= alone
    assert hits(network, method, "two") >= beside


@pytest.mark.parametrize("network", ["cnn", "vit", "convnext"])
def test_a_method_that_knows_no_class_finds_digits_and_cannot_tell_them_apart(network):
    assert hits(network, "eigencam", "one") >= 0.8
    assert 0.4 <= hits(network, "eigencam", "two") <= 0.6


def test_the_game_can_be_lost():
    assert hits("cnn", "random", "one") <= 0.4


def test_where_one_token_is_the_answer_another_method_is_named():
    for network, said in (("cnn", False), ("vit", True), ("convnext", False)):
        lines = Explainer(GOLDEN / f"digits-{network}.onnx").assumptions
        assert any("hirescam tells classes apart better" in line for line in lines) is said
    assert not any("hirescam" in x for x in Explainer(GOLDEN / "digits-vit.onnx", "gradcam").assumptions)
