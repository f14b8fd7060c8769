"""Targets from the text that asks for them to the map and the file, on networks whose answer is known by hand."""

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

import onnxcam
from onnxcam import Explainer
from onnxcam.errors import InputError
from onnxcam.image import write
from onnxcam.inspection import Boxes, Score
from onnxcam.preprocessing import Preprocess
from onnxcam.targets import (
    GRAMMAR,
    Box,
    Character,
    Class,
    Finer,
    LogOdds,
    Masked,
    Point,
    Probability,
    Rectangle,
    Region,
    Similarity,
    Step,
    Sum,
    Towards,
    Weighted,
    read_targets,
)  # fmt: skip
from tests.builders import Net, image, model, run

LABELS = ("cat", "dog", "cat - like", "a:b")
NAMES = {
    "classes": Score("s", "s", ("N", 4), "softmax"),
    "boxes": Score("s", "s", ("N", 8, "A"), None, "boxes", boxes=Boxes("columns", "s", "cxcywh", classes=4)),
    "regions": Score("s", "s", ("N", 4, "H", "W"), None, "regions"),
    "sequence": Score("s", "s", ("N", "T", 4), "softmax", "sequence", 2),
    "embedding": Score("s", "s", ("N", 4), None, "embedding"),
}


# ----- what a text asks for -----
@pytest.mark.parametrize(
    ("text", "kind", "goal"),
    [
        ("p:cat", "classes", Probability(0)),
        ("odds:1", "classes", LogOdds(1)),
        ("p:top", "classes", Probability(-1)),
        ("finer:dog", "classes", Finer(1)),
        ("cat - dog", "classes", Sum(((1, Class(0)), (-1, Class(1))))),
        ("cat + 0.5*dog - 2*p:3", "classes", Sum(((1, Class(0)), (0.5, Class(1)), (-2, Probability(3))))),
        ("top - dog", "classes", Sum(((1, Class(-1)), (-1, Class(1))))),
        ("cat - like - dog", "classes", Sum(((1, Class(0)), (-1, "like is no class")))),
        ("down:2", "classes", Sum(((-1, Class(2)),))),
        ("1=3.5", "classes", Towards(3.5, 1)),
        ("dog = -1e-2", "classes", Towards(-0.01, 1)),
        (None, "boxes", Box()),
        ("top", "boxes", Box()),
        ("dog", "boxes", Box(1)),
        (3, "boxes", Box(3)),
        ("box:17", "boxes", Box(index=17)),
        ("cat@10,20,30.5,40", "boxes", Box(0, near=(10, 20, 30.5, 40))),
        ("@10,20,30,40", "boxes", Box(near=(10, 20, 30, 40))),
        ("top@10,20,30,40", "boxes", Box(near=(10, 20, 30, 40))),
        ("cat - dog", "boxes", Sum(((1, Box(0)), (-1, Box(1))))),
        ("dog@predicted", "regions", Region(1)),
        ("@predicted", "regions", Region()),
        ("2@peak", "regions", Region(2, "peak")),
        ("dog@3,4", "regions", Point(3, 4, 1)),
        ("dog@3,4,5,6", "regions", Rectangle(3, 4, 5, 6, 1)),
        ("char:2", "sequence", Character(2)),
        (None, "sequence", Character()),
        ("step:7", "sequence", Step(7)),
        ("dog@step:7", "sequence", Step(7, 1)),
        (None, "embedding", Similarity()),
    ],
)
def test_what_a_text_asks_for(text, kind, goal):
    if "like is no class" in str(goal):
        with pytest.raises(InputError, match="No class 'like'"):
            read_targets(text, NAMES[kind], LABELS)
        return
    (found,) = read_targets(text, NAMES[kind], LABELS).goals
    assert found == goal


def test_ranks_of_boxes_are_rows():
    assert read_targets("top3", NAMES["boxes"], LABELS).goals == (Box(), Box(rank=1), Box(rank=2))


@pytest.mark.parametrize(
    ("text", "cls"), [("cat", 0), ("cat - like", 2), ("A:B", 3), ("2", 2), ("-1", -1), ("top", -1)]
)
def test_a_class_of_a_row_stays_a_number(text, cls):
    found = read_targets(text, NAMES["classes"], LABELS)
    assert (found.same, found.goals) == ((cls,), ())


