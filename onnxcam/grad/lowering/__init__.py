"""Operators outside ONNX's specification, as functions of those inside it.

Runtimes quantise and fuse with operators of their own, which have neither shape inference nor a gradient. Here each is
written once, as the text of an ONNX function; the walk's copy reads that text, the nodes that ship stay fused.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import onnx
from onnx import defs, helper, inliner, parser, shape_inference

from onnxcam.grad.infer import Type, infer

MICROSOFT = "com.microsoft"
WALK = "onnxcam.walk"  # operators that only the walk's copy has
BAKED = frozenset({"com.microsoft.nchwc", "com.ms.internal.nhwc"})  # of one processor's memory layout


@dataclass(frozen=True)
class Use:
    """One use of an operator: the types of its inputs, None for one left out or of unknown type, and its attributes."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    types: tuple[Type | None, ...]
    attributes: Mapping[str, object]
    opset: int

    def has(self, index: int) -> bool:
        """Whether that input is given."""
        return index < len(self.inputs) and self.inputs[index] != ""

    def gives(self, index: int) -> bool:
        """Whether that output is asked for."""
        return index < len(self.outputs) and self.outputs[index] != ""

    def rank(self, index: int) -> int | None:
        """Number of axes of an input; None where it is unknown or left out."""
        type_ = self.types[index] if index < len(self.types) else None
        return None if type_ is None or type_.shape is None else len(type_.shape)

    def dtype(self, index: int) -> int:
        """Element type of an input; float where it is unknown."""
        type_ = self.types[index] if index < len(self.types) else None
        return onnx.TensorProto.FLOAT if type_ is None else type_.dtype

    def with_(self, **attributes: object) -> "Use":
        """The same use with other attributes as well."""
        return replace(self, attributes={**self.attributes, **attributes})

    def integer(self, name: str, default: int) -> int:
        """An attribute that is a number."""
        value = self.attributes.get(name, default)
        return value if isinstance(value, int) else default

    def real(self, name: str, default: float) -> float:
        """An attribute that is a float."""
        value = self.attributes.get(name, default)
        return float(value) if isinstance(value, (int, float)) else default

    def text(self, name: str, default: str = "") -> str:
        """An attribute that is a string."""
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else str(value)

    def size(self, index: int, axis: int) -> int | None:
        """Length of an axis of an input; None where it is not fixed."""
        rank = self.rank(index)
        dim = self.types[index].shape[axis] if rank and -rank <= axis < rank else None  # type: ignore[union-attr,index]  # a rank is of a shape
        return dim if isinstance(dim, int) else None

    def passed(self, *names: str, **fixed: object) -> str:
        """`<…>` with those of the attributes that the node has, and some that it does not."""
        own = [f"{n}: {_kind(self.attributes[n])} = @{n}" for n in names if n in self.attributes]
        own += [f"{n} = {_literal(v)}" for n, v in fixed.items()]
        return f"<{', '.join(own)}>" if own else ""


Body = str | Callable[[Use], str | None]


@dataclass(frozen=True)
class Lowering:
    """The head of an operator's function, its body, and the attributes that the body honours."""

    head: str
    body: Body
    attributes: frozenset[str]


_TABLE: dict[tuple[str, str], Lowering] = {}


def lower(head: str, body: Body, attributes: str = "", *, domain: str = MICROSOFT) -> None:
    """Register `Op (inputs) => (outputs)`; `body` is its text, or a function of the use to it (None: cannot be)."""
    _TABLE[domain, head.split()[0]] = Lowering(head, body, frozenset(attributes.split()))


def lowered(op: str, domain: str, use: Use) -> onnx.FunctionProto | None:
    """The function that this use of an operator is; None where there is none, or an attribute that it ignores."""
    row = _TABLE.get((domain, op))
    if row is None or not row.attributes.issuperset(use.attributes):
        return None
    body = row.body if isinstance(row.body, str) else row.body(use)
    if body is None:
        return None
    operator, _, parameters = row.head.partition(" ")
    parameters = parameters.replace("*inputs", ", ".join(f"i{k}" for k in range(len(use.inputs))))
    head = f"{operator} <{', '.join(use.attributes)}> {parameters}" if use.attributes else f"{operator} {parameters}"
    return _parse(f'<domain: "{domain or "ai.onnx"}", opset_import: ["": {use.opset}]> {head} {{ {body} }}')


def operators() -> list[tuple[str, str]]:
    """Every operator with a body, as (domain, operator)."""
    return sorted(_TABLE)


def types_of(
    node: onnx.NodeProto,
    function: onnx.FunctionProto,
    opsets: Mapping[str, int],
    inputs: Mapping[str, Type],
    constants: Mapping[str, onnx.TensorProto],
) -> dict[str, Type]:
    """Types of the outputs of a node that is `function`."""
    given = [helper.make_value_info(i, t.proto()) for i, t in inputs.items() if i not in constants]
    due = [helper.make_empty_tensor_value_info(o) for o in node.output if o]
    graph = helper.make_graph([node], "body", given, due, list(constants.values()))
    imports = {WALK: 1, MICROSOFT: 1, **opsets}
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid(d, v) for d, v in imports.items()],
        functions=[function],
        ir_version=10,
    )
    inlined = inliner.inline_local_functions(model)
    newer = [n for n in inlined.graph.node if not _has_schema(n, imports)]
    for inner in newer:
        inlined.graph.node.remove(inner)
    typed = shape_inference.infer_shapes(inlined, data_prop=True).graph
    found = {**inputs, **{v.name: t for v in (*typed.value_info, *typed.output) if (t := Type.of(v.type, v.name))}}
    for inner in newer:
        found |= _newer(inner, found, imports, constants)
    return {name: found[name] for name in node.output if name in found}


def _newer(
    node: onnx.NodeProto, known: Mapping[str, Type], opsets: Mapping[str, int], data: Mapping[str, onnx.TensorProto]
) -> dict[str, Type]:
    """Types by the newest specification of an operator that this opset lacks; its first input's where there is none."""
    types = {i: known[i] for i in node.input if i in known}
    try:
        schema = defs.get_schema(node.op_type, defs.onnx_opset_version(), node.domain)
        return infer(node, schema, {**opsets, "": defs.onnx_opset_version()}, types, data)
    except defs.SchemaError:
        return {node.output[0]: types[node.input[0]]} if node.input[0] in types else {}


def _has_schema(node: onnx.NodeProto, opsets: Mapping[str, int]) -> bool:
    try:
        defs.get_schema(node.op_type, opsets.get(node.domain, 0), node.domain)
    except defs.SchemaError:
        return False
    return True


@lru_cache(maxsize=512)
def _parse(text: str) -> onnx.FunctionProto:
    return parser.parse_function(text)


def _kind(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return f"{_kind(value[0])}s" if value else "ints"
    return {int: "int", float: "float"}.get(type(value), "string")


def _literal(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(map(_literal, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value)


for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
