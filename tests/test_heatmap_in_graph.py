"""The heat map that a file computes is the one that `Explainer` computes; and the original can be taken out again."""

import json

import numpy as np
import onnx
import pytest

import onnxcam
from onnxcam import Explainer
from onnxcam.errors import InputError, ModelError, OnnxcamError
from onnxcam.methods import METHODS
from onnxcam.profiles import PROFILES
from tests.builders import DEMO, SHAPE, Net, assert_extends, image, model, names, pipeline, retyped, run

IN_GRAPH = [m.name for m in METHODS.values() if m.graph]
FORMS = [(name, {}) for name in IN_GRAPH] + [("gradcam++", {"alpha": "normalised"})]


def drawn(proto: onnx.ModelProto, x: np.ndarray, **feeds: np.ndarray) -> np.ndarray:
    return run(proto, {proto.graph.input[0].name: x, **{f"cam/{k}": v for k, v in feeds.items()}}, ["cam/heatmap"])[
        "cam/heatmap"
    ]


# ----- file against numpy -----
@pytest.mark.parametrize(("method", "options"), FORMS, ids=lambda v: str(v))
@pytest.mark.parametrize("dims", ["N, 3, 6, 5", "2, 3, 6, 5", "N, 3, H, W"])
def test_every_method_draws_in_the_file_what_it_draws_in_numpy(method, options, dims):
    proto, x = Net().model(dims=dims), image(2)
    file = onnxcam.convert(proto, method=method, options=options, emit=["heatmap"])
    expected = Explainer(proto, method, options=options)(x).maps
    assert expected.max() > 0.9
    got = drawn(file, x)
    assert got.dtype == np.float32
    assert got.shape == (2, 6, 5)
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("method", IN_GRAPH)
def test_a_real_network(method):
    x = np.random.default_rng(1).normal(size=(1, 3, 224, 224)).astype(np.float32)
    got = drawn(onnxcam.convert(DEMO, method=method, emit=["heatmap"]), x)
    np.testing.assert_allclose(got, Explainer(str(DEMO), method)(x).maps, atol=1e-5)


def test_the_map_is_that_of_the_closed_form_for_any_target():
    net, x = Net(), image(4)
    file = onnxcam.convert(net.model(), emit=["heatmap", "class"])
    for target in (-1, 0, 2):
        found = run(file, {"x": x, "cam/target": np.int64([target])})
        classes = net.score(x).argmax(1) if target < 0 else np.full(4, target)
        np.testing.assert_array_equal(found["cam/class"], classes)
        np.testing.assert_allclose(found["cam/heatmap"], pipeline([net.gradcam(x, classes)], SHAPE[1:]), atol=1e-5)


def test_an_image_with_channels_last_and_several_layers():
    net = Net()
    text = """net (float[N, 6, 5, 3] x) => (float[N, 3] y) {
      t = Transpose<perm = [0, 3, 1, 2]>(x)
      c = Conv<pads = [1, 1, 1, 1]>(t, W, B)
      map = Relu(c)
      small = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(map)
      p = GlobalAveragePool(small)
      f = Flatten(p)
      y = Gemm<transB = 1>(f, H, b)
    }"""
    proto, x = model(text, **net.weights()), image(3).transpose(0, 2, 3, 1).copy()
    layers = ["small", "map"]
    file = onnxcam.convert(proto, layers=layers, method="layercam", emit=["heatmap"])
    np.testing.assert_allclose(drawn(file, x), Explainer(proto, "layercam", layers=layers)(x).maps, atol=1e-5)


# ----- several classes in one pass -----
def test_the_best_classes_in_one_pass():
    net, x = Net(classes=5), image(4)
    file = onnxcam.convert(net.model(), target="top3", emit=["heatmap", "class", "gradient"])
    assert names(file.graph.input) == ["x"]
    found = run(file, {"x": x})
    order = np.argsort(-net.score(x), axis=1)[:, :3]
    np.testing.assert_array_equal(found["cam/class"], order)
    assert found["cam/gradient/map"].shape == (4, 3, 4, 6, 5)
    for k in range(3):
        np.testing.assert_allclose(found["cam/gradient/map"][:, k], net.gradient(x, order[:, k]), atol=1e-6)
        expected = pipeline([net.gradcam(x, order[:, k])], SHAPE[1:])
        np.testing.assert_allclose(found["cam/heatmap"][:, k], expected, atol=1e-5)


