"""What a graph does to its image before its first layer: what of the preprocessing is inside already.

The walk follows the one way from the image input through operators that move, scale or resize it, and ends at the
first that does anything else.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from onnxcam.grad.forward import Forward
from onnxcam.grad.node import Node
from onnxcam.inspection.parts import Input
from onnxcam.inspection.walk import ints, kept_axes
from onnxcam.preprocessing import Entry

_MOVES = frozenset({"Cast", "Clip", "DequantizeLinear", "Dropout", "Identity", "Pad"})
_REGROUPS = frozenset({"Gather", "Reshape", "Squeeze", "Unsqueeze"})
_ASKS = frozenset({"Shape", "Size"})  # of an input that is only asked for its size
_LIMIT = 64  # elements of a constant that is worth reading


class _Walk:
    """The image on its way: `scale · x + offset` for each of the input's channels, and the axis that they are on."""

    def __init__(self, forward: Forward, picture: Input) -> None:
        self.forward, self.name = forward, picture.name
        self.rank, self.channels = len(picture.shape), picture.channels or 0
        self.axis = None if picture.grey else picture.channel_axis  # until the graph adds one
        self.scale = np.ones(max(self.channels, 1))
        self.offset = np.zeros_like(self.scale)
        self.order = np.arange(len(self.scale))  # which of the input's channels is where now
        self.resized, self.steps = False, list[str]()
        self.quantised: tuple[float, float] | None = None

    def entry(self) -> Entry:
        readers = self.forward.consumers()
        while True:
            following = [n for n in readers.get(self.name, []) if n.op not in _ASKS]
            if not following or not self.follow(following, readers):
                break
        same = len(set(zip(self.scale, self.offset, strict=True))) == 1
        scale, offset = (tuple(float(v) for v in values[: 1 if same else None]) for values in (self.scale, self.offset))
        swapped = len(self.order) > 1 and bool((self.order == np.arange(len(self.order))[::-1]).all())
        return Entry(scale, offset, swapped, self.resized, self.quantised, tuple(self.steps))

    def follow(self, following: list[Node], readers: Mapping[str, list[Node]]) -> bool:
        """Go one operator further; False where the image ends."""
        node = following[0]
        if len(following) > 1 or node.domain:
            return False
        step = _STEPS.get(node.op)
        if node.op == "Split":
            return self.split(node, readers)
        if node.op in _REGROUPS and self.regroup(node):
            return True
        if node.op in _MOVES or (step is not None and step(self, node)):
            self.name = node.outputs[0]
            return True
        return False

    # ----- operators -----
    def affine(self, node: Node) -> bool:
        """Add, Sub, Mul or Div by a number, or by one for each channel."""
        first = node.inputs[0] == self.name
        other = node.inputs[1 if first else 0]
        c = self.vector(other)
        if c is None and node.op in ("Add", "Sub") and self.is_fed(other):
            c = np.zeros_like(self.scale)  # Keras exports the mean of its Normalization as an input at times
        if c is None or (node.op == "Div" and (not first or not c.all())):
            return False
        if node.op in ("Mul", "Div"):
            factor = c if node.op == "Mul" else 1 / c
            self.scale, self.offset = self.scale * factor, self.offset * factor
        else:
            sign = -1 if node.op == "Sub" else 1
            if not first and node.op == "Sub":
                self.scale, self.offset, sign = -self.scale, -self.offset, 1
            self.offset = self.offset + sign * c
        self.steps.append(str(node))
        return True

    def normalise(self, node: Node) -> bool:
        """BatchNormalization at inference, with channels second."""
        parts = [self.vector(name, flat=True) for name in node.inputs[1:5]]
        if self.axis != 1 or any(p is None for p in parts) or len(parts) < 4:
            return False
        gamma, beta, mean, variance = (np.asarray(p) for p in parts)
        epsilon = node.attributes.get("epsilon", 1e-5)
        factor = gamma / np.sqrt(variance + (epsilon if isinstance(epsilon, float) else 1e-5))
        self.scale, self.offset = self.scale * factor, (self.offset - mean) * factor + beta
        self.steps.append(str(node))
        return True

    def transpose(self, node: Node) -> bool:
        perm = ints(node.attributes.get("perm")) or list(range(self.rank))[::-1]
        if len(perm) != self.rank:
            return False
        self.axis = None if self.axis is None else perm.index(self.axis)
        return True

    def regroup(self, node: Node) -> bool:
        """Axes that are added, or taken away: the samples of an image that came alone, the colour of a grey one."""
        kept = kept_axes(self.forward, node) if node.inputs[0] == self.name else None
        if kept is None or self.axis not in kept:
            return False
        self.name, self.axis, self.rank = node.outputs[0], kept.index(self.axis), len(kept)
        return True

    def resize(self, node: Node) -> bool:
        if node.inputs[0] != self.name:
            return False
        self.resized = True
        self.steps.append(str(node))
        return True

    def gather(self, node: Node) -> bool:
        """Channels in another order."""
        indices = self.forward.constant(node.inputs[1], _LIMIT)
        axis = node.attributes.get("axis", 0)
        if node.inputs[0] != self.name or indices is None or not self.on_channels(axis):
            return False
        found = np.atleast_1d(indices).astype(np.int64) % len(self.order)
        if sorted(found) != list(range(len(self.order))):
            return False
        self.order = self.order[found]
        self.steps.append(str(node))
        return True

    def slice(self, node: Node) -> bool:
        """Channels in reverse: x[:, ::-1]."""
        given = [self.forward.constant(name, _LIMIT) if name else None for name in node.inputs[1:]]
        axes, steps = given[2:4] if len(given) == 4 else (None, None)
        if axes is None or steps is None or not (axes.size == 1 and self.on_channels(int(axes.reshape(-1)[0]))):
            return False
        if steps.reshape(-1).tolist() != [-1]:
            return False
        self.order = self.order[::-1]
        self.steps.append(str(node))
        return True

    def split(self, node: Node, readers: Mapping[str, list[Node]]) -> bool:
        """Channels apart and together again in another order."""
        joins = [n for output in node.outputs for n in readers.get(output, [])]
        join = joins[0] if joins else node
        if not self.on_channels(node.attributes.get("axis", 0)) or len(node.outputs) != len(self.order):
            return False
        if join.op != "Concat" or any(n is not join for n in joins) or set(join.inputs) != set(node.outputs):
            return False
        self.order = self.order[[node.outputs.index(name) for name in join.inputs]]
        self.steps.append(str(join))
        self.name = join.outputs[0]
        return True

    def quantise(self, node: Node) -> bool:
        """The range that a QuantizeLinear can hold tells what was fed at its calibration."""
        scale, zero = (self.forward.constant(name, 1) for name in (*node.inputs, "")[1:3])
        if scale is None or zero is None or node.inputs[0] != self.name or zero.dtype.kind not in "iu":
            return False
        limits, step, origin = np.iinfo(zero.dtype.name), float(scale.reshape(-1)[0]), int(zero.reshape(-1)[0])
        if not self.steps and self.quantised is None:
            self.quantised = (int(limits.min) - origin) * step, (int(limits.max) - origin) * step
        return True

    # ----- constants -----
    def is_fed(self, name: str) -> bool:
        """Whether it is another input of the model, of one number for each channel."""
        shape = self.forward.type(name).shape if name in self.forward.inputs and name != self.name else None
        return shape is not None and math.prod(d if isinstance(d, int) else 0 for d in shape) == len(self.order)

    def on_channels(self, axis: object) -> bool:
        return isinstance(axis, int) and axis % self.rank == self.axis

    def vector(self, name: str, flat: bool = False) -> npt.NDArray[np.float64] | None:
        """A constant as one number for each of the input's channels; None where it is anything else."""
        value = self.forward.constant(name, _LIMIT)
        if value is None or value.dtype.kind not in "fiu" or not np.isfinite(value).all():
            return None
        shape = (1,) * (self.rank - value.ndim) + value.shape
        wide = [n for i, n in enumerate(shape) if not (flat and value.ndim == 1) and i != self.axis and n != 1]
        if value.size not in (1, len(self.order)) or wide:
            return None
        numbers = np.broadcast_to(value.reshape(-1).astype(np.float64), self.order.shape)
        ordered = np.empty(len(self.order))
        ordered[self.order] = numbers
        return ordered


_STEPS: dict[str, Callable[[_Walk, Node], bool]] = {
    "Add": _Walk.affine, "Sub": _Walk.affine, "Mul": _Walk.affine, "Div": _Walk.affine,
    "BatchNormalization": _Walk.normalise, "Transpose": _Walk.transpose, "Resize": _Walk.resize,
    "Upsample": _Walk.resize, "Gather": _Walk.gather, "Slice": _Walk.slice, "QuantizeLinear": _Walk.quantise,
}  # fmt: skip


def entry(forward: Forward, picture: Input) -> Entry:
    """What the graph does to that image input first."""
    return _Walk(forward, picture).entry()
