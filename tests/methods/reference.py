"""Every method as its paper or its authors' code writes it, with for-loops over Python floats."""

import itertools
import math

import numpy as np


def places(e):
    """All positions of the layer's grid."""
    return list(np.ndindex(e.activation.shape[2:]))


def values(array):
    """An array that hands out Python floats."""
    return array.astype(object)


def build(e, value):
    """The map whose value for sample n at position p is value(n, p)."""
    out = np.zeros(e.activation.shape[:1] + e.activation.shape[2:])
    for n in range(len(out)):
        for p in places(e):
            out[(n, *p)] = value(n, p)
    return out


def channel_weighted(e, weight):
    """sum_k weight(n, k) A_k."""
    A = values(e.activation)
    N, K = A.shape[:2]
    w = [[weight(n, k) for k in range(K)] for n in range(N)]
    return build(e, lambda n, p: sum(w[n][k] * A[(n, k, *p)] for k in range(K)))


def cam(e):
    return channel_weighted(e, lambda n, k: float(e.weights[n, k]))


def gradcam(e):
    G = values(e.gradient)
    return channel_weighted(e, lambda n, k: sum(G[(n, k, *p)] for p in places(e)) / len(places(e)))


def gradcam_plus_plus(e):
    A, G = values(e.activation), values(e.gradient)

    def weight(n, k):
        total, w = sum(A[(n, k, *p)] for p in places(e)), 0.0
        for p in places(e):
            g = G[(n, k, *p)]
            if g > 0:
                w += g * g**2 / (2 * g**2 + total * g**3 + 1e-6)
        return w

    return channel_weighted(e, weight)


def gradcam_plus_plus_normalised(e):
    A, G = values(e.activation), values(e.gradient)

    def weight(n, k):
        total, alphas = sum(A[(n, k, *p)] for p in places(e)), {}
        for p in places(e):
            g = G[(n, k, *p)]
            below = 2 * g**2 + total * g**3
            alphas[p] = g**2 / below if below != 0 else 0.0
        positive = [p for p in places(e) if G[(n, k, *p)] > 0]
        norm = sum(alphas[p] for p in positive)
        return sum(G[(n, k, *p)] * alphas[p] for p in positive) / (norm if norm != 0 else 1)

    return channel_weighted(e, weight)


def xgradcam(e):
    A, G = values(e.activation), values(e.gradient)

    def weight(n, k):
        total = sum(A[(n, k, *p)] for p in places(e))
        return sum(G[(n, k, *p)] * A[(n, k, *p)] / (total + 1e-7) for p in places(e))

    return channel_weighted(e, weight)


def by_place(e, term):
    """sum_k term(a, g)."""
    A, G = values(e.activation), values(e.gradient)
    return build(e, lambda n, p: sum(term(A[(n, k, *p)], G[(n, k, *p)]) for k in range(A.shape[1])))


def hirescam(e):
    return by_place(e, lambda a, g: a * g)


def gradcam_elementwise(e):
    return by_place(e, lambda a, g: max(a * g, 0.0))


def layercam(e):
    return by_place(e, lambda a, g: a * max(g, 0.0))


def first_component(x):
    """pytorch-grad-cam's projection, by a singular value decomposition of the whole matrix, with our sign."""
    out = []
    for sample in x.astype(np.float64):
        X = sample.reshape(len(sample), -1).T
        X = X - X.mean(axis=0)
        m = X @ np.linalg.svd(X, full_matrices=True)[2][0]
        out.append((-m if abs(m.min()) > abs(m.max()) else m).reshape(sample.shape[1:]))
    return np.array(out)


def eigencam(e):
    return first_component(e.activation)


def eigengradcam(e):
    return first_component(e.activation.astype(np.float64) * e.gradient)


def random(e):
    N, *grid = (e.activation.shape[0], *e.activation.shape[2:])
    out = np.zeros((N, *grid))
    for n in range(N):
        generator = np.random.default_rng(e.seed + n)
        for p in places(e):
            out[(n, *p)] = generator.random()
    return out


def reads(n_in, n_out, i, align_corners):
    """The (input, weight) pairs that output i of a linear interpolation reads."""
    if align_corners:
        at = i * (n_in - 1) / (n_out - 1) if n_out > 1 else 0.0
    else:
        at = min(max((i + 0.5) * n_in / n_out - 0.5, 0.0), n_in - 1.0)
    near = math.floor(at)
    return [(near, 1 - (at - near)), (min(near + 1, n_in - 1), at - near)]


def resize(grid, size, align_corners):
    """Multilinear interpolation of one map, output by output."""
    out = np.zeros(size)
    for p in np.ndindex(*size):
        axes = [reads(n, m, i, align_corners) for n, m, i in zip(grid.shape, size, p, strict=True)]
        for corner in itertools.product(*axes):
            out[p] += math.prod(w for _, w in corner) * grid[tuple(i for i, _ in corner)]
    return out


def scorecam_softmax(e):
    """pytorch-grad-cam: corners aligned, 1e-8 below the line, softmax over the channels' scores."""
    N, K = e.activation.shape[:2]
    s = np.zeros((N, K))
    for n, k in np.ndindex(N, K):
        U = resize(e.activation[n, k].astype(np.float64), e.size, align_corners=True)
        s[n, k] = e.rescore.score(n, (U - U.min()) / (U.max() - U.min() + 1e-8))
    w = [[math.exp(s[n, k]) / sum(math.exp(t) for t in s[n]) for k in range(K)] for n in range(N)]
    return channel_weighted(e, lambda n, k: w[n][k])


def scorecam_probability(e):
    """The authors' code: half-pixel, no epsilon, constant maps skipped, probabilities, the sum at input size."""
    N, K = e.activation.shape[:2]
    out = np.zeros((N, *e.size))
    for n, k in np.ndindex(N, K):
        U = resize(e.activation[n, k].astype(np.float64), e.size, align_corners=False)
        if np.ptp(e.activation[n, k]) == 0:
            continue
        out[n] += e.rescore.score(n, (U - U.min()) / (U.max() - U.min()), probability=True) * U
    return out
