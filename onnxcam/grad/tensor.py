"""Values of a graph being written: arithmetic as mathematics, everything else as `op.AnyOnnxOperator(...)`.

A `Value` is a tensor and the `Tape` that records what is computed from it. `op` finds the tape in its first Value,
so functions of values are pure: no context is passed and nothing is ambient.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from onnxcam.errors import UnsupportedGradient
from onnxcam.grad.infer import Shape, Type
from onnxcam.grad.subgraph import SMALL
from onnxcam.grad.tape import Enclosing, Known, Record, Typed, schema_of

Scalar = int | float | bool
Attribute = int | float | str | Sequence[int] | Sequence[float] | None
RENAMED = {("Pad", "value"): "constant_value", ("TopK", "k"): "K"}  # attributes that became inputs of another name
HALF = frozenset({onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16})


@dataclass(frozen=True, eq=False)
class Value(Typed):
    """One tensor: name, element type, shape, and the tape to write on."""

    tape: "Tape"

    @property
    def dtype(self) -> int:
        """Element type, an `onnx.TensorProto.DataType`."""
        return self.type.dtype

    @property
    def shape(self) -> Shape:
        """Dimensions: numbers, or symbols where they are known at run time only."""
        if self.type.shape is None:
            raise UnsupportedGradient(
                f"The rank of tensor '{self.name}' is unknown. Simplify the model, or export it with fixed sizes."
            )
        return self.type.shape

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def constant(self) -> npt.NDArray[np.generic] | None:
        """The value, where it does not depend on the model's input."""
        return self.tape.constant_of(self.name)

    def __add__(self, other: "Value | Scalar") -> "Value":
        return op.Add(self, other)

    def __radd__(self, other: Scalar) -> "Value":
        return op.Add(other, self)

    def __sub__(self, other: "Value | Scalar") -> "Value":
        return op.Sub(self, other)

    def __rsub__(self, other: Scalar) -> "Value":
        return op.Sub(other, self)

    def __mul__(self, other: "Value | Scalar") -> "Value":
        return op.Mul(self, other)

    def __rmul__(self, other: Scalar) -> "Value":
        return op.Mul(other, self)

    def __truediv__(self, other: "Value | Scalar") -> "Value":
        return op.Div(self, other)

    def __rtruediv__(self, other: Scalar) -> "Value":
        return op.Div(other, self)

    def __pow__(self, other: "Value | Scalar") -> "Value":
        return op.Pow(self, other)

    def __neg__(self) -> "Value":
        return op.Neg(self)


@dataclass(frozen=True)
class Placed:
    """A value with zeros before and behind it along one axis."""

    value: Value
    axis: int
    begin: int