def test_arrays_in_files(tmp_path):
    np.save(tmp_path / "r.npy", np.float32([1, 2, 3, 4]))
    np.save(tmp_path / "m.npy", np.ones((3, 5), np.float32))
    (like,) = read_targets(f"like:{tmp_path}/r.npy", NAMES["embedding"], None).goals
    (dot,) = read_targets(f"dot:{tmp_path}/r.npy", NAMES["embedding"], None).goals
    (mask,) = read_targets(f"1@{tmp_path}/m.npy", NAMES["regions"], None).goals
    (seed,) = read_targets(f"seed:{tmp_path}/r.npy", NAMES["classes"], None).goals
    assert (like.measure, dot.measure, mask.cls) == ("cosine", "dot", 1)
    assert (like.reference.tolist(), seed.weights.tolist(), mask.mask.shape) == ([1, 2, 3, 4], [1, 2, 3, 4], (3, 5))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no array", "no .npy file of numbers"),
        (b"PK\x03\x04 no archive", "no .npy file of numbers"),
        (b"", "no .npy file of numbers"),
        (np.array([{}], object), "no .npy file of numbers"),
        (np.array(["a"]), "holds an array of <U1. Save one array of numbers"),
        (np.zeros(4, complex), "holds an array of complex128"),
        ({"a": np.zeros(4)}, "holds an archive, as .npz is"),
    ],
)
def test_a_file_without_an_array_of_numbers_is_one_clear_line(tmp_path, content, said):
    with open(tmp_path / "r.npy", "wb") as file:
        if isinstance(content, bytes):
            file.write(content)
        else:
            np.savez(file, **content) if isinstance(content, dict) else np.save(file, content)
    for text, kind in (("seed:", "classes"), ("like:", "embedding"), ("1@", "regions")):
        with pytest.raises(InputError) as caught:
            read_targets(f"{text}{tmp_path}/r.npy", NAMES[kind], None)
        assert "r.npy'" in str(caught.value)
        assert said in str(caught.value)


def test_a_sum_of_nothing_and_weights_that_are_no_numbers_are_refused():
    with pytest.raises(InputError, match="at least one"):
        Sum(())
    for weight in (float("inf"), float("nan"), 1e39):
        with pytest.raises(InputError, match="finite number"):
            Sum(((weight, Class(1)),))


@pytest.mark.parametrize("goal", [Finer(1, count=0), Finer(1, alpha=float("inf"))])
def test_finer_compares_with_at_least_one_class(goal):
    with pytest.raises(InputError, match="at least one class"):
        onnxcam.Explainer(Net().model(), target=goal)


def test_a_name_of_many_classes_is_one_short_line():
    with pytest.raises(InputError, match=r"7 classes are called 'a': 0, 1, 2, 3, 4, …\. Give the index of one\.$"):
        read_targets("a", Score("s", "s", ("N", 7), "softmax"), "a" * 7)


def test_classes_that_only_a_run_can_count():
    head = """m = ReduceMax<keepdims = 0>(x) a = Abs(m) t = Expand(a, three) chosen = GreaterOrEqual(t, zero)
      Hc = Compress<axis = 0>(H, chosen) bc = Compress<axis = 0>(b, chosen) f = Flatten(p)
      y = Gemm<transB = 1>(f, Hc, bc)"""
    net = Net()
    proto = net.model(head, out="float[N, C] y", three=np.int64([3]), zero=np.array(0.0))
    x = image(2)
    for target, method in ((2, "eigencam"), ("p:2", "gradcam")):
        assert onnxcam.Explainer(proto, method, target=target)(x).targets.tolist() == [2, 2]
    for target, method in ((3, "eigencam"), ([0, 3], "eigencam"), ("top4", "eigencam"), (3, "scorecam")):
        with pytest.raises(InputError, match="answered with 3 classes"):
            onnxcam.Explainer(proto, method, target=target)(x)
    for target in ("p:3", "odds:3", "finer:3", "p:3 - p:2", "p:2 - p:3", ["p:0 - p:1", "p:1 - p:3"]):
        with pytest.raises(InputError, match="No class 3: the model answered with 3 classes"):
            onnxcam.Explainer(proto, target=target)(x)


