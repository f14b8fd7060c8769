"""Grey pictures without an axis for their colour, N×H×W: as the same network explains them with one, N×1×H×W."""

import cv2
import numpy as np
import onnx
import pytest

import onnxcam
from onnxcam.errors import InputError, ModelError
from tests.builders import model, run

RNG = np.random.default_rng(3)
WEIGHTS = {"W": RNG.normal(size=(4, 1, 3, 3)), "B": RNG.normal(size=4), "H": RNG.normal(size=(4, 3))}
BODY = """c = Conv<pads = [1, 1, 1, 1]>(h, W, B) map = Relu(c) m = GlobalAveragePool(map) f = Flatten(m)
  y = MatMul(f, H)"""
ENTRIES = {
    "an axis": ("h = Unsqueeze(x, one)", {"one": np.int64([1])}),
    "an axis, later": ("s = Mul(x, half) h = Unsqueeze(s, one)", {"one": np.int64([1]), "half": np.float64(0.5)}),
    "reshaped": ("h = Reshape(x, open)", {"open": np.int64([-1, 1, 24, 20])}),
    "reshaped, the samples kept": ("h = Reshape(x, kept)", {"kept": np.int64([0, 1, 24, 20])}),
    "colours last": (
        "l = Reshape(x, last) h = Transpose<perm = [0, 3, 1, 2]>(l)",
        {"last": np.int64([-1, 24, 20, 1])},
    ),
    "of any size": ("h = Unsqueeze(x, one)", {"one": np.int64([1])}),
}


def net(entry: str = "an axis", batch: str = "N") -> onnx.ModelProto:
    before, more = ENTRIES[entry]
    size = "H, W" if "any" in entry else "24, 20"
    return model(f"net (float[{batch}, {size}] x) => (float[{batch}, 3] y) {{ {before} {BODY} }}", **WEIGHTS, **more)


def twin(entry: str = "an axis") -> onnx.ModelProto:
    before = "h = Mul(x, half)" if "later" in entry else "h = Identity(x)"
    half = {"half": np.float64(0.5)} if "later" in entry else {}
    return model(f"net (float[N, 1, 24, 20] x) => (float[N, 3] y) {{ {before} {BODY} }}", **WEIGHTS, **half)


def grey(samples: int = 2) -> np.ndarray:
    return np.random.default_rng(5).normal(size=(samples, 24, 20)).astype(np.float32)


@pytest.mark.parametrize("entry", ENTRIES)
def test_the_layout_has_no_colours_and_photos_become_grey(entry):
    found = onnxcam.inspect(net(entry))
    (picture,) = found.inputs
    assert (picture.layout, picture.channels, picture.space) == ("NHW", 1, (1, 2))
    assert (found.layers[0].name, found.preprocess.color, found.preprocess.layout) == ("map", "GRAY", "NHW")


@pytest.mark.parametrize("method", ["gradcam", "hirescam", "scorecam", "cam"])
@pytest.mark.parametrize("entry", ENTRIES)
def test_the_map_is_that_of_the_network_with_an_axis_for_the_colour(entry, method):
    due = onnxcam.Explainer(twin(entry), method, target=1)(grey()[:, None])
    explainer = onnxcam.Explainer(net(entry), method, target=1)
    for given in (grey(), grey()[:, None], {"x": grey()}):
        found = explainer(given)
        np.testing.assert_allclose(found.maps, due.maps, atol=1e-6)
        np.testing.assert_allclose(found.scores, due.scores, atol=1e-6)
        assert found.maps.shape == (2, 24, 20)


def test_the_file_takes_pictures_as_the_model_does():
    x = grey()
    file = onnxcam.convert(net(), emit=["heatmap"], target=2)
    np.testing.assert_allclose(run(file, {"x": x})["cam/heatmap"], onnxcam.Explainer(file)(x).maps, atol=1e-6)


def test_photos(tmp_path):
    cv2.imwrite(str(tmp_path / "p.png"), np.random.default_rng(1).integers(0, 255, (50, 40), np.uint8))
    found, due = (onnxcam.Explainer(p, preprocess="unit").images([tmp_path / "p.png"] * 3) for p in (net(), twin()))
    np.testing.assert_allclose(found.maps, due.maps, atol=1e-6)
    assert found.maps[0].shape == (50, 40)


def test_what_the_graph_does_first_is_found_behind_the_axis_that_it_adds():
    text = f"net (float[N, 24, 20] x) => (float[N, 3] y) {{ d = Div(x, most) h = Unsqueeze(d, one) {BODY} }}"
    found = onnxcam.inspect(model(text, **WEIGHTS, one=np.int64([1]), most=np.float64(255)))
    assert (found.preprocess.mean, found.preprocess.std) == ((0.0,), (1.0,))


def test_another_shape_is_one_clear_line():
    with pytest.raises(InputError) as caught:
        onnxcam.Explainer(net())(np.zeros((2, 3, 24, 20), np.float32))
    assert "'x'" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "layout"),
    [
        ("net (float[N, 8, 64] x) => (float[N, 4, 62] c) { c = Conv(x, W) }", "NCL"),
        ("net (float[N, 8, 64] x) => (float[N, 4, 1, 62] c) { h = Unsqueeze(x, two) c = Conv(h, V) }", "NCL"),
        ("net (float[8, 64, 64] x) => (float[1, 4, 62, 62] c) { h = Unsqueeze(x, zero) c = Conv(h, U) }", "CHW"),
    ],
)
def test_signals_and_single_pictures_stay_what_they_are(text, layout):
    weights = {"W": np.ones((4, 8, 3)), "V": np.ones((4, 8, 1, 3)), "U": np.ones((4, 8, 3, 3))}
    axes = {"zero": np.int64([0]), "two": np.int64([2])}
    proto = model(text, **{k: v for k, v in (weights | axes).items() if f" {k})" in text})
    assert onnxcam.inspect(proto).inputs[0].layout == layout


def test_where_nothing_tells_the_line_says_what_to_do():
    text = "net (float[N, 24, 20] x) => (float[N, 3] y) { f = Flatten(x) y = MatMul(f, H) }"
    with pytest.raises(ModelError, match="N×1×H×W"):
        onnxcam.Explainer(model(text, H=np.ones((480, 3))))
