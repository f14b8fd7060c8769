"""Models of one picture, without an axis for samples: C×H×W or H×W×C in, as torchvision's detectors take it."""

import numpy as np
import onnx
import pytest

import onnxcam
from onnxcam.errors import InputError, ModelError
from tests.builders import Net, image, model, names, pipeline, run

NET = Net()
BODY = "c = Conv<pads = [1, 1, 1, 1]>(h, W, B) map = Relu(c) p = GlobalAveragePool(map) f = Flatten(p)"
HEAD = "s = Gemm<transB = 1>(f, H, b)"
AXES = {"zero": np.int64([0]), "none": np.int64(0), "one": np.int64([1, 3, 6, 5])}
ENTRIES = {
    "CHW": ("float[3, 6, 5] x", "h = Unsqueeze(x, zero)"),
    "CHW, reshaped": ("float[3, 6, 5] x", "h = Reshape(x, one)"),
    "CHW of any size": ("float[3, H, W] x", "h = Unsqueeze(x, zero)"),
    "CHW, stacked twice": (
        "float[3, 6, 5] x", "a = Unsqueeze(x, zero) r = Relu(a) n = Neg(a) m = Relu(n) d = Sub(r, m) "
        "e = Gather<axis = 0>(d, none) g = Unsqueeze(e, zero) h = Concat<axis = 0>(g)",
    ),
    "HWC": ("float[6, 5, 3] x", "t = Transpose<perm = [2, 0, 1]>(x) h = Unsqueeze(t, zero)"),
    "HWC, turned later": ("float[6, 5, 3] x", "t = Unsqueeze(x, zero) h = Transpose<perm = [0, 3, 1, 2]>(t)"),
}  # fmt: skip
ENDINGS = {
    "a row": ("y = Identity(s)", "float[1, 3] y"),
    "squeezed": ("y = Squeeze(s, zero)", "float[3] y"),
    "softmax, then the first": ("q = Softmax(s) y = Gather<axis = 0>(q, none)", "float[3] y"),
    "the first, then softmax": ("q = Gather<axis = 0>(s, none) y = Softmax(q)", "float[3] y"),
}


def bare(entry: str = "CHW", ending: str = "a row") -> onnx.ModelProto:
    given, before = ENTRIES[entry]
    after, out = ENDINGS[ending]
    text = f"net ({given}) => ({out}) {{ {before} {BODY} {HEAD} {after} }}"
    return model(text, **NET.weights(), **{k: v for k, v in AXES.items() if f" {k})" in text})


def taken(entry: str, x: np.ndarray) -> np.ndarray:
    """Pictures (N, C, H, W) as the model takes them, stacked."""
    return np.moveaxis(x, 1, 3) if entry.startswith("HWC") else x


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("entry", ENTRIES)
def test_the_layout_has_no_samples_and_the_layer_is_the_last_map(entry, ending):
    found = onnxcam.inspect(bare(entry, ending))
    (picture,) = found.inputs
    size = ("H", "W") if "any" in entry else (6, 5)
    assert (picture.layout, picture.channels, picture.size) == (entry[:3], 3, size)
    score = "y" if ending == "a row" else "s"
    assert (names(found.layers)[0], found.layers[0].layout, found.scores[0].tensor) == ("map", "NCHW", score)
    assert (found.preprocess.layout, found.missing) == (entry[:3], ())


@pytest.mark.parametrize("method", ["gradcam", "hirescam", "eigencam", "scorecam", "cam"])
@pytest.mark.parametrize("entry", ENTRIES)
def test_one_array_or_several_are_explained_as_in_a_batch(entry, method):
    x = image(3)
    expected = onnxcam.Explainer(NET.model(), method)(x)
    explainer = onnxcam.Explainer(bare(entry, "squeezed"), method)
    several, one = explainer(taken(entry, x)), explainer(taken(entry, x)[1])
    np.testing.assert_allclose(several.raw["map"], expected.raw["map"], atol=1e-5)
    np.testing.assert_allclose(several.maps, expected.maps, atol=1e-5)
    np.testing.assert_array_equal(several.targets, NET.score(x).argmax(1))
    np.testing.assert_allclose(several.scores, NET.score(x).max(1), rtol=1e-5)
    np.testing.assert_allclose(several.outputs["y"], NET.score(x), rtol=1e-5)
    assert several.samples.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(one.maps[0], several.maps[1])
    np.testing.assert_array_equal(one.outputs["y"], run(bare(entry, "squeezed"), {"x": taken(entry, x)[1]})["y"])


