"""Quantised tensors: straight through inside the range, nothing outside, integer kernels left as they are."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper, parser
from onnx.reference import ReferenceEvaluator

import onnxcam
from onnxcam.errors import UnsupportedGradient
from tests.builders import assert_extends, model, run

MS = "com.microsoft"
RANGES = {"uint8": (0, 255), "int8": (-128, 127), "uint16": (0, 65535), "int16": (-32768, 32767)}


def grads(proto: onnx.ModelProto, feeds: dict, u: np.ndarray, wrt: list[str], of: str = "y") -> list[np.ndarray]:
    extended = onnxcam.vjp(proto, of=of, wrt=wrt)
    assert_extends(extended, proto)
    names = [f"grad/{n}" for n in wrt]
    found = run(extended, {**feeds, f"seed/{of}": u}, names)
    return [found[n] for n in names]


def linear(x: np.ndarray, kind: str) -> tuple[np.float32, np.ndarray]:
    """Scale and zero point that spread a float tensor over most of an 8-bit type."""
    low, high = min(x.min(), 0.0), max(x.max(), 0.0)
    scale = np.float32((high - low) / 240)
    return scale, np.array(round(RANGES[kind][0] + 8 - low / scale), kind)


# ----- quantise and dequantise -----
@pytest.mark.parametrize(("kind", "zero"), [*((k, z) for k in RANGES for z in ("low", "middle")), ("uint8", "none")])
def test_straight_through_inside_the_range_and_nothing_outside(kind, zero):
    lowest, highest = RANGES[kind]
    z = {"low": lowest, "middle": (lowest + highest + 1) // 2, "none": 0}[zero]
    s = np.float32(0.03)
    low, high = (lowest - z) * s, (highest - z) * s
    edges = np.float32([low - s, low - 0.51 * s, low - 0.49 * s, low, low + s, high, high + 0.49 * s, high + 0.51 * s])
    x = np.concatenate([edges, np.float32([0, high * 0.5, high * 3, low * 3 - 1])])
    zp = "" if zero == "none" else ", z"
    proto = model(
        f"g (float[12] x) => (float[12] y) {{ q = QuantizeLinear(x, s{zp}) y = DequantizeLinear(q, s{zp}) }}",
        opset=21, ir=10, s=s, **({} if zero == "none" else {"z": np.array(z, kind)}),
    )  # fmt: skip
    u = np.arange(1, 13, dtype=np.float32)
    steps = np.rint(x / s) + z
    expected = np.where((steps >= lowest) & (steps <= highest), u, 0)
    np.testing.assert_array_equal(grads(proto, {"x": x}, u, ["x"])[0], expected)
    assert 0 < np.count_nonzero(expected) < 12


def test_sixteen_bits_before_onnx_had_them():
    text = f"""g (float[4] x) => (float[4] y) {{
      q = {MS}.QuantizeLinear(x, s, z) y = {MS}.DequantizeLinear(q, s, z) }}"""
    proto = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17, "{MS}" : 1]> {text}')
    _fill(proto, {"s": np.float32(0.001), "z": np.array(100, np.int16)})
    x = np.float32([-40, -32, 32, 33])
    np.testing.assert_array_equal(grads(proto, {"x": x}, np.ones(4, np.float32), ["x"])[0], [0, 1, 1, 0])


def test_a_range_for_each_slice_along_an_axis():
    x = np.float32(np.random.default_rng(1).normal(size=(4, 3, 5)) * 4)
    s, z = np.float32([0.01, 0.02, 0.05]), np.int8([-128, 0, 30])
    proto = model(
        """g (float[N, 3, 5] x) => (float[N, 3, 5] y) {
          q = QuantizeLinear<axis = 1>(x, s, z) y = DequantizeLinear<axis = 1>(q, s, z) }""",
        s=s, z=z,
    )  # fmt: skip
    steps = np.rint(x / s[:, None]) + z[:, None].astype(int)
    expected = ((steps >= -128) & (steps <= 127)).astype(np.float32)
    assert 0 < expected.mean() < 1
    np.testing.assert_array_equal(grads(proto, {"x": x}, np.ones_like(x), ["x"])[0], expected)


def test_a_range_for_each_block():
    x = np.float32(np.random.default_rng(1).normal(size=(2, 6)) * 4)
    s = np.float32([[0.01, 0.02, 0.05], [0.005, 0.001, 0.04]])
    z = np.zeros((2, 3), np.int8)
    proto = model(
        """g (float[2, 6] x) => (float[2, 6] y) {
          q = QuantizeLinear<axis = 1, block_size = 2>(x, s, z)
          y = DequantizeLinear<axis = 1, block_size = 2>(q, s, z) }""",
        opset=21, ir=10, s=s, z=z,
    )  # fmt: skip
    steps = np.rint(x / np.repeat(s, 2, axis=1))
    expected = ((steps >= -128) & (steps <= 127)).astype(np.float32)
    assert 0 < expected.mean() < 1
    np.testing.assert_array_equal(grads(proto, {"x": x}, np.ones_like(x), ["x"])[0], expected)


def test_scales_that_are_computed():
    """Quantised with a scale from the data, as some exporters write it out: what is saturated has no gradient."""
    proto = model(
        """g (float[8] x) => (float[8] y) {
          a = Abs(x) m = ReduceMean<keepdims = 0>(a) s = Mul(m, c)
          q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }""",
        c=np.array(0.01), z=np.array(0, np.int8),
    )  # fmt: skip
    x = np.float32([-9, -1, -0.5, 0, 0.5, 1, 2, 3])
    s = np.abs(x).mean(dtype=np.float32) * np.float32(0.01)
    expected = ((np.rint(x / s) >= -128) & (np.rint(x / s) <= 127)).astype(np.float32)
    assert 0 < expected.mean() < 1
    np.testing.assert_array_equal(grads(proto, {"x": x}, np.ones_like(x), ["x"])[0], expected)


def test_the_scale_of_a_dequantiser_has_a_true_gradient():
    q, z, u = np.int8([[1, -7, 3], [5, 6, 90]]), np.int8([3, -4]), np.float32([[1, 2, 3], [4, 5, 6]])
    proto = model("g (int8[2, 3] q, float[2] s) => (float[2, 3] y) { y = DequantizeLinear<axis = 0>(q, s, z) }", z=z)
    expected = ((q.astype(int) - z[:, None].astype(int)) * u).sum(1)
    np.testing.assert_array_equal(grads(proto, {"q": q, "s": np.float32([0.1, 0.2])}, u, ["s"])[0], expected)
    proto = model("g (uint8[2, 3] q, float s) => (float[2, 3] y) { y = DequantizeLinear(q, s) }")
    found = grads(proto, {"q": np.uint8(np.abs(q)), "s": np.array(0.1, np.float32)}, u, ["s"])[0]
    assert found == (np.abs(q.astype(int)) * u).sum()


# ----- what is read -----
TWO_LAYERS = """g (float[N, 3, 6, 5] x) => (float[N, 2, 6, 5] y) {
  qx = QuantizeLinear(x, sx, zx) dx = DequantizeLinear(qx, sx, zx)
  dw = DequantizeLinear(W, sw, zw)
  c = Conv<pads = [1, 1, 1, 1]>(dx, dw)
  ACTIVATION
  qa = QuantizeLinear(a, sa, za) da = DequantizeLinear(qa, sa, za)
  dv = DequantizeLinear<axis = 0>(V, sv, zv)
  e = Conv(da, dv)
  qy = QuantizeLinear(e, sy, zy) y = DequantizeLinear(qy, sy, zy)
}"""


def two_layers(activation: str, zero: int) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    rng = np.random.default_rng(3)
    weights = {
        "W": rng.integers(-90, 90, (4, 3, 3, 3)).astype(np.int8), "sw": np.float32(0.01), "zw": np.array(3, np.int8),
        "V": rng.integers(-90, 90, (2, 4, 1, 1)).astype(np.int8), "sv": np.float32([0.01, 0.02]),
        "zv": np.zeros(2, np.int8), "sx": np.float32(0.02), "zx": np.array(120, np.uint8),
        "sa": np.float32(0.03), "za": np.array(zero, np.uint8), "sy": np.float32(0.05), "zy": np.array(128, np.uint8),
    }  # fmt: skip
    return model(TWO_LAYERS.replace("ACTIVATION", activation), **weights), weights


@pytest.mark.parametrize(
    ("activation", "zero"),
    [("a = Identity(c)", 0), ("a = Relu(c)", 0), ("a = Clip(c, zero, six)", 0), ("a = LeakyRelu<alpha = 0.1>(c)", 40)],
)
def test_the_gradient_through_two_convolutions_is_that_of_the_dequantised_tensors(activation, zero):
    """dx = Wᵀ(mask ∘ Vᵀu): the mask is read from `da`, and `y`, which is differentiated, is never saturated."""
    proto, w = two_layers(activation, zero)
    if "Clip" in activation:
        proto.graph.initializer.extend(numpy_helper.from_array(np.float32(v), n) for n, v in (("zero", 0), ("six", 6)))
    x = np.float32(np.random.default_rng(5).normal(size=(2, 3, 6, 5)))
    u = np.float32(np.random.default_rng(6).normal(size=(2, 2, 6, 5)))
    watched = onnx.ModelProto()
    watched.CopyFrom(proto)
    watched.graph.output.append(helper.make_tensor_value_info("da", TensorProto.FLOAT, None))
    da = run(watched, {"x": x}, ["da"])["da"]
    mask = (da > (0 - zero) * w["sa"]) & (da < (255 - zero) * w["sa"]) & ((da < 6) | ("Clip" not in activation))
    slope = np.where(da <= 0, np.float32(0.1), 1) if "Leaky" in activation else 1
    W = (w["W"].astype(np.float32) - 3) * w["sw"]
    V = w["V"].astype(np.float32)[:, :, 0, 0] * w["sv"][:, None]
    inner = np.einsum("nkhw,kc->nchw", u, V) * mask * slope
    padded = np.pad(inner, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    expected = np.einsum("nkhwij,kcij->nchw", windows, W[:, :, ::-1, ::-1])
    expected *= (np.rint(x / w["sx"]) + 120 >= 0) & (np.rint(x / w["sx"]) + 120 <= 255)
    found = grads(proto, {"x": x}, u, ["x"])[0]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert 0.05 < (mask * (slope == 1)).mean() < 0.95


def kernels(proto: onnx.ModelProto, tmp_path: Path) -> Counter:
    """The operators that are left when onnxruntime has optimised a model."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Counter(n.op_type for n in onnx.load(tmp_path / "optimized.onnx").graph.node)