def test_more_classes_than_there_are():
    with pytest.raises(InputError, match="more classes than the 3"):
        onnxcam.convert(Net().model(), target="top4", emit=["heatmap"])


# ----- forms of the map -----
def test_bytes_and_the_layers_own_size():
    net, x = Net(), image(3)
    proto = net.model(pooling="q = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(map) p = GlobalAveragePool(q)")
    floats = drawn(onnxcam.convert(proto, emit=["heatmap"]), x)
    levels = drawn(onnxcam.convert(proto, emit=["heatmap"], heatmap="uint8"), x)
    assert levels.dtype == np.uint8
    np.testing.assert_array_equal(levels, np.floor(floats * 255 + 0.5))
    small = onnxcam.convert(proto, emit=["heatmap"], size="layer")
    raw = Explainer(proto)(x).raw["q"]
    np.testing.assert_allclose(drawn(small, x), pipeline([raw], raw.shape[1:]), atol=1e-5)


def test_a_half_precision_model_draws_in_single():
    proto, x = retyped(Net().model(), np.float16), image(3).astype(np.float16)
    got = drawn(onnxcam.convert(proto, emit=["heatmap"]), x)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, Explainer(proto)(x).maps, atol=1e-3)  # whose gradient was rounded to half


def test_the_gate():
    net, x = Net(), image(3)
    proto = net.model()
    file = onnxcam.convert(proto, emit=["heatmap", "gradient", "class"], gate=True)
    assert_extends(file, proto)
    assert [n.op_type for n in file.graph.node[len(proto.graph.node) :]] == ["If"]
    opened, closed = (run(file, {"x": x, "cam/explain": np.array([g])}) for g in (True, False))
    classes = net.score(x).argmax(1)
    np.testing.assert_allclose(opened["cam/heatmap"], pipeline([net.gradcam(x, classes)], SHAPE[1:]), atol=1e-5)
    np.testing.assert_allclose(opened["cam/gradient/map"], net.gradient(x, classes), atol=1e-6)
    for name in ("cam/heatmap", "cam/gradient/map", "cam/class"):
        assert closed[name].size == 0
        assert closed[name].ndim == opened[name].ndim
    np.testing.assert_array_equal(closed["y"], opened["y"])
    np.testing.assert_array_equal(run(file, {"x": x})["cam/heatmap"], opened["cam/heatmap"])


def test_the_gate_takes_targets_too():
    net, x = Net(), image(3)
    file = onnxcam.convert(net.model(), emit=["heatmap"], gate=True)
    expected = pipeline([net.gradcam(x, np.array([2, 2, 2]))], SHAPE[1:])
    np.testing.assert_allclose(drawn(file, x, target=np.int64([2])), expected, atol=1e-5)


# ----- what a graph cannot -----
@pytest.mark.parametrize("method", [m.name for m in METHODS.values() if not m.graph])
def test_a_method_that_no_graph_computes_is_refused_by_name(method):
    with pytest.raises(InputError, match=rf"'{method}' cannot live in a graph: .*These can: cam, gradcam"):
        onnxcam.convert(Net().model(), method=method, emit=["heatmap"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"heatmap": "int8"}, "heat map type"),
        ({"size": "photo"}, "heat map size"),
        ({"emit": ["heatmaps"]}, "output to emit"),
        ({"emit": []}, "Nothing to emit"),
        ({"method": "gradcam", "options": {"alpha": 1}}, "option"),
    ],
)
def test_misuse_is_one_clear_line(given, said):
    with pytest.raises(InputError, match=said):
        onnxcam.convert(Net().model(), **{"emit": ["heatmap"], **given})


