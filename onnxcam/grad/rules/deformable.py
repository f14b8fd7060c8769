"""DeformConv: a convolution whose kernel reads each tap somewhere else.

Its columns, the elements that every window read, are points between the pixels (sampling.py); what follows is a
product with the weights. The channels are cut into offset groups, which move together: each becomes an image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from onnxcam.grad.registry import Rule, vjp
from onnxcam.grad.rules.convolution import window_of
from onnxcam.grad.rules.interpolation import FLOAT
from onnxcam.grad.rules.sampling import Points, lengths, neighbours
from onnxcam.grad.scatter import numbers
from onnxcam.grad.shapes import INT64, each_size, reshape, reshape_like, sizes, take
from onnxcam.grad.spread import channels_of
from onnxcam.grad.tensor import Value, op
from onnxcam.grad.window import Window


@dataclass(frozen=True)
class Deformed:
    """One use of DeformConv: N images, G groups, O offset groups, K taps, L windows.

    `x`, `w`, `offset` and `mask` are its inputs and `g`, (N, G, M/G, L), the gradient of its output; `points` are what
    it read from the images (N·O, C/O, *space), one for each tap of each window.
    """

    x: Value
    w: Value
    offset: Value
    mask: Value | None
    g: Value
    points: Points
    offset_group: int
    taps: int

    @property
    def windows(self) -> Value:
        """L, int64 [1]."""
        return sizes(self.g, [3])

    def columns(self) -> Value:
        """What every tap read, (N, O, K, L, C/O)."""
        corners = self.points.gathered()
        weights = op.Unsqueeze(self.points.weights(), axes=[corners.rank - 1])
        read = op.ReduceSum(corners * weights, axes=list(range(2, corners.rank - 1)), keepdims=0)
        return reshape(read, [-1, self.offset_group, self.taps, self.windows, *each_size(read, [2])])

    def masked(self, columns: Value) -> Value:
        """Columns times the mask."""
        if self.mask is None:
            return columns
        mask = reshape(op.Cast(self.mask, to=FLOAT), [-1, self.offset_group, self.taps, self.windows, 1])
        return columns * mask

    def worth(self) -> Value:
        """The gradient of the masked columns: Wᵀ g."""
        groups, m = each_size(self.g, [1, 2])
        w = reshape(op.Cast(self.w, to=FLOAT), [groups, m, -1])
        back = op.MatMul(op.Transpose(w, perm=[0, 2, 1]), self.g)  # N, G, C/G·K, L
        apart = reshape(back, [*each_size(self.g, [0]), self.offset_group, -1, self.taps, self.windows])
        return op.Transpose(apart, perm=[0, 1, 3, 4, 2])

    def read(self) -> Value:
        """The gradient of what the points read, (N·O, K·L, C/O)."""
        worth = self.masked(self.worth())
        return reshape(worth, [*each_size(self.points.x, [0]), -1, *each_size(worth, [4])])


def _deform_conv(gradient: Callable[[Deformed], Value]) -> Rule:
    """The rule for one input of DeformConv; the attributes are the same for all."""

    def rule(
        g: Value,
        y: Value,
        x: Value,
        w: Value,
        offset: Value,
        b: Value | None = None,
        mask: Value | None = None,
        *,
        group: int,
        offset_group: int,
        kernel_shape: Sequence[int] | None = None,
        strides: Sequence[int] | None = None,
        dilations: Sequence[int] | None = None,
        pads: Sequence[int] | None = None,
    ) -> Value:
        window = window_of(w, kernel_shape, strides, dilations, pads)
        m, c = channels_of(w)
        images = reshape(x, [-1, c * group // offset_group, *each_size(x, range(2, x.rank))])
        places = [_positions(offset, window, axis) for axis in range(window.rank)]
        taps = [neighbours(p, n, "linear", "zeros", False) for p, n in zip(places, lengths(x), strict=True)]
        flat = reshape(op.Cast(g, to=FLOAT), [*each_size(g, [0]), group, m // group, -1])
        return gradient(Deformed(x, w, offset, mask, flat, Points(images, taps), offset_group, window.volume))

    return rule


def _positions(offset: Value, window: Window, axis: int) -> Value:
    """Where each tap of each window reads along one axis: where a Conv would, and its offset; (N·O, K·L)."""
    out = range(2, offset.rank)
    apart = reshape(op.Cast(offset, to=FLOAT), [-1, window.volume, window.rank, *each_size(offset, out)])
    moved = op.Squeeze(take(apart, [axis], 2), axes=[2])
    tap = np.indices(window.kernel)[axis].reshape(-1, *[1] * window.rank) * window.dilations[axis] - window.begin[axis]
    start = op.Cast(numbers(sizes(offset, [2 + axis])), to=FLOAT) * float(window.strides[axis])
    beside = [-1 if a == axis else 1 for a in range(window.rank)]
    place = moved + offset.tape.constant(tap, FLOAT) + reshape(start, beside)
    return reshape(place, [*each_size(moved, [0]), -1])


# ----- gradients -----
def deform_input(at: Deformed) -> Value:
    """What each point read goes back to its four pixels."""
    return reshape_like(at.points.shares(at.read(), at.points.weights()), at.x)


def deform_weight(at: Deformed) -> Value:
    """dW: g times the columns, added up over images."""
    columns = op.Transpose(at.masked(at.columns()), perm=[0, 1, 4, 2, 3])  # N, O, C/O, K, L
    n, groups, _, length = each_size(at.g, [0, 1, 2, 3])
    flat = reshape(columns, [n, groups, -1, length])
    products = op.MatMul(at.g, op.Transpose(flat, perm=[0, 1, 3, 2]))
    return reshape_like(op.Cast(op.ReduceSum(products, axes=[0], keepdims=0), to=at.w.dtype), at.w)


def deform_offset(at: Deformed) -> Value:
    """How what the points read changes with their position."""
    worth = at.points.products(at.read())
    corners = list(range(2, worth.rank))
    moved = [op.ReduceSum(worth * at.points.weights(moved=a), axes=corners, keepdims=0) for a in range(len(corners))]
    apart = [reshape(v, [*each_size(v, [0]), at.taps, 1, at.windows]) for v in moved]
    return reshape_like(op.Cast(op.Concat(*apart, axis=2), to=at.offset.dtype), at.offset)


def deform_bias(at: Deformed) -> Value:
    """dB: g summed over everything but its channel."""
    summed = op.ReduceSum(at.g, axes=[0, 3], keepdims=0)
    return op.Cast(op.Reshape(summed, at.g.tape.constant([-1], INT64)), to=at.w.dtype)


def deform_mask(at: Deformed) -> Value:
    """What each tap read times what that is worth."""
    product = op.ReduceSum(at.columns() * at.worth(), axes=[4], keepdims=0)  # N, O, K, L
    windows = each_size(at.offset, range(2, at.offset.rank))
    return op.Cast(
        reshape(product, [*each_size(product, [0]), at.offset_group * at.taps, *windows]), to=at.offset.dtype
    )


vjp(
    "DeformConv",
    _deform_conv(deform_input),
    _deform_conv(deform_weight),
    _deform_conv(deform_offset),
    _deform_conv(deform_bias),
    _deform_conv(deform_mask),
)