def test_classes_of_each_and_the_best_of_each():
    x = image(3)
    each = onnxcam.Explainer(bare(), target=[2, 0, 1])(x)
    np.testing.assert_allclose(each.raw["map"], NET.gradcam(x, [2, 0, 1]), atol=1e-5)
    best = onnxcam.Explainer(bare(ending="squeezed"), target="top2")(x)
    order = np.argsort(-NET.score(x), axis=1)[:, :2]
    np.testing.assert_array_equal(best.targets, order.reshape(-1))
    expected = NET.gradcam(np.repeat(x, 2, axis=0), order.reshape(-1))
    np.testing.assert_allclose(best.raw["map"], expected, atol=1e-5)


@pytest.mark.parametrize("samples", ["", "N"])
@pytest.mark.parametrize("entry", ENTRIES)
def test_photos(entry, samples):
    photos = list(np.random.default_rng(0).integers(0, 255, (2, 12, 15, 3), np.uint8))
    ready = onnxcam.preprocessing.Preprocess(size=(6, 5), std=(255.0,), layout=samples + entry[:3])
    found = onnxcam.Explainer(bare(entry), preprocess=ready).images(photos)
    expected = onnxcam.Explainer(NET.model(), preprocess=onnxcam.preprocessing.Preprocess(size=(6, 5), std=(255.0,)))
    for ours, theirs in zip(found.maps, expected.images(photos).maps, strict=True):
        assert ours.shape == (12, 15)
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("entry", ENTRIES)
def test_the_heat_map_in_the_file(entry):
    x = image(2)
    proto = onnxcam.convert(bare(entry), emit=["heatmap", "class", "gradient"], target=1)
    onnx.checker.check_model(proto)
    for n in range(2):
        found = run(proto, {"x": taken(entry, x)[n]})
        expected = pipeline([NET.gradcam(x[n : n + 1], [1])], (6, 5))
        np.testing.assert_allclose(found["cam/heatmap"], expected, atol=1e-4)
        assert found["cam/class"].tolist() == [1]
    explained = onnxcam.Explainer(proto)(taken(entry, x))
    np.testing.assert_allclose(explained.raw["map"], NET.gradcam(x, [1, 1]), atol=1e-5)


def test_maps_without_samples_are_folded_into_a_batch_of_one():
    """torch's layers take one picture too: samples are added before every convolution and dropped after it."""
    text = f"""net (float[3, 6, 5] x) => (float[3] y) {{
      h = Unsqueeze(x, zero) c = Conv<pads = [1, 1, 1, 1]>(h, W, B) d = Squeeze(c, zero) map = Relu(d)
      p = ReduceMean<axes = [1, 2], keepdims = 0>(map) f = Unsqueeze(p, zero) {HEAD} y = Squeeze(s, zero)
    }}"""
    proto, x = model(text, **NET.weights(), zero=AXES["zero"]), image(2)
    layer = onnxcam.inspect(proto).layers[0]
    assert (layer.name, layer.layout, layer.grid) == ("map", "CHW", (6, 5))
    np.testing.assert_allclose(onnxcam.Explainer(proto, target=2)(x).raw["map"], NET.gradcam(x, [2, 2]), atol=1e-5)
    drawn = run(onnxcam.convert(proto, emit=["heatmap"], target=2), {"x": x[0]})["cam/heatmap"]
    np.testing.assert_allclose(drawn, pipeline([NET.gradcam(x[:1], [2])], (6, 5)), atol=1e-4)


@pytest.mark.parametrize("entry", ENTRIES)
def test_classes_at_every_place(entry):
    given, before = ENTRIES[entry]
    text = f"""net ({given}) => (float[3, 6, 5] y) {{
      {before} c = Conv<pads = [1, 1, 1, 1]>(h, W, B) map = Relu(c) s = Conv(map, C, b) y = Squeeze(s, zero)
    }}"""
    weights = NET.weights() | AXES | {"C": NET.H[:, :, None, None]}
    proto = model(text, **{k: v for k, v in weights.items() if f" {k})" in text or f" {k}," in text})
    score = onnxcam.inspect(proto).scores[0]
    assert (score.tensor, score.kind, score.axis) == ("s", "regions", 1)
    x = image(2)
    found = onnxcam.Explainer(proto, "hirescam", target=1)(taken(entry, x))
    expected = np.einsum("k,nkhw->nhw", NET.H[1], NET.map(x))
    np.testing.assert_allclose(found.raw["map"], expected, atol=1e-5)
    corner = onnxcam.Explainer(proto, target="1@0,0,2,3")(taken(entry, x)).raw["map"]
    np.testing.assert_allclose(corner[:, :3, :2], expected[:, :3, :2], atol=1e-5)
    assert not corner[:, 3:].any()
    assert not corner[:, :, 2:].any()