@pytest.mark.parametrize("activation", ["a = Identity(c)", "a = Relu(c)"])
def test_the_convolutions_still_run_in_integers(activation, tmp_path):
    proto, _ = two_layers(activation, 0)
    plain = kernels(proto, tmp_path)
    assert plain["QLinearConv"] == 2
    extended = kernels(onnxcam.vjp(proto, of="y", wrt=["x"]), tmp_path)
    assert extended["QLinearConv"] == 2
    assert extended["Conv"] == 2  # the two of the gradient, and none of the model's own


def test_a_score_at_the_bound_of_its_range_keeps_its_gradient():
    """Calibration puts the largest score ever seen at the very bound: there it is not cut off."""
    proto = model(
        """g (float[1, 3] x) => (float[1, 2] y) {
          p = MatMul(x, W) q = QuantizeLinear(p, s, z) r = Reshape(q, shape) y = DequantizeLinear(r, s, z) }""",
        W=np.array([[1.0, 2], [3, 4], [5, 6]]), s=np.float32(0.1), z=np.array(0, np.uint8), shape=np.int64([1, 2]),
    )  # fmt: skip
    x = np.float32([[1, 2, 50]])
    np.testing.assert_array_equal(run(proto, {"x": x})["y"], [[25.5, 25.5]])
    np.testing.assert_array_equal(grads(proto, {"x": x}, np.float32([[0, 1]]), ["x"])[0], [[2, 4, 6]])


