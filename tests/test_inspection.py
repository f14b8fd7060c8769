"""What `inspect` finds in a model, and what it says of what it does not find."""

import json

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import helper

import onnxcam
from onnxcam.cli import main
from onnxcam.errors import InputError, ModelError
from tests.builders import DEMO, ENDINGS, Net, image, model, names, of_ending, retyped


def layers(proto: onnx.ModelProto) -> list[str]:
    return names(onnxcam.inspect(proto).layers)


# ----- feature maps -----
def test_the_demo_model():
    found = onnxcam.inspect(DEMO)
    first, last = found.layers[0], found.layers[-1]
    assert (first.name, first.op) == ("head/Clip", "Clip")
    assert (first.shape, first.layout, first.grid, first.channel_axis) == (("N", 1280, 7, 7), "NCHW", (7, 7), 1)
    assert last.grid == (112, 112)
    assert [(s.tensor, s.output, s.shape, s.activation) for s in found.scores] == [
        ("logits", "logits", ("N", 1000), None)
    ]
    assert found.scores[0].classes == 1000
    picture = found.image()
    assert (picture.name, picture.shape, picture.dtype) == ("image", ("N", 3, 224, 224), "float32")
    assert picture.layout == "NCHW"
    assert (picture.channels, picture.size) == (3, (224, 224))
    assert (found.missing, found.opset) == ((), 17)
    assert found.labels[285] == "Egyptian cat"
    assert found.preprocess.mean == (127, 127, 127)
    graph = onnx.load(DEMO, load_external_data=False).graph
    order = {n.output[0]: i for i, n in enumerate(graph.node)}
    positions = [order[layer.tensor] for layer in found.layers]
    assert positions == sorted(positions, reverse=True)


def test_layers_are_the_finished_maps_on_the_way_to_the_score_last_first():
    text = """net (float[N, 3, 8, 8] x) => (float[N, 2] y, float[N, 4, 8, 8] aside) {
      c1 = Conv<pads = [1, 1, 1, 1]>(x, W1) n1 = BatchNormalization(c1, s, s, s, s) a1 = Relu(n1)
      m1 = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(a1)
      c2 = Conv<pads = [1, 1, 1, 1]>(m1, W2) g2 = Sigmoid(c2) a2 = Mul(c2, g2)
      c3 = Conv<pads = [1, 1, 1, 1]>(a2, W2) r3 = Add(c3, m1) a3 = Relu(r3)
      q = GlobalAveragePool(a3) e1 = Conv(q, V) e2 = Sigmoid(e1) w = Mul(a3, e2)
      i = Identity(w) d = Dropout(i) p = GlobalAveragePool(d) f = Flatten(p) y = Gemm(f, H)
      aside = Relu(c1) shape = Shape(x)
    }"""
    rng = np.random.default_rng(0)
    proto = model(
        text, W1=rng.normal(size=(4, 3, 3, 3)), W2=rng.normal(size=(4, 4, 3, 3)), V=rng.normal(size=(4, 4, 1, 1)),
        H=rng.normal(size=(4, 2)), s=rng.uniform(1, 2, size=4),
    )  # fmt: skip
    assert layers(proto) == ["w", "a3", "c3", "a2", "g2", "m1", "a1"]
    x = rng.normal(size=(1, 3, 8, 8)).astype(np.float32)
    for name in layers(proto):
        assert onnxcam.Explainer(proto, layers=name)(x).maps.shape == (1, 8, 8)