# ----- the original -----
@pytest.mark.parametrize("gate", [False, True])
@pytest.mark.parametrize("ir", [3, 8])
def test_stripping_gives_the_original_byte_for_byte(tmp_path, gate, ir):
    proto = Net().model(ir=ir)
    if ir == 3:
        proto.graph.input.extend(
            onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in proto.graph.initializer
        )
    proto.metadata_props.add(key="names", value="['a', 'b', 'c']")
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    onnxcam.convert(tmp_path / "model.onnx", tmp_path / "cam.onnx", emit=["heatmap"], gate=gate)
    onnxcam.strip(tmp_path / "cam.onnx", tmp_path / "back.onnx")
    assert (tmp_path / "back.onnx").read_bytes() == (tmp_path / "model.onnx").read_bytes()


def test_the_demo_model_comes_back():
    assert onnxcam.strip(onnxcam.convert(DEMO, emit=["heatmap"])).SerializeToString() == DEMO.read_bytes()


def test_converting_again_starts_from_the_original():
    proto = Net().model()
    first = onnxcam.convert(proto, emit=["gradient"])
    again = onnxcam.convert(first, emit=["heatmap"])
    assert again.graph == onnxcam.convert(proto, emit=["heatmap"]).graph


def test_a_file_is_explained_as_it_was_made():
    net, x = Net(), image(3)
    text = "q = Conv<pads = [1, 1, 1, 1]>(map, Q) p = GlobalAveragePool(q)"
    proto = net.model(pooling=text, Q=np.random.default_rng(5).normal(size=(4, 4, 3, 3)))
    file = onnxcam.convert(proto, layers="map", method="layercam", target=1, emit=["heatmap"])
    told = Explainer(file)
    assert (told.method.name, told.layers) == ("layercam", ("map",))
    result = told(x)
    np.testing.assert_array_equal(result.targets, [1, 1, 1])
    np.testing.assert_allclose(result.maps, drawn(file, x), atol=1e-5)
    assert Explainer(file, "gradcam", layers="q", target=0).layers == ("q",)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.graph.node[0].attribute.pop(), "changed after onnxcam made it"),
        (lambda m: _set(m, "cam.version", "99.0"), "newer than this one"),
        (lambda m: _set(m, "cam.original", "{}"), "cannot be read"),
        (lambda m: _set(m, "cam.original", "nonsense"), "cannot be read"),
        (lambda m: m.metadata_props.pop(), None),
    ],
)
def test_a_file_that_was_changed_is_said(change, said):
    file = onnxcam.convert(Net().model(), emit=["heatmap"])
    change(file)
    if said is None:  # what says less is an original still
        assert onnxcam.strip(file)
        return
    for verb in (onnxcam.strip, onnxcam.convert, Explainer):
        with pytest.raises(ModelError, match=said):
            verb(file)


def test_only_an_explainable_file_can_be_stripped():
    with pytest.raises(OnnxcamError, match="no explainable file"):
        onnxcam.strip(Net().model())


def test_the_file_says_how_it_was_made():
    file = onnxcam.convert(
        Net().model(), method="gradcam++", options={"alpha": "normalised"}, emit=["heatmap"], labels=["a", "b", "c"]
    )
    said = {p.key: p.value for p in file.metadata_props}
    assert said["cam.method"] == "gradcam++"
    assert json.loads(said["cam.options"]) == {"alpha": "normalised"}
    assert json.loads(said["cam.classes"]) == ["a", "b", "c"]
    assert json.loads(said["cam.preprocess"])["size"] == [6, 5]


def _set(proto: onnx.ModelProto, key: str, value: str) -> None:
    next(p for p in proto.metadata_props if p.key == key).value = value


