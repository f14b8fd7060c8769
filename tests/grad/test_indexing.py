"""Gradients by indices where differences cannot tell: ties, repeats in bulk, nothing at all, float16, other domains."""

import numpy as np
import pytest
from onnx import TensorProto, helper

import onnxcam
from onnxcam.errors import ModelError, UnsupportedGradient
from tests.builders import model, retyped, run

RNG = np.random.default_rng(5)


def gradient(proto, u: np.ndarray, feeds: dict[str, np.ndarray], name: str = "x") -> np.ndarray:
    extended = onnxcam.vjp(proto, of="y", wrt=[name])
    return run(extended, {**feeds, "seed/y": u}, [f"grad/{name}"])[f"grad/{name}"]


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


# ----- ties -----
def test_equal_elements_share_what_one_unique_value_gets():
    proto = model("net (float[6] x) => (float[N] y) { y = Unique(x) }")
    found = gradient(proto, np.float32([1, 10, 100]), {"x": np.float32([3, 1, 3, 2, 3, 1])})
    np.testing.assert_allclose(found, [100 / 3, 0.5, 100 / 3, 10, 100 / 3, 0.5], rtol=1e-6)


@pytest.mark.parametrize("reduction", ["max", "min"])
def test_a_datum_and_updates_that_tie_share_equally(reduction):
    text = f'y = ScatterElements<axis = 0, reduction = "{reduction}">(x, i, u)'
    proto = model(f"net (float[3] x, int64[4] i, float[4] u) => (float[3] y) {{ {text} }}", opset=18)
    sign = 1 if reduction == "max" else -1
    feeds = {"x": sign * np.float32([2, 5, 0]), "i": np.int64([0, 0, 2, 2]), "u": sign * np.float32([2, 2, 4, 1])}
    seed = np.float32([3, 10, 100])
    np.testing.assert_allclose(gradient(proto, seed, feeds), [1, 10, 0], rtol=1e-6)
    np.testing.assert_allclose(gradient(proto, seed, feeds, "u"), [1, 1, 100, 0], rtol=1e-6)


# ----- many at one place -----
@pytest.mark.parametrize("size", [3, 1000])
@pytest.mark.parametrize("op", ["Gather<axis = 0>(x, i)", "GatherND(x, k)"])
def test_repeats_in_bulk_are_all_added(op, size):
    """200 000 rows from 3 places; ORT's ScatterND loses some when it adds with more than one thread."""
    proto = model(
        f"net (float[{size}, 2] x, int64[N] i) => (float[N, 2] y) {{ k = Unsqueeze(i, one) y = {op} }}",
        one=np.int64([1]),
    )
    i, u = RNG.integers(0, 3, 200_000), normal(200_000, 2)
    expected = np.zeros((size, 2))
    np.add.at(expected, i, u.astype(np.float64))
    np.testing.assert_allclose(gradient(proto, u, {"x": normal(size, 2), "i": i}), expected, rtol=1e-3, atol=2e-2)


# ----- nothing -----
@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("y = Gather<axis = 1>(x, i)", (2, 0)),
        ("y = Gather<axis = 0>(x, i)", (0, 3)),
        ("k = Unsqueeze(i, last) y = GatherND(x, k)", (0, 3)),
        ("k = Cast<to = 9>(i) y = Compress<axis = 1>(x, k)", (2, 0)),
        ("y = Slice(x, none, none, one)", (2, 0)),
        ("s = Shape(i) y = Slice(x, none, s, one)", (2, 0)),
        ("s = Shape(i) y = Slice(x, none, s, one, two)", (2, 0)),
    ],
)
@pytest.mark.parametrize("dims", ["2, 3", "N, M"])
def test_taking_nothing_gives_zeros(text, shape, dims):
    proto = model(
        f"net (float[{dims}] x, int64[K] i) => (float[A, B] y) {{ {text} }}",
        last=np.int64([-1]),
        none=np.int64([0]),
        one=np.int64([1]),
        two=np.int64([2]),
    )
    found = gradient(proto, np.zeros(shape, np.float32), {"x": normal(2, 3), "i": np.zeros(0, np.int64)})
    np.testing.assert_array_equal(found, np.zeros((2, 3)))


