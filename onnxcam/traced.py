"""Values of a graph behind the Python array API: what a method computes from them is written into the graph.

Only what methods use is here; a function that is missing raises InputError, so a method that needs it is refused by
name. Comparisons give masks of 0 and 1 in the type of their operands: every runtime has the arithmetic for them, and
several have no comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from onnxcam.errors import InputError
from onnxcam.grad.infer import Shape, Type
from onnxcam.grad.mask import step
from onnxcam.grad.shapes import shape_of, slice_
from onnxcam.grad.tensor import Scalar, Value, op

FLOAT, DOUBLE = int(onnx.TensorProto.FLOAT), int(onnx.TensorProto.DOUBLE)


class Traced:
    """A float tensor of the graph, as an array of the array API."""

    __hash__ = None  # type: ignore[assignment]  # == compares element by element

    def __init__(self, value: Value) -> None:
        """Wrap a value."""
        self.value = value

    @property
    def shape(self) -> Shape:
        """Dimensions: numbers, or symbols where they are known at run time only."""
        return self.value.shape

    @property
    def dtype(self) -> int:
        """Element type, an `onnx.TensorProto.DataType`."""
        return self.value.dtype

    def __array_namespace__(self, api_version: str | None = None) -> _Namespace:
        return _NAMESPACE

    def __bool__(self) -> bool:
        raise InputError("A method asks for a number that is known only when the model runs.")

    __iter__ = None

    def __getitem__(self, key: tuple[slice, ...]) -> Traced:
        """Slices with constant bounds; negative ones count from the end."""
        cut = [(a, k) for a, k in enumerate(key) if (k.start, k.stop) != (None, None)]
        starts, ends = [k.start or 0 for _, k in cut], [2**62 if k.stop is None else k.stop for _, k in cut]
        low, high = (self.value.tape.constant(v, onnx.TensorProto.INT64) for v in (starts, ends))
        return Traced(slice_(self.value, low, high, [a for a, _ in cut])) if cut else self

    def __add__(self, other: Traced | Scalar) -> Traced:
        return Traced(self.value + _bare(other))

    def __radd__(self, other: Scalar) -> Traced:
        return Traced(other + self.value)

    def __sub__(self, other: Traced | Scalar) -> Traced:
        return Traced(self.value - _bare(other))

    def __rsub__(self, other: Scalar) -> Traced:
        return Traced(other - self.value)

    def __mul__(self, other: Traced | Scalar) -> Traced:
        return Traced(self.value * _bare(other))

    def __rmul__(self, other: Scalar) -> Traced:
        return Traced(other * self.value)

    def __truediv__(self, other: Traced | Scalar) -> Traced:
        return Traced(self.value / _bare(other))

    def __rtruediv__(self, other: Scalar) -> Traced:
        return Traced(other / self.value)

    def __floordiv__(self, other: int) -> Traced:
        """Of whole numbers that are not negative, as sizes are: ONNX rounds their quotient towards zero."""
        return Traced(self.value / other)

    def __neg__(self) -> Traced:
        return Traced(-self.value)

    def __pow__(self, exponent: int) -> Traced:
        """A whole power, by products: quicker than Pow, and defined for negative bases everywhere."""
        result = self.value
        for _ in range(exponent - 1):
            result = result * self.value
        return Traced(result)

    def __gt__(self, other: Traced | Scalar) -> Traced:
        return Traced(step((self - other).value))

    def __lt__(self, other: Traced | Scalar) -> Traced:
        return Traced(step((other - self).value if isinstance(other, Traced) else other - self.value))

    def __ne__(self, other: object) -> Traced:  # type: ignore[override]  # element by element, as arrays do
        return Traced(step(op.Abs(_difference(self, other))))

    def __eq__(self, other: object) -> Traced:  # type: ignore[override]  # the same
        return 1 - (self != other)


class _Namespace:
    """The functions of the array API that a graph has."""

    float32, float64 = FLOAT, DOUBLE

    def __getattr__(self, name: str) -> Any:
        raise InputError(f"A method needs '{name}', which a graph does not have.")

    @staticmethod
    def isdtype(dtype: int, kind: str) -> bool:
        return kind == "real floating"

    @staticmethod
    def astype(x: Traced, dtype: int) -> Traced:
        return x if x.dtype == dtype else Traced(op.Cast(x.value, to=dtype))

    @staticmethod
    def sum(x: Traced, *, axis: int | tuple[int, ...], keepdims: bool = False) -> Traced:
        return Traced(op.ReduceSum(x.value, axes=_axes(x, axis), keepdims=int(keepdims)))

    @staticmethod
    def mean(x: Traced, *, axis: int | tuple[int, ...], keepdims: bool = False) -> Traced:
        axes = _axes(x, axis)
        small = x.value.tape.stretched(x.value)
        if small is not None and small.rank == x.value.rank and all(small.shape[a] == 1 for a in axes):
            return Traced(small if keepdims else op.Squeeze(small, axes=axes))  # the mean of copies
        return Traced(op.ReduceMean(x.value, axes=axes, keepdims=int(keepdims)))

    @staticmethod
    def max(x: Traced, *, axis: int | tuple[int, ...], keepdims: bool = False) -> Traced:
        return Traced(op.ReduceMax(x.value, axes=_axes(x, axis), keepdims=int(keepdims)))

    @staticmethod
    def min(x: Traced, *, axis: int | tuple[int, ...], keepdims: bool = False) -> Traced:
        return Traced(op.ReduceMin(x.value, axes=_axes(x, axis), keepdims=int(keepdims)))

    @staticmethod
    def maximum(x: Traced, y: Traced | Scalar) -> Traced:
        if not isinstance(y, Traced) and y == 0:
            return Traced(op.Relu(x.value))
        return Traced(op.Max(x.value, _bare(y)))

    @staticmethod
    def where(condition: Traced, x: Traced | Scalar, y: Traced | Scalar) -> Traced:
        chosen = condition * x
        return chosen if not isinstance(y, Traced) and y == 0 else chosen + (1 - condition) * y

    @staticmethod
    def abs(x: Traced) -> Traced:
        return Traced(op.Abs(x.value))

    @staticmethod
    def exp(x: Traced) -> Traced:
        return Traced(op.Exp(x.value))

    @staticmethod
    def sqrt(x: Traced) -> Traced:
        return Traced(op.Sqrt(x.value))

    @staticmethod
    def asarray(x: Any, dtype: int | None = None) -> Any:
        return x if isinstance(x, Traced) else np.asarray(x)

    @staticmethod
    def matmul(x: Traced | Any, y: Traced | Any) -> Traced:
        a, b = _operands(x, y)
        return Traced(op.MatMul(a, b))

    @staticmethod
    def permute_dims(x: Traced, axes: Sequence[int]) -> Traced:
        return x if list(axes) == list(range(len(axes))) else Traced(op.Transpose(x.value, perm=list(axes)))

    @staticmethod
    def expand_dims(x: Traced, *, axis: int) -> Traced:
        return Traced(op.Unsqueeze(x.value, axes=[axis % (len(x.shape) + 1)]))

    @staticmethod
    def squeeze(x: Traced, axis: int | tuple[int, ...]) -> Traced:
        return Traced(op.Squeeze(x.value, axes=_axes(x, axis)))

    @staticmethod
    def reshape(x: Traced, shape: Sequence[int | str | Traced]) -> Traced:
        """Symbols become 0, which copies the dimension in the same place, or −1 once; numbers of the graph stay."""
        tape, whole = x.value.tape, onnx.TensorProto.INT64
        wanted = [
            d if isinstance(d, (int, Traced)) else 0 if d in x.shape[i : i + 1] else -1 for i, d in enumerate(shape)
        ]
        if not any(isinstance(d, Traced) for d in wanted):
            return Traced(op.Reshape(x.value, tape.constant([d for d in wanted if isinstance(d, int)], whole)))
        sizes = [_length(x, d, i) for i, d in enumerate(shape)]
        parts = [d.value if isinstance(d, Traced) else tape.constant([d], whole) for d in sizes]
        named = tuple(
            d.value.name if isinstance(d, Traced) else tape.fresh("size") if isinstance(d, int) and d < 0 else d
            for d in shape
        )
        return Traced(tape.retype(op.Reshape(x.value, op.Concat(*parts, axis=0)), Type(x.dtype, named)))


_NAMESPACE = _Namespace()


def _length(x: Traced, wanted: int | str | Traced, i: int) -> int | Traced:
    """A number for Reshape: 0 for the symbol of the same axis, the length of another axis for its symbol, else −1."""
    if not isinstance(wanted, str):
        return wanted
    if wanted in x.shape[i : i + 1]:
        return 0
    return size_of(x.value, [x.shape.index(wanted)])[0] if wanted in x.shape else -1


def size_of(x: Value, axes: Sequence[int]) -> list[int | Traced]:
    """The lengths of these axes: numbers, or tensors [1] of the graph where only a run knows them."""
    index = {a: x.tape.constant([a], onnx.TensorProto.INT64) for a in axes if not isinstance(x.shape[a], int)}
    return [Traced(op.Gather(shape_of(x), index[a])) if a in index else int(x.shape[a]) for a in axes]


def enlarged(maps: Traced, like: Value, axes: Sequence[int]) -> Traced:
    """Resize (N, *space) to sizes of `like` that only a run may know, linearly as `heatmap.resize` does."""
    if like.tape.graph.opsets[""] < 11:
        raise InputError(
            "A heat map of open size needs opset 11. Fix the model's height and width, or take size 'layer'."
        )
    x = op.Unsqueeze(maps.value, axes=[1])
    tape = x.tape
    dims = op.Gather(shape_of(like), tape.constant(list(axes), onnx.TensorProto.INT64))
    head = op.Slice(shape_of(x), tape.constant([0], 7), tape.constant([2], 7))
    wanted = op.Concat(head, dims, axis=0)
    empty = tape.constant(np.zeros(0), onnx.TensorProto.FLOAT)
    resized = op.Resize(x, empty, empty, wanted, mode="linear", coordinate_transformation_mode="half_pixel")
    return Traced(op.Squeeze(resized, axes=[1]))


def _bare(x: Traced | Scalar) -> Value | Scalar:
    return x.value if isinstance(x, Traced) else x


def _difference(x: Traced, y: object) -> Value:
    if isinstance(y, Traced):
        return (x - y).value
    return x.value if y == 0 else x.value - float(str(y))


def _operands(x: Any, y: Any) -> tuple[Value, Value]:
    tape = (x if isinstance(x, Traced) else y).value.tape
    a, b = (v.value if isinstance(v, Traced) else tape.constant(np.asarray(v), FLOAT) for v in (x, y))
    return a, b


def _axes(x: Traced, axis: int | tuple[int, ...]) -> list[int]:
    return [a % len(x.shape) for a in ((axis,) if isinstance(axis, int) else axis)]
