"""The few array operations that methods share, in the array API, for any number of spatial axes.

Arrays are (batch, channel, *space). Nothing here loops over the batch or writes in place, so that values of a graph
can take the place of arrays.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from onnxcam.errors import InputError
from onnxcam.evidence import Array


def space(x: Array) -> tuple[int, ...]:
    """List the spatial axes of (batch, channel, *space)."""
    return tuple(range(2, len(x.shape)))


def relu(x: Array) -> Array:
    """Take max(x, 0)."""
    return x.__array_namespace__().maximum(x, 0)


def ratio(a: Array, b: Array) -> Array:
    """Divide, with 0 where b is 0."""
    xp = b.__array_namespace__()
    some = b != 0
    return xp.where(some, a / xp.where(some, b, 1), 0)


def per_channel(weights: Array, like: Array) -> Array:
    """Make (batch, channel) broadcast over the space of `like`: (batch, channel, 1, ...)."""
    for _ in space(like):
        weights = weights.__array_namespace__().expand_dims(weights, axis=-1)
    return weights


def weighted_sum(weights: Array, A: Array) -> Array:
    """Compute sum_k w_k A_k: (batch, *space), for weights that broadcast against A, (batch, channel, *space)."""
    xp = A.__array_namespace__()
    channels, *places = A.shape[1:]
    if any(d != 1 for d in weights.shape[2:]) or not all(isinstance(d, int) for d in (channels, *places)):
        return xp.sum(weights * A, axis=1)
    rows = xp.matmul(xp.reshape(weights, (-1, 1, channels)), xp.reshape(A, (-1, channels, math.prod(places))))
    return xp.reshape(rows, (-1, *places))


def softmax(x: Array, axis: int = -1) -> Array:
    """Compute exp(x) / sum(exp(x)) along an axis, safe for large x."""
    xp = x.__array_namespace__()
    e = xp.exp(x - xp.max(x, axis=axis, keepdims=True))
    return e / xp.sum(e, axis=axis, keepdims=True)


def minmax(x: Array, axis: tuple[int, ...], eps: float = 0.0) -> Array:
    """Compute (x - min) / (max - min + eps) over the axes, and 0 where that is 0 / 0: what is constant becomes 0."""
    xp = x.__array_namespace__()
    low = x - xp.min(x, axis=axis, keepdims=True)
    high = xp.max(low, axis=axis, keepdims=True)
    return low / (high + eps) if eps else ratio(low, high)


@lru_cache(maxsize=64)
def interpolation(n_in: int, n_out: int, align_corners: bool = False) -> NDArray[np.float32]:
    """Make the matrix of linear interpolation along one axis: float32 (n_out, n_in), rows that sum to 1.

    Without `align_corners`, pixels are areas and output i reads the input at (i + 1/2) n_in / n_out - 1/2, held at
    the edges (`cv2.INTER_LINEAR`, torch's default). With it, pixels are points and the first and last ones coincide.
    """
    if align_corners:
        at = np.arange(n_out) * ((n_in - 1) / max(n_out - 1, 1))
    else:
        at = np.clip((np.arange(n_out) + 0.5) * (n_in / n_out) - 0.5, 0, n_in - 1)
    near = np.minimum(np.floor(at), max(n_in - 2, 0)).astype(np.int64)
    far = np.minimum(near + 1, n_in - 1)
    matrix = np.zeros((n_out, n_in))
    rows = np.arange(n_out)
    np.add.at(matrix, (rows, near), 1 - (at - near))
    np.add.at(matrix, (rows, far), at - near)
    result = matrix.astype(np.float32)
    result.flags.writeable = False  # it is shared
    return result


def upsample(maps: Array, size: Sequence[int], align_corners: bool = False) -> Array:
    """Resize (n, *space) to (n, *size) linearly, one axis after the other; see `interpolation`.

    Raises InputError where the numbers of spatial axes differ.
    """
    rank = len(maps.shape)
    if rank != 1 + len(size):
        raise InputError(f"A map with {rank - 1} spatial axes cannot be resized to {tuple(size)}.")
    xp = maps.__array_namespace__()
    for axis, n_out in enumerate(size, start=1):
        matrix = interpolation(maps.shape[axis], n_out, align_corners)
        if axis == rank - 2:
            maps = xp.matmul(xp.asarray(matrix), maps)
            continue
        swapped = [rank - 1 if i == axis else axis if i == rank - 1 else i for i in range(rank)]
        maps = xp.permute_dims(xp.matmul(xp.permute_dims(maps, swapped), xp.asarray(matrix.T)), swapped)
    return maps
