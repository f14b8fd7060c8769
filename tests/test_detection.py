"""Which models are detectors, and how their outputs are read: by shapes, names and the graph."""

import json

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import numpy_helper

import onnxcam
from onnxcam.cli import main
from tests.builders import model

TOWER = """a = Conv(image, W) fine = Relu(a) b = Conv<strides = [2, 2]>(fine, V) coarse = Relu(b)"""
W = np.ones((2, 3, 1, 1), np.float32)
V = np.ones((2, 2, 1, 1), np.float32)


def heads(count: int) -> dict[str, np.ndarray]:
    return {"W": W, "V": V, "H": np.ones((count, 2, 1, 1), np.float32), "flat": np.int64([0, count, -1])}


def found(text: str, **more: object):
    return onnxcam.inspect(model(text, **more)).scores[0]


def yolo5(classes: int) -> onnx.ModelProto:
    width = 5 + classes
    text = f"""det (float[N, 3, 8, 8] image) => (float[N, 64, {width}] out) {{
      {TOWER} h = Conv(fine, H) f = Reshape(h, flat) t = Transpose<perm = [0, 2, 1]>(f) s = Sigmoid(t)
      xy = Slice(s, zero, two, last) wh = Slice(s, two, four, last) rest = Slice(s, four, end, last)
      out = Concat<axis = 2>(xy, wh, rest)
    }}"""
    numbers = {"zero": 0, "two": 2, "four": 4, "end": width, "last": 2}
    return model(text, **heads(width), **{k: np.int64([v]) for k, v in numbers.items()})


def test_yolo_with_objectness():
    score = onnxcam.inspect(yolo5(3)).scores[0]
    assert (score.kind, score.boxes.layout, score.boxes.classes, score.axis) == ("boxes", "rows", 3, 2)
    assert (score.boxes.form, score.boxes.unit, score.boxes.levels) == ("cxcywh", "pixels", ("fine",))


def yolox(classes: int) -> onnx.ModelProto:
    width = 5 + classes
    text = f"""det (float[N, 3, 8, 8] image) => (float[N, 64, {width}] out) {{
      {TOWER} box = Conv(fine, B) o = Conv(fine, O) c = Conv(fine, C) so = Sigmoid(o) sc = Sigmoid(c)
      all = Concat<axis = 1>(box, so, sc) f = Reshape(all, flat) out = Transpose<perm = [0, 2, 1]>(f)
    }}"""
    kernels = {k: np.ones((n, 2, 1, 1), np.float32) for k, n in (("B", 4), ("O", 1), ("C", classes))}
    return model(text, W=W, V=V, flat=np.int64([0, width, -1]), **kernels)


def test_yolox_whose_boxes_are_offsets_in_a_grid():
    found = onnxcam.inspect(yolox(3))
    boxes = found.scores[0].boxes
    assert (boxes.layout, boxes.classes, boxes.cells, boxes.levels) == ("rows", 3, ((8, 8, 1),), ("fine",))
    assert found.preprocess == onnxcam.preprocessing.preset("yolox", (8, 8))
    assert "its boxes are YOLOX's" in found.assumed[0]
    assert onnxcam.inspect(yolo5(3)).preprocess == onnxcam.preprocessing.preset("yolo", (8, 8))


def test_a_box_of_yolox_is_in_pixels():
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32) / 4
    found = onnxcam.Explainer(yolox(3), target="box:19")(x)
    raw = found.outputs["out"][:, 19, :4]
    centre, size = raw[:, :2] + [3, 2], np.exp(raw[:, 2:])  # the fourth cell of the third row, one pixel wide
    np.testing.assert_allclose(found.found["box"], np.hstack([centre - size / 2, centre + size / 2]), rtol=1e-5)


def test_offsets_in_a_grid_of_any_size_are_no_boxes():
    proto = yolox(3)
    for dim in proto.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.ClearField("dim_value")
    proto.graph.output[0].type.tensor_type.shape.dim[1].ClearField("dim_value")
    assert onnxcam.inspect(proto).scores[0].boxes.raw
    x = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)
    found = onnxcam.Explainer(proto, target="top3")(x)
    assert "box" not in found.found
    best = (found.outputs["out"][0, :, 4:5] * found.outputs["out"][0, :, 5:]).max(1)
    np.testing.assert_array_equal(found.found["index"], np.argsort(-best, kind="stable")[:3])


