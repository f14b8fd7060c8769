"""`Explainer` from end to end: arrays and photographs in, maps and files out, against the closed form."""

import dataclasses
import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

import onnxcam
from onnxcam import METHODS, Explainer
from onnxcam.errors import InputError, ModelError
from onnxcam.evidence import Evidence
from onnxcam.image import read
from onnxcam.preprocessing import Preprocess
from tests.builders import DEMO, MODELS, Net, image, model, pipeline, run
from tests.methods import reference
from tests.methods.cases import CASES

NET = Net()
SMALL = Preprocess(size=(6, 5), std=(255.0,), resize="stretch")
ARBITRARY = [0, 1, 2, 1, 0]


@dataclasses.dataclass
class Masked:
    """The score of the net's masked input, one mask at a time."""

    x: np.ndarray
    classes: list[int]

    def score(self, n: int, mask: np.ndarray, probability: bool = False) -> float:
        scores = NET.score(self.x[n : n + 1] * mask)[0]
        return softmax(scores)[self.classes[n]] if probability else scores[self.classes[n]]


def softmax(scores: np.ndarray) -> np.ndarray:
    e = np.exp(scores - scores.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def known(x: np.ndarray, classes: list[int], seed: int = 0) -> Evidence:
    """What the net's closed form says of its layer: all that any method uses."""
    gradient, weights = NET.gradient(x, classes), NET.H[classes]
    return Evidence(NET.map(x), gradient, weights, x.shape[2:], Masked(x, classes), seed)


# ----- the maps -----
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("classes", [ARBITRARY, None], ids=["given", "top"])
def test_every_method_is_its_formula_on_the_closed_form(case, classes):
    x = image(5)
    found = Explainer(NET.model(), case.name, options=case.options, target=classes, seed=7)(x)
    classes = classes or NET.score(x).argmax(1).tolist()
    expected = case.naive(known(x, classes, seed=7))
    np.testing.assert_allclose(found.raw["map"], expected, atol=1e-5 * max(1, np.abs(expected).max()))
    np.testing.assert_allclose(found.maps, pipeline([expected], (6, 5)), atol=1e-4)
    assert (found.maps.dtype, found.targets.tolist(), found.samples.tolist()) == (np.float32, classes, [0, 1, 2, 3, 4])
    np.testing.assert_allclose(found.scores, NET.score(x)[np.arange(5), classes], rtol=1e-5)
    np.testing.assert_allclose(found.probabilities, softmax(NET.score(x))[np.arange(5), classes], rtol=1e-5)
    np.testing.assert_array_equal(found.outputs["y"], run(NET.model(), {"x": x})["y"])
    assert list(found.outputs) == ["y"]


@pytest.fixture(scope="module")
def demo():
    """The demo model's input for the cat, and what its last layer and its head say of it."""
    proto = onnx.load(DEMO)
    x = Preprocess.from_json({p.key: p.value for p in proto.metadata_props}["cam.preprocess"]).apply(
        read(MODELS / "cat.png")
    )
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    head = next(n for n in proto.graph.node if n.op_type == "Gemm")
    (transposed,) = [a.i for a in head.attribute if a.name == "transB"] or [0]
    W = weights[head.input[1]] if transposed else weights[head.input[1]].T
    (tensor,) = next(n for n in proto.graph.node if n.name == "head/Clip").output
    proto.graph.output.append(onnx.helper.make_empty_tensor_value_info(tensor))
    found = run(proto, {"image": x})
    return x, found[tensor], W, found["logits"]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_on_the_demo_model(demo, name):
    x, A, W, logits = demo
    layer = (
        "blocks.0.0/project/Conv" if name == "scorecam" else "auto"
    )  # 16 channels are 16 runs, 1280 take half a minute
    found = Explainer(DEMO, name, layers=layer)(x)
    assert (found.targets.tolist(), found.maps.shape) == ([285], (1, 224, 224))
    assert found.probabilities[0] == pytest.approx(0.78, abs=0.02)
    assert 0 <= found.maps.min() <= 0.1 < 0.9 < found.maps.max() <= 1
    assert found.warnings == []
    np.testing.assert_array_equal(found.outputs["logits"], logits)
    if METHODS[name].uses in ("gradient", "weights", "activation") and name != "random":
        gradient = np.broadcast_to((W[[285]] / 49)[:, :, None, None], A.shape)
        expected = next(c.naive for c in CASES if c.name == name and not c.options)(Evidence(A, gradient, W[[285]]))
        np.testing.assert_allclose(found.raw["head/Clip"], expected, atol=1e-4 * np.abs(expected).max())


def test_several_layers_are_the_documented_pipeline():
    text = """q = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(map) d = Conv(q, K) late = Relu(d)
              p = GlobalAveragePool(late) f = Flatten(p) y = Gemm<transB = 1>(f, H, b)"""
    K = np.random.default_rng(4).normal(size=(4, 4, 1, 1))
    proto, x = NET.model(text, pooling="", K=K), image(5)
    for method in ("gradcam", "hirescam", "eigencam"):
        found = Explainer(proto, method, layers=["map", "late"], target=ARBITRARY)(x)
        assert found.layers == ("map", "late")
        assert {k: v.shape for k, v in found.raw.items()} == {"map": (5, 6, 5), "late": (5, 3, 2)}
        for layer in found.layers:
            alone = Explainer(proto, method, layers=layer, target=ARBITRARY)(x)
            np.testing.assert_allclose(found.raw[layer], alone.raw[layer], atol=1e-6)
        np.testing.assert_allclose(found.maps, pipeline(list(found.raw.values()), (6, 5)), atol=1e-4)
    pooled = NET.map(x)[:, :, :, :4].reshape(5, 4, 3, 2, 2, 2).max((3, 5))
    late = np.maximum(np.einsum("nkhw,jk->njhw", pooled, K[:, :, 0, 0]), 0)
    raw = np.einsum("nk,nkhw->nhw", NET.H[ARBITRARY] / 6, late)
    found = Explainer(proto, layers=["map", "late"], target=ARBITRARY)(x)
    np.testing.assert_allclose(found.raw["late"], raw, atol=1e-5)


# ----- targets -----
@pytest.mark.parametrize(
    ("target", "classes"),
    [
        (1, [1] * 5),
        ("1", [1] * 5),
        ("Bird", [1] * 5),
        ("DOG", [2] * 5),
        (np.int64(2), [2] * 5),
        (ARBITRARY, ARBITRARY),
        (tuple(ARBITRARY), ARBITRARY),
        (np.array(ARBITRARY), ARBITRARY),
        (["cat", "bird", 2, "1", "Cat"], ARBITRARY),
        (["cat", -1, 2, -1, 0], None),
        (None, "top"),
        (-1, "top"),
        ("top1", "top"),
    ],
)
def test_targets(target, classes):
    x = image(5)
    top = NET.score(x).argmax(1)
    classes = top if isinstance(classes, str) else [0, top[1], 2, top[3], 0] if classes is None else classes
    found = Explainer(NET.model(), target=target, labels=["cat", "bird", "dog"])(x)
    assert found.targets.tolist() == list(classes)
    np.testing.assert_allclose(found.raw["map"], NET.gradcam(x, classes), atol=1e-6)


@pytest.mark.parametrize("method", ["gradcam", "cam", "eigencam", "scorecam"])
def test_top_k_is_k_rows_a_sample_best_first(method):
    x = image(5)
    order = np.argsort(-NET.score(x), axis=1)
    found = Explainer(NET.model(), method, target="top3", batch=2)(x)
    assert found.samples.tolist() == [s for s in range(5) for _ in range(3)]
    np.testing.assert_array_equal(found.targets, order.reshape(-1))
    np.testing.assert_allclose(found.scores, -np.sort(-NET.score(x), axis=1).reshape(-1), rtol=1e-4)
    single = Explainer(NET.model(), method, target=found.targets.tolist())(np.repeat(x, 3, axis=0))
    np.testing.assert_allclose(found.maps, single.maps, atol=1e-5)
    np.testing.assert_allclose(found.raw["map"], single.raw["map"], atol=1e-6)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (3, "No class 3. There is 0 to 2"),
        ([0, 3], "No class 3"),
        (-2, "No class -2"),
        ("brid", "Did you mean 'bird'"),
        ("top4", "'top4' asks for more classes than the 3 of 'y'"),
        ("top0", "'top0' is no class: 'topK' stands alone, K from 1 on"),
        ([0, "top2"], "No class 'top2' here: 'topK' is for all samples"),
        ("--1", "No class '--1'"),
        ("1-0", "With spaces it is a sum of targets: '1 - 0'"),
    ],
)
def test_a_target_that_is_not_there_is_said_before_anything_runs(target, said):
    with pytest.raises(InputError) as caught:
        Explainer(NET.model(), target=target, labels=["cat", "bird", "dog"])
    assert said in str(caught.value)


