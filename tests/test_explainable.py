"""The explainable file as anyone runs it: with onnxruntime alone, against the closed form of conv → GAP → Gemm nets."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxcam
from onnxcam import Explainer
from onnxcam.errors import InputError, ModelError
from tests.builders import (
    DEMO,
    ENDINGS,
    NEWEST,
    SHAPE,
    Net,
    assert_extends,
    image,
    model,
    names,
    of_ending,
    retyped,
    run,
)  # fmt: skip


def assert_explains(net: Net, proto: onnx.ModelProto, x: np.ndarray, layer: str = "map", atol: float = 1e-6) -> None:
    """Outputs untouched, activation and gradient those of the closed form, for the top class and for given ones."""
    extended = onnxcam.convert(proto, layers=layer)
    assert_extends(extended, proto)
    top = net.score(x).argmax(1)
    assert len(set(top)) > 1
    wanted = np.arange(len(x)) % 3
    for feeds, classes in (
        ({}, top),
        ({"cam/target": np.int64([-1])}, top),
        ({"cam/target": np.int64([2])}, [2] * len(x)),
        ({"cam/target": np.full(len(x), -1)}, top),
        ({"cam/target": wanted}, wanted),
        ({"cam/target": np.where(wanted == 1, -1, wanted)}, np.where(wanted == 1, top, wanted)),
    ):
        found = run(extended, {"x": x, **feeds})
        for name, value in run(proto, {"x": x}).items():
            np.testing.assert_array_equal(found[name], value)
        np.testing.assert_allclose(found[f"cam/activation/{layer}"], net.map(x), atol=atol)
        np.testing.assert_allclose(found[f"cam/gradient/{layer}"], net.gradient(x, classes), atol=atol)


# ----- what a run returns -----
@pytest.mark.parametrize("kind", [k for k in ENDINGS if k != "1×1 convolution before"])
def test_the_gradient_is_the_closed_form_however_the_model_ends(kind):
    assert_explains(*of_ending(kind), image(5))


def test_a_score_that_is_a_pooled_map_has_its_layer_after_the_classes():
    net, proto = of_ending("1×1 convolution before")
    x = image(5)
    found = run(onnxcam.convert(proto), {"x": x, "cam/target": np.int64([1])})
    expected = np.broadcast_to(np.float32([0, 1 / 30, 0])[:, None, None], (5, 3, 6, 5))
    np.testing.assert_allclose(found["cam/gradient/q"], expected, rtol=1e-6)
    found = run(onnxcam.convert(proto, layers="map", target=1), {"x": x})
    np.testing.assert_allclose(found["cam/gradient/map"], net.gradient(x, [1] * 5), rtol=1e-5)


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 17, 21, NEWEST])
@pytest.mark.parametrize("kind", ["plain", "softmax"])
def test_every_opset(kind, opset):
    assert_explains(*of_ending(kind, opset=opset), image(5))


@pytest.mark.parametrize("dims", ["N, 3, 6, 5", "N, 3, H, W", "N, 3, H, 5", "batch, 3, 6, 5"])
def test_dynamic_sizes(dims):
    net = Net()
    assert_explains(net, net.model(dims=dims), image(5))
    if "H, W" in dims:
        assert_explains(net, net.model(dims=dims), image(5, (3, 9, 4), seed=3))


@pytest.mark.parametrize("samples", [1, 5])
def test_a_fixed_batch(samples):
    net = Net()
    proto, x = net.model(dims=f"{samples}, 3, 6, 5"), image(samples)
    found = run(onnxcam.convert(proto), {"x": x})
    np.testing.assert_allclose(found["cam/gradient/map"], net.gradient(x, net.score(x).argmax(1)), atol=1e-7)
    found = run(onnxcam.convert(proto, target=2), {"x": x})
    np.testing.assert_allclose(found["cam/gradient/map"], net.gradient(x, [2] * samples), atol=1e-7)


@pytest.mark.parametrize("default", [None, -1, 0, 2, "2", "Dog"])
def test_the_default_target_is_what_convert_was_told(default):
    net, x = Net(), image(5)
    proto = net.model()
    proto.metadata_props.add(key="names", value="{0: 'cat', 1: 'bird', 2: 'dog'}")
    found = run(onnxcam.convert(proto, target=default), {"x": x})
    classes = {None: net.score(x).argmax(1), -1: net.score(x).argmax(1), 0: [0] * 5}.get(default, [2] * 5)
    np.testing.assert_allclose(found["cam/gradient/map"], net.gradient(x, classes), atol=1e-7)


def listing(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its weights listed as inputs too."""
    proto.graph.input.extend(
        helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in proto.graph.initializer
    )
    return proto