def test_a_target_for_each_sample_is_one_graph():
    found = read_targets(["cat@1,2,3,4", "dog@5,6,7,8"], NAMES["boxes"], LABELS)
    assert {k: v.tolist() for k, v in found.inputs.items()} == {
        "cam/target": [0, 1],
        "cam/index": [-1, -1],
        "cam/box": [[1, 2, 3, 4], [5, 6, 7, 8]],
    }
    assert found.given(1, 2)["cam/box"].tolist() == [[5, 6, 7, 8]]
    contrasts = read_targets(["cat - dog", "dog - 3"], NAMES["classes"], LABELS)
    assert {k: v.tolist() for k, v in contrasts.inputs.items()} == {"cam/target": [0, 1], "cam/target/1": [1, 3]}


@pytest.mark.parametrize(
    ("target", "kind", "said"),
    [
        ("box:x", "boxes", "'x' is no number: boxes, steps and characters have numbers from 0 on"),
        ("char:-1", "sequence", "'-1' is no number"),
        ("bax:3", "boxes", "'bax:3' is no target. There is: 281, tabby; top, top5;"),
        ("cat@somewhere", "regions", "'@somewhere' is no target"),
        ("cat@1,2,3", "boxes", "'@1,2,3' is no target"),
        ("cat@30,20,10,40", "boxes", "The box [30.0, 20.0, 10.0, 40.0] is empty"),
        ("mouse@predicted", "regions", "No class 'mouse'"),
        ("9@predicted", "regions", "No class 9"),
        (["cat", 4], "boxes", "No class 4"),
        (["p:cat", "odds:dog"], "classes", "of one form"),
        (["top3", "cat"], "boxes", "'topK' is for all samples"),
        ("like:missing.npy", "embedding", "Cannot read the array 'missing.npy'"),
        ("1@mask.png", "regions", "give an array in .npy here"),
        (1.5, "boxes", "A target is an index, a name"),
        (True, "boxes", "No class True"),
        (" ", "boxes", "lacks a class"),
        ("top5 - 1", "classes", "'top5' is no class: 'topK' stands alone"),
        ("1e400*1", "classes", "not inf"),
        ("3e38*1 - 1e39*2", "classes", "not -1e+39"),
        ("1=-1e400", "classes", "finite numbers, and was given one that float32 cannot hold"),
        (Probability(9), "classes", "No class 9. There is 0 to"),
        (LogOdds(-2), "classes", "No class -2"),
        ([Class(9)], "regions", "No class 9"),
        (Sum(((1, Class(1)), (2, Finer(9)))), "classes", "No class 9"),
        (Class(1.5), "classes", "a whole number, not 1.5"),
        (Class("cat"), "classes", "a whole number, not 'cat'"),
        (Towards(float("nan"), 1), "classes", "finite numbers"),
        (Weighted(np.array(["a"])), "classes", "A target takes numbers: could not convert"),
        (Weighted(np.full(4, np.inf)), "classes", "finite numbers"),
        (Similarity(np.array([1, np.nan])), "embedding", "finite numbers"),
        (Point(1, float("inf")), "regions", "finite numbers"),
        ("1@1e400,2", "regions", "finite numbers"),
        ("1@1,2,1e400,1e401", "boxes", "finite numbers"),
    ],
)
def test_what_is_no_target_is_one_clear_line(target, kind, said):
    with pytest.raises(InputError) as caught:
        read_targets(target, NAMES[kind], LABELS)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_grammar_lists_every_word():
    from onnxcam.targets.text import _WORDS

    assert all(f"{word}:" in GRAMMAR for word in _WORDS)
    assert GRAMMAR in (Path(__file__).resolve().parents[1] / "docs" / "targets.md").read_text(encoding="utf-8")


# ----- a detector -----
SIDE = 8
DETECTOR = """det (float[N, 3, 8, 8] image) => (float[N, 7, 64] output0) {
  c = Conv<pads = [1, 1, 1, 1]>(image, W, B)
  map = Relu(c)
  k = Conv(map, H, b)
  s = Sigmoid(k)
  classes = Reshape(s, flat)
  one = Mul(image, zero)
  sum = ReduceSum<keepdims = 1>(one, axis)
  places = Add(sum, grid)
  corners = Reshape(places, flat4)
  output0 = Concat<axis = 1>(corners, classes)
}"""


