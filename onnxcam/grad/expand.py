"""Operators without a rule that are functions of others: their bodies take their place in the walk's copy.

Both kinds are expanded by onnx's own inliner: functions that a model brings along, and the 48 operators whose
specification has a body (Attention, GroupNormalization, …). A tensor inside a body is not in the file that ships, so
the node that makes it goes on the tape too, and is written only where a gradient reads it.
"""

from collections.abc import Mapping
from typing import Any

import onnx
from onnx import defs, helper, inliner, numpy_helper, shape_inference

from onnxcam.grad.bind import with_defaults
from onnxcam.grad.dated import by_sample
from onnxcam.grad.forward import Forward
from onnxcam.grad.infer import Type
from onnxcam.grad.lowering import WALK
from onnxcam.grad.nested import chosen
from onnxcam.grad.node import Node
from onnxcam.grad.registry import find
from onnxcam.grad.subgraph import SMALL, rename
from onnxcam.grad.tape import schema_of
from onnxcam.grad.tensor import Tape

_DOMAIN = "onnxcam.body"  # the inliner expands local functions most faithfully: a specification's body becomes one


def expand(node: Node, forward: Forward, tape: Tape) -> list[Node]:
    """The nodes that `node` stands for; itself where it has a rule, or no body."""
    opened = _opened(node, forward, tape)
    if opened is None:
        return [node]
    result: list[Node] = []
    body, types = opened
    for proto in body:
        inner = Node.of(proto, forward.opsets)
        forward.learn(proto, inner, types)
        known = all(forward.has_type(name) for name in (*inner.outputs, *inner.inputs) if name)
        if known and not set(inner.outputs) & set(node.outputs):
            tape.copy(proto, [forward.type(o) for o in inner.outputs if o])
        result += expand(inner, forward, tape)
    return result


def _opened(node: Node, forward: Forward, tape: Tape) -> tuple[list[onnx.NodeProto], Mapping[str, Type]] | None:
    """What is inside an If whose condition is constant, a dated Scan, or an operator that is a function of others."""
    if node.op == "If" and not node.domain:
        return chosen(node.inputs[0], node.attributes, node.outputs, tape.fresh("If"), forward)
    if node.op == "Scan" and not node.domain and node.version < 9:
        nodes = by_sample(node.inputs, node.outputs, node.attributes, tape.fresh("Scan"))
        return None if nodes is None else (nodes, {o: forward.type(o) for o in node.outputs if forward.has_type(o)})
    if find(node.op, node.domain, node.version) is not None or not all(forward.has_type(i) for i in node.inputs if i):
        return None  # of a sequence there is no type to specify a body with
    own = forward.functions.get((node.domain, node.op))
    function = own or forward.lowered(node) or specified(node, forward)
    return None if function is None else _inline(node, function, forward, tape)


def specified(node: Node, forward: Forward) -> onnx.FunctionProto | None:
    """The body that the specification gives this use of an operator; None where it gives none."""
    try:
        schema: Any = schema_of(node.op, node.domain, node.version)  # onnx's stubs leave out function bodies
    except defs.SchemaError:
        return None
    opset = node.version
    if schema.has_context_dependent_function:
        types = [
            forward.type(i).proto().SerializeToString() if i else onnx.TypeProto().SerializeToString()
            for i in node.inputs
        ]
        proto = _proto(node)
        return _parsed(
            schema.get_context_dependent_function_with_opset_version(opset, proto.SerializeToString(), types)
        )
    return _parsed(schema.get_function_with_opset_version(opset)) if schema.has_function else None


def _parsed(body: bytes) -> onnx.FunctionProto | None:
    return onnx.FunctionProto.FromString(body) if body else None


def _proto(node: Node, domain: str | None = None) -> onnx.NodeProto:
    proto = helper.make_node(node.op, list(node.inputs), list(node.outputs), node.name, domain=domain)
    proto.attribute.extend(helper.make_attribute(k, v) for k, v in with_defaults(node).items() if v is not None)
    return proto


def _inline(
    node: Node, function: onnx.FunctionProto, forward: Forward, tape: Tape
) -> tuple[list[onnx.NodeProto], Mapping[str, Type]]:
    """The nodes of the body in order, its inner tensors under names of their own, and their types."""
    body = inlined(node, function, forward)
    own = {n: tape.fresh(n) for inner in body.graph.node for n in inner.output if n and n not in node.outputs}
    for inner in body.graph.node:
        rename(inner, own)
        inner.name = tape.fresh(inner.name or inner.op_type)
    typed = shape_inference.infer_shapes(body, data_prop=True).graph
    types = {v.name: t for v in (*typed.value_info, *typed.output) if (t := Type.of(v.type, v.name))}
    return list(body.graph.node), types


def inlined(node: Node, function: onnx.FunctionProto, forward: Forward) -> onnx.ModelProto:
    """A model of the nodes that `function` puts in the place of `node`; what they read are inputs, or constants."""
    body = onnx.FunctionProto()
    body.CopyFrom(function)
    body.domain, body.name = _DOMAIN, node.op
    del body.attribute_proto[:]
    del body.opset_import[:]
    body.opset_import.extend(helper.make_opsetid(d, v) for d, v in forward.opsets.items())
    body.attribute[:] = list(with_defaults(node))
    names = list(dict.fromkeys(i for i in node.inputs if i))
    constants = {i: c for i in names if (c := forward.constant(i, SMALL)) is not None}
    graph = helper.make_graph(
        [_proto(node, _DOMAIN)],
        "body",
        [helper.make_value_info(i, forward.type(i).proto()) for i in names if i not in constants],
        [helper.make_empty_tensor_value_info(o) for o in node.outputs if o],
        [numpy_helper.from_array(c, i) for i, c in constants.items()],
    )
    opsets = [helper.make_opsetid(d, v) for d, v in {**forward.opsets, WALK: 1, _DOMAIN: 1}.items()]
    model = helper.make_model(graph, opset_imports=opsets, functions=[body, *forward.functions.values()], ir_version=10)
    return inliner.inline_selected_functions(model, [(_DOMAIN, node.op)])
