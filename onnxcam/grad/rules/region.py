"""Pools over regions of an image that other tensors give: RoiAlign and MaxRoiPool.

A bin reads rows and columns independently of each other, so a region is A_y X A_xᵀ with one matrix per axis. The
gradient is A_yᵀ g A_x, added up over the regions of an image by the same product: no element is gathered or scattered.
A maximum first finds, among the elements of its bin, the one that won.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from onnxcam.grad.registry import STOP, Rule, vjp
from onnxcam.grad.rules.interpolation import FLOAT, below, ceil, equal, floor, larger, magnitude, smaller
from onnxcam.grad.rules.maximum import first_largest
from onnxcam.grad.scatter import numbers, one_hot, span
from onnxcam.grad.shapes import INT64, each_size, reshape, reshape_like, sizes, take
from onnxcam.grad.tensor import Value, op

UNUSED = -3e38  # what a row that a bin does not have counts for in a maximum


@dataclass(frozen=True)
class Rows:
    """What R regions read along one axis of length L: B bins of up to T rows each, float32.

    `weight`, [R, B, T, L], is what a row is made of; `used`, [R, B, T], is 0 for a row that its bin does not have.
    """

    weight: Value
    used: Value

    @property
    def matrix(self) -> Value:
        """The weights one row after the other, [R, B·T, L]."""
        w = self.weight
        return reshape(w, [*each_size(w, [0]), span(w, [1, 2]), *each_size(w, [3])])


@dataclass(frozen=True)
class Motion:
    """How the rows of one axis move.

    `slope`, [R, B, T, L], is how their weights change with their position; `far`, [R, B, T], how deep in the region
    they lie, 0..1; `grows`, [R, 1, 1], is 0 where the region is held at its least size.
    """

    slope: Value
    far: Value
    grows: Value


# ----- products -----
def _image(x: Value, image: Value) -> Value:
    """The image of each region, float32 [R, C, H, W]."""
    return op.Gather(op.Cast(x, to=FLOAT), image, axis=0)


def _read(rows: Value, images: Value, columns: Value) -> Value:
    """A_y X A_xᵀ of each region: [R, B, H], [R, C, H, W], [R, B', W] make [R, C, B, B']."""
    return op.MatMul(_tall(rows, images), op.Unsqueeze(op.Transpose(columns, perm=[0, 2, 1]), axes=[1]))


def _tall(rows: Value, images: Value) -> Value:
    return op.MatMul(op.Unsqueeze(rows, axes=[1]), images)


def _write(g: Value, rows: Value, columns: Value, x: Value, image: Value) -> Value:
    """A_yᵀ g A_x of each region, added up in its image."""
    tall = op.Transpose(_tall(op.Transpose(rows, perm=[0, 2, 1]), g), perm=[1, 2, 0, 3])  # C, H, R, B'
    mine = op.Transpose(one_hot(image, sizes(x, [0]), FLOAT), perm=[1, 0])
    wide = op.Unsqueeze(mine, axes=[2, 3]) * op.Unsqueeze(columns, axes=[0])  # N, R, B', W
    left = op.Unsqueeze(reshape(tall, [span(x, [1, 2]), span(tall, [2, 3])]), axes=[0])
    right = reshape(wide, [*each_size(x, [0]), span(wide, [1, 2]), *each_size(x, [3])])
    return op.Cast(reshape_like(op.MatMul(left, right), x), to=x.dtype)


def _won(g: Value, rows: Rows, columns: Rows, images: Value) -> Value:
    """g, [R, C, B, B'], at the first of the largest elements of its bin, [R, C, B·T, B'·T']."""
    values = _read(rows.matrix, images, columns.matrix)
    used = op.Unsqueeze(rows.used, axes=[1, 4, 5]) * op.Unsqueeze(columns.used, axes=[1, 2, 3])
    rc, (b, t), (d, u) = each_size(values, [0, 1]), each_size(rows.used, [1, 2]), each_size(columns.used, [1, 2])
    apart = reshape(values, [*rc, b, t, d, u])
    bins = op.Transpose(apart * used + (1.0 - used) * UNUSED, perm=[0, 1, 2, 4, 3, 5])
    first = first_largest(reshape(bins, [*rc, b, d, -1]), 4)
    spread = reshape(first * op.Unsqueeze(g, axes=[4]), [*rc, b, d, t, u])
    return reshape(op.Transpose(spread, perm=[0, 1, 2, 4, 3, 5]) * used, [*rc, op.Mul(b, t), op.Mul(d, u)])


def _counted(first: Value, many: Value | int, axis: int, rank: int) -> Value:
    """0, 1, … along one of `rank` axes, float32."""
    length = first.tape.constant([many], INT64) if isinstance(many, int) else many
    return reshape(op.Cast(numbers(length), to=FLOAT), [-1 if a == axis else 1 for a in range(rank)])


# ----- RoiAlign -----
@dataclass(frozen=True)
class Align:
    """The attributes of RoiAlign that say where its samples lie."""

    sampling_ratio: int
    spatial_scale: float
    half_pixel: bool
    largest: bool


def _aligned(x: Value, axis: int, start: Value, end: Value, bins: int, by: Align) -> tuple[Rows, Motion]:
    """The samples of each bin, between two rows each; a maximum is of the two rows, as weighted, apart."""
    shift = 0.5 if by.half_pixel else 0.0
    low, high = start * by.spatial_scale - shift, end * by.spatial_scale - shift
    extent = high - low if by.half_pixel else larger(high - low, 1.0)
    grows = extent * 0.0 + 1.0 if by.half_pixel else 1.0 - below(high - low, 1.0)
    per_bin = extent * 0.0 + float(by.sampling_ratio) if by.sampling_ratio else ceil(extent / float(bins))
    many = op.Cast(op.Reshape(op.ReduceMax(larger(per_bin, 1.0), keepdims=0), x.tape.constant([1], INT64)), to=INT64)
    s = _counted(x, by.sampling_ratio or many, 2, 3)
    far = (_counted(x, bins, 1, 3) + (s + 0.5) / larger(per_bin, 1.0)) / float(bins)
    y, used = low + far * extent, below(s - per_bin, 0.0) + far * 0.0
    length = op.Cast(sizes(x, [axis]), to=FLOAT)
    keep = used * (1.0 - below(y + 1.0, 0.0)) * (1.0 - below(length - y, 0.0))
    inside = keep * (1.0 - below(y, 0.0)) * (1.0 - below(length - 1.0 - y, 0.0))
    y = op.Unsqueeze(smaller(larger(y, 0.0), length - 1.0), axes=[3])
    before = floor(y)
    j = _counted(x, sizes(x, [axis]), 3, 4)
    at, after = equal(j, before), equal(j, before + 1.0)
    kept, moved = op.Unsqueeze(keep, axes=[3]), op.Unsqueeze(inside, axes=[3])
    parts = [(1.0 - (y - before)) * at * kept, (y - before) * after * kept]
    slopes = [-at * moved, after * moved]
    if by.largest:
        twice = [op.Concat(v, v, axis=2) for v in (used, far)]
        return Rows(op.Concat(*parts, axis=2), twice[0]), Motion(op.Concat(*slopes, axis=2), twice[1], grows)
    share = op.Unsqueeze(larger(per_bin, 1.0), axes=[3])
    return Rows((parts[0] + parts[1]) / share, used), Motion((slopes[0] + slopes[1]) / share, far, grows)


@dataclass(frozen=True)
class Aligned:
    """One use of RoiAlign: each region's image, and rows, columns and what moves them."""

    image: Value
    rows: Rows
    columns: Rows
    down: Motion
    right: Motion
    by: Align

    def matrices(self) -> list[Value]:
        """What g is multiplied by: for a maximum every row by itself, for an average the sum of those of a bin."""
        both = (self.rows, self.columns)
        return [r.matrix if self.by.largest else op.ReduceSum(r.weight, axes=[2], keepdims=0) for r in both]


Gradient = Callable[[Value, Value, Value, Aligned], Value]  # (g, x, rois, aligned)


def _roi_align(gradient: Gradient) -> Rule:
    """The rule for one input of RoiAlign."""

    def rule(
        g: Value,
        y: Value,
        x: Value,
        rois: Value,
        batch_indices: Value,
        *,
        mode: str,
        output_height: int,
        output_width: int,
        sampling_ratio: int,
        spatial_scale: float,
        coordinate_transformation_mode: str = "output_half_pixel",
    ) -> Value:
        largest = mode.lower() == "max"
        by = Align(sampling_ratio, spatial_scale, coordinate_transformation_mode == "half_pixel", largest)
        corners = op.Unsqueeze(op.Cast(rois, to=FLOAT), axes=[2])
        left, top, right, bottom = (take(corners, [k], 1) for k in range(4))
        rows, down = _aligned(x, 2, top, bottom, output_height, by)
        columns, across = _aligned(x, 3, left, right, output_width, by)
        aligned = Aligned(batch_indices, rows, columns, down, across, by)
        g = op.Cast(g, to=FLOAT)
        if largest:
            g = _won(g, rows, columns, _image(x, batch_indices))
        return gradient(g, x, rois, aligned)

    return rule


def roi_align_input(g: Value, x: Value, rois: Value, at: Aligned) -> Value:
    """G written back where each bin read."""
    rows, columns = at.matrices()
    return _write(g, rows, columns, x, at.image)


def roi_align_rois(g: Value, x: Value, rois: Value, at: Aligned) -> Value:
    """What it is worth to move each side: how the rows' values change, times how far they move with that side."""
    images = _image(x, at.image)
    rows, columns = at.matrices()
    wide = op.MatMul(images, op.Unsqueeze(op.Transpose(columns, perm=[0, 2, 1]), axes=[1]))  # R, C, H, B'
    top, bottom = _moved(_inner(g, wide, [0, 2, 1, 3], [0, 1, 3, 2]), at.down, at.by)
    left, right = _moved(_inner(g, _tall(rows, images), [0, 3, 1, 2], [0, 1, 2, 3]), at.right, at.by)
    return op.Cast(op.Concat(left, top, right, bottom, axis=1), to=rois.dtype)


def _inner(g: Value, values: Value, g_order: Sequence[int], order: Sequence[int]) -> Value:
    """What each element along an axis is worth to each row, summed over channels and the other axis: [R, B, L]."""
    a, b = op.Transpose(g, perm=list(g_order)), op.Transpose(values, perm=list(order))
    left = reshape(a, [*each_size(a, [0, 1]), span(a, [2, 3])])
    return op.MatMul(left, reshape(b, [*each_size(b, [0]), span(b, [1, 2]), *each_size(b, [3])]))


def _moved(worth: Value, motion: Motion, by: Align) -> tuple[Value, Value]:
    """The gradients of the start and the end of the regions along one axis, [R, 1] each."""
    apart = reshape(worth, each_size(motion.slope, [0, 1, 2, 3])) if by.largest else op.Unsqueeze(worth, axes=[2])
    t = op.ReduceSum(apart * motion.slope, axes=[3], keepdims=0) * by.spatial_scale
    far = motion.far * motion.grows
    start, end = (op.ReduceSum(t * f, axes=[1, 2], keepdims=0) for f in (1.0 - far, far))
    return op.Unsqueeze(start, axes=[1]), op.Unsqueeze(end, axes=[1])


vjp("RoiAlign", _roi_align(roi_align_input), _roi_align(roi_align_rois), STOP)


# ----- MaxRoiPool -----
def max_roi_pool(
    g: Value, y: Value, x: Value, rois: Value, *, pooled_shape: Sequence[int], spatial_scale: float
) -> Value:
    """To the first maximum of each bin; an empty bin gives nothing."""
    corners = op.Unsqueeze(op.Cast(rois, to=FLOAT), axes=[2])
    image = op.Cast(op.Reshape(take(corners, [0], 1), x.tape.constant([-1], INT64)), to=INT64)
    left, top, right, bottom = (_rounded(take(corners, [k], 1) * spatial_scale) for k in range(1, 5))
    rows = _whole(x, 2, top, bottom, pooled_shape[0])
    columns = _whole(x, 3, left, right, pooled_shape[1])
    won = _won(op.Cast(g, to=FLOAT), rows, columns, _image(x, image))
    return _write(won, rows.matrix, columns.matrix, x, image)


def _rounded(x: Value) -> Value:
    """To the nearest whole number, halves away from zero."""
    return floor(magnitude(x) + 0.5) * (1.0 - 2.0 * below(x, 0.0))


def _whole(x: Value, axis: int, start: Value, end: Value, bins: int) -> Rows:
    """The rows of pixels that each bin covers."""
    size = larger(end - start + 1.0, 1.0) / float(bins)
    b = _counted(x, bins, 1, 3)
    length = op.Cast(sizes(x, [axis]), to=FLOAT)
    first, last = (smaller(larger(v + start, 0.0), length) for v in (floor(b * size), ceil((b + 1.0) * size)))
    most = larger(op.ReduceMax(last - first, keepdims=0), 1.0)
    many = op.Cast(op.Reshape(most, x.tape.constant([1], INT64)), to=INT64)
    index = first + _counted(x, many, 2, 3)
    used = below(index - last, 0.0)
    j = _counted(x, sizes(x, [axis]), 3, 4)
    return Rows(equal(op.Unsqueeze(index, axes=[3]), j) * op.Unsqueeze(used, axes=[3]), used)


vjp("MaxRoiPool", max_roi_pool, STOP)