# ----- operators of integers -----
@dataclass(frozen=True)
class Row:
    """An operator of integers, and the float one it is: `q` from `qx` (and `qz`), `y` from `x` (and `z`)."""

    integer: str
    real: str
    x: tuple[int, ...] = (2, 3, 6, 5)
    z: tuple[int, ...] | None = None
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    kind: str = "uint8"
    opset: int = 17
    tolerance: float = 0.02

    def __str__(self) -> str:
        return f"{self.integer.split('(')[0].split('= ')[1]}{self.x}"


RNG = np.random.default_rng(0)
W = RNG.integers(-100, 100, (4, 3, 3, 3)).astype(np.int8)
M = RNG.integers(-100, 100, (5, 4)).astype(np.int8)
AXIS = {"sw": np.float32([0.01, 0.02, 0.015, 0.005]), "zw": np.zeros(4, np.int8)}
ONE = {"sw": np.float32(0.01), "zw": np.array(2, np.int8)}
TO = "sx, zx, sy, zy"
CONV = "<pads = [1, 0, 1, 1], strides = [2, 1]>"
ROWS = [
    Row(f"q = QLinearConv{CONV}(qx, sx, zx, W, sw, zw, sy, zy)", f"y = Conv{CONV}(x, Wf)", weights={"W": W, **AXIS}),
    Row(f"q = QLinearConv{CONV}(qx, sx, zx, W, sw, zw, sy, zy, B)", f"y = Conv{CONV}(x, Wf)", opset=10,
        weights={"W": W, **AXIS, "B": np.int32([10, 200, -90, 0])}),
    Row(f"q = com.microsoft.QLinearConv<channels_last = 1>(qx, sx, zx, W, sw, zw, {TO[8:]})",
        "f = Transpose<perm = [0, 3, 1, 2]>(x) c = Conv(f, Wf) y = Transpose<perm = [0, 2, 3, 1]>(c)",
        (2, 6, 5, 3), weights={"W": W, **ONE}),
    Row("q = QLinearMatMul(qx, sx, zx, W, sw, zw, sy, zy)", "y = MatMul(x, Wf)", (2, 3, 5), weights={"W": M, **ONE}),
    Row("q = QLinearMatMul(qx, sx, zx, W, sw, zw, sy, zy)", "y = MatMul(x, Wf)", (3, 5),
        weights={"W": M, "sw": AXIS["sw"], "zw": np.int8([1, 2, 3, 4])}, kind="int8"),
    Row("q = QLinearMatMul(qx, sx, zx, qz, sz, zz, sy, zy)", "y = MatMul(x, z)", (2, 3, 5), (2, 5, 4)),
    Row("q = com.microsoft.QGemm<transB = 1, alpha = 0.5>(qx, sx, zx, W, sw, zw, B, sy, zy)",
        "y = Gemm<transB = 1, alpha = 0.5>(x, Wf)", (3, 4), weights={"W": M, **ONE, "B": np.zeros(5, np.int32)}),
    Row("q = com.microsoft.QGemm<transB = 1>(qx, sx, zx, W, sw, zw, B, sy, zy)", "y = Gemm<transB = 1>(x, Wf)", (3, 4),
        weights={"W": M, "sw": np.float32([0.01, 0.02, 0.015, 0.005, 0.03]), "zw": np.zeros(5, np.int8),
                 "B": np.zeros(5, np.int32)}),
    Row("q = com.microsoft.QGemm(qx, sx, zx, W, sw, zw, B, sy, zy)", "y = Gemm(x, Wf)", (3, 5),
        weights={"W": M, **AXIS, "B": np.zeros(4, np.int32)}),
    *(Row(f"q = com.microsoft.QLinear{o}(qx, sx, zx, qz, sz, zz, sy, zy)", f"y = {o}(x, z)", (2, 3, 4), z)
      for o in ("Add", "Mul") for z in ((2, 3, 4), (3, 1))),
    Row("q = com.microsoft.QLinearConcat<axis = 1>(sy, zy, qx, sx, zx, qz, sz, zz)", "y = Concat<axis = 1>(x, z)",
        (2, 3, 4), (2, 5, 4)),
    Row(f"q = com.microsoft.QLinearAveragePool<kernel_shape = [2, 3], pads = [1, 1, 0, 1]>(qx, {TO})",
        "y = AveragePool<kernel_shape = [2, 3], pads = [1, 1, 0, 1]>(x)"),
    Row(f"q = com.microsoft.QLinearAveragePool<kernel_shape = [2, 2], channels_last = 1>(qx, {TO})",
        "f = Transpose<perm = [0, 3, 1, 2]>(x) c = AveragePool<kernel_shape = [2, 2]>(f) "
        "y = Transpose<perm = [0, 2, 3, 1]>(c)", (2, 6, 5, 3)),
    Row(f"q = com.microsoft.QLinearGlobalAveragePool(qx, {TO})", "y = GlobalAveragePool(x)"),
    Row(f"q = com.microsoft.QLinearGlobalAveragePool<channels_last = 1>(qx, {TO})",
        "y = ReduceMean<axes = [1, 2]>(x)"),
    Row(f"q = com.microsoft.QLinearLeakyRelu<alpha = 0.2>(qx, {TO})", "y = LeakyRelu<alpha = 0.2>(x)"),
    Row(f"q = com.microsoft.QLinearSigmoid(qx, {TO})", "y = Sigmoid(x)"),
    Row(f"q = com.microsoft.QLinearSoftmax<axis = -1, opset = 17>(qx, {TO})", "y = Softmax(x)", (4, 3)),
    Row("q = com.microsoft.QLinearWhere(T, qx, sx, zx, qz, sz, zz, sy, zy)", "y = Where(T, x, z)", (2, 4), (2, 4),
        {"T": np.array([[True, False, True, False]])}),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_operators_of_integers_have_the_gradient_of_the_float_one(row):
    rng = np.random.default_rng(11)
    feeds = {n: np.float32(rng.normal(size=s)) for n, s in (("x", row.x), ("z", row.z)) if s}
    weights = dict(row.weights)
    exact = {}
    for name, value in feeds.items():
        weights[f"s{name}"], weights[f"z{name}"] = linear(value, row.kind)
        steps = np.rint(value / weights[f"s{name}"])
        exact[name] = steps.astype(np.float64) * weights[f"s{name}"]
    real = _real(row, weights)
    reference = ReferenceEvaluator(real)
    due = reference.run(None, exact)[0]
    weights["sy"], weights["zy"] = linear(due, row.kind)
    proto = _quantised(row, weights)
    u = np.float32(rng.normal(size=due.shape))
    found = grads(proto, feeds, u, list(feeds))
    np.testing.assert_allclose(run(proto, feeds)["y"], due, atol=1.5 * weights["sy"] + 1e-6)
    for name, gradient in zip(feeds, found, strict=True):
        for _ in range(3):
            v = rng.normal(size=feeds[name].shape)
            ends = [reference.run(None, {**exact, name: exact[name] + e * v})[0] for e in (1e-5, -1e-5)]
            expected = ((ends[0] - ends[1]) * u).sum() / 2e-5
            size = np.abs(gradient * v).sum() + 1e-3
            assert abs((gradient * v).sum() - expected) <= row.tolerance * size


@pytest.mark.parametrize(
    ("integer", "real"),
    [
        ("MaxPool<kernel_shape = [2, 2], strides = [2, 1]>(X)",) * 2,
        ("Transpose<perm = [0, 2, 3, 1]>(X)",) * 2,
        ("Flatten(X)",) * 2,
        ("Slice(X, from, to, axes)",) * 2,
        ("Concat<axis = 1>(X, X)",) * 2,
        ("Pad(X, pads, zx)", "Pad(X, pads)"),
        ('Resize<mode = "nearest">(X, , scales)',) * 2,
        ("Gather<axis = 1>(X, which)",) * 2,
    ],
)
def test_integers_that_are_moved_about(integer, real):
    """q = quantise(x), moved, then dequantised: the gradient moves back what came out."""
    more = {"from": np.int64([1]), "to": np.int64([4]), "axes": np.int64([2]), "which": np.int64([2, 0, 2]),
            "pads": np.int64([0, 0, 1, 0, 0, 0, 0, 2]), "scales": np.float32([1, 1, 2, 2])}  # fmt: skip
    x = np.float32(np.random.default_rng(0).permutation(90).reshape(1, 3, 6, 5) * 0.02 - 0.9)
    weights = {"sx": np.float32(0.01), "zx": np.array(120, np.uint8)}
    text = f"q = {integer.replace('X', 'qx')} y = DequantizeLinear(q, sx, zx)"
    declared = "g (float[1, 3, 6, 5] x) => (float y)"
    proto = model(f"{declared} {{ qx = QuantizeLinear(x, sx, zx) {text} }}", **weights, **more)
    plain = model(f"{declared} {{ y = {real.replace('X', 'x')} }}", **more)
    for m in (proto, plain):
        m.graph.output[0].type.tensor_type.ClearField("shape")
    due = run(plain, {"x": x})["y"]
    np.testing.assert_allclose(run(proto, {"x": x})["y"], due, atol=1e-6)
    u = np.float32(np.random.default_rng(1).normal(size=due.shape))
    found, expected = (grads(m, {"x": x}, u, ["x"])[0] for m in (proto, plain))
    assert expected.any()
    np.testing.assert_array_equal(found, expected)


def test_an_operator_on_integers_that_is_not_understood_is_named():
    text = """g (float[2, 3] x) => (float[2, 3] y) {
      q = QuantizeLinear(x, s, z) m = Max(q, k) y = DequantizeLinear(m, s, z) }"""
    proto = model(text, s=np.float32(0.1), z=np.array(0, np.int8), k=np.array([3], np.int8))
    with pytest.raises(UnsupportedGradient, match="Max 'm'"):
        onnxcam.vjp(proto, of="y", wrt=["x"])


def test_dequantised_by_hand_and_between_other_scales():
    """Cast, minus the zero point, times the scale; and integers dequantised with another scale than their own."""
    text = """g (float[2, 3] x) => (float[2, 3] y, float[2, 3] w) {
      q = QuantizeLinear(x, s, z) c = Cast<to = 1>(q) d = Sub(c, zf) y = Mul(d, s) w = DequantizeLinear(q, t, z) }"""
    proto = model(text, s=np.float32(0.5), z=np.array(3, np.int8), zf=np.float32(3), t=np.float32(0.25))
    x, u = np.float32([[1, -2, 500], [0, 3, -900]]), np.float32([[1, 2, 3], [4, 5, 6]])
    inside = np.float32([[1, 1, 0], [1, 1, 0]])
    np.testing.assert_array_equal(grads(proto, {"x": x}, u, ["x"])[0], u * inside)
    np.testing.assert_array_equal(grads(proto, {"x": x}, u, ["x"], of="w")[0], u * inside / 2)


def test_quantised_dynamically():
    """DynamicQuantizeLinear fits its range to the data: nothing is ever saturated, and the scale counts as given."""
    text = """g (float[2, 4] x) => (float[2, 3] y) {
      q, s, z = DynamicQuantizeLinear(x) i = MatMulInteger(q, W, z, wz) c = Cast<to = 1>(i) t = Mul(s, ws)
      y = Mul(c, t) }"""
    W = np.uint8([[1, 250, 3], [100, 5, 6], [7, 180, 9], [130, 11, 12]])
    proto = model(text, W=W, wz=np.array(128, np.uint8), ws=np.float32(0.02))
    x, u = np.float32([[1, -2, 3, -4], [0.5, 1, -1, 2]]), np.float32([[1, 2, 3], [4, 5, 6]])
    expected = u @ ((W.astype(np.float32) - 128) * 0.02).T
    np.testing.assert_allclose(grads(proto, {"x": x}, u, ["x"])[0], expected, rtol=1e-5)


def test_convolved_dynamically():
    text = """g (float[N, 2, 5, 4] x) => (float[N, 3, 3, 3] y) {
      q, s, z = DynamicQuantizeLinear(x) i = ConvInteger<strides = [2, 1], pads = [1, 0, 1, 1]>(q, W, z, wz)
      c = Cast<to = 1>(i) t = Mul(s, ws) y = Mul(c, t) }"""
    rng = np.random.default_rng(0)
    W = rng.integers(0, 255, (3, 2, 3, 3)).astype(np.uint8)
    proto = model(text, W=W, wz=np.array(120, np.uint8), ws=np.float32(0.02))
    real = model(
        "g (float[N, 2, 5, 4] x) => (float[N, 3, 3, 3] y) { y = Conv<strides = [2, 1], pads = [1, 0, 1, 1]>(x, W) }",
        W=(W.astype(np.float32) - 120) * np.float32(0.02),
    )
    x, u = (np.float32(rng.normal(size=s)) for s in ((2, 2, 5, 4), (2, 3, 3, 3)))
    found, expected = (grads(m, {"x": x}, u, ["x"])[0] for m in (proto, real))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_product_with_activations_quantised_on_the_fly():
    text = f"g (float[2, 4] x, float[3] b) => (float[2, 3] y) {{ y = {MS}.DynamicQuantizeMatMul(x, W, ws, wz, b) }}"
    W = np.uint8([[1, 250, 3], [100, 5, 6], [7, 180, 9], [130, 11, 12]])
    proto = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17, "{MS}" : 1]> {text}')
    _fill(proto, {"W": W, "ws": np.float32([0.02, 0.01, 0.03]), "wz": np.uint8([128, 100, 3])})
    x, u = np.float32([[1, -2, 3, -4], [0.5, 1, -1, 2]]), np.float32([[1, 2, 3], [4, 5, 6]])
    expected = u @ ((W.astype(np.float32) - [128, 100, 3]) * [0.02, 0.01, 0.03]).T
    found = grads(proto, {"x": x, "b": np.float32([1, 2, 3])}, u, ["x", "b"])
    np.testing.assert_allclose(found[0], expected, rtol=1e-5)
    np.testing.assert_array_equal(found[1], u.sum(0))


