"""Rewrites of the walk's copy into forms that rules understand. The nodes that ship are never touched.

Each rewrite is one function from a node to the nodes that take its place; a rewrite is better than a branch in five
rules. What a rewrite computes anew (run-time pads) is written on the tape, where unused nodes are dropped in the end.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from onnxcam.grad.expand import expand
from onnxcam.grad.forward import Forward
from onnxcam.grad.infer import Type
from onnxcam.grad.mask import LOWEST
from onnxcam.grad.node import Node
from onnxcam.grad.quantized import join
from onnxcam.grad.sequences import unpacked
from onnxcam.grad.shapes import INT64, not_negative, sizes
from onnxcam.grad.tensor import Tape, op
from onnxcam.grad.window import Window

Rewrite = Callable[[Node, Forward, Tape], list[Node]]


def prepare(forward: Forward, tape: Tape, keep: Sequence[str] = (), of: str | None = None) -> None:
    """Rewrite `forward.nodes` in place; `of`, which is differentiated, and `keep` stay visible to the walk."""
    forward.nodes = [new for node in forward.nodes for new in expand(node, forward, tape)]
    forward.nodes = unpacked(forward, tape)
    join(forward, tape, of)
    forward.nodes = [new for node in forward.nodes for new in _explicit_pads(node, forward, tape)]
    _robust_softmax(forward, tape)
    _fuse_gates(forward, {*keep, *forward.outputs, *([of] if of else [])})


def hold(forward: Forward, tape: Tape, inputs: Mapping[str, int]) -> None:
    """Take that input of these operators for a constant, whatever it is made of: the walk reads a copy of it."""
    for i, node in enumerate(forward.nodes):
        index = None if node.domain else inputs.get(node.op)
        if index is not None:
            copied = op.Identity(tape.value(node.inputs[index]))
            forward.add(copied.name, copied.type)
            forward.nodes[i] = replace(node, inputs=(*node.inputs[:index], copied.name, *node.inputs[index + 1 :]))


# ----- padding -----
def _explicit_pads(node: Node, forward: Forward, tape: Tape) -> list[Node]:
    """auto_pad as pads: VALID and SAME are numbers where the size is known or the stride is 1."""
    mode = node.attributes.get("auto_pad", b"NOTSET")
    if node.domain or "auto_pad" not in node.attributes or node.op == "ConvTranspose":
        return [node]
    rest = {k: v for k, v in node.attributes.items() if k != "auto_pad"}
    if mode == b"NOTSET":
        return [replace(node, attributes=rest)]
    if mode == b"VALID":
        return [replace(node, attributes={k: v for k, v in rest.items() if k != "pads"})]
    x = tape.value(node.inputs[0])
    window = _window(node, forward)
    if any(d > 1 for d in window.dilations):
        return [node]  # onnxruntime places these windows elsewhere than the specification: no rule takes them
    space = x.shape[2:]
    lower = mode == b"SAME_LOWER"
    begin, end = [], []
    for size, k, s in zip(space, window.reach, window.strides, strict=True):
        if not isinstance(size, int) and s > 1:
            return _pad_at_run_time(node, rest, forward, tape, window, lower) if tape.graph.opsets[""] >= 11 else [node]
        total = max(0, k - 1 if s == 1 or not isinstance(size, int) else (-(-size // s) - 1) * s + k - size)
        small = total // 2
        begin.append(total - small if lower else small)
        end.append(small if lower else total - small)
    return [replace(node, attributes={**rest, "pads": begin + end})]


def _pad_at_run_time(
    node: Node, rest: dict[str, object], forward: Forward, tape: Tape, window: Window, lower: bool
) -> list[Node]:
    """SAME over a dynamic size with strides: a Pad whose amounts are computed, then the window without padding."""
    x = tape.value(node.inputs[0])
    axes = list(range(2, x.rank))
    size = sizes(x, axes)
    stride = tape.constant(window.strides, INT64)
    one = tape.constant([1], INT64)
    windows = op.Div(op.Sub(op.Add(size, stride), one), stride)
    need = op.Add(op.Mul(op.Sub(windows, one), stride), tape.constant(window.reach, INT64))
    total = not_negative(op.Sub(need, size))
    small = op.Div(total, tape.constant([2], INT64))
    large = op.Sub(total, small)
    none = tape.constant([0, 0], INT64)
    pads = op.Concat(none, *((large, none, small) if lower else (small, none, large)), axis=0)
    padded = op.Pad(x, pads=pads, constant_value=LOWEST[x.dtype] if node.op == "MaxPool" else None)
    forward.add(pads.name, pads.type)
    padded = tape.retype(padded, Type(x.dtype, (*x.shape[:2], *padded.shape[2:])))
    forward.add(padded.name, padded.type)
    padding = Node("Pad", f"{node.name}/pad", (x.name, pads.name), (padded.name,), {}, "", forward.opsets[""])
    unpadded = {k: v for k, v in rest.items() if k not in ("pads", "ceil_mode")}  # the windows fit as they are
    pooled = replace(node, inputs=(padded.name, *node.inputs[1:]), attributes=unpadded)
    if node.op != "AveragePool" or node.attributes.get("count_include_pad", 0):
        return [padding, pooled]
    # Zeros in the padding are averaged too: divided by what the same pool makes of ones, they are not.
    ones = op.Expand(tape.constant(1, x.dtype), op.Concat(tape.constant([1, 1], INT64), size, axis=0))
    share = op.AveragePool(op.Pad(ones, pads=pads), kernel_shape=list(window.kernel), strides=list(window.strides))
    forward.add(share.name, share.type)
    average = f"{node.outputs[0]}/padded"
    forward.add(average, Type(x.dtype, forward.type(node.outputs[0]).shape))
    divide = Node("Div", f"{node.name}/div", (average, share.name), node.outputs, {}, "", forward.opsets[""])
    return [padding, replace(pooled, outputs=(average,)), divide]


def _window(node: Node, forward: Forward) -> Window:
    kernel = node.attributes.get("kernel_shape") or (forward.type(node.inputs[1]).shape or ())[2:]
    return Window.of(kernel, node.attributes.get("strides"), node.attributes.get("dilations"))  # type: ignore[arg-type]  # attributes checked by the schema


# ----- patterns -----
def _gated(gate: Node) -> tuple[str, dict[str, object], int] | None:
    """The operator that x·gate(x) is: name, attributes and the opset that defines it."""
    if gate.op == "Sigmoid":
        return "Swish", {"alpha": 1.0}, 24
    alpha, beta = gate.attributes.get("alpha", 0.2), gate.attributes.get("beta", 0.5)
    if gate.op == "HardSigmoid" and abs(float(str(alpha)) - 1 / 6) < 1e-6 and beta == 0.5:
        return "HardSwish", {}, 14
    return None


def _fuse_gates(forward: Forward, keep: set[str]) -> None:
    """x·Sigmoid(x), as exporters write it, is Swish: one gradient instead of two paths and a sum."""
    made, read = forward.producers(), forward.consumers()
    dropped: set[str] = set()
    for position, node in enumerate(forward.nodes):
        if node.op != "Mul" or node.domain:
            continue
        for gate, x in (node.inputs, node.inputs[::-1]):
            source = made.get(gate)
            fused = _gated(source) if source and source.inputs[:1] == (x,) and not source.domain else None
            if fused and len(read[gate]) == 1 and gate not in keep:
                forward.nodes[position] = Node(fused[0], node.name, (x,), node.outputs, fused[1], "", fused[2])
                dropped.add(gate)
                break
    forward.nodes = [n for n in forward.nodes if not dropped.intersection(n.outputs)]


def _robust_softmax(forward: Forward, tape: Tape) -> None:
    """A softmax s with rows that are masked out, Where(row, 0, s) as attention has it, is that softmax with zero rows.

    Read from the output, which is 0 in such a row where s is NaN, its gradient is 0 there too, and not 0 · NaN.
    """
    made = forward.producers()
    nodes: list[Node] = []
    for node in forward.nodes:
        source = _masked_softmax(node, made, forward)
        if source is None:
            nodes.append(node)
            continue
        exact = forward.type(source.outputs[0]).dtype
        if exact == forward.type(node.outputs[0]).dtype:
            nodes.append(replace(source, outputs=node.outputs))
            continue
        clean = op.Cast(tape.value(node.outputs[0]), to=exact)
        forward.add(clean.name, clean.type)
        back = {"to": forward.type(node.outputs[0]).dtype}
        nodes += [
            replace(source, outputs=(clean.name,)),
            Node("Cast", node.name, (clean.name,), node.outputs, back, "", node.version),
        ]
    forward.nodes = nodes


def _masked_softmax(node: Node, made: Mapping[str, Node], forward: Forward) -> Node | None:
    """The softmax whose rows `node` sets to 0; None where it does something else."""
    if node.op != "Where" or node.domain:
        return None
    test, zero, kept = node.inputs
    source, value = made.get(kept), forward.constant(zero, 1)
    while source and source.op == "Cast":
        source = made.get(source.inputs[0])
    if source is None or source.op != "Softmax" or value is None or value.any():
        return None
    by_row = (forward.type(test).shape or (0,))[-1] == 1 and source.attributes.get("axis", -1) == -1
    asks = made.get(test)
    return source if by_row or (asks is not None and asks.op == "IsNaN" and asks.inputs == (kept,)) else None
