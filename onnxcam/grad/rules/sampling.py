"""Elements read between the pixels of an image, at positions that are known at run time: GridSample and AffineGrid.

A point is made of K neighbours along each axis, so of K^d corners. The gradient of the image adds each point's share to
its corners; the gradient of a position takes the weights of one axis by their slope instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from onnxcam.grad.registry import STOP, vjp
from onnxcam.grad.rules.interpolation import (
    FLOAT,
    below,
    cubic_far,
    cubic_far_slope,
    cubic_near,
    cubic_near_slope,
    floor,
    larger,
)
from onnxcam.grad.scatter import add_rows, numbers, span
from onnxcam.grad.shapes import INT64, each_size, reshape, reshape_like, sizes, static, take, zeros_like
from onnxcam.grad.tensor import Value, op

A = -0.75  # the cubic's coefficient: fixed by the specification
Length = Value | float


@dataclass(frozen=True)
class Taps:
    """The K neighbours of each point along one axis: index, weight and the slope of that, float32 [B, P, K]."""

    index: Value
    weight: Value
    slope: Value


# ----- one axis -----
def neighbours(position: Value, length: Length, mode: str, padding: str, aligned: bool) -> Taps:
    """The neighbours of positions [B, P], in pixels, along an axis of `length`."""
    if mode == "nearest":
        position = op.Round(position)
    first = op.Unsqueeze(floor(position), axes=[2])
    t = op.Unsqueeze(position, axes=[2]) - first
    offsets, weights, slopes = _weights(t, mode)
    index = first + t.tape.constant(offsets, FLOAT)
    weight, slope = op.Concat(*weights, axis=2), op.Concat(*slopes, axis=2)
    last = length - 1.0
    if padding == "zeros":
        inside = (1.0 - below(index, 0.0)) * (1.0 - below(last - index, 0.0))
        weight, slope = weight * inside, slope * inside
    elif padding == "reflection":
        index = _reflected(index, length, aligned)
    return Taps(op.Min(larger(index, 0.0), last), weight, slope)


def _weights(t: Value, mode: str) -> tuple[list[float], list[Value], list[Value]]:
    """Offsets of the neighbours from the one before, their weights, and slopes, at `t` beyond it."""
    nothing = t * 0.0
    if mode == "nearest":
        return [0], [nothing + 1.0], [nothing]
    u = 1.0 - t
    if mode == "linear":
        return [0, 1], [u, t], [nothing - 1.0, nothing + 1.0]
    weights = [cubic_far(t + 1.0, A), cubic_near(t, A), cubic_near(u, A), cubic_far(u + 1.0, A)]
    before = [cubic_far_slope(t + 1.0, A), cubic_near_slope(t, A)]
    after = [cubic_near_slope(u, A), cubic_far_slope(u + 1.0, A)]
    return [-1, 0, 1, 2], weights, [*before, *(-s for s in after)]


def _reflected(index: Value, length: Length, aligned: bool) -> Value:
    """Indices mirrored at the centres of the outer pixels, or at their edges."""
    period = (length - 1.0) * 2.0 if aligned else length * 2.0
    period = larger(period, 1.0) if isinstance(period, Value) else max(period, 1.0)
    turned = index - floor(index / period) * period
    return op.Min(turned, (period if aligned else period - 1.0) - turned)


# ----- all axes -----
@dataclass(frozen=True)
class Points:
    """P points in each of the B images `x` (B, C, *space): their neighbours along each axis."""

    x: Value
    taps: Sequence[Taps]

    def weights(self, moved: int | None = None) -> Value:
        """The weight of each corner, [B, P, K, …]; its slope along axis `moved`."""
        factors = [tap.slope if axis == moved else tap.weight for axis, tap in enumerate(self.taps)]
        result = self._along(factors[0], 0)
        for axis, factor in enumerate(factors[1:], start=1):
            result = result * self._along(factor, axis)
        return result

    def shares(self, g: Value, weights: Value) -> Value:
        """The gradient of the images from that of the points, [B, P, C]: each corner gets its share."""
        space = range(2, self.x.rank)
        updates = reshape(op.Unsqueeze(weights, axes=[weights.rank]) * self._apart(g), [-1, *each_size(g, [2])])
        added = add_rows(updates, self._rows(), span(self.x, [0, *space]), 0)
        images = reshape(added, [*each_size(self.x, [0, *space]), *each_size(self.x, [1])])
        return op.Cast(op.Transpose(images, perm=[0, self.x.rank - 1, *(a - 1 for a in space)]), to=self.x.dtype)

    def products(self, g: Value) -> Value:
        """⟨g, pixel⟩ of each corner, [B, P, K, …]: what more weight for it is worth."""
        corners = self.gathered()
        return op.ReduceSum(corners * self._apart(g), axes=[corners.rank - 1], keepdims=0)

    def gathered(self) -> Value:
        """The pixels at the corners, float32 [B, P, K, …, C]."""
        last = op.Transpose(op.Cast(self.x, to=FLOAT), perm=[0, *range(2, self.x.rank), 1])
        pixels = op.Gather(reshape(last, [-1, *each_size(self.x, [1])]), self._rows(), axis=0)
        counts = [tap.weight.shape[2] for tap in self.taps]
        like = self.taps[0].weight
        return reshape(pixels, [*each_size(like, [0, 1]), *(k for k in counts if isinstance(k, int)), -1])

    def _rows(self) -> Value:
        """Where each corner lies among the pixels of all images, int64 [B·P·K^d]."""
        tape = self.x.tape
        index = op.Reshape(numbers(sizes(self.x, [0])), tape.constant([-1, *[1] * (1 + len(self.taps))], INT64))
        for axis, tap in enumerate(self.taps):
            place = self._along(op.Cast(tap.index, to=INT64), axis)
            index = op.Add(op.Mul(index, sizes(self.x, [2 + axis])), place)
        return op.Reshape(index, tape.constant([-1], INT64))

    def _along(self, v: Value, axis: int) -> Value:
        """[B, P, K] of one axis among those of the others."""
        others = [2 + a for a in range(len(self.taps)) if a != axis]
        return op.Unsqueeze(v, axes=others) if others else v

    def _apart(self, g: Value) -> Value:
        """[B, P, C] beside the corners of its points, float32."""
        return op.Unsqueeze(op.Cast(g, to=FLOAT), axes=list(range(2, 2 + len(self.taps))))


def at_points(v: Value) -> Value:
    """A map (B, C, *space) as points (B, P, C)."""
    return reshape(op.Transpose(v, perm=[0, *range(2, v.rank), 1]), [*each_size(v, [0]), -1, *each_size(v, [1])])


# ----- GridSample -----
def lengths(x: Value) -> list[Length]:
    """The length of each axis of space."""
    return [float(n[0]) if (n := static(x, [a])) else op.Cast(sizes(x, [a]), to=FLOAT) for a in range(2, x.rank)]


def _sampled(x: Value, grid: Value, mode: str, padding_mode: str, align_corners: int) -> Points:
    """The points of a grid, whose last axis counts the axes of space from the last to the first."""
    places = reshape(op.Cast(grid, to=FLOAT), [*each_size(grid, [0]), -1, x.rank - 2])
    taps = []
    for axis, length in enumerate(lengths(x)):
        n = op.Squeeze(take(places, [x.rank - 3 - axis], 2), axes=[2])
        position = (n + 1.0) / 2.0 * (length - 1.0) if align_corners else ((n + 1.0) * length - 1.0) / 2.0
        taps.append(neighbours(position, length, mode.removeprefix("bi"), padding_mode, bool(align_corners)))
    return Points(x, taps)


def grid_sample_input(
    g: Value, y: Value, x: Value, grid: Value, *, mode: str, padding_mode: str, align_corners: int
) -> Value:
    """G shared out among the neighbours of each point."""
    points = _sampled(x, grid, mode, padding_mode, align_corners)
    return points.shares(at_points(g), points.weights())


def grid_sample_grid(
    g: Value, y: Value, x: Value, grid: Value, *, mode: str, padding_mode: str, align_corners: int
) -> Value:
    """How the value at each point changes with its position; nothing where it takes the nearest pixel."""
    if mode == "nearest":
        return zeros_like(grid)
    points = _sampled(x, grid, mode, padding_mode, align_corners)
    worth = points.products(at_points(g))
    corners = list(range(2, worth.rank))
    moved = []
    for axis, length in reversed(list(enumerate(lengths(x)))):
        pixels = (length - 1.0) / 2.0 if align_corners else length / 2.0
        moved.append(op.ReduceSum(worth * points.weights(moved=axis), axes=corners, keepdims=0) * pixels)
    return reshape_like(op.Cast(op.Concat(*(op.Unsqueeze(m, axes=[2]) for m in moved), axis=2), to=grid.dtype), grid)


vjp("GridSample", grid_sample_input, grid_sample_grid)


# ----- AffineGrid -----
def affine_grid(g: Value, y: Value, theta: Value, size: Value, *, align_corners: int) -> Value:
    """Each position is theta·(x, y, …, 1): g times that, added up over all positions."""
    axes = list(range(1, y.rank - 1))
    columns = [op.ReduceSum(g * _places(y, axis, bool(align_corners)), axes=axes, keepdims=0) for axis in axes[::-1]]
    columns.append(op.ReduceSum(g, axes=axes, keepdims=0))
    return op.Concat(*(op.Unsqueeze(c, axes=[2]) for c in columns), axis=2)


def _places(grid: Value, axis: int, aligned: bool) -> Value:
    """The positions along one axis of a grid, −1..1, beside its other axes."""
    length = sizes(grid, [axis])
    step, count = op.Cast(numbers(length), to=FLOAT), op.Cast(length, to=FLOAT)
    from_end = 1.0 - (count - 1.0 - step) * 2.0 / larger(count - 1.0, 1.0)  # as onnxruntime: a single position is at 1
    place = from_end if aligned else (step * 2.0 + 1.0) / count - 1.0
    return reshape(op.Cast(place, to=grid.dtype), [-1, *[1] * (grid.rank - 1 - axis)])


vjp("AffineGrid", affine_grid, STOP)
