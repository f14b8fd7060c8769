"""Gradients where numbers overflow, vanish or tie, and of tensors without axes or elements: values known by hand."""

import numpy as np
import pytest

import onnxcam
from tests.builders import model, run

INF, TWO = np.inf, np.int64([2])
WEIGHTS = {
    "first": np.int64([0]),
    "last": np.int64([-1]),
    "none": np.zeros(0, np.int64),
    "zero": np.array(0.0),
    "half": np.array(0.5),
    "one": np.array(1.0),
    "two": np.array(2.0),
    "three": np.array(3.0),
    "flat": np.zeros(3),
    "powers": np.array([0.0, 1.0, 2.0]),
    "ones": np.ones(3),
}


def gradient(text: str, x: np.ndarray, shape: str, opset: int = 22, seed: np.ndarray | None = None) -> np.ndarray:
    """Of the sum of y, or weighted by `seed`, to x; `shape` is that of x as the model declares it."""
    kind = f"float[{shape}]" if shape else "float"
    proto = model(f"net ({kind} x) => (float y) {{ {text} }}", opset=opset, **WEIGHTS)
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    y = run(proto, {"x": x})["y"]
    given = {"x": x, "seed/y": np.ones_like(y) if seed is None else np.float32(seed)}
    found = run(onnxcam.vjp(proto, of="y", wrt=["x"]), given, ["grad/x"])["grad/x"]
    assert found.shape == x.shape
    return found


def both(x: np.ndarray) -> list[str]:
    """The shape as numbers, and as symbols."""
    return [", ".join(map(str, x.shape)), ", ".join("ABCD"[: x.ndim])]


# ----- far out -----
FAR = np.float32([-1e30, -1e6, -1000, -100, 100, 1000, 1e6, 1e30])
NOTHING, STEP, ALL = [0.0] * 8, [0.0] * 4 + [1.0] * 4, [1.0] * 8


@pytest.mark.parametrize(
    ("text", "due"),
    [
        *((f"y = {op}(x)", STEP) for op in ("Relu", "Softplus", "Gelu", "Mish", "HardSwish", "Elu", "Celu", "Swish")),
        *((f"y = {op}(x)", NOTHING) for op in ("Sigmoid", "Tanh", "Erf", "HardSigmoid")),
        ('y = Gelu<approximate = "tanh">(x)', STEP),
        ("y = ThresholdedRelu(x)", STEP),
        ("y = LeakyRelu<alpha = 0.5>(x)", [0.5] * 4 + [1.0] * 4),
        ("y = Shrink(x)", ALL),
        ("y = Clip(x, zero)", STEP),
        ("y = ReduceLogSumExp(x)", [0.0] * 7 + [1.0]),
        ("y = LogSoftmax<axis = 0>(x)", [1.0] * 7 + [-7.0]),
        ("y = Abs(x)", [-1.0] * 4 + [1.0] * 4),
    ],
)
def test_far_out_a_gradient_is_its_limit(text, due):
    found = gradient(text, FAR, "8", opset=24 if "Swish" in text and "Hard" not in text else 22)
    np.testing.assert_allclose(found, due, atol=1e-12)


@pytest.mark.parametrize("offset", [0, 1e4, -1e4])
@pytest.mark.parametrize("opset", [11, 13])
def test_large_logits_differ_as_small_ones_do(offset, opset):
    x = np.float32([[1, 2, 4], [3, 3, 0]])
    p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    for text, due in (("Softmax<axis = 1>", p * (1 - p)), ("LogSoftmax<axis = 1>", 1 - p)):
        onehot = np.float32([[0, 0, 1], [0, 1, 0]])
        signed = np.where(onehot, due, -p * (p * onehot).sum(1, keepdims=True) if text[0] == "S" else -p)
        found = gradient(f"y = {text}(x)", x + np.float32(offset), "2, 3", opset, onehot)
        np.testing.assert_allclose(found, signed, rtol=1e-5)


def test_a_masked_logit_gets_nothing():
    x = np.float32([[1, -INF, 2], [-INF, 0, -INF]])
    found = gradient("y = Softmax(x)", x, "2, 3", seed=np.float32([[1, 2, 3], [1, 2, 3]]))
    s = 1 / (1 + np.exp(-1))
    np.testing.assert_allclose(found, [[-2 * s * (1 - s), 0, 2 * s * (1 - s)], [0, 0, 0]], rtol=1e-5, atol=1e-7)


