"""Roles of axes through what moves, cuts, joins or reduces them."""

from collections.abc import Mapping

import numpy as np

from onnxcam.inspection.follow import Call, Link, Trace, laid, rule, same
from onnxcam.inspection.roles import Axis, Channel, filled, joined, piece, places, regroup, resized, taken
from onnxcam.inspection.walk import ints


@rule("Transpose")
def _transpose(call: Call) -> Trace | None:
    own = call.roles[0]
    if own is None:
        return None
    perm = ints(call.node.attributes.get("perm")) or list(range(len(own)))[::-1]
    return Trace(tuple(own[p] for p in perm), tuple(((0, p),) for p in perm))


@rule("Reshape", "Flatten")
def _reshape(call: Call) -> Trace | None:
    own, shape = call.roles[0], call.shapes[0]
    found = regroup(own, shape, call.shape) if own is not None and shape is not None else None
    return None if found is None else Trace(found[0], tuple(tuple((0, i) for i in sorted(g)) for g in found[1]))


@rule("Squeeze", "Unsqueeze")
def _squeeze(call: Call) -> Trace | None:
    own, axes = call.roles[0], call.numbers("axes", 1)
    if own is None or axes is None:
        return _reshape(call)
    new, rank = call.node.op == "Unsqueeze", max(len(own), len(call.shape))
    gone = {a % rank for a in axes}
    rest = iter([i for i in range(len(own)) if new or i not in gone])
    source = [None if new and a in gone else next(rest, None) for a in range(len(call.shape))]
    return Trace(
        tuple(() if i is None else own[i] for i in source), tuple(() if i is None else ((0, i),) for i in source)
    )


@rule("Slice")
def _slice(call: Call) -> Trace | None:
    own, shape = call.roles[0], call.shapes[0]
    starts, ends = call.numbers("starts", 1), call.numbers("ends", 2)
    if own is None or shape is None:
        return None
    axes = call.numbers("axes", 3) or list(range(len(starts or ())))
    steps = call.numbers("steps", 4) or [1] * len(axes)
    bounds: dict[int, tuple[int, int, int]] = {}
    if starts is not None and ends is not None:
        for a, start, end, step in zip(axes, starts, ends, steps, strict=False):
            size = shape[a % len(own)]
            if isinstance(size, int):
                begin, stop, step = slice(start, end, step).indices(size)
                bounds[a % len(own)] = (begin, stop, step)
    return _cut(call, bounds)


@rule("Split")
def _split(call: Call) -> Trace | None:
    own = call.roles[0]
    if own is None:
        return None
    axis = call.attribute("axis", 0) % len(own)
    earlier = [(call.forward.type(o).shape or call.shape)[axis] for o in call.node.outputs[: call.index]]
    size = call.shape[axis]
    if not isinstance(size, int) or not all(isinstance(d, int) for d in earlier):
        return _cut(call, {})
    start = sum(d for d in earlier if isinstance(d, int))
    return _cut(call, {axis: (start, start + size, 1)})


def _cut(call: Call, bounds: Mapping[int, tuple[int, int, int]]) -> Trace:
    """Slices of axes; one whose bounds are not known keeps its roles where its length does."""
    roles: list[Axis] = []
    links: list[tuple[Link, ...]] = []
    dropped = set()
    for i, size in enumerate(call.shape):
        whole, lost = call.axis(0, i), False
        own = whole
        if not same(call, 0, i, size):
            own, lost = piece(whole, size, *bounds[i]) if i in bounds else (resized(whole, size), False)
        if lost:
            dropped.add((0, i))
        roles.append(own)
        links.append(((0, i),) if bool(places(own)) == bool(places(whole)) else ())
    return Trace(tuple(roles), tuple(links), frozenset(dropped))


@rule("Gather")
def _gather(call: Call) -> Trace | None:
    own, indices = call.roles[0], call.shapes[1]
    if own is None or indices is None:
        return None
    axis = call.attribute("axis", 0) % len(own)
    chosen = call.forward.constant(call.node.inputs[1])
    rows = taken(call.axis(0, axis), chosen) if chosen is not None else None
    one = not indices or (chosen is not None and chosen.size == 1)
    if len(indices) == 1 and chosen is not None and rows is None and (np.diff(chosen.astype(np.int64)) == 1).all():
        return _cut(call, {axis: (int(chosen[0]), int(chosen[-1]) + 1, 1)})
    every: list[tuple[Axis, tuple[Link, ...]]] = [(call.axis(0, i), ((0, i),)) for i in range(len(own))]
    every[axis : axis + 1] = (
        [(r, ((0, axis),)) for r in rows]
        if rows is not None
        else [(filled((), d), ()) for d in call.shape[axis : axis + len(indices)]]
    )
    dropped = frozenset([(0, axis)] if one and places(own[axis]) else [])
    return Trace(tuple(a for a, _ in every), tuple(link for _, link in every), dropped)


@rule("Concat")
def _concat(call: Call) -> Trace | None:
    rank = len(call.shape)
    operands = [k for k, s in enumerate(call.shapes) if s is not None and len(s) == rank]
    axis = call.attribute("axis", 0) % rank
    over = laid(call, [k for k in operands if call.roles[k] is not None])
    if over is None or len(call.node.inputs) == 1:
        return over  # a list of one picture, stacked
    parts = [(call.axis(k, axis), (call.shapes[k] or ())[axis]) for k in operands]
    row, kept = joined(parts, call.shape[axis], str(call.node))
    if any(call.moving[k] and call.roles[k] is None for k in operands):
        row, kept = (Channel(call.shape[axis]),), []  # nothing is known of one of them
    roles, links = list(over.roles), list(over.links)
    roles[axis] = row
    links[axis] = tuple((operands[k], axis) for k in kept if call.roles[operands[k]] is not None)
    return Trace(tuple(roles), tuple(links))


# ----- reductions -----
@rule("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceProd",
      "ReduceLogSum", "ReduceLogSumExp", "ArgMax", "ArgMin")  # fmt: skip
def _reduce(call: Call) -> Trace | None:
    own = call.roles[0]
    if own is None:
        return None
    if call.node.op.startswith("Arg"):
        axes: list[int] | None = [call.attribute("axis", 0)]
    else:
        axes = call.numbers("axes", 1)
    gone = {a % len(own) for a in axes} if axes else set(range(len(own)))
    if call.attribute("keepdims", 1):
        return Trace(
            tuple(() if i in gone else a for i, a in enumerate(own)),
            tuple(() if i in gone else ((0, i),) for i in range(len(own))),
        )
    rest = [i for i in range(len(own)) if i not in gone]
    return Trace(tuple(own[i] for i in rest), tuple(((0, i),) for i in rest))
