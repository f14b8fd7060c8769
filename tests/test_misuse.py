"""Mistakes in Python: each is an InputError of one line, and nothing is left behind."""

import json
from pathlib import Path

import numpy as np
import pytest

import onnxcam
from onnxcam.errors import InputError

MODEL = Path(__file__).parents[1] / "models" / "efficientnet-lite0.onnx"
X = np.zeros((1, 3, 224, 224), np.float32)


@pytest.mark.parametrize(
    "call",
    [
        lambda m, t: onnxcam.convert(m, 3),
        lambda m, t: onnxcam.convert(m, ["a"]),
        lambda m, t: onnxcam.convert(m, bytes(t / "a")),
        lambda m, t: onnxcam.convert(m, t / "a", tail=3),
        lambda m, t: onnxcam.convert(m, t / "a", triton=3),
        lambda m, t: onnxcam.convert(m, t / "a", triton=""),
        lambda m, t: onnxcam.convert(m, t / "a", gate="no"),
        lambda m, t: onnxcam.convert(m, t / "a", required=1),
        lambda m, t: onnxcam.strip(onnxcam.convert(m), 3),
        lambda m, t: onnxcam.vjp(m, of=3, wrt=["image"]),
        lambda m, t: onnxcam.vjp(m, of=None, wrt=["image"]),
        lambda m, t: onnxcam.vjp(m, of="logits", wrt=3),
        lambda m, t: onnxcam.vjp(m, of="logits", wrt=[3]),
        lambda m, t: onnxcam.Explainer(m, seed="x"),
        lambda m, t: onnxcam.Explainer(m, seed=None),
        lambda m, t: onnxcam.Explainer(m, seed=1.5),
        lambda m, t: onnxcam.Explainer(m, batch=True),
        lambda m, t: onnxcam.Explainer(m)(X).save(3),
    ],
)
def test_what_is_of_another_type_is_one_line(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        call(MODEL, tmp_path)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_repository_is_not_left_without_the_file_that_it_goes_with(tmp_path):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(InputError, match="file"):
        onnxcam.convert(MODEL, tmp_path / "file" / "x.onnx", triton=tmp_path / "repository")
    assert [p.name for p in tmp_path.rglob("*")] == ["file"]


@pytest.mark.parametrize("target", ["285 - 281", "p:285", "down:285", 285, None])
def test_the_record_says_what_was_asked_for(target, tmp_path):
    explanation = onnxcam.Explainer(MODEL, target=target).images([np.zeros((8, 8, 3), np.uint8)])
    explanation.save(tmp_path)
    assert json.loads((tmp_path / "photo0.json").read_text())["target"] == target
