"""What a run of the model returns, as methods see it.

A method never meets the model: it gets arrays that are already channels first, whatever the layout of the model,
and one function, `rescore`, for the methods that have to look at the model's answer to altered inputs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from onnxcam.errors import InputError

Array: TypeAlias = Any
"""An array of any library that speaks the Python array API (numpy does); the standard defines no type for it."""


class Rescore(Protocol):
    """Scores the model's inputs again, each multiplied by masks."""

    def __call__(self, mask: Callable[[int, slice], Array], count: int, *, probability: bool = False) -> Array:
        """Score every sample under `count` masks: (N, count).

        `mask(n, k)` makes the masks of slice `k` for sample `n`: (len(k), *size), in 0..1. The caller of `mask`
        chooses the slices, so that only one batch of masks exists at a time. With `probability`, the score is what
        the softmax or sigmoid makes of it.
        """


@dataclass(frozen=True, eq=False)
class Evidence:
    """What one layer says about N inputs; the fields that a method does not use may be None.

    activation: (N, K, *space), channels first.
    gradient: d score / d activation, of the same shape.
    weights: (N, K), the row of the linear head for the explained class; for closed-form CAM.
    size: spatial size of the model's image input; for methods that mask it.
    rescore: scores masked inputs, see `Rescore`.
    seed: for methods that draw random numbers: sample n draws from seed + n.

    Raises InputError where the shapes contradict each other.
    """

    activation: Array
    gradient: Array = None
    weights: Array = None
    size: tuple[int, ...] | None = None
    rescore: Rescore | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for field in ("activation", "gradient", "weights"):
            value = getattr(self, field)
            if value is not None and not hasattr(value, "__array_namespace__"):
                raise InputError(f"Evidence: {field} is a {type(value).__name__}. Give an array, of numpy for example.")
        shape = tuple(self.activation.shape)
        if len(shape) < 3:
            raise InputError(f"Evidence: activation has shape {shape}. It must be (batch, channel, *space).")
        if self.gradient is not None:
            _same(self.gradient, shape, "gradient")
        if self.weights is not None:
            _same(self.weights, shape[:2], "weights")
        if self.seed < 0:
            raise InputError(f"Evidence: seed is {self.seed}. It must be 0 or more.")


def _same(array: Array, shape: tuple[object, ...], field: str) -> None:
    """Raise where a shape differs from the one that the activation asks for; symbolic dimensions differ from none."""
    given = tuple(array.shape)
    known = [(a, b) for a, b in zip(given, shape, strict=False) if isinstance(a, int) and isinstance(b, int)]
    if len(given) != len(shape) or any(a != b for a, b in known):
        raise InputError(f"Evidence: {field} has shape {given}. With this activation it must be {shape}.")
