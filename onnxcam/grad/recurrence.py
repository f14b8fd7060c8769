"""A recurrence written into a graph: step after step where their number is known and small, else as a Scan."""

import math
from collections.abc import Callable

from onnx import helper

from onnxcam.errors import UnsupportedGradient
from onnxcam.grad.infer import Type
from onnxcam.grad.tensor import Value, op, split

# Up to so many steps are written one by one, which more providers run, and no slower. A session takes longer to start
# (measured, LSTM of 256: 32 steps 0.3 s, 256 steps 3.2 s, as a Scan 0.1 s), and keeps a packed copy of the weights for
# each step: hence a bound on steps × weights as well.
FEW = 32
LARGE = 2**23

Values = tuple[Value, ...]
Step = Callable[[Values, Values], Values]


def recurrence(step: Step, streams: Values, states: Values, backwards: bool) -> tuple[Value, Values]:
    """The first of the states after each step, stacked along axis 0, and all after the last.

    `step(slices, states)` returns the next states; the slices are those of `streams` along axis 0, from the end where
    `backwards`. Raises UnsupportedGradient below opset 9 for a number of steps that is known at run time only.
    """
    length = streams[0].shape[0]
    weights = [d for d in (streams[0].shape[-1], states[0].shape[-1]) if isinstance(d, int)]
    if isinstance(length, int) and 0 < length <= FEW and length * math.prod(weights) <= LARGE:
        return _unrolled(step, streams, states, length, backwards)
    if streams[0].tape.graph.opsets[""] < 9:
        raise UnsupportedGradient("it has many steps, or a number of them that is open, which needs opset 9")
    return _scanned(step, streams, states, backwards)


def _unrolled(step: Step, streams: Values, states: Values, length: int, backwards: bool) -> tuple[Value, Values]:
    parts = [split(x, 0, [1] * length) if length > 1 else [x] for x in streams]
    steps = [tuple(op.Squeeze(x, axes=[0]) for x in now) for now in zip(*parts, strict=True)]
    order = range(length)[::-1] if backwards else range(length)
    firsts = {}
    for t in order:
        states = step(steps[t], states)
        firsts[t] = op.Unsqueeze(states[0], axes=[0])
    return op.Concat(*(firsts[t] for t in range(length)), axis=0), states


def _scanned(step: Step, streams: Values, states: Values, backwards: bool) -> tuple[Value, Values]:
    tape, length = streams[0].tape, streams[0].shape[0]
    inner = tape.within("Scan")
    before = tuple(inner.input(inner.fresh("state"), v.type) for v in states)
    slices = tuple(inner.input(inner.fresh("slice"), Type(x.dtype, x.shape[1:])) for x in streams)
    after = step(slices, before)
    outputs = [inner.rename(v, inner.fresh("next")) for v in (*after, after[0])]
    way = int(backwards)
    node = helper.make_node(
        "Scan",
        [v.name for v in (*states, *streams)],
        [tape.fresh("scanned") for _ in outputs],
        inner.prefix,
        body=inner.written([*before, *slices], outputs),
        num_scan_inputs=len(streams),
        scan_input_directions=[way] * len(streams),
        scan_output_directions=[way],
    )
    types = [v.type for v in states]
    made = tape.copy(node, [*types, Type(states[0].dtype, (length, *states[0].shape))])
    return made[-1], made[:-1]
