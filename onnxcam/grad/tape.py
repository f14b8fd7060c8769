"""Nodes that extend a graph: what is written, of which types, under names that nothing else has.

Nodes are held by onnx-graphsurgeon, named by a counter of our own (its `Graph.layer` scans every tensor on each call),
and typed as they are written. tensor.py puts arithmetic on top.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import onnx
import onnx_graphsurgeon as gs
from onnx import defs, helper, numpy_helper
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter
from onnx_graphsurgeon.importers.onnx_importer import OnnxImporter

from onnxcam.grad.infer import Type, infer
from onnxcam.grad.subgraph import SMALL, captured


class Known(Protocol):
    """What a record asks of the graph that it extends."""

    opsets: dict[str, int]
    misdeclared: frozenset[str]  # tensors that have another number of axes than the file says

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
class Typed:
    """One tensor: name, element type and shape."""

    name: str
    type: Type


V = TypeVar("V", bound=Typed)


class Record(ABC, Generic[V]):
    """Records nodes that extend a graph: names, types and constants have their one home here."""

    def __init__(self, graph: Known, prefix: str) -> None:
        """Start empty on top of `graph`; new tensors are called `<prefix>/<Op>_<n>`."""
        self.graph = graph
        self.prefix = prefix
        self.nodes: list[gs.Node] = []
        self.types: dict[str, Type] = {}
        self._tensors: dict[str, gs.Tensor] = {}
        self._arrays: dict[str, npt.NDArray[np.generic]] = {}
        self._counts: dict[str, int] = {}

    @abstractmethod
    def of(self, name: str, type_: Type) -> V:
        """A tensor, of this record or of the graph below, as callers want it."""

    def fresh(self, kind: str) -> str:
        """A name that nothing in the graph has."""
        while True:
            n = self._counts.get(kind, 0)
            self._counts[kind] = n + 1
            name = f"{self.prefix}/{kind}_{n}"
            if not self.graph.taken(name):
                return name

    def constant_of(self, name: str, limit: int | None = None) -> npt.NDArray[np.generic] | None:
        """Value of a constant of at most `limit` elements, of this record or of the graph below."""
        if name not in self._arrays:
            return self.graph.constant(name, limit)
        array = self._arrays[name]
        return array if limit is None or array.size <= limit else None

    # ----- writing -----
    def input(self, name: str, type_: Type) -> V:
        """A new input of the extended graph."""
        return self._made(gs.Variable(name, type_.dtype, type_.shape), type_)

    def write_constant(self, values: npt.NDArray[np.generic], dtype: int) -> V:
        """A constant tensor, its element type an `onnx.TensorProto.DataType`."""
        name = self.fresh("constant")
        self._arrays[name] = values
        tensor = gs.Constant(name, np.ascontiguousarray(values).reshape(values.shape))
        return self._made(tensor, Type(dtype, values.shape))

    def write(
        self, schema: defs.OpSchema, operands: Sequence[Typed | None], attributes: dict[str, Any], outputs: int
    ) -> tuple[V, ...]:
        """One node of the default domain, its outputs named and typed."""
        name = self.fresh(schema.name)
        names = [name] if outputs == 1 else [f"{name}.{i}" for i in range(outputs)]
        tensors = [gs.Variable(n) for n in names]
        node = gs.Node(schema.name, name, attributes, [self._tensor(x.name if x else "") for x in operands], tensors)
        known = {x.name: x.type for x in operands if x}
        data = {n: numpy_helper.from_array(c, n) for n in known if (c := self.constant_of(n, SMALL)) is not None}
        types = infer(OnnxExporter.export_node(node), schema, self.graph.opsets, known, data)
        for tensor in tensors:
            found = types[tensor.name]
            tensor.dtype, tensor.shape = found.dtype, found.shape
        self.nodes.append(node)
        return tuple(self._made(t, types[t.name]) for t in tensors)

    def copy(self, proto: onnx.NodeProto, types: Sequence[Type]) -> tuple[V, ...]:
        """Write a node under its own names; `types` are those of its named outputs, UNDEFINED for a sequence."""
        named = dict(zip([n for n in proto.output if n], types, strict=True))
        outputs = [
            gs.Variable(n, named[n].dtype or None, named[n].shape) if n else gs.Variable.empty() for n in proto.output
        ]
        inputs = [self._tensor(name) for name in proto.input]
        around = {name: self._tensor(name) for name in captured(proto)}
        attributes = OnnxImporter.import_attributes(proto.attribute, around, {}, self.graph.opsets[""], None)
        self.nodes.append(gs.Node(proto.op_type, proto.name, attributes, inputs, outputs, proto.domain or None))
        return tuple(self._made(t, named[t.name]) for t in outputs if t.name)

    def rename(self, value: Typed, name: str) -> V:
        """`value` under a given name, as outputs need it."""
        tensor = gs.Variable(name, value.type.dtype, value.type.shape)
        self.nodes.append(gs.Node("Identity", name, inputs=[self._tensor(value.name)], outputs=[tensor]))
        return self._made(tensor, value.type)

    def retype(self, value: Typed, type_: Type) -> V:
        """`value`, known to be of a more precise type than inference could tell."""
        self.types[value.name] = type_
        if isinstance(tensor := self._tensor(value.name), gs.Variable):
            tensor.shape = type_.shape
        return self.of(value.name, type_)

    def stretched(self, value: Typed) -> V | None:
        """What `value` is an Expand of; None where another node made it."""
        makers = self._tensor(value.name).inputs
        if not makers or makers[0].op != "Expand":
            return None
        name = makers[0].inputs[0].name
        return self.of(name, self.types.get(name) or self.graph.type(name))

    def _made(self, tensor: gs.Tensor, type_: Type) -> V:
        self._tensors[tensor.name] = tensor
        self.types[tensor.name] = type_
        return self.of(tensor.name, type_)

    def _tensor(self, name: str) -> gs.Tensor:
        if not name:
            return gs.Variable.empty()
        if name not in self._tensors:
            type_ = self.graph.type(name)
            self._tensors[name] = gs.Variable(name, type_.dtype, type_.shape)
        return self._tensors[name]

    # ----- what was written -----
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
        inputs: Iterable[Typed],
        outputs: Iterable[Typed],
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

    def tensors(self, values: Sequence[Typed]) -> list[gs.Tensor]:
        """The graphsurgeon tensors of `values`, as inputs and outputs of the extended graph."""
        return [self._tensor(v.name) for v in values]

    def returned(self, values: Sequence[Typed]) -> list[gs.Tensor]:
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


class Enclosing:
    """A record as the graph that the record of a subgraph extends."""

    def __init__(self, record: Record[Any]) -> None:
        """Read whatever `record` has written, and the graph below it."""
        self.record = record
        self.opsets = record.graph.opsets
        self.misdeclared = record.graph.misdeclared

    def type(self, name: str) -> Type:
        """Type of a tensor outside."""
        return self.record.types.get(name) or self.record.graph.type(name)

    def constant(self, name: str, limit: int | None = None) -> npt.NDArray[np.generic] | None:
        """Value of a constant outside."""
        return self.record.constant_of(name, limit)

    def taken(self, name: str) -> bool:
        """Whether a tensor outside has that name: the prefix is new, so none has."""
        return False


@lru_cache(maxsize=4096)
def schema_of(op_type: str, domain: str, version: int) -> defs.OpSchema:
    """The operator's specification at an opset; raises onnx.defs.SchemaError for one that onnx does not know."""
    return defs.get_schema(op_type, version, domain)


def _declared(v: Typed) -> onnx.ValueInfoProto:
    """An input or output of a subgraph: its numbers, no symbols, which may be another length in each iteration."""
    shape = None if v.type.shape is None else [d if isinstance(d, int) else None for d in v.type.shape]
    return helper.make_tensor_value_info(v.name, v.type.dtype, shape)