def detector() -> onnx.ModelProto:
    """One box of 2×2 at each place, (x, y) its middle, certain as sigmoid(H · map + b)."""
    net = Net()
    middle = np.arange(SIDE) + 0.5
    grid = np.stack(np.broadcast_arrays(middle[None, :], middle[:, None], 2.0, 2.0))[None].astype(np.float32)
    more = {"flat": np.int64([0, 3, -1]), "flat4": np.int64([0, 4, -1]), "axis": np.int64([1])}
    heads = {"H": net.H[:, :, None, None], "b": net.b, "W": net.W, "B": net.B}
    return model(DETECTOR, **heads, zero=np.float32(0), grid=grid, **more)


def certainty(x):
    net = Net()
    z = np.einsum("kc,nchw->nkhw", net.H, net.map(x)) + net.b[:, None, None]
    return 1 / (1 + np.exp(-z))


X = image(3, (3, SIDE, SIDE), seed=5)


def test_a_detector_is_recognised():
    found = onnxcam.inspect(detector())
    boxes = found.scores[0].boxes
    assert (found.scores[0].kind, boxes.layout, boxes.classes, boxes.levels) == ("boxes", "columns", 3, ("map",))
    assert found.layers[0].name == "map" or found.layer("map")


@pytest.mark.parametrize("target", [None, 1, "box:21", "2@3,2,5,5", "top - 1"])
def test_the_map_of_a_box_is_its_gradient_times_the_map(target):
    found = Explainer(detector(), target=target)(X)
    p = certainty(X).reshape(3, 3, -1)
    A, net = Net().map(X), Net()
    for n in range(3):
        if target is None or target == "top - 1":
            c, at = np.unravel_index(p[n].argmax(), p[n].shape)
        elif target == "box:21":
            at, c = 21, p[n][:, 21].argmax()
        else:
            c = int(str(target)[0])
            at = p[n, c].argmax() if target == 1 else None
        if at is None:  # the box whose overlap with (3, 2, 5, 5) times its certainty is largest
            worth = []
            for i in range(SIDE * SIDE):
                x, y = i % SIDE + 0.5, i // SIDE + 0.5
                inside = max(min(5, x + 1) - max(3, x - 1), 0) * max(min(5, y + 1) - max(2, y - 1), 0)
                worth.append(inside / (4 + 6 - inside) * p[n, c, i])
            at = int(np.argmax(worth))
        expected = np.zeros((SIDE, SIDE))
        row, column = divmod(int(at), SIDE)
        chosen = [(1, c, row, column)]
        if target == "top - 1":
            other = divmod(int(p[n, 1].argmax()), SIDE)
            chosen.append((-1, 1, *other))
        for sign, k, i, j in chosen:
            slope = p[n, k, i * SIDE + j] * (1 - p[n, k, i * SIDE + j])
            expected[i, j] += sign * slope * (net.H[k] @ A[n, :, i, j])
        np.testing.assert_allclose(found.raw["map"][n], expected, atol=1e-5)
        assert (found.targets[n], found.found["index"][n]) == (c, at)
        np.testing.assert_allclose(found.found["box"][n], [column - 0.5, row - 0.5, column + 1.5, row + 1.5])
        assert found.scores[n] == pytest.approx(sum(s * p[n, k, i * SIDE + j] for s, k, i, j in chosen), rel=1e-4)


def test_the_best_boxes_in_one_run():
    found = Explainer(detector(), target="top3")(X)
    assert (found.samples.tolist(), found.maps.shape) == ([0, 0, 0, 1, 1, 1, 2, 2, 2], (9, SIDE, SIDE))
    for n in range(3):
        boxes = found.found["box"][n * 3 : n * 3 + 3]
        assert (np.diff(found.scores[n * 3 : n * 3 + 3]) <= 0).all()
        for a, b in ((0, 1), (0, 2), (1, 2)):
            inside = np.prod(
                np.maximum(np.minimum(boxes[a, 2:], boxes[b, 2:]) - np.maximum(boxes[a, :2], boxes[b, :2]), 0)
            )
            assert inside / (8 - inside) <= 0.45
    alone = Explainer(detector())(X)
    np.testing.assert_allclose(found.maps[::3], alone.maps, atol=1e-6)


