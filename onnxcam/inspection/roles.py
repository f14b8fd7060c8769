"""What the axes of a tensor stand for: the batch, the channels, or places of the picture.

An axis is a tuple of parts, outermost first, so that a Reshape only regroups parts: (N, 56, 56, C) cut into 7×7 windows
is (N, 8·7, 8·7, C), and turned it is (N·8·8, 7·7, C). A place keeps its stride along the picture's axis, which is all
that is needed to put windows, blocks and flattened grids back where they belong.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod

import numpy as np
import numpy.typing as npt

from onnxcam.grad.infer import Dim, Shape


@dataclass(frozen=True)
class Batch:
    """Samples."""

    size: Dim


@dataclass(frozen=True)
class Channel:
    """Anything that is neither a sample nor a place: channels, heads, offsets, classes."""

    size: Dim


@dataclass(frozen=True)
class Place:
    """Places along one axis of the picture, `stride` apart from `start` on; `rolled` where they begin in its middle."""

    axis: int
    size: Dim
    stride: int = 1
    start: int = 0
    rolled: bool = False


@dataclass(frozen=True)
class Tokens:
    """Places in a row with other tokens before and after them; `made` says which operator put them there."""

    places: tuple[Place, ...]
    before: int
    after: int
    made: str = ""

    @property
    def count(self) -> int:
        """Number of places."""
        return prod(p.size for p in self.places if isinstance(p.size, int))

    @property
    def size(self) -> Dim:
        """Number of tokens of all kinds."""
        return self.before + self.count + self.after


Part = Batch | Channel | Place | Tokens
Axis = tuple[Part, ...]
Roles = tuple[Axis, ...]


def places(axis: Iterable[Part]) -> tuple[Place, ...]:
    """The places on an axis, those between other tokens included."""
    return tuple(p for part in axis for p in _places(part))


def _places(part: Part) -> tuple[Place, ...]:
    return part.places if isinstance(part, Tokens) else (part,) if isinstance(part, Place) else ()


def filled(axis: Axis, size: Dim) -> Axis:
    """The axis with a part for whatever its parts do not account for."""
    return axis if axis or size == 1 else (Channel(size),)


def extent(axis: Axis, size: Dim) -> Dim:
    """The length of an axis: `size`, or where that is open what its parts amount to."""
    parts = [p.size for p in axis]
    whole = prod(d for d in parts if isinstance(d, int))
    return size if isinstance(size, int) or not parts or not all(isinstance(d, int) for d in parts) else whole


def best(axes: Iterable[Axis]) -> Axis:
    """Of axes that an operator lays over each other, the one that says most: places, then samples."""
    found: Axis = ()
    for axis in axes:
        if _says(axis) > _says(found):
            found = axis
    return found


def _says(axis: Axis) -> int:
    return 3 if places(axis) else 2 if any(isinstance(p, Batch) for p in axis) else 1 if axis else 0


def resized(axis: Axis, size: Dim) -> Axis:
    """An axis after something that samples it anew."""
    of = {p.axis for p in places(axis)}
    if size == 1:
        return ()
    if len(of) == 1 and not any(isinstance(p, Tokens) for p in axis):
        return (Place(of.pop(), size),)
    return (Channel(size),)


# ----- regrouping -----
Tagged = tuple[int, Part]  # a part, and the axis that it comes from


def regroup(roles: Roles, shape: Shape, target: Shape) -> tuple[Roles, list[set[int]]] | None:
    """The roles after a Reshape from `shape` to `target`, and the axes that each new one comes from.

    None where sizes that are only known at run time leave it open, or where tokens of several kinds would be cut.
    """
    parts = [(i, p) for i, (a, s) in enumerate(zip(roles, shape, strict=True)) for p in filled(a, s)]
    groups: list[list[Tagged]] = [[] for _ in target]
    low, high = 0, len(target)
    while high > low and _take(parts, target[high - 1], groups[high - 1], last=True):
        high -= 1
    while low < high and _take(parts, target[low], groups[low], last=False):
        low += 1
    if high - low == 1:
        groups[low] += parts
    elif high > low or any(p.size != 1 and not isinstance(p, Batch) for _, p in parts):
        return None  # a symbolic batch may be left: some exporters write the 1 that they saw into the graph
    elif parts:
        groups[0] = parts + groups[0]
    return tuple(_merged([p for _, p in g]) for g in groups), [{i for i, _ in g} for g in groups]


def _take(parts: list[Tagged], size: Dim, group: list[Tagged], *, last: bool) -> bool:
    """Move parts of a total `size` from the end of the list, or its beginning; whether that worked."""
    taken: list[Tagged] = []
    rest = list(parts)
    need = size
    while need != 1 or (size == 1 and not taken and rest and rest[-1 if last else 0][1].size == 1):
        if not rest:
            return False
        tag, part = rest.pop(-1 if last else 0)
        if part.size == need:
            need = 1
        elif not isinstance(need, int) or not isinstance(part.size, int):
            return False
        elif need % part.size == 0:
            need //= part.size
        elif part.size % need == 0 and (cut := _cut(part, need, last=last)):
            rest.insert(len(rest) if last else 0, (tag, cut[0]))
            part, need = cut[1], 1
        else:
            return False
        taken.insert(0 if last else len(taken), (tag, part))
    parts[:] = rest
    group += taken
    return True


def _cut(part: Part, size: int, *, last: bool) -> tuple[Part, Part] | None:
    """A part as what is left of it and its innermost (`last`) or outermost `size`."""
    if isinstance(part, Tokens) or not isinstance(part.size, int):
        return None
    inner, outer = (size, part.size // size) if last else (part.size // size, size)
    wide: Part = replace(part, size=outer)
    if isinstance(part, Place):
        wide = replace(part, size=outer, stride=part.stride * inner)
    small = replace(part, size=inner)
    return (wide, small) if last else (small, wide)


def _merged(parts: Sequence[Part]) -> Axis:
    """Neighbours that belong together as one."""
    found: list[Part] = []
    several = [p for p in parts if p != Channel(1)]
    for part in several or parts:
        joined = _joined(found[-1], part) if found else None
        found[-1:] = [joined] if joined else [*found[-1:], part]
    return tuple(found)


def _joined(a: Part, b: Part) -> Part | None:
    if not isinstance(a.size, int) or not isinstance(b.size, int):
        return None
    if isinstance(a, Channel) and isinstance(b, Channel):
        return Channel(a.size * b.size)
    if isinstance(a, Place) and isinstance(b, Place) and a.axis == b.axis and a.stride == b.size * b.stride:
        return replace(b, size=a.size * b.size)
    return None


# ----- pieces -----
def piece(axis: Axis, size: Dim, start: int, end: int, step: int = 1) -> tuple[Axis, bool]:
    """`axis[start:end:step]`, which has `size` elements, and whether all of its places are left out."""
    match axis:
        case (Tokens() as row,) if step == 1:
            stop = row.before + row.count
            if start <= row.before and end >= stop:
                before, after = row.before - start, end - stop
                return ((replace(row, before=before, after=after),) if before or after else row.places), False
            return filled((), size), end <= row.before or start >= stop
        case (Place() as row,) if step == 1:
            return ((replace(row, size=size, start=row.start + start * row.stride),) if size != 1 else ()), size == 1
        case (Place() as row,):
            return resized(axis, size), False
    return filled((), size), bool(places(axis)) and size == 1


def taken(axis: Axis, indices: npt.NDArray[np.generic]) -> tuple[Axis, ...] | None:
    """The axes of `axis[indices]`; None where these are not windows at even distances."""
    match axis:
        case (Place() as row,) if indices.ndim and indices.size:
            origin = int(indices.flat[0])
            steps = [int(np.take(indices, min(1, n - 1), axis=d).flat[0]) - origin for d, n in enumerate(indices.shape)]
            even = origin + sum(s * i for s, i in zip(steps, np.indices(indices.shape), strict=True))
            if min(steps) >= 0 and origin >= 0 and np.array_equal(even, indices):
                whole = row.size == indices.size
                start = row.start if whole else row.start + origin * row.stride
                pieces = zip(indices.shape, steps, strict=True)
                rows = [replace(row, size=n, stride=row.stride * s, start=start) for n, s in pieces]
                return tuple((p,) if p.size != 1 else () for p in rows)
    return None


def joined(parts: Sequence[tuple[Axis, Dim]], total: Dim, made: str) -> tuple[Axis, list[int]]:
    """Axes one behind the other, `total` long, and which of them keep their places; `made` is the operator."""
    where = [i for i, (axis, _) in enumerate(parts) if places(axis)]
    if not where:
        batch = any(isinstance(p, Batch) for axis, _ in parts for p in axis)
        return ((Batch(total) if batch else Channel(total)),), [*range(len(parts))]
    sizes = [s for _, s in parts if isinstance(s, int)]
    total = sum(sizes) if len(sizes) == len(parts) else total
    if any(isinstance(p, Channel) for i in where for p in parts[i][0]):
        return (Channel(total),), [*range(len(parts))]
    if len(where) == 1:
        return _row(parts[where[0]][0], sizes, where[0], len(parts), made) or (Channel(total),), where
    rows = [p for axis, _ in parts for p in places(axis)]
    if len(rows) == len(parts) and len({(p.axis, p.stride) for p in rows}) == 1:
        return (_round(rows, total),), where
    return (Channel(total),), []


def _row(axis: Axis, sizes: list[int], at: int, count: int, made: str) -> Axis | None:
    """Places with other tokens around them."""
    if len(sizes) != count:
        return None
    before, after = sum(sizes[:at]), sum(sizes[at + 1 :])
    match axis:
        case (Tokens() as row,):
            return (Tokens(row.places, row.before + before, row.after + after, made),)
    return (Tokens(places(axis), before, after, made),)


def _round(rows: Sequence[Place], total: Dim) -> Place:
    """Pieces of one axis of the picture: what a roll makes, or puts back."""
    first, fresh = rows[0], Place(rows[0].axis, total)
    if not isinstance(total, int) or any(not isinstance(p.size, int) for p in rows):
        return fresh
    whole = total * first.stride
    follows = all((a.start + int(a.size) * a.stride - b.start) % whole == 0 for a, b in pairwise(rows))
    start = first.start % whole
    return replace(first, size=total, start=start, rolled=start != 0) if follows else fresh