@pytest.mark.parametrize("ir", [4, 8])
def test_weights_that_are_also_listed_as_inputs(ir):
    net, x = Net(), image(5)
    proto = listing(net.model(opset=9, ir=ir))
    assert_explains(net, proto, x)
    assert names(onnxcam.inspect(proto).inputs) == ["x"]
    np.testing.assert_allclose(Explainer(proto)(x).raw["map"], net.gradcam(x, net.score(x).argmax(1)), atol=1e-6)


@pytest.mark.parametrize("opset", [7, 8])
def test_files_of_ir_version_3(opset):
    """As PyTorch wrote them until 1.2, and the model zoo's of opset 7 and 8 are."""
    net, x = Net(), image(5)
    proto = listing(net.model(opset=opset, ir=3))
    extended = onnxcam.convert(proto)
    found = run(extended, {"x": x, "cam/target": np.int64([1])})
    np.testing.assert_allclose(found["cam/gradient/map"], net.gradient(x, [1] * 5), atol=1e-6)
    np.testing.assert_allclose(Explainer(proto)(x).raw["map"], net.gradcam(x, net.score(x).argmax(1)), atol=1e-6)


def test_float16():
    net, x = Net(), image(5)
    proto = retyped(net.model(), np.float16)
    extended = onnxcam.convert(proto, emit=["activation", "gradient", "score"])
    assert_extends(extended, proto)
    found = run(extended, {"x": x.astype(np.float16)})
    np.testing.assert_array_equal(found["y"], run(proto, {"x": x.astype(np.float16)})["y"])
    assert {v.dtype for v in found.values()} == {np.dtype(np.float16)}
    np.testing.assert_allclose(found["cam/score"], net.score(x), atol=4e-3)
    np.testing.assert_allclose(found["cam/activation/map"], net.map(x), atol=4e-3)
    np.testing.assert_allclose(found["cam/gradient/map"], net.gradient(x, net.score(x).argmax(1)), rtol=2e-3)
    explanation = Explainer(proto)(x.astype(np.float16))
    assert (explanation.maps.dtype, explanation.raw["map"].dtype) == (np.float32, np.float32)
    np.testing.assert_allclose(explanation.raw["map"], net.gradcam(x, net.score(x).argmax(1)), atol=2e-3)


def test_float64():
    """ORT has no convolution in double: here the map is the input."""
    net = Net()
    text = """net (double[N, 4, 6, 5] x) => (double[N, 3] y) {
      map = Relu(x) q = ReduceMean<axes = [2, 3], keepdims = 0>(map) m = MatMul(q, T) y = Add(m, b)
    }"""
    proto, A = retyped(model(text, T=net.H.T, b=net.b), np.float64), net.map(image(5))
    found = run(onnxcam.convert(proto), {"x": A})
    score = A.mean((2, 3)) @ net.H.T + net.b
    np.testing.assert_array_equal(found["y"], run(proto, {"x": A})["y"])
    np.testing.assert_allclose(found["y"], score, rtol=1e-13)
    np.testing.assert_allclose(found["cam/gradient/map"], net.gradient(A, score.argmax(1)), rtol=1e-13)
    assert Explainer(proto)(A).raw["map"].dtype == np.float64


