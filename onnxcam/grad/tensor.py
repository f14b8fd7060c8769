"""Values of a graph being written: arithmetic as mathematics, everything else as `op.AnyOnnxOperator(...)`.

A `Value` is a tensor and the `Tape` that records what is computed from it. `op` finds the tape in its first Value,
so functions of values are pure: no context is passed and nothing is ambient. Nodes are held by onnx-graphsurgeon,
named by a counter of our own (its `Graph.layer` scans every tensor on each call), and typed as they are written.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import numpy.typing as npt
import onnx
import onnx_graphsurgeon as gs
from onnx import defs, helper, numpy_helper
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter
from onnx_graphsurgeon.importers.onnx_importer import OnnxImporter

from onnxcam.errors import UnsupportedGradient
from onnxcam.grad.infer import Shape, Type, infer
from onnxcam.grad.subgraph import captured

Scalar = int | float | bool
Attribute = int | float | str | Sequence[int] | Sequence[float] | None
RENAMED = {("Pad", "value"): "constant_value", ("TopK", "k"): "K"}  # attributes that became inputs of another name
HALF = frozenset({onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16})
SMALL = 4096  # constants up to this many elements are shown to shape inference


class Known(Protocol):
    """What a tape asks of the graph that it extends."""

    opsets: dict[str, int]

    def type(self, name: str) -> Type:
        """Type of a tensor of the graph."""
        ...

    def constant(self, name: str, limit: int | None = None) -> npt.NDArray[np.generic] | None:
        """Its value, where that does not depend on the input and has at most `limit` elements."""
        ...

    def taken(self, name: str) -> bool:
        """Whether a tensor or node of the graph has that name."""
        ...


@dataclass(frozen=True, eq=False)
class Value:
    """One tensor: name, element type, shape, and the tape to write on."""

    name: str
    type: Type
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


class Tape:
    """Records nodes that extend a graph: names, types and shared constants have their one home here."""

    def __init__(self, graph: Known, prefix: str = "grad", depth: int = 0) -> None:
        """Start an empty tape on top of `graph`; new tensors are called `<prefix>/<Op>_<n>`."""
        self.graph = graph
        self.prefix = prefix
        self.depth = depth
        self.nodes: list[gs.Node] = []
        self._tensors: dict[str, gs.Tensor] = {}
        self._arrays: dict[str, npt.NDArray[np.generic]] = {}
        self._shared: dict[object, tuple[Value, ...]] = {}
        self._counts: dict[str, int] = {}
        self.instead: dict[str, str] = {}
        self.wide: frozenset[int] = frozenset()
        self.types: dict[str, Type] = {}

    def value(self, name: str) -> Value:
        """A tensor of the graph below, as something to compute with."""
        return Value(name, self.graph.type(name), self)

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

    def input(self, name: str, type_: Type) -> Value:
        """A new input of the extended graph."""
        return self._made(gs.Variable(name, type_.dtype, type_.shape), type_)

    def constant(self, array: npt.ArrayLike, dtype: int) -> Value:
        """A constant tensor; equal ones are shared."""
        values = np.asarray(array).astype(helper.tensor_dtype_to_np_dtype(dtype))
        key = ("constant", dtype, values.shape, values.tobytes())
        if key not in self._shared:
            name = self.fresh("constant")
            self._arrays[name] = values
            tensor = gs.Constant(name, np.ascontiguousarray(values).reshape(values.shape))
            self._shared[key] = (self._made(tensor, Type(dtype, values.shape)),)
        return self._shared[key][0]

    def constant_of(self, name: str) -> npt.NDArray[np.generic] | None:
        """Value of a constant, of this tape or of the graph below."""
        return self._arrays[name] if name in self._arrays else self.graph.constant(name)

    def retype(self, value: Value, type_: Type) -> Value:
        """`value`, known to be of a more precise type than inference could tell."""
        self.types[value.name] = type_
        return Value(value.name, type_, self)

    def copy(self, proto: onnx.NodeProto, types: Sequence[Type]) -> tuple[Value, ...]:
        """Write a node under its own names; `types` are those of its named outputs, UNDEFINED for a sequence."""
        named = dict(zip([n for n in proto.output if n], types, strict=True))
        outputs = [
            gs.Variable(n, named[n].dtype or None, named[n].shape) if n else gs.Variable.empty() for n in proto.output
        ]
        inputs = [self._tensor(name) if name else gs.Variable.empty() for name in proto.input]
        around = {name: self._tensor(name) for name in captured(proto)}
        attributes = OnnxImporter.import_attributes(proto.attribute, around, {}, self.graph.opsets[""], None)
        self.nodes.append(gs.Node(proto.op_type, proto.name, attributes, inputs, outputs, proto.domain or None))
        return tuple(self._made(t, named[t.name]) for t in outputs if t.name)

    def rename(self, value: Value, name: str) -> Value:
        """`value` under a given name, as outputs need it."""
        tensor = gs.Variable(name, value.dtype, value.type.shape)
        self.nodes.append(gs.Node("Identity", name, inputs=[self._tensor(value.name)], outputs=[tensor]))
        return self._made(tensor, value.type)

    def between(self, starts: Iterable[str], ends: Iterable[str]) -> list[onnx.NodeProto]:
        """The nodes written so far that lead to `ends` and not to `starts`, in order."""
        given, wanted, nodes = set(starts), set(ends), []
        for node in reversed(self.nodes):
            if any(t.name in wanted for t in node.outputs):
                nodes.append(OnnxExporter.export_node(node))
                wanted.update(n for n in (*nodes[-1].input, *captured(nodes[-1])) if n not in given)
        return nodes[::-1]

    def written(
        self,
        inputs: Iterable[Value],
        outputs: Iterable[Value],
        before: Iterable[onnx.NodeProto] = (),
        constants: Iterable[onnx.TensorProto] = (),
    ) -> onnx.GraphProto:
        """All that was written, as a subgraph: after the nodes `before`, beside `constants`."""
        made = list(outputs)
        tensors = self.returned(made)
        tail = gs.export_onnx(gs.Graph(list(self.nodes), [], tensors), do_type_check=False).graph
        return helper.make_graph(
            [*before, *tail.node],
            self.prefix,
            [_declared(v) for v in inputs],
            [_declared(v) for v in made],
            [*constants, *tail.initializer],
        )

    def within(self, kind: str) -> "Tape":
        """A tape for a subgraph, which may read whatever has been written here."""
        return Tape(_Around(self), self.fresh(kind), self.depth + 1)

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
            self._shared[key] = self._write(schema, operands, attrs, outputs)
        return self._shared[key]

    def _write(
        self, schema: defs.OpSchema, operands: list[Value | None], attrs: dict[str, object], outputs: int
    ) -> tuple[Value, ...]:
        name = self.fresh(schema.name)
        names = [name] if outputs == 1 else [f"{name}.{i}" for i in range(outputs)]
        tensors = [gs.Variable(n) for n in names]
        node = gs.Node(
            schema.name, name, attrs, [self._tensor(x.name) if x else gs.Variable.empty() for x in operands], tensors
        )
        known = {x.name: x.type for x in operands if x}
        data = {n: numpy_helper.from_array(c, n) for n in known if (c := self._small(n)) is not None}
        types = infer(OnnxExporter.export_node(node), schema, self.graph.opsets, known, data)
        for tensor in tensors:
            found = types[tensor.name]
            tensor.dtype, tensor.shape = found.dtype, found.shape
        self.nodes.append(node)
        return tuple(self._made(t, types[t.name]) for t in tensors)

    def _made(self, tensor: gs.Tensor, type_: Type) -> Value:
        self._tensors[tensor.name] = tensor
        self.types[tensor.name] = type_
        return Value(tensor.name, type_, self)

    def _small(self, name: str) -> npt.NDArray[np.generic] | None:
        array = self._arrays[name] if name in self._arrays else self.graph.constant(name, SMALL)
        return array if array is not None and array.size <= SMALL else None

    def _lift(self, x: object, beside: Sequence["Value | Scalar | None"]) -> Value:
        if isinstance(x, Value):
            return x
        array = np.asarray(x)
        if array.ndim and array.dtype.kind != "f":
            return self.constant(array, onnx.TensorProto.INT64)
        values = [v for v in beside if isinstance(v, Value)]
        peer = next((v for v in values if v.type.is_float), values[0])
        return self.constant(array, peer.dtype)

    def tensors(self, values: Sequence[Value]) -> list[gs.Tensor]:
        """The graphsurgeon tensors of `values`, as inputs and outputs of the extended graph."""
        return [self._tensor(v.name) for v in values]

    def returned(self, values: Sequence[Value]) -> list[gs.Tensor]:
        """The same where nothing more will be written: one that `rename` named is made under that name at once.

        onnxruntime 1.32 loses a tensor that an Identity returns and that a MatMul it turns into a Gemm reads as well.
        """
        tensors = self.tensors(values)
        for i, tensor in enumerate(tensors):
            maker = tensor.inputs[0] if tensor.inputs else None
            source = maker.inputs[0] if maker is not None and maker.op == "Identity" else None
            if maker is None or source is None or not source.inputs or source.name in {t.name for t in tensors}:
                continue
            self.nodes[:] = [n for n in self.nodes if n is not maker]
            maker.inputs.clear()
            source.name = tensor.name
            tensors[i] = self._tensors[tensor.name] = source
        return tensors

    def _tensor(self, name: str) -> gs.Tensor:
        if name not in self._tensors:
            type_ = self.graph.type(name)
            self._tensors[name] = gs.Variable(name, type_.dtype, type_.shape)
        return self._tensors[name]

    def fresh(self, kind: str) -> str:
        """A name that nothing in the graph has."""
        while True:
            n = self._counts.get(kind, 0)
            self._counts[kind] = n + 1
            name = f"{self.prefix}/{kind}_{n}"
            if not self.graph.taken(name):
                return name


class _Around:
    """A tape as the graph that a subgraph's tape extends."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.opsets = tape.graph.opsets

    def type(self, name: str) -> Type:
        """Type of a tensor outside."""
        return self.tape.types.get(name) or self.tape.graph.type(name)

    def constant(self, name: str, limit: int | None = None) -> npt.NDArray[np.generic] | None:
        """Value of a constant outside."""
        array = self.tape.constant_of(name)
        return array if array is not None and (limit is None or array.size <= limit) else None

    def taken(self, name: str) -> bool:
        """Whether a tensor outside has that name: the prefix is new, so none has."""
        return False


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


@lru_cache(maxsize=4096)
def schema_of(op_type: str, domain: str, version: int) -> defs.OpSchema:
    """The operator's specification at an opset; raises onnx.defs.SchemaError for one that onnx does not know."""
    return defs.get_schema(op_type, version, domain)


def _tape_of(inputs: Sequence[Value | Scalar | None]) -> Tape:
    return max((x.tape for x in inputs if isinstance(x, Value)), key=lambda tape: tape.depth)


def _declared(v: Value) -> onnx.ValueInfoProto:
    """An input or output of a subgraph: its numbers, no symbols, which may be another length in each iteration."""
    shape = None if v.type.shape is None else [d if isinstance(d, int) else None for d in v.type.shape]
    return helper.make_tensor_value_info(v.name, v.dtype, shape)


def _plain(value: object) -> object:
    if isinstance(value, (list, tuple, np.ndarray)):
        return [v.item() if isinstance(v, np.generic) else v for v in value]
    return value.item() if isinstance(value, np.generic) else value
