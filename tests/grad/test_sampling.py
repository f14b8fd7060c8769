"""Gradients of sampling where differences cannot tell: ties, rounding by onnxruntime, computed sizes, refusals."""

import numpy as np
import pytest

import onnxcam
from onnxcam.errors import UnsupportedGradient
from tests.builders import model, run

RNG = np.random.default_rng(3)


def gradient(proto, u: np.ndarray, feeds: dict[str, np.ndarray]) -> np.ndarray:
    extended = onnxcam.vjp(proto, of="y", wrt=["x"])
    return run(extended, {**feeds, "seed/y": u}, ["grad/x"])["grad/x"]


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


# ----- ties -----
@pytest.mark.parametrize(
    ("pool", "regions"),
    [
        ("MaxPool<kernel_shape = [1, 4]>(x)", None),
        ("GlobalMaxPool(x)", None),
        ("MaxRoiPool<pooled_shape = [1, 1]>(x, r)", [[0, 0, 0, 3, 0]]),
    ],
)
@pytest.mark.parametrize("size", ["1, 4", "H, W"])
def test_the_first_of_equal_maxima_gets_all(pool, regions, size):
    given = {} if regions is None else {"r": np.float32(regions)}
    proto = model(f"net (float[1, 1, {size}] x) => (float[1, 1, 1, 1] y) {{ y = {pool} }}", **given)
    found = gradient(proto, np.float32([[[[7]]]]), {"x": np.float32([[[[1, 5, 5, 5]]]])})
    np.testing.assert_array_equal(found, [[[[0, 7, 0, 0]]]])


def test_an_empty_bin_gives_nothing():
    regions = np.float32([[0, 9, 9, 12, 12]])  # outside the image: every bin is empty
    proto = model(
        "net (float[1, 1, 4, 4] x) => (float[1, 1, 2, 2] y) { y = MaxRoiPool<pooled_shape = [2, 2]>(x, r) }", r=regions
    )
    assert not gradient(proto, np.ones((1, 1, 2, 2), np.float32), {"x": normal(1, 1, 4, 4)}).any()


# ----- the neighbour that onnxruntime takes -----
@pytest.mark.parametrize("transformation", ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"])
@pytest.mark.parametrize("mode", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
def test_a_nearest_resize_gives_back_where_onnxruntime_took(transformation, mode):
    """⟨u, f(x)⟩ = ⟨fᵀ(u), x⟩: f runs in onnxruntime, at sizes whose ratios round either way."""
    attributes = f'mode = "nearest", nearest_mode = "{mode}", coordinate_transformation_mode = "{transformation}"'
    proto = model(
        f"net (float[1, 1, H, W] x, int64[4] z) => (float[1, 1, P, Q] y) {{ y = Resize<{attributes}>(x, , , z) }}"
    )
    extended = onnxcam.vjp(proto, of="y", wrt=["x"])
    for _ in range(20):
        (h, w), (p, q) = RNG.integers(1, 60, 2), RNG.integers(1, 90, 2)
        x, u = np.arange(1, h * w + 1, dtype=np.float32).reshape(1, 1, h, w), np.ones((1, 1, p, q), np.float32)
        u *= RNG.integers(1, 9, u.shape)
        found = run(extended, {"x": x, "z": np.int64([1, 1, p, q]), "seed/y": u}, ["y", "grad/x"])
        taken = np.zeros(h * w)
        np.add.at(taken, found["y"].astype(int).reshape(-1) - 1, u.reshape(-1))
        np.testing.assert_array_equal(found["grad/x"].reshape(-1), taken, err_msg=f"{h}x{w} to {p}x{q}")


# ----- sizes of another tensor -----
def test_only_axes_that_may_change_are_multiplied():
    """What exporters write to resize to another tensor's size: batch and channels stay, and cost nothing."""
    proto = model(
        """net (float[N, 3, H, W] x, float[N, 8, P, Q] like) => (float[N, 3, P, Q] y) {
            a = Shape(x) b = Shape(like)
            nc = Slice(a, zero, two) hw = Slice(b, two, four)
            z = Concat<axis = 0>(nc, hw)
            y = Resize<mode = "linear">(x, , , z)
        }""",
        zero=np.int64([0]),
        two=np.int64([2]),
        four=np.int64([4]),
    )
    extended = onnxcam.vjp(proto, of="y", wrt=["x"])
    assert sum(node.op_type == "MatMul" for node in extended.graph.node) == 2
    x, u = normal(2, 3, 5, 4), normal(2, 3, 7, 9)
    found = run(extended, {"x": x, "like": normal(2, 8, 7, 9), "seed/y": u}, ["y", "grad/x"])
    np.testing.assert_allclose((found["y"] * u).sum(), (found["grad/x"] * x).sum(), rtol=1e-4)


# ----- refused -----
def test_padding_that_onnxruntime_places_elsewhere_is_refused():
    text = 'MaxPool<kernel_shape = [3, 3], strides = [2, 2], dilations = [2, 2], auto_pad = "SAME_UPPER">(x)'
    proto = model(f"net (float[1, 2, 8, 8] x) => (float[1, 2, 4, 4] y) {{ y = {text} }}")
    with pytest.raises(UnsupportedGradient, match="auto_pad=SAME_UPPER"):
        onnxcam.vjp(proto, of="y", wrt=["x"])