# ----- at zero -----
@pytest.mark.parametrize(
    ("text", "x", "due"),
    [
        ("y = ReduceL2(x, last)", [[0, 0, 0], [0, 3, 4]], [[0, 0, 0], [0, 0.6, 0.8]]),
        ("y = ReduceL1(x, last)", [[0, 0, 0], [0, -3, 4]], [[0, 0, 0], [0, -1, 1]]),
        ("y = LpNormalization(x)", [[0, 0, 0], [0, 3, 4]], [[0, 0, 0], [0.2, 0.032, -0.024]]),
        ("y = LpNormalization<p = 1>(x)", [[0, 0, 0]], [[0, 0, 0]]),
        ("y = Sqrt(x)", [0, 4], [INF, 0.25]),
        ("y = Pow(x, half)", [0, 4], [INF, 0.25]),
        ("y = Pow(x, zero)", [0, 4], [0, 0]),
        ("y = Pow(x, one)", [0, -4], [1, 1]),
        ("y = Pow(x, two)", [0, -4], [0, -8]),
        ("y = Pow(x, three)", [0, -4], [0, 48]),
        ("y = Pow(x, powers)", [0, 0, 0], [0, 1, 0]),
        ("y = Pow(ones, x)", [0, 1, 2], [0, 0, 0]),
        ("y = Pow(flat, x)", [1, 2, 3], [0, 0, 0]),
        ("y = ReduceProd(x, last)", [[0, 2, 3], [0, 0, 3], [1, 2, 3]], [[6, 0, 0], [0, 0, 0], [6, 3, 2]]),
        ("y = Det(x)", [[0, 0], [0, 0]], [[0, 0], [0, 0]]),
        ("y = Det(x)", [[1, 2], [2, 4]], [[4, -2], [-2, 1]]),
        ("y = Abs(x)", [0, -0.0], [0, 0]),
        ("y = Relu(x)", [0, -0.0], [0, 0]),
        ("y = Clip(x, zero, one)", [0, 0.5, 1], [0, 1, 0]),
        ("y = LayerNormalization(x, ones)", [[2, 2, 2]], [[0, 0, 0]]),
        ("y = MeanVarianceNormalization<axes = [1]>(x)", [[2, 2, 2]], [[0, 0, 0]]),
        ("y = ReduceLogSumExp(x, last)", [[0, 0]], [[0.5, 0.5]]),
    ],
)
def test_at_zero_a_gradient_is_what_mathematics_says_or_nothing(text, x, due):
    x = np.float32(x)
    for shape in both(x):
        np.testing.assert_allclose(gradient(text, x, shape), due, rtol=1e-5, atol=1e-6)


# ----- ties -----
@pytest.mark.parametrize(
    ("text", "due"),
    [
        ("y = ReduceMax(x, last)", [[0, 0.5, 0.5], [1 / 3] * 3]),
        ("y = ReduceMin(x, last)", [[1, 0, 0], [1 / 3] * 3]),
        ("y = Max(x, ones)", [[0.5, 1, 1], [0.5] * 3]),
        ("y = Min(x, ones)", [[0.5, 0, 0], [0.5] * 3]),
    ],
)
def test_what_ties_shares_equally(text, due):
    x = np.float32([[1, 2, 2], [1, 1, 1]])
    for shape in both(x):
        np.testing.assert_allclose(gradient(text, x, shape), due, rtol=1e-6)


@pytest.mark.parametrize("largest", [0, 1])
def test_top_k_takes_the_gradient_back_to_what_it_took(largest):
    proto = model(f"net (float[N] x) => (float[M] y, int64[M] i) {{ y, i = TopK<largest = {largest}>(x, k) }}", k=TWO)
    x = np.float32([3, 3, 3, 3])
    found = run(onnxcam.vjp(proto, of="y", wrt=["x"]), {"x": x, "seed/y": np.float32([5, 7])}, ["i", "grad/x"])
    due = np.zeros(4)
    due[found["i"]] = [5, 7]
    np.testing.assert_array_equal(found["grad/x"], due)


# ----- no elements -----
@pytest.mark.parametrize(
    "text",
    [
        "y = Relu(x)", "y = Exp(x)", "y = Softmax<axis = 1>(x)", "y = LogSoftmax<axis = 1>(x)", "y = Transpose(x)",
        "y = Concat<axis = 0>(x, x)", "y = ReduceSum(x, first)", "y = ReduceMean(x, last)", "y = Mul(x, ones)",
        "t = Transpose(x) y = MatMul(t, x)", "t = Transpose(x) y = MatMul(x, t)", "y = Gemm<transB = 1>(x, x)",
        "y = LayerNormalization(x, ones)", "y = Unsqueeze(x, first)", "s = Shape(x) y = Expand(x, s)",
    ],
)  # fmt: skip
@pytest.mark.parametrize("shape", ["0, 3", "A, 3", "A, B"])
def test_no_elements_have_no_gradient(text, shape):
    assert gradient(text, np.zeros((0, 3), np.float32), shape).size == 0


# ----- no axes -----
@pytest.mark.parametrize(
    ("text", "due"),
    [
        ("y = Mul(x, two)", 2),
        ("y = Mul(x, ones)", 3),
        ("y = Pow(x, three)", 12),
        ("y = Max(x, ones)", 3),
        ("y = ReduceSum(x)", 1),
        ("y = ReduceMax(x)", 1),
        ("y = ReduceL2(x)", 1),
        ("y = Unsqueeze(x, first)", 1),
        ("s = Shape(ones) y = Expand(x, s)", 3),
        ("y = Reshape(x, last)", 1),
        ("y = Reshape(x, none)", 1),
        ("y = Relu(x)", 1),
        ("y = Identity(x)", 1),
        ("y = Softplus(x)", 1 / (1 + np.exp(-2))),
        ("y = Clip(x, zero, one)", 0),
        ("y = Where(t, x, one)", 1),
        ("a = Unsqueeze(x, first) y = Concat<axis = 0>(a, ones, a)", 2),
    ],
)
def test_a_tensor_without_axes_is_a_number(text, due):
    text = text if "Where" not in text else f"t = Greater(x, one) {text}"
    np.testing.assert_allclose(gradient(text, np.array(2, np.float32), ""), due, rtol=1e-6)
