"""The explainable model: the original, and with it what explains it, as one ONNX file that needs nothing of ours."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

import onnxcam
from onnxcam.errors import InputError, ModelError, UnsupportedGradient, unknown
from onnxcam.grad.forward import Forward
from onnxcam.grad.infer import Type
from onnxcam.grad.precision import Arithmetic, Precision
from onnxcam.grad.prepare import prepare
from onnxcam.grad.quantized import dequantized
from onnxcam.grad.reverse import missing, pullback
from onnxcam.grad.tensor import Tape
from onnxcam.inspection import Inspection, Layer, Score, look
from onnxcam.methods import find
from onnxcam.model import ModelLike, Source, graft, read, write
from onnxcam.target import TOP, class_index, one_hot

EMITS = ("activation", "gradient", "score")
TARGET = "cam/target"
SCORE = "cam/score"


@dataclass(frozen=True)
class Plan:
    """What is explained: layers and score of a model, chosen by name or automatically."""

    source: Source
    forward: Forward
    inspection: Inspection
    layers: tuple[Layer, ...]
    score: Score


def plan(model: ModelLike, layers: str | Sequence[str] = "auto", score: str = "auto") -> Plan:
    """Choose layers and score. Raises InputError for unknown names, ModelError where there is nothing to choose."""
    source = read(model)
    forward = Forward(source.proto, source.folder)
    inspection = look(source, forward, score)
    names = [layers] if isinstance(layers, str) else list(dict.fromkeys(layers))
    if names == ["auto"]:
        if not inspection.layers:
            raise ModelError(
                "The model has no feature map with a spatial extent on the way to its score: nothing to draw a map on."
            )
        chosen = inspection.layers[:1]
    elif names:
        chosen = tuple(dict.fromkeys(inspection.layer(name) for name in names))
    else:
        raise InputError("No layer is given. Give a name of `onnxcam inspect`, or leave the choice to 'auto'.")
    return Plan(source, forward, inspection, chosen, inspection.scores[0])


def convert(
    model: ModelLike,
    output: str | os.PathLike[str] | None = None,
    *,
    layers: str | Sequence[str] = "auto",
    target: int | str | None = None,
    score: str = "auto",
    method: str | None = None,
    emit: Sequence[str] | None = None,
    arithmetic: Arithmetic = "auto",
) -> onnx.ModelProto:
    """Extend a model so that it returns what explains it, and write it to `output` where that is given.

    Inputs: the original's, and `cam/target`: int64 [1] or [N], optional, −1 for the top class; its default is `target`.
    Outputs: the original's in order, then for each layer what `emit` names: `cam/activation/<layer>` and
    `cam/gradient/<layer>`, of the layer's own shape; with "score" also `cam/score`, the tensor that is explained.
    With `method`, emits what that method needs; `arithmetic` is that of `onnxcam.vjp`.
    Raises InputError for a layer, class or emission that is not there, ModelError for a model without a feature map on
    the way to its score, and UnsupportedGradient naming every operator on the way without a gradient.
    """
    chosen = plan(model, layers, score)
    extended = extend(chosen, TOP if target is None else target, _emitted(method, emit), method, arithmetic)
    if output is not None:
        write(extended, output, chosen.source)
    return extended


def extend(
    chosen: Plan,
    target: int | str = TOP,
    emit: Sequence[str] = EMITS,
    method: str | None = None,
    arithmetic: Arithmetic = "auto",
) -> onnx.ModelProto:
    """The explainable model of a plan."""
    forward = chosen.forward
    index = class_index(target, chosen.score, chosen.inspection.labels)
    _refuse_collisions(chosen, emit)
    tape = Tape(forward, "cam")
    given, chosen = chosen, _in_floats(chosen, tape)
    inputs, outputs = [], []
    if "gradient" in emit:
        prepare(forward, tape, keep=[layer.tensor for layer in chosen.layers], of=chosen.score.tensor)
        wanted = tape.input(TARGET, Type(TensorProto.INT64, ("cam/targets",)))
        inputs.append(wanted)
        seed = one_hot(tape.value(chosen.score.tensor), wanted)
        _refuse_missing(chosen)
        precision = Precision.of(forward, arithmetic)
        tape.wide = precision.wide
        wrt = [layer.tensor for layer in chosen.layers]
        found = pullback(forward, tape, chosen.score.tensor, precision.enter(seed), wrt)
        gradients = {name: precision.leave(g, forward.type(name).dtype) for name, g in found.items()}
    for layer in chosen.layers:
        if "activation" in emit:
            outputs.append(tape.rename(tape.value(layer.tensor), f"cam/activation/{layer.name}"))
        if "gradient" in emit:
            outputs.append(tape.rename(gradients[layer.tensor], f"cam/gradient/{layer.name}"))
    if "score" in emit:
        outputs.append(tape.rename(tape.value(chosen.score.tensor), SCORE))
    result = graft(chosen.source.proto, tape.nodes, tape.tensors(inputs), tape.tensors(outputs))
    if inputs:
        result.graph.initializer.append(numpy_helper.from_array(np.array([index], np.int64), TARGET))
    _describe(result, given, index, emit, method)
    return result


def _in_floats(chosen: Plan, tape: Tape) -> Plan:
    """The plan with the tensors that integers stand for."""
    layers = tuple(replace(x, tensor=dequantized(x.tensor, chosen.forward, tape)) for x in chosen.layers)
    score = replace(chosen.score, tensor=dequantized(chosen.score.tensor, chosen.forward, tape))
    return replace(chosen, layers=layers, score=score)


def _emitted(method: str | None, emit: Sequence[str] | None) -> Sequence[str]:
    if emit is None:
        return ("activation", "gradient") if method is None or find(method).uses == "gradient" else ("activation",)
    for name in emit:
        if name not in EMITS:
            raise unknown("output to emit", name, EMITS)
    if not emit:
        raise InputError(f"Nothing to emit. There is: {', '.join(EMITS)}.")
    return emit


def _refuse_missing(chosen: Plan) -> None:
    """Raise where operators have no gradient, naming all of them and the layer that would work."""
    forward, score = chosen.forward, chosen.score.tensor
    lost = missing(forward, score, [layer.tensor for layer in chosen.layers])
    if not lost:
        return
    working = next((x.name for x in chosen.inspection.layers if not missing(forward, score, [x.tensor])), None)
    way = f"Choose the layer '{working}'" if working else "Use a method without a gradient: eigencam, scorecam"
    raise UnsupportedGradient(f"No gradient for {', '.join(map(str, lost))}. {way}.")


def _refuse_collisions(chosen: Plan, emit: Sequence[str]) -> None:
    names = [f"cam/{e}/{layer.name}" for e in emit for layer in chosen.layers]
    for name in (TARGET, SCORE, *names):
        if chosen.forward.taken(name):
            raise InputError(
                f"The model has a tensor '{name}' already: it is explainable as it is. Convert the original instead."
            )


def _describe(result: onnx.ModelProto, chosen: Plan, index: int, emit: Sequence[str], method: str | None) -> None:
    """Metadata that says all one needs to run the file elsewhere."""
    about: dict[str, object] = {
        "cam.version": onnxcam.__version__,
        "cam.source_sha256": chosen.source.sha256,
        "cam.layers": [layer.name for layer in chosen.layers],
        "cam.score": chosen.score.tensor,
        "cam.target": index,
        "cam.emit": list(emit),
    }
    if method is not None:
        about["cam.method"] = method
    if chosen.inspection.labels is not None:
        about["cam.classes"] = list(chosen.inspection.labels)
    present = {p.key for p in result.metadata_props}
    for key, value in about.items():
        if key not in present:
            result.metadata_props.add(key=key, value=value if isinstance(value, str) else json.dumps(value))