SPACES = {
    "1-D": ("N, 2, 9", (2, 9), "[1, 1]", (3,)),
    "1-D, open": ("N, 2, L", (2, 9), "[1, 1]", (3,)),
    "3-D": ("N, 2, 4, 3, 5", (2, 4, 3, 5), "[1, 1, 1, 1, 1, 1]", (3, 3, 3)),
    "3-D, open": ("N, 2, D, H, W", (2, 4, 3, 5), "[1, 1, 1, 1, 1, 1]", (3, 3, 3)),
}


@pytest.mark.parametrize(("dims", "shape", "pads", "kernel"), SPACES.values(), ids=SPACES)
def test_signals_and_volumes(dims, shape, pads, kernel):
    rng = np.random.default_rng(2)
    W, H = rng.normal(size=(4, 2, *kernel)) / 4, rng.normal(size=(3, 4))
    text = f"""net (float[{dims}] x) => (float[N, 3] y) {{
      c = Conv<pads = {pads}>(x, W) map = Relu(c) p = GlobalAveragePool(map) f = Flatten(p) y = Gemm<transB = 1>(f, H)
    }}"""
    proto, x = model(text, W=W, H=H), image(4, shape)
    found = run(onnxcam.convert(proto, target=1), {"x": x})
    places = np.prod(shape[1:])
    expected = np.broadcast_to((H[1] / places).reshape(-1, *[1] * len(kernel)), (4, 4, *shape[1:]))
    np.testing.assert_allclose(found["cam/gradient/map"], expected, rtol=1e-5)
    explanation = Explainer(proto, target=1)(x)
    A = found["cam/activation/map"].astype(np.float64)
    np.testing.assert_allclose(explanation.raw["map"], np.tensordot(A, H[1] / places, (1, 0)), atol=1e-6)
    assert explanation.maps.shape == (4, *shape[1:])
    assert explanation.maps.max() == pytest.approx(1, abs=1e-5)


NHWC = "t = Transpose<perm = [0, 3, 1, 2]>(x) c = Conv<pads = [1, 1, 1, 1]>(t, W, B)"
LAST = {
    "moved back after it": (f"{NHWC} map = Relu(c) u = Transpose<perm = [0, 2, 3, 1]>(map)", "u", "NCHW"),
    "moved back before it": (f"{NHWC} u = Transpose<perm = [0, 2, 3, 1]>(c) map = Relu(u)", "map", "NHWC"),
}


@pytest.mark.parametrize(("text", "end", "layout"), LAST.values(), ids=LAST)
def test_channels_last_is_the_twin_of_channels_first(text, end, layout):
    net, x = Net(), image(5)
    whole = f"""net (float[N, 6, 5, 3] x) => (float[N, 3] y) {{
      {text} p = ReduceMean<axes = [1, 2], keepdims = 0>({end}) m = MatMul(p, T) y = Add(m, b)
    }}"""
    proto = model(whole, opset=13, W=net.W, B=net.B, T=net.H.T, b=net.b)
    for method in ("gradcam", "cam", "eigencam", "gradcam++", "scorecam"):
        explainer, twin = (Explainer(m, method, target=[0, 1, 2, 1, -1]) for m in (proto, net.model()))
        assert explainer.layers == ("map",)
        last, first = explainer(np.moveaxis(x, 1, 3)), twin(x)
        np.testing.assert_allclose(last.raw["map"], first.raw["map"], atol=1e-5)
        np.testing.assert_allclose(last.maps, first.maps, atol=1e-4)
        assert last.maps.shape == (5, 6, 5)
    assert onnxcam.inspect(proto).layers[0].layout == layout
    found = run(onnxcam.convert(proto), {"x": np.moveaxis(x, 1, 3)})
    gradient = net.gradient(x, net.score(x).argmax(1))
    expected = np.moveaxis(gradient, 1, 3) if layout == "NHWC" else gradient
    np.testing.assert_allclose(found["cam/gradient/map"], expected, atol=1e-7)