@pytest.mark.parametrize("shape", [(3, 6), (2, 1, 3, 6, 5)])
def test_arrays_that_are_no_picture(shape):
    with pytest.raises(InputError, match=r"'x' takes \[3, 6, 5\], or several stacked as \[N, 3, 6, 5\]; given is \["):
        onnxcam.Explainer(bare())(np.zeros(shape, np.float32))


def test_a_picture_without_colours_is_refused():
    text = f"net (float[6, 5] x) => (float[1, 3] y) {{ h = Unsqueeze(x, two) {BODY} {HEAD} y = Identity(s) }}"
    proto = model(text, **NET.weights() | {"W": NET.W[:, :1]}, two=np.int64([0, 1]))
    with pytest.raises(InputError, match=r"given is 'x' \[6, 5\]. Export it with an input N×C×H×W"):
        onnxcam.Explainer(proto)(np.zeros((6, 5), np.float32))


@pytest.mark.parametrize("shape", [(2, 9), (2, 5, 7, 9)], ids=["a signal", "a volume"])
def test_one_signal_or_volume(shape):
    rng, dims = np.random.default_rng(1), len(shape) - 1
    text = f"""net (float[{", ".join(map(str, shape))}] x) => (float[1, 3] y) {{
      h = Unsqueeze(x, zero) c = Conv(h, W) map = Relu(c) p = GlobalAveragePool(map) f = Flatten(p) y = MatMul(f, H)
    }}"""
    weights = {"W": rng.normal(size=(4, 2, *[3] * dims)), "H": rng.normal(size=(4, 3))}
    proto = model(text, zero=np.int64([0]), **weights)
    batch = model(text.replace("float[2", "float[N, 2").replace("Unsqueeze(x, zero)", "Identity(x)"), **weights)
    x = image(2, shape)
    ours, theirs = onnxcam.Explainer(proto, target=1)(x), onnxcam.Explainer(batch, target=1)(x)
    assert onnxcam.inspect(proto).image().layout == onnxcam.inspect(batch).image().layout[1:]
    np.testing.assert_allclose(ours.maps, theirs.maps, atol=1e-5)


def test_pictures_that_the_graph_stacks_are_refused():
    """A list of two, as torchvision's detectors take it: each has boxes of its own."""
    text = f"""net (float[3, 6, 5] x, float[3, 6, 5] other) => (float[2, 3] y) {{
      g = Unsqueeze(x, zero) k = Unsqueeze(other, zero) h = Concat<axis = 0>(g, k) {BODY} {HEAD} y = Identity(s)
    }}"""
    with pytest.raises(ModelError, match="stacks 'x' and 'other' to a batch"):
        onnxcam.Explainer(model(text, **NET.weights(), zero=AXES["zero"]))


def test_a_picture_with_metadata():
    text = f"""net (float[3, 6, 5] x, float[3] more) => (float[1, 3] y) {{
      h = Unsqueeze(x, zero) {BODY} {HEAD} m = Unsqueeze(more, zero) y = Add(s, m)
    }}"""
    x, more = image(2), np.float32([[9, 0, 0], [0, 0, 9]])
    found = onnxcam.Explainer(model(text, **NET.weights(), zero=AXES["zero"]))({"x": x, "more": more})
    assert found.targets.tolist() == [0, 2]
    np.testing.assert_allclose(found.raw["map"], NET.gradcam(x, [0, 2]), atol=1e-5)


# ----- detectors -----
SIDE = 8
W1 = np.random.default_rng(3).normal(size=(2, 3, 1, 1)).astype(np.float32)
H1 = np.random.default_rng(4).normal(size=(1, 2, 1, 1)).astype(np.float32)
GRID = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij"), -1).reshape(-1, 2)
CORNERS = np.concatenate([GRID[:, ::-1] - 1, GRID[:, ::-1] + 2], 1).astype(np.float32)  # 3 × 3 around each place
NMS = {
    "zero": np.int64([0]), "flat": np.int64([1, 1, -1]), "row": np.int64([-1]), "two": np.int64(2),
    "most": np.int64([5]), "iou": np.float32([0.2]), "least": np.float32([0.0]),
}  # fmt: skip
CHOICE = """l = Conv(map, H1) q = Sigmoid(l) all = Reshape(q, flat) vector = Reshape(q, row)
  corners = Unsqueeze(C, zero) chosen = NonMaxSuppression(corners, all, most, iou, least)
  at = Gather<axis = 1>(chosen, two) boxes = Gather(C, at) scores = Gather(vector, at)
  class = Sub(at, at) labels = Cast<to = 7>(class)"""