def test_attention_on_integers():
    """QAttention is Attention between dequantised tensors."""
    rng = np.random.default_rng(4)
    x, w, b = (np.float32(rng.normal(size=s)) for s in ((2, 3, 8), (8, 24), (24,)))
    (sx, zx), (sw, zw) = linear(x, "uint8"), linear(w, "int8")
    W = np.int8(np.rint(w / sw) + zw.astype(int))
    head = f'''<ir_version: 8, opset_import: ["" : 17, "{MS}" : 1]>
      g (float[2, 3, 8] x, float[24] b) => (float[2, 3, 8] y)'''
    proto = parser.parse_model(f"""{head} {{
      qx = QuantizeLinear(x, sx, zx)
      y = {MS}.QAttention<num_heads = 2>(qx, W, b, sx, sw, , zx, zw) }}""")
    real = parser.parse_model(f"{head} {{ y = {MS}.Attention<num_heads = 2>(x, w, b) }}")
    _fill(proto, {"W": W, "sx": sx, "zx": zx, "sw": sw, "zw": zw})
    _fill(real, {"w": (W.astype(np.float32) - zw) * sw})
    u = np.float32(rng.normal(size=x.shape))
    exact = np.float32(np.rint(x / sx)) * sx
    found = grads(proto, {"x": x, "b": b}, u, ["x", "b"])
    for g, e in zip(found, grads(real, {"x": exact, "b": b}, u, ["x", "b"]), strict=True):
        np.testing.assert_allclose(g, e, atol=2e-3 * np.abs(e).max())