def test_padding_that_depends_on_the_size_at_run_time():
    """SAME with strides over an open height and width, as TensorFlow's models have it: the twin of fixed sizes."""
    rng = np.random.default_rng(3)
    W, V, H = rng.normal(size=(4, 2, 3, 3)) / 4, rng.normal(size=(3, 4, 3, 3)) / 4, rng.normal(size=(3, 3))
    for size in ((7, 8), (10, 5)):
        x, found = image(3, (2, *size)), []
        for dims in ("N, 2, H, W", f"N, 2, {size[0]}, {size[1]}"):
            text = f"""net (float[{dims}] x) => (float[N, 3] y) {{
              c = Conv<auto_pad = "SAME_UPPER", strides = [2, 2]>(x, W) map = Relu(c)
              d = Conv<auto_pad = "SAME_UPPER", strides = [2, 2]>(map, V) e = Relu(d)
              p = GlobalAveragePool(e) f = Flatten(p) y = Gemm(f, H)
            }}"""
            found.append(run(onnxcam.convert(model(text, W=W, V=V, H=H), layers=["map", "e"], target=1), {"x": x}))
        for name, value in found[0].items():
            np.testing.assert_allclose(value, found[1][name], atol=1e-6)
        places = found[0]["cam/activation/e"][0, 0].size
        expected = np.broadcast_to((H[:, 1] / places)[:, None, None], found[0]["cam/activation/e"].shape)
        np.testing.assert_allclose(found[0]["cam/gradient/e"], expected, rtol=1e-5)
        G, A = found[0]["cam/gradient/map"].astype(float), found[0]["cam/activation/map"].astype(float)
        # The score without biases is homogeneous of degree one in the map: ⟨G, A⟩ is the score itself.
        np.testing.assert_allclose((G * A).sum((1, 2, 3)), found[0]["y"][:, 1], rtol=1e-4, atol=1e-6)


# ----- what is written -----
def rich() -> onnx.ModelProto:
    """A model with all that a round trip through another library would lose."""
    proto = Net().model(opset=13, ir=7, out="float[N, 3] y, float[N, 4, 6, 5] map")
    proto.doc_string, proto.producer_name, proto.producer_version = "of the model", "somebody", "1.2"
    proto.domain, proto.model_version = "com.example", 3
    graph = proto.graph
    graph.doc_string, graph.node[0].doc_string = "of the graph", "of the node"
    graph.input[0].doc_string = "of the input"
    graph.initializer[0].doc_string = "of the weights"
    graph.initializer.append(numpy_helper.from_array(np.float32([1, 2]), "unused"))
    graph.node.append(helper.make_node("Neg", ["p"], ["dead"], name="dead"))
    graph.value_info.append(helper.make_tensor_value_info("map", TensorProto.FLOAT, ["N", 4, 6, 5]))
    annotation = graph.quantization_annotation.add(tensor_name="map")
    annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="unused")
    proto.metadata_props.add(key="names", value="{0: 'cat', 1: 'bird', 2: 'dog'}")
    proto.metadata_props.add(key="author", value="nobody")
    proto.opset_import.add(domain="com.example", version=1)
    return proto


@pytest.mark.parametrize("make", [rich, lambda: onnx.load(DEMO)], ids=["rich", "demo"])
@pytest.mark.parametrize("emit", [["activation"], ["gradient"], ["activation", "gradient", "score"]])
def test_the_original_is_a_prefix_and_stays_as_it_was(make, emit):
    proto = make()
    before = proto.SerializeToString(deterministic=True)
    extended = onnxcam.convert(proto, emit=emit)
    if len(emit) == 1:
        assert onnxcam.convert(proto, emit=emit[0]) == extended
    assert proto.SerializeToString(deterministic=True) == before
    assert_extends(extended, proto)
    assert extended.ByteSize() < 1.01 * proto.ByteSize() + 8000


def test_the_file_that_is_written_is_what_is_returned(tmp_path):
    proto = onnxcam.convert(rich(), tmp_path / "e.onnx", target="dog")
    assert onnx.load(tmp_path / "e.onnx") == proto
    onnx.checker.check_model(proto, full_check=True)


