"""Whatever a file says, or does not say, of its shapes: the gradient is the same, for a small CNN and for attention."""

from collections.abc import Callable, Mapping

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

import onnxcam
from onnxcam.errors import UnsupportedGradient
from tests.builders import model, retyped, run

RNG = np.random.default_rng(11)


def weights(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape) / np.sqrt(np.prod(shape[1:] or (1,)))


CNN = """net (float[2, 3, 9, 8] x) => (float[2, 5] y) {
  a = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(x, W1, B1)
  n = BatchNormalization(a, S, B1, M, V)
  r = Relu(n)
  d = Conv<pads = [1, 1, 1, 1], group = 4>(r, W2)
  e = Sigmoid(d)
  m = Mul(d, e)
  z = Add(m, r)
  p = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(z)
  g = GlobalAveragePool(p)
  s = Shape(g)
  batch = Gather<axis = 0>(s, zero)
  whole = Concat<axis = 0>(batch, rest)
  f = Reshape(g, whole)
  y = Gemm<transB = 1>(f, H, C)
}"""
CNN_WEIGHTS = {
    "W1": weights(4, 3, 3, 3), "B1": weights(4), "S": weights(4), "M": weights(4), "V": np.ones(4),
    "W2": weights(4, 1, 3, 3), "zero": np.int64([0]), "rest": np.int64([4]), "H": weights(5, 4), "C": weights(5),
}  # fmt: skip
ATTENTION = """net (float[2, 6, 8] x) => (float[2, 5] y) {
  n = LayerNormalization<axis = -1>(x, G, B)
  s = Shape(n)
  sizes = Slice(s, zero, two)
  apart = Concat<axis = 0>(sizes, heads)
  q0 = MatMul(n, Q) q1 = Reshape(q0, apart) q = Transpose<perm = [0, 2, 1, 3]>(q1)
  k0 = MatMul(n, K) k1 = Reshape(k0, apart) k = Transpose<perm = [0, 2, 3, 1]>(k1)
  v0 = MatMul(n, V) v1 = Reshape(v0, apart) v = Transpose<perm = [0, 2, 1, 3]>(v1)
  l0 = MatMul(q, k) l = Mul(l0, scale) p = Softmax<axis = -1>(l)
  o0 = MatMul(p, v) o1 = Transpose<perm = [0, 2, 1, 3]>(o0)
  together = Concat<axis = 0>(sizes, width)
  o2 = Reshape(o1, together) o = MatMul(o2, O)
  z = Add(x, o)
  u0 = MatMul(z, U) u1 = Div(u0, root) u2 = Erf(u1) u3 = Add(u2, one) u4 = Mul(u0, u3) u = Mul(u4, half)
  w = MatMul(u, D) r = Add(z, w)
  f = ReduceMean<axes = [1], keepdims = 0>(r)
  y = Gemm<transB = 1>(f, H, C)
}"""
ATTENTION_WEIGHTS = {
    "G": weights(8) + 1, "B": weights(8), "Q": weights(8, 8), "K": weights(8, 8), "V": weights(8, 8),
    "O": weights(8, 8), "U": weights(8, 16), "D": weights(16, 8), "H": weights(5, 8), "C": weights(5),
    "zero": np.int64([0]), "two": np.int64([2]), "heads": np.int64([2, 4]), "width": np.int64([8]),
    "scale": np.array(0.5), "root": np.array(np.sqrt(2)), "one": np.array(1.0), "half": np.array(0.5),
}  # fmt: skip
NETS = {
    "cnn": (CNN, CNN_WEIGHTS, (2, 3, 9, 8), ("r", "p"), {"r": (2, 4, 5, 4)}),
    "attention": (ATTENTION, ATTENTION_WEIGHTS, (2, 6, 8), ("n", "z"), {"n": (2, 6, 8)}),
}
FEEDS = {kind: RNG.normal(size=shape).astype(np.float32) for kind, (_, _, shape, _, _) in NETS.items()}
SEED = RNG.normal(size=(2, 5)).astype(np.float32)


def net(kind: str, dims: list[int | str | None] | None = None) -> onnx.ModelProto:
    text, constants, *_ = NETS[kind]
    proto = model(text, **constants)
    if dims is not None:
        declare(proto.graph.input[0], dims)
        declare(proto.graph.output[0], [dims[0], 5])
    return proto


def declare(value: onnx.ValueInfoProto, dims: list[int | str | None] | None) -> None:
    value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, dims))


def gradients(kind: str, proto: onnx.ModelProto, x: np.ndarray | None = None, seed: np.ndarray = SEED) -> dict:
    wrt = ["x", *NETS[kind][3]]
    given = FEEDS[kind] if x is None else x
    return run(onnxcam.vjp(proto, of="y", wrt=wrt), {"x": given, "seed/y": seed}, [f"grad/{n}" for n in wrt])