def test_a_class_for_each_sample():
    found = Explainer(detector(), target=[2, "top", 0])(X)
    p = certainty(X).reshape(3, 3, -1)
    assert found.targets.tolist() == [2, p[1].max(1).argmax(), 0]
    assert found.found["index"].tolist() == [p[0, 2].argmax(), p[1].max(0).argmax(), p[2, 0].argmax()]
    with pytest.raises(InputError, match="2 targets for 3 samples"):
        Explainer(detector(), target=[2, 0])(X)


def test_the_last_batch_gets_its_own_rows():
    whole, parts = (Explainer(detector(), target=[2, "top", 0], batch=b)(X) for b in (16, 2))
    np.testing.assert_allclose(whole.maps, parts.maps, atol=1e-6)
    np.testing.assert_array_equal(whole.found["index"], parts.found["index"])


def test_a_box_that_is_not_there():
    with pytest.raises(InputError, match="Sample 0 has no such box number 64"):
        Explainer(detector(), target="box:64")(X)
    with pytest.raises(InputError, match="Sample 0 has no such box"):
        Explainer(detector(), target="1@20,20,30,30")(X)


def test_methods_that_mask_the_picture_keep_to_the_box():
    """Score-CAM: the weight of a channel is what the chosen box says of the picture behind it."""
    found = Explainer(detector(), "scorecam", options={"weights": "probability"})(X[:1])
    A, p = Net().map(X[:1])[0], certainty(X[:1]).reshape(3, -1)
    c, at = np.unravel_index(p.argmax(), p.shape)
    weights = []
    for channel in A:
        mask = (channel - channel.min()) / (channel.max() - channel.min() + 1e-8)
        weights.append(certainty(X[:1] * mask).reshape(3, -1)[c, at])
    np.testing.assert_allclose(found.raw["map"][0], np.einsum("k,khw->hw", weights, A), rtol=1e-3, atol=1e-5)


def test_photos_their_boxes_and_their_maps(tmp_path):
    """A photo twice as wide as high, fitted in with a border: boxes are given and found in its own pixels."""
    photo = np.random.default_rng(3).integers(0, 255, (40, 80, 3), np.uint8)
    write(tmp_path / "photo.png", photo)
    prepare = Preprocess(size=(8, 8), std=(255.0,), resize="letterbox")
    explainer = Explainer(detector(), target="@30,10,50,30", preprocess=prepare)
    found = explainer.images([tmp_path / "photo.png"])
    x = explainer.preprocess.apply(photo)
    inside = Explainer(detector(), target="@3,3,5,5")(x)
    assert found.found["index"].tolist() == inside.found["index"].tolist()
    expected = (inside.found["box"] - [0, 2, 0, 2]) * 10
    np.testing.assert_allclose(found.found["box"], expected, atol=1e-3)
    record = json.loads((found.save(tmp_path / "out"))[-1].read_text())["rows"][0]
    np.testing.assert_allclose(record["box"], expected[0], atol=1e-3)


# ----- segmentation, embeddings, outputs -----
SEGMENTER = """seg (float[N, 3, 6, 5] image) => (float[N, 3, 6, 5] out) {
  c = Conv<pads = [1, 1, 1, 1]>(image, W, B)
  map = Relu(c)
  out = Conv(map, H, b)
}"""


def segmenter():
    net = Net()
    return net, model(SEGMENTER, W=net.W, B=net.B, H=net.H[:, :, None, None], b=net.b)