@pytest.mark.parametrize("target", [[], 1.5, [None], "top²"])
def test_a_target_that_is_none_is_one_clear_line(target):
    with pytest.raises(InputError):
        Explainer(NET.model(), target=target)


@pytest.mark.parametrize("target", [[0], [0, 1], [0, 1, 2, 1, 0, 1]])
def test_targets_that_do_not_match_the_samples_are_an_error(target):
    explainer = Explainer(NET.model(), target=target, preprocess=SMALL)
    with pytest.raises(InputError, match=f"{len(target)} targets for 5 samples"):
        explainer(image(5))
    with pytest.raises(InputError, match=f"{len(target)} targets for 5 samples"):
        explainer.images([np.zeros((6, 5, 3), np.uint8)] * 5)


# ----- batches, threads, processes -----
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("target", [ARBITRARY, "top2"], ids=["given", "top2"])
def test_batches_do_not_show(method, target):
    x = image(5)
    whole, split = (Explainer(NET.model(), method, target=target, batch=b)(x) for b in (5, 2))
    np.testing.assert_allclose(split.maps, whole.maps, atol=1e-6)
    np.testing.assert_allclose(split.raw["map"], whole.raw["map"], atol=1e-6)
    for name in ("targets", "samples"):
        np.testing.assert_array_equal(getattr(split, name), getattr(whole, name))
    for name in ("scores", "probabilities"):
        np.testing.assert_allclose(getattr(split, name), getattr(whole, name), rtol=1e-6)
    np.testing.assert_allclose(split.outputs["y"], whole.outputs["y"], rtol=1e-6)


