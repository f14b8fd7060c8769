"""Resize and Upsample: linear in the input and separable, so the gradient is one matrix product per axis.

The matrix of an axis comes from interpolation.py: a constant where its sizes are known, nodes where they are not.
Repeating each element a whole number of times needs none: its gradient sums blocks, at any size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxcam.grad.registry import STOP, Rule, vjp
from onnxcam.grad.rules.interpolation import FLOAT, Axis, Filter, Numbers, coordinates, matrix, number, slope
from onnxcam.grad.shapes import each_size, of_rank, reshape, static, take, zeros_like
from onnxcam.grad.shapes import sizes as sizes_of
from onnxcam.grad.tensor import Value, op

Region = tuple[float | Value, float | Value]
WHOLE = (0.0, 1.0)


@dataclass(frozen=True)
class Plan:
    """One use of Resize: its axes in order, the geometry of those that change, known and open, and how it is done."""

    along: list[int]
    factors: dict[int, float]
    known: dict[int, Axis[Numbers]]
    open: dict[int, Axis[Value]]
    transformation: str
    by: Filter

    def weights(self, axis: int) -> Numbers | Value:
        """The (m, n) matrix of an axis that changes."""
        if axis in self.known:
            return matrix(self.known[axis], coordinates(self.known[axis], self.transformation), self.by)
        return matrix(self.open[axis], coordinates(self.open[axis], self.transformation), self.by)


Gradient = Callable[[Value, Value, Value, Plan], Value]  # (g, x, roi, plan)


def _resize(gradient: Gradient, moving: bool = False) -> Rule:
    """The rule for one input of Resize; the attributes are the same for all. `moving`: its region is no constant."""

    def rule(
        g: Value,
        y: Value,
        x: Value,
        roi: Value | None = None,
        scales: Value | None = None,
        sizes: Value | None = None,
        *,
        mode: str,
        coordinate_transformation_mode: str = "asymmetric",
        nearest_mode: str = "ceil_down",
        cubic_coeff_a: float = -0.75,
        exclude_outside: int = 0,
        antialias: int = 0,
        axes: Sequence[int] | None = None,
        keep_aspect_ratio_policy: str = "stretch",
        extrapolation_value: float = 0.0,
    ) -> Value:
        g, y = of_rank(g, x.rank), of_rank(y, x.rank)
        along = [a % x.rank for a in axes] if axes else list(range(x.rank))
        crops = coordinate_transformation_mode == "tf_crop_and_resize"
        scale = _scales(x, y, scales, sizes, along, keep_aspect_ratio_policy)
        roi = x.tape.constant([], FLOAT) if roi is None else roi
        regions = _regions(roi, len(along), moving) if crops else [WHOLE] * len(along)
        plan = Plan(
            along,
            {a: s for a, s in scale.items() if isinstance(s, float)},
            {},
            {},
            coordinate_transformation_mode,
            Filter(
                "linear" if mode == "bilinear" else mode,
                nearest_mode,
                cubic_coeff_a,
                bool(exclude_outside),
                bool(antialias),
                crops,
            ),
        )
        for a, region in zip(along, regions, strict=True):
            if region != WHOLE or not _same(x, y, a, scale[a]):
                _place(plan, x, y, a, scale[a], region)
        return gradient(g, x, roi, plan)

    return rule


def resize_input(g: Value, x: Value, roi: Value, plan: Plan) -> Value:
    """One product with the transposed matrix for each axis that changes."""
    if _repeats(plan):
        return _sum_blocks(g, {a: round(f) for a, f in plan.factors.items() if f != 1})
    for axis in sorted((*plan.known, *plan.open), reverse=True):
        g = _multiply(g, plan.weights(axis), axis)
    return g


def resize_roi(g: Value, x: Value, roi: Value, plan: Plan) -> Value:
    """What moving each end of the region does: the derivative of its axis' matrix, times how far x_i moves with it."""
    if not plan.by.extrapolation or plan.by.mode == "nearest":
        return zeros_like(roi)
    starts, ends = [], []
    for moved in plan.along:
        axis = plan.open[moved]
        y = x
        for a in plan.along:
            weights = slope(axis, coordinates(axis, plan.transformation), plan.by) if a == moved else plan.weights(a)
            y = _multiply(y, op.Transpose(weights, perm=[1, 0]), a)
        t = op.ReduceSum(g * y, axes=[a for a in range(g.rank) if a != moved], keepdims=0)
        column = op.Cast(op.Unsqueeze(t, axes=[1]), to=FLOAT)
        end = coordinates(replace(axis, start=number(0, axis.n), end=number(1, axis.n)), plan.transformation)
        ends.append(op.ReduceSum(column * end, axes=[0, 1], keepdims=0))
        starts.append(op.ReduceSum(column * (axis.n - 1.0 - end), axes=[0, 1], keepdims=0))
    return op.Cast(op.Concat(*(op.Unsqueeze(v, axes=[0]) for v in (*starts, *ends)), axis=0), to=roi.dtype)


# ----- geometry -----
def _given(operand: Value | None) -> bool:
    """Whether an optional operand is there; before opset 13 one that is not may be an empty tensor."""
    return operand is not None and operand.shape != (0,)


