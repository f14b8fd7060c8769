"""Which places of a tensor reach the score, and by how many of the ways through the graph.

A class token that alone is read by the head leaves the patches of the last block without any influence: their gradient
is zero, and a map drawn there is empty. So the walk back from the score asks of every axis of places whether it is
followed, mixed into something that counts, or dropped.
"""

from collections.abc import Container, Iterable, Mapping
from fractions import Fraction

from onnxcam.grad.forward import Forward
from onnxcam.grad.infer import Dim
from onnxcam.grad.node import Node
from onnxcam.inspection.follow import SIZES, Trace, channel_axes
from onnxcam.inspection.roles import places
from onnxcam.inspection.walk import HELD, plain

_MAXIMA = frozenset({"GlobalMaxPool", "ReduceMax"})
_BY_CLASS = frozenset({
    "Add", "Cast", "Div", "Dropout", "Flatten", "Identity", "Max", "Mean", "Mul", "Reshape", "Squeeze", "Sub", "Sum",
    "Unsqueeze",
})  # fmt: skip
Live = dict[str, set[int]]  # the axes of places that count, for every tensor that counts at all


def reach(forward: Forward, traces: Mapping[str, Trace], score: str) -> Live:
    """For every tensor that `score` is made from, those of its axes whose places all count.

    Of class scores by place only the best one counts where their maximum is taken, if anything else hears the picture.
    """
    live = _reach(forward, traces, score, _verdicts(forward, channel_axes(traces), score))
    alive = any(counts(traces, live, name) for name in forward.inputs if name in traces)
    return live if alive else _reach(forward, traces, score, set())


def _verdicts(forward: Forward, axes: Mapping[str, int], score: str) -> set[str]:
    """Maxima over places of class scores: nothing mixes their channels any more on the way to the score."""
    producers, classes = forward.producers(), _classes(forward, axes, score)
    found: set[str] = set()
    waiting, met = [score], {score}
    while waiting:
        node = producers.get(waiting.pop())
        if node is None or classes is None:
            continue
        if plain(node) in _MAXIMA and _classes(forward, axes, node.inputs[0]) == classes:
            found.add(node.outputs[0])
        elif plain(node) in _BY_CLASS:
            waiting += [name for name in node.inputs if name not in met]
            met.update(node.inputs)
    return found


def _classes(forward: Forward, axes: Mapping[str, int], name: str) -> Dim | None:
    return (forward.type(name).shape or ())[axes[name]] if name in axes else None


def _reach(forward: Forward, traces: Mapping[str, Trace], score: str, verdicts: Container[str]) -> Live:
    live: Live = {score: _spread(traces, score)}
    for node in reversed(forward.nodes):
        for output in node.outputs:
            if output in live and node.op not in SIZES and output not in verdicts:
                for k, name in enumerate(node.inputs):
                    if name and k != HELD.get(node.op):
                        live.setdefault(name, set()).update(_followed(traces, live, node, output, k))
    return live


def _spread(traces: Mapping[str, Trace], name: str) -> set[int]:
    """The axes of a tensor that have places."""
    return {i for i, axis in enumerate(traces[name].roles) if places(axis)} if name in traces else set()


def _followed(traces: Mapping[str, Trace], live: Live, node: Node, output: str, k: int) -> set[int]:
    """The axes of a node's input whose places count through one output."""
    axes, trace = _spread(traces, node.inputs[k]), traces.get(output)
    if trace is None:
        return axes
    counted = set()
    for i in axes:
        on = [j for j, links in enumerate(trace.links) if (k, i) in links and places(trace.roles[j])]
        mixed = not on and (k, i) not in trace.dropped
        if mixed or any(j in live[output] for j in on):
            counted.add(i)
    return counted


def counts(traces: Mapping[str, Trace], live: Live, name: str) -> bool:
    """Whether all places of a tensor count."""
    return name in live and _spread(traces, name) <= live[name]


class Ways:
    """All ways along which places of the pictures reach the score, counted."""

    def __init__(
        self, forward: Forward, traces: Mapping[str, Trace], live: Live, sources: Iterable[str], score: str
    ) -> None:
        """Follow every tensor from `sources` on: as long as its places count by them, else by all it is read for."""
        self._before = {name: 1 for name in sources if name in live}
        self._edges: list[tuple[str, str]] = []
        for node in forward.nodes:
            for output in node.outputs if node.op not in SIZES else ():
                for k, name in enumerate(node.inputs if output in live else ()):
                    if name in self._before and self._leads(traces, live, node, output, k):
                        self._edges.append((name, output))
                        self._before[output] = self._before.get(output, 0) + self._before[name]
        self._after = self._back(score)

    @staticmethod
    def _leads(traces: Mapping[str, Trace], live: Live, node: Node, output: str, k: int) -> bool:
        name = node.inputs[k]
        own = _spread(traces, name)
        return not own or not own <= live[name] or bool(_followed(traces, live, node, output, k))

    def _back(self, name: str) -> dict[str, int]:
        """The number of ways from every tensor to this one."""
        found = {name: 1}
        for start, end in reversed(self._edges):
            if end in found:
                found[start] = found.get(start, 0) + found[end]
        return found

    def share(self, name: str, score: str) -> Fraction:
        """The share of all ways to the score that lead through a tensor."""
        return Fraction(self._before.get(name, 0) * self._after.get(name, 0), self._before.get(score, 0) or 1)

    def gates(self, name: str) -> set[str]:
        """The tensors that every way to this one leads through."""
        back = self._back(name)
        return {gate for gate, n in back.items() if n * self._before.get(gate, 0) == self._before.get(name)}