def test_what_the_file_has_names_for_comes_first():
    text = f"""det (float[N, 3, 8, 8] image) => (float[N, 64, 32] far, float[N, 64, 5] out) {{
      {TOWER} h = Conv(fine, H) says, lies = Split<axis = 1>(h, parts) s = Sigmoid(says)
      f = Reshape(s, flat) out = Transpose<perm = [0, 2, 1]>(f)
      g = Reshape(lies, more) far = Transpose<perm = [0, 2, 1]>(g)
    }}"""
    flat, more = np.int64([0, 5, -1]), np.int64([0, 32, -1])
    proto = model(text, **heads(37) | {"flat": flat}, more=more, parts=np.int64([5, 32]))
    assert onnxcam.inspect(proto).scores[0].tensor == "far"
    proto.metadata_props.add(key="names", value="['a', 'b', 'c', 'd', 'e']")
    found = onnxcam.inspect(proto)
    assert (found.scores[0].tensor, found.layers[0].name) == ("out", "fine")
    assert "h" not in [x.name for x in found.layers], "the convolution that says both"


def yolo8(width: int) -> str:
    return f"""det (float[N, 3, 8, 8] image) => (float[N, {width}, 80] output0) {{
      {TOWER}
      c = Conv(fine, C) d = Conv(coarse, C) cf = Reshape(c, flat) df = Reshape(d, flat) k = Concat<axis = 2>(cf, df)
      classes = Sigmoid(k)
      e = Conv(fine, B) f = Conv(coarse, B) ef = Reshape(e, four) ff = Reshape(f, four)
      corners = Concat<axis = 2>(ef, ff)
      output0 = Concat<axis = 1>(corners, classes)
    }}"""


def eight(classes: int) -> dict[str, np.ndarray]:
    shapes = {"flat": np.int64([0, classes, -1]), "four": np.int64([0, 4, -1])}
    kernels = {"C": np.ones((classes, 2, 1, 1), np.float32), "B": np.ones((4, 2, 1, 1), np.float32)}
    return {"W": W, "V": V, **kernels, **shapes}


def test_yolo_without_objectness_and_its_two_sizes_of_boxes():
    inspection = onnxcam.inspect(model(yolo8(7), **eight(3)))
    score = inspection.scores[0]
    assert (score.kind, score.boxes.layout, score.boxes.classes, score.axis) == ("boxes", "columns", 3, 1)
    assert sorted(score.boxes.levels) == ["coarse", "fine"]
    assert sorted(layer.tensor for layer in inspection.layers[:2]) == ["coarse", "fine"]
    assert sorted(onnxcam.Explainer(model(yolo8(7), **eight(3))).layers) == ["coarse", "fine"]


def test_levels_are_what_towers_of_convolutions_stand_on():
    """One for classes, one for coordinates, with SiLU and group normalisation; of one that stands alone its last."""
    towers = (
        yolo8(7)
        .replace(
            "c = Conv(fine, C)",
            "t = Conv(fine, V) u = Sigmoid(t) v = Mul(t, u) c = Conv(v, C)",
        )
        .replace(
            "e = Conv(fine, B)",
            """g = Conv(fine, V) g3 = Reshape(g, groups) i3 = InstanceNormalization(g3, ones, zeros) sh = Shape(g)
           i4 = Reshape(i3, sh) h = Relu(i4) e = Conv(h, B)""",
        )
    )
    more = eight(3) | {"groups": np.int64([0, 2, -1]), "ones": np.ones(2, np.float32), "zeros": np.zeros(2, np.float32)}
    assert sorted(onnxcam.inspect(model(towers, **more)).scores[0].boxes.levels) == ["coarse", "fine"]
    alone = yolo5(3)
    text = """det (float[N, 3, 8, 8] image) => (float[N, 64, 8] out) {
      a = Conv(image, W) fine = Relu(a) b = Conv(fine, V) last = Relu(b) h = Conv(last, H) f = Reshape(h, flat)
      t = Transpose<perm = [0, 2, 1]>(f) s = Sigmoid(t)
      xy = Slice(s, zero, two, axis) wh = Slice(s, two, four, axis) rest = Slice(s, four, end, axis)
      out = Concat<axis = 2>(xy, wh, rest)
    }"""
    numbers = {k: np.int64([v]) for k, v in {"zero": 0, "two": 2, "four": 4, "end": 8, "axis": 2}.items()}
    assert onnxcam.inspect(model(text, **heads(8), **numbers)).scores[0].boxes.levels == ("last",)
    assert onnxcam.inspect(alone).scores[0].boxes.levels == ("fine",)


