"""Gather and its relatives: what was taken is put back where it came from."""

import numpy as np

from onnxcam.grad.registry import STOP, Outputs, elementwise, vjp
from onnxcam.grad.scatter import (
    add_elements,
    add_numbered,
    add_rows,
    as_rows,
    depth_of,
    embed,
    numbers,
    opset_of,
    place_elements,
    place_rows,
    span,
)
from onnxcam.grad.shapes import (
    INT64,
    each_size,
    ints,
    of_rank,
    reshape,
    reshape_like,
    scatter,
    sizes,
    slice_,
    static,
    take,
)
from onnxcam.grad.tensor import Value, op

DENSE = 1 << 20  # the largest constant 0/1 matrix that adds up repeated indices


# ----- Gather -----
def gather(g: Value, y: Value, x: Value, indices: Value, *, axis: int) -> Value:
    """G added up where it was taken from."""
    axis %= x.rank
    rows, taken, size = _one_axis(g, axis, indices.rank), _integers(indices), x.shape[axis]
    if taken is None or (isinstance(size, int) and not _is_handy(taken, size)):
        return add_rows(rows, indices if indices.rank == 1 else reshape(indices, [-1]), sizes(x, [axis]), axis)
    if isinstance(size, int):
        return reshape_like(scatter(rows, [i % size for i in taken], size, axis), x)
    return _from_both_ends(rows, taken, x, axis)


def _integers(indices: Value) -> list[int] | None:
    return None if indices.constant is None else ints(indices, "indices")


def _is_handy(taken: list[int], size: int) -> bool:
    """Whether a constant Gather or a product of reasonable size puts these indices back."""
    return len({i % size for i in taken}) == len(taken) or len(taken) * size <= DENSE


def _one_axis(g: Value, axis: int, rank: int) -> Value:
    """`g` with the `rank` axes that the indices made as one axis."""
    if rank == 0:
        return op.Unsqueeze(g, axes=[axis])
    if rank == 1:
        return g
    return reshape(g, [*each_size(g, range(axis)), -1, *each_size(g, range(axis + rank, g.rank))])


def _from_both_ends(rows: Value, taken: list[int], x: Value, axis: int) -> Value:
    """Constant indices into an axis of unknown length: those from its start and those from its end."""
    size, parts = sizes(x, [axis]), []
    for chosen in ([p for p, i in enumerate(taken) if i >= 0], [p for p, i in enumerate(taken) if i < 0]):
        if not chosen:
            continue
        own = rows if len(chosen) == len(taken) else take(rows, chosen, axis)
        first = min(taken[p] for p in chosen)
        length = max(taken[p] for p in chosen) - first + 1
        block = scatter(own, [taken[p] - first for p in chosen], length, axis)
        begin = x.tape.constant([first], INT64)
        parts.append(embed(block, x, begin if first >= 0 else op.Add(size, begin), [axis]))
    return parts[0] if len(parts) == 1 else parts[0] + parts[1]


vjp("Gather", gather, STOP)


def array_feature_extractor(g: Value, y: Value, x: Value, indices: Value) -> Value:
    """Gather along the last axis; a vector is a matrix of one row."""
    return add_rows(g if x.rank > 1 else reshape(g, [-1]), reshape(indices, [-1]), sizes(x, [-1]), x.rank - 1)


vjp("ArrayFeatureExtractor", array_feature_extractor, STOP, domain="ai.onnx.ml")


# ----- GatherElements, GatherND -----
def gather_elements(g: Value, y: Value, x: Value, indices: Value, *, axis: int) -> Value:
    """G added up element by element."""
    axis %= x.rank
    shape = static(x, range(x.rank))
    if indices.constant is None or shape is None:
        return add_elements(g, indices, x, axis)
    chosen = np.asarray(indices.constant)
    places = [
        chosen % n if a == axis else own for a, (n, own) in enumerate(zip(shape, np.indices(chosen.shape), strict=True))
    ]
    return add_numbered(g, np.asarray(np.ravel_multi_index(tuple(places), shape)), x)


vjp("GatherElements", gather_elements, STOP)


