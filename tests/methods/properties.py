"""What the mathematics of single methods promises. Each function takes the method, with its options bound."""

import dataclasses

import numpy as np
import pytest

from onnxcam.evidence import Evidence
from onnxcam.methods import METHODS

from .fakes import evidence


@dataclasses.dataclass
class PooledNet:
    """conv → ReLU → global average pooling → linear, of two samples; the gradient comes from finite differences."""

    positive: bool = False
    bias: float = 0.7

    def __post_init__(self):
        generator = np.random.default_rng(5)
        images, kernels = generator.normal(size=(2, 3, 6, 5)), generator.normal(size=(4, 3, 3, 3))
        windows = np.lib.stride_tricks.sliding_window_view(images, (3, 3), axis=(2, 3))
        self.A = np.maximum(np.einsum("nchwij,kcij->nkhw", windows, kernels), 0)
        self.head = generator.normal(size=(2, 4))
        if self.positive:
            self.head = abs(self.head)

    def scores(self, A):
        return np.sum(self.head * A.mean(axis=(2, 3)), axis=1) + self.bias

    def evidence(self):
        G = np.zeros_like(self.A)
        for at in np.ndindex(self.A.shape[1:]):
            step = np.zeros_like(self.A)
            step[(slice(None), *at)] = 1e-3
            G[(slice(None), *at)] = (self.scores(self.A + step) - self.scores(self.A - step)) / 2e-3
        return Evidence(self.A, gradient=G, weights=self.head)


def mean_is_the_score(method):
    net = PooledNet()
    np.testing.assert_allclose(method(net.evidence()).mean(axis=(1, 2)) + net.bias, net.scores(net.A), rtol=1e-9)


def equals_cam(method):
    net = PooledNet()
    places = np.prod(net.A.shape[2:])
    np.testing.assert_allclose(method(net.evidence()) * places, METHODS["cam"](net.evidence()), rtol=1e-6, atol=1e-6)


def completeness(method):
    net = PooledNet()
    np.testing.assert_allclose(method(net.evidence()).sum(axis=(1, 2)) + net.bias, net.scores(net.A), rtol=1e-9)


def completeness_of_positive_weights(method):
    net = PooledNet(positive=True)
    np.testing.assert_allclose(method(net.evidence()).sum(axis=(1, 2)) + net.bias, net.scores(net.A), rtol=1e-9)


def one_alpha_behind_pooling(method):
    """Behind pooling the gradient g of a channel is one number, so that w = places · g / (2 + g · sum(A))."""
    net = PooledNet()
    places = np.prod(net.A.shape[2:])
    g, total = net.head / places, net.A.sum(axis=(2, 3))
    w = np.where(g > 0, places * g**3 / (2 * g**2 + total * g**3 + 1e-6), 0)
    np.testing.assert_allclose(method(net.evidence()), np.einsum("nk,nkhw->nhw", w, net.A), rtol=1e-6)


def equals_positive_gradcam_behind_pooling(method):
    net = PooledNet()
    w = np.maximum(net.head / np.prod(net.A.shape[2:]), 0)
    np.testing.assert_allclose(method(net.evidence()), np.einsum("nk,nkhw->nhw", w, net.A), rtol=1e-6)


def finds_the_pattern(method):
    """Channels that are multiples of one pattern: the map is the pattern, centred, as long as the multiples are."""
    pattern, multiples = np.arange(12.0).reshape(3, 4) ** 2, np.array([3.0, 0.0, 4.0])
    A = (multiples[:, None, None] * pattern)[None]
    expected = 5 * (pattern - pattern.mean())
    for sign in (1, -1):
        m = method(Evidence(sign * A, gradient=np.ones_like(A)))
        np.testing.assert_allclose(m[0], expected, atol=1e-9)


def ties_follow_the_mean(method):
    A = np.array([[[[-5.0, 4, 31, 40]], [[-30, -21, 6, 15]]]])
    np.testing.assert_allclose(method(Evidence(A)), [[[-31.8198, -19.0919, 19.0919, 31.8198]]], atol=1e-4)
    np.testing.assert_allclose(method(Evidence(-A)), [[[31.8198, 19.0919, -19.0919, -31.8198]]], atol=1e-4)


def constant_channels_mask_all(method):
    """A constant channel's mask is 0, exactly, although its value is no sum of powers of 2."""
    e = evidence()
    A = e.activation.copy()
    A[1, 2] = 0.3
    seen = []

    def rescore(mask, count, *, probability):
        seen.append(mask(1, slice(2, 3)))
        return np.zeros((len(A), count))

    m = method(dataclasses.replace(e, activation=A, rescore=rescore))
    assert not seen[0].any()
    np.testing.assert_allclose(m, A.mean(axis=1), err_msg="equal scores give equal weights")


def constant_channels_are_left_out(method):
    e = evidence()
    A = e.activation.copy()
    A[1, 2] = 0.3
    without = np.delete(A, 2, axis=1)
    m = method(dataclasses.replace(e, activation=A))
    rest = Evidence(without, size=e.size, rescore=e.rescore)
    np.testing.assert_allclose(m[1], method(rest)[1], rtol=1e-9)
    assert m.shape == (3, *e.size)


def never_looks(method):
    e = evidence()
    changed = dataclasses.replace(e, activation=-e.activation, gradient=None)
    np.testing.assert_array_equal(method(e), method(changed))
    assert method(Evidence(np.zeros((1, 1, 1))))[0, 0] == pytest.approx(0.6369616873214543)


def is_uniform(method):
    m = method(Evidence(np.zeros((2, 1, 100, 100))))
    np.testing.assert_allclose(np.quantile(m, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.02)
    assert abs(np.corrcoef(m[0].ravel(), m[1].ravel())[0, 1]) < 0.05
    assert np.any(m != method(Evidence(np.zeros((2, 1, 100, 100)), seed=7)))
