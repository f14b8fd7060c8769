"""Feature maps: tensors on the way from the image to the score that still have places of the picture.

Best first: the last one whose places all reach the score, and through which, of those with its grid, most ways lead.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from onnxcam.grad.forward import Forward
from onnxcam.grad.node import Node
from onnxcam.grad.quantized import shown
from onnxcam.inspection.follow import SIZES, Trace, channel_axes
from onnxcam.inspection.forms import form
from onnxcam.inspection.guesses import GUESS
from onnxcam.inspection.parts import Input, Layer
from onnxcam.inspection.reach import Live, Ways, counts, reach
from onnxcam.inspection.roles import Batch, Tokens, places
from onnxcam.inspection.walk import descendants, in_regions, plain

_MOVES = frozenset({
    "AveragePool", "Cast", "DequantizeLinear", "Dropout", "DynamicQuantizeLinear", "Expand", "Flatten", "Gather",
    "Identity", "Pad", "QuantizeLinear", "Reshape", "Resize", "Slice", "Split", "Squeeze", "Tile", "Transpose",
    "Unsqueeze", "Upsample",
})  # fmt: skip
_FINISHES = frozenset({
    "BatchNormalization", "Celu", "Clip", "Elu", "Erf", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish",
    "PRelu", "Relu", "Selu", "Sigmoid", "Softplus", "Swish", "Tanh",
})  # fmt: skip
_ATTENTION = frozenset({"Attention", "MultiHeadAttention", "GroupQueryAttention", "Softmax"})
_LINEAR = frozenset({"BatchNormalization", "Conv", "Einsum", "Gemm", "MatMul", "Softmax"})
_SCALES = frozenset({"Add", "Div", "Mul", "Sub"})
_REGROUPS = frozenset({"DepthToSpace", "Slice", "SpaceToDepth", "Split"})  # a part, or one place for many


class _Graph:
    """What the choice asks of the graph, looked up once."""

    def __init__(self, forward: Forward, traces: Mapping[str, Trace], score: str) -> None:
        self.forward, self.traces, self.score = forward, traces, score
        self.readers = forward.consumers()
        self.fixed = set(forward.names()) - descendants(forward, forward.inputs, SIZES)
        self.stands = shown(forward)
        self._operands: dict[str, bool] = {}

    def moves(self, node: Node) -> bool:
        """Whether a node only brings a feature map elsewhere, or says where its places are."""
        if node.op in _MOVES:
            return True
        trace = self.traces[node.outputs[0]]
        if node.op == "Concat":
            return any(isinstance(p, Tokens) and p.made == str(node) for axis in trace.roles for p in axis)
        return node.op == "Add" and any(self._positions(name, trace) for name in node.inputs if name in self.fixed)

    def _positions(self, name: str, trace: Trace) -> bool:
        """Whether a weight differs from place to place."""
        shape = self.forward.type(name).shape or ()
        own = zip(reversed(shape), reversed(trace.roles), strict=False)
        return any(d != 1 and places(axis) for d, axis in own)

    def unfinished(self, name: str) -> bool:
        """Whether an activation, a bias or a factor follows that the feature map is not complete without."""
        tensor = self.stands.get(name, name)
        return any(self._completes(r) for n in dict.fromkeys((name, tensor)) for r in self.readers.get(n, []))

    def _completes(self, reader: Node) -> bool:
        if reader.outputs[0] not in self.traces:
            return False
        if plain(reader) in _FINISHES:
            return True
        scales = reader.op in _SCALES and any(i in self.fixed for i in reader.inputs)
        return scales and reader.outputs[0] != self.score and not self.moves(reader)

    def passes_over(self, node: Node) -> bool:
        """Whether what a node makes is no feature map of its own."""
        name = node.outputs[0]
        if not (self.forward.type(name).is_float or name in self.stands):
            return True
        scales = node.op in _SCALES and any(i in self.fixed for i in node.inputs)
        linear = plain(node) in _LINEAR or scales
        return self.moves(node) or self.unfinished(name) or (linear and self.operand(name))

    def operand(self, name: str) -> bool:
        """Whether a tensor is only a query, key or value: it goes into attention with no weights in between."""
        if name not in self._operands:
            self._operands[name] = False
            self._operands[name] = any(self._attends(r) for r in self.readers.get(name, []))
        return self._operands[name]

    def _attends(self, reader: Node) -> bool:
        operator = plain(reader)
        if operator == "MatMul" or operator == "Einsum":
            return not any(i in self.fixed for i in reader.inputs)
        if operator in _ATTENTION:
            return True
        scaled = operator in _SCALES and any(i in self.fixed for i in reader.inputs)
        return (operator in _MOVES or scaled) and any(self.operand(o) for o in reader.outputs)


def find_layers(
    forward: Forward, traces: Mapping[str, Trace], inputs: Sequence[Input], score: str, finished: bool = True
) -> tuple[Layer, ...]:
    """Feature maps on the way to the score, best first; those that only move or begin another one are left out.

    Where that leaves nothing, those that begin another one, or say what a score with places says, count as well.
    """
    live = reach(forward, traces, score)
    graph = _Graph(forward, traces, score)
    apart = (_said(graph) if finished else set()) | in_regions(forward)
    apart |= {o for node in forward.added for o in node.output}
    names = Counter(node.name for node in forward.nodes)
    pictures = [i for i in inputs if i.layout]
    rank = max((len(i.size) for i in pictures), default=2)
    alone = any(i.batched.shape[0] == 1 for i in pictures)
    found: dict[str, Layer] = {}
    for node in reversed(forward.nodes):
        name = node.outputs[0]
        tensor = graph.stands.get(name, name)
        if name not in traces or name not in live or score in (name, tensor) or name in apart:
            continue
        shape = forward.type(name).shape or ()
        seen = form(traces[name].roles, shape, rank, alone)
        if seen is None or not any(d != 1 for d in seen.grid) or (graph.passes_over if finished else graph.moves)(node):
            continue
        own = node.name if node.name and names[node.name] == 1 else name
        tokens, prefix = (seen.grid, seen.fold.prefix) if seen.fold else (None, 0)
        note = f"the grid of its {shape[1]} tokens is {GUESS} it" if seen.fold and seen.fold.made == GUESS else ""
        if "?" in seen.grid:
            note = "its grid is open: the picture's proportions decide, for nothing in the graph tells it"
        found[name] = Layer(own, tensor, node.op, shape, seen.channel_axis, tokens, prefix, seen.fold, note=note)
    if not found and finished:
        return find_layers(forward, traces, inputs, score, finished=False)
    return _ranked(graph, live, pictures, score, found)


def _said(graph: _Graph) -> set[str]:
    """Maps that a score with places is made of by moving, scaling and adding alone: what it says, not why."""
    forward, traces, score = graph.forward, graph.traces, graph.score
    if score not in traces or not any(places(axis) for axis in traces[score].roles):
        return set()
    producers, axes = forward.producers(), channel_axes(traces)
    found, waiting = {score}, [score]
    while waiting:
        node = producers.get(waiting.pop())
        scales = node is not None and node.op in ("Div", "Mul") and any(i in graph.fixed for i in node.inputs)
        if node is None or not (scales or node.op in _MOVES | _REGROUPS | {"Add", "Sigmoid", "Softmax", "Sub"}):
            continue
        for i in node.inputs[: 2 if node.op in _SCALES else 1]:
            same = _channels(forward, axes, i) == _channels(forward, axes, score)
            if i in axes and i not in found and (same or node.op in _REGROUPS):
                found.add(i)
                waiting.append(i)
    return found


def _channels(forward: Forward, axes: Mapping[str, int], name: str) -> int | str | None:
    return (forward.type(name).shape or ())[axes[name]] if name in axes else None


def _ranked(
    graph: _Graph, live: Live, pictures: Sequence[Input], score: str, found: Mapping[str, Layer]
) -> tuple[Layer, ...]:
    """The best first, then from the last to the first; those whose places do not count at the end."""
    heard = [name for name in found if counts(graph.traces, live, name)]
    heard.sort(key=lambda name: not _by_sample(graph, name, pictures))  # what may hold heads or frames comes later
    ways = Ways(graph.forward, graph.traces, live, [i.name for i in pictures], score)
    shares = {name: ways.share(name, score) for name in heard}
    order = list(heard)
    why = "the last feature map " + ("before the score" if len(heard) == len(found) else "whose places reach the score")
    if heard and shares[heard[0]] < 1:
        last = heard[0]
        gates = ways.gates(last)
        first = next(
            (n for n in heard if n in gates and found[n].grid == found[last].grid and shares[n] > shares[last]), last
        )
        order = [first, *(n for n in heard if n != first)]
        why = why if first == last else f"the last one that all ways to '{found[last].name}' lead through"
    ranked = [
        replace(found[n], why=_why(found[n], why if i == 0 else f"number {i + 1} from the score", shares[n]))
        for i, n in enumerate(order)
    ]
    deaf = (
        "its places do not all reach the score, only other tokens or the best place do: its gradient is zero elsewhere"
    )
    return (*ranked, *(replace(x, why=deaf, heard=False) for n, x in found.items() if n not in shares))


def _by_sample(graph: _Graph, name: str, pictures: Sequence[Input]) -> bool:
    """Whether a tensor has the samples of the pictures, as far as one can tell."""
    sizes = {p.size for axis in graph.traces[name].roles for p in axis if isinstance(p, Batch)}
    wanted = {i.batched.shape[0] for i in pictures}
    return bool(sizes & wanted) or (not sizes and 1 in wanted)  # a batch of one is lost where axes are regrouped


def _why(layer: Layer, position: str, share: Fraction) -> str:
    """Position, grid, share of the ways to the score; the other tokens of a sequence, and where they come from."""
    grid = "×".join(map(str, layer.grid))
    said = [position, f"{grid} places" if layer.fold is None else f"{grid} places folded from {layer.layout}"]
    if layer.fold and (layer.fold.prefix or layer.fold.suffix):
        others = [f"{n} {where}" for n, where in ((layer.prefix, "before"), (layer.fold.suffix, "after")) if n]
        said.append(f"{' and '.join(others)} them by {layer.fold.made.split(',')[0]}")
    part = f"{float(share):.0%}" if share > 0.01 else "few"
    return ", ".join([*said, "on all ways to the score" if share == 1 else f"on {part} of the ways to the score"])


def image_sources(forward: Forward, inputs: Iterable[Input], layers: Iterable[Layer]) -> dict[str, frozenset[str]]:
    """The image inputs that each feature map depends on."""
    reach = {i.name: descendants(forward, [i.name]) for i in inputs if i.layout}
    return {x.tensor: frozenset(name for name, seen in reach.items() if x.tensor in seen) for x in layers}
