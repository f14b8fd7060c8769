"""The gradient of an If, and how the walk over a subgraph becomes a subgraph of new nodes.

The gradient is an If on the same condition, whose branches pull back through the branch that was taken. They compute
inside what that branch computed, since nothing of it is visible outside.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import onnx
from onnx import helper

from onnxcam.grad.forward import Forward
from onnxcam.grad.prepare import prepare
from onnxcam.grad.registry import joint
from onnxcam.grad.reverse import accumulate
from onnxcam.grad.shapes import expand_like
from onnxcam.grad.subgraph import Body, Inside, enter, free, prune
from onnxcam.grad.tensor import Tape, Value

Gradients = Sequence[Value | None]


def if_(
    g: Gradients,
    wanted: Sequence[int],
    cond: Value,
    *captured: Value,
    then_branch: onnx.GraphProto,
    else_branch: onnx.GraphProto,
) -> Sequence[Value]:
    """An If on the same condition; a branch that does not read a tensor returns zeros for it."""
    names = free(then_branch, else_branch)
    xs = {names[i - 1]: captured[i - 1] for i in wanted}
    scope = cond.tape.fresh("If")
    branches = {
        "then_branch": _branch(then_branch, f"{scope}/then", g, xs),
        "else_branch": _branch(else_branch, f"{scope}/else", g, xs),
    }
    node = helper.make_node("If", [cond.name], [f"{scope}/gradient_{i}" for i in wanted], scope, **branches)
    return cond.tape.copy(node, [cond.tape.wider(x.type) for x in xs.values()])


def _branch(graph: onnx.GraphProto, scope: str, g: Gradients, xs: Mapping[str, Value]) -> onnx.GraphProto:
    around = next(iter(xs.values())).tape
    inside = enter(graph, scope, [], graph_of(around))
    tape = tape_in(inside, around)
    seeds = {o: tape.input(v.name, v.type) for o, v in zip(inside.body.outputs, g, strict=True) if v is not None}
    names = inside.body.captured
    found = accumulate(inside.graph, tape, seeds, [names[x] for x in xs if x in names])
    gradients = [found.get(names.get(n, "")) or no_gradient(tape.input(x.name, x.type)) for n, x in xs.items()]
    return subgraph(inside.body, tape, [], [tape.rename(v, tape.fresh("gradient")) for v in gradients])[0]


joint("If", if_)


def graph_of(tape: Tape) -> Forward:
    """The graph that a walk's tape extends."""
    return cast("Forward", tape.graph)


def tape_in(inside: Inside[Forward], around: Tape) -> Tape:
    """A tape for the walk over a subgraph, which it prepares; its gradients have the types of those around."""
    tape = Tape(inside.graph, inside.body.scope)
    tape.wide = around.wide
    prepare(inside.graph, tape, keep=inside.body.outputs)
    return tape


def no_gradient(x: Value) -> Value:
    """Zeros, as the gradient of a tensor on which nothing depends."""
    return expand_like(x.tape.constant(0, x.tape.wider(x.type).dtype), x)


def subgraph(
    body: Body, tape: Tape, inputs: Iterable[Value], outputs: Iterable[Value], before: Sequence[onnx.NodeProto] = ()
) -> tuple[onnx.GraphProto, set[str]]:
    """The graph from `inputs` to `outputs`: nodes `before`, those of a body, those of the tape; and all it reads."""
    inside = body.model.graph
    graph = tape.written(inputs, outputs, [*before, *inside.node], inside.initializer)
    return graph, prune(graph)