@pytest.mark.parametrize("operator", ["Sum", "Mean", "SumSquare", "L1", "L2", "Prod"])
@pytest.mark.parametrize("dims", ["0, 3", "N, 3", "N, M"])
@pytest.mark.parametrize("axes", ["axes", "a"])
def test_a_reduction_of_nothing_has_an_empty_gradient(operator, dims, axes):
    proto = model(
        f"net (float[{dims}] x, int64[1] a) => (float[B] y) {{ y = Reduce{operator}<keepdims = 0>(x, {axes}) }}",
        opset=18,
        axes=np.int64([0]),
    )
    found = gradient(proto, normal(3), {"x": normal(0, 3), "a": np.int64([0])})
    assert found.shape == (0, 3)


# ----- lengths -----
@pytest.mark.parametrize("opset", [10, 13])
def test_a_slice_of_an_open_axis_is_not_taken_to_be_as_long_as_the_axis(opset):
    """Onnx's shape inference does at opset 10: x[0:1] would pass for N rows, and its stretching would go unnoticed."""
    text = "a = Slice(x, start, end) b = Exp(a) y = Mul(x, b)"
    proto = model(
        f"net (float[N, 3] x) => (float[N, 3] y) {{ {text} }}", opset=opset, start=np.int64([0]), end=np.int64([1])
    )
    x, u = normal(4, 3), normal(4, 3)
    expected = u * np.exp(x[:1])
    expected[0] += (u * x).sum(0) * np.exp(x[0])
    np.testing.assert_allclose(gradient(proto, u, {"x": x}), expected, rtol=1e-4, atol=1e-5)


# ----- float16 -----
@pytest.mark.parametrize(
    "text",
    ["y = Gather<axis = 0>(x, i)", "k = Unsqueeze(i, axis) w = Expand(k, wide) y = GatherElements<axis = 0>(x, w)"],
)
def test_float16_is_added_up_in_float32(text):
    """ORT's kernels for scattering refuse to add float16."""
    proto = model(
        f"net (float[300, 2] x, int64[5] i) => (float[5, 2] y) {{ {text} }}",
        axis=np.int64([1]),
        wide=np.int64([5, 2]),
    )
    i, u = np.int64([7, 299, 7, 0, 7]), normal(5, 2).astype(np.float16)
    expected = np.zeros((300, 2))
    np.add.at(expected, i, u.astype(np.float64))
    found = gradient(retyped(proto, np.float16), u, {"x": normal(300, 2).astype(np.float16), "i": i})
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-3)


# ----- other domains, and refusals -----
def test_features_are_extracted_from_a_model_without_the_default_domain():
    node = helper.make_node("ArrayFeatureExtractor", ["x", "i"], ["y"], domain="ai.onnx.ml")
    proto = helper.make_model(
        helper.make_graph(
            [node],
            "net",
            [
                helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3]),
                helper.make_tensor_value_info("i", TensorProto.INT64, [1, 3]),
            ],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])],
        ),
        opset_imports=[helper.make_opsetid("ai.onnx.ml", 3)],
        ir_version=8,
    )
    u = normal(2, 3)
    found = gradient(proto, u, {"x": normal(2, 3), "i": np.int64([[2, 0, 2]])})
    np.testing.assert_allclose(found, np.stack([u[:, 1], 0 * u[:, 0], u[:, 0] + u[:, 2]], 1), rtol=1e-6)


@pytest.mark.parametrize("text", ["y = Hardmax(x)", "y = EyeLike(x)"])
def test_choices_carry_none(text):
    with pytest.raises(ModelError, match="does not depend"):
        onnxcam.vjp(model(f"net (float[2, 3] x) => (float[2, 3] y) {{ {text} }}"), of="y", wrt=["x"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("y = GatherND(x, i)", "index tuples in 'i'"),
        ('y = Pad<mode = "mirror">(x, i)', "mode 'mirror', which is not in the specification"),
    ],
)
def test_what_is_refused_is_named(text, said):
    proto = model(f"net (float[2, 3] x, int64[N] i) => (float[A, B] y) {{ {text} }}")
    with pytest.raises(UnsupportedGradient, match=said):
        onnxcam.vjp(proto, of="y", wrt=["x"])


def test_a_determinant_too_large_to_take_apart_is_refused():
    with pytest.raises(UnsupportedGradient, match="100 rows"):
        onnxcam.vjp(model("net (float[100, 100] x) => (float y) { y = Det(x) }"), of="y", wrt=["x"])