def _scales(
    x: Value, y: Value, scales: Value | None, sizes: Value | None, along: Sequence[int], policy: str
) -> dict[int, float | Value]:
    """How much each axis grows: a number or a float32 [1] Value."""
    if scales is not None and not (_given(sizes) or not _given(scales)):
        known = scales.constant
        if known is not None:
            return {a: float(s) for a, s in zip(along, np.asarray(known).reshape(-1), strict=True)}
        return {a: take(scales, [k], 0) for k, a in enumerate(along)}
    if policy == "stretch" or sizes is None:
        return {a: _ratio(x, y, a) for a in along}
    before, after = static(x, along), sizes.constant
    smallest = policy == "not_larger"
    if before is not None and after is not None:
        ratios = np.asarray(after).astype(np.float32) / np.array(before, np.float32)
        return dict.fromkeys(along, float(ratios.min() if smallest else ratios.max()))
    ratio = op.Cast(sizes, to=FLOAT) / op.Cast(sizes_of(x, along), to=FLOAT)
    return dict.fromkeys(along, (op.ReduceMin if smallest else op.ReduceMax)(ratio, axes=[0], keepdims=1))


def _ratio(x: Value, y: Value, axis: int) -> float | Value:
    n, m = x.shape[axis], y.shape[axis]
    if n == m:
        return 1.0
    if isinstance(n, int) and isinstance(m, int):
        return float(np.float32(m) / np.float32(n))
    return op.Cast(sizes_of(y, [axis]), to=FLOAT) / op.Cast(sizes_of(x, [axis]), to=FLOAT)


def _same(x: Value, y: Value, axis: int, scale: float | Value) -> bool:
    """Whether an axis is known to stay as it is."""
    return x.shape[axis] == y.shape[axis] == 1 if isinstance(scale, Value) else scale == 1


def _regions(roi: Value, n: int, moving: bool) -> list[Region]:
    """Start and end of each axis of the region."""
    if roi.constant is not None and not moving:
        corners = [float(v) for v in np.asarray(roi.constant).reshape(-1)]
        return list(zip(corners[:n], corners[n:], strict=True)) or [WHOLE] * n
    wide = op.Cast(roi, to=FLOAT)
    return [(take(wide, [k], 0), take(wide, [n + k], 0)) for k in range(n)]


def _place(plan: Plan, x: Value, y: Value, axis: int, scale: float | Value, region: Region) -> None:
    """Enter the geometry of one axis into the plan."""
    before, after = static(x, [axis]), static(y, [axis])
    known = [v for v in (scale, *region) if not isinstance(v, Value)]
    if before and after and len(known) == 3:
        plan.known[axis] = Axis(*(np.full(1, v, np.float32) for v in (*before, *after, *known)))
    else:
        n, m = (op.Cast(sizes_of(v, [axis]), to=FLOAT) for v in (x, y))
        rest = [v if isinstance(v, Value) else number(v, n) for v in (scale, *region)]
        plan.open[axis] = Axis(n, m, *rest)


# ----- products -----
def _repeats(plan: Plan) -> bool:
    """Whether a nearest Resize repeats each element a whole number of times."""
    if plan.by.mode != "nearest" or plan.by.extrapolation or len(plan.factors) < len(plan.along):
        return False
    whole = all(f >= 1 and f == round(f) for f in plan.factors.values())
    if plan.transformation in ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel"):
        return whole and plan.by.nearest_mode.startswith("round_prefer")
    return whole and plan.transformation == "asymmetric" and plan.by.nearest_mode in ("floor", "ceil_down")


def _sum_blocks(g: Value, factors: dict[int, int]) -> Value:
    if min(factors, default=0) >= 2 and g.rank <= 5:
        block = [factors.get(a, 1) for a in range(2, g.rank)]
        return op.AveragePool(g, kernel_shape=block, strides=block) * float(np.prod(block))
    for axis in sorted(factors, reverse=True):
        before, after = each_size(g, range(axis)), each_size(g, range(axis + 1, g.rank))
        g = op.ReduceSum(reshape(g, [*before, -1, factors[axis], *after]), axes=[axis + 1], keepdims=0)
    return g


def _multiply(g: Value, weights: Numbers | Value, axis: int) -> Value:
    """`g` times the (m, n) matrix along `axis`, whose length goes from m to n."""
    by = op.Cast(weights, to=g.dtype) if isinstance(weights, Value) else g.tape.constant(weights, g.dtype)
    if axis == g.rank - 1:
        return op.MatMul(g, by)
    if axis == g.rank - 2:
        turned = op.Transpose(by, perm=[1, 0]) if isinstance(weights, Value) else g.tape.constant(weights.T, g.dtype)
        return op.MatMul(turned, g)
    order = [a for a in range(g.rank) if a != axis] + [axis]
    return op.Transpose(op.MatMul(op.Transpose(g, perm=order), by), perm=[order.index(a) for a in range(g.rank)])


vjp("Resize", _resize(resize_input), _resize(resize_roi, moving=True), STOP, STOP, since=11)


def resize_asymmetric(g: Value, y: Value, x: Value, scales: Value, *, mode: str) -> Value:
    """Before opset 11: positions are i/scale."""
    return _resize(resize_input)(g, y, x, None, scales, mode=mode)


vjp("Resize", resize_asymmetric, STOP, until=11)
vjp("Upsample", resize_asymmetric, STOP)