@pytest.mark.parametrize("name", ["cat.png", "cat-and-espresso.png"])
def test_the_demo_models_own_outputs_are_equal_bit_for_bit(name):
    from onnxcam.image import read
    from onnxcam.preprocessing import Preprocess

    proto = onnx.load(DEMO)
    metadata = {p.key: p.value for p in proto.metadata_props}
    x = Preprocess.from_json(metadata["cam.preprocess"]).apply(read(DEMO.parent / name))
    plain = run(proto, {"image": x})["logits"]
    for layers in ("auto", ["head/Clip", "blocks.5.3/Add", "blocks.2.0/project/Conv"]):
        np.testing.assert_array_equal(run(onnxcam.convert(proto, layers=layers), {"image": x})["logits"], plain)


def test_outputs_are_equal_to_five_digits_where_fusions_are_broken():
    """A convolution that becomes an output is computed without what follows it: the last digits may differ."""
    proto, x = onnx.load(DEMO), np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype(np.float32)
    every = names(onnxcam.inspect(proto).layers)
    assert len(every) > 50
    extended = onnxcam.convert(proto, layers=every, emit=["activation"])
    plain, found = (run(m, {"image": x}, ["logits"])["logits"] for m in (proto, extended))
    np.testing.assert_allclose(found, plain, rtol=1e-5, atol=1e-5)


def test_inputs_and_outputs_are_those_that_are_documented():
    extended = onnxcam.convert(rich(), layers=["map"], emit=["activation", "gradient", "score"])
    target = extended.graph.input[-1]
    assert (target.name, target.type.tensor_type.elem_type) == ("cam/target", TensorProto.INT64)
    assert len(target.type.tensor_type.shape.dim) == 1
    default = next(t for t in extended.graph.initializer if t.name == "cam/target")
    assert numpy_helper.to_array(default).tolist() == [-1]
    wanted = ["y", "map", "cam/activation/map", "cam/gradient/map", "cam/score"]
    assert names(extended.graph.output) == wanted
    for output in extended.graph.output[2:4]:
        assert [d.dim_param or d.dim_value for d in output.type.tensor_type.shape.dim] == ["N", 4, 6, 5]


def test_without_a_gradient_there_is_no_target():
    extended = onnxcam.convert(Net().model(), emit=["activation"])
    assert names(extended.graph.input) == ["x"]
    assert len(extended.graph.node) == len(Net().model().graph.node) + 1


@pytest.mark.parametrize(
    ("method", "outputs"),
    [
        ("gradcam", ["cam/activation/map", "cam/gradient/map"]),
        (None, ["cam/activation/map", "cam/gradient/map"]),
        ("eigencam", ["cam/activation/map"]),
        ("cam", ["cam/activation/map"]),
    ],
)
def test_a_method_gets_what_it_needs(method, outputs):
    assert names(onnxcam.convert(Net().model(), method=method).graph.output)[1:] == outputs


def test_metadata_says_all_that_is_needed_elsewhere(tmp_path):
    import hashlib

    onnx.save(rich(), tmp_path / "m.onnx")
    extended = onnxcam.convert(tmp_path / "m.onnx", layers="map", target="Dog", method="layercam")
    about = {p.key: p.value for p in extended.metadata_props}
    assert about["author"] == "nobody"
    assert about["cam.version"] == onnxcam.__version__
    assert about["cam.method"] == "layercam"
    assert about["cam.source_sha256"] == hashlib.sha256((tmp_path / "m.onnx").read_bytes()).hexdigest()
    assert json.loads(about["cam.layers"]) == ["map"]
    assert (about["cam.score"], json.loads(about["cam.target"])) == ("y", 2)
    assert json.loads(about["cam.classes"]) == ["cat", "bird", "dog"]


def test_a_layer_is_called_by_its_node_or_its_tensor():
    proto = Net().model()
    proto.graph.node[1].name = "features/relu"
    for name in ("features/relu", "map"):
        assert names(onnxcam.convert(proto, layers=name).graph.output)[1] == "cam/activation/features/relu"


