"""Interpolation along one axis, written once for numbers and for values of the graph.

Where every size is known the weights are computed here and become a constant; where one is known at run time the same
formulas write nodes. Both work in float32, operation by operation as onnxruntime does: which of two neighbours is the
nearest depends on the last bit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
import onnx

from onnxcam.errors import UnsupportedGradient
from onnxcam.grad.scatter import numbers
from onnxcam.grad.shapes import INT64
from onnxcam.grad.tensor import Value, op

FLOAT = onnx.TensorProto.FLOAT
Numbers = npt.NDArray[np.floating]
TIE = 5e-7  # so close to the middle of two elements onnxruntime rounds as if it were there
N = TypeVar("N", Numbers, Value)


# ----- the few functions that differ -----
def floor(x: N) -> N:
    """The largest whole number that is not above x."""
    return op.Floor(x) if isinstance(x, Value) else np.floor(x)


def ceil(x: N) -> N:
    """The smallest whole number that is not below x."""
    return op.Ceil(x) if isinstance(x, Value) else np.ceil(x)


def magnitude(x: N) -> N:
    """|x|."""
    return op.Abs(x) if isinstance(x, Value) else np.abs(x)


def larger(x: N, low: float) -> N:
    """The larger of x and a number."""
    return op.Max(x, low) if isinstance(x, Value) else np.maximum(x, np.float32(low))


def smaller(x: N, high: N) -> N:
    """The smaller of two."""
    return op.Min(x, high) if isinstance(x, Value) else np.minimum(x, high)


def below(x: N, high: float) -> N:
    """1 where x is below a number, else 0."""
    return op.Cast(op.Less(x, high), to=FLOAT) if isinstance(x, Value) else (x < np.float32(high)).astype(np.float32)


def total(x: N) -> N:
    """The sum of each row."""
    return op.ReduceSum(x, axes=[1], keepdims=1) if isinstance(x, Value) else np.asarray(x.sum(axis=1, keepdims=True))


def column(x: N) -> N:
    """A row stood up."""
    return op.Transpose(x, perm=[1, 0]) if isinstance(x, Value) else x.T


def number(value: float, like: N) -> N:
    """A number of shape [1], of the world of `like`."""
    return like.tape.constant([value], FLOAT) if isinstance(like, Value) else np.full(1, value, np.float32)


def steps(first: N, many: N) -> N:
    """The row `first`, `first` + 1, …, `many` of them."""
    if not isinstance(many, Value):
        return first + np.arange(int(many[0]), dtype=np.float32)[None, :]
    return op.Cast(op.Unsqueeze(numbers(op.Cast(many, to=INT64)), axes=[0]), to=FLOAT) + first


def equal(x: N, y: N) -> N:
    """1 where two whole numbers are equal, else 0."""
    return below(magnitude(x - y), 0.5)


# ----- where an element of the output lies in the input -----
@dataclass(frozen=True)
class Axis(Generic[N]):
    """One axis of a Resize: `n` elements become `m`, by `scale`, out of the region `start`..`end`; each float32 [1]."""

    n: N
    m: N
    scale: N
    start: N
    end: N


def coordinates(axis: Axis[N], mode: str) -> N:
    """The position in the input of each output element, a column (Resize, coordinate_transformation_mode)."""
    n, m, scale = axis.n, axis.m, axis.scale
    i = column(steps(number(0, m), m))
    if mode == "half_pixel":
        return (i + 0.5) / scale - 0.5
    if mode == "half_pixel_symmetric":
        return n / 2.0 * (1.0 - m / (scale * n)) + (i + 0.5) / scale - 0.5
    if mode == "pytorch_half_pixel":
        return ((i + 0.5) / scale - 0.5) * (1.0 - below(m, 2.0))
    if mode == "align_corners":
        return i * (n - 1.0) / larger(m - 1.0, 1.0)
    if mode == "asymmetric":
        return i / scale
    if mode == "tf_half_pixel_for_nn":
        return (i + 0.5) / scale
    if mode == "tf_crop_and_resize":
        middle = 0.5 * below(m, 2.0)  # of the region, where there is one element
        extent = (axis.end - axis.start) * (n - 1.0)
        return axis.start * (n - 1.0) + i * extent / larger(m - 1.0, 1.0) + middle * extent
    raise UnsupportedGradient(f"coordinate_transformation_mode '{mode}' is not in the specification")


# ----- what it is made of -----
@dataclass(frozen=True)
class Filter:
    """How an element is made of its neighbours: Resize's attributes."""

    mode: str
    nearest_mode: str
    cubic_coeff_a: float
    exclude_outside: bool
    antialias: bool
    extrapolation: bool


