"""Gradients that are zero outside some rows: computed on those rows only.

A transformer's head reads one token of many. What is behind it treats every token by itself up to the attention, and
all of that need not be computed for the zeros of the other tokens. Where a gradient is a padded one and the operator
keeps rows apart, its rule is given the rows of the gradient and of what it reads, and its result is padded again.
What is whole is written too, and dropped in the end where nothing reads it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from onnxcam.grad.shapes import INT64, pad, slice_
from onnxcam.grad.tensor import Value

Axes = list[int | None]  # the axis of each input along which its rows are those of the output; None: all of it is read
Values = Sequence[Value | None]
Apart = Callable[[int, Value, Values, Mapping[str, object]], Axes | None]  # (axis, y, inputs, attributes)

_APART: dict[str, Apart] = {}


def keeps_apart(function: Apart, *operators: str) -> None:
    """Register what tells, of an axis of an operator's output, which axes of the inputs have the same rows.

    None: the operator mixes the rows along that axis. Elementwise operators need no entry.
    """
    _APART.update(dict.fromkeys(operators, function))


@dataclass(frozen=True)
class Rows:
    """The rows of an operator: its gradient, outputs and inputs along them, and how many are before and behind."""

    g: Value
    outputs: list[Value | None]
    inputs: list[Value | None]
    axes: Axes
    begin: int
    end: int

    def whole(self, result: Value, index: int) -> Value:
        """The gradient of the input at `index` from that of its rows."""
        axis = self.axes[index]
        return result if axis is None else pad(result, [self.begin], [self.end], [axis])


def rows_of(
    operator: str, attributes: Mapping[str, object], elementwise: bool, g: Values, outputs: Values, inputs: Values
) -> Rows | None:
    """The rows outside of which `g` is zero; None where it is not, or where the operator mixes them."""
    whole, y = g[0], outputs[0]
    placed = whole.tape.placed.get(whole.name) if whole is not None else None
    if placed is None or y is None or len(outputs) > 1:
        return None
    length, size = placed.value.shape[placed.axis], y.shape[placed.axis]
    if not isinstance(length, int) or not isinstance(size, int) or 2 * length > size:
        return None
    apart = _aligned if elementwise else _APART.get(operator)
    if apart is None or any(x is not None and x.type.shape is None for x in inputs):
        return None
    axes = apart(placed.axis, y, inputs, attributes)
    if axes is None:
        return None

    def part(x: Value | None, axis: int | None) -> Value | None:
        if x is None or axis is None:
            return x
        bounds = [x.tape.constant([b], INT64) for b in (placed.begin, placed.begin + length)]
        return slice_(x, bounds[0], bounds[1], [axis])

    cut = [part(x, axis) for x, axis in zip(inputs, axes, strict=True)]
    return Rows(placed.value, [part(y, placed.axis)], cut, axes, placed.begin, size - placed.begin - length)


def added(a: Value, b: Value) -> Value:
    """The sum of two gradients: on the rows that they have where these are few, from what one was stretched from."""
    first, second = (v.tape.placed.get(v.name) for v in (a, b))
    if first is None or second is None or first.axis != second.axis:
        return a + (b.tape.stretched(b) or b)
    axis, size = first.axis, a.shape[first.axis]
    spans = [(p.begin, p.value.shape[axis]) for p in (first, second)]
    ends = [begin + length for begin, length in spans if isinstance(length, int)]
    begin, end = min(first.begin, second.begin), max(ends, default=0)
    if len(ends) < 2 or not isinstance(size, int) or 2 * (end - begin) > size:
        return a + b
    parts = [pad(p.value, [p.begin - begin], [end - e], [axis]) for p, e in zip((first, second), ends, strict=True)]
    return pad(parts[0] + parts[1], [begin], [size - end], [axis])


def _aligned(axis: int, y: Value, inputs: Values, attributes: Mapping[str, object]) -> Axes | None:
    """Every element by itself; what is broadcast along the axis is read whole."""
    axes: Axes = []
    for x in inputs:
        own = axis - (y.rank - x.rank) if x is not None else -1
        stretched = x is None or own < 0 or x.shape[own] == 1
        if not stretched and x is not None and x.shape[own] != y.shape[axis]:
            return None
        axes.append(None if stretched else own)
    return axes
