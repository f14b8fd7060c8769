"""Operators that keep rows apart: a gradient that is zero outside some rows is computed on those (grad/rows.py)."""

from collections.abc import Mapping
from math import prod

from onnxcam.grad.infer import Shape
from onnxcam.grad.rows import Axes, Values, keeps_apart
from onnxcam.grad.tensor import Value

Attributes = Mapping[str, object]


def _matmul(axis: int, y: Value, inputs: Values, attributes: Attributes) -> Axes | None:
    a, b = inputs
    if a is None or b is None or a.rank < 2 or b.rank < 2:
        return None
    if axis == y.rank - 2:
        return [a.rank - 2, None]
    return [None, b.rank - 1] if axis == y.rank - 1 else None


def _gemm(axis: int, y: Value, inputs: Values, attributes: Attributes) -> Axes | None:
    if axis != 0 or attributes.get("transA", 0):
        return None
    c = inputs[2] if len(inputs) > 2 else None
    whole = c is None or c.rank < 2 or c.shape[0] == 1
    if not whole and c is not None and c.shape[0] != y.shape[0]:
        return None
    return [0, None, None if whole else 0][: len(inputs)]


def _layer_norm(axis: int, y: Value, inputs: Values, attributes: Attributes) -> Axes | None:
    first = _number(attributes, "axis", -1) % y.rank
    own = all(x is None or x.rank <= y.rank - first for x in inputs[1:])
    return [axis, *[None] * (len(inputs) - 1)] if axis < first and own else None


def _softmax(axis: int, y: Value, inputs: Values, attributes: Attributes) -> Axes | None:
    if y.tape.graph.opsets[""] < 13:  # over all that follows its axis
        return [axis] if axis < _number(attributes, "axis", 1) % y.rank else None
    return [axis] if axis != _number(attributes, "axis", -1) % y.rank else None


def _number(attributes: Attributes, name: str, default: int) -> int:
    value = attributes.get(name, default)
    return value if isinstance(value, int) else default


def _reduced(axis: int, y: Value, inputs: Values, attributes: Attributes) -> Axes | None:
    """Sums and means along other axes."""
    x, given = inputs[0], attributes.get("axes")
    if len(inputs) > 1 and inputs[1] is not None:
        given = None if inputs[1].constant is None else [int(a) for a in inputs[1].constant.reshape(-1)]
    if x is None or not isinstance(given, list) or not given:
        return None
    reduced = {a % x.rank for a in given}
    kept = list(range(x.rank)) if attributes.get("keepdims", 1) else [a for a in range(x.rank) if a not in reduced]
    return None if kept[axis] in reduced else [kept[axis], *[None] * (len(inputs) - 1)]


def _transpose(axis: int, y: Value, inputs: Values, attributes: Attributes) -> Axes | None:
    order = attributes.get("perm") or list(range(y.rank))[::-1]
    return [int(order[axis])] if isinstance(order, list) else None


def _reshape(axis: int, y: Value, inputs: Values, attributes: Attributes) -> Axes | None:
    """An axis that keeps its length, with as many elements before it as ever."""
    x = inputs[0]
    found = [a for a in range(x.rank) if _same(x.shape, a, y.shape, axis)] if x is not None else []
    return [found[0], *[None] * (len(inputs) - 1)] if found else None


def _same(own: Shape, a: int, other: Shape, b: int) -> bool:
    return own[a] == other[b] and _count(own[:a]) == _count(other[:b]) and _count(own[a:]) == _count(other[b:])


def _count(dims: Shape) -> tuple[int, list[str]]:
    """A number of elements: a factor and symbols."""
    return prod(d for d in dims if isinstance(d, int)), sorted(d for d in dims if isinstance(d, str))


keeps_apart(_matmul, "MatMul")
keeps_apart(_gemm, "Gemm")
keeps_apart(_layer_norm, "LayerNormalization")
keeps_apart(_softmax, "Softmax", "LogSoftmax")
keeps_apart(_reduced, "ReduceMean", "ReduceSum")
keeps_apart(_transpose, "Transpose")
keeps_apart(_reshape, "Reshape", "Flatten", "Squeeze", "Unsqueeze")
