"""Gradients of a few rows: as exact as those of all, and computed on those rows only."""

import re

import numpy as np
import onnx
import pytest

import onnxcam
from tests.builders import model
from tests.grad.test_vjp import assert_numeric

RNG = np.random.default_rng(11)
TOKENS, WIDTH = 7, 4
WEIGHTS = {
    "W": RNG.normal(size=(WIDTH, WIDTH + 1)),
    "V": RNG.normal(size=(WIDTH + 1, WIDTH)),
    "b": RNG.normal(size=WIDTH + 1),
    "s": RNG.uniform(0.5, 2, size=WIDTH),
    "each": RNG.normal(size=(TOKENS, WIDTH)),
    "half": np.float32(0.5),
    "zero": np.int64(0),
    "three": np.int64(3),
    "two": np.int64([2]),
    "six": np.int64([6]),
    "four": np.int64([4]),
    "last": np.int64(-1),
    "nearby": np.int64([3, 1]),
    "second": np.int64([1]),
    "heads": np.int64([0, TOKENS, 2, 2]),
    "joined": np.int64([0, TOKENS, WIDTH]),
    "square": RNG.normal(size=(TOKENS, TOKENS)),
}
MLP = "n = LayerNormalization(x, s) h = MatMul(n, W) c = Add(h, b) r = Sigmoid(c) g = Mul(c, r) m = MatMul(g, V)"
BLOCK = f"{MLP} a = Add(x, m)"
HEADS = "q = Reshape(x, heads) t = Transpose<perm = [0, 2, 1, 3]>(q) k = Transpose<perm = [0, 2, 3, 1]>(q)"
ATTENTION = f"{HEADS} d = MatMul(t, k) w = Softmax(d) o = MatMul(w, t) u = Transpose<perm = [0, 2, 1, 3]>(o)"
DATED = "i = ReduceMean<axes = [-1]>(x) j = Sub(x, i) v = Mul(j, j) e = ReduceMean<axes = [2]>(v)"


def tokens(body: str, opset: int = 17, shape: str = f"N, {TOKENS}, {WIDTH}") -> onnx.ModelProto:
    read = set(re.findall(r"\w+", re.sub(r"<.*?>", "", body)))
    used = {name: value for name, value in WEIGHTS.items() if name in read}
    return model(f"net (float[{shape}] x) => (float y) {{ {body} }}", opset=opset, **used)


@pytest.mark.parametrize(
    ("body", "opset"),
    [
        (f"{BLOCK} y = Gather<axis = 1>(a, zero)", 17),
        (f"{BLOCK} y = Gather<axis = 1>(a, last)", 17),
        (f"{BLOCK} y = Slice(a, two, four, second)", 17),
        (f"{BLOCK} y = Gather<axis = 1>(a, nearby)", 17),
        (f"{BLOCK} p = Gather<axis = 1>(a, zero) z = Gather<axis = 1>(a, second) y = Concat<axis = 1>(z, z)", 17),
        (
            f"{BLOCK} p = Gather<axis = 1>(a, zero) f = Gather<axis = 1>(m, three) y = Mul(p, f)",
            17,
        ),
        (f"{ATTENTION} l = Reshape(u, joined) a = Add(l, x) y = Gather<axis = 1>(a, zero)", 17),
        (f"{DATED} f = Sqrt(e) l = Div(j, f) a = Add(l, each) c = Mul(a, x) y = Gather<axis = 1>(c, zero)", 11),
        ("a = Transpose<perm = [1, 0, 2]>(x) c = Mul(a, half) z = Exp(c) y = Gather(z, zero)", 17),
        ("a = Gather(x, zero) c = Gemm(a, W, b) z = Sigmoid(c) y = Gather(z, zero)", 17),
        ("a = Gather(x, zero) c = Gemm<transB = 1>(a, each, square) z = Sigmoid(c) y = Gather(z, last)", 17),
        ("a = Mul(x, each) c = Softmax<axis = 2>(a) z = Exp(c) y = Gather<axis = 1>(z, zero)", 12),
        ("a = Mul(x, each) c = LogSoftmax<axis = 1>(a) z = Exp(c) y = Gather<axis = 1>(z, zero)", 17),
        ("c = LayerNormalization<axis = 1>(x, each) z = Exp(c) y = Gather<axis = 1>(z, zero)", 17),
        ("c = ReduceMean<axes = [1], keepdims = 1>(x) z = Sub(x, c) e = Exp(z) y = Gather<axis = 1>(e, zero)", 17),
        ("c = ReduceSum<keepdims = 0>(x, two) z = Exp(c) y = Gather<axis = 1>(z, zero)", 17),
    ],
)
def test_the_gradient_of_a_few_rows_against_differences(body, opset):
    x = np.random.default_rng(2).normal(size=(2, TOKENS, WIDTH)).astype(np.float32)
    proto = tokens(body, opset)
    weights = [t.name for t in proto.graph.initializer if t.data_type == onnx.TensorProto.FLOAT]
    assert_numeric(proto, "y", ["x", *weights], {"x": x})


@pytest.mark.parametrize("end", ["Gather<axis = 1>(a, zero)", "Gather<axis = 1>(a, nearby)"])
def test_products_are_of_the_rows_that_are_read(end):
    proto = tokens(f"{BLOCK} y = {end}")
    extended = onnxcam.vjp(proto, of="y", wrt=["x"])
    typed = onnx.shape_inference.infer_shapes(extended, data_prop=True).graph
    sizes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in (*typed.value_info, *typed.output)}
    products = [n.output[0] for n in extended.graph.node[len(proto.graph.node) :] if n.op_type == "MatMul"]
    assert len(products) == 2
    assert {sizes[name][1] for name in products} == {1 if "zero" in end else 3}


@pytest.mark.parametrize(
    ("body", "opset"),
    [
        (f"{BLOCK} y = Slice(a, second, six, second)", 17),
        ("c = Softmax<axis = 1>(x) y = Gather<axis = 1>(c, zero)", 17),
        ("c = Softmax<axis = 1>(x) y = Gather<axis = 1>(c, zero)", 12),  # of all that follows the axis
        ("c = LayerNormalization<axis = 1>(x, each) y = Gather<axis = 1>(c, zero)", 17),
        ("c = Softmax<axis = 1>(x) y = Gather<axis = 2>(c, zero)", 12),
    ],
)
def test_rows_that_are_many_or_mixed_are_computed_whole(body, opset):
    proto = tokens(body, opset)
    extended = onnxcam.vjp(proto, of="y", wrt=["x"])
    assert not [n for n in extended.graph.node[len(proto.graph.node) :] if n.op_type == "Slice"]
