"""Inputs of a photo against what torchvision, timm, transformers, ultralytics, keras and open_clip made of it.

Frozen by `scripts/check_preprocessing.py --freeze`, with Pillow 12.3; some pixels of each.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from onnxcam import image
from onnxcam.preprocessing import Preprocess, Slot, embedded, huggingface, preset, timm
from tests.builders import MODELS

with np.load(Path(__file__).parents[1] / "golden" / "preprocessing.npz") as arrays:
    CASES = [(*json.loads(name), arrays[str(n)]) for n, name in enumerate(arrays["names"])]


def read(form, told):
    if form == "preset":
        return preset(told["name"], told["size"] and tuple(told["size"]), told.get("layout", "NCHW"))
    if form == "ultralytics":
        return embedded.ultralytics(told, Slot(dense=told["task"] == "detect"))
    readers = {"timm": timm.read, "huggingface": huggingface.read}
    return readers[form](told, Slot(), "")[0] if form in readers else Preprocess.from_fields(told)


@pytest.fixture(scope="module")
def photo():
    return np.ascontiguousarray(image.read(MODELS / "espresso.png")[3:330, 5:238])


@pytest.mark.parametrize(("name", "form", "told", "expected"), CASES, ids=[case[0] for case in CASES])
def test_inputs_are_the_librarys(photo, name, form, told, expected):
    given = read(form, told)
    values = given.apply(photo)
    space = (1, 2) if given.layout == "NHWC" else (2, 3)
    step = min(values.shape[a] for a in space) // 10
    values = values[tuple(slice(step // 2, None, step) if a in space else slice(None) for a in range(4))]
    assert values.shape == expected.shape
    np.testing.assert_allclose(values, expected, rtol=0, atol=2e-6 * max(1, np.abs(expected).max()))
