"""What a graph does to its image first is noticed, and not done again; the rest is a guess, and said to be one."""

import numpy as np
import onnx
import pytest

import onnxcam
from onnxcam.grad.forward import Forward
from onnxcam.inspection.entry import entry
from onnxcam.inspection.inputs import read_input
from onnxcam.preprocessing import Entry, Slot, preset
from onnxcam.preprocessing.guess import guess
from tests.builders import Net, image, model, run

NET = Net()
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
REST = "c = Conv<pads = [1, 1, 1, 1]>(e, W, B) map = Relu(c) p = GlobalAveragePool(map) y = Flatten(p)"


def entering(steps, dims="float[N, 3, 6, 5]", **constants):
    """A network whose image `x` goes through `steps` to `e` first."""
    text = f"net ({dims} x) => (float[N, 4] y) {{ {steps} {REST} }}"
    return model(text, W=NET.W, B=NET.B, **constants)


def channels(values):
    return np.asarray(values, float).reshape(1, 3, 1, 1)


def found(proto):
    inspection = onnxcam.inspect(proto)
    return inspection.preprocess, " ".join(inspection.assumed)


RAW, UNIT = ((0.0,), (1.0,)), ((0.0,), (255.0,))
IMAGENET = (preset("imagenet").mean, preset("imagenet").std)

