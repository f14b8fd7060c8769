"""Quantised tensors in the walk's copy: an integer tensor that stands for a float one is replaced by that float one.

The walk stops at integers, and rules need float values. So a quantiser, what moves its integers about, and what
dequantises them become float operators between the tensors that DequantizeLinear gives: the file's own where it has
them, else written on the tape, where they are dropped unless read. Nothing of the tail may read a tensor between an
operator and its quantiser, or onnxruntime computes that operator in float: its dequantised value is read instead.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from onnx import TensorProto

from onnxcam.grad.forward import Forward
from onnxcam.grad.infer import Type
from onnxcam.grad.lowering import MICROSOFT, WALK
from onnxcam.grad.node import Node
from onnxcam.grad.subgraph import SMALL
from onnxcam.grad.tensor import Tape, Value, op

# Where an operator of integers has the scale and the zero point of its result among its inputs.
_RESULT = {
    "QuantizeLinear": (1, 2), "QLinearConv": (6, 7), "QLinearMatMul": (6, 7), "QLinearAdd": (6, 7),
    "QLinearMul": (6, 7), "QGemm": (7, 8), "QLinearConcat": (0, 1), "QLinearWhere": (7, 8),
    "QLinearAveragePool": (3, 4), "QLinearGlobalAveragePool": (3, 4), "QLinearLeakyRelu": (3, 4),
    "QLinearSigmoid": (3, 4), "QLinearSoftmax": (3, 4),
}  # fmt: skip
_SHAPES = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
_MOVES = _SHAPES | {
    "Concat", "DepthToSpace", "Expand", "Gather", "GatherElements", "GatherND", "MaxPool", "Pad", "Resize", "Slice",
    "SpaceToDepth", "Split", "Tile", "Upsample",
}  # fmt: skip
_INTEGERS = frozenset({
    TensorProto.UINT8, TensorProto.INT8, TensorProto.UINT16, TensorProto.INT16, TensorProto.INT32, TensorProto.UINT4,
    TensorProto.INT4,
})  # fmt: skip
_ARITHMETIC = _INTEGERS - {TensorProto.UINT4, TensorProto.INT4}
_DOMAINS = ("", MICROSOFT)


@dataclass(frozen=True)
class Meaning:
    """What an integer tensor stands for: (q − zero)·scale. Where neither is named, itself."""

    scale: str = ""
    zero: str = ""
    axis: int = 1
    block_size: int = 0


def meanings(forward: Forward) -> dict[str, Meaning]:
    """Every integer tensor that stands for a float one."""
    found: dict[str, Meaning] = {}
    for node in forward.nodes:
        if node.domain == WALK:
            found[node.outputs[0]] = Meaning()
        elif node.domain in _DOMAINS and node.op in _RESULT:
            if not (forward.has_type(node.outputs[0]) and forward.type(node.outputs[0]).is_float):
                found[node.outputs[0]] = _meaning(node, *_RESULT[node.op])
        elif node.op == "DynamicQuantizeLinear":
            found[node.outputs[0]] = Meaning(node.outputs[1], node.outputs[2])
        elif not node.domain and node.op in _MOVES and node.inputs[0] in found:
            data = [i for i in node.inputs if i in found]
            if all(_equal(found[i], found[data[0]], forward) for i in data) and _whole(found[data[0]], forward):
                found.update(dict.fromkeys(node.outputs, found[data[0]]))
        elif node.op == "Cast" and node.inputs[0] in found and node.attributes.get("to") in _INTEGERS:
            found[node.outputs[0]] = found[node.inputs[0]]
    return found


def dequantized(name: str, forward: Forward, tape: Tape) -> str:
    """The float tensor that integer tensor `name` stands for; `name` itself where it stands for none."""
    meaning = meanings(forward).get(name)
    return name if meaning is None else _float(name, meaning, _own(forward, tape), forward, tape)


def shown(forward: Forward) -> dict[str, str]:
    """The tensor to look at in place of another.

    For an integer one, its dequantised values where the file has them, else itself; for a float one that nothing but
    quantisers reads, the same of what they make of it.
    """
    own, found = _own(forward), {}
    for q, meaning in meanings(forward).items():
        found[q] = next((n.outputs[0] for n in own.get(q, []) if _equal(_meaning(n, 1, 2), meaning, forward)), q)
    return found | {x: found[q] for x, q in _hidden(forward).items()}


def _hidden(forward: Forward) -> dict[str, str]:
    """Float tensors made by an operator and read by quantisers alone, with what the first of these makes of them."""
    readers, made = forward.consumers(), forward.producers()
    return {
        x: readers[x][0].outputs[0]
        for x in made
        if x in readers and all(map(_hides, readers[x])) and x not in forward.outputs
    }


def join(forward: Forward, tape: Tape, of: str | None = None) -> None:
    """Rewrite `forward.nodes` in place. Values of `of`, the tensor that is differentiated, count as inside their range.

    Calibration puts the largest value ever seen at the very bound: the best score of all would have no gradient.
    """
    for node in forward.nodes:
        if _is(node, "DequantizeLinear") and _is_weight(node, forward):
            tape.instead[node.outputs[0]] = _folded(node, forward, tape).name
    found = meanings(forward)
    own = _own(forward, tape)
    floats = {q: _float(q, m, own, forward, tape) for q, m in found.items()}
    graph = _Graph(forward, tape, found, floats, _result(forward, of))
    tape.instead |= {x: floats[q] for x, q in _hidden(forward).items()}
    tape.instead |= {floats[n.outputs[0]]: n.inputs[0] for n in forward.nodes if n.op == "DynamicQuantizeLinear"}
    forward.nodes = [new for node in forward.nodes for new in _rewritten(node, graph)]


def _is_weight(node: Node, forward: Forward) -> bool:
    """Whether a dequantiser reads constants that arithmetic can dequantise as well."""
    constant = all(not i or i in forward.initializers or forward.constant(i, SMALL) is not None for i in node.inputs)
    return constant and forward.type(node.inputs[0]).dtype in _ARITHMETIC and not node.attributes.get("block_size")


def _folded(node: Node, forward: Forward, tape: Tape) -> Value:
    """(q − zero)·scale in arithmetic. onnxruntime folds that when it loads, but a DequantizeLinear never."""
    q, meaning = tape.value(node.inputs[0]), _meaning(node, 1, 2)
    scale = tape.value(meaning.scale)
    others = [a for a in range(q.rank) if a != meaning.axis % max(q.rank, 1)] if scale.rank and q.rank > 1 else []
    columns = (lambda v: op.Unsqueeze(v, axes=others)) if others else (lambda v: v)
    centred = op.Cast(q, to=scale.dtype)
    if meaning.zero:
        centred = centred - columns(op.Cast(tape.value(meaning.zero), to=scale.dtype))
    value = centred * columns(scale)
    forward.add(value.name, value.type)
    return value


@dataclass(frozen=True)
class _Graph:
    """What the rewrite of one node needs to know of the others."""

    forward: Forward
    tape: Tape
    meanings: dict[str, Meaning]
    floats: dict[str, str]
    result: frozenset[str]


def _rewritten(node: Node, graph: _Graph) -> list[Node]:
    """The float operators that `node` is between the tensors that integers stand for."""
    if _quantises(node):
        return [_quantiser(node, graph)]
    if not any(i in graph.floats for i in node.inputs):
        return [node]
    q, y = node.inputs[0], node.outputs[0]
    if _is(node, "DequantizeLinear") and q in graph.floats:
        return _dequantiser(node, graph)
    if node.op == "Cast" and q in graph.floats and graph.forward.type(y).is_float:
        return _divided(node, graph)
    return _moved(node, graph)


def _quantiser(node: Node, graph: _Graph) -> Node:
    x, q = node.inputs[0], node.outputs[0]
    dtype = graph.forward.type(q).dtype
    spared = q in graph.result and x in graph.tape.instead
    if node.op != "QuantizeLinear" or spared or dtype == TensorProto.INT32:
        return Node("Identity", node.name, (x,), (graph.floats[q],), {}, "", graph.forward.opsets[""])
    attributes = {"axis": graph.meanings[q].axis, "block_size": graph.meanings[q].block_size, "to": dtype}
    return Node("Quantized", node.name, node.inputs, (graph.floats[q],), attributes, WALK, 1)


def _dequantiser(node: Node, graph: _Graph) -> list[Node]:
    forward, tape, q, y = graph.forward, graph.tape, node.inputs[0], node.outputs[0]
    value = graph.floats[q]
    if y == value:
        return []
    own, given = _meaning(node, 1, 2), graph.meanings[q]
    if _equal(own, given, forward):
        tape.instead[y] = value
        return [Node("Identity", node.name, (value,), (y,), {}, "", forward.opsets[""])]
    if any(s and forward.type(s).shape not in ((), (1,)) for s in (own.scale, given.scale)):
        return [_unknown(node, graph)]
    if not given.scale:
        return [Node("Mul", node.name, (value, own.scale), (y,), {}, "", forward.opsets[""])]
    steps = op.Div(tape.value(value), tape.value(given.scale))
    forward.add(steps.name, steps.type)
    divide = Node("Div", node.name, (value, given.scale), (steps.name,), {}, "", forward.opsets[""])
    return [divide, Node("Mul", node.name, (steps.name, own.scale), (y,), {}, "", forward.opsets[""])]


def _divided(node: Node, graph: _Graph) -> list[Node]:
    """Integers read as numbers: what they stand for, in steps of the scale (and from another zero)."""
    q, scale = node.inputs[0], graph.meanings[node.inputs[0]].scale
    if scale and graph.forward.type(scale).shape not in ((), (1,)):
        return [_unknown(node, graph)]
    inputs = (graph.floats[q], scale) if scale else (graph.floats[q],)
    return [Node("Div" if scale else "Identity", node.name, inputs, node.outputs, {}, "", graph.forward.opsets[""])]


def _moved(node: Node, graph: _Graph) -> list[Node]:
    forward = graph.forward
    made = [o for o in node.outputs if o and not forward.type(o).is_float and forward.type(o).dtype in _INTEGERS]
    if not made:
        return [node]  # sizes, positions and truth values: nothing to differentiate
    if not all(o in graph.floats for o in made) or node.op not in _MOVES | {"Cast"}:
        return [_unknown(node, graph)]
    if node.op == "Cast":
        return [Node("Identity", node.name, (graph.floats[node.inputs[0]],), (graph.floats[made[0]],), {}, "", 1)]
    return [replace(node, inputs=_floats(node.inputs, graph), outputs=_floats(node.outputs, graph))]


def _unknown(node: Node, graph: _Graph) -> Node:
    """An operator on integers that is not understood: on the path it is named as one without a gradient."""
    for o in node.outputs:
        if o and not graph.forward.type(o).is_float and o not in graph.floats:
            graph.floats[o] = graph.tape.fresh(node.op)
            graph.meanings[o] = Meaning()
            graph.forward.add(graph.floats[o], Type(TensorProto.FLOAT, graph.forward.type(o).shape))
    named = replace(node, name=node.name or node.outputs[0], domain=node.domain or "integer")
    return replace(named, inputs=_floats(node.inputs, graph), outputs=_floats(node.outputs, graph))


def _floats(names: Sequence[str], graph: _Graph) -> tuple[str, ...]:
    return tuple(graph.floats.get(n, n) for n in names)


# ----- what stands for what -----
def _float(name: str, meaning: Meaning, own: Mapping[str, Sequence[Node]], forward: Forward, tape: Tape) -> str:
    for node in own.get(name, []):
        if _equal(_meaning(node, 1, 2), meaning, forward):
            return node.outputs[0]
    if not meaning.scale:
        value = op.Cast(tape.value(name), to=TensorProto.FLOAT)
    else:
        zero = tape.value(meaning.zero) if meaning.zero else None
        along = {"axis": meaning.axis} if forward.type(meaning.scale).shape not in ((), (1,)) else {}
        blocks = {"block_size": meaning.block_size} if meaning.block_size else {}
        value = op.DequantizeLinear(tape.value(name), tape.value(meaning.scale), zero, **along, **blocks)
    forward.add(value.name, value.type)
    return value.name


def _own(forward: Forward, tape: Tape | None = None) -> dict[str, list[Node]]:
    """The nodes of the file itself that dequantise each tensor."""
    written = {t.name for n in tape.nodes for t in n.outputs} if tape else set()
    found: dict[str, list[Node]] = {}
    for node in forward.nodes:
        if _is(node, "DequantizeLinear") and node.outputs[0] not in written:
            found.setdefault(node.inputs[0], []).append(node)
    return found


def _result(forward: Forward, of: str | None) -> frozenset[str]:
    """The quantised tensors that `of` is, but for its shape."""
    made, found = forward.producers(), set()
    name = of or ""
    while (node := made.get(name)) and (node.op in _SHAPES | {"QuantizeLinear", "DequantizeLinear"}):
        if node.op == "QuantizeLinear":
            found.add(name)
        name = node.inputs[0]
    return frozenset(found)


def _is(node: Node, operator: str) -> bool:
    return node.op == operator and node.domain in _DOMAINS


def _hides(node: Node) -> bool:
    """Whether a node quantises, in one step with the operator before it."""
    return _is(node, "QuantizeLinear") or node.domain == WALK


def _quantises(node: Node) -> bool:
    return _hides(node) or node.op == "DynamicQuantizeLinear"


def _meaning(node: Node, scale: int, zero: int) -> Meaning:
    given = (*node.inputs, "", "")
    axis, block_size = node.attributes.get("axis", 1), node.attributes.get("block_size", 0)
    along = node.op in ("QuantizeLinear", "DequantizeLinear")
    return Meaning(given[scale], given[zero], int(str(axis)) if along else 1, int(str(block_size)) if along else 0)


def _equal(a: Meaning, b: Meaning, forward: Forward) -> bool:
    """Whether two meanings are one: the same tensors, or constants of the same values."""
    if bool(a.scale) != bool(b.scale):
        return False
    same = a.block_size == b.block_size and (a.axis == b.axis or forward.type(a.scale).shape in ((), (1,)))
    return same and _same(a.scale, b.scale, forward) and _same(a.zero, b.zero, forward)


def _same(a: str, b: str, forward: Forward) -> bool:
    if a == b:
        return True
    left, right = (np.zeros(()) if not n else forward.constant(n) for n in (a, b))
    return left is not None and right is not None and bool(np.array_equal(left, right))


def _whole(meaning: Meaning, forward: Forward) -> bool:
    """Whether one scale holds for the whole tensor, so that moving its elements changes nothing."""
    return not meaning.scale or forward.type(meaning.scale).shape in ((), (1,))
