"""The limits that a line of a table sets: a few words each, true or false of one node.

    across NAME          the input has the sizes of the first one, but along the axis
    absent NAME          the attribute, input or output is not given
    NAME in A B …        the attribute has one of these values
    all NAME A           so has every element of the attribute
    constant NAME …      the input, where given, is a constant
    changing NAME        the input is none
    given NAME …         the attribute or input is given
    filled NAME          no size of the input is 0
    last NAME            the attribute is the last axis of the first input
    least NAME N         no element of the attribute, or of the input where it is a constant, is less than N
    length NAME N        the input has N elements along its first axis
    matched NAME         the attribute is an equation without "…" and with a result of an axis, each letter of one size
    outputs N            at most N outputs are used
    rank A B …           the first input has that many axes; `rank NAME A B …` for another one
    fixed NAME           the sizes of the input are known
    sized NAME …         the input, where given, is a constant, or computed from sizes alone
    single NAME          the input, where given, has one element
    symmetric pads       as much before as after each axis
    within NAME          no element of the attribute is more than the size of the first input's axis, pads included
    type NAME A B …      the input, where given, has one of these types; the name of an output does as well

What breaks a limit fails, or falls back where something else can take the node. With `!` before it, it fails in any
case: nobody notices before it runs. With `~` before it, it runs, with another result than ONNX specifies.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from onnxcam.grad.infer import Type

TYPES = {
    "bf16": TensorProto.BFLOAT16,
    "bool": TensorProto.BOOL,
    "f16": TensorProto.FLOAT16,
    "f32": TensorProto.FLOAT,
    "f64": TensorProto.DOUBLE,
    "i8": TensorProto.INT8,
    "i16": TensorProto.INT16,
    "i32": TensorProto.INT32,
    "i64": TensorProto.INT64,
    "string": TensorProto.STRING,
    "u8": TensorProto.UINT8,
    "u16": TensorProto.UINT16,
    "u32": TensorProto.UINT32,
    "u64": TensorProto.UINT64,
}


class Use(Protocol):
    """One node, as limits see it."""

    attributes: Mapping[str, object]
    outputs: tuple[str, ...]

    def input(self, name: str) -> str:
        """The tensor that is given for an input, by the name that its specification has for it; "" for none."""
        ...

    def output(self, name: str) -> str:
        """The same for an output."""
        ...

    def first(self) -> str:
        """The name that the specification has for the first input."""
        ...

    def type(self, name: str) -> Type | None:
        """Type of what is given for an input, where it is known."""
        ...

    def sized(self, name: str) -> bool:
        """Whether what is given for an input is computed from constants and sizes alone."""
        ...

    def types(self) -> list[Type | None]:
        """Types of all inputs, in order."""
        ...

    def constant(self, name: str) -> npt.NDArray[np.generic] | None:
        """Value of what is given for an input, where it is a constant."""
        ...


Broken = Callable[[Use, Sequence[str]], str]  # "" where the limit holds, else what is wrong


@dataclass(frozen=True)
class Limit:
    """A limit: its rule, the rule's words, and the mark before them: "", "!" or "~"."""

    rule: str
    words: tuple[str, ...]
    mark: str = ""

    @classmethod
    def of(cls, text: str) -> "Limit":
        """Read a limit. Raises KeyError for words that are none."""
        mark = text[0] if text[0] in "!~" else ""
        first, *rest = text.removeprefix(mark).split()
        rule, words = ("in", [first, *rest[1:]]) if rest[:1] == ["in"] else (first, rest)
        if rule not in _RULES:
            raise KeyError(f"no limit reads '{text}'")
        return cls(rule, tuple(words), mark)

    def broken(self, use: Use) -> str:
        """What of a node breaks the limit; "" where it holds."""
        return _RULES[self.rule](use, self.words)


def _absent(use: Use, names: Sequence[str]) -> str:
    for name in names:
        given = use.attributes.get(name) is not None or use.input(name) or use.output(name)
        if given:
            return f"'{name}' is given"
    return ""


def _one_of(use: Use, words: Sequence[str]) -> str:
    name, *allowed = words
    value = use.attributes.get(name)
    return "" if value is None or _plain(value) in allowed else f"{name}={_plain(value)}, not {' or '.join(allowed)}"


def _across(use: Use, names: Sequence[str]) -> str:
    one, other, axis = use.type(use.first()), use.type(names[0]), use.attributes.get("axis")
    if one is None or other is None or one.shape is None or other.shape is None or not isinstance(axis, int):
        return ""
    pairs = enumerate(zip(one.shape, other.shape, strict=False))
    wrong = any(a != b for i, (a, b) in pairs if i != axis % max(1, len(one.shape)))
    return f"'{names[0]}' has other sizes than '{use.first()}'" if wrong else ""


def _length(use: Use, words: Sequence[str]) -> str:
    type_ = use.type(words[0])
    wrong = type_ is not None and type_.shape and type_.shape[0] != int(words[1])
    return f"'{words[0]}' has not {words[1]} elements" if wrong else ""


def _all(use: Use, words: Sequence[str]) -> str:
    name, wanted = words
    value = use.attributes.get(name)
    same = not isinstance(value, list) or all(_plain(v) == wanted for v in value)
    return "" if same else f"{name}={value}, not all {wanted}"