CASES = {  # steps, constants, what remains, colour
    "nothing": ("e = Identity(x)", {}, IMAGENET, "RGB"),
    "1/255": ("e = Mul(x, s)", {"s": np.float64(1 / 255)}, RAW, "RGB"),
    "a division": ("e = Div(x, s)", {"s": np.float64(255)}, RAW, "RGB"),
    "−1..1": ("a = Div(x, s) e = Sub(a, o)", {"s": np.float64(127.5), "o": np.float64(1)}, RAW, "RGB"),
    "−1..1 of 0..1": ("a = Mul(x, s) e = Add(a, o)", {"s": np.float64(2), "o": np.float64(-1)}, UNIT, "RGB"),
    "ImageNet of 0..255": (
        "a = Sub(x, o) e = Div(a, s)", {"o": channels(MEAN * 255), "s": channels(STD * 255)}, RAW, "RGB",
    ),
    "ImageNet of 0..1": ("a = Sub(x, o) e = Div(a, s)", {"o": channels(MEAN), "s": channels(STD)}, UNIT, "RGB"),
    "ImageNet of 0..1 in BGR": (
        "a = Sub(x, o) e = Div(a, s)", {"o": channels(MEAN[::-1]), "s": channels(STD[::-1])}, UNIT, "BGR",
    ),
    "in two steps": (
        "b = Mul(x, t) a = Sub(b, o) e = Mul(a, s)",
        {"t": np.float64(1 / 255), "o": channels(MEAN), "s": channels(1 / STD)}, RAW, "RGB",
    ),
    "caffe's means": ("e = Sub(x, o)", {"o": channels([103.939, 116.779, 123.68])}, RAW, "BGR"),
    "caffe's means after a swap": (
        "a = Gather<axis = 1>(x, i) e = Sub(a, o)",
        {"i": np.int64([2, 1, 0]), "o": channels([103.939, 116.779, 123.68])}, RAW, "RGB",
    ),
    "a swap by slices": (
        "a = Slice(x, f, t, i, b) e = Sub(a, o)",
        {"f": np.int64([-1]), "t": np.int64([-9]), "i": np.int64([1]), "b": np.int64([-1]),
         "o": channels([103.939, 116.779, 123.68])}, RAW, "RGB",
    ),
    "a swap by parts": (
        "r, g, b = Split<axis = 1>(x, n) a = Concat<axis = 1>(b, g, r) e = Sub(a, o)",
        {"n": np.int64([1, 1, 1]), "o": channels([103.939, 116.779, 123.68])}, RAW, "RGB",
    ),
    "a batch normalisation": (
        "e = BatchNormalization(x, g, b, m, v)",
        {"g": np.ones(3), "b": np.zeros(3), "m": MEAN * 255, "v": (STD * 255) ** 2}, RAW, "RGB",
    ),
    "0..1 made as wide as bytes": (
        "a = Sub(x, o) e = Div(a, s)",
        {"o": channels([0.48235, 0.45882, 0.40784]), "s": np.float64(1 / 255)}, UNIT, "RGB",
    ),
    "1 − x": ("a = Mul(x, s) e = Sub(o, a)", {"s": np.float64(1 / 255), "o": np.float64(1)}, RAW, "RGB"),
    "of what is normalised": ("e = Mul(x, s)", {"s": channels([0.458, 0.448, 0.45])}, IMAGENET, "RGB"),
    "a mask over places": ("e = Mul(x, s)", {"s": np.full((6, 5), 1 / 255)}, IMAGENET, "RGB"),
    "two ways": ("a = Mul(x, s) e = Add(a, x)", {"s": np.float64(1 / 255)}, IMAGENET, "RGB"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_the_graph_does_is_not_done_again(name):
    steps, constants, (mean, std), color = CASES[name]
    got, said = found(entering(steps, **constants))
    assert (got.mean, got.std, got.color, got.size) == (mean, std, color, (6, 5))
    assert "is a guess" in said
    assert ("the graph normalises by itself" in said) == ((mean, std) != IMAGENET)


@pytest.mark.parametrize("name", [n for n in CASES if n not in ("a mask over places", "two ways")])
def test_what_is_read_off_the_graph_is_what_onnxruntime_computes(name):
    steps, constants, *_ = CASES[name]
    proto = entering(steps, **constants)
    proto.graph.output.append(onnx.helper.make_empty_tensor_value_info("e"))
    x = image(3) * 100
    forward = Forward(proto)
    got = entry(forward, read_input(forward, "x"))
    expected = channels(np.broadcast_to(got.scale, 3)) * x + channels(np.broadcast_to(got.offset, 3))
    expected = expected[:, ::-1] if got.swapped else expected
    np.testing.assert_allclose(run(proto, {"x": x}, ["e"])["e"], expected, rtol=1e-4, atol=1e-3)


def test_one_picture_that_the_graph_makes_a_batch_of():
    steps = "a = Sub(x, o) b = Unsqueeze(a, z) d = Squeeze(b, z) f = Unsqueeze(d, z) e = Div(f, s)"
    proto = entering(steps, "float[3, 6, 5]", o=MEAN[:, None, None], s=channels(STD), z=np.int64([0]))
    got, said = found(proto)
    assert (got.mean, got.std, got.color, got.size, got.layout) == (*UNIT, "RGB", (6, 5), "CHW")
    assert "(Sub 'a', Div 'e')" in said


def test_the_operators_that_say_so_are_named():
    _, said = found(entering("a = Sub(x, o) e = Div(a, s)", o=channels(MEAN), s=channels(STD)))
    assert "(Sub 'a', Div 'e')" in said


def test_keras_with_its_normalisation_inside():
    """As tf2onnx writes EfficientNet: NHWC, rescaled and normalised before the Transpose to NCHW."""
    steps = "a = Mul(x, r) b = Sub(a, o) d = Div(b, s) e = Transpose<perm = [0, 3, 1, 2]>(d)"
    constants = {"r": np.float64(1 / 255), "o": MEAN, "s": np.sqrt(STD)}
    got, said = found(entering(steps, "float[N, 6, 5, 3]", **constants))
    assert (got.mean, got.std, got.layout, got.resize) == (*RAW, "NHWC", "stretch")
    assert "normalises by itself" in said


def test_bytes_are_given_as_bytes():
    steps = "a = Cast<to = 1>(x) e = Transpose<perm = [0, 3, 1, 2]>(a)"
    got, said = found(entering(steps, "uint8[N, 6, 5, 3]"))
    assert (got.mean, got.std, got.dtype, got.layout) == (*RAW, "uint8", "NHWC")
    assert "takes bytes" in said
    photo = np.arange(6 * 5 * 3, dtype=np.uint8).reshape(6, 5, 3)
    np.testing.assert_array_equal(got.apply(photo), photo[None])


def test_an_input_that_the_graph_resizes_keeps_the_photos_size():
    steps = 'a = Div(x, s) e = Resize<mode = "linear">(a, "", "", z)'
    proto = entering(steps, "float[1, 3, H, W]", s=np.float64(255), z=np.int64([1, 3, 6, 5]))
    got, said = found(proto)
    assert got.size is None
    assert "the photo's own size" in said
    explanation = onnxcam.Explainer(proto).images([np.zeros((9, 12, 3), np.uint8), np.full((7, 4, 3), 200, np.uint8)])
    assert [m.shape for m in explanation.maps] == [(9, 12), (7, 4)]


@pytest.mark.parametrize(
    ("scale", "zero", "name"),
    [
        (4.76 / 255, 113, "imagenet"),
        (2 / 255, 128, "tf"),
        (1 / 255, 0, "unit"),
        (1.0, 0, "raw"),
        (275 / 255, 115, "caffe"),
    ],
)
def test_the_range_of_a_quantised_input_tells_what_it_was(scale, zero, name):
    steps = "q = QuantizeLinear(x, s, z) e = DequantizeLinear(q, s, z)"
    got, said = found(entering(steps, s=np.float64(scale), z=np.uint8(zero)))
    expected = preset(name, (6, 5))
    assert (got.mean, got.std, got.color) == (expected.mean, expected.std, expected.color)
    assert f"'{name}'" in said
    assert "quantised from" in said


def test_a_configuration_beside_the_model_loses_what_the_graph_does(tmp_path):
    proto = entering("a = Sub(x, o) e = Div(a, s)", o=channels(MEAN), s=channels(STD))
    onnx.save(proto, tmp_path / "m.onnx")
    (tmp_path / "preprocessor_config.json").write_text(
        '{"do_resize": true, "size": {"height": 6, "width": 5}, "resample": 3, "do_normalize": true, '
        '"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}'
    )
    inspection = onnxcam.inspect(tmp_path / "m.onnx")
    got = inspection.preprocess
    assert (got.mean, got.std, got.interpolation) == (*UNIT, "bicubic")
    assert any("values are x / 255: the graph normalises by itself" in line for line in inspection.assumed)


@pytest.mark.parametrize(
    ("slot", "name", "resize"),
    [
        (Slot((9, 9)), "imagenet", "crop"),
        (Slot((9, 9), dense=True), "imagenet", "stretch"),
        (Slot((9, 9), "NHWC"), "tf", "stretch"),
        (Slot((9, 9), channels=1), "unit", "stretch"),
        (Slot((9, 9), dtype="uint8"), "raw", "stretch"),
        (Slot(), "imagenet", "crop"),
    ],
)
def test_habit(slot, name, resize):
    got, (said,) = guess(slot, Entry())
    expected = preset(name)
    assert (got.mean[0], got.std[0], got.resize) == (expected.mean[0], expected.std[0], resize)
    assert got.size == (slot.size or (224, 224))
    assert f"'{name}' at {got.size[0]}×{got.size[1]} is a guess" in said
    assert "--preprocess" in said


def test_a_guess_says_that_keras_has_another():
    assert "'caffe'" in guess(Slot((9, 9), "NHWC"), Entry())[1][0]


def test_inspect_shows_what_explain_takes():
    for name, (steps, constants, *_) in CASES.items():
        proto = entering(steps, **constants)
        inspection, explainer = onnxcam.inspect(proto), onnxcam.Explainer(proto)
        assert inspection.preprocess == explainer.preprocess, name
        assert inspection.preprocess.describe() == explainer.preprocess.describe(), name
        assert set(inspection.assumed) <= set(explainer.assumptions), name


def test_a_mean_that_is_fed_hides_no_deviation():
    """Keras's exporter leaves the mean of a Normalization an input, as in its ConvNeXt."""
    steps = "a = Sub(x, o) e = Div(a, s)"
    got, said = found(entering(steps, "float[1, 3, 1, 1] o, float[N, 3, 6, 5]", s=channels(STD * 255)))
    assert (got.mean, got.std, got.size) == (*RAW, (6, 5))
    assert "normalises by itself" in said


def test_signed_bytes_are_given_less_128():
    steps = "e = DequantizeLinear(x, s, z)"
    got, said = found(entering(steps, "int8[N, 3, 6, 5]", s=np.float64(1 / 64), z=np.int8(0)))
    assert (got.mean, got.std, got.dtype) == ((128.0,), (1.0,), "int8")
    assert "takes bytes (int8)" in said
    photo = np.array([0, 128, 255], np.uint8).repeat(30).reshape(6, 5, 3)
    assert sorted(set(got.apply(photo).ravel().tolist())) == [-128, 0, 127]


@pytest.mark.parametrize("dims", ["float[N, 12, 6, 5]", "bfloat16[N, 3, 6, 5]", "int64[N, 3, 6, 5]"])
def test_an_input_that_no_photo_fits_has_no_preprocessing(dims):
    channels = int(dims.split(",")[1])
    text = f"""net ({dims} x) => (float[N, 4] y) {{
      e = Cast<to = 1>(x) c = Conv(e, K) map = Relu(c) p = GlobalAveragePool(map) y = Flatten(p)
    }}"""
    inspection = onnxcam.inspect(model(text, K=np.ones((4, channels, 3, 3))))
    assert (inspection.preprocess, inspection.assumed) == (None, ())
