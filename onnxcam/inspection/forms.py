"""The form of a feature map: which axis holds the channels, and how the rest folds into the grid of the picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Literal

from onnxcam.grad.infer import Dim, Shape
from onnxcam.inspection.parts import Fold
from onnxcam.inspection.roles import Axis, Batch, Channel, Place, Roles, Tokens, filled, places


@dataclass(frozen=True)
class Form:
    """Channel axis of a tensor, and, where places do not have an axis each in order, their grid and the way there."""

    channel_axis: int
    grid: Shape
    fold: Fold | None = None


def form(roles: Roles, shape: Shape, rank: int) -> Form | None:
    """The form of a tensor as a feature map of a picture with `rank` axes of space; None where it is none.

    A feature map has samples, one axis of channels, and every place once.
    """
    axes = [filled(axis, size) for axis, size in zip(roles, shape, strict=True)]
    channels = [i for i, axis in enumerate(axes) if any(isinstance(p, Channel) for p in axis)]
    if len(channels) != 1 or any(isinstance(p, Batch) for p in axes[channels[0]]):
        return None
    channel = channels[0]
    if not _whole([p for i, axis in enumerate(axes) if i != channel for p in places(axis)]):
        return None
    plain = _plain(axes, shape, channel)
    return plain if plain is not None else _folded(axes, shape, channel, rank)


def _whole(rows: Sequence[Place]) -> bool:
    """Whether there are places, each axis of the picture has all of its places, once, from its beginning on."""
    for own in _by_axis(rows).values():
        if any(p.rolled for p in own) or (len(own) > 1 and not all(isinstance(p.size, int) for p in own)):
            return False
        if any(a.stride != b.stride * int(b.size) for a, b in pairwise(own)):
            return False
    return bool(rows)


def _by_axis(rows: Sequence[Place]) -> dict[int, list[Place]]:
    """The places along each axis of the picture, outermost first."""
    return {
        axis: sorted((p for p in rows if p.axis == axis), key=lambda p: -p.stride)
        for axis in sorted({p.axis for p in rows})
    }


def _plain(axes: Sequence[Axis], shape: Shape, channel: int) -> Form | None:
    """Samples first, and an axis of its own for each axis of the picture, in order."""
    space = [i for i in range(1, len(axes)) if i != channel]
    rows = [axes[i] for i in space]
    if channel == 0 or any(len(a) > 1 or any(not isinstance(p, Place) for p in a) for a in rows) or places(axes[0]):
        return None
    order = [p.axis for axis in rows for p in places(axis)]
    return Form(channel, tuple(shape[i] for i in space)) if order == sorted(order) else None


def _folded(axes: Sequence[Axis], shape: Shape, channel: int, rank: int) -> Form | None:
    """Places in windows, in a row, or with other tokens around them."""
    rows = [(i, p) for i, axis in enumerate(axes) for p in axis if isinstance(p, Tokens)]
    if len(rows) > 1 or any(len(axes[i]) > 1 for i, _ in rows):
        return None
    at, row = rows[0] if rows else (channel, None)
    split: list[int] = []
    samples: list[int] = []
    found: list[tuple[Place, int]] = []
    for i, axis in enumerate(axes):
        if i == channel:
            split.append(_size(shape[i]))
            continue
        parts = row.places if row is not None and i == at else axis
        samples += [len(split) + n for n, p in enumerate(parts) if isinstance(p, Batch)]
        found += [(p, len(split) + n) for n, p in enumerate(parts) if isinstance(p, Place)]
        split += [_size(p.size) for p in parts]
    if len(samples) != 1:
        return None
    widths = [len(row.places) if row is not None and i == at else len(axis) for i, axis in enumerate(axes)]
    channel_at = sum(widths[:channel])
    where = {id(p): n for p, n in found}
    by_axis = _by_axis([p for p, _ in found])
    grid = [_product([p.size for p in by_axis.get(a, [])]) for a in range(max(rank, *by_axis) if by_axis else rank)]
    order = [samples[0], channel_at, *(where[id(p)] for a in sorted(by_axis) for p in by_axis[a])]
    before, after = (row.before, row.after) if row is not None else (0, 0)
    made = row.made if row is not None else ""
    layout = _layout([i for i, axis in enumerate(axes) if i != channel for _ in places(axis)])
    return Form(channel, tuple(grid), Fold(at, before, after, tuple(split), tuple(order), made, layout))


def _layout(where: Sequence[int]) -> Literal["tokens", "windows", ""]:
    """How places lie on axes: in one row, in rows within each other, or on an axis each."""
    if len(set(where)) == 1 and len(where) > 1:
        return "tokens" if len(where) < 4 else "windows"
    return "windows" if len(where) > len(set(where)) else ""


def _size(size: Dim) -> int:
    return size if isinstance(size, int) else -1


def _product(sizes: Sequence[Dim]) -> Dim:
    return prod(d for d in sizes if isinstance(d, int)) if all(isinstance(d, int) for d in sizes) else sizes[0]
