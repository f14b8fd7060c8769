"""Scores: what a model says before its last Softmax or Sigmoid, and what its axes mean."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from onnxcam.errors import InputError, ModelError, unknown
from onnxcam.grad.forward import Forward
from onnxcam.grad.infer import Shape
from onnxcam.grad.node import Node
from onnxcam.grad.quantized import shown
from onnxcam.inspection.detection import find_boxes
from onnxcam.inspection.follow import Trace, channel_axes
from onnxcam.inspection.joining import joined_score
from onnxcam.inspection.parts import Score
from onnxcam.inspection.roles import places
from onnxcam.inspection.walk import ints, origin, plain, shape_of

_ENDINGS = {"Softmax": "softmax", "LogSoftmax": "softmax", "Sigmoid": "sigmoid"}
_CARRIES = frozenset({
    "ArgMax", "Cast", "DequantizeLinear", "Dropout", "Flatten", "Identity", "QuantizeLinear", "Reshape", "Squeeze",
    "TopK", "Unsqueeze", "ZipMap",
})  # fmt: skip
_RESHAPES = frozenset({"Identity", "Reshape", "Unsqueeze"})
_COORDINATES = 10  # corners of a box, or five points
_NORMS = frozenset({"LpNormalization", "ReduceL2"})


def find_scores(
    forward: Forward,
    traces: Mapping[str, Trace] | None = None,
    names: int | None = None,
    metadata: Mapping[str, str] | None = None,
    *,
    bare: bool = False,
) -> tuple[Score, ...]:
    """What each output says before its last Softmax or Sigmoid, the best to explain first.

    That is the one with the boxes of a detector, then those with one row of classes a sample; a few plain numbers, such
    as the corners of a face, come after what a Softmax or Sigmoid reads. `traces` say what axes stand for, `names` is
    how many classes the file names, `bare` a model of one picture without an axis for samples.
    """
    boxes = joined_score(forward) or find_boxes(forward, names, metadata or {})
    producers = forward.producers()
    found = [s for output in forward.outputs if (s := _score(forward, producers, output, bare))]
    if not found and boxes is None:
        raise ModelError("No output of the model is a float tensor that could be explained.")
    found = [_understood(forward, producers, s, traces or {}) for s in found]
    named = {None} if names is None else {names, names + 1, names + 2}  # a background, a blank and a space have no name
    found.sort(
        key=lambda s: (
            names is not None and s.classes not in named,
            sum(d != 1 for d in s.shape[1:]) != 1,
            s.activation is None and _few(s),
        )
    )
    return tuple(dict.fromkeys([boxes, *(s for s in found if s.output != boxes.output)] if boxes else found))


def _few(score: Score) -> bool:
    return score.classes is not None and score.classes <= _COORDINATES


def _score(forward: Forward, producers: Mapping[str, Node], output: str, bare: bool) -> Score | None:
    name, activation = output, None
    walk = output
    stands = shown(forward)
    while node := producers.get(walk):
        read = _read_by_ending(forward, producers, node)
        if read is not None:
            name, activation = stands.get(read, read), _ENDINGS.get(plain(node), "softmax")
            break
        if plain(node) not in _CARRIES and not (bare and _drops_samples(forward, node)):
            break
        walk = node.inputs[0]
        if node.op in ("ArgMax", "TopK"):
            name = walk
    if not forward.has_type(name) or not (forward.type(name).is_float or name in stands):
        return None
    last = producers.get(name)
    if bare and last is not None and _drops_samples(forward, last):
        name = last.inputs[0]
    return Score(name, output, forward.type(name).shape or (), activation)


def _read_by_ending(forward: Forward, producers: Mapping[str, Node], node: Node) -> str | None:
    """What a last Softmax or Sigmoid reads; also a Softmax in its parts: exp(x − max x) / Σ exp(x − max x)."""
    if plain(node) in _ENDINGS:
        return node.inputs[0]
    if node.op != "Div":
        return None
    power, total = producers.get(node.inputs[0]), origin(producers, node.inputs[1], _RESHAPES)
    if power is None or power.op != "Exp" or total is None or total.op != "ReduceSum":
        return None
    over = _reduced(forward, total)
    samples = {0} if len(shape_of(forward, total.inputs[0])) > 1 else set()
    if total.inputs[0] != node.inputs[0] or len(over) != 1 or over == samples:
        return None
    less = producers.get(power.inputs[0])
    most = origin(producers, less.inputs[1], _RESHAPES) if less is not None and less.op == "Sub" else None
    if less is None or most is None or most.op != "ReduceMax" or most.inputs[0] != less.inputs[0]:
        return power.inputs[0]
    return less.inputs[0] if over <= _reduced(forward, most) else power.inputs[0]


def _reduced(forward: Forward, node: Node) -> set[int]:
    """The axes longer than 1 that a reduction is taken over."""
    shape = shape_of(forward, node.inputs[0])
    axes: Iterable[int] = range(len(shape))
    if "axes" in node.attributes:
        axes = ints(node.attributes["axes"])
    elif len(node.inputs) > 1 and node.inputs[1]:
        known = forward.constant(node.inputs[1])
        axes = () if known is None else (int(a) for a in known.reshape(-1))
    return {a % len(shape) for a in axes if -len(shape) <= a < len(shape) and shape[a] != 1}


def _drops_samples(forward: Forward, node: Node) -> bool:
    """Whether a node takes the one sample of a batch out of it."""
    if node.op not in ("Gather", "Reshape", "Squeeze"):
        return False
    names = node.inputs[0], node.outputs[0]
    before, after = (forward.type(name).shape if forward.has_type(name) else None for name in names)
    return after is not None and before == (1, *after)


def _understood(forward: Forward, producers: Mapping[str, Node], score: Score, traces: Mapping[str, Trace]) -> Score:
    """The score with its kind and the axis of its classes."""
    channels = channel_axes(traces)
    dims = len(score.shape)
    if dims == 3 and _steps_first(forward, score.shape):
        return replace(score, kind="sequence", axis=2, samples=1)
    if dims == 3 and _softmax_axis(producers, forward, score) == 2 and not _crowded(traces, score.tensor):
        return replace(score, kind="sequence", axis=2)
    if dims >= 4 and any(d != 1 for d in score.shape[2:]):
        axis = channels.get(score.tensor, 1)
        return replace(score, kind="regions", axis=axis)
    if dims == 2 and score.activation is None and _is_embedding(producers, score):
        return replace(score, kind="embedding")
    if dims == 3 and channels.get(score.tensor) == 2:
        return replace(score, kind="regions", axis=2)  # tokens, as of a backbone without a head
    node = producers.get(score.tensor)
    if dims == 3 and node is not None and channels.get(node.inputs[0]) == 1 and _drops_channel(forward, node):
        return replace(score, tensor=node.inputs[0], shape=forward.type(node.inputs[0]).shape or (), kind="regions")
    return score


def _crowded(traces: Mapping[str, Trace], name: str) -> bool:
    """Whether the second axis has places of several axes of the picture: they are no steps of a text."""
    return name in traces and len({p.axis for p in places(traces[name].roles[1]) if p.size != 1}) > 1


def _drops_channel(forward: Forward, node: Node) -> bool:
    """Whether a node takes the one channel out of a map, as of a depth at every place."""
    before, after = (forward.type(name).shape or () for name in (node.inputs[0], node.outputs[0]))
    return node.op in ("Gather", "Reshape", "Squeeze") and before[1:2] == (1,) and (*before[:1], *before[2:]) == after


def _steps_first(forward: Forward, shape: Shape) -> bool:
    """Whether a score (steps, samples, classes) has the samples of the images second, as recurrent layers have them."""
    images = [s for name in forward.inputs if (s := forward.type(name).shape) and len(s) == 4]
    samples = {s[0] for s in images}
    return len(samples) == 1 and shape[1] in samples and shape[0] not in samples and shape[2] != 1


def _softmax_axis(producers: Mapping[str, Node], forward: Forward, score: Score) -> int | None:
    """The axis of the Softmax that reads a score of three axes."""
    if score.activation != "softmax":
        return None
    reader = next((n for n in forward.consumers().get(score.tensor, []) if plain(n) in _ENDINGS), None)
    if reader is None:
        return None
    return int(str(reader.attributes.get("axis", -1 if reader.version >= 13 else 1))) % 3


def _is_embedding(producers: Mapping[str, Node], score: Score) -> bool:
    """Whether a vector is an embedding: by its name, or because it is brought to length 1."""
    node = producers.get(score.tensor)
    if node is not None and node.op == "Div":
        walk = producers.get(node.inputs[1])
        while walk is not None and walk.op in ("Clip", "Expand", "Max", "Add", "Identity"):
            walk = producers.get(walk.inputs[0])
        if walk is not None and (walk.op in _NORMS or walk.op == "Sqrt"):
            return True
    named = re.search(r"embed|descriptor", f"{score.tensor} {score.output}", re.IGNORECASE)
    return (node is not None and node.op in _NORMS) or named is not None


def zipped_names(forward: Forward) -> dict[str, str]:
    """Class names of a dictionary of probabilities, as metadata would have them."""
    for node in forward.nodes:
        given = node.attributes.get("classlabels_strings") or node.attributes.get("classlabels_int64s")
        if node.op == "ZipMap" and isinstance(given, list):
            names = [name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in given]
            return {"labels": json.dumps(names)}
    return {}


def named_score(forward: Forward, name: str, found: tuple[Score, ...] = ()) -> Score:
    """The score of that tensor name. Raises InputError where no operator makes it, or where it holds integers.

    One of `found`, by its tensor or its output, is understood as it was there.
    """
    made = [o for node in forward.nodes for o in node.outputs if o and forward.has_type(o)]
    if name not in made:
        named = [s.tensor for s in find_scores(forward)] + forward.outputs
        raise unknown("score tensor", name, [*named, *(o for o in made[::-1] if forward.type(o).is_float)])
    if not (forward.type(name).is_float or name in shown(forward)):
        raise InputError(f"Tensor '{name}' holds integers and cannot be the score: it has no gradient.")
    for score in found:
        if score.tensor == name:
            return score
    node = next((n for n in forward.nodes if n.op in _ENDINGS and n.inputs[0] == name), None)
    return Score(name, name, forward.type(name).shape or (), _ENDINGS[node.op] if node else None)
