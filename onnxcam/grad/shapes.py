"""Shapes, once for all rules: sizes that may be known now or at run time, broadcasting undone, windows cut out.

A rule uses `shape_of`, `sizes` or `crop` and never asks whether a dimension is a number: a constant is written where it
is, a Shape node where it is not.
"""

from collections.abc import Sequence

import numpy as np
import onnx

from onnxcam.errors import UnsupportedGradient
from onnxcam.grad.infer import Type
from onnxcam.grad.tensor import Placed, Value, op

INT64 = onnx.TensorProto.INT64
END = 2**31 - 1  # an end of a slice that means all the rest


def shape_of(x: Value) -> Value:
    """The shape of `x`, int64 [rank]."""
    return x.tape.constant(x.shape, INT64) if x.type.is_static else op.Shape(x)


def sizes(x: Value, axes: Sequence[int]) -> Value:
    """The sizes of some axes of `x`, int64 [len(axes)]."""
    if (dims := static(x, axes)) is not None:
        return x.tape.constant(dims, INT64)
    from_start = [a if a >= 0 else a % x.rank for a in axes]
    return op.Gather(op.Shape(x), x.tape.constant(from_start, INT64))


def static(x: Value, axes: Sequence[int]) -> list[int] | None:
    """The sizes of some axes where all are known, else None."""
    if x.type.shape is None:
        return None
    dims = [x.shape[a] for a in axes]
    known = [d for d in dims if isinstance(d, int)]
    return known if len(known) == len(dims) else None


def count(x: Value, axes: Sequence[int]) -> "Value | float":
    """The number of elements that a reduction over `axes` covers, in the element type of `x`."""
    dims = static(x, axes)
    return float(np.prod(dims)) if dims is not None else op.Cast(op.ReduceProd(sizes(x, axes), keepdims=0), to=x.dtype)


def ints(x: Value, what: str) -> list[int]:
    """The integers of a constant operand. Raises UnsupportedGradient where it is computed at run time."""
    if x.constant is None:
        raise UnsupportedGradient(f"its {what} '{x.name}' is computed at run time, and the gradient needs a constant")
    return [int(v) for v in np.asarray(x.constant).reshape(-1)]


def sum_to(g: Value, y: Value, x: Value) -> Value:
    """Undo broadcasting: sum `g`, shaped like `y`, over the axes that `x` was stretched along."""
    if x.type.shape is None or y.type.shape is None:
        return _sum_at_run_time(g, y, x)
    lead = y.rank - x.rank
    axes = list(range(lead))
    for axis, (wide, own) in enumerate(zip(y.shape[lead:], x.shape, strict=True), start=lead):
        if own == wide or (isinstance(own, int) and own != 1):
            continue
        if own != 1:
            return _sum_at_run_time(g, y, x)
        axes.append(axis)
    if not axes:
        return g
    if len(axes) == lead:
        return op.ReduceSum(g, axes=axes, keepdims=0)
    kept = op.ReduceSum(g, axes=axes, keepdims=1)
    return op.Squeeze(kept, axes=list(range(lead))) if lead else kept


def _sum_at_run_time(g: Value, y: Value, x: Value) -> Value:
    """The same where only a run tells which axes were stretched, or how many there are."""
    if g.tape.graph.opsets[""] < 13:
        return _sum_of_copies(g, y, x)
    one = x.tape.constant([1], INT64)
    lead = op.Sub(op.Shape(op.Shape(y)), op.Shape(op.Shape(x)))
    own = op.Concat(op.Expand(one, lead), op.Shape(x), axis=0)
    axes = op.Reshape(op.NonZero(op.Equal(own, one)), x.tape.constant([-1], INT64))
    return reshape_like(op.ReduceSum(g, axes, keepdims=1, noop_with_empty_axes=1), x)


def _sum_of_copies(g: Value, y: Value, x: Value) -> Value:
    """The same with fixed axes, as it has to be before opset 13: each axis is split into (copies, own length)."""
    if x.type.shape is None or y.type.shape is None:
        raise UnsupportedGradient(
            f"how many axes '{x.name}' has is known at run time only, which needs opset 13. "
            "Export with opset 13 or later, or simplify the model"
        )
    lead = y.rank - x.rank
    apart: list[int | Value] = list(each_size(y, range(lead)))
    for wide, own in zip(each_size(y, range(lead, y.rank)), each_size(x, range(x.rank)), strict=True):
        apart += [op.Div(wide, own), own]
    copies = [*range(lead), *range(lead, len(apart), 2)]
    return reshape_like(op.ReduceSum(reshape(g, apart), axes=copies, keepdims=0), x)


def not_negative(n: Value) -> Value:
    """The larger of integers and 0, which Max does not take before opset 12."""
    return op.Div(op.Add(n, op.Abs(n)), n.tape.constant([2], INT64))