# ----- two files -----
def test_the_tail_as_a_file_of_its_own(tmp_path):
    net, x = Net(), image(3)
    (tmp_path / "model.onnx").write_bytes(net.model().SerializeToString())
    whole = onnxcam.convert(
        tmp_path / "model.onnx", tmp_path / "first.onnx", tail=tmp_path / "tail.onnx", emit=["heatmap"]
    )
    first = run(tmp_path / "first.onnx", {"x": x})
    tail = onnx.load(tmp_path / "tail.onnx")
    feeds = {n: first.get(n, x) for n in names(tail.graph.input) if not n.startswith("cam/")}
    for more in ({}, {"cam/target": np.int64([1])}):
        got = run(tail, {**feeds, **more})["cam/heatmap"]
        np.testing.assert_array_equal(got, run(whole, {"x": x, **more})["cam/heatmap"])
    np.testing.assert_array_equal(first["y"], run(net.model(), {"x": x})["y"])
    assert not any(n.op_type == "Conv" for n in tail.graph.node)
    onnxcam.strip(tmp_path / "first.onnx", tmp_path / "back.onnx")
    assert (tmp_path / "back.onnx").read_bytes() == (tmp_path / "model.onnx").read_bytes()


def test_a_tail_needs_a_first_file_and_no_gate(tmp_path):
    for given in ({"gate": True, "output": tmp_path / "a.onnx"}, {}):
        with pytest.raises(InputError, match="tail"):
            onnxcam.convert(Net().model(), tail=tmp_path / "t.onnx", **given)
    assert not list(tmp_path.iterdir())


# ----- where it will run -----
def test_a_profile_that_the_file_keeps_or_breaks(tmp_path):
    net = Net()
    for profile in PROFILES:
        onnxcam.convert(net.model(), tmp_path / "ok.onnx", emit=["heatmap"], profile=profile)
        (tmp_path / "ok.onnx").unlink()
    head = "d = Det(p) f = Flatten(p) s = Gemm<transB = 1>(f, H, b) e = Unsqueeze(d, one) y = Mul(s, e)"
    square = net.model(head, pooling="p = MaxPool<kernel_shape = [6, 5]>(map)", one=np.int64([0]))
    del square.graph.output[0].type.tensor_type.shape.dim[:]
    with pytest.raises(ModelError, match=r"The model itself does not run in 'tract'.*Det"):
        onnxcam.convert(square, tmp_path / "no.onnx", layers="map", emit=["activation"], profile="tract")
    with pytest.raises(InputError, match="No profile 'phone'"):
        onnxcam.convert(net.model(), tmp_path / "no.onnx", emit=["heatmap"], profile="phone")
    assert not list(tmp_path.iterdir())


def test_a_model_repository(tmp_path):
    onnxcam.convert(Net().model(), tmp_path / "net.onnx", emit=["heatmap"], triton=tmp_path / "repository")
    folder = tmp_path / "repository" / "net"
    assert (folder / "1" / "model.onnx").read_bytes() == (tmp_path / "net.onnx").read_bytes()
    assert 'name: "cam/heatmap"' in (folder / "config.pbtxt").read_text()


def test_a_target_that_has_to_be_given():
    net, x = Net(), image(3)
    file = onnxcam.convert(net.model(), emit=["heatmap"], required=True)
    assert [i.name for i in file.graph.input] == ["x", "cam/target"]
    assert "cam/target" not in names(file.graph.initializer)
    expected = pipeline([net.gradcam(x, np.array([1, 1, 1]))], SHAPE[1:])
    np.testing.assert_allclose(drawn(file, x, target=np.int64([1])), expected, atol=1e-5)


def test_the_map_says_how_many_samples_it_has():
    file = onnxcam.convert(Net().model(), emit=["heatmap"])
    dims = file.graph.output[-1].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dims] == ["N", 6, 5]


# ----- names, paths and files in another order -----
def test_the_labels_that_are_given_name_the_class_and_go_into_the_file():
    for target, index in (("a", 2), ("c", 0), ("top", -1), (np.int64(1), 1)):
        file = onnxcam.convert(Net().model(), target=target, labels=list("cba"), emit=["heatmap"])
        said = {p.key: p.value for p in file.metadata_props}
        assert (said["cam.target"], json.loads(said["cam.classes"])) == (str(index), list("cba"))


