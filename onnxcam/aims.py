"""Targets in the graph of a plan: the inputs that they add, and what they make of the score."""

from collections.abc import Mapping, Sequence

from onnxcam.choice import FLOAT, INT32, INT64
from onnxcam.grad.infer import Type
from onnxcam.grad.shapes import as_type
from onnxcam.grad.tensor import Tape, Value, op
from onnxcam.inspection import Inspection, Score
from onnxcam.targets import Goal
from onnxcam.targets.goal import TARGET, Answer, Array, Scene
from onnxcam.targets.places import MASK

NUMBER, FOUND = "cam/number", "cam/found/"


def parameters(goals: Sequence[Goal]) -> dict[str, Array]:
    """The inputs of targets and their defaults; those of one name are one input."""
    return {name: default for goal in goals for name, default in goal.inputs.items()}


def declared(name: str, default: Array) -> Type:
    """The type of an input: any number of rows, and masks of any size."""
    dtype = INT64 if default.dtype.kind in "iu" else FLOAT
    rest = [f"{name}/{i}" if name.startswith(MASK) else d for i, d in enumerate(default.shape)][1:]
    return Type(dtype, ("cam/targets" if name == TARGET else f"{name}/rows", *rest))


def answers(
    goals: Sequence[Goal], score: Score, inspection: Inspection, tape: Tape, given: Mapping[str, Value]
) -> list[Answer]:
    """What each of the targets makes of the score."""
    pictures = [i for i in inspection.inputs if i.layout]
    seen = inspection.sees(inspection.layers[0]) if inspection.layers else None
    scene = Scene(tape.value(score.tensor), score, seen or (pictures[0] if pictures else None))
    return [goal.answer(scene, {name: given[name] for name in goal.inputs}) for goal in goals]


def findings(found: Sequence[Answer]) -> dict[str, Value]:
    """By names of outputs: the number explained [N], and what was chosen; [N, K, …] for K targets of a sample."""
    rows: dict[str, list[Value]] = {NUMBER: [a.number for a in found]}
    for name in found[0].found:
        rows[FOUND + name] = [a.found[name] for a in found]
    return {name: as_type(_beside(values), FLOAT) for name, values in rows.items()}


def chosen_classes(found: Sequence[Answer]) -> Value:
    """The classes that are explained, int64 [N], or [N, K] for K targets; −1 where a target has none."""
    classes = [a.found["class"] if "class" in a.found else as_type(a.number * 0.0 - 1.0, INT32) for a in found]
    return as_type(_beside(classes), INT64)


def _beside(values: Sequence[Value]) -> Value:
    """[N] as it is, or those of K targets as [N, K]."""
    if len(values) == 1:
        return values[0]
    return op.Concat(*(op.Unsqueeze(v, axes=[1]) for v in values), axis=1)
