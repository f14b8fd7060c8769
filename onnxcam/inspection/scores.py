"""Scores: what a model says before its last Softmax or Sigmoid."""

from collections.abc import Mapping

from onnxcam.errors import InputError, ModelError, unknown
from onnxcam.grad.forward import Forward, Node
from onnxcam.grad.quantized import shown
from onnxcam.inspection.parts import Score
from onnxcam.inspection.walk import plain

_ENDINGS = {"Softmax": "softmax", "LogSoftmax": "softmax", "Sigmoid": "sigmoid"}
_CARRIES = frozenset({
    "ArgMax", "Cast", "DequantizeLinear", "Dropout", "Flatten", "Identity", "QuantizeLinear", "Reshape", "Squeeze",
    "TopK", "Unsqueeze",
})  # fmt: skip


def find_scores(forward: Forward) -> tuple[Score, ...]:
    """What each output says before its last Softmax or Sigmoid; outputs with one row of classes a sample come first."""
    producers = forward.producers()
    found = [s for output in forward.outputs if (s := _score(forward, producers, output))]
    if not found:
        raise ModelError("No output of the model is a float tensor that could be explained.")
    found.sort(key=lambda s: sum(d != 1 for d in s.shape[1:]) != 1)
    return tuple(dict.fromkeys(found))


def _score(forward: Forward, producers: Mapping[str, Node], output: str) -> Score | None:
    name, activation = output, None
    walk = output
    stands = shown(forward)
    while (node := producers.get(walk)) and plain(node) in _CARRIES | _ENDINGS.keys():
        walk = node.inputs[0]
        if plain(node) in _ENDINGS:
            name, activation = stands.get(walk, walk), _ENDINGS[plain(node)]
            break
        if node.op in ("ArgMax", "TopK"):
            name = walk
    if not forward.has_type(name) or not (forward.type(name).is_float or name in stands):
        return None
    return Score(name, output, forward.type(name).shape or (), activation)


def named_score(forward: Forward, name: str) -> Score:
    """The score of that tensor name. Raises InputError with the closest names, or where it holds integers."""
    if not forward.has_type(name):
        raise unknown(
            "score tensor", name, [s.tensor for s in find_scores(forward)] + forward.outputs + forward.names()
        )
    if not (forward.type(name).is_float or name in shown(forward)):
        raise InputError(f"Tensor '{name}' holds integers and cannot be the score: it has no gradient.")
    node = next((n for n in forward.nodes if n.op in _ENDINGS and n.inputs[0] == name), None)
    return Score(name, name, forward.type(name).shape or (), _ENDINGS[node.op] if node else None)
