"""BatchNormalization where differences of its first output do not tell: running statistics, mixed types, refusals."""

import numpy as np
import pytest

import onnxcam
from onnxcam.errors import UnsupportedGradient
from tests.builders import model, run

RNG = np.random.default_rng(4)
X, U = RNG.normal(size=(4, 3, 5)).astype(np.float32), np.float32([1, -2, 3])
STATISTICS = {"s": np.float64([1, 2, 3]), "b": np.zeros(3), "mean": np.float64([0.1, 0.2, 0.3]), "var": np.ones(3)}
TRAINING = "y, m, v = BatchNormalization<training_mode = 1, momentum = 0.75>(x, s, b, mean, var)"
CENTRED = X - X.mean((0, 2), keepdims=True)


@pytest.mark.parametrize(
    ("of", "wrt", "due"),
    [
        ("m", "x", np.broadcast_to(U[:, None] * 0.25 / 20, X.shape)),
        ("v", "x", U[:, None] * CENTRED * 2 * 0.25 / 20),
        ("m", "mean", U * 0.75),
        ("v", "var", U * 0.75),
        ("m", "var", 0 * U),
        ("y", "mean", 0 * U),
    ],
)
@pytest.mark.parametrize("shape", ["4, 3, 5", "N, 3, L"])
@pytest.mark.parametrize("opset", [14, 15])
def test_running_statistics_carry_on_a_share(of, wrt, due, shape, opset):
    text = f"net (float[{shape}] x) => (float[{shape}] y, float[3] m, float[3] v) {{ {TRAINING} }}"
    proto = onnxcam.vjp(model(text, opset=opset, **STATISTICS), of=of, wrt=[wrt])
    seed = X if of == "y" else U
    found = run(proto, {"x": X, f"seed/{of}": seed}, [f"grad/{wrt}"])[f"grad/{wrt}"]
    np.testing.assert_allclose(found, due, rtol=1e-5, atol=1e-6)


def test_statistics_of_another_type_get_gradients_of_their_own():
    text = """net (float16[4, 3, 5] x, float[3] s, float[3] b, float[3] mean, float[3] var) => (float16[4, 3, 5] y)
              { y = BatchNormalization(x, s, b, mean, var) }"""
    wrt = ["x", "s", "b", "mean", "var"]
    proto = onnxcam.vjp(model(text, opset=15), of="y", wrt=wrt)
    feeds = {"x": X.astype(np.float16), **{n: v.astype(np.float32) for n, v in STATISTICS.items()}}
    seed = RNG.normal(size=X.shape).astype(np.float16)
    found = run(proto, {**feeds, "seed/y": seed}, [f"grad/{n}" for n in wrt])
    assert [found[f"grad/{n}"].dtype for n in wrt] == [np.float16] + [np.float32] * 4
    g, xhat = seed.astype(float), X - STATISTICS["mean"][:, None]
    due = {
        "x": g * STATISTICS["s"][:, None],
        "s": (g * xhat).sum((0, 2)),
        "b": g.sum((0, 2)),
        "mean": -g.sum((0, 2)) * STATISTICS["s"],
        "var": -(g * xhat).sum((0, 2)) * STATISTICS["s"] / 2,
    }
    for name, values in due.items():
        np.testing.assert_allclose(found[f"grad/{name}"], values, rtol=1e-2, atol=3e-2)


@pytest.mark.parametrize(
    ("text", "opset", "said"),
    [
        ("y, m, v, p, q = BatchNormalization(x, s, b, mean, var)", 9, "in training mode"),
        ("y = BatchNormalization<spatial = 0>(x, s, b, mean, var)", 7, "per pixel"),
    ],
)
def test_what_nothing_computes_is_refused(text, opset, said):
    proto = model(f"net (float[4, 3, 5] x) => (float[4, 3, 5] y) {{ {text} }}", opset=opset, **STATISTICS)
    with pytest.raises(UnsupportedGradient, match=said):
        onnxcam.vjp(proto, of="y", wrt=["x"])
