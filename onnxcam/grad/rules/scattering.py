"""Scatter and its relatives: updates written into data, or reduced with it.

With the plain form data keeps its gradient where nothing was written, and an update has the gradient of the place it
was written to. With a reduction every place is the result of its own datum and of the updates that point at it: a sum
gives all of them g, a product gives each g times the others, an extremum gives g to those that equal the result.
"""

from onnxcam.grad.mask import step
from onnxcam.grad.registry import STOP, Rule, vjp
from onnxcam.grad.scatter import as_rows, depth_of, get, numbers, put
from onnxcam.grad.shapes import expand_like, reshape, reshape_like, shape_of, sizes, zeros_like
from onnxcam.grad.tensor import Value, op


# ----- elements along an axis -----
def _to_data(g: Value, y: Value, data: Value, indices: Value, updates: Value, axis: int, reduction: str) -> Value:
    if reduction == "add":
        return g
    if reduction == "mul":
        return op.ScatterElements(g, indices, updates, axis=axis, reduction="mul")
    if reduction in ("max", "min"):
        return _share(g, y, data, indices, updates, axis) * _same(data, y)
    return put(g, indices, zeros_like(updates), axis)


def _to_updates(g: Value, y: Value, data: Value, indices: Value, updates: Value, axis: int, reduction: str) -> Value:
    if reduction == "mul":
        return get(g * data, indices, axis) * _others(data, indices, updates, axis)
    if reduction in ("max", "min"):
        share = get(_share(g, y, data, indices, updates, axis), indices, axis)
        return share * _same(updates, get(y, indices, axis))
    return get(g, indices, axis)


def _same(a: Value, b: Value) -> Value:
    return 1 - step(op.Abs(a - b))


def _share(g: Value, y: Value, data: Value, indices: Value, updates: Value, axis: int) -> Value:
    """G divided by how many of a datum and its updates equal the extremum."""
    winners = _same(updates, get(y, indices, axis))
    return g / op.ScatterElements(_same(data, y), indices, winners, axis=axis, reduction="add")


def _others(data: Value, indices: Value, updates: Value, axis: int) -> Value:
    """The product of the other updates of the same place, which division cannot give where an update is 0."""
    zero = 1 - step(op.Abs(updates))
    filled = updates + zero
    ones = expand_like(data.tape.constant(1, data.dtype), data)
    product = get(op.ScatterElements(ones, indices, filled, axis=axis, reduction="mul"), indices, axis)
    zeros = get(op.ScatterElements(zeros_like(data), indices, zero, axis=axis, reduction="add"), indices, axis)
    return product / filled * (1 - step(zeros - zero))


def scatter_data(
    g: Value, y: Value, data: Value, indices: Value, updates: Value, *, axis: int, reduction: str = "none"
) -> Value:
    """The gradient of what is written into."""
    return _to_data(g, y, data, indices, updates, axis % data.rank, reduction)


def scatter_updates(
    g: Value, y: Value, data: Value, indices: Value, updates: Value, *, axis: int, reduction: str = "none"
) -> Value:
    """The gradient of what is written."""
    return _to_updates(g, y, data, indices, updates, axis % data.rank, reduction)


vjp("ScatterElements", scatter_data, STOP, scatter_updates)
vjp("Scatter", scatter_data, STOP, scatter_updates)


# ----- rows that index tuples point at -----
def _by_rows(rule: Rule, g: Value, y: Value, data: Value, indices: Value, updates: Value, reduction: str) -> Value:
    """ScatterND as ScatterElements: index tuples as row numbers, the data as a matrix of rows."""
    depth = depth_of(indices)
    places, rows = as_rows(data, indices)
    new = op.Flatten(updates, axis=indices.rank - 1)
    wide = op.Expand(op.Unsqueeze(places, axes=[1]), shape_of(new))
    return rule(op.Flatten(g, axis=depth), op.Flatten(y, axis=depth), rows, wide, new, 0, reduction)


def scatter_nd_data(
    g: Value, y: Value, data: Value, indices: Value, updates: Value, *, reduction: str = "none"
) -> Value:
    """The gradient of what is written into."""
    if reduction == "none":
        return op.ScatterND(g, indices, zeros_like(updates))
    return g if reduction == "add" else reshape_like(_by_rows(_to_data, g, y, data, indices, updates, reduction), data)


def scatter_nd_updates(
    g: Value, y: Value, data: Value, indices: Value, updates: Value, *, reduction: str = "none"
) -> Value:
    """The gradient of what is written."""
    if reduction in ("none", "add"):
        return op.GatherND(g, indices)
    return reshape_like(_by_rows(_to_updates, g, y, data, indices, updates, reduction), updates)


vjp("ScatterND", scatter_nd_data, STOP, scatter_nd_updates)


# ----- a cache -----
def _positions(update: Value, cache: Value, write_indices: Value | None, axis: int, mode: str) -> Value:
    """Where along `axis` each element of `update` was written."""
    at = reshape(numbers(sizes(update, [axis])), [-1 if a == axis else 1 for a in range(update.rank)])
    if write_indices is not None:
        at = op.Add(at, reshape(write_indices, [-1] + [1] * (update.rank - 1)))
    if mode == "circular":
        at = op.Mod(at, sizes(cache, [axis]))
    return op.Expand(at, shape_of(update))


def cache_past(
    g: Value, y: Value, past: Value, update: Value, write_indices: Value | None = None, *, axis: int, mode: str
) -> Value:
    """What was not overwritten."""
    axis %= past.rank
    return put(g, _positions(update, past, write_indices, axis, mode), zeros_like(update), axis)


def cache_update(
    g: Value, y: Value, past: Value, update: Value, write_indices: Value | None = None, *, axis: int, mode: str
) -> Value:
    """What was written."""
    axis %= past.rank
    return get(g, _positions(update, past, write_indices, axis, mode), axis)


vjp("TensorScatter", cache_past, cache_update, STOP)
