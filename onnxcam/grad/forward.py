"""The graph as the walk sees it: nodes in order, the type of every tensor, the value of every constant.

It is a view: the ModelProto is never changed. Types come from one pass over the nodes (infer.py), helped by onnx's
whole-graph inference where only that can tell (shapes computed from shapes), and by the file's own value_info last.
"""

from collections.abc import Iterable, Mapping, Sequence
from copy import copy

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from onnxcam.errors import ModelError
from onnxcam.grad import nested, sizes
from onnxcam.grad.infer import Type, broadcast, infer, sharper
from onnxcam.grad.lowering import BAKED, Use, lowered, types_of
from onnxcam.grad.node import Node
from onnxcam.grad.subgraph import SMALL, captured
from onnxcam.grad.tape import schema_of
from onnxcam.grad.whole import misdeclared, whole_graph_types

_UNFOLDED = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"}
)


class Forward:
    """A model's main graph: `nodes`, `inputs`, `outputs`, and types and constants by tensor name."""

    def __init__(self, model: onnx.ModelProto, folder: str = "", known: Mapping[str, Type] | None = None) -> None:
        """Read `model`; `folder` is where its external data lies.

        `known` are types that inference may not tell, or those of inputs for one size of the many that the model takes.
        Raises ModelError for a cyclic graph.
        """
        graph = model.graph
        self.opsets = {"" if o.domain == "ai.onnx" else o.domain: o.version for o in model.opset_import}
        self.opsets.setdefault("", 1)
        self.folder = folder
        self.initializers = {t.name: t for t in graph.initializer}
        self.inputs = [i.name for i in graph.input if i.name not in self.initializers]
        self.outputs = [o.name for o in graph.output]
        self.functions = {(f.domain, f.name): f for f in model.functions}
        self.misused: dict[str, str] = {}  # what onnx's inference says against a node, by its first output
        self._folded: dict[str, npt.NDArray[np.generic]] = {}
        self._sizes: dict[str, sizes.Vector] = {}
        self._types: dict[str, Type] = {i.name: t for i in graph.input if (t := Type.of(i.type, i.name))}
        self.misdeclared = frozenset[str]()
        self.added: tuple[onnx.NodeProto, ...] = ()  # what `followed_by` put behind the model's own nodes
        self.known = dict(known or {})
        self._types |= {name: t for name, t in self.known.items() if name in self._types}
        self._types |= {t.name: Type(t.data_type, tuple(t.dims)) for t in graph.initializer}
        self._types |= {t.values.name: Type(t.values.data_type, tuple(t.dims)) for t in graph.sparse_initializer}
        self._names = {n.name for n in graph.node} | set(self._types) | {o for n in graph.node for o in n.output}
        protos = self._sorted(graph.node)
        self.nodes = [Node.of(n, self.opsets) for n in protos]
        self._check_order()
        self._read_types(model, protos)

    def type(self, name: str) -> Type:
        """Type of a tensor. Raises ModelError where neither inference nor the file tells its element type."""
        if name not in self._types:
            raise ModelError(
                f"The type of tensor '{name}' is unknown: the operator that makes it is not in the ONNX standard."
            )
        return self._types[name]

    def has_type(self, name: str) -> bool:
        """Whether the element type of a tensor is known."""
        return name in self._types

    def constant(self, name: str, limit: int | None = None) -> npt.NDArray[np.generic] | None:
        """Value of a tensor that does not depend on the input and has at most `limit` elements; else None."""
        if name in self._folded:
            array = self._folded[name]
            return array if limit is None or array.size <= limit else None
        proto = self.initializers.get(name)
        if proto is None or (limit is not None and int(np.prod(proto.dims)) > limit):
            return None
        return self._array(proto)

    def _array(self, tensor: TensorProto) -> npt.NDArray[np.generic]:
        try:
            return numpy_helper.to_array(tensor, self.folder)
        except (OSError, ValueError, onnx.checker.ValidationError) as error:
            raise ModelError(f"The data of weight '{tensor.name}' cannot be read: {error}") from error

    def taken(self, name: str) -> bool:
        """Whether a tensor or node of the graph has that name."""
        return name in self._names

    def names(self) -> list[str]:
        """Every tensor of known type."""
        return list(self._types)

    def learn(self, proto: onnx.NodeProto, node: Node, declared: Mapping[str, Type]) -> None:
        """Work out types and constant values of a node's outputs; `declared` is what else is known of them."""
        self._fold(proto, node)
        found = self._infer(proto, node)
        self._follow_sizes(node, found)
        for name in filter(None, node.outputs):
            self._names.add(name)
            type_ = sharper(found.get(name), declared.get(name))
            if type_ is None and (value := self._folded.get(name)) is not None:
                type_ = Type(helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            if type_ is not None:
                self._types[name] = type_

    def _follow_sizes(self, node: Node, found: dict[str, Type]) -> None:
        """Follow vectors computed from shapes, and use them where a shape is read from one."""
        if node.domain or not node.outputs or not node.inputs:
            return
        name, x = node.outputs[0], self._types.get(node.inputs[0])
        known = [self._sizes_of(i) for i in node.inputs]
        resized = (
            node.op == "Resize" and len(known) == 4 and not {"axes", "keep_aspect_ratio_policy"} & {*node.attributes}
        )
        vector = node.op == "Reshape" and known[0] is not None
        if resized or (node.op in ("Reshape", "Expand", "ConstantOfShape") and not vector):
            target = known[-1]
            dtype = found[name].dtype if name in found else x.dtype if x else None
            if target is None or dtype is None or (name in found and found[name].is_static):
                return
            if node.op == "Reshape" and x is not None and x.shape is not None:
                found[name] = Type(dtype, sizes.reshaped(x.shape, target, name, bool(node.attributes.get("allowzero"))))
            elif node.op in ("ConstantOfShape", "Resize"):
                found[name] = Type(dtype, target)
            elif x is not None and x.shape is not None and (wide := broadcast([x.shape, target])) is not None:
                found[name] = Type(dtype, wide)
            return
        if node.op == "Concat":
            result = sizes.join(known)
        else:
            result = sizes.follow(node.op, node.attributes, x, lambda i: known[i] if i < len(known) else None)
        if result is None or name in self._folded:
            return
        self._sizes[name] = result
        rank = len(found[name].shape or ()) if name in found and found[name].shape is not None else 1
        if all(isinstance(d, int) for d in result):
            kind = helper.tensor_dtype_to_np_dtype(found[name].dtype) if name in found else np.dtype(np.int64)
            self._folded[name] = np.asarray(result).astype(kind).reshape((-1,) if rank else ())

    def _sizes_of(self, name: str) -> sizes.Vector | None:
        if name in self._sizes or not name:
            return self._sizes.get(name)
        value = self.constant(name, 64)
        return None if value is None else sizes.vector(value)

    def inside(self, model: onnx.ModelProto) -> "Forward":
        """A graph inside this one, read as a model of its own."""
        return Forward(model, self.folder)

    def only(self, nodes: Iterable[onnx.NodeProto], types: Mapping[str, Type]) -> "Forward":
        """The same tensors with other nodes, which make some that are of these types."""
        other = copy(self)
        other.nodes = [Node.of(n, self.opsets) for n in nodes]
        for name in (name for n in other.nodes for name in (*n.inputs, *n.outputs) if name in types):
            self.add(name, types[name])
        return other

    def again(self, model: onnx.ModelProto, known: Mapping[str, Type]) -> "Forward":
        """The same graph, read anew for inputs of these types."""
        other = Forward(model, self.folder, {**self.known, **known})
        return other.followed_by(self.added, self.outputs[-1]) if self.added else other

    def followed_by(self, nodes: Sequence[onnx.NodeProto], output: str) -> "Forward":
        """The graph with more nodes behind its own, which make one more output."""
        other = copy(self)
        other.nodes, other.outputs = list(self.nodes), [*self.outputs, output]
        other.added = (*self.added, *nodes)
        for proto in nodes:
            other.nodes.append(Node.of(proto, self.opsets))
            other.learn(proto, other.nodes[-1], {})
        return other

    def add(self, name: str, type_: Type) -> None:
        """Make a tensor that was written on top of the graph known to the walk."""
        self._types[name] = type_

    def lowered(self, node: Node) -> onnx.FunctionProto | None:
        """The function that an operator of a runtime is; None where no lowering is known."""
        types = tuple(self._types.get(i) for i in node.inputs)
        return lowered(node.op, node.domain, Use(node.inputs, node.outputs, types, node.attributes, self.opsets[""]))

    def producers(self) -> dict[str, Node]:
        """The node that makes each tensor."""
        return {o: n for n in self.nodes for o in n.outputs if o}

    def consumers(self) -> dict[str, list[Node]]:
        """The nodes that read each tensor."""
        readers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                readers.setdefault(name, []).append(node)
        return readers

    def _sorted(self, nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
        """The nodes, each after those that it reads: runtimes take them in any order. Those of a cycle come last."""
        known, late, found = set(self._types) | set(self.inputs) | {""}, list(nodes), list[onnx.NodeProto]()
        while late:
            waiting, late = late, []
            for node in waiting:
                if known.issuperset((*node.input, *captured(node))):
                    known.update(node.output)
                    found.append(node)
                else:
                    late.append(node)
            if len(late) == len(waiting):
                break
        return found + late

    def _check_order(self) -> None:
        known = set(self._types) | set(self.inputs) | {""}
        for node in self.nodes:
            if node.domain in BAKED:
                raise ModelError(
                    f"Node {node} is laid out for one kind of processor: onnxruntime saved the model at its highest "
                    "level. Take the model before optimising, or optimise it to the level 'extended' at most."
                )
            late = [i for i in node.inputs if i not in known]
            if late:
                raise ModelError(
                    f"Node {node} reads '{late[0]}' before a node makes it: the graph is cyclic or incomplete."
                )
            known.update(node.outputs)
        lost = [o for o in self.outputs if o not in known]
        if lost:
            raise ModelError(f"The model's output '{lost[0]}' is made by no node: the file is incomplete.")

    def _read_types(self, model: onnx.ModelProto, protos: Sequence[onnx.NodeProto]) -> None:
        computed = whole_graph_types(model, protos, self.initializers, self.known)
        declared = {v.name: t for v in computed if (t := Type.of(v.type, v.name))} | self.known
        for proto, node in zip(protos, self.nodes, strict=True):
            self.learn(proto, node, declared)
        self.misdeclared = misdeclared(model.graph, self._types)

    def _infer(self, proto: onnx.NodeProto, node: Node) -> dict[str, Type]:
        if not node.version or (node.domain, node.op) in self.functions:
            return {}
        if node.op in nested.OPERATORS and not node.domain and (node.op != "Scan" or node.version >= 9):
            return nested.types(proto, self)
        if any(i and i not in self._types for i in proto.input):
            return {}
        types = {i: self._types[i] for i in node.inputs if i in self._types}
        data = {i: numpy_helper.from_array(c, i) for i in types if (c := self.constant(i, SMALL)) is not None}
        try:
            return infer(proto, schema_of(node.op, node.domain, node.version), self.opsets, types, data)
        except onnx.defs.SchemaError:
            function = self.lowered(node)
            return {} if function is None else types_of(proto, function, self.opsets, types, data)
        except (shape_inference.InferenceError, onnx.checker.ValidationError) as error:
            self.misused[node.outputs[0]] = str(error)
            return {}  # whoever needs its type says so

    def _stand_in(self, node: Node, position: int) -> npt.NDArray[np.generic] | None:
        """An operand's value, or one of its type where the operator reads nothing else of it."""
        name = node.inputs[position]
        value = self.constant(name, SMALL)
        type_ = self._types.get(name)
        if value is not None or type_ is None:
            return value
        dtype = helper.tensor_dtype_to_np_dtype(type_.dtype)
        if node.op in ("Shape", "Size") and type_.is_static:
            return np.broadcast_to(np.zeros((), dtype), [d for d in type_.shape or () if isinstance(d, int)])
        return np.zeros((), dtype) if node.op == "CastLike" and position == 1 else None

    def _fold(self, proto: onnx.NodeProto, node: Node) -> None:
        """Compute a small node whose inputs are all constant, and Shape of a static tensor."""
        if node.domain or node.op in _UNFOLDED or any(a.HasField("g") for a in proto.attribute):
            return
        if node.op == "Constant" and "value" in node.attributes:
            self._folded[node.outputs[0]] = self._array(proto.attribute[0].t)
            return
        feeds: dict[str, npt.NDArray[np.generic]] = {}
        for position, name in enumerate(node.inputs):
            value = self._stand_in(node, position) if name else None
            if name and value is None:
                return
            if value is not None:
                feeds[name] = value
        try:
            results = ReferenceEvaluator(proto, opsets=self.opsets).run(None, feeds)
        except (NotImplementedError, TypeError, ValueError, RuntimeError, IndexError, KeyError, AttributeError):
            return  # the reference implementation cannot: the tensor is then simply not a known constant
        for name, value in zip(node.outputs, results, strict=False):
            if isinstance(value, (np.ndarray, np.generic)):
                self._folded[name] = np.asarray(value)
