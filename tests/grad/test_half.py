"""Every operator in float16: the types of what a rule writes fit together, and the gradient is that of float32."""

import numpy as np
import pytest
from onnx import TensorProto

import onnxcam
from tests.builders import run
from tests.grad.cases import CASES
from tests.grad.harness import Case

# Cast is told the type; the scales of these are float32 in a float16 model too, or cannot be float16 at all.
OTHERWISE = {"Cast", "Resize", "Upsample"}
ROWS = {case.op: case for case in reversed(CASES) if case.op not in OTHERWISE}


@pytest.mark.parametrize("case", [pytest.param(case, id=str(case)) for case in ROWS.values()])
def test_gradient(case: Case) -> None:
    """The first row of each operator, at its newest opset; inputs and seed are numbers that float16 has."""
    exact = {n: _half(v) for n, v in case.feeds(np.random.default_rng(0)).items()}
    wanted = [n for n, v in exact.items() if v.dtype == np.float16 and (case.wrt is None or int(n[1:]) in case.wrt)]
    found = {}
    for dtype, kind in ((np.float32, TensorProto.FLOAT), (np.float16, TensorProto.FLOAT16)):
        proto = case.model(case.opsets()[-1], kind, False)
        feeds = {n: v.astype(dtype) if v.dtype == np.float16 else v for n, v in exact.items()}
        shape = run(proto, feeds, ["y0"])["y0"].shape
        feeds["seed/y0"] = _half(np.random.default_rng(1).normal(size=shape)).astype(dtype)
        gradients = [f"grad/{n}" for n in wanted]
        found[dtype] = run(onnxcam.vjp(proto, of="y0", wrt=wanted), feeds, gradients)
    for name, due in found[np.float32].items():
        got = found[np.float16][name]
        assert got.dtype == np.float16
        assert np.linalg.norm(got.astype(np.float32) - due) <= 1e-2 * np.linalg.norm(due) + 1e-3


def _half(v: np.ndarray) -> np.ndarray:
    return v.astype(np.float16) if v.dtype.kind == "f" else v
