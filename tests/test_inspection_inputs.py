"""Inputs as they come: bytes, channels last, resized and normalised inside the graph, several of them."""

import numpy as np
import pytest

import onnxcam
from tests.builders import model, names

CONV = "c = Conv(h, W) map = Relu(c) p = GlobalAveragePool(map) f = Flatten(p) y = MatMul(f, H)"
WEIGHTS = {"W": np.ones((4, 3, 3, 3)), "H": np.ones((4, 2)), "mean": np.ones((3, 1, 1)), "last": np.ones(3)}
BEFORE = {
    "bytes, channels last, normalised": (
        "uint8[N, 16, 18, 3] x",
        "a = Cast<to = 1>(x) b = Sub(a, last) t = Transpose<perm = [0, 3, 1, 2]>(b) h = Div(t, mean)", "NHWC", (16, 18),
    ),
    "bytes, channels first": ("uint8[N, 3, 16, 18] x", "a = Cast<to = 1>(x) h = Sub(a, mean)", "NCHW", (16, 18)),
    "resized before it is turned": (
        "float[N, H, W, 3] x",
        "a = Resize<mode = \"linear\">(x, , , size) h = Transpose<perm = [0, 3, 1, 2]>(a)", "NHWC", ("H", "W"),
    ),
    "three wide, channels last": (
        "float[N, 16, 3, 3] x", "a = Relu(x) b = Neg(a) h = Transpose<perm = [0, 3, 1, 2]>(b)", "NHWC", (16, 3),
    ),
    "weights on the left": ("float[N, 3, 16, 18] x", "h = Sub(mean, x)", "NCHW", (16, 18)),
}  # fmt: skip


@pytest.mark.parametrize("kind", BEFORE)
def test_the_layout_is_what_the_first_convolution_makes_of_it(kind):
    x, text, layout, size = BEFORE[kind]
    weights = {k: v for k, v in WEIGHTS.items() if f" {k})" in f"{text} {CONV}" or f"({k}," in text}
    if "size" in text:
        weights["size"] = np.int64([1, 12, 12, 3])
    found = onnxcam.inspect(model(f"net ({x}) => (float[N, 2] y) {{ {text} {CONV} }}", **weights))
    assert (found.image().layout, found.image().size) == (layout, size)
    assert (found.layers[0].name, found.layers[0].layout) == ("map", "NCHW")


def test_a_signal_with_channels_last():
    text = "net (float[N, 50, 2] x) => (float[N, 4] y) { t = Transpose<perm = [0, 2, 1]>(x) map = Conv(t, W)"
    proto = model(f"{text} y = ReduceMean<axes = [2], keepdims = 0>(map) }}", W=np.ones((4, 2, 3)))
    found = onnxcam.inspect(proto)
    assert (found.image().layout, found.image().size, found.layers[0].grid) == ("NLC", (50,), (48,))


def test_a_picture_and_what_is_known_of_it():
    """Metadata is no picture; the layers see the picture, and the map has its size."""
    text = """net (float[N, 5] meta, uint8[N, 16, 18, 3] photo) => (float[N, 2] y) {
      a = Cast<to = 1>(photo) h = Transpose<perm = [0, 3, 1, 2]>(a) c = Conv(h, W) map = Relu(c)
      p = GlobalAveragePool(map) f = Flatten(p) j = Concat<axis = 1>(f, meta) y = MatMul(j, H9)
    }"""
    rng = np.random.default_rng(0)
    proto = model(text, W=rng.normal(size=(4, 3, 3, 3)), H9=rng.normal(size=(9, 2)))
    found = onnxcam.inspect(proto)
    assert [(i.name, i.layout) for i in found.inputs] == [("meta", None), ("photo", "NHWC")]
    assert names(found.layers) == ["map"]
    assert found.sees(found.layers[0]).name == "photo"
    feeds = {
        "meta": rng.normal(size=(2, 5)).astype(np.float32),
        "photo": rng.integers(0, 255, (2, 16, 18, 3), np.uint8),
    }
    assert onnxcam.Explainer(proto)(feeds).maps.shape == (2, 16, 18)


def test_a_batch_of_minus_one_is_open():
    """As Paddle writes it; every tensor of the picture has it, so that none is taken for heads or frames."""
    text = "net (float[N, 3, 16, 18] x) => (float[A, 2] y) { a = Conv(x, W) h = Relu(a) c = Conv(h, V) map = Relu(c)"
    proto = model(f"{text} p = GlobalAveragePool(map) f = Flatten(p) y = MatMul(f, H) }}",
                  W=np.ones((3, 3, 3, 3)), V=np.ones((4, 3, 3, 3)), H=np.ones((4, 2)))  # fmt: skip
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    found = onnxcam.inspect(proto)
    assert names(found.layers) == ["map", "h"]
    assert {x.shape[0] for x in found.layers} == {found.image().shape[0]}
    assert onnxcam.Explainer(proto)(np.ones((3, 3, 16, 18), np.float32)).maps.shape == (3, 16, 18)
