"""The gradient of an If, and how the walk over a subgraph becomes a subgraph of new nodes.

The gradient is an If on the same condition, whose branches pull back through the branch that was taken. They compute
inside what that branch computed, since nothing of it is visible outside.
"""

from collections.abc import Iterable, Sequence
from typing import cast

import onnx
import onnx_graphsurgeon as gs
from onnx import helper

from onnxcam.grad.forward import Forward
from onnxcam.grad.infer import Type
from onnxcam.grad.prepare import prepare
from onnxcam.grad.registry import joint
from onnxcam.grad.reverse import accumulate
from onnxcam.grad.shapes import zeros_like
from onnxcam.grad.subgraph import Body, enter, prune
from onnxcam.grad.tensor import Tape, Value

Gradients = Sequence[Value | None]


def if_(
    g: Gradients,
    y: Gradients,
    wanted: Sequence[int],
    cond: Value,
    *captured: Value,
    then_branch: onnx.GraphProto,
    else_branch: onnx.GraphProto,
) -> list[Value]:
    """An If on the same condition; a branch that does not read a tensor returns zeros for it."""
    xs = [captured[i - 1] for i in wanted]
    scope = cond.tape.fresh("If")
    branches = {
        "then_branch": _branch(then_branch, f"{scope}/then", g, xs),
        "else_branch": _branch(else_branch, f"{scope}/else", g, xs),
    }
    names = [f"{scope}/gradient_{i}" for i in wanted]
    return write(cond.tape, helper.make_node("If", [cond.name], names, scope, **branches), [x.type for x in xs])


def _branch(graph: onnx.GraphProto, scope: str, g: Gradients, xs: Sequence[Value]) -> onnx.GraphProto:
    inside = enter(graph, scope, [], graph_of(xs[0]))
    tape = Tape(inside.graph, scope)
    prepare(inside.graph, tape, keep=inside.body.outputs)
    seeds = {o: tape.input(v.name, v.type) for o, v in zip(inside.body.outputs, g, strict=True) if v is not None}
    names = [inside.body.captured.get(x.name, "") for x in xs]
    found = accumulate(inside.graph, tape, seeds, [n for n in names if n])
    gradients = [found.get(n) or zeros_like(tape.input(x.name, x.type)) for n, x in zip(names, xs, strict=True)]
    return subgraph(inside.body, tape, [], [tape.rename(v, tape.fresh("gradient")) for v in gradients])[0]


joint("If", if_)


def graph_of(x: Value) -> Forward:
    """The graph that a value's tape extends."""
    return cast("Forward", x.tape.graph)


def subgraph(
    body: Body, tape: Tape, inputs: Iterable[Value], outputs: Iterable[Value], before: Sequence[onnx.NodeProto] = ()
) -> tuple[onnx.GraphProto, set[str]]:
    """The graph from `inputs` to `outputs`: nodes `before`, those of a body, those of the tape; and all it reads."""
    made = list(outputs)
    tail = gs.export_onnx(gs.Graph(list(tape.nodes), [], tape.tensors(made)), do_type_check=False).graph
    inside = body.model.graph
    graph = helper.make_graph(
        [*before, *inside.node, *tail.node],
        body.scope,
        [_declared(v.name, v.type) for v in inputs],
        [_declared(v.name, v.type) for v in made],
        [*inside.initializer, *tail.initializer],
    )
    return graph, prune(graph)


def _declared(name: str, type_: Type) -> onnx.ValueInfoProto:
    """A formal input or output: its numbers, and no symbols, which may stand for another length in each iteration."""
    shape = None if type_.shape is None else [d if isinstance(d, int) else None for d in type_.shape]
    return helper.make_tensor_value_info(name, type_.dtype, shape)


def write(tape: Tape, node: onnx.NodeProto, types: Sequence[Type]) -> list[Value]:
    """Write a node with subgraphs, whose outputs are of given types."""
    tape.copy(node, dict(zip(node.output, types, strict=True)))
    return [Value(n, t, tape) for n, t in zip(node.output, types, strict=True)]