def _constant(use: Use, names: Sequence[str]) -> str:
    wrong = [n for n in names if use.input(n) and use.constant(n) is None]
    return f"'{wrong[0]}' is computed, not a constant" if wrong else ""


def _changing(use: Use, names: Sequence[str]) -> str:
    wrong = [n for n in names if use.input(n) and use.constant(n) is not None]
    return f"'{wrong[0]}' is a constant" if wrong else ""


def _outputs(use: Use, words: Sequence[str]) -> str:
    used = len([o for o in use.outputs if o])
    return "" if used <= int(words[0]) else f"{used} outputs are used, {words[0]} at most"


def _rank(use: Use, words: Sequence[str]) -> str:
    name, ranks = (use.first(), words) if words[0].isdigit() else (words[0], words[1:])
    type_ = use.type(name)
    if type_ is None or type_.shape is None or str(len(type_.shape)) in ranks:
        return ""
    return f"'{name}' has {len(type_.shape)} axes, not {' or '.join(ranks)}"


def _fixed(use: Use, names: Sequence[str]) -> str:
    for name in names:
        type_ = use.type(name)
        if type_ is not None and not type_.is_static:
            return f"the size of '{name}' is not known beforehand"
    return ""


def _sized(use: Use, names: Sequence[str]) -> str:
    wrong = [n for n in names if use.input(n) and not use.sized(n)]
    return f"'{wrong[0]}' depends on values that are given at run time" if wrong else ""


def _single(use: Use, names: Sequence[str]) -> str:
    for name in names:
        type_ = use.type(name)
        if type_ is not None and type_.shape is not None and any(d != 1 for d in type_.shape):
            return f"'{name}' has more than one element"
    return ""


def _type(use: Use, words: Sequence[str]) -> str:
    name, *allowed = words
    type_ = use.type(name)
    if type_ is None or type_.dtype in {TYPES[t] for t in allowed}:
        return ""
    return f"'{name}' is not {' or '.join(allowed)}"


def _given(use: Use, names: Sequence[str]) -> str:
    wrong = [n for n in names if use.attributes.get(n) is None and not use.input(n)]
    return f"'{wrong[0]}' is not given" if wrong else ""


def _filled(use: Use, names: Sequence[str]) -> str:
    shapes = {name: type_.shape or () for name in names if (type_ := use.type(name)) is not None}
    return next((f"'{name}' is empty" for name, shape in shapes.items() if 0 in shape), "")


def _last(use: Use, words: Sequence[str]) -> str:
    axis, type_ = use.attributes.get(words[0]), use.type(use.first())
    if not isinstance(axis, int) or axis == -1 or type_ is None or type_.shape is None:
        return ""
    return "" if axis == len(type_.shape) - 1 else f"{words[0]}={axis}, not the last one"


def _least(use: Use, words: Sequence[str]) -> str:
    name, least = words
    given = use.attributes.get(name)
    value = use.constant(name) if given is None else np.asarray(given)
    low = value is not None and value.size and float(np.min(value.astype(np.float64))) < float(least)
    return f"'{name}' is less than {least}" if low else ""


def _matched(use: Use, words: Sequence[str]) -> str:
    equation = str(use.attributes.get(words[0], "")).replace(" ", "")
    if "." in equation or equation.endswith("->"):
        return f"{words[0]}={equation}"
    sizes: dict[str, object] = {}
    for letters, type_ in zip(equation.partition("->")[0].split(","), use.types(), strict=False):
        shape = type_.shape if type_ is not None and type_.shape is not None else ()
        for letter, size in zip(letters, shape, strict=False):
            if sizes.setdefault(letter, size) != size or letters.count(letter) > 1:
                return f"{words[0]}={equation}: '{letter}' has two sizes, or comes twice"
    return ""


def _symmetric(use: Use, words: Sequence[str]) -> str:
    pads = use.attributes.get(words[0])
    if not isinstance(pads, list):
        return ""
    return "" if pads[: len(pads) // 2] == pads[len(pads) // 2 :] else f"{words[0]}={pads}, more on one side"


def _within(use: Use, words: Sequence[str]) -> str:
    type_, sizes = use.type(use.first()), use.attributes.get(words[0])
    if type_ is None or type_.shape is None or not isinstance(sizes, list):
        return ""
    pads = use.attributes.get("pads")
    around = pads if isinstance(pads, list) else [0] * (2 * len(sizes))
    space = zip(type_.shape[-len(sizes) :], around, around[len(sizes) :], strict=False)
    room = [d + a + b if isinstance(d, int) else None for d, a, b in space]
    wide = any(r is not None and s > r for s, r in zip(sizes, room, strict=False))
    return f"{words[0]}={sizes}, wider than the input" if wide else ""


_RULES: Mapping[str, Broken] = {
    "absent": _absent,
    "in": _one_of,
    "across": _across,
    "all": _all,
    "constant": _constant,
    "changing": _changing,
    "outputs": _outputs,
    "rank": _rank,
    "given": _given,
    "filled": _filled,
    "fixed": _fixed,
    "last": _last,
    "least": _least,
    "length": _length,
    "matched": _matched,
    "single": _single,
    "sized": _sized,
    "type": _type,
    "symmetric": _symmetric,
    "within": _within,
}


def _plain(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