def test_a_region_of_a_segmentation_by_every_way(tmp_path):
    net, proto = segmenter()
    x = image(2)
    A = net.map(x)
    z = np.einsum("kc,nchw->nkhw", net.H, A) + net.b[:, None, None]
    mask = np.zeros((6, 5), np.uint8)
    mask[1:4, 2:] = 255
    write(tmp_path / "mask.png", cv2.resize(mask, (50, 60), interpolation=cv2.INTER_NEAREST))
    for target, places in (
        ("1@predicted", z.argmax(1) == 1),
        ("1@3.4,2.9", np.broadcast_to(np.outer(np.arange(6) == 2, np.arange(5) == 3), (2, 6, 5))),
        (Masked(mask / 255, 1), np.broadcast_to(mask > 0, (2, 6, 5))),
    ):
        found = Explainer(proto, "hirescam", layers="map", target=target)(x)
        expected = places * np.einsum("c,nchw->nhw", net.H[1], A)
        np.testing.assert_allclose(found.raw["map"], expected, atol=1e-5)
        np.testing.assert_allclose(found.scores, (z[:, 1] * places).sum((1, 2)), rtol=1e-4)
        assert found.targets.tolist() == [1, 1]
    photo = np.random.default_rng(0).integers(0, 255, (60, 50, 3), np.uint8)
    explainer = Explainer(
        proto, "hirescam", layers="map", target=f"1@{tmp_path}/mask.png",
        preprocess=Preprocess(size=(6, 5), std=(255.0,), resize="stretch"),
    )  # fmt: skip
    found = explainer.images([photo])
    A = net.map(explainer.preprocess.apply(photo))
    expected = (mask > 0) * np.einsum("c,nchw->nhw", net.H[1], A)
    np.testing.assert_allclose(found.raw["map"], expected, atol=1e-4)


def test_two_photos_that_look_alike(tmp_path):
    """An embedding, the reference a photo: the gradient of the cosine by hand."""
    net = Net()
    proto = net.model(f"{Net.HEAD.replace('y =', 'embedding =')}", out="float[N, 3] embedding")
    rng = np.random.default_rng(1)
    photos = [rng.integers(0, 255, (6, 5, 3), np.uint8) for _ in range(2)]
    write(tmp_path / "one.png", photos[0])
    prepare = Preprocess(size=(6, 5), std=(255.0,), resize="stretch")
    assert onnxcam.inspect(proto).scores[0].kind == "embedding"
    found = Explainer(proto, layers="map", target=f"like:{tmp_path}/one.png", preprocess=prepare).images(photos)
    r, e = (net.score(prepare.apply(p))[0] for p in photos)
    cos = r @ e / np.linalg.norm(r) / np.linalg.norm(e)
    np.testing.assert_allclose(found.scores, [1, cos], rtol=1e-4)
    slope = (r / np.linalg.norm(r) - cos * e / np.linalg.norm(e)) / np.linalg.norm(e)
    A = net.map(prepare.apply(photos[1]))
    expected = np.einsum("k,nkhw->nhw", slope @ net.H / 30, A)
    np.testing.assert_allclose(found.raw["map"][1:], expected, atol=1e-5)
    with pytest.raises(InputError, match="The reference has 2 values, the embedding"):
        Explainer(proto, layers="map", target=Similarity(np.ones(2)))


