import numpy as np
import pytest

from onnxcam.errors import InputError
from onnxcam.methods.array import interpolation, minmax, softmax, upsample

from . import reference

# torch.nn.functional.interpolate of an identity matrix, mode="linear".
TORCH = {
    (2, 5, False): [[1, 0], [0.9, 0.1], [0.5, 0.5], [0.1, 0.9], [0, 1]],
    (5, 3, False): [[2 / 3, 1 / 3, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1 / 3, 2 / 3]],
    (4, 1, False): [[0, 0.5, 0.5, 0]],
    (1, 3, False): [[1], [1], [1]],
    (2, 5, True): [[1, 0], [0.75, 0.25], [0.5, 0.5], [0.25, 0.75], [0, 1]],
    (5, 3, True): [[1, 0, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 1]],
    (4, 1, True): [[1, 0, 0, 0]],
    (1, 3, True): [[1], [1], [1]],
}


@pytest.mark.parametrize("form", TORCH, ids=str)
def test_interpolation_is_that_of_torch(form):
    matrix = interpolation(*form)
    assert matrix.dtype == np.float32
    np.testing.assert_allclose(matrix, TORCH[form], atol=1e-6)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(
    ("grid", "size"), [((4,), (9,)), ((3, 5), (7, 4)), ((2, 3, 4), (5, 1, 3)), ((7, 7), (224, 224)), ((1, 1), (3, 2))]
)
def test_upsample_reads_as_the_loop_does(grid, size, align_corners):
    maps = np.random.default_rng(0).normal(size=(2, *grid))
    resized = upsample(maps, size, align_corners)
    assert resized.shape == (2, *size)
    for m, expected in zip(resized, maps, strict=True):
        np.testing.assert_allclose(m, reference.resize(expected, size, align_corners), atol=1e-6)


def test_upsample_refuses_another_number_of_axes():
    with pytest.raises(InputError, match=r"1 spatial axes cannot be resized to \(3, 3\)"):
        upsample(np.zeros((2, 5)), (3, 3))


def test_softmax_of_large_scores():
    np.testing.assert_allclose(softmax(np.array([[1e4, 1e4 - np.log(3)]])), [[0.75, 0.25]])


def test_minmax_of_a_constant_is_zero():
    x = np.array([[0.1, 0.1], [2.0, 4.0]])
    np.testing.assert_array_equal(minmax(x, axis=(1,)), [[0, 0], [0, 1]])
    np.testing.assert_allclose(minmax(x, axis=(1,), eps=2.0), [[0, 0], [0, 0.5]])
