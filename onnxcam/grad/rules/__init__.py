"""The rules, one file per family of operators; importing this package fills the registry."""

from onnxcam.grad.rules import (
    activation,
    arithmetic,
    convolution,
    indexing,
    linear,
    movement,
    normalization,
    pooling,
    reduction,
    resize,
)

__all__ = [
    "activation",
    "arithmetic",
    "convolution",
    "indexing",
    "linear",
    "movement",
    "normalization",
    "pooling",
    "reduction",
    "resize",
]
