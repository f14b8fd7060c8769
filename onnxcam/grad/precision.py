"""Half precision: gradients that neither vanish nor depend on kernels that a runtime lacks.

The gradient of a mean over an image is a thousandth of a thousandth, and float16 ends at 6e-8. So in float16 the seed
is multiplied by a power of two, and every gradient divided by it in the end. Or all of the tail is computed in float32,
from values that are cast where they are read: always so for bfloat16, for which runtimes have next to no kernels.
"""

from dataclasses import dataclass
from typing import Literal

from onnx import TensorProto

from onnxcam.errors import unknown
from onnxcam.grad.forward import Forward
from onnxcam.grad.tensor import HALF, Value, op

Arithmetic = Literal["auto", "float32"]
_CHOICES: tuple[Arithmetic, ...] = ("auto", "float32")
_SCALE = 2.0**8  # leaves room for gradients of 255


@dataclass(frozen=True)
class Precision:
    """The types that are read as float32, and what the seed is multiplied by."""

    wide: frozenset[int]
    scale: float

    @classmethod
    def of(cls, forward: Forward, arithmetic: Arithmetic = "auto") -> "Precision":
        """For a graph: "float32" computes all gradients in that, "auto" those of float16 in float16."""
        if arithmetic not in _CHOICES:
            raise unknown("arithmetic", arithmetic, _CHOICES)
        wide = HALF if arithmetic == "float32" else HALF - {TensorProto.FLOAT16}
        present = {forward.type(name).dtype for name in forward.names()}
        return cls(wide & present, _SCALE if TensorProto.FLOAT16 in present - wide else 1.0)

    def enter(self, seed: Value) -> Value:
        """The seed as the walk takes it."""
        seed = op.Cast(seed, to=TensorProto.FLOAT) if seed.dtype in self.wide else seed
        return seed if self.scale == 1 else seed * self.scale

    def leave(self, gradient: Value, dtype: int) -> Value:
        """A gradient that the walk made, under the type of its tensor."""
        gradient = gradient if self.scale == 1 else gradient * (1 / self.scale)
        return gradient if gradient.dtype == dtype else op.Cast(gradient, to=dtype)