SPACES = {
    "NCHW": ("float[N, 3, 6, 5]", "map = Conv(x, W)", {"W": np.ones((4, 3, 1, 1))}, 1, (6, 5)),
    "NCL": ("float[N, 3, 9]", "map = Conv(x, W)", {"W": np.ones((4, 3, 1))}, 1, (9,)),
    "NCDHW": ("float[N, 3, 4, 6, 5]", "map = Conv(x, W)", {"W": np.ones((4, 3, 1, 1, 1))}, 1, (4, 6, 5)),
    "NHWC": (
        "float[N, 3, 6, 5]",
        "c = Conv(x, W) t = Transpose<perm = [0, 2, 3, 1]>(c) map = Relu(t)",
        {"W": np.ones((4, 3, 1, 1))},
        3,
        (6, 5),
    ),
    "NLC": (
        "float[N, 3, 9]",
        "c = Conv(x, W) t = Transpose<perm = [0, 2, 1]>(c) map = Relu(t)",
        {"W": np.ones((4, 3, 1))},
        2,
        (9,),
    ),
    "NDHWC": (
        "float[N, 3, 4, 6, 5]",
        "c = Conv(x, W) t = Transpose<perm = [0, 2, 3, 4, 1]>(c) map = Relu(t)",
        {"W": np.ones((4, 3, 1, 1, 1))},
        4,
        (4, 6, 5),
    ),
    "channels at axis 2": (
        "float[N, 3, 6, 5]",
        "c = Conv(x, W) t = Transpose<perm = [0, 3, 1, 2]>(c) map = Relu(t)",
        {"W": np.ones((4, 3, 1, 1))},
        2,
        (6, 5),
    ),
}


@pytest.mark.parametrize("layout", SPACES)
def test_the_channels_are_followed_through_the_operators(layout):
    x, text, weights, axis, grid = SPACES[layout]
    axes = [i for i in range(1, len(grid) + 2) if i != axis]
    proto = model(
        f"net ({x} x) => (float[N, 4] y) {{ {text} y = ReduceMean<axes = {axes}, keepdims = 0>(map) }}", **weights
    )
    first = onnxcam.inspect(proto).layers[0]
    assert (first.name, first.layout, first.channel_axis, first.grid) == ("map", layout, axis, grid)


def test_a_layer_is_found_by_its_node_and_its_tensor_and_else_the_closest_are_named():
    proto = Net().model()
    proto.graph.node[1].name = "features/relu"
    found = onnxcam.inspect(proto)
    assert found.layer("features/relu") is found.layer("map") is found.layers[0]
    with pytest.raises(InputError, match=r"No layer 'features/rleu'\. Did you mean 'features/relu'"):
        found.layer("features/rleu")
    with pytest.raises(InputError, match=r"No layer 'q'\. There is: features/relu"):
        found.layer("q")


def test_a_model_without_a_map_is_looked_into_all_the_same():
    found = onnxcam.inspect(model("net (float[N, 3] x) => (float[N, 2] y) { y = Gemm(x, W) }", W=np.ones((3, 2))))
    assert (found.layers, names(found.inputs), found.missing) == ((), ["x"], ())
    assert [s.tensor for s in found.scores] == ["y"]
    with pytest.raises(ModelError, match=r"looks like an image .* there is 'x' \['N', 3\]"):
        found.image()


# ----- scores -----
SCORES = {
    "plain": [("y", None)],
    "softmax": [("s", "softmax")],
    "logsoftmax": [("s", "softmax")],
    "sigmoid": [("s", "sigmoid")],
    "softmax, then reshaped": [("s", "softmax")],
    "softmax, then cast": [("s", "softmax")],
    "softmax, then the class": [("s", "softmax")],
    "the class": [("s", None)],
    "the best two": [("s", "softmax"), ("s", "softmax")],
    "1×1 convolution": [("y", None)],
    "1×1 convolution before": [("y", None)],
    "classes, then more": [("s", "softmax"), ("z", None)],
    "softmax in its parts": [("s", "softmax")],
    "softmax in its parts, without the axis": [("s", "softmax")],
    "softmax in its parts, of exp alone": [("s", "softmax")],
    "scores and probabilities": [("s", "softmax"), ("y", None)],
}


@pytest.mark.parametrize("kind", ENDINGS)
def test_the_score_is_what_the_model_says_before_its_ending(kind):
    _, proto = of_ending(kind)
    found = onnxcam.inspect(proto).scores
    assert [(s.tensor, s.activation) for s in found] == SCORES[kind]
    assert found[0].classes == 3


