"""Maps are scaled, resized and fused as pytorch-grad-cam does it."""

import cv2
import numpy as np
import pytest

from onnxcam import heatmap


def random_maps(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def scaled(m):
    """pytorch-grad-cam's scale_cam_image, of one map."""
    m = np.maximum(m, 0)
    m = m - m.min()
    return m / (1e-7 + m.max())


@pytest.mark.parametrize("space", [(9,), (5, 7), (3, 4, 5)])
def test_each_sample_is_scaled_on_its_own(space):
    raw = random_maps(3, *space) * np.array([1, 100, 1e-5]).reshape(3, *[1] * len(space))
    maps = heatmap.relu_minmax(raw)
    assert maps.dtype == np.float32
    for got, m in zip(maps, raw.astype(np.float32), strict=True):
        np.testing.assert_allclose(got, scaled(m), rtol=1e-6, atol=1e-7)
    assert maps[1].min() == 0
    assert maps[1].max() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("level", [-3, 0, 5])
def test_a_flat_map_is_zero(level):
    np.testing.assert_array_equal(heatmap.relu_minmax(np.full((1, 7, 7), level, np.float32)), 0)


@pytest.mark.parametrize("size", [(224, 224), (300, 451), (7, 9), (3, 20), (1, 1)])
@pytest.mark.parametrize("low", [(7, 7), (1, 5), (14, 9)])
def test_resizing_two_axes_is_opencvs(low, size):
    maps = random_maps(2, *low)
    got = heatmap.resize(maps, size)
    assert got.shape == (2, *size)
    for m, big in zip(maps, got, strict=True):
        np.testing.assert_allclose(big, cv2.resize(m, size[::-1], interpolation=cv2.INTER_LINEAR), atol=2e-6)


def test_resizing_one_axis_reads_between_pixel_centres():
    m = random_maps(1, 6)
    at = (np.arange(17) + 0.5) * 6 / 17 - 0.5
    np.testing.assert_allclose(heatmap.resize(m, (17,))[0], np.interp(at, np.arange(6), m[0]), atol=1e-6)


def test_resizing_three_axes_is_one_axis_after_the_other():
    m = random_maps(1, 3, 4, 5)
    expected = m[0].astype(float)
    for axis, n_out in enumerate((6, 7, 9)):
        n_in = expected.shape[axis]
        at = (np.arange(n_out) + 0.5) * n_in / n_out - 0.5
        expected = np.apply_along_axis(lambda row, at=at: np.interp(at, np.arange(len(row)), row), axis, expected)
    np.testing.assert_allclose(heatmap.resize(m, (6, 7, 9))[0], expected, atol=1e-6)


def test_layers_are_fused_by_the_mean_scaled_again():
    maps = [heatmap.resize(heatmap.relu_minmax(random_maps(2, n, n)), (20, 30)) for n in (4, 7)]
    for got, a, b in zip(heatmap.fuse(maps), *maps, strict=True):
        np.testing.assert_allclose(got, scaled((a + b) / 2), atol=1e-6)