def matrix(axis: Axis[N], x: N, by: Filter) -> N:
    """The (m, n) weights: row i says what the output element at x_i is made of."""
    if by.mode == "nearest":
        index = smaller(larger(_nearest(x, axis.scale, by.nearest_mode), 0.0), axis.n - 1.0)
        return _kept(axis, x, by, equal(index, steps(number(0, x), axis.n)))
    weights = _gathered(axis, x, by, kernel)
    return _kept(axis, x, by, weights / total(weights))


def slope(axis: Axis[N], x: N, by: Filter) -> N:
    """The derivative of `matrix` by x, for modes other than nearest."""
    weights, slopes = _gathered(axis, x, by, kernel), _gathered(axis, x, by, kernel_slope)
    whole = total(weights)
    return _kept(axis, x, by, (slopes - weights * total(slopes) / whole) / whole)


def _kept(axis: Axis[N], x: N, by: Filter, weights: N) -> N:
    """No weight at all where the output is the extrapolation value."""
    return weights * (1.0 - below(x, 0.0)) * (1.0 - below(axis.n - 1.0 - x, 0.0)) if by.extrapolation else weights


def _nearest(x: N, scale: N, rounding: str) -> N:
    if rounding == "round_prefer_floor":
        return ceil(x - 0.5 - TIE)
    if rounding == "round_prefer_ceil":
        return floor(x + 0.5 + TIE)
    if rounding == "ceil_down":  # before opset 11: up where the axis shrinks, else down
        shrinks = below(scale, 1.0)
        return ceil(x) * shrinks + floor(x) * (1.0 - shrinks)
    if rounding in ("floor", "ceil"):
        return floor(x) if rounding == "floor" else ceil(x)
    raise UnsupportedGradient(f"nearest_mode '{rounding}' is not in the specification")


def _gathered(axis: Axis[N], x: N, by: Filter, function: Callable[[N, Filter], N]) -> N:
    """The (m, n) values of a function of the distance; what lies outside counts for the element at the edge."""
    support = 2.0 if by.mode == "cubic" else 1.0
    if by.extrapolation:
        x = smaller(larger(x, 0.0), axis.n - 1.0)  # far outside there would be no weight to divide by
    stretch = smaller(axis.scale, number(1, x)) if by.antialias else number(1, x)
    j = steps(number(0, x), axis.n)
    inside = function((x - j) * stretch, by)
    if by.exclude_outside:
        return inside
    reach = ceil(support / stretch) + 1.0
    before, after = steps(-reach, reach), steps(axis.n, reach)
    first, last = equal(j, number(0, x)), equal(j, axis.n - 1.0)
    return (
        inside + total(function((x - before) * stretch, by)) * first + total(function((x - after) * stretch, by)) * last
    )


def kernel(d: N, by: Filter) -> N:
    """The weight at distance d: the hat, or Keys' cubic (https://doi.org/10.1109/TASSP.1981.1163711, eq. 4)."""
    t = magnitude(d)
    if by.mode != "cubic":
        return larger(1.0 - t, 0.0)
    near, far = below(t, 1.0), below(t, 2.0) - below(t, 1.0)
    return near * cubic_near(t, by.cubic_coeff_a) + far * cubic_far(t, by.cubic_coeff_a)


def kernel_slope(d: N, by: Filter) -> N:
    """Its derivative by d; at the hat's kinks that from the right."""
    if by.mode != "cubic":
        return below(d, 0.0) - below(d, -1.0) - (below(d, 1.0) - below(d, 0.0))
    t, sign = magnitude(d), 1.0 - 2.0 * below(d, 0.0)
    near, far = below(t, 1.0), below(t, 2.0) - below(t, 1.0)
    return sign * (near * cubic_near_slope(t, by.cubic_coeff_a) + far * cubic_far_slope(t, by.cubic_coeff_a))


def cubic_near(t: N, a: float) -> N:
    """Keys' cubic for 0 ≤ t ≤ 1."""
    return ((a + 2) * t - (a + 3)) * t * t + 1.0


def cubic_far(t: N, a: float) -> N:
    """Keys' cubic for 1 ≤ t ≤ 2."""
    return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a


def cubic_near_slope(t: N, a: float) -> N:
    """Derivative of `cubic_near`."""
    return (3 * (a + 2) * t - 2 * (a + 3)) * t


def cubic_far_slope(t: N, a: float) -> N:
    """Derivative of `cubic_far`."""
    return (3 * a * t - 10 * a) * t + 8 * a
