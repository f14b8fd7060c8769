"""What is known before run time of integer vectors that a graph computes from shapes.

Exporters write `x.view(x.size(0), 2, -1)` as Shape, Gather, Concat and Reshape. With a symbolic batch none of these
is a constant, but most of their elements are. Each element is followed here as a number or as a symbol.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from onnxcam.grad.infer import Dim, Shape, Type

Vector = tuple[Dim, ...]
Operand = Callable[[int], "Vector | None"]  # what is known of a node's input, by position

_ARITHMETIC: dict[str, tuple[str, Callable[[int, int], int]]] = {
    "Add": ("+", lambda a, b: a + b),
    "Sub": ("-", lambda a, b: a - b),
    "Mul": ("*", lambda a, b: a * b),
    "Div": ("/", lambda a, b: int(a / b) if b else 0),
}
_SAME = frozenset({"Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze"})


def follow(op: str, attributes: Mapping[str, object], x: Type | None, operand: Operand) -> Vector | None:
    """The elements of a node's output, a vector or scalar; None where the operator is none of those that do this."""
    if op == "Shape":
        if x is None or x.shape is None:
            return None
        end = attributes.get("end")
        return x.shape[slice(int(str(attributes.get("start", 0))), None if end is None else int(str(end)))]
    first = operand(0)
    if first is None or x is None or len(x.shape or ()) > 1:
        return None
    if op in _SAME:
        return first
    if op == "Gather":
        return _gather(first, operand(1))
    if op == "Slice":
        return _slice(first, attributes, operand)
    second = operand(1)
    if op in _ARITHMETIC and second is not None:
        return _elementwise(op, first, second)
    if op == "Equal" and second is not None:
        return _equal(first, second)
    if op == "Where" and second is not None and (third := operand(2)) is not None:
        return tuple(b if a else c for a, b, c in zip(*_stretched(first, second, third), strict=True))
    return None


def join(parts: Sequence[Vector | None]) -> Vector | None:
    """Concat of vectors."""
    known = [p for p in parts if p is not None]
    return tuple(d for p in known for d in p) if len(known) == len(parts) else None


def reshaped(x: Shape, target: Vector, name: str, allowzero: bool) -> Shape:
    """The shape that Reshape gives `x`; a dimension that stays open is called after `name`."""
    dims: list[Dim] = [x[i] if d == 0 and not allowzero and i < len(x) else d for i, d in enumerate(target)]
    if -1 not in dims:
        return tuple(dims)
    rest, others = list(x), [d for d in dims if d != -1]
    for d in list(others):
        if isinstance(d, str) and d in rest:
            rest.remove(d)
            others.remove(d)
    open_axis = dims.index(-1)
    whole: list[int] = [d for d in rest if isinstance(d, int)]
    parts: list[int] = [d for d in others if isinstance(d, int)]
    if len(parts) == len(others) and _product(parts) and _product(whole) % _product(parts) == 0:
        factor, symbols = _product(whole) // _product(parts), [d for d in rest if isinstance(d, str)]
        if not symbols:
            dims[open_axis] = factor
            return tuple(dims)
        if len(symbols) == 1 and factor == 1:
            dims[open_axis] = symbols[0]
            return tuple(dims)
    dims[open_axis] = f"{name}:{open_axis}"
    return tuple(dims)


def vector(array: npt.NDArray[np.generic]) -> Vector | None:
    """A constant integer vector or scalar."""
    if array.dtype.kind not in "iu" or array.ndim > 1:
        return None
    return tuple(int(v) for v in array.reshape(-1))


def _gather(values: Vector, indices: Vector | None) -> Vector | None:
    if indices is None or not all(isinstance(i, int) and -len(values) <= i < len(values) for i in indices):
        return None
    return tuple(values[i] for i in indices if isinstance(i, int))


def _slice(values: Vector, attributes: Mapping[str, object], operand: Operand) -> Vector | None:
    names = ("starts", "ends", "axes", "steps")
    start, end, axis, step = (_bound(attributes, operand, name, place) for place, name in enumerate(names, 1))
    if not isinstance(start, int) or not isinstance(end, int) or axis not in (0, None) or step == 0:
        return None
    return values[slice(start, end if -len(values) <= end else None, step)]


def _bound(attributes: Mapping[str, object], operand: Operand, name: str, place: int) -> int | None:
    given = attributes.get(name)
    values = tuple(given) if isinstance(given, (list, tuple)) else operand(place)
    return values[0] if values and len(values) == 1 and isinstance(values[0], int) else None


def _elementwise(op: str, a: Vector, b: Vector) -> Vector:
    sign, compute = _ARITHMETIC[op]
    n = max(len(a), len(b))
    pairs = zip(a * n if len(a) == 1 else a, b * n if len(b) == 1 else b, strict=False)
    return tuple(_combine(op, sign, compute, x, y) for x, y in pairs)


def _equal(a: Vector, b: Vector) -> Vector | None:
    """1 where two vectors agree, 0 where they differ; a size is never negative."""
    found = []
    for x, y in zip(*_stretched(a, b), strict=True):
        negative = any(isinstance(d, int) and d < 0 for d in (x, y))
        if x != y and (isinstance(x, str) or isinstance(y, str)) and not negative:
            return None
        found.append(int(x == y))
    return tuple(found)


def _stretched(*vectors: Vector) -> list[Vector]:
    n = max(map(len, vectors))
    return [v * n if len(v) == 1 else v for v in vectors]


def _combine(op: str, sign: str, compute: Callable[[int, int], int], x: Dim, y: Dim) -> Dim:
    if isinstance(x, int) and isinstance(y, int):
        return compute(x, y)
    if y == (1 if op in ("Mul", "Div") else 0):
        return x
    return f"({x}{sign}{y})"


def _product(values: Sequence[int]) -> int:
    result = 1
    for value in values:
        result *= value
    return result