@pytest.mark.parametrize("method", ["gradcam", "scorecam", "random"])
@pytest.mark.parametrize("fixed", [1, 4])
def test_a_model_of_a_fixed_batch_takes_any_number(method, fixed):
    x = image(5)
    open_ = Explainer(NET.model(), method, target=ARBITRARY)(x)
    found = Explainer(NET.model(dims=f"{fixed}, 3, 6, 5"), method, target=ARBITRARY)(x)
    np.testing.assert_allclose(found.maps, open_.maps, atol=1e-6)
    np.testing.assert_array_equal(found.targets, ARBITRARY)
    np.testing.assert_allclose(found.outputs["y"], open_.outputs["y"], rtol=1e-6)


@pytest.mark.parametrize("method", ["gradcam", "scorecam", "eigencam"])
def test_threads_share_an_explainer(method):
    explainer = Explainer(NET.model(), method)
    batches = [image(3, seed=s) for s in range(8)]
    alone = [explainer(x) for x in batches]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(explainer, batches * 4))
    for found, expected in zip(together, alone * 4, strict=True):
        np.testing.assert_array_equal(found.maps, expected.maps)
        np.testing.assert_array_equal(found.targets, expected.targets)


@pytest.mark.parametrize("method", METHODS)
def test_an_explainer_is_pickled_with_all_but_its_session(method):
    explainer = Explainer(NET.model(), method, target="Bird", labels=["cat", "bird", "dog"], progress=print, seed=3)
    copy = pickle.loads(pickle.dumps(explainer))  # noqa: S301 - our own bytes
    assert copy.progress is None
    for name in ("layers", "assumptions", "preprocess", "labels", "target"):
        assert getattr(copy, name) == getattr(explainer, name)
    explainer.progress = None
    np.testing.assert_array_equal(copy(image(3)).maps, explainer(image(3)).maps)