@pytest.mark.parametrize("size", ["8, 8", "H, W"])
@pytest.mark.parametrize(("kernel", "levels"), [(3, ("fine",)), (2, ("fine", "tower"))])
def test_what_a_tower_ends_in_is_no_level_where_two_heads_read_it(size, kernel, levels):
    """As FCOS: corners and centredness share a tower, and the score is of classes times centredness."""
    text = f"""det (float[1, 3, {size}] image) => (float[n, 4] boxes, int64[n] labels, float[n] scores) {{
      a = Conv(image, W) fine = Relu(a) t = Conv<pads = [1, 1, 1, 1]>(fine, T) tower = Relu(t)
      c = Conv(fine, H) centre = Conv(tower, H) corners = Conv(tower, B)
      k = GlobalMaxPool(c) m = GlobalMaxPool(centre) q = Mul(k, m) scores = Reshape(q, all)
      z = GlobalMaxPool(corners) boxes = Reshape(z, four) labels = Cast<to = 7>(scores)
    }}"""
    more = {"T": np.ones((2, 2, kernel, kernel), np.float32), "H": np.ones((1, 2, 1, 1), np.float32)}
    more |= {"B": np.ones((4, 2, 1, 1), np.float32), "all": np.int64([-1]), "four": np.int64([-1, 4])}
    assert sorted(found(text, W=W, **more).boxes.levels) == list(levels)


def test_what_comes_after_the_classes_is_no_class():
    proto = model(yolo8(11), **eight(7))
    assert onnxcam.inspect(proto).scores[0].classes == 7
    proto.metadata_props.add(key="names", value="{0: 'a', 1: 'b'}")
    proto.metadata_props.add(key="stride", value="32")
    assert onnxcam.inspect(proto).scores[0].classes == 2


def test_boxes_that_the_graph_has_sorted():
    text = f"""det (float[N, 3, 8, 8] image) => (float[N, 5, 6] out) {{
      {TOWER} h = Conv(fine, H) f = Reshape(h, flat) t = Transpose<perm = [0, 2, 1]>(f)
      s = ReduceMax<axes = [2]>(t) best, index = TopK<axis = 1>(s, five)
      out = Expand(best, wide)
    }}"""
    score = found(text, **heads(6), five=np.int64([5]), wide=np.int64([1, 1, 6]))
    assert (score.kind, score.boxes.layout, score.boxes.form) == ("boxes", "list", "xyxy")


@pytest.mark.parametrize("batch", ["", "N, "])
def test_boxes_scores_and_labels(batch):
    text = f"""det (float[N, 3, 8, 8] image, float[{batch}S, 4] q, float[{batch}S] s, int64[{batch}S] l)
      => (float[{batch}S, 4] boxes, int64[{batch}S] labels, float[{batch}S] scores) {{
      {TOWER} boxes = Identity(q) labels = Identity(l) m = ReduceMean<keepdims = 0>(coarse) scores = Add(s, m)
    }}"""
    score = found(text, W=W, V=V)
    boxes = score.boxes
    assert (score.kind, score.tensor, boxes.layout, boxes.labels) == ("boxes", "scores", "few", "labels")
    assert (boxes.corners, boxes.form, boxes.unit, boxes.levels) == ("boxes", "xyxy", "pixels", ("fine",))


def pair(ending: str, *, first: bool = False, centred: bool = False, classes: int = 3, names: tuple[str, str]) -> str:
    shape = f"{classes}, 64" if first else f"64, {classes}"
    turn = "Identity" if first else "Transpose<perm = [0, 2, 1]>"
    return f"""det (float[N, 3, 8, 8] image) => (float[N, {shape}] {names[0]}, float[N, 64, 4] {names[1]}) {{
      {TOWER} h = Conv(fine, H) f = Reshape(h, flat) raw = {turn}(f) {names[0]} = {ending}(raw)
      e = Conv(fine, B) ef = Reshape(e, four) et = Transpose<perm = [0, 2, 1]>(ef)
      {names[1]} = {"Sigmoid" if centred else "Identity"}(et)
    }}"""


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"ending": "Identity", "centred": True}, ("apart", "logits", None, "cxcywh", "fractions", None, 2)),
        ({"ending": "Sigmoid", "centred": True}, ("apart", "raw", "sigmoid", "cxcywh", "fractions", None, 2)),
        ({"ending": "Softmax<axis = 2>"}, ("apart", "raw", "softmax", None, "pixels", 0, 2)),
        ({"ending": "Identity", "first": True}, ("classes first", "logits", None, None, "pixels", None, 1)),
        (
            {"ending": "Identity", "centred": True, "classes": 92},
            ("apart", "logits", None, "cxcywh", "fractions", 91, 2),
        ),
    ],
)
def test_scores_beside_coordinates(options, expected):
    classes = options.get("classes", 3)
    text = pair(**options, names=("logits", "pred_boxes"))
    more = {"B": np.ones((4, 2, 1, 1), np.float32), "four": np.int64([0, 4, -1])}
    score = found(text, **heads(classes), **more)
    boxes = score.boxes
    read = (boxes.layout, score.tensor, score.activation, boxes.form, boxes.unit, boxes.background, score.axis)
    assert (score.kind, boxes.classes, *read) == ("boxes", classes, *expected)


