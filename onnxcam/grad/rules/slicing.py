"""Joining, cutting and padding: the gradient is cut, joined and padded back."""

from collections.abc import Sequence

import numpy as np
import onnx

from onnxcam.errors import UnsupportedGradient
from onnxcam.grad.registry import STOP, variadic, vjp
from onnxcam.grad.scatter import add_rows, embed, numbers, opset_of, place_rows, span
from onnxcam.grad.shapes import (
    END,
    INT64,
    crop,
    cut,
    interlace,
    ints,
    pad,
    reshape,
    reshape_like,
    scatter,
    sizes,
    slice_,
    static,
    take,
)
from onnxcam.grad.tensor import Value, op


# ----- Concat, Split -----
def concat(g: Value, y: Value, index: int, *xs: Value, axis: int) -> Value:
    """The part of g that this input became."""
    axis = axis if axis >= 0 else axis % y.rank
    before = [static(x, [axis]) for x in xs[:index]]
    dated = opset_of(g) < 10 and static(xs[index], [axis]) is None  # Slice with its bounds as attributes
    if all(b is not None for b in before) and not dated:
        return crop(g, xs[index], [sum(b[0] for b in before if b)], [axis])
    start, length = g.tape.constant([0], INT64), sizes(xs[index], [axis])
    for x in xs[:index]:
        start = op.Add(start, sizes(x, [axis]))
    if dated:
        return op.Gather(g, op.Add(numbers(length), start), axis=axis)
    return slice_(g, start, op.Add(start, length), [axis])


variadic("Concat", concat)


def split(
    g: tuple[Value, ...],
    y: tuple[Value, ...],
    x: Value,
    split: Value | None = None,
    *,
    axis: int,
    num_outputs: int | None = None,
) -> Value:
    """The parts joined again."""
    return op.Concat(*g, axis=axis)


vjp("Split", split, STOP, many=True)


# ----- Slice -----
def slice_rule(
    g: Value, y: Value, x: Value, starts: Value, ends: Value, axes: Value | None = None, steps: Value | None = None
) -> Value:
    """Zeros where the slice took nothing."""
    length = next((n for b in (starts, ends) if isinstance(n := b.shape[0], int)), None)
    along = _integers(axes, None if length is None else list(range(length)))
    strides = _integers(steps, None if length is None else [1] * length)
    if along is None or strides is None:
        return _slice_back_by_number(g, x, starts, ends, axes, steps)
    open_axes = []
    for i, (axis, step) in enumerate(zip([a % x.rank for a in along], strides, strict=True)):
        size = x.shape[axis]
        if not isinstance(size, int) or starts.constant is None or ends.constant is None:
            g = _spread(g, axis, step)
            open_axes.append(i)
            continue
        start, end = ints(starts, "starts")[i], ints(ends, "ends")[i]
        taken = range(size)[slice(start, end if end >= -size - 1 and not (step < 0 and end < -size) else None, step)]
        after = size - taken.start - len(taken)
        g = pad(g, [taken.start], [after], [axis]) if step == 1 else scatter(g, taken, size, axis)
    if not open_axes:
        return g
    picked = [along[i] % x.rank for i in open_axes]
    return embed(g, x, _lowest(g, x, _some(starts, open_axes), picked, [strides[i] for i in open_axes]), picked)


def _integers(operand: Value | None, default: list[int] | None) -> list[int] | None:
    """The integers of an operand, those that stand for it where it is left out, None where they are not known."""
    if operand is None:
        return default
    return None if operand.constant is None else ints(operand, "axes")


def _spread(g: Value, axis: int, step: int) -> Value:
    """The elements of g in their order in the input, with zeros for those that the step passed over."""
    if step < 0:
        g = op.Slice(g, starts=[-1], ends=[-END], axes=[axis], steps=[-1])
    gap = abs(step) - 1
    if not gap:
        return g
    return cut(interlace({0: g}, abs(step), axis), axis, 0, -gap)


def _some(v: Value, positions: list[int]) -> Value:
    return take(v, positions, 0) if v.constant is None else v.tape.constant(v.constant[positions], INT64)


