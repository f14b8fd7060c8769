"""Operators that move elements without changing them: the gradient moves back."""

from collections.abc import Sequence

import numpy as np

from onnxcam.errors import UnsupportedGradient
from onnxcam.grad.registry import STOP, variadic, vjp
from onnxcam.grad.shapes import (
    INT64,
    crop,
    ints,
    pad,
    reshape,
    reshape_like,
    scatter,
    sizes,
    slice_,
    static,
    sum_to,
    take,
)
from onnxcam.grad.tensor import Value, op

# ----- shape only -----
vjp("Reshape", lambda g, y, x, shape, *, allowzero=0: reshape_like(g, x), STOP)
vjp("Flatten", lambda g, y, x, *, axis: reshape_like(g, x))
vjp("Squeeze", lambda g, y, x, axes=None: reshape_like(g, x), STOP)
vjp("Unsqueeze", lambda g, y, x, axes: reshape_like(g, x), STOP)


def transpose(g: Value, y: Value, x: Value, *, perm: Sequence[int] | None = None) -> Value:
    """The inverse permutation."""
    order = list(perm) if perm else list(range(x.rank))[::-1]
    return op.Transpose(g, perm=[int(i) for i in np.argsort(order)])


vjp("Transpose", transpose)
vjp("Expand", lambda g, y, x, shape: sum_to(g, y, x), STOP)


def tile(g: Value, y: Value, x: Value, repeats: Value) -> Value:
    """The copies added up: every axis split into (copies, length)."""
    times = ints(repeats, "repeats")
    split = [part for axis, n in enumerate(times) for part in (n, sizes(x, [axis]))]
    copies = list(range(0, 2 * len(times), 2))
    return reshape_like(op.ReduceSum(reshape(g, split), axes=copies, keepdims=0), x)


vjp("Tile", tile, STOP)


# ----- joining and cutting -----
def concat(g: Value, y: Value, index: int, *xs: Value, axis: int) -> Value:
    """The part of g that this input became."""
    axis %= y.rank
    before = [static(x, [axis]) for x in xs[:index]]
    if all(b is not None for b in before):
        return crop(g, xs[index], [sum(b[0] for b in before if b)], [axis])
    start = sizes(xs[0], [axis])
    for x in xs[1:index]:
        start = op.Add(start, sizes(x, [axis]))
    return slice_(g, start, op.Add(start, sizes(xs[index], [axis])), [axis])


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


def slice_rule(
    g: Value, y: Value, x: Value, starts: Value, ends: Value, axes: Value | None = None, steps: Value | None = None
) -> Value:
    """Zeros where the slice took nothing."""
    strides = (
        ints(steps, "steps")
        if steps is not None
        else [1] * len(ints(starts, "starts") if starts.constant is not None else [0] * _length(starts))
    )
    along = [a % x.rank for a in ints(axes, "axes")] if axes is not None else list(range(len(strides)))
    if starts.constant is None or (any(s < 0 for s in ints(starts, "starts")) and static(x, along) is None):
        return _slice_back_at_run_time(g, x, starts, along, strides)
    for axis, start, end, step in zip(along, ints(starts, "starts"), _bounds(ends, len(along)), strides, strict=True):
        size = x.shape[axis]
        if not isinstance(size, int):
            g = _unslice_open(g, x, axis, start, step)
            continue
        if end is None:
            raise UnsupportedGradient(
                f"its ends '{ends.name}' are computed at run time, and the gradient needs constants"
            )
        taken = range(size)[slice(start, end if end >= -size - 1 and not (step < 0 and end < -size) else None, step)]
        g = (
            pad(g, [taken.start], [size - taken.start - len(taken)], [axis])
            if step == 1
            else scatter(g, taken, size, axis)
        )
    return g


def _length(v: Value) -> int:
    n = v.shape[0]
    if not isinstance(n, int):
        raise UnsupportedGradient(f"the number of bounds '{v.name}' is unknown")
    return n


def _bounds(ends: Value, n: int) -> list[int | None]:
    return [None] * n if ends.constant is None else list(ints(ends, "ends"))


def _unslice_open(g: Value, x: Value, axis: int, start: int, step: int) -> Value:
    """Along an axis of unknown length: `start` zeros before, what is left after."""
    if step != 1:
        raise UnsupportedGradient(
            f"it takes every {step}th element of axis {axis}, whose length is unknown. Fix it in the model"
        )
    return _pad_to(
        g,
        x,
        op.Min(x.tape.constant([start], INT64), sizes(x, [axis])) if start > 2**31 else x.tape.constant([start], INT64),
        [axis],
    )


