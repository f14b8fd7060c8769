"""If, Loop and Scan as the graph around them sees them: the types of what they return.

A symbol of a subgraph's own says nothing outside, where the same name may stand for another length: only symbols that
came in with a type are let out again. A Loop's states may change their shape from one iteration to the next.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import onnx
from onnx import TensorProto, helper

from onnxcam.grad.infer import Dim, Type
from onnxcam.grad.subgraph import Around, G, Inside, captured, enter, rename


def enter_loop(
    graph: onnx.GraphProto, scope: str, states: Sequence[Type | None], streams: Sequence[Type | None], around: G
) -> Inside[G]:
    """Read the body of a Loop or Scan that begins with such states; a Loop's has a counter and a condition first."""
    head = len(graph.input) - len(states) - len(streams)
    counters = [
        Type.of(v.type, v.name) or Type(t, ())
        for v, t in zip(graph.input[:head], (TensorProto.INT64, TensorProto.BOOL), strict=False)
    ]
    while True:
        inside = enter(graph, scope, [*counters, *states, *streams], around)
        after = [inside.output(head // 2 + i) for i in range(len(states))]
        both = [_common(a, b, f"{_open(scope)}{i}") for i, (a, b) in enumerate(zip(states, after, strict=True))]
        if both == list(states):
            return inside
        states = both


def changes_shape(inside: Inside[G], state: str) -> bool:
    """Whether the shape of a state may be another one in the next iteration."""
    shape = inside.graph.type(state).shape
    return shape is None or any(isinstance(d, str) and d.startswith(_open(inside.body.scope)) for d in shape)


def _open(scope: str) -> str:
    """How the symbols begin that stand for a dimension of a state in any iteration."""
    return f"{scope}/state_"


def slice_of(stack: Type | None, axis: int) -> Type | None:
    """The type of one of the slices that a Scan reads."""
    if stack is None or stack.shape is None:
        return stack
    axis %= len(stack.shape)
    return Type(stack.dtype, stack.shape[:axis] + stack.shape[axis + 1 :])


def decided(condition: str, around: Around) -> bool | None:
    """The value of an If's condition; None where it is known at run time only."""
    value = around.constant(condition, 1)
    return None if value is None else bool(value.all())


def chosen(
    condition: str, branches: Mapping[str, object], outputs: Sequence[str], scope: str, around: Around
) -> tuple[list[onnx.NodeProto], dict[str, Type]] | None:
    """The nodes of the branch that an If always takes, made to return `outputs`, and their types; None if undecided."""
    which = decided(condition, around)
    graph = branches.get("then_branch" if which else "else_branch")
    if which is None or not isinstance(graph, onnx.GraphProto):
        return None
    inside = enter(graph, scope, [], around)
    body, model = inside.body, inside.body.model.graph
    names = {inner: outer for outer, inner in body.captured.items()}
    names |= {inner: outer for inner, outer in zip(body.outputs, outputs, strict=False) if outer}
    constants = [t for t in model.initializer if t.name not in names]
    nodes = [helper.make_node("Constant", [], [t.name], t.name, value=t) for t in constants] + list(model.node)
    for node in nodes:
        rename(node, names)
    known = {o for n in model.node for o in (*n.input, *n.output) if inside.graph.has_type(o)}
    return nodes, {names.get(n, n): inside.graph.type(n) for n in known}


def types(node: onnx.NodeProto, around: Around) -> dict[str, Type]:
    """Types of the outputs of an If, Loop or Scan; those left out that are not tensors."""
    results = _RESULTS[node.op_type](node, around)
    names = [n for n in (*node.input, *captured(node)) if around.has_type(n)]
    known = {d for n in names for d in around.type(n).shape or ()} | {_trips(node)}
    return {n: _let_out(t, n, known) for n, t in zip(node.output, results, strict=False) if n and t}


def _if(node: onnx.NodeProto, around: Around) -> list[Type | None]:
    chosen = decided(node.input[0], around)
    taken = ["then_branch"] * (chosen is not False) + ["else_branch"] * (chosen is not True)
    branches = [enter(_attributes(node)[name], f"{node.output[0]}/{name}", [], around) for name in taken]
    return [_common(branches[0].output(i), branches[-1].output(i), name) for i, name in enumerate(node.output)]


def _loop(node: onnx.NodeProto, around: Around) -> list[Type | None]:
    before = _given(node.input[2:], around)
    inside = enter_loop(_attributes(node)["body"], node.output[0], before, [], around)
    after = [inside.output(1 + i) for i in range(len(node.output))]
    final = [_common(a, b, n) for a, b, n in zip(before, after, node.output, strict=False)]
    return final + [_stack(t, 0, _trips(node)) for t in after[len(before) :]]


def _scan(node: onnx.NodeProto, around: Around) -> list[Type | None]:
    attributes = _attributes(node)
    streams = attributes["num_scan_inputs"]
    given = _given(node.input, around)
    states, stacks = given[:-streams], given[-streams:]
    axes = attributes.get("scan_input_axes", [0] * streams)
    slices = [slice_of(t, a) for t, a in zip(stacks, axes, strict=True)]
    inside = enter_loop(attributes["body"], node.output[0], states, slices, around)
    after = [inside.output(i) for i in range(len(node.output))]
    lengths: list[Dim] = [t.shape[a] for t, a in zip(stacks, axes, strict=True) if t and t.shape]
    length = next((d for d in lengths if isinstance(d, int)), lengths[0] if lengths else _trips(node))
    along = attributes.get("scan_output_axes", [0] * (len(after) - len(states)))
    return after[: len(states)] + [_stack(t, a, length) for t, a in zip(after[len(states) :], along, strict=True)]


_RESULTS: dict[str, Callable[[onnx.NodeProto, Around], list[Type | None]]] = {"If": _if, "Loop": _loop, "Scan": _scan}
OPERATORS = frozenset(_RESULTS)


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _given(names: Sequence[str], around: Around) -> list[Type | None]:
    return [around.type(n) if n and around.has_type(n) else None for n in names]


def _trips(node: onnx.NodeProto) -> str:
    return f"{node.output[0]}:trips"


def _common(a: Type | None, b: Type | None, name: str) -> Type | None:
    """A type that is right for both: a dimension in which they differ gets a symbol of its own."""
    if a is None or b is None:
        return None
    if a.shape is None or b.shape is None or len(a.shape) != len(b.shape):
        return Type(a.dtype, None)
    return Type(
        a.dtype, tuple(x if x == y else f"{name}:{i}" for i, (x, y) in enumerate(zip(a.shape, b.shape, strict=True)))
    )


def _stack(slice_: Type | None, axis: int, length: Dim) -> Type | None:
    if slice_ is None or slice_.shape is None:
        return slice_
    axis %= len(slice_.shape) + 1
    return Type(slice_.dtype, (*slice_.shape[:axis], length, *slice_.shape[axis:]))


def _let_out(type_: Type, name: str, known: set[Dim]) -> Type:
    if type_.shape is None:
        return type_
    dims = [d if isinstance(d, int) or d in known else f"{name}:{i}" for i, d in enumerate(type_.shape)]
    return Type(type_.dtype, tuple(dims))