def test_external_data_survives_a_pickle(tmp_path, monkeypatch):
    onnx.save(NET.model(), tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps(Explainer("m.onnx", target=1))
    monkeypatch.chdir("/")
    found = pickle.loads(data)(image(3))  # noqa: S301 - our own bytes
    np.testing.assert_allclose(found.raw["map"], NET.gradcam(image(3), [1] * 3), atol=1e-6)


def test_noise_depends_on_the_seed_and_the_sample_alone():
    x = image(5)
    one, two, other = (Explainer(NET.model(), "random", seed=s, batch=b)(x).maps for s, b in ((1, 5), (1, 2), (2, 5)))
    np.testing.assert_array_equal(one, two)
    assert np.abs(one - other).max() > 0.1


def test_progress_counts_to_the_end():
    seen = []
    Explainer(NET.model(), batch=2, progress=lambda *s: seen.append(s))(image(5))
    assert seen == [("explaining", n, 5) for n in (2, 4, 5)]
    seen.clear()
    Explainer(NET.model(), "scorecam", batch=3, progress=lambda *s: seen.append(s))(image(2))
    assert seen == [("scoring masks", n, 8) for n in (3, 4, 7, 8)]
    seen.clear()
    explainer = Explainer(NET.model(), preprocess=SMALL, batch=1, progress=lambda *s: seen.append(s))
    explainer.images([np.zeros((4, 4, 3), np.uint8)] * 2)
    assert seen == [("photos", 1, 2), ("photos", 2, 2)]


# ----- what comes out beside the map -----
def test_an_empty_map_is_said():
    H = np.float64([[1, 1, 1, 1], [-1, -1, -1, -1], [2, 0, 0, 1]])
    proto, x = model_with_head(H), image(3)
    found = Explainer(proto, target=[0, 1, 2], labels=["cat", "bird", "dog"])(x)
    assert found.maps[1].max() == 0
    assert found.raw["map"][1].max() <= 0
    np.testing.assert_allclose(found.raw["map"][1], -NET.map(x)[1].sum(0) / 30, atol=1e-6)
    (warning,) = found.warnings
    assert warning.startswith("sample 1: nothing in 'map' speaks for bird")
    assert ".raw" in warning
    found = Explainer(proto, target="top3", batch=1)(x)
    empty = sorted(
        (int(s), int(c)) for s, c, m in zip(found.samples, found.targets, found.maps, strict=True) if not m.any()
    )
    assert empty == [(0, 1), (1, 1), (2, 1)]
    assert [w.partition(":")[0] for w in found.warnings] == ["sample 0", "sample 1", "sample 2"]
    assert all("class 1" in w for w in found.warnings)


def model_with_head(H: np.ndarray) -> onnx.ModelProto:
    net = Net()
    net.H, net.b = H, np.zeros(len(H))
    return net.model()


def test_probabilities_are_those_of_how_the_model_ends():
    x, scores, linear = image(5), NET.score(image(5)), "f = Flatten(p) s = Gemm<transB = 1>(f, H, b)"
    rows = np.arange(5)
    soft = softmax(scores)[rows, ARBITRARY]
    for head, options, expected in (
        (f"{linear} y = Softmax<axis = 1>(s)", {}, soft),
        (f"{linear} y = LogSoftmax<axis = 1>(s)", {}, soft),
        (f"{linear} y = Sigmoid(s)", {}, 1 / (1 + np.exp(-scores[rows, ARBITRARY]))),
        (f"{linear} y = Identity(s)", {}, soft),
        (f"{linear} y = Softmax<axis = 1>(s)", {"score": "y"}, soft),
    ):
        found = Explainer(NET.model(head), target=ARBITRARY, **options)(x)
        np.testing.assert_allclose(found.probabilities, expected, rtol=1e-5)
        wanted = soft if options else scores[rows, ARBITRARY]
        np.testing.assert_allclose(found.scores, wanted, rtol=1e-5)
        assert found.outputs["y"].shape == (5, 3)


def test_a_single_score_has_a_probability_only_behind_a_sigmoid():
    net, x = Net(classes=1), image(3)
    found = Explainer(net.model())(x)
    assert (found.probabilities, found.targets.tolist()) == (None, [0, 0, 0])
    assert Explainer(net.model(), batch=1)(x).probabilities is None
    found = Explainer(net.model("f = Flatten(p) s = Gemm<transB = 1>(f, H, b) y = Sigmoid(s)"))(x)
    np.testing.assert_allclose(found.probabilities, 1 / (1 + np.exp(-net.score(x)[:, 0])), rtol=1e-5)


def test_explaining_the_probability_is_its_own_gradient():
    """With the score after the softmax, d p_c / d A = p_c (H_c − Σ p_j H_j) / places."""
    x = image(5)
    proto = NET.model("f = Flatten(p) s = Gemm<transB = 1>(f, H, b) y = Softmax<axis = 1>(s)")
    p = softmax(NET.score(x))
    rows = p[np.arange(5), ARBITRARY][:, None] * (NET.H[ARBITRARY] - p @ NET.H) / 30
    found = Explainer(proto, score="y", target=ARBITRARY)(x)
    np.testing.assert_allclose(found.raw["map"], np.einsum("nk,nkhw->nhw", rows, NET.map(x)), atol=1e-6)


def test_labels(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("Katze\nVogel\nHund ü\n\n", encoding="utf-8")
    explainer = Explainer(NET.model(), labels=path, target="hund Ü")
    assert (explainer.labels, explainer(image(2)).targets.tolist()) == (["Katze", "Vogel", "Hund ü"], [2, 2])
    assert Explainer(NET.model(), labels=str(path)).labels == explainer.labels
    proto = NET.model()
    assert "no class names in the model; set them with --labels" in Explainer(proto).assumptions
    proto.metadata_props.add(key="names", value="{0: 'a', 1: 'b', 2: 'c'}")
    assert Explainer(proto).labels == ["a", "b", "c"]
    assert Explainer(proto, labels=["x", "y", "z"]).labels == ["x", "y", "z"]
    proto.metadata_props[0].value = "['a', 'b']"
    assert Explainer(proto).labels is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a\nb\n", r"2 class names in '.*labels\.txt' for a score of 3 classes"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (None, "No such file"),
    ],
)
def test_labels_that_do_not_fit_are_one_clear_line(tmp_path, content, said):
    path = tmp_path / "labels.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=said):
        Explainer(NET.model(), labels=path)