def test_an_output_brought_to_a_value():
    net = Net()
    x = image(2)
    y = net.score(x)[:, 1]
    middle = float(y.mean())
    found = Explainer(net.model(), target=f"1={middle}")(x)
    signs = np.sign(middle - y)
    np.testing.assert_allclose(found.scores, -np.abs(y - middle), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(found.raw["map"], signs[:, None, None] * net.gradcam(x, [1, 1]), atol=1e-5)
    down = Explainer(net.model(), target="down:1")(x)
    np.testing.assert_allclose(down.raw["map"], -net.gradcam(x, [1, 1]), atol=1e-6)


def test_why_one_class_rather_than_another():
    net = Net()
    x = image(3)
    found = Explainer(net.model(), target="0 - 2")(x)
    np.testing.assert_allclose(found.raw["map"], net.gradcam(x, [0] * 3) - net.gradcam(x, [2] * 3), atol=1e-5)
    np.testing.assert_allclose(found.scores, net.score(x)[:, 0] - net.score(x)[:, 2], rtol=1e-4)
    each = Explainer(net.model(), target=["0 - 2", "1 - 0", "2 - 1"])(x)
    np.testing.assert_allclose(each.raw["map"], net.gradcam(x, [0, 1, 2]) - net.gradcam(x, [2, 0, 1]), atol=1e-5)


def test_any_weighting():
    net = Net()
    x, w = image(3), np.float32([0.2, -1, 3])
    found = Explainer(net.model(), target=Weighted(w))(x)
    expected = sum(w[c] * net.gradcam(x, [c] * 3) for c in range(3))
    np.testing.assert_allclose(found.raw["map"], expected, atol=1e-5)
    assert found.targets.tolist() == [-1, -1, -1]


def test_closed_form_cam_explains_a_class_and_nothing_else():
    with pytest.raises(InputError, match="'cam' explains a class and nothing else"):
        Explainer(Net().model(), "cam", target="0 - 1")


# ----- the file -----
@pytest.mark.parametrize("gate", [False, True], ids=["", "gate"])
def test_the_file_takes_what_the_target_takes(gate):
    proto = onnxcam.convert(
        detector(), target="1@3,3,5,5", emit=("gradient", "heatmap", "score", "class"), layers="map", gate=gate
    )
    defaults = {t.name: onnx.numpy_helper.to_array(t).tolist() for t in proto.graph.initializer}
    assert [defaults[n] for n in ("cam/target", "cam/index", "cam/box")] == [[1], [-1], [[3, 3, 5, 5]]]
    found = run(proto, {"image": X})
    expected = Explainer(detector(), target="1@3,3,5,5")(X)
    np.testing.assert_allclose(found["cam/heatmap"], expected.maps, atol=1e-5)
    np.testing.assert_allclose(found["cam/number"], expected.scores, rtol=1e-5)
    np.testing.assert_array_equal(found["cam/found/index"], expected.found["index"])
    assert found["cam/class"].tolist() == [1, 1, 1]
    other = run(proto, {"image": X, "cam/box": np.float32([[0, 0, 2, 2]] * 3), "cam/target": np.int64([0, 1, 2])})
    expected = Explainer(detector(), target=["0@0,0,2,2", "1@0,0,2,2", "2@0,0,2,2"])(X)
    np.testing.assert_allclose(other["cam/heatmap"], expected.maps, atol=1e-5)
    assert {p.key: p.value for p in proto.metadata_props}["cam.target"] == "1@3,3,5,5"


def test_the_file_with_three_boxes():
    proto = onnxcam.convert(detector(), target="top3", emit=("heatmap", "score", "class"), layers="map")
    found = run(proto, {"image": X})
    expected = Explainer(detector(), target="top3")(X)
    np.testing.assert_allclose(found["cam/heatmap"].reshape(9, SIDE, SIDE), expected.maps, atol=1e-5)
    np.testing.assert_array_equal(found["cam/class"].reshape(-1), expected.targets)
    assert found["cam/found/box"].shape == (3, 3, 4)


def test_an_explainable_file_is_explained_as_it_was_made():
    made = onnxcam.convert(detector(), target="1@3,3,5,5", layers="map")
    np.testing.assert_allclose(Explainer(made)(X).maps, Explainer(detector(), target="1@3,3,5,5")(X).maps, atol=1e-6)


def test_the_graph_of_a_target_uses_no_operator_that_providers_lack():
    lacking = {"ArgMax", "OneHot", "Equal", "Where", "TopK", "Greater", "ScatterND", "ScatterElements", "NonZero"}
    for target in ("top3", "1@3,3,5,5", "box:2"):
        extended = onnxcam.convert(detector(), target=target, layers="map")
        assert not {n.op_type for n in extended.graph.node} & lacking
        onnx.checker.check_model(extended, full_check=True)


def test_rows_of_one_class_have_files_of_their_own(tmp_path):
    photo = np.random.default_rng(4).integers(0, 255, (8, 8, 3), np.uint8)
    prepare = Preprocess(size=(8, 8), std=(255.0,), resize="stretch")
    found = Explainer(detector(), target="top3", preprocess=prepare).images([photo])
    paths = found.save(tmp_path)
    assert len(set(paths)) == 3 * 3 + 1
    rows = json.loads(paths[-1].read_text())["rows"]
    assert [row["box"] for row in rows] == found.found["box"].tolist()


def test_the_names_that_files_leave_out():
    """A reader of text has a blank before its characters and a space after them; a detector has no object."""
    text = """read (float[N, 3, 6, 8] image) => (float[N, 8, 5] out) {
      c = Conv(image, K) map = Relu(c) m = ReduceMean<axes = [2], keepdims = 0>(map)
      t = Transpose<perm = [0, 2, 1]>(m) out = Softmax<axis = 2>(t)
    }"""
    proto = model(text, K=np.random.default_rng(2).normal(size=(5, 3, 1, 1)))
    proto.metadata_props.add(key="character", value="a\nb\nc")
    x = image(1, (3, 6, 8))
    explainer = Explainer(proto, target="char:0", layers="map")
    assert explainer.labels == ["blank", "a", "b", "c", " "]
    found = explainer(x)
    best = found.outputs["out"][0].argmax(1)
    (first,) = [c for i, c in enumerate(best) if c and not best[:i].any()]
    assert found.targets.tolist() == [first]
    assert found.record(0)["label"] == explainer.labels[first]


END_TO_END = """
  best = ReduceMax<axes = [1], keepdims = 0>(classes) which = ArgMax<axis = 1, keepdims = 0>(classes)
  value, at = TopK<axis = 1>(best, five)
  value3 = Unsqueeze(value, last) at3 = Unsqueeze(at, last) at4 = Expand(at3, wide)
  turned = Transpose<perm = [0, 2, 1]>(corners) boxes = GatherElements<axis = 1>(turned, at4)
  label = GatherElements<axis = 1>(which, at) labelf = Cast<to = 1>(label) label3 = Unsqueeze(labelf, last)
  output0 = Concat<axis = 2>(boxes, value3, label3)
}"""
SUPPRESSED = """
  turned = Transpose<perm = [0, 2, 1]>(corners)
  chosen = NonMaxSuppression<center_point_box = 1>(turned, classes, five, overlap)
  scores = GatherND(classes, chosen)
  label = Gather<axis = 1>(chosen, pick1) labels = Squeeze(label, cut1)
  number = Gather<axis = 1>(chosen, pick2) number1 = Squeeze(number, cut1)
  first = Squeeze(turned, cut0) boxes = Gather<axis = 0>(first, number1)
}"""


def ending(text: str, outputs: str, **more: np.ndarray) -> onnx.ModelProto:
    body = DETECTOR.replace("float[N, 7, 64] output0", outputs).rpartition("output0")[0].rpartition("\n")[0]
    whole, plain = model(body + text, **more), detector()
    whole.graph.initializer.extend(t for t in plain.graph.initializer)
    return whole


@pytest.mark.parametrize("kind", ["end to end", "suppressed"])
def test_boxes_that_the_graph_itself_has_chosen(kind):
    """The gradient goes back through TopK, or beside NonMaxSuppression, to the place of the box and no other."""
    five = np.int64([5])
    if kind == "end to end":
        wide, last = np.int64([1, 1, 4]), np.int64([2])
        proto = ending(END_TO_END, "float[N, 5, 6] output0", five=five, last=last, wide=wide)
    else:
        ones = {"cut0": np.int64([0]), "cut1": np.int64([1]), "pick1": np.int64([1]), "pick2": np.int64([2])}
        outputs = "float[S, 4] boxes, float[S] scores, int64[S] labels"
        proto = ending(SUPPRESSED, outputs, five=five, overlap=np.float32([0.3]), **ones)
    x, net = X[:1], Net()
    p, A = certainty(x).reshape(3, -1), net.map(x)[0]
    for target in (None, "box:2", 1):
        found = Explainer(proto, target=target, layers="map")(x)
        assert Explainer(proto, target=target).method.name == "hirescam"
        outputs = found.outputs
        index, c = int(found.found["index"][0]), int(found.targets[0])
        if kind == "end to end":
            column, row = outputs["output0"][0, index, :2] - 0.5
        else:
            column, row = outputs["boxes"][index, :2] - 0.5
            assert outputs["labels"][index] == c
        place = round(float(row)) * SIDE + round(float(column))
        expected = np.zeros((SIDE, SIDE))
        slope = p[c, place] * (1 - p[c, place])
        expected[divmod(place, SIDE)] = slope * (net.H[c] @ A.reshape(4, -1)[:, place])
        np.testing.assert_allclose(found.raw["map"][0], expected, atol=1e-5)
        assert found.scores[0] == pytest.approx(p[c, place], rel=1e-4)
        if target == "box:2":
            assert index == 2
        elif target is None:
            assert p[c, place] == pytest.approx(p.max(), rel=1e-4)
        else:
            assert c == 1