class Tape(Record[Value]):
    """A record of Values: equal constants and equal nodes are written once."""

    def __init__(self, graph: Known, prefix: str = "grad", depth: int = 0) -> None:
        """Start an empty tape on top of `graph`; `depth` is how many subgraphs it is in."""
        super().__init__(graph, prefix)
        self.depth = depth
        self.instead: dict[str, str] = {}
        self.wide: frozenset[int] = frozenset()
        self.hot: dict[str, Value] = {}  # one-hot rows (N, C) by name, as the places (N) of their ones
        self.placed: dict[str, Placed] = {}  # padded tensors by name
        self._shared: dict[object, tuple[Value, ...]] = {}

    def of(self, name: str, type_: Type) -> Value:
        """A tensor on this tape."""
        return Value(name, type_, self)

    def value(self, name: str) -> Value:
        """A tensor of the graph below, as something to compute with."""
        found = Value(name, self.graph.type(name), self)
        return _reshaped(found) if name in self.graph.misdeclared else found

    def read(self, name: str) -> Value:
        """A tensor of the graph below as rules read it: the one that `instead` names; types in `wide` as float32."""
        value = self.value(self.instead.get(name, name))
        if value.dtype not in self.wide:
            return value
        known = self.graph.constant(value.name, SMALL)
        wide = onnx.TensorProto.FLOAT
        return op.Cast(value, to=wide) if known is None else self.constant(known, wide)

    def wider(self, type_: Type) -> Type:
        """The type of the gradient of a tensor of that type."""
        return Type(onnx.TensorProto.FLOAT, type_.shape) if type_.dtype in self.wide else type_

    def constant(self, array: npt.ArrayLike, dtype: int) -> Value:
        """A constant tensor; equal ones are shared."""
        values = np.asarray(array).astype(helper.tensor_dtype_to_np_dtype(dtype))
        key = ("constant", dtype, values.shape, values.tobytes())
        if key not in self._shared:
            self._shared[key] = (self.write_constant(values, dtype),)
        return self._shared[key][0]

    def within(self, kind: str) -> "Tape":
        """A tape for a subgraph, which may read whatever has been written here."""
        return Tape(Enclosing(self), self.fresh(kind), self.depth + 1)

    def emit(
        self, op_type: str, inputs: Sequence["Value | Scalar | None"], attributes: dict[str, object], outputs: int = 1
    ) -> tuple[Value, ...]:
        """Write one node in the graph's opset and return its outputs; an equal node is written once.

        A keyword that this opset has as an input (`axes` of ReduceSum from 13 on) becomes one, and a Python scalar
        takes the element type of the first float Value beside it.
        """
        schema = schema_of(op_type, "", self.graph.opsets[""])
        operands = [None if x is None else self._lift(x, inputs) for x in inputs]
        attrs: dict[str, object] = {}
        for name, given in attributes.items():
            if given is None:
                continue
            attribute = next((old for (o, old), new in RENAMED.items() if (o, new) == (op_type, name)), name)
            if name in schema.attributes or attribute in schema.attributes:
                if isinstance(given, Value) and (given := given.constant) is None:
                    raise UnsupportedGradient(
                        f"it takes a {op_type} whose '{name}' is computed. Export with a later opset"
                    )
                attrs[name if name in schema.attributes else attribute] = _plain(given)
            else:
                position = [i.name for i in schema.inputs].index(name)
                operands += [None] * (position + 1 - len(operands))
                operands[position] = self._lift(given, inputs)
        key = (
            op_type,
            tuple(x and x.name for x in operands),
            tuple(sorted((k, str(v)) for k, v in attrs.items())),
            outputs,
        )
        if key not in self._shared:
            self._shared[key] = self.write(schema, operands, attrs, outputs)
        return self._shared[key]

    def _lift(self, x: object, beside: Sequence["Value | Scalar | None"]) -> Value:
        if isinstance(x, Value):
            return x
        array = np.asarray(x)
        if array.ndim and array.dtype.kind != "f":
            return self.constant(array, onnx.TensorProto.INT64)
        values = [v for v in beside if isinstance(v, Value)]
        peer = next((v for v in values if v.type.is_float), values[0])
        return self.constant(array, peer.dtype)


class _Operators:
    """`op.Conv(x, w, strides=[2, 2])`: any operator of the default domain, under ONNX's own names."""

    def __getattr__(self, op_type: str) -> "Callable[..., Value]":
        def call(*inputs: Value | Scalar | None, **attributes: object) -> Value:
            return _tape_of(inputs).emit(op_type, inputs, attributes)[0]

        call.__name__ = op_type
        return call


op = _Operators()


def split(x: Value, axis: int, sizes: Sequence[int]) -> tuple[Value, ...]:
    """Cut `x` along `axis` into parts of the given sizes."""
    return x.tape.emit("Split", [x], {"split": list(sizes), "axis": axis}, len(sizes))


def _reshaped(x: Value) -> Value:
    """The same with the axes that it has: the file says another number of them, and runtimes believe the file."""
    open_ = [i for i, d in enumerate(x.shape) if not isinstance(d, int)]
    return op.Reshape(x, [d if isinstance(d, int) else -1 if i == open_[-1] else 0 for i, d in enumerate(x.shape)])


def _tape_of(inputs: Sequence[Value | Scalar | None]) -> Tape:
    return max((x.tape for x in inputs if isinstance(x, Value)), key=lambda tape: tape.depth)


def _plain(value: object) -> object:
    if isinstance(value, (list, tuple, np.ndarray)):
        return [v.item() if isinstance(v, np.generic) else v for v in value]
    return value.item() if isinstance(value, np.generic) else value