def _slice_back_at_run_time(g: Value, x: Value, starts: Value, axes: list[int], strides: list[int]) -> Value:
    if any(s != 1 for s in strides):
        raise UnsupportedGradient(f"its starts '{starts.name}' are computed at run time with steps other than 1")
    size = sizes(x, axes)
    begin = op.Cast(starts, to=INT64)
    negative = op.Cast(op.Less(begin, x.tape.constant([0], INT64)), to=INT64)
    wrapped = op.Add(begin, op.Mul(negative, size))
    clamped = op.Max(op.Min(wrapped, size), x.tape.constant([0], INT64))
    return _pad_to(g, x, clamped, axes)


def _pad_to(g: Value, x: Value, begin: Value, axes: list[int]) -> Value:
    """`g` with `begin` zeros before and as many after as make it the shape of `x` along `axes`."""
    after = op.Sub(op.Sub(sizes(x, axes), sizes(g, axes)), begin)
    if axes == list(range(x.rank)):
        return op.Pad(g, pads=op.Concat(begin, after, axis=0))
    place = np.zeros((2, x.rank), np.int64)
    order = [axes.index(a) if a in axes else len(axes) for a in range(x.rank)]
    zero = x.tape.constant([0], INT64)
    full = [op.Gather(op.Concat(v, zero, axis=0), x.tape.constant(order, INT64)) for v in (begin, after)]
    return op.Pad(g, pads=op.Concat(*full, axis=0)) if place.size else g


vjp("Slice", slice_rule, STOP, STOP, STOP, STOP)


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
    along = [a % x.rank for a in ints(axes, "axes")] if axes is not None else list(range(x.rank))
    if pads.constant is None:
        if mode != "constant":
            raise UnsupportedGradient(f"its pads '{pads.name}' are computed at run time in mode '{mode}'")
        begin = op.Slice(pads, x.tape.constant([0], INT64), x.tape.constant([len(along)], INT64))
        return slice_(g, begin, op.Add(begin, sizes(x, along)), along)
    amounts = ints(pads, "pads")
    begins, ends = amounts[: len(along)], amounts[len(along) :]
    if mode == "constant":
        negative = [(min(b, 0), min(e, 0)) for b, e in zip(begins, ends, strict=True)]
        inner = (
            g
            if all(b >= 0 for b in begins + ends)
            else pad(g, [-b for b, _ in negative], [-e for _, e in negative], along)
        )
        return crop(inner, x, [max(0, b) for b in begins], along)
    for axis, begin_, end in zip(along, begins, ends, strict=True):
        if begin_ or end:
            size = static(x, [axis])
            if size is None:
                raise UnsupportedGradient(
                    f"it pads axis {axis} of unknown length in mode '{mode}'. Fix the size in the model"
                )
            g = scatter(g, _copied(size[0], begin_, end, mode), size[0], axis)
    return g


def _copied(size: int, begin: int, end: int, mode: str) -> list[int]:
    """Which element each place of a padded axis holds."""
    numpy_mode = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}.get(mode)
    if numpy_mode is None:
        raise UnsupportedGradient(f"it pads in mode '{mode}', which is not in the specification")
    base = np.arange(size)[max(0, -begin) : size - max(0, -end)]
    padded = np.pad(base, (max(0, begin), max(0, end)), mode=numpy_mode)  # type: ignore[call-overload]  # the mode is checked above
    return [int(i) for i in padded]


vjp(
    "Pad", pad_rule, STOP, lambda g, y, x, pads, constant_value, axes=None, *, mode: _outside(g, y, x, pads, axes), STOP
)


def _outside(g: Value, y: Value, x: Value, pads: Value, axes: Value | None) -> Value:
    """The gradient of the padding value: everything that lies outside."""
    inner = pad_rule(g, y, x, pads, None, axes, mode="constant")
    return op.Sub(op.ReduceSum(g, keepdims=0), op.ReduceSum(inner, keepdims=0))


# ----- blocks -----
def depth_to_space(g: Value, y: Value, x: Value, *, blocksize: int, mode: str = "DCR") -> Value:
    """Space to depth; in column-row-depth order the channels are sorted back afterwards."""
    blocks = op.SpaceToDepth(g, blocksize=blocksize)
    if mode == "DCR":
        return blocks
    return take(blocks, _crd_order(x, blocksize), axis=1)


def _crd_order(x: Value, blocksize: int) -> list[int]:
    channels = static(x, [1])
    if channels is None:
        raise UnsupportedGradient("the number of its channels is unknown. Fix it in the model")
    area = blocksize**2
    return [int(i) for i in np.arange(channels[0]).reshape(area, channels[0] // area).T.reshape(-1)]


vjp("DepthToSpace", depth_to_space)
vjp("SpaceToDepth", lambda g, y, x, *, blocksize: op.DepthToSpace(g, blocksize=blocksize))