def test_a_score_can_be_named():
    _, proto = of_ending("softmax")
    for name, activation in (("s", "softmax"), ("y", None), ("f", None), ("map", None)):
        (score,) = onnxcam.inspect(proto, score=name).scores
        assert (score.tensor, score.activation) == (name, activation)
    with pytest.raises(InputError, match="No score tensor 'sc'"):
        onnxcam.inspect(proto, score="sc")
    for name in ("x", "H", "W"):
        with pytest.raises(InputError, match=f"No score tensor '{name}'"):
            onnxcam.inspect(proto, score=name)
    with pytest.raises(InputError, match=r"There is: s, y, f, p, map, c\.$"):
        onnxcam.inspect(proto, score="nothing")
    _, proto = of_ending("the class")
    with pytest.raises(InputError, match="'y' holds integers"):
        onnxcam.inspect(proto, score="y")


def test_a_few_plain_numbers_go_after_what_a_softmax_reads():
    head = "f = Flatten(p) corners = Gemm<transB = 1>(f, K) s = Gemm<transB = 1>(f, H, b) y = Softmax<axis = 1>(s)"
    proto = Net().model(head, out="float[N, 4] corners, float[N, 3] y", K=np.ones((4, 4)))
    assert [s.tensor for s in onnxcam.inspect(proto).scores] == ["s", "corners"]


def test_a_score_with_a_map_goes_before_one_without():
    text = """net (float[N, 3, 6, 5] x, float[N, 7] z) => (float[N, 7] flat, float[N, 4] y) {
      flat = Relu(z) map = Conv(x, W) p = GlobalAveragePool(map) y = Flatten(p)
    }"""
    found = onnxcam.inspect(model(text, W=np.ones((4, 3, 1, 1))))
    assert [s.tensor for s in found.scores] == ["y", "flat"]
    assert names(found.layers) == ["map"]


# ----- inputs -----
@pytest.mark.parametrize(
    ("declared", "layout", "size", "channels", "dtype"),
    [
        ("float[N, 3, 8, 9]", "NCHW", (8, 9), 3, "float32"),
        ("float[N, 1, 8, 9]", "NCHW", (8, 9), 1, "float32"),
        ("float[N, 13, 8, 9]", "NCHW", (8, 9), 13, "float32"),
        ("float[1, 3, 8, 3]", "NCHW", (8, 3), 3, "float32"),
        ("float16[N, 8, 9, 3]", "NHWC", (8, 9), 3, "float16"),
        ("uint8[N, 8, 9, 3]", "NHWC", (8, 9), 3, "uint8"),
        ("float[N, 8, 9, 1]", "NHWC", (8, 9), 1, "float32"),
        ("float[N, 3, H, W]", "NCHW", ("H", "W"), 3, "float32"),
        ("float[N, H, W, 3]", "NHWC", ("H", "W"), 3, "float32"),
        ("double[N, 2, 9]", "NCL", (9,), 2, "float64"),
        ("float[N, 2, 4, 5, 6]", "NCDHW", (4, 5, 6), 2, "float32"),
        ("float[N, 10]", None, (10,), None, "float32"),
        ("int64[N]", None, (), None, "int64"),
    ],
)
def test_inputs(declared, layout, size, channels, dtype):
    proto = model(f"net ({declared} x, float[N, 2] z) => (float[N, 2] y) {{ s = Shape(x) y = Relu(z) }}")
    found = onnxcam.inspect(proto).inputs[0]
    assert (found.name, found.layout, found.size, found.channels, found.dtype) == ("x", layout, size, channels, dtype)


def test_an_input_of_many_channels_is_laid_out_as_its_operators_say():
    text = """net (float[N, 64, 64, 13] x) => (float[N, 4] y) {
      t = Transpose<perm = [0, 3, 1, 2]>(x) c = Conv(t, W) p = GlobalAveragePool(c) y = Flatten(p)
    }"""
    found = onnxcam.inspect(model(text, W=np.ones((4, 13, 1, 1)))).image()
    assert (found.layout, found.size) == ("NHWC", (64, 64))


