"""Gather and its relatives."""

import numpy as np

from onnxcam.errors import UnsupportedGradient
from onnxcam.grad.registry import STOP, vjp
from onnxcam.grad.shapes import each_size, reshape, reshape_like, scatter, static
from onnxcam.grad.tensor import Value, op


def gather(g: Value, y: Value, x: Value, indices: Value, *, axis: int) -> Value:
    """G added up where it was taken from."""
    axis %= x.rank
    size = static(x, [axis])
    if indices.constant is None or size is None:
        raise UnsupportedGradient(
            f"its indices '{indices.name}' are computed at run time, and the gradient needs constants"
        )
    taken = [int(i) % size[0] for i in np.asarray(indices.constant).reshape(-1)]
    rank = np.asarray(indices.constant).ndim
    if rank == 0:
        g = op.Unsqueeze(g, axes=[axis])
    elif rank > 1:
        lead, tail = range(axis), range(axis + rank, g.rank)
        g = reshape(g, [*each_size(g, lead), len(taken), *each_size(g, tail)])
    return reshape_like(scatter(g, taken, size[0], axis), x)


vjp("Gather", gather, STOP)