def same(found: Mapping[str, np.ndarray], due: Mapping[str, np.ndarray]) -> None:
    for name in due:
        np.testing.assert_allclose(found[name], due[name], rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("kind", NETS)
def test_the_gradient_with_all_sizes_known_is_that_of_differences(kind):
    x, v = FEEDS[kind].astype(np.float64), RNG.normal(size=FEEDS[kind].shape)
    reference = ReferenceEvaluator(retyped(net(kind), np.float64))
    step = 1e-6 if kind == "cnn" else 1e-3  # one has kinks; in the other the reference normalises in float32
    up, down = (reference.run(None, {"x": x + h * v})[0] for h in (step, -step))
    found = (gradients(kind, net(kind))["grad/x"] * v).sum()
    assert found == pytest.approx(((up - down) * SEED).sum() / (2 * step), rel=1e-4)


OPEN: dict[str, Callable[[int], list[int | str | None]]] = {
    "open batch": lambda rank: ["N"],
    "everything open": lambda rank: [f"d{i}" for i in range(rank)],
    "everything open but the channels": lambda rank: ["N", 3, "H", "W"] if rank == 4 else ["N", "T", 8],
    "nothing has a name": lambda rank: [None] * rank,
    "one name for all": lambda rank: ["d"] * rank,  # a lie where sizes differ, and runtimes do not mind
}


@pytest.mark.parametrize("declared", OPEN)
@pytest.mark.parametrize("kind", NETS)
def test_open_sizes(kind, declared):
    shape = NETS[kind][2]
    dims = OPEN[declared](len(shape))
    same(gradients(kind, net(kind, [*dims, *shape[len(dims) :]])), gradients(kind, net(kind)))


@pytest.mark.parametrize(("kind", "shape"), [("cnn", (1, 3, 14, 5)), ("cnn", (3, 3, 1, 1)), ("attention", (1, 1, 8)),
                                             ("attention", (3, 17, 8))])  # fmt: skip
def test_open_sizes_at_other_sizes(kind, shape):
    """Once open, and once with these sizes as numbers; axes of length 1 are no broadcasting."""
    x, seed = RNG.normal(size=shape).astype(np.float32), RNG.normal(size=(shape[0], 5)).astype(np.float32)
    open_ = gradients(kind, net(kind, OPEN["everything open but the channels"](len(shape))), x, seed)
    same(open_, gradients(kind, net(kind, list(shape)), x, seed))


@pytest.mark.parametrize("kind", NETS)
def test_an_empty_batch_has_an_empty_gradient(kind):
    shape = NETS[kind][2]
    x, seed = np.zeros((0, *shape[1:]), np.float32), np.zeros((0, 5), np.float32)
    found = gradients(kind, net(kind, ["N", *shape[1:]]), x, seed)
    assert found["grad/x"].shape == x.shape
    assert all(g.shape[0] == 0 for g in found.values())


# ----- what the file says of its inner tensors -----
@pytest.mark.parametrize("kind", NETS)
def test_value_info_that_is_there_changes_nothing(kind):
    same(gradients(kind, onnx.shape_inference.infer_shapes(net(kind))), gradients(kind, net(kind)))


@pytest.mark.parametrize("wrong", ["sizes", "rank", "symbols", "type"])
@pytest.mark.parametrize("open_", [False, True], ids=["numbers", "open"])
@pytest.mark.parametrize("kind", NETS)
def test_value_info_that_is_wrong_changes_nothing(kind, open_, wrong):
    """As converters leave it that cut a model; onnxruntime goes by its own inference."""
    shape = NETS[kind][2]
    proto = net(kind, OPEN["everything open but the channels"](len(shape)) if open_ else None)
    for name, dims in NETS[kind][4].items():
        lies = {"sizes": [d + 1 for d in dims], "rank": [*dims, 1], "symbols": ["q"] * len(dims), "type": [*dims]}
        dtype = TensorProto.FLOAT16 if wrong == "type" else TensorProto.FLOAT
        proto.graph.value_info.append(helper.make_tensor_value_info(name, dtype, lies[wrong]))
    found = onnxcam.vjp(proto, of="y", wrt=["x"])
    del found.graph.value_info[:]  # which onnxruntime itself may refuse
    found = run(found, {"x": FEEDS[kind], "seed/y": SEED}, ["grad/x"])
    same(found, {"grad/x": gradients(kind, net(kind))["grad/x"]})


@pytest.mark.parametrize("kind", NETS)
def test_a_wrong_shape_of_the_output_changes_nothing(kind):
    proto = net(kind)
    declare(proto.graph.output[0], ["batch", 7])
    found = onnxcam.vjp(proto, of="y", wrt=["x"])
    declare(found.graph.output[0], None)
    same(run(found, {"x": FEEDS[kind], "seed/y": SEED}), {"grad/x": gradients(kind, net(kind))["grad/x"]})


@pytest.mark.parametrize("kind", NETS)
def test_no_shape_anywhere(kind):
    """Of an input without even a rank a clear line is as good."""
    proto = net(kind)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.ClearField("shape")
    try:
        found = gradients(kind, proto)
    except UnsupportedGradient as error:
        assert "rank of tensor" in str(error)  # noqa: PT017 - one of two good answers
        assert "\n" not in str(error)  # noqa: PT017 - the same
        return
    same(found, gradients(kind, net(kind)))


# ----- scalars -----
SCALAR = """net (float[N, 3] x, float heat) => (float y) {
  h = Mul(x, heat) t = Mul(h, h) s = Exp(heat) u = Add(t, s) m = ReduceMean<keepdims = 0>(u) k = Mul(m, w) y = Sqrt(k)
}"""


@pytest.mark.parametrize("rows", [1, 4])
def test_scalars_in_between_and_at_both_ends(rows):
    x, heat, w = RNG.normal(size=(rows, 3)).astype(np.float32), np.array(0.7, np.float32), 1.3
    extended = onnxcam.vjp(model(SCALAR, w=np.array(w)), of="y", wrt=["x", "heat", "w", "m"])
    found = run(extended, {"x": x, "heat": heat, "seed/y": np.array(2, np.float32)})
    m = ((x * heat) ** 2 + np.exp(heat)).mean()
    by_m = 2 * w / (2 * np.sqrt(m * w))
    np.testing.assert_allclose(found["grad/m"], by_m, rtol=1e-5)
    np.testing.assert_allclose(found["grad/w"], 2 * m / (2 * np.sqrt(m * w)), rtol=1e-5)
    np.testing.assert_allclose(found["grad/x"], by_m * 2 * x * heat**2 / x.size, rtol=1e-5)
    np.testing.assert_allclose(found["grad/heat"], by_m * ((2 * x**2 * heat).mean() + np.exp(heat)), rtol=1e-5)
    assert [found[f"grad/{n}"].shape for n in ("m", "w", "heat")] == [(), (), ()]


# ----- nothing in it -----
@pytest.mark.parametrize("opset", [13, 17])
@pytest.mark.parametrize("dims", ["2, 3, 4", "N, M, K"])
def test_parts_without_elements(dims, opset):
    """A Split that gives one output nothing, and a Concat with it; a mean of what is left."""
    text = f"""net (float[{dims}] x) => (float[A, B] y) {{
      e, f = Split<axis = 1>(x, parts) g = Exp(e) h = Mul(f, f) c = Concat<axis = 1>(g, h, e) y = Flatten<axis = 1>(c)
    }}"""
    x, u = RNG.normal(size=(2, 3, 4)).astype(np.float32), RNG.normal(size=(2, 12)).astype(np.float32)
    proto = model(text, opset=opset, parts=np.int64([0, 3]))
    extended = onnxcam.vjp(proto, of="y", wrt=["x", "e"])
    found = run(extended, {"x": x, "seed/y": u})
    np.testing.assert_allclose(found["grad/x"], 2 * x * u.reshape(x.shape), rtol=1e-5)
    assert found["grad/e"].shape == (2, 0, 4)


@pytest.mark.parametrize("opset", [13, 17])
@pytest.mark.parametrize("dims", ["2, 3", "N, M"])
def test_flat_parts_without_elements(dims, opset):
    """The gradient of an empty tensor that was flattened is empty, and not of the length that a 0 means to Reshape."""
    text = f"""net (float[{dims}, 4] x) => (float[A, B] y) {{
      e, f = Split<axis = 1>(x, parts) g = Exp(e) k = Flatten<axis = 1>(g) h = Flatten<axis = 1>(f)
      y = Concat<axis = 1>(k, h)
    }}"""
    x, u = RNG.normal(size=(2, 3, 4)).astype(np.float32), RNG.normal(size=(2, 12)).astype(np.float32)
    extended = onnxcam.vjp(model(text, opset=opset, parts=np.int64([0, 3])), of="y", wrt=["x", "e"])
    found = run(extended, {"x": x, "seed/y": u})
    np.testing.assert_allclose(found["grad/x"], u.reshape(x.shape), rtol=1e-6)
    assert found["grad/e"].shape == (2, 0, 4)