def test_what_was_assumed_is_said():
    explainer = Explainer(NET.model("f = Flatten(p) s = Gemm<transB = 1>(f, H, b) y = Softmax(s)"))
    said = "\n".join(explainer.assumptions)
    parts = ("layer 'map'", "NCHW, grid 6×5", "score 's', before the softmax", "'imagenet' at 6×5 is a guess")
    for part in (*parts, "provider CPU"):
        assert part in said
    quiet = Explainer(NET.model(), layers="map", score="y", providers="cpu", preprocess=SMALL, labels=["a", "b", "c"])
    assert quiet.assumptions == []
    assert (quiet.method.name, quiet.layers, quiet.score) == ("gradcam", ("map",), "y")
    assert quiet.provider == "CPUExecutionProvider"


# ----- inputs -----
TWO = """net (float[N, 3, 6, 5] x, float[N, 4] scale) => (float[N, 3] y) {
  c = Conv<pads = [1, 1, 1, 1]>(x, W, B) map = Relu(c) p = GlobalAveragePool(map) f = Flatten(p)
  g = Mul(f, scale) y = Gemm<transB = 1>(g, H, b)
}"""


@pytest.mark.parametrize("method", ["gradcam", "scorecam"])
def test_a_model_of_several_inputs_takes_a_dict(method):
    x, scale = image(5), np.random.default_rng(1).uniform(1, 2, size=(5, 4)).astype(np.float32)
    explainer = Explainer(model(TWO, **NET.weights()), method, target=ARBITRARY, batch=2)
    found = explainer({"scale": scale, "x": x})
    if method == "gradcam":
        rows = NET.H[ARBITRARY] * scale / 30
        np.testing.assert_allclose(found.raw["map"], np.einsum("nk,nkhw->nhw", rows, NET.map(x)), atol=1e-6)
    np.testing.assert_allclose(
        found.scores, ((NET.map(x).mean((2, 3)) * scale) @ NET.H.T + NET.b)[np.arange(5), ARBITRARY], rtol=1e-4
    )
    with pytest.raises(InputError, match="2 inputs: give a dict of arrays for x, scale"):
        explainer(x)
    with pytest.raises(InputError, match="'scale' is not given"):
        explainer({"x": x})
    with pytest.raises(InputError, match="same number of samples"):
        explainer({"x": x, "scale": scale[:4]})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (image(2)[:, :, :4], "'x' has shape [2, 3, 4, 5]; the model takes [?, 3, 6, 5]"),
        (image(2)[0], "'x' has shape [3, 6, 5]"),
        (image(2)[:0], "at least one"),
        (image(2).astype(np.float64), "'x' is float64; the model takes float32. Convert it: array.astype('float32')"),
        ((image(2) * 9).astype(np.uint8), "'x' is uint8"),
        ({"image": image(2)}, "no input 'image'"),
        ({}, "at least one"),
        (np.float32(3), "at least one"),
        (None, "at least one"),
    ],
)
def test_an_array_that_does_not_fit_is_one_clear_line(given, said):
    with pytest.raises(InputError) as caught:
        Explainer(NET.model())(given)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_photo_is_no_array():
    with pytest.raises(InputError, match=r"photos by explainer\.images\(\['cat\.png'\]\)"):
        Explainer(NET.model())("cat.png")


def test_lists_of_several_lengths_are_one_clear_line():
    with pytest.raises(InputError):
        Explainer(NET.model())([[1.0, 2.0], [3.0]])


