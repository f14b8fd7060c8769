"""The first principal component of a feature map, for the Eigen-CAM family. Arrays only: a graph has no eigh."""

from onnxcam.evidence import Array


def principal_map(x: Array) -> Array:
    """Project each position of (batch, channel, *space) on the first principal axis of the channels: (batch, *space).

    With X the positions × channels matrix, centred over positions, the map is X v for its first right singular
    vector v, as in pytorch-grad-cam (the Eigen-CAM paper does not centre). X v also is s u, for the first left one,
    so the smaller of the two Gram matrices will do. Squaring X costs digits, which float64 pays for.
    The sign of v is arbitrary. The map is flipped where |min| > |max|, so that its strongest place is positive; where
    they are equal, it is positive where the channels' mean is high.
    What is not finite counts as 0.
    """
    xp = x.__array_namespace__()
    batch, channels, *grid = x.shape
    x64 = xp.astype(xp.where(xp.isfinite(x), x, 0), xp.float64)
    maps = [_project(xp.reshape(x64[n, ...], (channels, -1)).T) for n in range(batch)]
    return xp.astype(xp.reshape(xp.stack(maps), (batch, *grid)), x.dtype)


def _project(X: Array) -> Array:
    """Project the rows of X, centred, on their first principal axis, with the sign that `principal_map` promises."""
    xp = X.__array_namespace__()
    X = X - xp.mean(X, axis=0, keepdims=True)
    places, channels = X.shape
    if places <= channels:
        squares, vectors = xp.linalg.eigh(xp.matmul(X, X.T))
        m = vectors[:, -1] * xp.sqrt(xp.maximum(squares[-1], 0))
    else:
        _, vectors = xp.linalg.eigh(xp.matmul(X.T, X))
        m = xp.matmul(X, vectors[:, -1])
    m = xp.where(xp.sum(m * xp.mean(X, axis=1)) < 0, -m, m)
    return xp.where(-xp.min(m) > xp.max(m) * (1 + 1e-6), -m, m)
