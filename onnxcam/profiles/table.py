"""The tables: one TOML file for each profile, and how it is read.

    [limits]
    Resize = ["mode in nearest linear", "10-13: constant scales"]

    [operators]
    Resize = ["10 T=floats", "11-13 T1=floats,u8"]

A line of [operators] says: these versions of Resize (opsets in which its specification changed), with types of these
for T and T1, which are type parameters of the specification. Several lines for one operator are alternatives; what a
line does not name may be anything. A limit (see `limits`) has to hold too, for the versions before its colon, or all.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from onnxcam.profiles.limits import TYPES, Limit

# Names for several types at once, as tables write them.
GROUPS = {
    "ints": ("i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64"),
    "floats": ("bf16", "f16", "f32", "f64"),
}


@dataclass(frozen=True)
class Row:
    """Versions of an operator, and the types that it then has, by type parameter."""

    versions: tuple[range, ...]
    types: Mapping[str, frozenset[int]]

    def has(self, version: int) -> bool:
        """Whether the line is about this version of its operator."""
        return any(version in r for r in self.versions)


@dataclass(frozen=True)
class Profile:
    """A runtime: what it has, and what becomes of a node that it lacks.

    `opset` and `ir` are the newest that it reads, None where it does not look. `rest` is the profile of what takes the
    nodes that this one lacks; without it they fail. `functions` take the place of their calls: a model's "own", and the
    bodies that are "specified" of operators that it lacks. `half`: what it lacks in half precision it computes in
    float32. `defaults`: an input may have one. `fixed`: sizes have to be known beforehand.
    `members` are the profiles that this one stands for; it then has no table of its own.
    """

    name: str
    title: str
    sources: tuple[str, ...]
    rows: Mapping[tuple[str, str], tuple[Row, ...]]
    limits: Mapping[str, tuple[tuple[tuple[range, ...], Limit], ...]]
    opset: int | None = None
    ir: int | None = None
    rest: str | None = None
    functions: tuple[str, ...] = ()
    half: bool = False
    defaults: bool = True
    fixed: bool = False
    members: tuple[str, ...] = ()


@cache
def profile(name: str) -> Profile:
    """Read the table of a profile, or of what takes the nodes that one lacks."""
    document = tomllib.loads(files("onnxcam.profiles").joinpath(f"{name}.toml").read_text(encoding="utf-8"))
    rows: dict[tuple[str, str], tuple[Row, ...]] = {}
    for operator, lines in document.pop("operators", {}).items():
        inner = lines if isinstance(lines, dict) else {operator: lines}
        for op, text in inner.items():
            key = (operator if isinstance(lines, dict) else "", op)
            rows[key] = tuple(_row(line) for line in ([text] if isinstance(text, str) else text))
    limits = {op: tuple(_limit(text) for text in texts) for op, texts in document.pop("limits", {}).items()}
    document |= {key: tuple(document.get(key, ())) for key in ("sources", "members", "functions")}
    return Profile(name=name, rows=rows, limits=limits, **document)


def _row(line: str) -> Row:
    versions, *types = line.split()
    allowed = {}
    for word in types:
        parameter, _, names = word.partition("=")
        spelled = [t for name in names.split(",") for t in GROUPS.get(name, (name,))]
        allowed[parameter] = frozenset(int(TYPES[t]) for t in spelled)
    return Row(_ranges(versions), allowed)


def _limit(text: str) -> tuple[tuple[range, ...], Limit]:
    versions, colon, words = text.rpartition(":")
    return _ranges(versions if colon else "1-"), Limit.of(words.strip())


def _ranges(text: str) -> tuple[range, ...]:
    """Read "7-13,18-": the last one has no end."""
    parts = [part.partition("-") for part in text.split(",")]
    return tuple(range(int(a), int(b) + 1 if b else 10_000 if dash else int(a) + 1) for a, dash, b in parts)