def test_names_beside_a_detector_leave_out_that_nothing_is_there(tmp_path):
    """As of DETR's models, which have one class more than their configuration."""
    more = {"B": np.ones((4, 2, 1, 1), np.float32), "four": np.int64([0, 4, -1])}
    proto = model(pair(ending="Identity", centred=True, names=("logits", "pred_boxes")), **heads(3), **more)
    onnx.save(proto, tmp_path / "model.onnx")
    for names, background in ((["cat", "dog"], 2), (["cat", "dog", "bird"], None)):
        (tmp_path / "config.json").write_text(json.dumps({"id2label": dict(enumerate(names))}))
        found = onnxcam.inspect(tmp_path / "model.onnx")
        assert (found.scores[0].boxes.background, found.labels) == (background, tuple(names))
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}))
    found = onnxcam.inspect(tmp_path / "model.onnx")
    assert (found.scores[0].boxes.background, found.labels) == (2, None)


# ----- what is no detector -----
@pytest.mark.parametrize(
    ("text", "kind", "axis"),
    [
        ("p = GlobalAveragePool(fine) out = Flatten(p)", "classes", 1),
        ("out = Conv(fine, H)", "regions", 1),
        ("h = Conv(fine, H) out = Transpose<perm = [0, 2, 3, 1]>(h)", "regions", 3),
        ("h = Conv(fine, H) f = Reshape(h, flat) t = Transpose<perm = [0, 2, 1]>(f) out = Softmax<axis = 2>(t)",
         "regions", 2),
        ("h = Conv(fine, H) f = Reshape(h, flat) out = Transpose<perm = [0, 2, 1]>(f)", "regions", 2),
        ("p = GlobalAveragePool(fine) f = Flatten(p) n = ReduceL2<axes = [1]>(f) out = Div(f, n)", "embedding", 1),
    ],
)  # fmt: skip
def test_what_is_no_detector(text, kind, axis):
    shapes = {
        "classes": "[N, 2]", "regions": "[N, 6, 8, 8]", "embedding": "[N, 2]"
    }  # fmt: skip
    shape = "[N, 64, 6]" if "Reshape" in text else "[N, 8, 8, 6]" if axis == 3 else shapes[kind]
    used = {k: v for k, v in heads(6).items() if k in "WV" or f"{k})" in text}
    score = found(f"net (float[N, 3, 8, 8] image) => (float{shape} out) {{ {TOWER} {text} }}", **used)
    assert (score.kind, score.axis, score.boxes) == (kind, axis, None)


def test_a_score_of_a_detector_by_name_is_read_as_it_was_found():
    proto = model(yolo8(7), **eight(3))
    assert onnxcam.inspect(proto, score="output0").scores[0].kind == "boxes"
    assert onnxcam.inspect(proto, score="classes").scores[0].kind == "classes"


def test_yolox_of_one_picture_without_a_batch():
    proto = yolox(3)
    dims = proto.graph.input[0].type.tensor_type.shape
    del dims.dim[0]
    for node in proto.graph.node:
        node.input[:] = ["batched" if name == "image" else name for name in node.input]
    proto.graph.initializer.append(numpy_helper.from_array(np.int64([0]), "first"))
    proto.graph.node.insert(0, onnx.helper.make_node("Unsqueeze", ["image", "first"], ["batched"]))
    assert onnxcam.inspect(proto).scores[0].boxes.raw


@pytest.mark.parametrize("target", [None, "top2"])
def test_a_converted_detector_is_inspected(target, tmp_path):
    onnxcam.convert(yolox(3), tmp_path / "made.onnx", target=target, emit=["heatmap"])
    result = CliRunner().invoke(main, ["inspect", str(tmp_path / "made.onnx")])
    assert (result.exit_code, result.exception) == (0, None)
    assert f"target {target or 'the default'}" in result.stdout
