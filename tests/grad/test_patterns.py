"""Chains of small nodes that the walk takes for one operator, against central differences."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import parser
from onnx.reference import ReferenceEvaluator

import onnxcam
from tests.grad.harness import vjp_of

X = np.linspace(-3.7, 3.9, 24).reshape(2, 3, 4)
PATTERNS = {
    "swish": "s = Sigmoid(x) y = Mul(x, s)",
    "swish, other order": "s = Sigmoid(x) y = Mul(s, x)",
    "hard swish": "s = HardSigmoid<alpha = 0.16666667, beta = 0.5>(x) y = Mul(x, s)",
    "gate read twice": "s = Sigmoid(x) t = Mul(x, s) y = Add(t, s)",
    "gate of another tensor": "e = Exp(x) s = Sigmoid(e) y = Mul(x, s)",
    "hard sigmoid of another slope": "s = HardSigmoid<alpha = 0.25, beta = 0.5>(x) y = Mul(x, s)",
}


def pattern(text: str, dtype: str) -> onnx.ModelProto:
    return parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 17]> g ({dtype}[2, 3, 4] x) => ({dtype}[2, 3, 4] y) {{ {text} }}'
    )


@pytest.mark.parametrize("text", PATTERNS.values(), ids=PATTERNS)
def test_gradient(text: str) -> None:
    rng = np.random.default_rng(0)
    u, v = rng.normal(size=X.shape), rng.normal(size=X.shape)
    reference = ReferenceEvaluator(pattern(text, "double"))
    ends = [reference.run(None, {"x": X + s * 1e-5 * v})[0] for s in (1, -1)]
    found = vjp_of(pattern(text, "float"), {"x": X}, u, ["x"])["x"]
    assert (found * v).sum() == pytest.approx(((ends[0] - ends[1]) * u).sum() / 2e-5, rel=1e-4)


def test_a_gate_that_is_asked_for_stays() -> None:
    extended = onnxcam.vjp(pattern(PATTERNS["swish"], "float"), of="y", wrt=["s"])
    session = ort.InferenceSession(extended.SerializeToString(), providers=["CPUExecutionProvider"])
    x = X.astype(np.float32)
    found = session.run(["grad/s"], {"x": x, "seed/y": np.ones_like(x)})[0]
    np.testing.assert_array_equal(found, x)