def detector() -> onnx.ModelProto:
    text = f"""det (float[3, {SIDE}, {SIDE}] image) => (float[n, 4] boxes, int64[n] labels, float[n] scores) {{
      h = Unsqueeze(image, zero) c = Conv(h, W1) map = Relu(c) {CHOICE}
    }}"""
    return model(text, W1=W1, H1=H1, C=CORNERS, **NMS)


def test_a_detector_of_one_picture_explains_its_best_box():
    x = image(3, (3, SIDE, SIDE))
    found = onnxcam.inspect(detector())
    assert (found.scores[0].kind, found.scores[0].tensor, names(found.layers)[0]) == ("boxes", "scores", "map")
    explained = onnxcam.Explainer(detector())(x)
    maps = np.maximum(np.einsum("nchw,kc->nkhw", x, W1[:, :, 0, 0]), 0)
    sure = 1 / (1 + np.exp(-np.einsum("nkhw,k->nhw", maps, H1[0, :, 0, 0]))).reshape(3, -1)
    best = sure.argmax(1)
    np.testing.assert_allclose(explained.scores, sure.max(1), rtol=1e-5)
    np.testing.assert_allclose(explained.found["box"], CORNERS[best], atol=1e-5)
    expected = np.zeros((3, SIDE * SIDE))
    for n, at in enumerate(best):
        slope = sure[n, at] * (1 - sure[n, at])
        expected[n, at] = slope * (maps[n].reshape(2, -1)[:, at] @ H1[0, :, 0, 0])
    np.testing.assert_allclose(explained.raw["map"].reshape(3, -1), expected, atol=1e-5)
    assert [len(b) for b in explained.outputs["boxes"]] == [5, 5, 5]
    alone = onnxcam.Explainer(detector())(x[0])
    np.testing.assert_array_equal(alone.outputs["boxes"], run(detector(), {"image": x[0]})["boxes"])


def test_a_box_in_a_photo():
    photo = np.random.default_rng(5).integers(0, 255, (16, 24, 3), np.uint8)
    explainer = onnxcam.Explainer(detector(), target="box:1")
    found = explainer.images([photo, photo])
    assert [m.shape for m in found.maps] == [(16, 24)] * 2
    given = explainer.preprocess.apply(photo)
    own = run(detector(), {"image": given})
    np.testing.assert_allclose(found.found["box"][1], own["boxes"][1] * [3, 2, 3, 2], atol=1e-4)


STAGES = """w = RoiAlign<output_height = 3, output_width = 3, sampling_ratio = 2>(map, places, of)
  r = ScatterND(blank, order, w) e = Conv(r, V) a = Relu(e) m = GlobalAveragePool(a) f = Flatten(m) z = MatMul(f, K)
  q = Sigmoid(z) scores = Squeeze(q, last) boxes = Identity(places) labels = Identity(of)"""


def two_stages(places: str, **more: np.ndarray) -> onnx.ModelProto:
    """A detector whose regions are where `places` says."""
    text = f"""det (float[3, {SIDE}, {SIDE}] image) => (float[2, 4] boxes, int64[2] labels, float[2] scores) {{
      h = Unsqueeze(image, zero) c = Conv(h, W1) map = Relu(c) {places} {STAGES}
    }}"""
    rng = np.random.default_rng(6)
    weights = {"V": rng.normal(size=(4, 2, 1, 1)), "K": rng.normal(size=(4, 1)), "of": np.int64([0, 0])}
    weights |= {"blank": np.zeros((2, 2, 3, 3)), "order": np.int64([[1], [0]])}
    return model(text, W1=W1, zero=np.int64([0]), last=np.int64([1]), **weights, **more)


def test_regions_stay_where_they_are():
    """What the corners of a region are made of has no part in the gradient; what is in a region is no layer."""
    x = image(1, (3, SIDE, SIDE))[0]
    start = np.float32([[1, 1, 4, 5], [2, 0, 7, 6]])
    corners = """side = Conv(map, V2) far = Relu(side) one = ReduceMean<keepdims = 0>(far)
      two = ReduceMean<keepdims = 0>(map) both = Add(one, two) places = Add(C0, both)"""
    moving = two_stages(corners, C0=start, V2=np.random.default_rng(7).normal(size=(2, 2, 1, 1)))
    found = onnxcam.Explainer(moving)(x)
    inspection = onnxcam.inspect(moving)
    assert (names(inspection.layers), inspection.scores[0].boxes.levels) == (["map"], ("map",))
    fixed = onnxcam.Explainer(two_stages("places = Identity(P)", P=found.outputs["boxes"]))(x)
    np.testing.assert_allclose(found.raw["map"], fixed.raw["map"], atol=1e-6)
    assert np.abs(fixed.raw["map"]).max() > 1e-3