def test_a_layer_that_is_named_twice_is_one_layer():
    proto = Net().model()
    proto.graph.node[1].name = "features/relu"
    assert len(onnxcam.convert(proto, layers=["features/relu", "map"]).graph.output) == 3


def test_layers_of_one_name_are_told_apart():
    more = "d = Conv<pads = [1, 1, 1, 1]>(map, K) e = Relu(d) q = GlobalAveragePool(e) f = Flatten(q)"
    proto = Net().model(f"{more} y = Gemm<transB = 1>(f, H, b)", K=np.ones((4, 4, 3, 3)))
    for node in proto.graph.node:
        node.name = node.op_type
    extended = onnxcam.convert(proto, layers=["map", "e"])
    assert len(set(names(extended.graph.output))) == 5


# ----- refused -----
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layers": "mpa"}, "No layer 'mpa'. Did you mean 'map'"),
        ({"layers": []}, "No layer is given"),
        ({"layers": ["map", "p"]}, "No layer 'p'"),
        ({"target": 3}, "No class 3. There is 0 to 2"),
        ({"target": -2}, "No class -2"),
        ({"target": True}, "No class True"),
        ({"target": "cat"}, "No class 'cat': the model brings no class names"),
        ({"score": "z"}, "No score tensor 'z'"),
        ({"score": "i"}, "holds integers"),
        ({"method": "gradcan"}, "No method 'gradcan'. Did you mean 'gradcam'"),
        ({"emit": ["gradeint"]}, "No output to emit 'gradeint'. Did you mean 'gradient'"),
        ({"emit": []}, "Nothing to emit"),
        ({"emit": 3}, "What a file emits is named, as in ['heatmap', 'score'], not 3"),
        ({"emit": [3]}, "No output to emit '3'"),
        ({"options": 3}, "Options of a method come as a dict of names and values, not 3"),
    ],
)
def test_a_wrong_choice_is_one_clear_line(tmp_path, options, said):
    proto = Net().model(out="float[N, 3] y, int64[N] i", head=f"{Net.HEAD} i = ArgMax<axis = 1, keepdims = 0>(y)")
    with pytest.raises(InputError) as caught:
        onnxcam.convert(proto, tmp_path / "e.onnx", **options)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_model_with_a_tensor_of_our_names_is_refused():
    proto = Net().model()
    for node in proto.graph.node:
        for names_ in (node.input, node.output):
            names_[:] = ["cam/heatmap" if n == "p" else n for n in names_]
    with pytest.raises(InputError, match="explainable as it is"):
        onnxcam.convert(proto, emit=["heatmap"])


@pytest.mark.parametrize(
    ("proto", "said"),
    [
        (model("net (float[N, 3] x) => (float[N, 3] y) { y = Relu(x) }"), "no feature map with a spatial extent"),
        (model("net (int64[N, 3, 6, 5] x) => (int64[N, 3, 6, 5] y) { y = Identity(x) }"), "No output"),
        (Net().model(dims="N, 3, 1, 1"), "no feature map with a spatial extent"),
    ],
    ids=["flat", "integers", "1×1"],
)
def test_a_model_that_has_nothing_to_explain_is_one_clear_line(proto, said):
    for verb in (onnxcam.convert, Explainer):
        with pytest.raises(ModelError) as caught:
            verb(proto)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dims", ["N, 3, 6, 5", "N, 3, H, W"])
def test_a_pool_far_wider_than_the_picture_writes_no_kernel_of_its_size(dims):
    """As in transformers' EfficientNet: 1280×1280 on 7×7."""
    text = f"""net (float[{dims}] x) => (float[N, 3] y) {{ map = Relu(x)
      p = AveragePool<kernel_shape = [1280, 1280], strides = [1280, 1280], ceil_mode = 1>(map) y = Flatten(p)
    }}"""
    file = onnxcam.convert(model(text))
    assert file.ByteSize() < 10_000
    x = image(2, (3, 6, 5))
    found = run(file, {"x": x, "cam/target": np.int64([1])}, ["cam/gradient/map"])["cam/gradient/map"]
    np.testing.assert_allclose(found, np.broadcast_to(np.float32([0, 1 / 30, 0])[:, None, None], x.shape))


