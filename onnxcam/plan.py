"""What is to be explained, and how: the choices behind an explainable model, made by name or automatically."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from onnxcam.errors import InputError, ModelError, unknown
from onnxcam.grad.forward import Forward
from onnxcam.grad.infer import Shape, Type
from onnxcam.grad.precision import Arithmetic
from onnxcam.inspection import Informed, Inspection, Layer, Score, graph, look
from onnxcam.methods import find
from onnxcam.model import ModelLike, Source, read
from onnxcam.original import facts, without
from onnxcam.target import TOP
from onnxcam.targets import Goal, is_local

EMITS = ("activation", "gradient", "score", "heatmap", "class")
EXPLAIN = "cam/explain"
SCORE, HEATMAP, CLASS = "cam/score", "cam/heatmap", "cam/class"

DType = Literal["float32", "uint8"]
Size = Literal["input", "layer"]


@dataclass(frozen=True)
class Plan:
    """What is explained: layers and score of a model, chosen by name or automatically; `told` is what its file says."""

    source: Source
    forward: Forward
    inspection: Inspection
    layers: tuple[Layer, ...]
    score: Score
    told: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """What an explainable model returns: names of `EMITS`, and for the heat map how it is made.

    `target` is a class index or name, −1 the top class, or "topK" for K classes in one pass. With `gate`, all of it is
    computed only where the input `cam/explain` is true. `goals` are targets that are more than a class, one for each
    row of a sample; they come instead of `target`, which is then their text, None where they are the default. With
    `required`, the inputs that are added have no defaults.
    """

    emit: Sequence[str] = ("activation", "gradient")
    target: int | str | None = TOP
    method: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    dtype: DType = "float32"
    size: Size = "input"
    gate: bool = False
    arithmetic: Arithmetic = "auto"
    goals: tuple[Goal, ...] = ()
    required: bool = False

    def __post_init__(self) -> None:
        """Raise InputError for names that are not known."""
        for name in self.emit:
            if name not in EMITS:
                raise unknown("output to emit", name, EMITS)
        if not self.emit:
            raise InputError(f"Nothing to emit. There is: {', '.join(EMITS)}.")
        if self.dtype not in get_args(DType):
            raise unknown("heat map type", self.dtype, get_args(DType))
        if self.size not in get_args(Size):
            raise unknown("heat map size", self.size, get_args(Size))
        if "heatmap" not in self.emit and (self.dtype, self.size) != ("float32", "input"):
            raise InputError("Type and size are the heat map's: add 'heatmap' to what is emitted.")
        find(self.method or "gradcam").check(self.options)


def told_target(told: Mapping[str, str]) -> int | str | None:
    """The target that an explainable file was made for. Raises InputError where it has no text to be named by."""
    text = told.get("cam.target")
    if text == "":
        raise InputError("The file was made for a target that has no text, such as an array. Name a target.")
    return int(text) if text is not None and text.lstrip("-").isdigit() else text


def told_method(told: Mapping[str, str]) -> tuple[str | None, dict[str, object]]:
    """The method that an explainable file was made with, and its options; None where no file says one."""
    return told.get("cam.method"), json.loads(told.get("cam.options", "{}"))


def default_method(goals: Sequence[Goal]) -> str:
    """The method where none is named: Grad-CAM; HiResCAM for what is in one place, as a box is, and its gradient.

    Grad-CAM would average that over all places, and the weights that it gives the channels hold nowhere but there.
    """
    return "hirescam" if any(is_local(goal) for goal in goals) else "gradcam"


def plan(
    model: ModelLike, layers: str | Sequence[str] = "auto", score: str = "auto", informed: Informed | None = None
) -> Plan:
    """Choose layers and score; of an explainable file, what it was made with, on its original.

    `informed` adds to the graph what inference does not tell.
    Raises InputError for unknown names, ModelError where there is nothing to choose.
    """
    source = read(model)
    told = facts(source.proto)
    if told:
        source = without(source)
        layers = json.loads(told["cam.layers"]) if layers == "auto" else layers
        score = told["cam.score"] if score == "auto" else score
    forward = graph(source, told, informed)
    inspection = look(source, forward, score, told)
    _refuse_stacked(inspection)
    names = [layers] if isinstance(layers, str) or not isinstance(layers, Iterable) else list(dict.fromkeys(layers))
    if not all(isinstance(name, str) for name in names):
        raise InputError(f"A layer is named as `onnxcam inspect` does, not {layers!r}.")
    if names == ["auto"]:
        if not inspection.layers:
            flat = next((i.name for i in inspection.inputs if len(i.shape) == 3), None)
            hint = (
                "" if flat is None else f" If '{flat}' is grey pictures, export with an axis for the colour: N×1×H×W."
            )
            raise ModelError(
                "The model has no feature map with a spatial extent on the way to its score: nothing to draw a map on."
                + hint
            )
        levels = inspection.scores[0].boxes.levels if inspection.scores[0].boxes else ()
        chosen = tuple(x for x in inspection.layers if x.tensor in levels) or inspection.layers[:1]
    elif names:
        chosen = tuple(dict.fromkeys(inspection.layer(name) for name in names))
    else:
        raise InputError("No layer is given. Give a name of `onnxcam inspect`, or leave the choice to 'auto'.")
    return Plan(source, forward, inspection, chosen, inspection.scores[0], told)


def score_sizes(chosen: Plan) -> Shape:
    """The score's sizes beside that of the samples, by inference and as the file declares them."""
    output = next((o for o in chosen.source.proto.graph.output if o.name == chosen.score.output), None)
    declared = None if output is None else Type.of(output.type, output.name)
    return (*chosen.score.shape[1:], *((declared.shape or ())[1:] if declared is not None else ()))


def _refuse_stacked(inspection: Inspection) -> None:
    """Raise ModelError for a model that makes a batch of pictures that come one by one."""
    alone = [i.name for i in inspection.inputs if i.bare]
    batched = [x for x in inspection.layers if x.fold is None and isinstance(x.shape[0], int) and x.shape[0] > 1]
    if len(alone) > 1 and (batched or not inspection.layers):
        raise ModelError(
            f"The model stacks {' and '.join(repr(n) for n in alone)} to a batch. Export it for one picture, or for "
            "a batch N×C×H×W."
        )