def test_converting_again_keeps_what_is_not_given():
    first = onnxcam.convert(Net().model(), target=2, method="hirescam", emit=["heatmap"])
    said = {p.key: p.value for p in onnxcam.convert(first, emit=["heatmap", "class"]).metadata_props}
    assert (said["cam.target"], said["cam.method"]) == ("2", "hirescam")


def test_a_target_that_has_to_be_given_goes_to_the_tail(tmp_path):
    onnxcam.convert(Net().model(), tmp_path / "a.onnx", tail=tmp_path / "t.onnx", emit=["heatmap"], required=True)
    assert "cam/target" in names(onnx.load(tmp_path / "t.onnx").graph.input)
    assert names(onnx.load(tmp_path / "a.onnx").graph.input) == ["x"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"layers": [3]}, "A layer is named"),
        ({"target": [1, 2]}, "lists are for"),
        ({"tail": "a.onnx"}, "both files of a split"),
    ],
)
def test_what_does_not_go_together_is_said_before_anything_is_written(tmp_path, monkeypatch, given, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=said):
        onnxcam.convert(Net().model(), "a.onnx", emit=["heatmap"], **given)
    assert not list(tmp_path.iterdir())


def test_an_open_size_needs_a_resize_that_has_one():
    with pytest.raises(InputError, match="opset 11"):
        onnxcam.convert(Net().model(dims="N, 3, H, W", opset=9), emit=["heatmap"])


def test_a_file_in_another_order_comes_back_in_the_usual_one(tmp_path):
    proto = Net().model()
    graph = onnx.ModelProto()
    graph.graph.CopyFrom(proto.graph)
    rest = onnx.ModelProto()
    rest.CopyFrom(proto)
    rest.ClearField("graph")
    (tmp_path / "m.onnx").write_bytes(graph.SerializeToString() + rest.SerializeToString())
    file = onnxcam.convert(tmp_path / "m.onnx", emit=["heatmap"])
    assert onnxcam.strip(file) == proto
    assert Explainer(file)(image(1)).maps.shape == (1, 6, 5)


def test_scores_that_are_no_numbers_have_no_class():
    net = Net()
    found = run(onnxcam.convert(net.model(), emit=["class"]), {"x": np.full((1, *SHAPE), np.nan, np.float32)})
    assert found["cam/class"].tolist() == [-1]


def test_a_model_with_a_tensor_of_an_output_of_ours():
    proto = Net().model(out="float[N, 3] y, float[N, 4, 1, 1] p")
    for node in proto.graph.node:
        for values in (node.input, node.output):
            values[:] = ["cam/number" if n == "p" else n for n in values]
    proto.graph.output[1].name = "cam/number"
    with pytest.raises(InputError, match="'cam/number' already"):
        onnxcam.convert(proto, target="0 - 1", emit=["heatmap", "score"])


def test_what_is_given_takes_the_place_of_what_the_model_says(tmp_path):
    labels = [f"L{i}" for i in range(1000)]
    onnxcam.convert(DEMO, tmp_path / "cam.onnx", preprocess="imagenet", labels=labels, emit=["heatmap"])
    told = Explainer(tmp_path / "cam.onnx")
    assert told.labels == labels
    assert told.preprocess.mean == Explainer(str(DEMO), preprocess="imagenet").preprocess.mean
    onnxcam.strip(tmp_path / "cam.onnx", tmp_path / "back.onnx")
    assert (tmp_path / "back.onnx").read_bytes() == DEMO.read_bytes()


def test_the_tail_says_what_it_is(tmp_path):
    onnxcam.convert(Net().model(), tmp_path / "a.onnx", tail=tmp_path / "t.onnx", emit=["heatmap"])
    for verb in (onnxcam.inspect, onnxcam.strip, onnxcam.convert, Explainer):
        with pytest.raises(ModelError, match="second file of a split"):
            verb(tmp_path / "t.onnx")


def test_what_a_file_was_made_with_is_no_assumption():
    said = Explainer(onnxcam.convert(Net().model(), layers="map", emit=["heatmap"])).assumptions
    assert any("as the file was made with" in line for line in said)
    assert not any(line.startswith(("layer", "score")) for line in said)
