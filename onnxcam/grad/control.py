"""If, Loop and Scan as the graph around them sees them: the types of what they return, and an If that is decided.

A symbol of a subgraph's own says nothing outside: two subgraphs may use one name for different lengths. Only those
that came in by a type are let out again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx
from onnx import TensorProto, helper

from onnxcam.grad.body import Body, close
from onnxcam.grad.infer import Dim, Shape, Type

if TYPE_CHECKING:
    from onnxcam.grad.forward import Forward

CONTROL = frozenset({"If", "Loop", "Scan"})


@dataclass(frozen=True)
class Inside:
    """A subgraph and what is known of its tensors."""

    body: Body
    forward: "Forward"

    def output(self, index: int) -> Type | None:
        """Type of an output; None where it is no tensor, or its operator is unknown."""
        name = self.body.outputs[index]
        return self.forward.type(name) if self.forward.has_type(name) else None


def enter(graph: onnx.GraphProto, scope: str, inputs: Sequence[Type | None], forward: "Forward") -> Inside:
    """Read a subgraph whose formal inputs have given types."""
    body = close(graph, scope, inputs, forward)
    return Inside(body, type(forward)(body.model, forward.folder))


def enter_loop(
    graph: onnx.GraphProto, scope: str, states: Sequence[Type | None], streams: Sequence[Type | None], forward: "Forward"
) -> Inside:
    """Read the body of a Loop or Scan: states whose shape changes get symbols until nothing changes any more.

    A Loop is known by its two more inputs, iteration number and condition.
    """
    head = len(graph.input) - len(states) - len(streams)
    counters: list[Type | None] = [
        Type.of(v.type, v.name) or Type(t, ()) for v, t in zip(graph.input, (TensorProto.INT64, TensorProto.BOOL)[:head])
    ]
    while True:
        inside = enter(graph, scope, [*counters, *states, *streams], forward)
        made = [inside.output(i) for i in range(head // 2, head // 2 + len(states))]
        common = [_common(a, b, f"{scope}/state_{i}") for i, (a, b) in enumerate(zip(states, made, strict=True))]
        if common == list(states):
            return inside
        states = common


def types(node: onnx.NodeProto, forward: "Forward") -> dict[str, Type]:
    """Types of the outputs of an If, Loop or Scan."""
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    given = [forward.type(i) if i and forward.has_type(i) else None for i in node.input]
    scope = node.output[0]
    if node.op_type == "If":
        condition = forward.constant(node.input[0])
        branches = [
            enter(attributes[name], f"{scope}/{name}", [], forward)
            for chosen, name in ((True, "then_branch"), (False, "else_branch"))
            if condition is None or bool(condition.any()) == chosen
        ]
        results = []
        for i, name in enumerate(node.output):
            first, last = branches[0].output(i), branches[-1].output(i)
            results.append(_common(first, last, name) if first and last else None)
    elif node.op_type == "Loop":
        states = given[2:]
        inside = enter_loop(attributes["body"], scope, states, [], forward)
        results = [
            *(_common(a, inside.output(1 + i), node.output[i]) for i, a in enumerate(states)),
            *(_stacked(inside.output(1 + i), 0, f"{scope}/trips") for i in range(len(states), len(node.output))),
        ]
    else:
        m = attributes["num_scan_inputs"]
        states, streams = given[: len(given) - m], given[len(given) - m :]
        axes = attributes.get("scan_input_axes") or [0] * m
        lengths = [s.shape[a] for s, a in zip(streams, axes, strict=True) if s and s.shape]
        inside = enter_loop(attributes["body"], scope, states, [_slice(s, a) for s, a in zip(streams, axes)], forward)
        along = attributes.get("scan_output_axes") or [0] * (len(node.output) - len(states))
        length = next((d for d in lengths if isinstance(d, int)), lengths[0] if lengths else f"{scope}/trips")
        results = [
            *(inside.output(i) for i in range(len(states))),
            *(_stacked(inside.output(len(states) + i), a, length) for i, a in enumerate(along)),
        ]
    known = {d for t in (*given, *(forward.type(n) for n in _taken(node, forward))) if t and t.shape for d in t.shape}
    known |= {f"{scope}/trips"}
    return {n: _let_out(t, n, known) for n, t in zip(node.output, results, strict=True) if n and t}