def test_weights_are_no_inputs():
    proto = Net().model(ir=3, opset=8)
    proto.graph.input.extend(
        onnx.helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in proto.graph.initializer
    )
    assert names(onnxcam.inspect(proto).inputs) == ["x"]


# ----- what has no gradient -----
ODD = "ai.onnx.ml.Scaler<offset = [0.0], scale = [2.0]>"


def odd(text: str, *declared: str) -> onnx.ModelProto:
    """A net with operators that have no rule, nor shape inference: the file declares what they make."""
    proto = Net().model(text, pooling="", K=np.ones((4, 4, 1, 1)))
    proto.opset_import.add(domain="ai.onnx.ml", version=3)
    proto.graph.value_info.extend(helper.make_tensor_value_info(n, 1, ["N", 4, 6, 5]) for n in declared)
    return proto


def test_what_is_missing_is_named_from_the_score_to_the_best_layer():
    text = f"""early = Conv(map, K) late = {ODD}(early) z = {ODD}(late) r = Relu(z)
               p = GlobalAveragePool(r) f = Flatten(p) k = {ODD}(f) y = Gemm<transB = 1>(k, H, b)"""
    proto = odd(text, "late", "z")
    proto.graph.value_info.append(helper.make_tensor_value_info("k", 1, ["N", 4]))
    for node in proto.graph.node:
        node.name = f"node of {node.output[0]}"
    found = onnxcam.inspect(proto)
    assert found.layers[0].tensor == "r"
    assert found.missing == ("ai.onnx.ml.Scaler 'node of k'",)
    with pytest.raises(onnxcam.UnsupportedGradient) as caught:
        onnxcam.convert(proto, layers="map")
    assert all(f"Scaler 'node of {n}'" in str(caught.value) for n in ("late", "z", "k"))
    assert "\n" not in str(caught.value)


def test_the_layer_that_is_offered_works():
    text = f"""c1 = Conv(map, K) k = {ODD}(c1) r = Relu(k) c2 = Conv(r, K) e = Relu(c2)
               p = GlobalAveragePool(e) f = Flatten(p) y = Gemm<transB = 1>(f, H, b)"""
    proto = odd(text, "k")
    with pytest.raises(onnxcam.UnsupportedGradient, match=r"Scaler 'k'.*'e'"):
        onnxcam.convert(proto, layers="map")
    assert onnxcam.convert(proto, layers="e")
    assert onnxcam.convert(proto, layers="r")


@pytest.mark.parametrize(
    ("end", "read"),
    [
        ("e = Exp(s) t = ReduceSum(e, zero) y = Div(e, t)", ("y", None)),
        ("m = ReduceMax<axes = [0]>(s) d = Sub(s, m) e = Exp(d) t = ReduceSum(e, one) y = Div(e, t)", ("d", "softmax")),
        ("m = ReduceMax(s) d = Sub(s, m) e = Exp(d) t = ReduceSum(e, one) y = Div(e, t)", ("s", "softmax")),
        ("m = ReduceMax(s) d = Sub(s, m) e = Exp(d) t = ReduceSum(e) y = Div(e, t)", ("y", None)),
    ],
    ids=["samples", "less the largest of the samples", "less the largest of all", "all"],
)
def test_parts_of_a_softmax_are_one_along_the_classes(end, read):
    more = {name: np.int64([i]) for i, name in enumerate(("zero", "one")) if name in end}
    proto = Net().model(f"f = Flatten(p) s = Gemm<transB = 1>(f, H, b) {end}", **more)
    score = onnxcam.inspect(proto).scores[0]
    assert (score.tensor, score.activation) == read


