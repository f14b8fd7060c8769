"""The form of a feature map: which axis holds the channels, and how the rest folds into the grid of the picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Literal

from onnxcam.grad.infer import Dim, Shape
from onnxcam.inspection.parts import Fold
from onnxcam.inspection.roles import Axis, Batch, Channel, Part, Place, Roles, Tokens, filled, places


@dataclass(frozen=True)
class Form:
    """Channel axis of a tensor, and, where places do not have an axis each in order, their grid and the way there."""

    channel_axis: int
    grid: Shape
    fold: Fold | None = None


def form(roles: Roles, shape: Shape, rank: int, alone: bool = False) -> Form | None:
    """The form of a tensor as a feature map of a picture with `rank` axes of space; None where it is none.

    A feature map has samples, one axis of channels, and every place once. Of one that is `alone` in its batch the axis
    may be lost where axes are regrouped, or never have been.
    """
    axes = [filled(axis, size) for axis, size in zip(roles, shape, strict=True)]
    channels = [i for i, axis in enumerate(axes) if any(isinstance(p, Channel) for p in axis)]
    if len(channels) != 1 or any(isinstance(p, Batch) for p in axes[channels[0]]):
        return None
    channel = channels[0]
    rows = [p for i, axis in enumerate(axes) if i != channel for p in places(axis)]
    if not rows or not _whole(rows, places(axes[channel])):
        return None
    plain = _plain(axes, shape, channel) if len(axes) == 2 + rank else None
    return plain if plain is not None else _folded(axes, shape, channel, rank, alone)


def _whole(rows: Sequence[Place], within: Sequence[Place]) -> bool:
    """Whether all places of each axis of the picture are there once; `within` are those that channels stand for."""
    for axis in {p.axis for p in rows}:
        own = sorted((p for p in rows if p.axis == axis), key=lambda p: -p.stride)
        if any(p.rolled for p in own) or (len(own) > 1 and not all(isinstance(p.size, int) for p in own)):
            return False
        if any(a.stride != b.stride * int(b.size) for a, b in pairwise(own)):
            return False
        if any(p.axis == axis and p.stride >= own[-1].stride for p in within):
            return False
    return True


def _plain(axes: Sequence[Axis], shape: Shape, channel: int) -> Form | None:
    """Samples first, and an axis of its own for each axis of the picture, in order."""
    space = [i for i in range(1, len(axes)) if i != channel]
    rows = [axes[i] for i in space]
    if channel == 0 or any(len(a) > 1 or any(not isinstance(p, Place) for p in a) for a in rows) or places(axes[0]):
        return None
    order = [p.axis for axis in rows for p in places(axis)]
    return Form(channel, tuple(shape[i] for i in space)) if order == sorted(set(order)) else None


def _folded(axes: Sequence[Axis], shape: Shape, channel: int, rank: int, alone: bool) -> Form | None:
    """Places in windows, in a row, or with other tokens around them."""
    rows = [(i, p) for i, axis in enumerate(axes) for p in axis if isinstance(p, Tokens)]
    if len(rows) > 1 or any(len(axes[i]) > 1 for i, _ in rows):
        return None
    at, row = rows[0] if rows else (-1, None)
    pieces: list[tuple[int, Part]] = []
    for i, axis in enumerate(axes):
        own = (Channel(shape[i]),) if i == channel else row.places if row is not None and i == at else axis
        pieces += [(i, p) for p in own]
    if alone and all(isinstance(p.size, int) and not isinstance(p, Batch) for _, p in pieces):
        pieces.insert(0, (-1, Batch(1)))
    samples = [n for n, (_, p) in enumerate(pieces) if isinstance(p, Batch)]
    if len(samples) != 1:
        return None
    kept = {n: p for n, (_, p) in enumerate(pieces) if isinstance(p, Place)}
    order = sorted(kept, key=lambda n: (kept[n].axis, -kept[n].stride))
    channels = next(n for n, (i, _) in enumerate(pieces) if i == channel)
    where = [pieces[n][0] for n in order]
    fold = Fold(
        where[0], row.before if row else 0, row.after if row else 0,
        tuple(p.size if isinstance(p.size, int) else -1 for _, p in pieces), (samples[0], channels, *order),
        row.made if row else "", _layout(where),
    )  # fmt: skip
    grid = [
        _product([kept[n].size for n in order if kept[n].axis == a]) for a in range(max(rank, kept[order[-1]].axis + 1))
    ]
    return Form(channel, tuple(grid), fold)


def _layout(where: Sequence[int]) -> Literal["tokens", "windows", ""]:
    """How places lie on axes: in one row, in rows within each other, or on an axis each."""
    if len(set(where)) == 1 and len(where) > 1:
        return "tokens" if len(where) < 4 else "windows"
    return "windows" if len(where) > len(set(where)) else ""


def _product(sizes: Sequence[Dim]) -> Dim:
    whole = [d for d in sizes if isinstance(d, int)]
    return prod(whole) if len(whole) == len(sizes) else sizes[0]
