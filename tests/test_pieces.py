"""Detectors with outputs of their own for each size of boxes, as edge devices have them: read as one, and explained."""

import re

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import helper, numpy_helper

import onnxcam
from onnxcam.cli import main
from onnxcam.errors import InputError
from tests.builders import image, model, run

SIDE, STEPS, CHANNELS, CLASSES = 32, (8, 16), 4, 3
RNG = np.random.default_rng(7)
BODY = {f"W{s}": RNG.normal(size=(CHANNELS, 3, s, s)) / s for s in STEPS}


def head(width: int, step: int) -> np.ndarray:
    return np.random.default_rng(width * step).normal(size=(width, CHANNELS, 1, 1))


def bias(name: str, width: int) -> np.ndarray:
    """As of trained heads: what is certain of a thing is low, for most places hold nothing."""
    low = np.zeros(width)
    if name == "z":
        low.reshape(3, -1)[:, 4] = -3
    return low - 3 if name in "ck" else low


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def turned(z: np.ndarray, anchors: int = 1) -> np.ndarray:
    """(N, A·K, h, w) as (N, h·w·A, K)."""
    n, width, h, w = z.shape
    return z.reshape(n, anchors, width // anchors, h, w).transpose(0, 3, 4, 1, 2).reshape(n, -1, width // anchors)


def with_objectness(rows: np.ndarray) -> np.ndarray:
    return sigmoid(rows[..., 4:5]) * sigmoid(rows[..., 5:])


# For each form: widths of the convolutions of a level, what stands behind them, outputs (name, shape by grid), and the
# certainty of every box by the level's outputs.
FORMS = {
    "YOLO, anchors apart": (
        {"z": 24},
        "r# = Reshape(z#, five#) out# = Transpose<perm = [0, 1, 3, 4, 2]>(r#)",
        {"out": (3, "g", "g", 8)},
        lambda out: with_objectness(out.reshape(len(out), -1, 8)),
    ),
    "YOLO, anchors after the places": (
        {"z": 24},
        "r# = Reshape(z#, five#) out# = Transpose<perm = [0, 3, 4, 1, 2]>(r#)",
        {"out": ("g", "g", 3, 8)},
        lambda out: with_objectness(out.reshape(len(out), -1, 8)),
    ),
    "YOLO, as convolved": (
        {"z": 24}, "out# = Identity(z#)", {"out": (24, "g", "g")}, lambda out: with_objectness(turned(out, 3)),
    ),
    "YOLO, channels last": (
        {"z": 24},
        "out# = Transpose<perm = [0, 2, 3, 1]>(z#)",
        {"out": ("g", "g", 24)},
        lambda out: with_objectness(out.reshape(len(out), -1, 8)),
    ),
    "YOLOX, joined": (
        {"b": 4, "o": 1, "c": 3},
        "so# = Sigmoid(o#) sc# = Sigmoid(c#) out# = Concat<axis = 1>(b#, so#, sc#)",
        {"out": (8, "g", "g")},
        lambda out: turned(out)[..., 4:5] * turned(out)[..., 5:],
    ),
    "YOLOv8, joined distributions": (
        {"b": 64, "c": 3},
        "out# = Concat<axis = 1>(b#, c#)",
        {"out": (67, "g", "g")},
        lambda out: sigmoid(turned(out))[..., 64:],
    ),
    "YOLOv8 of four classes": (
        {"b": 64, "k": 4},
        "p# = Identity(b#) q# = Sigmoid(k#)",
        {"q": (4, "g", "g"), "p": (64, "g", "g")},
        lambda q, p: turned(q),
    ),
    "SSD, its first class being none": (
        {"k": 4, "b": 4},
        """tb# = Transpose<perm = [0, 2, 3, 1]>(b#) loc# = Reshape(tb#, rows4#)
           tk# = Transpose<perm = [0, 2, 3, 1]>(k#) rk# = Reshape(tk#, rows4#) conf# = Softmax<axis = 2>(rk#)""",
        {"conf": ("a", 4), "loc": ("a", 4)},
        lambda conf, loc: conf * [0, 1, 1, 1],
    ),
    "YOLOv8 for RKNN, with a sum": (
        {"b": 64, "c": 3},
        "p# = Sigmoid(c#) t# = ReduceSum(p#, one) s# = Clip(t#, low, high) box# = Identity(b#) cls# = Identity(p#)",
        {"box": (64, "g", "g"), "cls": (3, "g", "g"), "s": (1, "g", "g")},
        lambda box, cls, s: turned(cls),
    ),
    "RetinaNet": (
        {"box": 36, "cls": 27},
        "",
        {"cls": (27, "g", "g"), "box": (36, "g", "g")},
        lambda cls, box: sigmoid(turned(cls, 9)),
    ),
    "FCOS": (
        {"reg": 4, "cls": 3, "ctr": 1},
        "",
        {"cls": (3, "g", "g"), "reg": (4, "g", "g"), "ctr": (1, "g", "g")},
        lambda cls, reg, ctr: sigmoid(turned(ctr)) * sigmoid(turned(cls)),
    ),
    "NanoDet": (
        {"b": 32, "c": 3},
        """p# = Sigmoid(c#) rp# = Reshape(p#, three#) cls# = Transpose<perm = [0, 2, 1]>(rp#)
           rb# = Reshape(b#, bins#) dis# = Transpose<perm = [0, 2, 1]>(rb#)""",
        {"cls": ("a", 3), "dis": ("a", 32)},
        lambda cls, dis: cls,
    ),
    "SCRFD, without a batch": (
        {"b": 8, "c": 2, "l": 20},
        """p# = Sigmoid(c#) tc# = Transpose<perm = [2, 3, 0, 1]>(p#) u# = Reshape(tc#, column#)
           tb# = Transpose<perm = [2, 3, 0, 1]>(b#) v# = Reshape(tb#, four#)
           tl# = Transpose<perm = [2, 3, 0, 1]>(l#) w# = Reshape(tl#, ten#)""",
        {"u": (None, "2a", 1), "v": (None, "2a", 4), "w": (None, "2a", 10)},
        lambda u, v, w: u[None],
    ),
    "YuNet": (
        {"b": 4, "c": 1, "o": 1, "l": 10},
        """pc# = Sigmoid(c#) tc# = Transpose<perm = [0, 2, 3, 1]>(pc#) cls# = Reshape(tc#, rows1#)
           po# = Sigmoid(o#) to# = Transpose<perm = [0, 2, 3, 1]>(po#) obj# = Reshape(to#, rows1#)
           tb# = Transpose<perm = [0, 2, 3, 1]>(b#) bbox# = Reshape(tb#, rows4#)
           tl# = Transpose<perm = [0, 2, 3, 1]>(l#) kps# = Reshape(tl#, rows10#)""",
        {"cls": ("a", 1), "obj": ("a", 1), "bbox": ("a", 4), "kps": ("a", 10)},
        lambda cls, obj, bbox, kps: cls * obj,
    ),
}  # fmt: skip
SHAPES = {
    "five": [0, 3, 8, "g", "g"], "three": [0, 3, -1], "bins": [0, 32, -1], "column": [-1, 1], "four": [-1, 4],
    "ten": [-1, 10], "rows1": [0, -1, 1], "rows4": [0, -1, 4], "rows10": [0, -1, 10],
}  # fmt: skip


def detector(form: str, batch: str = "N", side: str = "32", steps: tuple[int, ...] = STEPS) -> onnx.ModelProto:
    """Levels on maps of their own, `map8` and `map16`, with heads of 1×1; names end with the step."""
    widths, behind, outputs, _ = FORMS[form]
    batch = "1" if any(shape[0] is None for shape in outputs.values()) else batch
    lines, declared, weights = [], [], dict(BODY)
    for step in steps:
        grid = SIDE // step
        sizes = {"g": grid, "a": grid * grid, "2a": 2 * grid * grid}
        heads = " ".join(f"{name}# = Conv(map#, H{name}#, B{name}#)" for name in widths)
        body = "body# = Conv<strides = [#, #]>(x, W#) map# = Relu(body#)"
        lines.append(f"{body} {heads} {behind}".replace("#", str(step)))
        weights |= {f"H{name}{step}": head(width, step) for name, width in widths.items()}
        weights |= {f"B{name}{step}": bias(name, width) for name, width in widths.items()}
        shapes = {name: [sizes.get(d, d) for d in shape] for name, shape in SHAPES.items()}
        weights |= {f"{name}{step}": np.int64(shape) for name, shape in shapes.items() if f"{name}{step}" in lines[-1]}
        for name, shape in outputs.items():
            dims = [batch, *shape] if shape[0] is not None else shape[1:]
            sized = ["?" if side != "32" and d in sizes else str(sizes.get(d, d)) for d in dims]
            declared.append(f"float[{', '.join(sized)}] {name}{step}")
    more = {"low": np.float32(0), "high": np.float32(1), "one": np.int64([1])}
    weights |= {name: value for name, value in more.items() if re.search(rf"\b{name}\b", behind)}
    text = f"net (float[{batch}, 3, {side}, {side}] x) => ({', '.join(declared)}) {{ {' '.join(lines)} }}"
    return model(text, **weights)


def naive(form: str, found: dict[str, np.ndarray]) -> np.ndarray:
    """The certainty of all boxes, the finest level first."""
    *_, outputs, read = FORMS[form]
    return np.concatenate([read(*(found[f"{name}{step}"] for name in outputs)) for step in STEPS], axis=1)


@pytest.mark.parametrize("form", FORMS)
def test_the_best_box_of_all_levels(form):
    proto = detector(form)
    assert "cam/scores" not in [o.name for o in proto.graph.output]
    inspection = onnxcam.inspect(proto)
    score = inspection.scores[0]
    assert (score.kind, score.boxes.layout) == ("boxes", "certain")
    assert sorted(x.tensor for x in inspection.layers[:2]) == ["map16", "map8"]
    x = image(1, (3, SIDE, SIDE))
    due = naive(form, run(proto, {"x": x}))
    assert score.classes == due.shape[2]
    for cls in (None, due.shape[2] - 1):
        of_class = due[0] if cls is None else due[0, :, cls:]
        best = np.unravel_index(of_class.argmax(), of_class.shape)
        explanation = onnxcam.Explainer(proto, target=cls)(x)
        assert explanation.found["index"].tolist() == [best[0]]
        assert explanation.targets.tolist() == [best[1] if cls is None else cls]
        np.testing.assert_allclose(explanation.scores, of_class[best], rtol=1e-5)


@pytest.mark.parametrize("form", ["YOLO, as convolved", "YOLOX, joined", "RetinaNet", "FCOS"])
@pytest.mark.parametrize("side", ["32", "?"])
def test_pictures_of_any_number_and_size(form, side):
    size = (SIDE, SIDE) if side == "32" else (64, 96)
    proto, x = detector(form, side=side), image(3, (3, *size))
    due = naive(form, run(proto, {"x": x})).reshape(3, -1)
    explanation = onnxcam.Explainer(proto, batch=2)(x)
    classes = onnxcam.inspect(proto).scores[0].classes
    assert (explanation.found["index"] * classes + explanation.targets).tolist() == due.argmax(1).tolist()
    assert explanation.maps.shape == (3, *size)


def test_the_gradient_is_that_of_the_chosen_score():
    """p = σ(o) · σ(c): dp = p · ((1 − σ(o)) · do + (1 − σ(c)) · dc), at one place of one level."""
    form, anchor = "YOLO, as convolved", 2
    proto, x = detector(form), image(1, (3, SIDE, SIDE))
    for step, row, column in ((8, 3, 1), (16, 1, 0)):
        grid = SIDE // step
        index = (0 if step == 8 else 16 * 3) + (row * grid + column) * 3 + anchor
        file = onnxcam.convert(proto, target=f"box:{index}", emit=["gradient", "score"])
        found = run(file, {"x": x})
        z, weights = (
            found[f"out{step}"][0, :, row, column].reshape(3, 8)[anchor],
            head(24, step).reshape(3, 8, -1)[anchor],
        )
        best = z[5:].argmax()
        o, c = sigmoid(z[4]), sigmoid(z[5 + best])
        expected = np.zeros((CHANNELS, grid, grid))
        expected[:, row, column] = o * c * ((1 - o) * weights[4] + (1 - c) * weights[5 + best])
        np.testing.assert_allclose(found[f"cam/gradient/map{step}"][0], expected, atol=1e-5)
        other = STEPS[1 - STEPS.index(step)]
        assert not found[f"cam/gradient/map{other}"].any()


def test_the_original_stays_a_prefix_and_the_file_is_explained_again():
    proto, x = detector("NanoDet"), image(2, (3, SIDE, SIDE))
    file = onnxcam.convert(proto, emit=["heatmap"], target="1", gate=True)
    outputs = [o.name for o in proto.graph.output]
    assert [o.name for o in file.graph.output] == [*outputs, "cam/heatmap"]
    assert [n.SerializeToString() for n in file.graph.node][: len(proto.graph.node)] == [
        n.SerializeToString() for n in proto.graph.node
    ]
    assert onnxcam.strip(file) == proto
    due = onnxcam.Explainer(proto, target=1)(x)
    found = run(file, {"x": x, "cam/explain": np.array([True])}, ["cam/heatmap"])["cam/heatmap"]
    np.testing.assert_allclose(found, due.maps, atol=1e-5)
    np.testing.assert_array_equal(onnxcam.Explainer(file)(x).maps, due.maps)
    assert onnxcam.inspect(file).scores[0] == onnxcam.inspect(proto).scores[0]


def test_the_explanation_apart_from_the_model(tmp_path):
    proto, x = detector("FCOS"), image(1, (3, SIDE, SIDE))
    onnxcam.convert(proto, tmp_path / "model.onnx", emit=["heatmap"], tail=tmp_path / "tail.onnx")
    first = run(tmp_path / "model.onnx", {"x": x})
    tail = onnx.load(tmp_path / "tail.onnx")
    fed = {i.name: {"x": x, **first}[i.name] for i in tail.graph.input if not i.name.startswith("cam/")}
    np.testing.assert_allclose(run(tail, fed)["cam/heatmap"], onnxcam.Explainer(proto)(x).maps, atol=1e-5)


def test_several_boxes_and_what_is_not_known_of_them():
    proto, x = detector("RetinaNet"), image(1, (3, SIDE, SIDE))
    due = naive("RetinaNet", run(proto, {"x": x}))[0].max(1)
    assert onnxcam.Explainer(proto, target="top3")(x).found["index"].tolist() == (-due).argsort()[:3].tolist()
    with pytest.raises(InputError, match="what the coordinates of its boxes are"):
        onnxcam.Explainer(proto, target="1@0,0,8,8")


def test_the_finest_level_is_first_whatever_the_order_of_the_outputs():
    x = image(1, (3, SIDE, SIDE))
    a, b = (onnxcam.Explainer(detector("FCOS", steps=steps))(x) for steps in (STEPS, STEPS[::-1]))
    assert a.found["index"] == b.found["index"]


@pytest.mark.parametrize(
    ("form", "preset"),
    [("YOLO, as convolved", "yolo"), ("YOLOv8, joined distributions", "yolo"), ("RetinaNet", "imagenet")],
)
def test_habits(form, preset):
    assert f"'{preset}' at 32×32 is a guess" in onnxcam.inspect(detector(form)).assumed[0]


def named(form: str, count: int) -> onnx.ModelProto:
    proto = detector(form)
    proto.metadata_props.add(key="names", value=str([f"thing {i}" for i in range(count)]))
    return proto


@pytest.mark.parametrize(("form", "count", "classes"), [("YOLO, anchors apart", 3, 3), ("YOLO, as convolved", 3, 3)])
def test_the_file_names_its_classes(form, count, classes):
    assert onnxcam.inspect(named(form, count)).scores[0].classes == classes


PLAIN = """a = Conv<strides = [8, 8]>(x, W8) map8 = Relu(a) b = Conv<strides = [16, 16]>(x, W16) map16 = Relu(b)"""
OTHERS = {
    "features": (
        "p = Conv<pads = [1, 1, 1, 1]>(map8, F) q = Conv<pads = [1, 1, 1, 1]>(map16, F)",
        (24, 4, 4),
        (24, 2, 2),
    ),
    "classes at places": ("p = Conv(map8, C) q = Conv(map16, C)", (21 + 1, 4, 4), (21 + 1, 2, 2)),
    "two heads": ("p = Conv(map8, C) t = GlobalAveragePool(map16) q = Flatten(t)", (22, 4, 4), (4,)),
    "one size": ("p = Conv(map8, C) q = Conv(map8, C)", (22, 4, 4), (22, 4, 4)),
    "other widths": ("p = Conv(map8, D) q = Conv(map16, E)", (24, 4, 4), (27, 2, 2)),
    "steps of 4": ("c = Conv<strides = [4, 4]>(x, W4) p = Conv(c, D) q = Conv(map8, D)", (24, 8, 8), (24, 4, 4)),
    "a step left out": (
        "p = Conv(map8, D) m = MaxPool<kernel_shape = [4, 4]>(map8) q = Conv(m, D)",
        (24, 4, 4),
        (24, 1, 1),
    ),
}


def levels(widths: dict[str, int], low: str = "", steps: tuple[int, ...] = STEPS, names: int = 0) -> onnx.ModelProto:
    """Convolutions of single places on each level, the bias of one of them low."""
    lines, outputs, weights = [], [], {f"{kind}_{n}": v for n, w in widths.items() for kind, v in (
        ("W", np.ones((w, 3, 1, 1))), ("B", np.full(w, -4.0 if n == low else 0.0)))}  # fmt: skip
    for s in steps:
        lines.append(
            f"pool{s} = AveragePool<kernel_shape = [{s}, {s}], strides = [{s}, {s}]>(x) map{s} = Relu(pool{s})"
        )
        lines += [f"{n}{s} = Conv(map{s}, W_{n}, B_{n})" for n in widths]
        outputs += [f"float[N, {w}, {SIDE // s}, {SIDE // s}] {n}{s}" for n, w in widths.items()]
    proto = model(f"net (float[N, 3, 32, 32] x) => ({', '.join(outputs)}) {{ {' '.join(lines)} }}", **weights)
    if names:
        proto.metadata_props.add(key="names", value=str([f"thing {i}" for i in range(names)]))
    return proto


@pytest.mark.parametrize(
    ("widths", "low", "names", "classes"),
    [
        ({"a": 80, "b": 4, "c": 1}, "a", 0, 80),
        ({"a": 80, "b": 4, "c": 1}, "", 80, 80),
        ({"cls": 4, "reg": 4, "ctr": 1}, "", 0, 4),
        ({"cls": 80, "reg": 4, "ctr": 1, "k": 169}, "", 0, 80),  # CondInst
        ({"a": 64, "b": 80, "c": 32}, "b", 0, 80),  # YOLOv8 with masks,
        ({"a": 64, "b": 1, "c": 51}, "b", 0, 1),  # with keypoints,
        ({"a": 64, "b": 15, "c": 1}, "b", 0, 15),  # and with angles
        ({"a": 64, "b": 4}, "b", 0, 4),
        ({"a": 720, "b": 36}, "a", 0, 80),
        ({"a": 3, "b": 12}, "a", 0, 1),
        ({"cls": 10, "reg": 4, "kps": 10}, "", 0, 10),
        ({"a": 10, "b": 4, "c": 1}, "a", 0, 10),
        ({"a": 64, "b": 4, "c": 1}, "a", 0, 64),
        ({"a": 48}, "", 1, None),  # YOLOv5 with landmarks before its class
        ({"a": 255}, "", 0, 80),
        ({"a": 171}, "", 1, 1),  # YOLOv5 with keypoints
        # what is none
        ({"a": 2}, "", 0, None),
        ({"a": 21}, "", 0, None),
        ({"a": 150}, "", 0, None),
        ({"a": 96}, "", 0, None),
        ({"a": 17, "b": 38}, "", 0, None),
        ({"a": 4, "b": 1}, "", 0, None),
        ({"a": 21, "b": 4}, "", 0, None),
        ({"a": 64, "b": 256}, "", 0, None),
        ({"a": 80, "b": 256}, "a", 0, None),
        ({"edge": 1, "b": 4}, "edge", 0, None),
        ({"heatmap": 17, "offset": 32}, "heatmap", 0, None),
        ({"logits": 20, "quaternion": 4}, "", 0, None),
    ],
)
def test_which_output_says_what(widths, low, names, classes):
    boxes = onnxcam.inspect(levels(widths, low, names=names)).scores[0].boxes
    assert (None if boxes is None else boxes.classes) == classes


def test_fine_steps_need_names():
    """Flow and its certainty at a quarter of the picture's size are no boxes."""
    for widths, joined in (({"a": 1, "b": 4}, False), ({"cls": 1, "reg": 4}, True)):
        boxes = onnxcam.inspect(levels(widths, "a", steps=(4, 8))).scores[0].boxes
        assert (boxes is not None) == joined


def test_a_pyramid_of_features_is_no_detector():
    """As of EfficientDet without its heads, which ends in convolutions of single places."""
    steps = (8, 16, 32, 64, 128)
    body = " ".join(
        f"a{s} = AveragePool<kernel_shape = [{s}, {s}], strides = [{s}, {s}]>(x) p{s} = Conv(a{s}, W)" for s in steps
    )
    outputs = ", ".join(f"float[N, 288, {128 // s}, {128 // s}] p{s}" for s in steps)
    proto = model(f"net (float[N, 3, 128, 128] x) => ({outputs}) {{ {body} }}", W=np.ones((288, 3, 1, 1)))
    assert onnxcam.inspect(proto).scores[0].boxes is None


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_detector(kind):
    text, *shapes = OTHERS[kind]
    first, second = (", ".join(map(str, ("N", *shape))) for shape in shapes)
    kernels = {"F": (24, 4, 3, 3), "C": (22, 4, 1, 1), "D": (24, 4, 1, 1), "E": (27, 4, 1, 1), "W4": (4, 3, 4, 4)}
    graph = f"net (float[N, 3, 32, 32] x) => (float[{first}] p, float[{second}] q) {{ {PLAIN} {text} }}"
    weights = {name: np.ones(shape) for name, shape in kernels.items() if re.search(rf"\b{name}\b", text)}
    score = onnxcam.inspect(model(graph, **BODY, **weights)).scores[0]
    assert score.boxes is None


def test_boxes_that_the_file_has_decoded_itself_are_taken_before_pieces():
    """YOLOv5 as its author exports it has both."""
    text = f"""det (float[N, 3, 32, 32] x) => (float[N, 60, 8] all, float[N, 3, 4, 4, 8] p, float[N, 3, 2, 2, 8] q) {{
      {PLAIN} h = Conv(map8, D) f = Reshape(h, s8) p = Transpose<perm = [0, 1, 3, 4, 2]>(f)
      i = Conv(map16, D) g = Reshape(i, s16) q = Transpose<perm = [0, 1, 3, 4, 2]>(g)
      u = Sigmoid(p) v = Reshape(u, row) w = Sigmoid(q) z = Reshape(w, row)
      k = Concat<axis = 1>(v, z) xy = Slice(k, zero, two, last) wh = Slice(k, two, four, last)
      rest = Slice(k, four, end, last) all = Concat<axis = 2>(xy, wh, rest)
    }}"""
    numbers = {"zero": [0], "two": [2], "four": [4], "end": [8], "last": [2], "row": [0, -1, 8],
               "s8": [0, 3, 8, 4, 4], "s16": [0, 3, 8, 2, 2]}  # fmt: skip
    proto = model(text, **BODY, D=np.ones((24, 4, 1, 1)), **{k: np.int64(v) for k, v in numbers.items()})
    score = onnxcam.inspect(proto).scores[0]
    assert (score.tensor, score.boxes.layout, score.boxes.form) == ("all", "rows", "cxcywh")


def test_the_class_that_means_no_object_is_not_chosen():
    form = "SSD, its first class being none"
    proto, x = detector(form), image(8, (3, SIDE, SIDE))
    for tensor in proto.graph.initializer:
        if tensor.name.startswith("Hk"):  # so that the first class is the likeliest
            tensor.CopyFrom(numpy_helper.from_array(np.roll(numpy_helper.to_array(tensor), -1, axis=0), tensor.name))
    found = run(proto, {"x": x})
    certain = np.concatenate([found[f"conf{step}"] for step in STEPS], axis=1).reshape(8, -1)
    assert (certain.argmax(1) % 4 == 0).any()
    explanation = onnxcam.Explainer(proto)(x)
    due = naive(form, found).reshape(8, -1)
    assert (explanation.found["index"] * 4 + explanation.targets).tolist() == due.argmax(1).tolist()


def test_a_person_is_told_where_the_score_is_from(tmp_path):
    onnx.save(detector("RetinaNet"), tmp_path / "model.onnx")
    shown = CliRunner().invoke(main, ["inspect", str(tmp_path / "model.onnx")])
    assert "cam/scores  [N, 180, 3], joined from the outputs of all sizes of boxes, boxes of a detector" in shown.output
    (said,) = (line for line in onnxcam.Explainer(detector("RetinaNet")).assumptions if line.startswith("score"))
    assert said == "score 'cam/scores', joined from the outputs of all sizes of boxes"


def test_a_score_that_was_cast_is_as_certain_as_before():
    """As where a file of float16 keeps the types of its outputs."""
    form = "SSD, its first class being none"
    proto = detector(form)
    for output in proto.graph.output:
        node = next(n for n in proto.graph.node if output.name in n.output)
        node.output[0] = f"{output.name}/short"
        proto.graph.node.append(helper.make_node("Cast", [node.output[0]], [output.name], to=1))
    x = image(2, (3, SIDE, SIDE))
    due, found = (onnxcam.Explainer(p)(x) for p in (detector(form), proto))
    assert onnxcam.inspect(proto).scores[0].boxes.background == 0
    np.testing.assert_array_equal(found.found["index"], due.found["index"])
    np.testing.assert_allclose(found.scores, due.scores)


def test_no_feature_map_is_behind_the_model():
    found = onnxcam.inspect(detector("FCOS"))
    assert not [x.name for x in found.layers if x.name.startswith("cam/")]


def test_a_softmax_over_classes_that_stand_before_the_anchors_is_not_read():
    """RetinaFace: channels are (class, anchor), and (N, 2·A, h, w) is reshaped to (N, 2, A·h, w) for the Softmax."""
    lines, outputs, weights = [], [], {"W": np.ones((4, 3, 1, 1)), "V": np.ones((8, 3, 1, 1))}
    for s in STEPS:
        g = SIDE // s
        lines.append(
            f"""pool{s} = AveragePool<kernel_shape = [{s}, {s}], strides = [{s}, {s}]>(x) map{s} = Relu(pool{s})
            k{s} = Conv(map{s}, W) r{s} = Reshape(k{s}, two{s}) p{s} = Softmax<axis = 1>(r{s})
            cls{s} = Reshape(p{s}, back{s}) box{s} = Conv(map{s}, V)"""
        )
        outputs += [f"float[N, 4, {g}, {g}] cls{s}", f"float[N, 8, {g}, {g}] box{s}"]
        weights |= {f"two{s}": np.int64([0, 2, 2 * g, g]), f"back{s}": np.int64([0, 4, g, g])}
    proto = model(f"net (float[N, 3, 32, 32] x) => ({', '.join(outputs)}) {{ {' '.join(lines)} }}", **weights)
    boxes = onnxcam.inspect(proto).scores[0].boxes
    assert boxes is None or boxes.layout != "certain"
