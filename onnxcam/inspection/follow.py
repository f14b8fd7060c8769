"""Roles of axes followed through the graph: one small function per family of operators.

Each says, for one output of a node, what its axes stand for and which axes of the inputs they run along. Where the
axes that an operator makes are not known, it gives nothing, and the next operator that knows (a convolution, a
residual connection) goes on.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from onnxcam.grad.forward import Forward
from onnxcam.grad.infer import Shape
from onnxcam.grad.node import Node
from onnxcam.inspection.guesses import guessed
from onnxcam.inspection.parts import Input
from onnxcam.inspection.roles import Axis, Batch, Channel, Place, Roles, best, extent, filled, places, resized
from onnxcam.inspection.walk import CHANNEL_SECOND, ints, plain

SIZES = frozenset({"Shape", "Size"})  # what these read of a tensor is not in its values
Link = tuple[int, int]  # an input of the node, and an axis of it


@dataclass(frozen=True)
class Trace:
    """Roles of one output; for each of its axes the input axes it runs along; input axes it picks no place from."""

    roles: Roles
    links: tuple[tuple[Link, ...], ...]
    dropped: frozenset[Link] = frozenset()


@dataclass(frozen=True)
class Call:
    """A node as a rule sees it: one output, and the roles (None where not known) and shapes of the inputs."""

    node: Node
    index: int
    shape: Shape
    shapes: tuple[Shape | None, ...]
    roles: tuple[Roles | None, ...]
    moving: tuple[bool, ...]
    forward: Forward

    def attribute(self, name: str, default: int) -> int:
        """An integer attribute."""
        return int(str(self.node.attributes.get(name, default)))

    def numbers(self, name: str, position: int) -> list[int] | None:
        """Integers given as an attribute or as a constant input."""
        if name in self.node.attributes:
            return ints(self.node.attributes[name])
        if position >= len(self.node.inputs) or not self.node.inputs[position]:
            return None
        value = self.forward.constant(self.node.inputs[position])
        return None if value is None else [int(v) for v in np.asarray(value).reshape(-1)]

    def axis(self, k: int, i: int) -> Axis:
        """The roles of an input's axis."""
        own, shape = self.roles[k], self.shapes[k]
        return filled(own[i], shape[i]) if own is not None and shape is not None else ()


Rule = Callable[[Call], Trace | None]
RULES: dict[str, Rule] = {}