def _lowest(g: Value, x: Value, starts: Value, axes: list[int], steps: list[int]) -> Value:
    """The lowest place that a slice took on each axis, int64 [len(axes)]; starts are clamped to the axis."""
    if starts.constant is not None and not np.any(starts.constant) and min(steps) > 0:
        return starts
    kind = INT64 if opset_of(x) >= 12 else onnx.TensorProto.DOUBLE  # Max of integers is opset 12

    def row(values: Sequence[int]) -> Value:
        return x.tape.constant(values, kind)

    size, begin, count = (op.Cast(v, to=kind) for v in (sizes(x, axes), starts, sizes(g, axes)))
    none = row([0] * len(axes))
    begin = op.Add(begin, op.Mul(op.Cast(op.Less(begin, none), to=kind), size))
    first = op.Min(begin, op.Sub(size, row([int(s < 0) for s in steps])))
    if min(steps) < 0:  # `count` elements down from the first, spread out
        last = op.Sub(op.Add(first, row([1] * len(axes))), count)
        first = op.Add(op.Mul(last, row([int(s < 0) for s in steps])), op.Mul(first, row([int(s > 0) for s in steps])))
    return op.Cast(op.Max(op.Min(first, size), none), to=INT64)


def _slice_back_by_number(
    g: Value, x: Value, starts: Value, ends: Value, axes: Value | None, steps: Value | None
) -> Value:
    """Axes or steps at run time: the slice itself, made of element numbers, tells where each element came from."""
    everything = span(x, range(x.rank))
    operands = [v for v in (starts, ends, axes, steps) if v is not None or steps is not None]
    taken = op.Slice(reshape_like(numbers(everything), x), *operands)
    return reshape_like(place_rows(reshape(g, [-1]), reshape(taken, [-1]), everything, 0), x)


vjp("Slice", slice_rule, STOP, STOP, STOP, STOP)


# ----- Pad -----
def pad_rule(
    g: Value,
    y: Value,
    x: Value,
    pads: Value,
    constant_value: Value | None = None,
    axes: Value | None = None,
    *,
    mode: str,
) -> Value:
    """What lies inside the padding, and for the copying modes what was copied into it."""
    along, amounts = _integers(axes, list(range(x.rank))), _integers(pads, None)
    if mode == "constant":
        return _unpad(g, x, pads, axes, along, amounts)
    if mode not in _FOLDS:
        raise UnsupportedGradient(f"it pads in mode '{mode}', which is not in the specification")
    if along is None:
        everything = span(x, range(x.rank))
        copied = op.Pad(reshape_like(numbers(everything), x), pads, None, axes, mode=mode)
        return reshape_like(add_rows(reshape(g, [-1]), reshape(copied, [-1]), everything, 0), x)
    for i, axis in enumerate(a % x.rank for a in along):
        g = _fold(g, x, axis, mode, _some(pads, [i, i + len(along)]))
    return g


def _unpad(
    g: Value, x: Value, pads: Value, axes: Value | None, along: list[int] | None, amounts: list[int] | None
) -> Value:
    """What was padded is cut, what was cut (by negative amounts) is padded."""
    if along is None or amounts is None:
        return op.Pad(g, op.Neg(pads), *([] if axes is None else [None, axes]))
    begins, ends = amounts[: len(along)], amounts[len(along) :]
    whole = pad(g, [max(0, -b) for b in begins], [max(0, -e) for e in ends], along)
    cut = [i for i in range(len(along)) if begins[i] > 0 or ends[i] > 0]
    if not cut:
        return whole
    first = g.tape.constant([max(0, begins[i]) for i in cut], INT64)
    last = g.tape.constant([-ends[i] if ends[i] > 0 else END for i in cut], INT64)
    return slice_(whole, first, last, [along[i] for i in cut])


