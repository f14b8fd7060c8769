"""Which class is explained: inside the graph, and by name."""

import numpy as np
import onnx
import pytest

import onnxcam
from onnxcam.errors import InputError
from onnxcam.inspection import Score
from onnxcam.target import class_index, ranked, top_k, totals
from tests.builders import Net, model, retyped, run


def seeds(scores: np.ndarray, targets: list[int] | None = None, *, end: str = "", opset: int = 17) -> np.ndarray:
    """What `one_hot` makes of scores (N, C): the gradient of a model whose scores are the means of its planes."""
    scores = np.asarray(scores)
    classes, single = scores.shape[1], {"": f"N, {scores.shape[1]}", "wide": f"N, {scores.shape[1]}, 1, 1"}[end]
    last = "y = Identity(p)" if end else "y = Flatten(p)"
    text = f"""net (float[N, {classes}, 2, 2] x) => (float[{single}] y) {{
      map = Mul(x, one) p = GlobalAveragePool(map) {last}
    }}"""
    proto = model(text, opset=opset, one=np.float64(1))
    if scores.dtype != np.float32:
        proto = retyped(proto, scores.dtype.type)
    x = np.broadcast_to(scores[:, :, None, None], (*scores.shape, 2, 2)).copy()
    feeds = {"x": x} if targets is None else {"x": x, "cam/target": np.int64(targets)}
    gradient = run(onnxcam.convert(proto, layers="map"), feeds)["cam/gradient/map"]
    assert (gradient == gradient[:, :, :1, :1]).all()
    return gradient[:, :, 0, 0] * 4


EASY = np.float32([[0.5, -1, 2, 1.5], [-3, -2, -2.5, -4], [7, 7, 7, 7], [0, 5, 5, 1], [1e-30, 0, 0, 0]])
TOPS = [2, 1, 0, 1, 0]


def hot(classes: list[int], count: int = 4) -> np.ndarray:
    return np.eye(count)[np.asarray(classes)]


@pytest.mark.parametrize("end", ["", "wide"])
@pytest.mark.parametrize("opset", [7, 11, 13, 17])
def test_the_top_class_and_of_equal_ones_the_first(end, opset):
    np.testing.assert_array_equal(seeds(EASY, end=end, opset=opset), hot(TOPS))
    np.testing.assert_array_equal(seeds(EASY, [-1], end=end, opset=opset), hot(TOPS))
    np.testing.assert_array_equal(seeds(EASY, [-1] * 5, end=end, opset=opset), hot(TOPS))


def test_one_class_for_all_or_one_for_each():
    np.testing.assert_array_equal(seeds(EASY, [3]), hot([3] * 5))
    np.testing.assert_array_equal(seeds(EASY, [0, 1, 2, 3, 0]), hot([0, 1, 2, 3, 0]))
    np.testing.assert_array_equal(seeds(EASY, [3, -1, 0, -1, 2]), hot([3, 1, 0, 1, 2]))
    np.testing.assert_array_equal(seeds(EASY[:1], [1]), hot([1]))


def test_scores_that_are_close_or_far_apart():
    up = np.nextafter
    close = np.float32(
        [[1, up(np.float32(1), 2), 1], [1e4, 1e4, up(np.float32(1e4), 2e4)], [-1, up(np.float32(-1), 0), -1]]
    )
    np.testing.assert_array_equal(seeds(close), hot([1, 2, 1], 3))
    far = np.float32([[-3e37, 3e37, 0], [1e-20, 2e-20, 0], [-np.inf, -5, -7], [0, 0, -np.inf]])
    np.testing.assert_array_equal(seeds(far), hot([1, 1, 1, 0], 3))


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_float_types(dtype):
    scores = EASY[:4].astype(dtype)
    if dtype == np.float64:  # ORT has no pooling in double
        text = """net (double[N, 4, 2, 2] x) => (double[N, 4] y) {
          map = Mul(x, one) y = ReduceMean<axes = [2, 3], keepdims = 0>(map)
        }"""
        extended = onnxcam.convert(retyped(model(text, one=np.float64(1)), dtype), layers="map")
        x = np.broadcast_to(scores[:, :, None, None], (4, 4, 2, 2)).copy()
        found = run(extended, {"x": x})["cam/gradient/map"][:, :, 0, 0] * 4
    else:
        found = seeds(scores)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, hot(TOPS[:4]))


def test_a_thousand_classes():
    scores = np.random.default_rng(0).normal(size=(3, 1000)).astype(np.float32)
    np.testing.assert_array_equal(seeds(scores), hot(scores.argmax(1), 1000))
    np.testing.assert_array_equal(seeds(scores, [0, 998, 999]), hot([0, 998, 999], 1000))


def test_a_single_score_is_its_own_class():
    np.testing.assert_array_equal(seeds(np.float32([[2], [-3]])), [[1], [1]])
    np.testing.assert_array_equal(seeds(np.float32([[2], [-3]]), [0]), [[1], [1]])


