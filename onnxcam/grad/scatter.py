"""Putting back what was taken at places that are known at run time only.

Where a place may be taken twice the gradients are added up: by a product with a 0/1 matrix where the axis is short or
the opset has no reductions (below 16), else by ScatterElements. ScatterND would be shorter, but ORT's CPU kernel adds
from several threads without a lock: 200 000 rows added to 3 come out wrong on two cores.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx

from onnxcam.errors import UnsupportedGradient
from onnxcam.grad.shapes import (
    INT64,
    crop,
    each_size,
    of_rank,
    pad,
    reshape,
    reshape_like,
    shape_of,
    sizes,
    static,
    zeros_like,
)
from onnxcam.grad.tensor import Value, op

SHORT = 128  # up to this length of the axis a product is the faster one too (CPU)
_SERIAL = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE})  # what ORT's CPU kernel can add


def opset_of(v: Value) -> int:
    """The opset of the graph that `v` is in."""
    return v.tape.graph.opsets[""]


def numbers(n: Value) -> Value:
    """0, 1, …, n − 1 as int64 [n], for an int64 [1] `n`."""
    if n.constant is not None:
        return n.tape.constant(np.arange(int(np.asarray(n.constant).reshape(-1)[0])), INT64)
    if opset_of(n) >= 11:
        return op.Range(n.tape.constant(0, INT64), op.Squeeze(n, axes=[0]), n.tape.constant(1, INT64))
    if opset_of(n) < 9:
        raise UnsupportedGradient("an axis has no fixed length, which needs opset 9. Export with opset 11 or later")
    return op.Squeeze(op.NonZero(op.Expand(n.tape.constant([1], INT64), n)), axes=[0])


def span(x: Value, axes: Sequence[int]) -> Value:
    """The number of elements that some axes span, int64 [1]."""
    dims = static(x, axes)
    if dims is not None:
        return x.tape.constant([int(np.prod(dims))], INT64)
    return op.ReduceProd(sizes(x, axes), keepdims=1) if len(axes) > 1 else sizes(x, axes)


def wrapped(indices: Value, n: Value) -> Value:
    """Indices as int64, negative ones (legal from opset 11 on) counted from the end of an axis of length `n`."""
    indices = indices if indices.dtype == INT64 else op.Cast(indices, to=INT64)
    return op.Mod(indices, n) if opset_of(n) >= 11 else indices


def one_hot(indices: Value, n: Value, dtype: int, axis: int = -1) -> Value:
    """1 where an index is, 0 elsewhere, along a new axis of length `n`: the last, or the first with axis=0."""
    places = numbers(n)
    if axis == 0 and indices.rank:
        places = op.Unsqueeze(places, axes=list(range(1, indices.rank + 1)))
    else:
        indices = op.Unsqueeze(indices, axes=[indices.rank])
    return op.Cast(op.Equal(places, indices), to=dtype)


# ----- places that may repeat -----
def add_rows(g: Value, indices: Value, size: Value, axis: int) -> Value:
    """The transpose of Gather at `indices`, int [n], from an axis of `size`, int64 [1]: `g` added up in zeros."""
    places = wrapped(indices, size)
    if not _suits_product(size):
        along = [-1 if a == axis else 1 for a in range(g.rank)]
        return _add(_zeros(g, axis, size), op.Expand(reshape(places, along), shape_of(g)), g, axis)
    if axis == g.rank - 1:
        return op.MatMul(g, one_hot(places, size, g.dtype))
    before, after = range(axis), range(axis + 1, g.rank)
    rows = reshape(g, [span(g, before), *each_size(g, [axis]), span(g, after)])
    added = op.MatMul(one_hot(places, size, g.dtype, axis=0), rows)
    return reshape(added, [*each_size(g, before), size, *each_size(g, after)])


def add_elements(g: Value, indices: Value, x: Value, axis: int) -> Value:
    """The transpose of GatherElements at `indices`, shaped like `g`: `g` added up along `axis` of zeros like `x`."""
    if opset_of(x) >= 16:
        return _add(zeros_like(x), indices, g, axis)
    size = sizes(x, [axis])
    hits = one_hot(wrapped(indices, size), size, g.dtype)
    rows = op.ReduceSum(op.Unsqueeze(g, axes=[g.rank]) * hits, axes=[axis], keepdims=0)
    whole = op.Transpose(rows, perm=_inserted(axis, x.rank))
    others = [a for a in range(x.rank) if a != axis and g.shape[a] != x.shape[a]]
    return embed(whole, x, x.tape.constant([0] * len(others), INT64), others) if others else whole


def add_numbered(g: Value, places: npt.NDArray[np.integer], x: Value) -> Value:
    """`g` added up in a static `x`, whose elements `places`, shaped like `g`, counts: a Gather by the inverse."""
    flat, size = places.reshape(-1), int(np.prod(static(x, range(x.rank)) or [1]))
    order = np.argsort(flat, kind="stable")
    ranked = flat[order]
    turn = np.arange(flat.size) - np.searchsorted(ranked, ranked)  # how often the same place came before
    inverse = np.full((size, int(turn.max(initial=0)) + 1), flat.size)
    inverse[ranked, turn] = order
    spare = pad(op.Reshape(g, x.tape.constant([-1], INT64)), [0], [1], [0])
    taken = op.Gather(spare, x.tape.constant(inverse, INT64), axis=0)
    return reshape_like(op.ReduceSum(taken, axes=[1], keepdims=0), x)


def _add(zeros: Value, indices: Value, g: Value, axis: int) -> Value:
    if g.dtype in _SERIAL:
        return op.ScatterElements(zeros, indices, g, axis=axis, reduction="add")
    wide = [op.Cast(v, to=onnx.TensorProto.FLOAT) for v in (zeros, g)]
    return op.Cast(op.ScatterElements(wide[0], indices, wide[1], axis=axis, reduction="add"), to=g.dtype)


def _suits_product(size: Value) -> bool:
    return opset_of(size) < 16 or (size.constant is not None and int(size.constant[0]) <= SHORT)


# ----- index tuples -----
def as_rows(x: Value, indices: Value, batch_dims: int = 0) -> tuple[Value, Value]:
    """The numbers of the rows that index tuples point at, int64 [n], and `x` as the matrix of these rows."""
    indexed = range(batch_dims, batch_dims + depth_of(indices))
    size = sizes(x, indexed)
    places = op.ReduceSum(op.Mul(wrapped(indices, size), _strides(x, indexed)), axes=[indices.rank - 1], keepdims=0)
    if batch_dims:
        batches = span(x, range(batch_dims))
        first = op.Mul(numbers(batches), span(x, indexed))
        places = op.Add(reshape(places, [batches, -1]), op.Unsqueeze(first, axes=[1]))
    return reshape(places, [-1]), op.Flatten(x, axis=batch_dims + depth_of(indices))


def depth_of(indices: Value) -> int:
    """How many axes an index tuple goes through."""
    depth = indices.shape[-1]
    if not isinstance(depth, int):
        raise UnsupportedGradient(f"the length of the index tuples in '{indices.name}' is unknown. Fix it in the model")
    return depth


def _strides(x: Value, axes: range) -> Value:
    """How many places one step along each axis is, int64 [len(axes)]."""
    steps = [span(x, axes[i + 1 :]) for i in range(len(axes))]
    known = [int(s.constant[0]) for s in steps if s.constant is not None]
    return x.tape.constant(known, INT64) if len(known) == len(steps) else op.Concat(*steps, axis=0)


# ----- places that are distinct -----
def place_rows(g: Value, indices: Value, size: Value, axis: int) -> Value:
    """`add_rows` for distinct indices that are not negative: a Gather by their inverse."""
    count = sizes(g, [axis])
    inverse = put(op.Expand(count, size), indices, numbers(count), 0)
    return op.Gather(pad(g, [0], [1], [axis]), inverse, axis=axis)


def place_elements(g: Value, indices: Value, x: Value, axis: int) -> Value:
    """`add_elements` for indices that are distinct along `axis`: without a reduction, which few providers have."""
    return put(zeros_like(x), indices, g, axis) if opset_of(x) >= 9 else add_elements(g, indices, x, axis)


def put(v: Value, indices: Value, updates: Value, axis: int) -> Value:
    """`v` with `updates` at `indices` along `axis`, from opset 9 on."""
    if opset_of(v) < 11:
        return op.Scatter(v, indices, updates, axis=axis)
    return op.ScatterElements(v, indices, updates, axis=axis)


def get(v: Value, indices: Value, axis: int) -> Value:
    """The elements of `v` at `indices` along `axis`; a product before opset 11, which has GatherElements."""
    if opset_of(v) >= 11:
        return op.GatherElements(v, indices, axis=axis)
    others = [a for a in range(v.rank) if a != axis]
    inside = crop(v, indices, [0] * len(others), others)
    hits = one_hot(indices, sizes(v, [axis]), v.dtype)
    rows = op.Unsqueeze(op.Transpose(inside, perm=[*others, axis]), axes=[axis])
    return op.ReduceSum(hits * rows, axes=[v.rank], keepdims=0)


def embed(g: Value, x: Value, begin: Value, axes: Sequence[int]) -> Value:
    """`g` with `begin` zeros before it along `axes`, and as many after it as make it as long as `x`."""
    long, short = static(x, axes), static(g, axes)
    if long is not None and short is not None and begin.constant is not None:
        start = [int(b) for b in begin.constant]
        return pad(g, start, [n - m - b for n, m, b in zip(long, short, start, strict=True)], axes)
    after = op.Sub(op.Sub(sizes(x, axes), sizes(g, axes)), begin)
    if opset_of(x) < 11:  # Pad has its amounts as attributes
        for i, axis in enumerate(axes):
            at = x.tape.constant([i], INT64)
            g = op.Concat(_zeros(g, axis, op.Gather(begin, at)), g, _zeros(g, axis, op.Gather(after, at)), axis=axis)
        return g
    if list(axes) == list(range(x.rank)):
        return op.Pad(g, pads=op.Concat(begin, after, axis=0))
    order = [list(axes).index(a) if a in axes else len(axes) for a in range(x.rank)]
    zero = x.tape.constant([0], INT64)
    full = [op.Gather(op.Concat(v, zero, axis=0), x.tape.constant(order, INT64)) for v in (begin, after)]
    return op.Pad(g, pads=op.Concat(*full, axis=0))


def _zeros(g: Value, axis: int, length: Value) -> Value:
    if opset_of(g) < 8:
        raise UnsupportedGradient("an axis has no fixed length, which needs opset 8. Export with opset 11 or later")
    parts = [length if a == axis else sizes(g, [a]) for a in range(g.rank)]
    zeros = op.Expand(g.tape.constant(0, g.dtype), op.Concat(*parts, axis=0))
    return of_rank(zeros, g.rank)


def _inserted(axis: int, rank: int) -> list[int]:
    """The permutation that moves the last axis to `axis`."""
    return [*range(axis), rank - 1, *range(axis, rank - 1)]