def test_wrt_and_of_may_be_the_integers_themselves():
    """In a model of integer operators nothing else has a name: the gradient is that of the dequantised tensors."""
    text = """g (float[1, 3] x) => (float[1, 2] y) {
      qx = QuantizeLinear(x, s, z) q = QLinearMatMul(qx, s, z, W, s, wz, s, z) y = DequantizeLinear(q, s, z) }"""
    W = np.int8([[10, 2], [3, -4], [5, 6]])
    proto = model(text, s=np.float32(0.1), z=np.array(128, np.uint8), W=W, wz=np.array(0, np.int8))
    feeds, u = {"x": np.float32([[1, 2, 3]])}, np.float32([[1, 2]])
    expected = u @ (W.astype(np.float32) * np.float32(0.1)).T
    np.testing.assert_allclose(grads(proto, feeds, u, ["qx"])[0], expected, rtol=1e-6)
    np.testing.assert_allclose(grads(proto, feeds, u, ["x"], of="q")[0], expected, rtol=1e-6)


def _inputs(row: Row, kind: str) -> str:
    shapes = {"x": row.x, "z": row.z}
    return ", ".join(f"{kind}[{', '.join(map(str, s))}] {n}" for n, s in shapes.items() if s)


def _quantised(row: Row, weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    quantisers = " ".join(f"q{n} = QuantizeLinear({n}, s{n}, z{n})" for n in ("x", "z") if f"s{n}" in weights)
    text = f"g ({_inputs(row, 'float')}) => (float y) {{ {quantisers} {row.integer} y = DequantizeLinear(q, sy, zy) }}"
    proto = parser.parse_model(f'<ir_version: 8, opset_import: ["" : {row.opset}, "com.microsoft" : 1]> {text}')
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    _fill(proto, {k: v for k, v in weights.items() if k != "Wf"})
    return proto


def _real(row: Row, weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    proto = parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g ({_inputs(row, "double")}) => (double y) {{ {row.real} }}'
    )
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    if "W" in weights:
        w, s, z = (weights[n].astype(np.float64) for n in ("W", "sw", "zw"))
        axis = 0 if w.ndim == 4 or "transB" in row.real else 1
        if s.ndim:
            s, z = (v.reshape([-1 if a == axis else 1 for a in range(w.ndim)]) for v in (s, z))
        _fill(proto, {"Wf": (w - z) * s})
    _fill(proto, {k: v for k, v in weights.items() if k == "T"})
    return proto


def _fill(proto: onnx.ModelProto, weights: dict[str, np.ndarray]) -> None:
    proto.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items())