def test_a_target_among_the_arrays_is_refused_or_obeyed():
    try:
        found = Explainer(NET.model())({"x": image(2), "cam/target": np.int64([1, 1])})
    except InputError:
        return
    assert found.targets.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "gradcan"}, "No method 'gradcan'. Did you mean 'gradcam'"),
        ({"layers": "mpa"}, "No layer 'mpa'. Did you mean 'map'"),
        ({"score": "yy"}, "No score tensor 'yy'"),
        ({"options": {"alpha": 1}}, "No gradcam option 'alpha'"),
        ({"method": "gradcam++", "options": {"alpha": "plian"}}, "'plian'. It must be one of: plain, normalised"),
        ({"batch": 0}, "batch is 0"),
        ({"batch": 2.5}, "batch is 2.5"),
        ({"layers": None}, "A layer is named as `onnxcam inspect` does, not None"),
        ({"labels": None}, "Labels are 'auto', a file"),
        ({"preprocess": {"size": [6, 5]}}, "Preprocessing is 'auto', the name of a preset"),
        ({"method": None}, "No method 'None'"),
        ({"providers": None}, "A provider is named, as 'cpu' or 'cuda' or 'auto', not None"),
        ({"providers": [1]}, "not 1"),
        ({"options": 3}, "Options of a method come as a dict of names and values, not 3"),
        ({"options": "alpha=plain"}, "not 'alpha=plain'"),
        ({"score": 3}, "No score tensor '3'"),
        ({"preprocess": "imagnet"}, "Did you mean 'imagenet'"),
        ({"preprocess": "none.json"}, "Cannot read preprocessing 'none.json'"),
    ],
)
def test_a_wrong_choice_is_one_clear_line(options, said):
    with pytest.raises(InputError) as caught:
        Explainer(NET.model(), **options)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_outputs_that_are_no_tensors_come_back_as_they_are():
    text = """net (float[N, 3, 6, 5] x) => (float[N, 4] y, seq(float[N, 4]) s) {
      c = Conv(x, W) p = GlobalAveragePool(c) y = Flatten(p) s = SequenceConstruct(y, y)
    }"""
    found = Explainer(model(text, W=np.ones((4, 3, 1, 1))))(image(2))
    assert len(found.outputs["s"]) == 2


def test_an_output_without_axes_survives_batches():
    text = """net (float[N, 3, 6, 5] x) => (float[N, 4] y, float t) {
      c = Conv(x, W) p = GlobalAveragePool(c) y = Flatten(p) t = ReduceMax<keepdims = 0>(y)
    }"""
    found = Explainer(model(text, W=np.ones((4, 3, 1, 1))), batch=2)(image(3))
    assert found.outputs["y"].shape == (3, 4)


# ----- photographs -----
def photos(count: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [rng.integers(0, 256, (12 + 3 * i, 20 - 2 * i, 3), np.uint8) for i in range(count)]


@pytest.mark.parametrize("batch", [1, 16])
def test_photos_are_arrays_after_preprocessing(batch):
    explainer = Explainer(NET.model(), preprocess=SMALL, target=[0, 1, 2], batch=batch)
    found = explainer.images(photos())
    arrays = explainer(np.concatenate([SMALL.apply(p) for p in photos()]))
    np.testing.assert_array_equal(found.targets, arrays.targets)
    np.testing.assert_allclose(found.scores, arrays.scores, rtol=1e-6)
    np.testing.assert_allclose(found.raw["map"], arrays.raw["map"], atol=1e-7)
    for map_, small, photo in zip(found.maps, arrays.maps, photos(), strict=True):
        assert map_.shape == photo.shape[:2]
        np.testing.assert_allclose(map_, cv2.resize(small, photo.shape[1::-1]), atol=1e-5)
    overlays = found.overlays()
    assert [o.shape for o in overlays] == [p.shape for p in photos()]
    assert {o.dtype for o in overlays} == {np.dtype(np.uint8)}


def test_a_stream_is_the_same_batch_by_batch(tmp_path):
    explainer = Explainer(NET.model(), preprocess=SMALL, target=[0, 1, 2, 0, 1], batch=2)
    given = photos(5)
    whole, parts = explainer.images(given), list(explainer.stream(given))
    assert [p.samples.tolist() for p in parts] == [[0, 1], [2, 3], [4]]
    assert [p.first for p in parts] == [0, 2, 4]
    for found in ("targets", "scores", "probabilities"):
        np.testing.assert_array_equal(np.concatenate([getattr(p, found) for p in parts]), getattr(whole, found))
    for found in (lambda p: p.maps, lambda p: p.overlays()):
        for a, b in zip([m for p in parts for m in found(p)], found(whole), strict=True):
            np.testing.assert_array_equal(a, b)
    saved = [path.name for part in parts for path in part.save(tmp_path / "parts")]
    assert saved == [path.name for path in whole.save(tmp_path / "whole")]
    for name in saved:
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_stream_looks_for_every_file_before_it_starts(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path, photo in zip(paths[:2], photos(2), strict=True):
        onnxcam.image.write(path, photo)
    with pytest.raises(InputError, match=r"Cannot read photo '.*2\.png'"):
        next(Explainer(NET.model(), preprocess=SMALL, batch=1).stream(paths))


def test_paths_are_the_photos_they_name(tmp_path):
    given = photos(2)
    paths = [tmp_path / "a.png", str(tmp_path / "ü b.png")]
    for path, photo in zip(paths, given, strict=True):
        onnxcam.image.write(Path(path), photo)
    explainer = Explainer(NET.model(), preprocess=SMALL)
    for a, b in zip(explainer.images(paths).maps, explainer.images(given).maps, strict=True):
        np.testing.assert_array_equal(a, b)


def test_one_photo_needs_no_list():
    explainer, (photo,) = Explainer(NET.model(), preprocess=SMALL), photos(1)
    np.testing.assert_array_equal(explainer.images(photo).maps[0], explainer.images([photo]).maps[0])


def test_a_grey_photo_is_one_of_three_equal_colours():
    explainer, grey = Explainer(NET.model(), preprocess=SMALL), photos(1)[0][:, :, 0]
    (expected,) = explainer.images([np.stack([grey] * 3, axis=2)]).maps
    for given in (grey, [grey], [grey[:, :, None]]):
        found = explainer.images(given)
        np.testing.assert_array_equal(found.maps[0], expected)
        assert found.photos[0].shape == (12, 20, 3)


@pytest.mark.parametrize(
    "given", [np.zeros((4, 5)), np.zeros((4, 5, 4), np.uint8), np.zeros((0, 5), np.uint8), [[1, 2]]]
)
def test_other_arrays_are_no_photos(given):
    with pytest.raises(InputError, match=r"RGB \(height, width, 3\) or grey \(height, width\), not \(\d, "):
        Explainer(NET.model(), preprocess=SMALL).images([given])


def test_outside_of_a_crop_the_map_is_zero():
    crop = Preprocess(size=(6, 5), std=(255.0,), resize="crop", crop_ratio=1.0)
    (map_,) = Explainer(NET.model(), preprocess=crop, target=0).images([photos(1)[0].repeat(2, axis=1)]).maps
    assert map_.shape == (12, 40)
    assert map_[:, 15:25].any()
    assert not map_[:, :14].any()
    assert not map_[:, 26:].any()


def test_photos_of_their_own_sizes():
    proto = NET.model(dims="N, 3, H, W")
    own = Preprocess(size=None, std=(255.0,))
    found = Explainer(proto, preprocess=own, target=[0, 1, 2]).images(photos())
    assert [m.shape for m in found.maps] == [p.shape[:2] for p in photos()]
    for i, photo in enumerate(photos()):
        x = (photo.transpose(2, 0, 1)[None] / np.float32(255)).astype(np.float32)
        raw = NET.gradcam(x, [i])
        np.testing.assert_allclose(found.raw["map"][i], raw[0], atol=1e-5)
        np.testing.assert_allclose(found.maps[i], pipeline([raw], photo.shape[:2])[0], atol=1e-3)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "Give a list of photos"),
        (None, "Give a list of photos"),
        ("cat.png", "Cannot read photo 'cat.png'"),
        (["none.png"], "Cannot read photo 'none.png'"),
        ([np.zeros((6, 5, 2), np.uint8)], "A photo is an array"),
        ([np.zeros((6, 5))], "A photo is an array"),
        ([np.zeros((6, 5, 3))], "A photo is an array"),
    ],
)
def test_a_photo_that_is_none_is_one_clear_line(given, said):
    with pytest.raises(InputError) as caught:
        Explainer(NET.model(), preprocess=SMALL).images(given)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("preprocess", ["auto", "unit"])
