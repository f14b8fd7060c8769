"""What other runtimes are known to do wrong stays out of the graph; scripts/check_runtimes.py is where it was seen."""

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxcam
from onnxcam.inspection import Boxes, Score
from onnxcam.targets import Box, Character, Class, Region, Step
from tests.builders import model, run
from tests.targeted import asked, plain

CLASSIFIER = """g (float[N, 3, 4, 4] image) => (float[N, 1000] logits) {
    map = Relu(image)
    mean = ReduceMean<axes = [2, 3], keepdims = 0>(map)
    hidden = MatMul(mean, square)
    more = Gemm<transB = 1>(hidden, other)
    logits = MatMul(more, head)
}"""


@pytest.fixture(scope="module")
def tail() -> onnx.GraphProto:
    """Nodes and constants that `convert` adds to a classifier with a thousand classes and square weights."""
    rng = np.random.default_rng(0)
    weights = {"square": rng.normal(size=(3, 3)), "other": rng.normal(size=(3, 3)), "head": rng.normal(size=(3, 1000))}
    original = model(CLASSIFIER, **weights)
    graph = onnxcam.convert(original, layers="map", emit=["heatmap"]).graph
    nodes, constants = graph.node[len(original.graph.node) :], graph.initializer[len(original.graph.initializer) :]
    return helper.make_graph(nodes, "tail", [], [], constants)


def test_every_hard_sigmoid_has_a_beta_that_openvino_believes(tail):
    betas = [a.f for node in tail.node if node.op_type == "HardSigmoid" for a in node.attribute if a.name == "beta"]
    assert betas
    assert all(betas)


@pytest.mark.parametrize(("target", "read"), [(None, 1), (7, 1), ("top3", 1), ("p:7", 1), ("7 - 8", 2)])
def test_webgpu_leaves_nothing_to_wasm_but_the_numbers_that_come_as_int64(target, read):
    weights = {"square": np.ones((3, 3)), "other": np.ones((3, 3)), "head": np.ones((3, 1000))}
    proto = onnxcam.convert(model(CLASSIFIER, **weights), layers="map", target=target, emit=["heatmap"])
    left = [f.operator for f in onnxcam.check(proto, "web").findings]
    assert left == ["Cast"] * read


def test_a_square_weight_is_not_used_as_it_is_and_transposed(tail):
    negated = [node.input[0] for node in tail.node if node.op_type == "Neg"]
    alphas = [a.f for node in tail.node if node.op_type == "Gemm" for a in node.attribute if a.name == "alpha"]
    transposed = next(node.output[0] for node in tail.node if node.op_type == "Transpose" and "square" in node.input)
    assert transposed in negated
    assert -1 in alphas


# ----- a runtime that computes in bfloat16 of its own accord, as OpenVINO does: there 285.0 is 284 -----
def rounded(x):
    return np.asarray(x).astype(ml_dtypes.bfloat16).astype(np.float32)


def in_bfloat16(proto: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All outputs of a model where every float that a node reads or makes has been rounded."""
    types = {v.name: v.type.tensor_type.elem_type for v in onnx.shape_inference.infer_shapes(proto).graph.value_info}
    types |= {v.name: v.type.tensor_type.elem_type for v in proto.graph.output}
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for tensor in copy.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(rounded(numpy_helper.to_array(tensor)), tensor.name))
    nodes = []
    for node in copy.graph.node:
        made = list(node.output)
        node.output[:] = [f"{name}/exact" if types[name] == TensorProto.FLOAT else name for name in made]
        nodes.append(node)
        for exact, name in zip(node.output, made, strict=True):
            if exact != name:
                nodes.append(helper.make_node("Cast", [exact], [f"{name}/short"], to=TensorProto.BFLOAT16))
                nodes.append(helper.make_node("Cast", [f"{name}/short"], [name], to=TensorProto.FLOAT))
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # two casts are not none
    session = onnxruntime.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])
    given = {k: rounded(v) if v.dtype == np.float32 else v for k, v in feeds.items()}
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, given), strict=True))


TARGETS = (None, 285, 997, "top3", "p:285", "p:top", "odds:285", "finer:285", "285 - 997", "p:285 - p:997")


@pytest.mark.parametrize("target", TARGETS)
def test_numbers_of_classes_survive_bfloat16(target):
    rng = np.random.default_rng(4)
    head = rounded(rng.normal(size=(6, 1000)) / 8)
    head[:, [285, 997, 511]] *= [[8], [8], [8], [-8], [4], [2]]
    text = """g (float[N, 6, 2, 2] image) => (float[N, 1000] logits) {
        map = Relu(image)
        mean = ReduceMean<axes = [2, 3], keepdims = 0>(map)
        logits = MatMul(mean, head)
    }"""
    proto = onnxcam.convert(model(text, head=head), layers="map", target=target, emit=["gradient", "class"])
    feeds = {"image": np.abs(rng.normal(size=(2, 6, 2, 2))).astype(np.float32)}
    exact, short = run(proto, feeds), in_bfloat16(proto, feeds)
    assert short["cam/class"].tolist() == exact["cam/class"].tolist()
    ours, theirs = (found["cam/gradient/map"].reshape(-1, 24) for found in (short, exact))
    norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    assert ((ours * theirs).sum(axis=1) > 0.95 * norms).all()  # finer's likes are other ones where scores are rounded


DETECTED = Score("y", "y", ("N", 7, 900), None, "boxes", boxes=Boxes("columns", "y", "cxcywh", classes=3))
BOXES = np.zeros((1, 7, 900), np.float32)
BOXES[0, :4] = 8
BOXES[0, 5, 601] = BOXES[0, 6, 600] = 0.5
MANY = np.zeros((1, 700, 1000), np.float32)
MANY[0, :, 0] = 0.5
MANY[0, [300, 302, 303, 305], [285, 285, 284, 285]] = 1
DENSE = np.zeros((1, 2, 40, 60), np.float32)
DENSE[0, 1, 33, 59] = DENSE[0, 1, 34, 0] = 2


@pytest.mark.parametrize(
    ("goal", "y", "score", "place"),
    [
        (Box(), BOXES, DETECTED, (6, 600)),
        (Box(cls=1), BOXES, DETECTED, (5, 601)),
        (Box(index=601), BOXES, DETECTED, (5, 601)),
        (Step(301, 285), MANY, plain(MANY, axis=2), (301, 285)),
        (Step(303), MANY, plain(MANY, axis=2), (303, 284)),
        (Character(2), MANY, plain(MANY, axis=2), (303, 284)),
        (Region(1, "peak"), DENSE, plain(DENSE), (1, 33, 59)),
        (Class(285), MANY[:, 301], plain(MANY[:, 301]), (285,)),
    ],
)
def test_numbers_of_boxes_and_places_survive_bfloat16(goal, y, score, place):
    found = asked(goal, {"y": y}, score, by=in_bfloat16)
    assert np.argwhere(found["seed"][0]).tolist() == [list(place)]