def test_a_score_of_a_batch_without_an_axis_for_it():
    text = """net (float[1, 3, 2, 2] x) => (float[3] y) {
      map = Mul(x, one) p = GlobalAveragePool(map) y = Reshape(p, r)
    }"""
    proto = model(text, one=np.float64(1), r=np.int64([3]))
    x = np.float32([1, 4, 2])[None, :, None, None] * np.ones((1, 1, 2, 2), np.float32)
    for target, expected in ((None, 1), (2, 2)):
        found = run(onnxcam.convert(proto, layers="map", target=target), {"x": x})["cam/gradient/map"]
        np.testing.assert_array_equal(found[0, :, 0, 0] * 4, np.eye(3)[expected])
    explanation = onnxcam.Explainer(proto, layers="map")(x)
    assert (explanation.targets.tolist(), explanation.scores.tolist()) == ([1], [4])


def test_places_of_a_dense_score_are_summed():
    """Segmentation: the class with the largest sum is the top one, and all of its places are seeded."""
    x = np.float32([[[[9, -9], [0, 0]], [[1, 1], [1, 1]]], [[[0, 0], [0, 1]], [[0, 0.5], [0, 0]]]])
    text = "net (float[N, 2, 2, 2] x) => (float[N, 2, 2, 2] y) { map = Mul(x, one) y = Mul(map, two) }"
    proto = model(text, one=np.float64(1), two=np.float64(2))
    extended = onnxcam.convert(proto, layers="map")
    for target, classes in ((-1, [1, 0]), (0, [0, 0])):
        found = run(extended, {"x": x, "cam/target": np.int64([target])})["cam/gradient/map"]
        np.testing.assert_array_equal(found, 2 * np.eye(2)[classes][:, :, None, None] * np.ones((1, 1, 2, 2)))


# ----- by name -----
LABELS = ("tench", "Egyptian cat", "3", "espresso")
SCORE = Score("logits", "logits", ("N", 4), None)


@pytest.mark.parametrize(
    ("target", "index"),
    [
        (0, 0),
        (-1, -1),
        ("2", 2),
        ("-1", -1),
        ("+1", 1),
        ("tench", 0),
        ("EGYPTIAN CAT", 1),
        ("Espresso", 3),
        ("3", 2),
        (np.int64(3), 3),
    ],
)
def test_a_class_is_an_index_or_a_name_in_any_case(target, index):
    assert class_index(target, SCORE, LABELS) == index


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (4, "No class 4. There is 0 to 3, or -1 for the top class"),
        ("4", "No class 4"),
        (-2, "No class -2"),
        ("expresso", "Did you mean 'espresso'"),
        ("cat", "Did you mean 'Egyptian cat'"),
        (True, "No class True"),
        (1.0, "No class 1.0"),
    ],
)
def test_a_class_that_is_not_there_is_one_clear_line(target, said):
    with pytest.raises(InputError) as caught:
        class_index(target, SCORE, LABELS)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("target", ["--3", "+-1", "²"])
def test_what_looks_like_a_number_and_is_none(target):
    with pytest.raises(InputError):
        class_index(target, SCORE, LABELS)


def test_a_name_that_two_classes_share_is_not_guessed():
    with pytest.raises(InputError, match="134"):
        class_index("crane", Score("s", "s", ("N", 1000), None), (*["-"] * 134, "crane", *["-"] * 382, "crane"))


def test_without_names_a_name_says_what_is_missing():
    with pytest.raises(InputError, match="brings no class names"):
        class_index("cat", SCORE, None)
    assert class_index(70_000, Score("s", "s", ("N", "C"), None), None) == 70_000


# ----- the same choice outside of the graph -----
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_totals_are_sums_over_places(dtype):
    score = np.arange(24).reshape(2, 3, 2, 2).astype(dtype)
    np.testing.assert_array_equal(totals(score), [[6, 22, 38], [54, 70, 86]])
    np.testing.assert_array_equal(totals(score[:, :, 0, 0]), score[:, :, 0, 0])
    np.testing.assert_array_equal(totals(score[0, :, 0, 0]), [score[0, :, 0, 0]])


def test_ranks_are_those_of_a_stable_sort():
    expected = [[2, 3, 0, 1], [1, 2, 0, 3], [0, 1, 2, 3], [1, 2, 3, 0], [0, 1, 2, 3]]
    ranks = np.broadcast_to(np.int64([-1, -2, -3, -4]), (5, 4))
    np.testing.assert_array_equal(ranked(EASY, ranks), expected)
    np.testing.assert_array_equal(ranked(EASY, np.int64([[3, -2]] * 5)), [[3, row[1]] for row in expected])


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("top5", 5),
        ("Top1", 1),
        ("top-3", 3),
        ("TOP 12", 12),
        ("top", None),
        ("top0", None),
        ("stop5", None),
        ("top5x", None),
        ("5", None),
    ],
)
def test_top_k(text, count):
    assert top_k(text) == count


def test_the_graph_uses_no_operator_that_providers_lack():
    extended = onnxcam.convert(Net().model())
    assert not {n.op_type for n in extended.graph.node} & {"ArgMax", "OneHot", "Equal", "Where", "TopK", "Greater"}
    onnx.checker.check_model(extended, full_check=True)
