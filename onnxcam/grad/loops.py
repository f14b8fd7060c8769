"""Gradients of Loop and Scan.

The loop runs once more, to save the states that each iteration began with. Another one then visits the iterations from
last to first: it carries the gradients of the states, adds up those of captured tensors, and computes inside what the
iteration computed. A Scan reverses as a Scan. A Loop reverses as a Loop that looks up what was saved, since it may
have run no iteration at all, and its states may have changed their shapes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnxcam.grad.control import Gradients, graph_of, no_gradient, subgraph, tape_in
from onnxcam.grad.forward import Forward
from onnxcam.grad.infer import Type
from onnxcam.grad.nested import changes_shape, enter_loop, slice_of
from onnxcam.grad.registry import joint
from onnxcam.grad.reverse import accumulate, reachable, refuse_missing
from onnxcam.grad.shapes import INT64
from onnxcam.grad.subgraph import Body, Inside
from onnxcam.grad.tensor import Tape, Value, op

Names = Sequence[str]
SEQUENCE = Type(onnx.TensorProto.UNDEFINED, None)


@dataclass(frozen=True)
class Backward:
    """One iteration backwards; values inside it, by the names of the tensors in the body whose gradients they are.

    `carried` comes from the iteration after: gradients of states, then sums for what is captured. `outputs` is the
    same for the iteration before, then the gradients of slices. `seeds` are the gradients of slices that the body
    returns, by the number of the output that they become.
    """

    body: Body
    tape: Tape
    carried: Mapping[str, Value]
    outputs: Mapping[str, Value]
    seeds: Mapping[int, Value]

    @classmethod
    def of(cls, inside: Inside[Forward], around: Tape, states: range, wanted: Names, g: Gradients) -> "Backward":
        """Walk over a body whose inputs at `states` are its states; `g` belongs to the loop's outputs."""
        body, graph = inside.body, inside.graph
        tape = tape_in(inside, around)
        returned = body.outputs[states.start // 2 :]  # a Loop is given two counters first, and returns one
        pairs = [(body.inputs[i], o) for i, o in zip(states, returned, strict=False)]
        active = _active(graph, wanted, pairs)
        refuse_missing(graph, body.outputs, active)
        after = {b: tape.input(tape.fresh("after"), tape.wider(graph.type(a))) for b, a in pairs if b in active}
        sums = {n: tape.input(tape.fresh("sum"), tape.wider(graph.type(n))) for n in wanted if n not in body.inputs}
        slices = {i: returned[i] for i in range(len(states), len(g)) if g[i] is not None}
        seeds = {i: tape.input(tape.fresh("seed"), tape.wider(graph.type(o))) for i, o in slices.items()}
        given = {a: after[b] for b, a in pairs if b in after} | {o: seeds[i] for i, o in slices.items()}
        found = accumulate(graph, tape, given, active)
        outputs = {}
        for n in dict.fromkeys([*after, *sums, *wanted]):
            v = found.get(n) or no_gradient(tape.value(n))
            outputs[n] = tape.rename(sums[n] + v if n in sums else v, tape.fresh("gradient"))
        return cls(body, tape, {**after, **sums}, outputs, seeds)

    def reads(self, names: Names) -> list[str]:
        """Those tensors of the body that the gradients are computed from."""
        read = subgraph(self.body, self.tape, [], self.outputs.values())[1]
        return [n for n in names if n in read]

    def starts(self, values: Mapping[str, Value], g: Mapping[str, Value | None]) -> list[Value]:
        """What the last iteration is given: the gradients of the final states, and sums of nothing."""
        return [g.get(n) or no_gradient(values[n]) for n in self.carried]

    def write(self, node: onnx.NodeProto, values: Mapping[str, Value], wanted: Names) -> list[Value]:
        """Write the loop over this iteration; the gradients of what is wanted."""
        tape = values[wanted[0]].tape
        node.output[:] = [tape.fresh("gradient") for _ in self.outputs]
        results = dict(
            zip(self.outputs, tape.copy(node, [tape.wider(values[n].type) for n in self.outputs]), strict=True)
        )
        return [results[n] for n in wanted]


def _active(graph: Forward, wanted: Names, pairs: Sequence[tuple[str, str]]) -> list[str]:
    """What is wanted, and the states that come to depend on it in some iteration."""
    active = list(wanted)
    floats = [(b, a) for b, a in pairs if graph.has_type(b) and graph.type(b).is_float]
    while True:
        reached = reachable(graph, active)
        more = [b for b, a in floats if a in reached and b not in active]
        if not more:
            return active
        active += more


def _again(
    node: onnx.NodeProto, inside: Inside[Forward], states: range, saved: Names, tape: Tape, changing: Names = ()
) -> tuple[dict[str, Value], dict[str, Value]]:
    """Run a loop once more: its final states, and for each of the body's inputs in `saved` all values that it had.

    They are stacked, or in a sequence where their shape is `changing`.
    """
    body = next(a.g for a in node.attribute if a.name == "body")
    scope, own, type_of = inside.body.scope, list(inside.body.inputs), inside.graph.type
    count = states.start // 2 + len(states)
    final = [type_of(o) for o in inside.body.outputs[count - len(states) : count]]
    del body.output[count:]
    kinds = []
    saved = sorted(saved, key=lambda name: name not in changing)  # sequences are states, which come before stacks
    for name in saved:
        formal, kept, type_ = body.input[own.index(name)].name, f"{scope}/kept_{len(body.output)}", type_of(name)
        if name in changing:
            (empty,) = tape.copy(_node("SequenceEmpty", [], tape.fresh("empty"), dtype=type_.dtype), [SEQUENCE])
            node.input.append(empty.name)
            body.input.append(helper.make_tensor_sequence_value_info(f"{kept}:before", type_.dtype, None))
            body.node.append(_node("SequenceInsert", [f"{kept}:before", formal], kept))
            kinds.append(SEQUENCE)
        else:
            body.node.append(_node("Identity", [formal], kept))
            kinds.append(Type(type_.dtype, None if type_.shape is None else (f"{node.name}:trips", *type_.shape)))
        body.output.append(helper.make_empty_tensor_value_info(kept))
    node.output[:] = [tape.fresh("again") for _ in [*final, *kinds]]
    values = iter(tape.copy(node, [*final, *kinds]))
    return {own[i]: next(values) for i in states}, dict(zip(saved, values, strict=True))


def _node(op_type: str, inputs: Names, output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op_type, inputs, [output], output, **attributes)


# ----- Scan -----
@dataclass(frozen=True)
class Stream:
    """What a Scan reads or writes slice by slice: along an axis, from its beginning (way 0) or from its end."""

    whole: Value
    slice: Value
    axis: int
    way: int

    def back(self) -> "Stream":
        """From the other end."""
        return replace(self, way=1 - self.way)


def scan(
    g: Gradients,
    wanted: Sequence[int],
    *inputs: Value,
    body: onnx.GraphProto,
    num_scan_inputs: int,
    scan_input_axes: Sequence[int] | None = None,
    scan_input_directions: Sequence[int] | None = None,
    scan_output_axes: Sequence[int] | None = None,
    scan_output_directions: Sequence[int] | None = None,
) -> list[Value]:
    """A Scan the other way round, over the same slices, the states before them and the gradients after them."""
    tape, m, n = inputs[0].tape, num_scan_inputs, len(body.input) - num_scan_inputs
    axes, ways = scan_input_axes or [0] * m, scan_input_directions or [0] * m
    out_axes, out_ways = scan_output_axes or [0] * len(g), scan_output_directions or [0] * len(g)
    slices = [slice_of(v.type, a) for v, a in zip(inputs[n:], axes, strict=False)]
    inside = enter_loop(body, tape.fresh("Scan"), [v.type for v in inputs[:n]], slices, graph_of(tape))
    values = dict(zip([*inside.body.inputs, *inside.body.captured.values()], inputs, strict=True))
    names = list(values)
    backward = Backward.of(inside, tape, range(n), [names[i] for i in wanted], g)
    inner = backward.tape
    streams = {x: Stream(values[x], inner.value(x), a, w) for x, a, w in zip(names[n:], axes, ways, strict=False)}
    node = _scan(tape, body, inputs[:n], list(streams.values()), [])
    final, stacks = _again(node, inside, range(n), backward.reads(names[:n]), tape)

    read = [Stream(stack, inner.value(s), 0, 1) for s, stack in stacks.items()]
    read += [s.back() for s in streams.values()]
    ends = [(g[i], seed, out_axes[i - n], out_ways[i - n]) for i, seed in backward.seeds.items()]
    read += [Stream(v, seed, a, w).back() for v, seed, a, w in ends if v is not None]
    made = [s.back() for x, s in streams.items() if x in backward.outputs]
    graph, _ = subgraph(
        inside.body, inner, [*backward.carried.values(), *(s.slice for s in read)], backward.outputs.values()
    )
    starts = backward.starts({**values, **final}, dict(zip(names[:n], g, strict=False)))
    return backward.write(_scan(tape, graph, starts, read, made), values, [names[i] for i in wanted])


def _scan(
    tape: Tape, body: onnx.GraphProto, states: Sequence[Value], read: Sequence[Stream], made: Sequence[Stream]
) -> onnx.NodeProto:
    ends: dict[str, Any] = {"scan_output_axes": [s.axis for s in made], "scan_output_directions": [s.way for s in made]}
    return helper.make_node(
        "Scan",
        [v.name for v in (*states, *(s.whole for s in read))],
        [],
        tape.fresh("Scan"),
        body=body,
        num_scan_inputs=len(read),
        scan_input_axes=[s.axis for s in read],
        scan_input_directions=[s.way for s in read],
        **(ends if made else {}),
    )


joint("Scan", scan, since=9)


# ----- Loop -----
def loop(g: Gradients, wanted: Sequence[int], *inputs: Value | None, body: onnx.GraphProto) -> list[Value]:
    """A Loop of as many iterations, each of which looks up what its counterpart began with."""
    n = len(body.input)
    given = [v for v in inputs[2:] if v is not None]
    tape, states = given[0].tape, range(2, n)
    inside = enter_loop(body, tape.fresh("Loop"), [v.type for v in given[: n - 2]], [], graph_of(tape))
    counter, condition, *own = inside.body.inputs
    values = dict(zip([*own, *inside.body.captured.values()], given, strict=True))
    names = [counter, condition, *values]
    backward = Backward.of(inside, tape, states, [names[i] for i in wanted], g)
    node = helper.make_node("Loop", [v.name if v else "" for v in inputs[:n]], [], tape.fresh("Loop"), body=body)
    read = backward.reads(own)
    changing = [s for s in read if tape.graph.opsets[""] >= 13 and changes_shape(inside, s)]
    final, saved = _again(node, inside, states, [counter, *read], tape, changing)

    trips = op.Gather(op.Shape(saved.pop(counter)), tape.constant(0, INT64))
    last = op.Sub(trips, tape.constant(1, INT64))
    looked_up = saved | {seed.name: v for i, seed in backward.seeds.items() if (v := g[i]) is not None}
    graph = _looking_up(backward, inside.graph.type(counter), last, looked_up, changing)
    starts = backward.starts({**values, **final}, dict(zip(own, g, strict=False)))
    node = helper.make_node("Loop", [trips.name, "", *(v.name for v in starts)], [], tape.fresh("Loop"), body=graph)
    return backward.write(node, values, [names[i] for i in wanted])


def _looking_up(
    backward: Backward, counter: Type, last: Value, saved: Mapping[str, Value], sequences: Names
) -> onnx.GraphProto:
    """The iteration as a Loop's body: what it reads is found in stacks and sequences, counted from the last."""
    inner = backward.tape
    i = inner.input(inner.fresh("counter"), Type(INT64, ()))
    going, on = (inner.input(inner.fresh(name), Type(onnx.TensorProto.BOOL, ())) for name in ("going", "on"))
    index, shape, true = inner.fresh("index"), inner.fresh("shape"), numpy_helper.from_array(np.array(True))
    numbers = numpy_helper.from_array(np.ones(len(counter.shape or ()), np.int64))
    before = [
        _node("Sub", [last.name, i.name], index),
        _node("Constant", [], shape, value=numbers),
        _node("Reshape", [index, shape], backward.body.inputs[0]),
        _node("Constant", [], backward.body.inputs[1], value=true),
        _node("Identity", [going.name], on.name),
        *(_node("SequenceAt" if n in sequences else "Gather", [v.name, index], n) for n, v in saved.items()),
    ]
    inputs, outputs = [i, going, *backward.carried.values()], [on, *backward.outputs.values()]
    return subgraph(backward.body, inner, inputs, outputs, before)[0]


joint("Loop", loop)