def _fold(g: Value, x: Value, axis: int, mode: str, pads: Value) -> Value:
    """One axis, whose places hold copies of others: all copies of an element added up."""
    size = x.shape[axis]
    if pads.constant is None:
        copied = op.Pad(numbers(sizes(x, [axis])), pads, mode=mode)
        return add_rows(g, copied, sizes(x, [axis]), axis)
    begin, end = ints(pads, "pads")
    if not begin and not end:
        return g
    if isinstance(size, int):
        return scatter(g, _copied(size, begin, end, mode), size, axis)
    folded = _FOLDS[mode](g, axis, max(begin, 0), max(end, 0))
    return pad(folded, [max(0, -begin)], [max(0, -end)], [axis])


def _copied(size: int, begin: int, end: int, mode: str) -> list[int]:
    """Which element each place of a padded axis holds."""
    base = np.arange(size)[max(0, -begin) : size - max(0, -end)]
    padded = np.pad(base, (max(0, begin), max(0, end)), mode=mode)  # type: ignore[call-overload]  # the modes are numpy's
    return [int(i) for i in padded]


# An axis of unknown length n, padded by b and e: the part of g over the input, and the margins added to where in the
# input they were copied from, which is told from the axis' own ends. Slices with constant bounds do all of it.
def _inside(g: Value, axis: int, b: int, e: int) -> Value:
    return cut(g, axis, b, -e if e else END)


def _reflected(g: Value, axis: int, b: int, e: int) -> Value:
    """Margins hold x[b], …, x[1] and x[n − 2], …, x[n − 1 − e]."""
    x = _inside(g, axis, b, e)
    if b:
        mirrored = take(g, range(b)[::-1], axis)
        x = op.Concat(cut(x, axis, 0, 1), cut(x, axis, 1, b + 1) + mirrored, cut(x, axis, b + 1), axis=axis)
    if e:
        mirrored = take(cut(g, axis, -e), range(e)[::-1], axis)
        parts = cut(x, axis, 0, -e - 1), cut(x, axis, -e - 1, -1) + mirrored, cut(x, axis, -1)
        x = op.Concat(*parts, axis=axis)
    return x


def _repeated(g: Value, axis: int, b: int, e: int) -> Value:
    """Margins hold x[0] and x[n − 1]."""
    x = _inside(g, axis, b, e)
    if b:
        margin = op.ReduceSum(cut(g, axis, 0, b), axes=[axis], keepdims=1)
        x = op.Concat(cut(x, axis, 0, 1) + margin, cut(x, axis, 1), axis=axis)
    if e:
        margin = op.ReduceSum(cut(g, axis, -e), axes=[axis], keepdims=1)
        x = op.Concat(cut(x, axis, 0, -1), cut(x, axis, -1) + margin, axis=axis)
    return x


def _wrapped(g: Value, axis: int, b: int, e: int) -> Value:
    """Margins hold x[n − b], …, x[n − 1] and x[0], …, x[e − 1]."""
    x = _inside(g, axis, b, e)
    if b:
        x = op.Concat(cut(x, axis, 0, -b), cut(x, axis, -b) + cut(g, axis, 0, b), axis=axis)
    if e:
        x = op.Concat(cut(x, axis, 0, e) + cut(g, axis, -e), cut(x, axis, e), axis=axis)
    return x


_FOLDS = {"reflect": _reflected, "edge": _repeated, "wrap": _wrapped}


def padding_value(
    g: Value, y: Value, x: Value, pads: Value, constant_value: Value, axes: Value | None = None, *, mode: str
) -> Value:
    """Everything that lies outside."""
    inner = pad_rule(g, y, x, pads, None, axes, mode="constant")
    return reshape_like(op.Sub(op.ReduceSum(g, keepdims=0), op.ReduceSum(inner, keepdims=0)), constant_value)


vjp("Pad", pad_rule, STOP, padding_value, STOP)


def center_crop_pad(g: Value, y: Value, x: Value, shape: Value, *, axes: Sequence[int] | None = None) -> Value:
    """Back to the old sizes: the middle that was cropped is padded as the middle that was padded is cropped."""
    return op.CenterCropPad(g, sizes(x, list(axes) if axes else range(x.rank)), axes=axes)


vjp("CenterCropPad", center_crop_pad, STOP)