def rule(*operators: str) -> Callable[[Rule], Rule]:
    """Register a rule for these operators."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(operators, function))
        return function

    return register


def follow(forward: Forward, inputs: Iterable[Input]) -> dict[str, Trace]:
    """A trace for every tensor made from an image input, where the operators tell."""
    traces: dict[str, Trace] = {}
    moving = set(forward.inputs)
    pictures = [i for i in inputs if i.layout]
    alone = any(i.batched.shape[0] == 1 for i in pictures)
    for given in pictures:
        traces[given.name] = Trace(_picture(given), ((),) * len(given.shape))
    for node in forward.nodes:
        if not moving.intersection(node.inputs) or node.op in SIZES:
            continue
        moving.update(filter(None, node.outputs))
        roles = tuple(traces[i].roles if i in traces else None for i in node.inputs)
        shapes = tuple(_shape(forward, i, r) for i, r in zip(node.inputs, roles, strict=True))
        moves = tuple(i in moving for i in node.inputs)
        apply = RULES.get(plain(node), _default)
        for index, output in enumerate(node.outputs):
            shape = forward.type(output).shape if output and forward.has_type(output) else None
            if shape is None:
                continue
            found = apply(Call(node, index, shape, shapes, roles, moves, forward))
            if found is None and pictures and all(r is None for r in roles):
                guess = guessed(node, shape, pictures[0])
                found = None if guess is None else Trace(guess, ((),) * len(guess))
            if found is not None and len(found.roles) == len(found.links) == len(shape):
                traces[output] = _without_samples(found) if alone else found
    return traces


def _without_samples(trace: Trace) -> Trace:
    """Samples of a batch of one are no part of any axis: which axis of one has them, nothing tells.

    Nor is one channel where samples stand first, as of groups that are normalised and put back.
    """
    roles = [tuple(p for p in axis if p != Batch(1) and (i or p != Channel(1))) for i, axis in enumerate(trace.roles)]
    return replace(trace, roles=tuple(roles))


def _shape(forward: Forward, name: str, roles: Roles | None) -> Shape | None:
    shape = forward.type(name).shape if forward.has_type(name) else None
    if shape is None or roles is None:
        return shape
    return tuple(extent(axis, size) for axis, size in zip(roles, shape, strict=True))


def channel_axes(traces: Mapping[str, Trace]) -> dict[str, int]:
    """Axis of the channels, of every tensor that has one such axis, and places on others."""
    found = {}
    for name, trace in traces.items():
        axes = [i for i, axis in enumerate(trace.roles) if any(isinstance(p, Channel) for p in axis)]
        if len(axes) == 1:
            found[name] = axes[0]
    return found


def _picture(given: Input) -> Roles:
    space = iter(range(len(given.shape)))
    return tuple(
        (Batch(d),) if letter == "N" else (Channel(d),) if letter == "C" else (Place(next(space), d),) if d != 1 else ()
        for letter, d in zip(given.layout or "", given.shape, strict=True)
    )


# ----- elementwise -----
_BROADCASTS = frozenset({
    "Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod",
    "Mul", "Or", "PRelu", "Pow", "Sub", "Sum", "Where", "Xor",
})  # fmt: skip


def _default(call: Call) -> Trace | None:
    """What no other rule is for: elementwise where it is known to be, or where the shape stays what it is."""
    if plain(call.node) in _BROADCASTS or call.shapes[:1] == (call.shape,):
        return laid(call, range(len(call.roles)))
    return None


def laid(call: Call, operands: Iterable[int]) -> Trace | None:
    """Operands laid over each other from the right, as broadcasting does."""
    rank = len(call.shape)
    roles, links = [], []
    known = [k for k in operands if call.roles[k] is not None and len(call.roles[k] or ()) <= rank]
    if not known:
        return None
    for a, size in enumerate(call.shape):
        over = [(k, i) for k in known if (i := a - rank + len(call.roles[k] or ())) >= 0 and same(call, k, i, size)]
        axes = [call.axis(k, i) for k, i in over]
        axis = best(axes)
        roles.append(axis if axis or axes else filled((), size))
        links.append(tuple(k for k, own in zip(over, axes, strict=True) if bool(places(own)) == bool(places(axis))))
    return Trace(tuple(roles), tuple(links))


def same(call: Call, k: int, i: int, size: int | str) -> bool:
    """Whether an input's axis is not stretched, and as long as the output's as far as one can tell."""
    own = (call.shapes[k] or ())[i]
    if isinstance(own, int) and isinstance(size, int):
        return own == size
    return own != 1


@rule("Expand", "Tile", "Pad", "Dropout", "Softmax", "LogSoftmax", "LayerNormalization", "RMSNormalization", "CumSum",
      "SimplifiedLayerNormalization", "ScatterND", "ScatterElements", "LpNormalization", "RotaryEmbedding", "Clip",
      "TopK", "BiasGelu", "FastGelu", "QuickGelu", "Trilu")  # fmt: skip
def _first(call: Call) -> Trace | None:
    """What keeps the axes of its first input, or stretches or pads them."""
    own = call.roles[0]
    if own is None:
        return None
    lead = len(call.shape) - len(own)
    roles: list[Axis] = [filled((), d) for d in call.shape[: max(lead, 0)]]
    links: list[tuple[Link, ...]] = [() for _ in roles]
    for i, size in enumerate(call.shape[lead:] if lead >= 0 else ()):
        kept = same(call, 0, i, size)
        roles.append(call.axis(0, i) if kept else resized(own[i], size) if call.node.op == "Pad" else filled((), size))
        links.append(((0, i),) if kept or call.node.op == "Pad" else ())
    return Trace(tuple(roles), tuple(links))


# ----- windows -----
_REMIXES = frozenset({"Conv", "ConvTranspose", "DeformConv", "DepthToSpace", "SpaceToDepth"})


@rule(*CHANNEL_SECOND, "Resize", "GridSample", "DeformConv", "MaxUnpool", "GroupNorm", "SkipGroupNorm")
def _window(call: Call) -> Trace | None:
    """Batch, channels, space: what a convolution or pooling makes, whatever it is given."""
    rank, own = len(call.shape), call.roles[0]
    if own is None and (rank < 3 or plain(call.node) == "Resize"):
        return None
    last = call.node.op.startswith("Nhwc") or bool(call.attribute("channels_last", 0))
    channel = rank - 1 if last else 1
    if plain(call.node) in ("Resize", "Upsample"):
        channel = _channel(own, channel)
    remixed = plain(call.node) in _REMIXES
    roles: list[Axis] = []
    links: list[tuple[Link, ...]] = []
    for a, size in enumerate(call.shape):
        known = call.axis(0, a) if own is not None and len(own) == rank else None
        kept = known is not None and same(call, 0, a, size)
        if a == channel:
            roles.append(known if kept and known and not remixed else (Channel(size),))
        elif a == 0:
            roles.append(known or (Batch(size),))
        elif known is None:
            roles.append((Place(a - 1 if a < channel or last else a - 2, size),) if size != 1 else ())
        else:
            roles.append(known if kept else resized(known, size))
        links.append(((0, a),) if known is not None and roles[-1] and (a != channel or not remixed) else ())
    return Trace(tuple(roles), tuple(links))


def _channel(own: Roles | None, usual: int) -> int:
    """The axis of the channels of what is resized, in either layout."""
    found = [i for i, axis in enumerate(own or ()) if any(isinstance(p, Channel) for p in axis)]
    return found[0] if len(found) == 1 else usual


@rule("RoiAlign", "MaxRoiPool")
def _regions(call: Call) -> Trace:
    """Places within regions are not places of the picture."""
    return Trace(tuple(filled((), d) for d in call.shape), ((),) * len(call.shape))