def gather_nd(g: Value, y: Value, x: Value, indices: Value, *, batch_dims: int = 0) -> Value:
    """Index tuples as row numbers: a Gather from the matrix that has a row for each place a tuple can point at."""
    places, rows = as_rows(x, indices, batch_dims)
    taken = op.Flatten(g, axis=g.rank - (x.rank - batch_dims - depth_of(indices)))
    return reshape_like(add_rows(taken, places, sizes(rows, [0]), 0), x)


vjp("GatherND", gather_nd, STOP)


# ----- choices -----
def compress(g: Value, y: Value, x: Value, condition: Value, *, axis: int | None = None) -> Value:
    """Rows back to where the condition holds; without an axis, elements of the flattened input."""
    chosen = op.Squeeze(op.NonZero(condition), axes=[0])
    if axis is not None:
        return place_rows(of_rank(g, x.rank), chosen, sizes(x, [axis]), axis % x.rank)
    return reshape_like(place_rows(of_rank(g, 1), chosen, span(x, range(x.rank)), 0), x)


vjp("Compress", compress, STOP)


def top_k(
    g: tuple[Value, ...],
    y: Outputs,
    x: Value,
    K: Value,
    *,
    axis: int,
    largest: int = 1,
    sorted: int = 1,
) -> Value:
    """The values back to their indices."""
    chosen = y[1] if len(y) > 1 else None
    if chosen is None:
        order = {"largest": largest, "sorted": sorted} if opset_of(x) >= 11 else {}
        k = {"K": K if opset_of(x) >= 10 else ints(K, "k")[0]}
        chosen = x.tape.emit("TopK", [x], {"axis": axis, **order, **k}, 2)[1]
    return place_elements(g[0], chosen, x, axis % x.rank)


vjp("TopK", top_k, STOP, many=True)


def unique(g: Value, y: Value, x: Value, *, axis: int | None = None, sorted: int = 1) -> Value:
    """To the element that is unique; equal ones share it equally."""
    _, _, inverse, counts = x.tape.emit("Unique", [x], {"axis": axis, "sorted": sorted}, 4)
    along = 0 if axis is None else axis % x.rank
    times = reshape(op.Cast(counts, to=g.dtype), [-1] + [1] * (g.rank - along - 1))
    return reshape_like(op.Gather(g / times, inverse, axis=along), x)


vjp("Unique", unique)


def one_hot_values(g: Value, y: Value, indices: Value, depth: Value, values: Value, *, axis: int) -> Value:
    """[off, on]: what lies beside the hits and on them."""
    hits = op.OneHot(indices, depth, g.tape.constant([0, 1], g.dtype), axis=axis)
    on = op.ReduceSum(g * hits, keepdims=0)
    off = op.ReduceSum(g, keepdims=0) - on
    return op.Concat(op.Unsqueeze(off, axes=[0]), op.Unsqueeze(on, axes=[0]), axis=0)


vjp("OneHot", STOP, STOP, one_hot_values)
elementwise("Hardmax", STOP)
elementwise("EyeLike", STOP)


# ----- unpooling -----
_DIGIT = 4096  # float32 counts exactly up to 2²⁴: element numbers travel in two halves


def max_unpool(
    g: Value,
    y: Value,
    x: Value,
    indices: Value,
    output_shape: Value | None = None,
    *,
    kernel_shape: list[int],
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Value:
    """Back from where each element went, which the operator itself tells when it unpools element numbers.

    With an output_shape onnxruntime counts the indices in that shape, the specification in the smaller one.
    """
    window = {"kernel_shape": kernel_shape, "pads": pads, "strides": strides}
    where = [indices] if output_shape is None else [indices, output_shape]
    one, digit = x.tape.constant([1], INT64), x.tape.constant([_DIGIT], INT64)
    total = span(x, range(x.rank))
    number = op.Add(numbers(total), one)  # 0 is where nothing went
    high = op.Div(number, digit)
    went = [
        op.Cast(op.MaxUnpool(reshape_like(op.Cast(n, to=x.dtype), x), *where, **window), to=INT64)
        for n in (high, op.Sub(number, op.Mul(high, digit)))
    ]
    source = reshape(op.Add(op.Mul(went[0], digit), went[1]), [-1])
    back = place_rows(reshape(g, [-1]), source, op.Add(total, one), 0)
    return reshape_like(slice_(back, one, x.tape.constant([2**62], INT64), [0]), x)


vjp("MaxUnpool", max_unpool, STOP, STOP)