def test_a_model_of_one_channel_takes_photos(preprocess):
    text = "net (float[N, 1, 6, 5] x) => (float[N, 4] y) { map = Conv(x, W) p = GlobalAveragePool(map) y = Flatten(p) }"
    explainer = Explainer(model(text, W=np.ones((4, 1, 1, 1))), preprocess=preprocess)
    assert explainer.images(photos(1)).maps[0].shape == (12, 20)


def test_the_map_has_the_size_of_the_input_that_the_layer_sees():
    text = """net (float[N, 3, 4, 4] a, float[N, 3, 6, 5] b) => (float[N, 7] y) {
      map = Conv(b, W) p = GlobalAveragePool(map) q = GlobalAveragePool(a) h = Concat<axis = 1>(p, q) y = Flatten(h)
    }"""
    explainer = Explainer(model(text, W=np.ones((4, 3, 1, 1))))
    assert explainer({"a": image(2, (3, 4, 4)), "b": image(2)}).maps.shape == (2, 6, 5)


def test_values_that_are_not_finite_are_said():
    found = Explainer(NET.model(), preprocess=SMALL)(np.full((1, 3, 6, 5), np.nan, np.float32))
    assert np.isfinite(found.maps).all()
    assert len(found.warnings) == 1


def test_a_score_that_is_no_number_is_said():
    proto, x = NET.model(), image(1)
    head = next(t for t in proto.graph.initializer if t.name == "H")
    weights = onnx.numpy_helper.to_array(head).copy()
    weights[2] = np.nan
    head.CopyFrom(onnx.numpy_helper.from_array(weights, "H"))
    for target, count in ((2, 1), (0, 0)):
        warnings = Explainer(proto, target=target, preprocess=SMALL)(x).warnings
        assert len(warnings) == count
    assert "the score of class 2 is nan: the map means nothing" in Explainer(proto, preprocess=SMALL)(x).warnings[0]


