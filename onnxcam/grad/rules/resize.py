"""Resize and Upsample: linear in the input and separable, so the gradient is one matrix product per axis.

The matrix of an axis is written out from the specification. Repeating each element a whole number of times needs
none: its gradient sums blocks, at any size.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from onnxcam.errors import UnsupportedGradient
from onnxcam.grad.registry import STOP, vjp
from onnxcam.grad.shapes import static
from onnxcam.grad.tensor import Value, op

Matrix = npt.NDArray[np.float64]


def _source(
    i: npt.NDArray[np.float64], n: int, m: int, scale: float, coordinates: str, roi: tuple[float, float]
) -> npt.NDArray[np.float64]:
    """Where output position `i` of `m` lies in an axis of length `n` (Resize, coordinate_transformation_mode)."""
    length = scale * n
    if coordinates == "half_pixel":
        return (i + 0.5) / scale - 0.5
    if coordinates == "half_pixel_symmetric":
        adjusted = m / length
        return n / 2 * (1 - adjusted) + (i + 0.5) / scale - 0.5
    if coordinates == "pytorch_half_pixel":
        return (i + 0.5) / scale - 0.5 if m > 1 else np.zeros_like(i)
    if coordinates == "align_corners":
        return i * (n - 1) / (length - 1) if length != 1 else np.zeros_like(i)
    if coordinates == "asymmetric":
        return i / scale
    if coordinates == "tf_half_pixel_for_nn":
        return (i + 0.5) / scale
    if coordinates == "tf_crop_and_resize":
        start, end = roi
        return (
            start * (n - 1) + i * (end - start) * (n - 1) / (m - 1) if m > 1 else 0.5 * (start + end) * (n - 1) + 0 * i
        )
    raise UnsupportedGradient(f"coordinate_transformation_mode '{coordinates}' is not in the specification")


def _nearest(x: Matrix, rounding: str) -> npt.NDArray[np.int64]:
    modes = {
        "round_prefer_floor": np.ceil(x - 0.5),
        "round_prefer_ceil": np.floor(x + 0.5),
        "floor": np.floor(x),
        "ceil": np.ceil(x),
    }
    return modes[rounding].astype(np.int64)


def _cubic(t: Matrix, a: float) -> Matrix:
    t = np.abs(t)
    near = (a + 2) * t**3 - (a + 3) * t**2 + 1
    far = a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0.0))


def matrix(
    n: int,
    m: int,
    scale: float,
    *,
    mode: str,
    coordinates: str,
    rounding: str,
    cubic_coeff_a: float,
    exclude_outside: bool,
    antialias: bool,
    extrapolation: bool,
    roi: tuple[float, float],
) -> Matrix:
    """The (m, n) weights of one axis: row i says what output element i is made of."""
    x = _source(np.arange(m, dtype=np.float64), n, m, scale, coordinates, roi)
    result = np.zeros((m, n))
    if mode == "nearest":
        result[np.arange(m), np.clip(_nearest(x, rounding), 0, n - 1)] = 1
    else:
        stretch = min(scale, 1.0) if antialias else 1.0
        reach = math.ceil((2 if mode == "cubic" else 1) / stretch)
        for offset in range(-reach, reach + 1):
            index = np.floor(x).astype(np.int64) + offset
            distance = (x - index) * stretch
            weight = _cubic(distance, cubic_coeff_a) if mode == "cubic" else np.maximum(0, 1 - np.abs(distance))
            if exclude_outside:
                weight = np.where((index >= 0) & (index < n), weight, 0)
            np.add.at(result, (np.arange(m), np.clip(index, 0, n - 1)), weight)
        result /= result.sum(axis=1, keepdims=True)
    if extrapolation:
        result[(x < 0) | (x > n - 1)] = 0
    return result


def resize(
    g: Value,
    y: Value,
    x: Value,
    roi: Value | None = None,
    scales: Value | None = None,
    sizes: Value | None = None,
    *,
    mode: str,
    coordinate_transformation_mode: str = "asymmetric",
    nearest_mode: str = "floor",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    antialias: int = 0,
    axes: Sequence[int] | None = None,
    keep_aspect_ratio_policy: str = "stretch",
    extrapolation_value: float = 0.0,
) -> Value:
    """One product with the transposed matrix for each axis that changes."""
    along = [a % x.rank for a in axes] if axes else list(range(x.rank))
    factors = _factors(x, y, scales, along)
    if mode == "nearest" and _repeats(factors, coordinate_transformation_mode, nearest_mode):
        return _sum_blocks(g, x, {a: round(f) for a, f in factors.items()})
    corners = (
        [float(v) for v in np.asarray(roi.constant).reshape(-1)] if roi is not None and roi.constant is not None else []
    )
    for position, axis in enumerate(along):
        before, after = static(x, [axis]), static(y, [axis])
        same = x.shape[axis] == y.shape[axis] or (axis in factors and factors[axis] == 1)
        if same and coordinate_transformation_mode != "tf_crop_and_resize":
            continue
        if before is None or after is None:
            raise UnsupportedGradient(
                f"axis {axis} of its input has no fixed size. Fix the height and width of the model's input"
            )
        region = (corners[position], corners[position + len(along)]) if corners else (0.0, 1.0)
        weights = matrix(
            before[0], after[0], factors.get(axis, after[0] / before[0]), mode=mode.replace("bilinear", "linear"),
            coordinates=coordinate_transformation_mode, rounding=nearest_mode, cubic_coeff_a=cubic_coeff_a,
            exclude_outside=bool(exclude_outside), antialias=bool(antialias),
            extrapolation=coordinate_transformation_mode == "tf_crop_and_resize", roi=region,
        )  # fmt: skip
        g = _multiply(g, weights, axis)
    return g


def _factors(x: Value, y: Value, scales: Value | None, along: Sequence[int]) -> dict[int, float]:
    """How much each axis grows: as given, or from the sizes."""
    if scales is not None and scales.constant is not None and scales.constant.size:
        return {a: float(s) for a, s in zip(along, np.asarray(scales.constant).reshape(-1), strict=True)}
    pairs = {a: (x.shape[a], y.shape[a]) for a in along}
    return {a: m / n for a, (n, m) in pairs.items() if isinstance(n, int) and isinstance(m, int)}


def _repeats(factors: dict[int, float], coordinates: str, rounding: str) -> bool:
    """Whether a nearest Resize repeats each element a whole number of times."""
    whole = bool(factors) and all(f >= 1 and f == round(f) for f in factors.values())
    floor = coordinates in ("asymmetric",) and rounding == "floor"
    centre = coordinates in ("half_pixel", "pytorch_half_pixel") and rounding.startswith("round_prefer")
    return whole and (floor or centre)


def _sum_blocks(g: Value, x: Value, factors: dict[int, int]) -> Value:
    if x.rank >= 3 and all(f == 1 for a, f in factors.items() if a < 2):
        block = [factors.get(a, 1) for a in range(2, x.rank)]
        return op.AveragePool(g, kernel_shape=block, strides=block) * float(np.prod(block))
    for axis, factor in factors.items():
        size = static(x, [axis])
        if factor > 1:
            if size is None:
                raise UnsupportedGradient(f"axis {axis} of its input has no fixed size. Fix it in the model")
            g = _multiply(g, np.repeat(np.eye(size[0]), factor, axis=0), axis)
    return g


def _multiply(g: Value, weights: Matrix, axis: int) -> Value:
    """`g` times the (m, n) matrix along `axis`, whose length goes from m to n."""
    if axis == g.rank - 1:
        return op.MatMul(g, g.tape.constant(weights, g.dtype))
    if axis == g.rank - 2:
        return op.MatMul(g.tape.constant(weights.T, g.dtype), g)
    order = [a for a in range(g.rank) if a != axis] + [axis]
    moved = op.MatMul(op.Transpose(g, perm=order), g.tape.constant(weights, g.dtype))
    return op.Transpose(moved, perm=[order.index(a) for a in range(g.rank)])


vjp("Resize", resize, STOP, STOP, STOP, since=11)
vjp("Resize", lambda g, y, x, scales, *, mode: resize(g, y, x, None, scales, mode=mode), STOP, until=11)
vjp("Upsample", lambda g, y, x, scales, *, mode: resize(g, y, x, None, scales, mode=mode), STOP)