def test_classes_may_be_counted_by_a_run():
    """As of texts that a picture is compared with."""
    text = """net (float[N, 3, 6, 5] x, float[C, 3] w) => (float[N, C] y) {
      map = Relu(x) p = GlobalAveragePool(map) f = Flatten(p) y = Gemm<transB = 1>(f, w)
    }"""
    x, w = image(2, (3, 6, 5)), np.random.default_rng(1).normal(size=(7, 3)).astype(np.float32)
    file = onnxcam.convert(model(text))
    for target, wanted in ((-1, None), (5, 5)):
        found = run(file, {"x": x, "w": w, "cam/target": np.int64([target])}, ["y", "cam/gradient/map"])
        top = found["y"].argmax(1) if wanted is None else [wanted] * 2
        expected = np.broadcast_to(w[top][:, :, None, None] / 30, (2, 3, 6, 5))
        np.testing.assert_allclose(found["cam/gradient/map"], expected, rtol=1e-5)
    many = Explainer(model(text), batch=1)({"w": w, "x": x})
    assert many.targets.tolist() == (np.maximum(x, 0).mean((2, 3)) @ w.T).argmax(1).tolist()
    assert Explainer(model(text), method="scorecam")({"w": w, "x": x}).maps.shape == (2, 6, 5)
    with pytest.raises(InputError, match=r"same number of samples, at least one; given are \[2, 7\]"):
        Explainer(model(text.replace("float[C, 3]", "float[N, 3]")))({"w": w, "x": x})
    x, w = np.concatenate([x, x[:1]]), np.eye(3, dtype=np.float32)[[2, 0, 1]]
    for fixed in ("N", "1"):  # as many classes as pictures
        made = model(text.replace("float[N, 3", f"float[{fixed}, 3").replace("float[N, C]", f"float[{fixed}, C]"))
        for batch in (1, 2, 3):
            found = Explainer(made, batch=batch)({"w": w, "x": x})
            assert found.targets.tolist() == (np.maximum(x, 0).mean((2, 3)) @ w.T).argmax(1).tolist()
    score = Explainer(model(text), method="scorecam", target=2)
    alone = [score({"w": w, "x": x[i : i + 1]}).raw["map"][0] for i in range(3)]
    np.testing.assert_allclose(score({"w": w, "x": x}).raw["map"], alone, rtol=1e-4)


def test_texts_whose_number_inference_does_not_name():
    text = """net (float[N, 3, 6, 5] x, float[?, 3] w) => (float[N, K] y) {
      map = Relu(x) p = GlobalAveragePool(map) f = Flatten(p) s = Shape(w) u = Reshape(w, s)
      n = NonZero(u) e = Gemm<transB = 1>(f, w) y = Identity(e)
    }"""
    x, w = image(3, (3, 6, 5)), np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
    found = Explainer(model(text), batch=2)({"x": x, "w": w})
    assert found.targets.tolist() == (np.maximum(x, 0).mean((2, 3)) @ w.T).argmax(1).tolist()


def test_shapes_are_those_of_the_test_net():
    """The closed form itself, against onnxruntime: the rest of this file stands on it."""
    net, x = Net(), image(5)
    np.testing.assert_allclose(run(net.model(), {"x": x})["y"], net.score(x), atol=1e-5)
    assert net.map(x).shape == (5, 4, *SHAPE[1:])


@pytest.mark.parametrize(("target", "rest"), [(None, []), ("top2", [2]), ("p:1", [])])
def test_classes_are_counted_by_the_model_s_own_samples(target, rest):
    """The first size of `cam/class` has the name that it has in the image."""
    path = Path(__file__).parents[1] / "models" / "efficientnet-lite0.onnx"
    made = onnxcam.convert(path, emit=["class"], target=target)
    shape = next(o for o in made.graph.output if o.name == "cam/class").type.tensor_type.shape
    assert [d.dim_param or d.dim_value for d in shape.dim] == ["N", *rest]
