"""Sequences, followed to the tensors that a model packs into them and takes out again.

A sequence that is made and read at known positions is only a way of naming tensors: the walk's copy gets an Identity
where one is taken out, a Concat where they are joined, a Split where one is cut up. Of a tensor that is cut into an
unknown number of parts of one length, a part is a Gather or a Slice. The nodes that pack stay: what cannot be followed
(a sequence that a loop fills, or one from outside) is then met by the walk, and refused for want of a rule.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from onnx import helper

from onnxcam.grad.forward import Forward
from onnxcam.grad.infer import Type
from onnxcam.grad.node import Node
from onnxcam.grad.shapes import INT64
from onnxcam.grad.tensor import Tape, Value, op, split

_VERSION = 11  # the opset that brought sequences: nodes written here have axes and sizes as attributes, as it has


@dataclass(frozen=True)
class Parts:
    """A tensor cut along `axis` into parts of `length`, or into slices without that axis where it is None."""

    x: str
    axis: int
    length: int | None


def unpacked(forward: Forward, tape: Tape) -> list[Node]:
    """The nodes of `forward`, with tensors in place of the sequences that can be followed."""
    sequences = Sequences(forward, tape)
    return [new for node in forward.nodes for new in sequences.follow(node)]


class Sequences:
    """What is known of each sequence so far: its tensors in order, the tensor that it was cut from, or both."""

    def __init__(self, forward: Forward, tape: Tape) -> None:
        """Start before the first node of `forward`; what is computed anew goes on `tape`."""
        self.forward = forward
        self.tape = tape
        self.tensors: dict[str, tuple[str, ...]] = {}
        self.parts: dict[str, Parts] = {}
        self.optional: dict[str, str] = {}

    def follow(self, node: Node) -> list[Node]:
        """The nodes that take the place of `node`."""
        handler = None if node.domain else _HANDLERS.get(node.op)
        return (handler(self, node) if handler else None) or [node]

    # ----- packing -----
    def construct(self, node: Node) -> None:
        """Tensors in order; SequenceEmpty has none."""
        self.tensors[node.outputs[0]] = node.inputs

    def insert(self, node: Node) -> None:
        """One more, before a position or at the end."""
        known, at = self.tensors.get(node.inputs[0]), self._position(node, 2)
        if known is not None and at is not None:
            before = known[:at] if any(node.inputs[2:]) else known
            self.tensors[node.outputs[0]] = (*before, node.inputs[1], *known[len(before) :])

    def erase(self, node: Node) -> None:
        """One less, by default the last."""
        known, at = self.tensors.get(node.inputs[0]), self._position(node, 1)
        if known and at is not None:
            at %= len(known)
            self.tensors[node.outputs[0]] = known[:at] + known[at + 1 :]

    def same(self, node: Node) -> list[Node] | None:
        """Another name of a sequence; an optional tensor that is there."""
        source, name = node.inputs[0] if node.inputs else "", node.outputs[0]
        if source in self.tensors:
            self.tensors[name] = self.tensors[source]
        if source in self.parts:
            self.parts[name] = self.parts[source]
        if node.op == "Optional":
            self.optional[name] = source
        tensor = self.optional.get(source, source)
        known = node.op == "OptionalGetElement" and self.forward.has_type(tensor)
        return [self._node("Identity", node, (tensor,))] if known else None

    def cut(self, node: Node) -> list[Node] | None:
        """SplitToSequence: a Split where the number of parts is known."""
        x, whole = node.inputs[0], len(node.inputs) < 2 or not node.inputs[1]
        type_ = self.forward.type(x) if self.forward.has_type(x) else Type(0, None)
        lengths = np.asarray(1) if whole else self.forward.constant(node.inputs[1])
        if type_.shape is None or lengths is None or np.min(lengths, initial=1) < 1:
            return None
        axis = _integer(node, "axis") % len(type_.shape)
        size, squeezed = type_.shape[axis], whole and not _integer(node, "keepdims", 1)
        if lengths.ndim:
            return self._split(node, axis, [int(n) for n in lengths], squeezed)
        length = int(lengths)
        self.parts[node.outputs[0]] = Parts(x, axis, None if squeezed else length)
        if not isinstance(size, int) or not size:
            return None
        return self._split(node, axis, [min(length, size - start) for start in range(0, size, length)], squeezed)

    # ----- unpacking -----
    def at(self, node: Node) -> list[Node] | None:
        """One tensor: itself at a known position, else by a Gather or a Slice of what was cut."""
        known, at = self.tensors.get(node.inputs[0]), self._position(node, 1)
        if known is not None and at is not None and -len(known) <= at < len(known):
            return [self._node("Identity", node, (known[at],))]
        parts = self.parts.get(node.inputs[0])
        if parts is None:
            return None
        if parts.length is None:
            return [self._node("Gather", node, (parts.x, node.inputs[1]), {"axis": parts.axis})]
        if parts.length == 1:
            one = op.Reshape(self.tape.value(node.inputs[1]), self.tape.constant([1], INT64))
            return [self._node("Gather", node, (parts.x, self._known(one)), {"axis": parts.axis})]
        if at is None or at < 0:
            return None
        bounds = [self.tape.constant([n], INT64) for n in (at * parts.length, (at + 1) * parts.length, parts.axis)]
        return [self._node("Slice", node, (parts.x, *(self._known(b) for b in bounds)))]

    def joined(self, node: Node) -> list[Node] | None:
        """ConcatFromSequence: a Concat, of tensors with a new axis where one is asked for."""
        known, axis = self.tensors.get(node.inputs[0]), _integer(node, "axis")
        stacked = bool(_integer(node, "new_axis"))
        if not known:
            return self._whole(node, axis, stacked)
        if not stacked:
            return [self._node("Concat", node, known, {"axis": axis})]
        wide = [self._known(op.Unsqueeze(self.tape.value(name), axes=[axis])) for name in known]
        return [*_each("Unsqueeze", node, known, wide, axis), self._node("Concat", node, tuple(wide), {"axis": axis})]

    def _whole(self, node: Node, axis: int, stacked: bool) -> list[Node] | None:
        """What was cut into an unknown number of parts, put together as it was."""
        parts = self.parts.get(node.inputs[0])
        if parts is None or stacked != (parts.length is None):
            return None
        same = axis % len(self.forward.type(parts.x).shape or (0,)) == parts.axis
        return [self._node("Identity", node, (parts.x,))] if same else None

    # ----- writing -----
    def _split(self, node: Node, axis: int, lengths: list[int], squeezed: bool) -> list[Node]:
        cut = [self._known(part) for part in split(self.tape.value(node.inputs[0]), axis, lengths)]
        words = {"axis": axis, "split": lengths}
        nodes = [Node("Split", node.name, node.inputs[:1], tuple(cut), words, "", _VERSION)]
        if squeezed:
            thin = [self._known(op.Squeeze(self.tape.value(name), axes=[axis])) for name in cut]
            nodes += _each("Squeeze", node, cut, thin, axis)
            cut = thin
        self.tensors[node.outputs[0]] = tuple(cut)
        return [*nodes, node]

    def _known(self, value: Value) -> str:
        """The name of a value of the tape, which the walk may now meet."""
        self.forward.add(value.name, value.type)
        return value.name

    def _node(
        self, op_type: str, node: Node, inputs: tuple[str, ...], attributes: Mapping[str, object] | None = None
    ) -> Node:
        words = attributes or {}
        proto = helper.make_node(op_type, inputs, node.outputs)
        proto.attribute.extend(helper.make_attribute(k, v) for k, v in words.items())
        new = Node(op_type, node.name, inputs, node.outputs, words, "", _VERSION)
        self.forward.learn(proto, new, {o: self.forward.type(o) for o in node.outputs if self.forward.has_type(o)})
        return new

    def _position(self, node: Node, index: int) -> int | None:
        """A constant position; −1 where it is left out."""
        if len(node.inputs) <= index or not node.inputs[index]:
            return -1
        value = self.forward.constant(node.inputs[index])
        return None if value is None else int(np.asarray(value).reshape(-1)[0])


def _each(op_type: str, node: Node, xs: tuple[str, ...] | list[str], ys: list[str], axis: int) -> list[Node]:
    return [Node(op_type, node.name, (x,), (y,), {"axes": [axis]}, "", _VERSION) for x, y in zip(xs, ys, strict=True)]


def _integer(node: Node, name: str, default: int = 0) -> int:
    value = node.attributes.get(name, default)
    return value if isinstance(value, int) else default


_HANDLERS: dict[str, Callable[[Sequences, Node], list[Node] | None]] = {
    "SequenceConstruct": Sequences.construct,
    "SequenceEmpty": Sequences.construct,
    "SequenceInsert": Sequences.insert,
    "SequenceErase": Sequences.erase,
    "Identity": Sequences.same,
    "Optional": Sequences.same,
    "OptionalGetElement": Sequences.same,
    "SplitToSequence": Sequences.cut,
    "SequenceAt": Sequences.at,
    "ConcatFromSequence": Sequences.joined,
}
