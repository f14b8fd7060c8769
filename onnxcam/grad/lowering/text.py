"""Lines of function text whose form depends on the opset, and layouts that several operators share."""

from collections.abc import Callable, Sequence

from onnxcam.grad.lowering import Use


def ints(name: str, values: Sequence[int]) -> str:
    """A constant vector of int64."""
    return f"{name} = Constant<value = int64[{len(values)}] {{{', '.join(map(str, values))}}}>()"


def number(name: str, value: float, dtype: int) -> str:
    """A constant scalar of a float type."""
    return f"{name}_32 = Constant<value = float {{{value!r}}}>() {name} = Cast<to = {dtype}>({name}_32)"


def _axes(use: Use, call: str, y: str, x: str, axes: Sequence[int], since: int, rest: str = "") -> str:
    """An operator whose axes are an attribute before opset `since`, and an input from then on."""
    if use.opset < since:
        return f"{y} = {call}<axes = [{', '.join(map(str, axes))}]{', ' + rest if rest else ''}>({x})"
    return f"{ints(f'{y}_axes', axes)} {y} = {call}{f'<{rest}>' if rest else ''}({x}, {y}_axes)"


def unsqueeze(use: Use, y: str, x: str, *axes: int) -> str:
    """`y = Unsqueeze(x)`."""
    return _axes(use, "Unsqueeze", y, x, axes, 13)


def squeeze(use: Use, y: str, x: str, *axes: int) -> str:
    """`y = Squeeze(x)`."""
    return _axes(use, "Squeeze", y, x, axes, 13)


def mean(use: Use, y: str, x: str, axes: Sequence[int]) -> str:
    """`y = ReduceMean(x)`, axes kept."""
    return _axes(use, "ReduceMean", y, x, axes, 18)


def split(use: Use, names: Sequence[str], x: str, axis: int, sizes: Sequence[int] | None = None) -> str:
    """`names… = Split(x)`, into equal parts or parts of given sizes."""
    outputs = ", ".join(names)
    if sizes is None:
        count = f", num_outputs = {len(names)}" if use.opset >= 18 else ""
        return f"{outputs} = Split<axis = {axis}{count}>({x})"
    if use.opset < 13:
        return f"{outputs} = Split<axis = {axis}, split = [{', '.join(map(str, sizes))}]>({x})"
    return f"{ints(f'{names[0]}_sizes', sizes)} {outputs} = Split<axis = {axis}>({x}, {names[0]}_sizes)"


def first(use: Use, y: str, x: str, count: int, axis: int) -> str:
    """`y`, the first `count` elements of `x` along an axis."""
    if use.opset < 10:
        return f"{y} = Slice<starts = [0], ends = [{count}], axes = [{axis}]>({x})"
    bounds = f"{ints(f'{y}_from', [0])} {ints(f'{y}_to', [count])} {ints(f'{y}_axis', [axis])}"
    return f"{bounds} {y} = Slice({x}, {y}_from, {y}_to, {y}_axis)"


def transpose(y: str, x: str, perm: Sequence[int]) -> str:
    """`y = Transpose(x)`."""
    return f"{y} = Transpose<perm = [{', '.join(map(str, perm))}]>({x})"


def to_channels_first(y: str, x: str, rank: int) -> str:
    """`y`, which is `x` with its last axis second."""
    return transpose(y, x, [0, rank - 1, *range(1, rank - 1)])


def to_channels_last(y: str, x: str, rank: int) -> str:
    """`y`, which is `x` with its second axis last."""
    return transpose(y, x, [0, *range(2, rank), 1])


def channels_first(call: Callable[[str], str], y: str, x: str, rank: int, last: bool) -> str:
    """`y = call(x)`; between transpositions where the tensors have their channels last."""
    if not last:
        return f"{y} = {call(x)}"
    there, back = to_channels_first(f"{y}_in", x, rank), to_channels_last(y, f"{y}_out", rank)
    return f"{there} {y}_out = {call(f'{y}_in')} {back}"