def zipped(*labels: str | int) -> onnx.ModelProto:
    """A classifier that ends as those of Core ML and scikit-learn do: a dictionary from classes to probabilities."""
    net, kind = Net(), "string" if isinstance(labels[0], str) else "int64"
    head = "f = Flatten(p) s = Gemm<transB = 1>(f, H, b) q = Softmax(s) y = ai.onnx.ml.ZipMap(q)"
    proto = net.model(head, out=f"seq(map({kind}, float)) y")
    proto.graph.node[-1].attribute.append(helper.make_attribute(f"classlabels_{kind}s", labels))
    proto.opset_import.add(domain="ai.onnx.ml", version=1)
    return proto


def test_a_dictionary_of_probabilities_is_read_for_its_scores_and_its_names():
    proto = zipped("größe", "b", "c")
    found = onnxcam.inspect(proto)
    assert [(s.tensor, s.activation, s.classes) for s in found.scores] == [("s", "softmax", 3)]
    assert found.labels == ("größe", "b", "c")
    proto.metadata_props.add(key="names", value="['d', 'e', 'f']")
    assert onnxcam.inspect(proto).labels == ("d", "e", "f")


def test_classes_of_a_dictionary_may_be_numbers():
    assert onnxcam.inspect(zipped(5, 7, 9)).labels == ("5", "7", "9")


def test_a_model_that_returns_dictionaries_is_explained():
    net, x = Net(), image(2)
    found = onnxcam.Explainer(zipped("a", "b", "c"))(x)
    np.testing.assert_allclose(found.raw["map"], net.gradcam(x, found.targets.reshape(-1)), rtol=1e-4)
    assert [[*each] for each in found.outputs["y"]] == [["a", "b", "c"]] * 2


# ----- what the file says of itself -----
def labels(key: str, text: str, *more: tuple[str, str]) -> tuple[str, ...] | None:
    proto = Net().model()
    for k, v in ((key, text), *more):
        proto.metadata_props.add(key=k, value=v)
    return onnxcam.inspect(proto).labels


ABC = ("a cat", "b", "c'est")


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("cam.classes", json.dumps(ABC)),
        ("names", str(dict(enumerate(ABC)))),
        ("names", str({2: ABC[2], 0: ABC[0], 1: ABC[1]})),
        ("names", str(list(ABC))),
        ("classes", json.dumps(ABC)),
        ("labels", "\n".join(ABC)),
        ("character", "\n".join(ABC)),
        ("character", "\r\n".join(ABC) + "\r\n"),
        ("names", json.dumps({str(i): n for i, n in enumerate(ABC)})),
    ],
)
def test_class_names_in_every_form(key, text):
    assert labels(key, text) == ABC


def test_names_beyond_ascii():
    assert labels("names", str({0: "größe", 1: "猫", 2: "😀"})) == ("größe", "猫", "😀")
    assert labels("cam.classes", json.dumps(["größe", "猫"])) == ("größe", "猫")
    assert labels("cam.classes", json.dumps(["😀"], ensure_ascii=False)) == ("😀",)


def test_names_that_json_escapes_in_pairs():
    assert labels("cam.classes", json.dumps(["😀", "b"])) == ("😀", "b")


def test_names_of_a_json_object_are_in_the_order_of_their_numbers():
    wanted = tuple(f"class {i}" for i in range(12))
    assert labels("names", json.dumps({str(i): n for i, n in enumerate(wanted)})) == wanted


def test_a_number_of_classes_is_no_name():
    assert labels("classes", "3") is None


@pytest.mark.parametrize("text", ["[1, 2", "{'a'", "", "[]", "{}", "{0: open('x')}", "[open('x')]"])
def test_what_is_no_list_of_names_is_passed_over(text):
    assert labels("names", text) is None
    assert labels("names", text, ("labels", "x\ny")) == ("x", "y")


def test_our_own_names_go_first():
    assert labels("names", "{0: 'x'}", ("cam.classes", '["y"]')) == ("y",)
    assert labels("author", "nobody") is None


