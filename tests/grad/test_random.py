"""Gradients of what was drawn at random: differences cannot be taken, since each run draws anew."""

import numpy as np
import pytest

import onnxcam
from onnxcam.errors import ModelError, UnsupportedGradient
from tests.builders import model, run

X, U = np.random.default_rng(0).normal(size=(2, 40, 50)).astype(np.float32)
DROPOUT = "net (float[A, B] x, float r, bool t) => (float[A, B] y, bool[A, B] m) { y, m = Dropout(x, r, t) }"


def fed(ratio: float, training: bool) -> dict:
    return {"x": X, "r": np.array(ratio, np.float32), "t": np.array(training), "seed/y": U}


@pytest.mark.parametrize("opset", [12, 13, 21])
@pytest.mark.parametrize(("ratio", "training"), [(0.25, True), (0.9, True), (0.0, True), (0.25, False)])
def test_what_dropout_keeps_is_scaled(opset, ratio, training):
    proto = onnxcam.vjp(model(DROPOUT, opset=opset), of="y", wrt=["x", "r"])
    found = run(proto, fed(ratio, training), ["y", "m", "grad/x", "grad/r"])
    scale = 1 / (1 - ratio) if training else 1
    assert 0 <= found["m"].mean() - (1 - ratio if training else 1) + 0.05 <= 0.1
    np.testing.assert_allclose(found["grad/x"], U * found["m"] * scale, rtol=1e-5)
    share = (U * X * found["m"]).sum() * scale**2 if training else 0  # d/dr of x/(1 − r), at this mask
    np.testing.assert_allclose(found["grad/r"], share, rtol=1e-3, atol=1e-3)


def test_half_is_dropped_where_no_ratio_is_given():
    text = "net (float[A, B] x) => (float[A, B] y, bool[A, B] m) { y, m = Dropout(x, , t) }"
    proto = onnxcam.vjp(model(text, t=np.array(True)), of="y", wrt=["x"])
    found = run(proto, {"x": X, "seed/y": U}, ["m", "grad/x"])
    assert 0.4 < found["m"].mean() < 0.6
    np.testing.assert_allclose(found["grad/x"], U * found["m"] * 2, rtol=1e-6)


@pytest.mark.parametrize("mode", ["t", "u"])
def test_dropout_without_its_mask_is_refused(mode):
    text = f"net (float[A, B] x, bool u) => (float[A, B] y) {{ y = Dropout(x, r, {mode}) }}"
    proto = model(text, r=np.array(0.5), t=np.array(True))
    with pytest.raises(UnsupportedGradient, match="with the mask as an output"):
        onnxcam.vjp(proto, of="y", wrt=["x"])


@pytest.mark.parametrize("text", ["Bernoulli(x)", "RandomNormalLike(x)", "RandomUniformLike(x)"])
def test_draws_carry_none(text):
    with pytest.raises(ModelError, match="does not depend"):
        onnxcam.vjp(model(f"net (float[2, 3] x) => (float[2, 3] y) {{ y = {text} }}"), of="y", wrt=["x"])