def expand_like(v: Value, x: Value) -> Value:
    """`v` stretched to the shape of `x`, to which it broadcasts."""
    if v.type.shape is not None and v.type.shape == x.type.shape:
        return v
    return op.Expand(v, shape_of(x)) if v.tape.graph.opsets[""] >= 8 else v + x * 0


def zeros_like(x: Value) -> Value:
    """Zeros of the shape and type of `x`."""
    return expand_like(x.tape.constant(0, x.dtype), x)


def reshape_like(v: Value, x: Value) -> Value:
    """The elements of `v` in the shape of `x`."""
    empty = {"allowzero": 1 if v.tape.graph.opsets[""] >= 14 else None}  # else a 0 among the sizes is not one
    if x.type.shape is None:
        return op.Reshape(v, op.Shape(x), **empty)
    if v.type.shape == x.shape:
        return v
    if 0 in x.shape:
        return expand_like(v.tape.constant(0, v.dtype), x)
    open_axes = [i for i, d in enumerate(x.shape) if not isinstance(d, int)]
    if len(open_axes) == 1:
        shape = x.tape.constant([-1 if i in open_axes else d for i, d in enumerate(x.shape)], INT64)
        return x.tape.retype(op.Reshape(v, shape), Type(v.dtype, x.shape))
    return x.tape.retype(op.Reshape(v, shape_of(x), **empty), Type(v.dtype, x.shape))


def reshape(v: Value, dims: "Sequence[int | Value]") -> Value:
    """`v` in another shape; a dimension is a number, −1 for what is left, or an int64 [1] Value.

    Among numbers alone 0 keeps the size of that axis.
    """
    parts = [d if isinstance(d, Value) else v.tape.constant([d], INT64) for d in dims]
    known = [None if p.constant is None else int(p.constant[0]) for p in parts]
    if None not in known:
        return op.Reshape(v, v.tape.constant(np.array(known), INT64))
    exact = -1 not in known and v.tape.graph.opsets[""] >= 14
    result = op.Reshape(v, op.Concat(*parts, axis=0), allowzero=1 if exact else None)
    shape = tuple(k if k is not None and k >= 0 else f"{result.name}:{i}" for i, k in enumerate(known))
    return v.tape.retype(result, Type(v.dtype, shape))


def as_type(v: Value, dtype: int) -> Value:
    """`v` as elements of another type, an `onnx.TensorProto.DataType`."""
    return v if v.dtype == dtype else op.Cast(v, to=dtype)


def of_rank(v: Value, rank: int) -> Value:
    """`v` known to have `rank` axes, where inference could not tell."""
    return (
        v if v.type.shape is not None else v.tape.retype(v, Type(v.dtype, tuple(f"{v.name}:{i}" for i in range(rank))))
    )


def each_size(x: Value, axes: Sequence[int]) -> list[Value]:
    """The size of each axis as an int64 [1] Value."""
    return [sizes(x, [a]) for a in axes]


def crop(v: Value, like: Value, begin: Sequence[int], axes: Sequence[int]) -> Value:
    """Cut `v` along `axes` to the sizes of `like`, starting at `begin` on each."""
    whole, kept = static(v, axes), static(like, axes)
    if whole is not None and whole == kept and not any(begin):
        return v
    if kept is not None:
        ends = v.tape.constant([b + s for b, s in zip(begin, kept, strict=True)], INT64)
    else:
        ends = sizes(like, axes)
        if any(begin):
            ends = op.Add(ends, v.tape.constant(begin, INT64))
    return slice_(v, v.tape.constant(list(begin), INT64), ends, axes)


def slice_(v: Value, starts: Value, ends: Value, axes: Sequence[int], steps: Value | None = None) -> Value:
    """`v[starts:ends:steps]` along `axes`; before opset 10 the bounds have to be constants, and there are no steps."""
    if v.tape.graph.opsets[""] < 10:
        return op.Slice(v, starts=ints(starts, "bounds"), ends=ints(ends, "bounds"), axes=list(axes))
    return op.Slice(v, starts, ends, v.tape.constant(list(axes), INT64), *([] if steps is None else [steps]))


def cut(v: Value, axis: int, start: int, end: int = END, step: int = 1) -> Value:
    """`v[start:end:step]` along an axis, of constants; a step above 1 needs opset 10 or a fixed size."""
    opset, known = v.tape.graph.opsets[""], static(v, [axis])
    if step > 1 and opset < 10:
        if known is None:
            raise UnsupportedGradient(
                f"'{v.name}' has no fixed size on axis {axis}, which needs opset 10. Export with opset 10 or later"
            )
        return take(v, range(known[0])[start:end:step], axis)
    bounds = [v.tape.constant([b], INT64) for b in (start, end)]
    if (
        opset == 10 and known is None
    ):  # its shape inference takes a slice with constant bounds to be as long as the axis
        none = op.Sub(sizes(v, [axis]), sizes(v, [axis]))
        bounds = [op.Add(b, none) for b in bounds]
    return slice_(v, bounds[0], bounds[1], [axis], None if step == 1 else v.tape.constant([step], INT64))