def test_preprocessing_is_as_the_file_has_it():
    proto = Net().model()
    assert onnxcam.inspect(proto).preprocess.source == "preset 'imagenet', a guess"
    proto.metadata_props.add(key="cam.preprocess", value='{"mean": [1, 2, 3]}')
    assert onnxcam.inspect(proto).preprocess.mean == (1, 2, 3)
    proto.metadata_props[0].value = "{mean"
    assert any("'cam.preprocess' is not JSON" in line for line in onnxcam.inspect(proto).assumed)


def test_who_made_it():
    proto = retyped(Net().model(opset=11), np.float16)
    proto.producer_name, proto.producer_version = "pytorch", "2.4"
    found = onnxcam.inspect(proto)
    assert (found.opset, found.producer, found.inputs[0].dtype) == (11, "pytorch 2.4", "float16")


def test_json_is_all_of_it(tmp_path):
    proto = Net().model("f = Flatten(p) s = Gemm<transB = 1>(f, H, b) y = Softmax(s)")
    proto.metadata_props.add(key="names", value="{0: 'a', 1: 'b', 2: 'größe'}")
    onnx.save(proto, tmp_path / "m.onnx")
    result = CliRunner().invoke(main, ["inspect", str(tmp_path / "m.onnx"), "--json"])
    for text in (onnxcam.inspect(proto).to_json(), result.stdout):
        found = json.loads(text)
        (row,) = found["layers"]
        assert (row.pop("shape"), row.pop("grid")) == (["N", 4, 6, 5], [6, 5])
        assert row.pop("why") == "the last feature map before the score, 6×5 places, on all ways to the score"
        assert (row.pop("tokens"), row.pop("prefix"), row.pop("fold"), row.pop("note")) == (None, 0, None, "")
        assert row.pop("heard") is True
        assert row == {"name": "map", "tensor": "map", "op": "Relu", "channel_axis": 1, "layout": "NCHW"}
        (score,) = found["scores"]
        assert (score.pop("kind"), score.pop("axis"), score.pop("samples"), score.pop("boxes")) == (
            "classes",
            1,
            0,
            None,
        )
        assert score == {"tensor": "s", "output": "y", "shape": ["N", 3], "activation": "softmax"}
        assert found["inputs"] == [{"name": "x", "shape": ["N", 3, 6, 5], "dtype": "float32", "layout": "NCHW"}]
        assert (found["missing"], found["preprocess"]["size"]) == ([], [6, 5])
        assert found["labels"] == ["a", "b", "größe"]


# ----- the head of closed-form CAM -----
def test_cam_without_a_linear_head_is_refused_with_a_way_out():
    for head, pooling, more in (
        ("f = Flatten(p) t = Tanh(f) y = Gemm<transB = 1>(t, H, b)", "p = GlobalAveragePool(map)", {}),
        ("f = Flatten(p) h = Gemm(f, E) y = Gemm<transB = 1>(h, H, b)", "p = GlobalAveragePool(map)", {"E": np.eye(4)}),
        ("f = Flatten(p) y = Gemm<transB = 1>(f, H, b)", "p = GlobalMaxPool(map)", {}),
    ):
        with pytest.raises(ModelError, match=r"Method 'cam' needs .* Use 'gradcam'") as caught:
            onnxcam.Explainer(Net().model(head, pooling=pooling, **more), "cam")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("head", "weights"),
    [
        ("f = Flatten(map) y = Gemm<transB = 1>(f, big)", (3, 120)),
        ("q = ReduceMean<axes = [2]>(map) f = Flatten(q) y = Gemm<transB = 1>(f, big)", (3, 20)),
        ("q = ReduceMean<axes = [1]>(map) f = Flatten(q) y = Gemm<transB = 1>(f, big)", (3, 30)),
    ],
)
def test_cam_without_pooling_over_all_places_is_refused(head, weights):
    proto = Net().model(head, pooling="", big=np.ones(weights))
    with pytest.raises(ModelError, match="Method 'cam' needs"):
        onnxcam.Explainer(proto, "cam")