def test_a_model_that_takes_no_pictures_takes_no_photos():
    proto = model(
        "net (float[N, 3, 9] x) => (float[N, 3] y) { map = Exp(x) y = ReduceMean<axes = [2], keepdims = 0>(map) }"
    )
    explainer = Explainer(proto)
    assert explainer.preprocess is None
    with pytest.raises((InputError, ModelError), match="image input is not known"):
        explainer.images([np.zeros((6, 5, 3), np.uint8)])
    assert explainer(image(2, (3, 9))).maps.shape == (2, 9)


# ----- files -----
def test_save_writes_what_it_says(tmp_path):
    explainer = Explainer(NET.model(), preprocess=SMALL, target=[0, 1], labels=["cat", "bird", "dog"])
    found = explainer.images(photos(2))
    written = found.save(tmp_path / "new" / "out")
    stems = [f"photo{i}{end}" for i in range(2) for end in ("_overlay.png", "_heatmap.png", ".npz", ".json")]
    assert [p.name for p in written] == stems
    assert sorted(p.name for p in (tmp_path / "new" / "out").iterdir()) == sorted(stems)
    for i, photo in enumerate(photos(2)):
        np.testing.assert_array_equal(read(written[4 * i]), found.overlays()[i])
        assert read(written[4 * i + 1]).shape == photo.shape
        with np.load(written[4 * i + 2]) as arrays:
            assert set(arrays) == {"map", "raw/map"}
            np.testing.assert_array_equal(arrays["map"], found.maps[i])
            np.testing.assert_array_equal(arrays["raw/map"], found.raw["map"][i])
        record = json.loads(written[4 * i + 3].read_text(encoding="utf-8"))
        assert (record["method"], record["layers"], record["score"], record["photo"]) == ("gradcam", ["map"], "y", None)
        assert (record["size"], record["version"], record["warnings"]) == (
            list(photo.shape[:2]),
            onnxcam.__version__,
            [],
        )
        (row,) = record["rows"]
        assert (row["class"], row["label"]) == (i, ["cat", "bird"][i])
        assert row["score"] == pytest.approx(float(found.scores[i]))
        assert row["probability"] == pytest.approx(float(found.probabilities[i]))
        assert found.maps[i][tuple(row["peak"])] == found.maps[i].max()
        assert row["files"] == stems[4 * i : 4 * i + 3]


def test_rows_of_one_photo_carry_their_class(tmp_path):
    found = Explainer(NET.model(), preprocess=SMALL, target="top2").images(photos(1))
    a, b = found.targets
    names = [p.name for p in found.save(tmp_path)]
    ends = ("_overlay.png", "_heatmap.png", ".npz")
    assert names == [f"photo0.{c}{end}" for c in (a, b) for end in ends] + ["photo0.json"]
    assert [r["class"] for r in json.loads((tmp_path / "photo0.json").read_text())["rows"]] == [a, b]


def test_photos_of_one_name_do_not_collide(tmp_path):
    paths = []
    for folder, name in (("a", "x.png"), ("b", "x.png"), ("c", "x_2.png"), ("d", "x.bmp")):
        (tmp_path / folder).mkdir()
        paths.append(tmp_path / folder / name)
        onnxcam.image.write(paths[-1], photos(4)[len(paths) - 1])
    written = Explainer(NET.model(), preprocess=SMALL).images(paths).save(tmp_path / "out")
    assert len({p.name for p in written}) == len(written) == 16
    records = [json.loads(p.read_text(encoding="utf-8")) for p in written if p.suffix == ".json"]
    assert [r["photo"] for r in records] == [str(p) for p in paths]
    assert [r["size"] for r in records] == [list(p.shape[:2]) for p in photos(4)]


def test_arrays_have_no_pictures(tmp_path):
    found = Explainer(NET.model())(image(2))
    for verb in (found.overlays, lambda: found.save(tmp_path / "out")):
        with pytest.raises(InputError, match=r"explainer\.images"):
            verb()


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("kept")
    found = Explainer(NET.model(), preprocess=SMALL).images(photos(1))
    for folder in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(InputError, match=r"Cannot write .*file") as caught:
            found.save(folder)
        assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_the_naive_forms_are_what_they_say():
    """The closed form of Grad-CAM by loops: the table of naive forms and this file's evidence agree."""
    x = image(5)
    np.testing.assert_allclose(reference.gradcam(known(x, ARBITRARY)), NET.gradcam(x, ARBITRARY), atol=1e-12)