def move(v: Value, begin: int, end: int, axis: int) -> Value:
    """`v` with zeros around it along an axis, where `begin` and `end` are positive, and cut where they are negative."""
    if begin < 0 or end < 0:
        v = cut(v, axis, max(0, -begin), min(0, end) or END)
    return pad(v, [max(0, begin)], [max(0, end)], [axis])


def pad(v: Value, begin: Sequence[int], end: Sequence[int], axes: Sequence[int], value: float = 0.0) -> Value:
    """`v` with `value` around it along `axes`; negative amounts cut."""
    if not any(begin) and not any(end):
        return v
    pads = [0] * 2 * v.rank
    for axis, b, e in zip(axes, begin, end, strict=True):
        pads[axis], pads[v.rank + axis] = b, e
    padded = op.Pad(v, pads=pads, constant_value=value or None)
    if len(axes) == 1 and min(pads) >= 0 and not value:
        padded.tape.placed[padded.name] = Placed(v, axes[0] % v.rank, begin[0])
    return padded


def interlace(phases: dict[int, Value], stride: int, axis: int) -> Value:
    """Elements of the phases in turn along an axis; zeros where there is no phase."""
    if stride == 1:
        return phases[0]
    order = sorted(phases)
    gaps = [after - phase - 1 for phase, after in zip(order, [*order[1:], stride], strict=True)]
    begins = [order[0], *[0] * (len(order) - 1)]
    some = [
        pad(op.Unsqueeze(phases[phase], axes=[axis + 1]), [begin], [gap], [axis + 1])
        for phase, begin, gap in zip(order, begins, gaps, strict=True)
    ]
    joined = op.Concat(*some, axis=axis + 1)
    length = sizes(phases[order[0]], [axis])
    whole = length.tape.constant(length.constant * stride, INT64) if length.constant is not None else length * stride
    rest = each_size(joined, range(axis + 2, joined.rank))
    known = all(d.constant is not None for d in (whole, *rest))
    return reshape(joined, [*([0] * axis if known else each_size(joined, range(axis))), whole, *rest])


def told_apart(g: Value, w: Value, group: int = 1) -> tuple[Value, Value]:
    """Two factors, both negated where `w` is square: it is about to be read transposed.

    OpenVINO's CPU takes a weight and its transpose, of one size, for the same. Seen in 2026.4: of two products, with W
    and with its transpose, or of a Conv and a ConvTranspose with the same W, the second is wrong.
    """
    return (-g, -w) if is_square(w, group) else (g, w)


def is_square(w: Value, group: int = 1) -> bool:
    """Whether a weight has as many inputs as outputs; in groups whether each has, and more than one."""
    known = static(w, [0, 1])
    if group == 1 or known is None:
        return w.type.shape is not None and w.shape[0] == w.shape[1]
    return known[1] > 1 and known[0] == group * known[1]


def take(v: Value, indices: Sequence[int], axis: int) -> Value:
    """The elements of `v` at constant `indices` along `axis`."""
    return op.Gather(v, v.tape.constant(list(indices), INT64), axis=axis)


def repeat(v: Value, times: Sequence[int]) -> Value:
    """Each element of `v` (N, C, H, W) over a tile of its own: ORT's Resize does it in blocks of channels."""
    scales = v.tape.constant([1, 1, *times], onnx.TensorProto.FLOAT)
    modes = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
    dims = [d * t if isinstance(d, int) else f"({d}*{t})" for d, t in zip(v.shape[2:], times, strict=True)]
    return v.tape.retype(op.Resize(v, None, scales, **modes), Type(v.dtype, (*v.shape[:2], *dims)))


def scatter(g: Value, indices: Sequence[int], size: int, axis: int) -> Value:
    """The transpose of `take`: `g` added up at `indices` along an axis of length `size`, zero elsewhere.

    Neighbouring indices become a Pad, distinct ones a Gather from `g` with a zero appended, repeated ones a product
    with a 0/1 matrix.
    """
    axis %= g.rank
    low, high = min(indices, default=0), max(indices, default=size - 1)
    if list(indices) == list(range(low, high + 1)):
        return pad(g, [low], [size - 1 - high], [axis])
    if high + 1 - low < size:
        inner = scatter(g, [i - low for i in indices], high + 1 - low, axis)
        return pad(inner, [low], [size - 1 - high], [axis])
    if len(set(indices)) == len(indices):
        inverse = [len(indices)] * size
        for position, index in enumerate(indices):
            inverse[index] = position
        padded = pad(g, [0], [1], [axis]) if len(indices) < size else g
        return take(padded, inverse, axis)
    matrix = np.zeros((len(indices), size))
    np.add.at(matrix, (np.arange(len(indices)), np.array(indices)), 1)
    order = [a for a in range(g.rank) if a != axis] + [axis]
    moved = op.MatMul(op.Transpose(g, perm=order), g.tape.constant(matrix, g.dtype))
    return op.Transpose(moved, perm=[order.index(a) for a in range(g.rank)])
