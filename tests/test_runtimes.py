"""What other runtimes are known to do wrong stays out of the graph; scripts/check_runtimes.py is where it was seen."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import onnxcam
from tests.builders import model

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


def test_numbers_of_classes_survive_bfloat16(tail):
    arrays = [numpy_helper.to_array(tensor) for tensor in tail.initializer]
    numbers = [a for a in arrays if a.dtype == np.float32 and a.size == 1000]
    assert numbers
    for array in numbers:
        np.testing.assert_array_equal((array.view(np.uint32) & 0xFFFF0000).view(np.float32), array)


def test_a_square_weight_is_not_used_as_it_is_and_transposed(tail):
    negated = [node.input[0] for node in tail.node if node.op_type == "Neg"]
    alphas = [a.f for node in tail.node if node.op_type == "Gemm" for a in node.attribute if a.name == "alpha"]
    transposed = next(node.output[0] for node in tail.node if node.op_type == "Transpose" and "square" in node.input)
    assert transposed in negated
    assert -1 in alphas
