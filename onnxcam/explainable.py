"""The explainable model: the original, and with it what explains it, as one ONNX file that needs nothing of ours."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import onnxcam
from onnxcam.aims import answers, chosen_classes, declared, findings, parameters
from onnxcam.drawing import drawn
from onnxcam.errors import InputError, UnsupportedGradient
from onnxcam.grad.infer import Type
from onnxcam.grad.precision import Precision
from onnxcam.grad.prepare import hold, prepare
from onnxcam.grad.quantized import dequantized
from onnxcam.grad.reverse import missing, pullback
from onnxcam.grad.tensor import Tape, Value, op
from onnxcam.inspection.walk import HELD
from onnxcam.methods import find
from onnxcam.model import graft
from onnxcam.original import VERSION, remember
from onnxcam.plan import CLASS, EXPLAIN, HEATMAP, SCORE, Plan, Recipe
from onnxcam.target import TOP, best, class_index, picked, top_k
from onnxcam.targets.goal import TARGET


def extend(chosen: Plan, recipe: Recipe) -> onnx.ModelProto:
    """The explainable model of a plan."""
    forward = chosen.forward
    count = top_k(recipe.target) if isinstance(recipe.target, str) and not recipe.goals else None
    count = len(recipe.goals) if len(recipe.goals) > 1 else count
    plain = None if count is not None or recipe.goals else recipe.target
    index = TOP if plain is None else class_index(plain, chosen.score, chosen.inspection.labels)
    outer = Tape(forward, "cam")
    tape = outer.within("explanation") if recipe.gate else outer
    defaults = parameters(recipe.goals if _aims(recipe) else ())
    if plain is not None and _differentiates(recipe):
        defaults[TARGET] = np.array([index], np.int64)
    if recipe.required and not (defaults or recipe.gate):
        raise InputError(
            "Nothing to require (--required): a file for 'topK', or for activations alone, has no input 'cam/target'."
        )
    _refuse_taken(chosen, [*defaults, EXPLAIN])
    inputs = {name: outer.input(name, declared(name, default)) for name, default in defaults.items()}
    given = {name: tape.of(name, value.type) for name, value in inputs.items()}
    if recipe.gate:
        defaults[EXPLAIN] = np.array([True])
        inputs[EXPLAIN] = outer.input(EXPLAIN, Type(TensorProto.BOOL, (1,)))
    named = _explained(chosen, recipe, tape, given, count)
    _refuse_taken(chosen, named)
    if recipe.gate:
        named = _gated(outer, tape, named, inputs[EXPLAIN])
    outputs = [outer.rename(value, name) for name, value in named.items()] if not recipe.gate else list(named.values())
    result = graft(chosen.source.proto, outer.nodes, outer.tensors([*inputs.values()]), outer.tensors(outputs))
    if not recipe.required:
        result.graph.initializer.extend(numpy_helper.from_array(default, name) for name, default in defaults.items())
    _describe(result, chosen, recipe, index)
    return result


# ----- what is computed -----
def _explained(
    chosen: Plan, recipe: Recipe, tape: Tape, given: Mapping[str, Value], count: int | None
) -> dict[str, Value]:
    """Everything that the recipe emits, by the name of its output."""
    for node in chosen.forward.added:
        tape.copy(node, [chosen.forward.type(name) for name in node.output])
    emit, floats = recipe.emit, _in_floats(chosen, tape)
    found: dict[str, Value] = {}
    gradients: list[dict[str, Value]] = []
    classes: Value | None = None
    aimed = answers(recipe.goals, floats.score, floats.inspection, tape, given) if _aims(recipe) else []
    if _differentiates(recipe):
        classes, gradients = _gradients(floats, recipe, tape, given.get(TARGET), count, [a.seed for a in aimed])
    for layer in floats.layers:
        if "activation" in emit:
            found[f"cam/activation/{layer.name}"] = tape.value(layer.tensor)
        if "gradient" in emit:
            found[f"cam/gradient/{layer.name}"] = _stacked([g[layer.tensor] for g in gradients], count)
    if "score" in emit:
        found[SCORE] = tape.value(floats.score.tensor)
        found |= findings(aimed) if aimed else {}
    if "heatmap" in emit:
        maps = [drawn(floats, recipe, tape, g) for g in gradients or [{}]]
        found[HEATMAP] = _of_samples(_stacked(maps, count), floats)
    if "class" in emit and classes is not None:
        found[CLASS] = _of_samples(classes if count else op.Squeeze(classes, axes=[1]), floats)
    if "class" in emit and aimed:
        found[CLASS] = _of_samples(chosen_classes(aimed), floats)
    return found


def _aims(recipe: Recipe) -> bool:
    """Whether targets are written into the graph."""
    return bool(recipe.goals) and (_differentiates(recipe) or "score" in recipe.emit)


def _differentiates(recipe: Recipe) -> bool:
    by_method = "heatmap" in recipe.emit and find(recipe.method or "gradcam").uses != "activation"
    return by_method or "gradient" in recipe.emit or "class" in recipe.emit


def _gradients(
    floats: Plan, recipe: Recipe, tape: Tape, target: Value | None, count: int | None, seeds: list[Value]
) -> tuple[Value | None, list[dict[str, Value]]]:
    """The classes that are explained, and for each the gradient at every layer, by its tensor; or for each seed."""
    forward, score = floats.forward, floats.score.tensor
    wrt = [layer.tensor for layer in floats.layers]
    prepare(forward, tape, keep=wrt, of=score)
    hold(forward, tape, HELD)
    if not seeds and count is not None and floats.score.classes is not None and count > floats.score.classes:
        raise InputError(f"'{recipe.target}' asks for more classes than the {floats.score.classes} of '{score}'.")
    classes, of = None, tape.value(score)
    if not seeds:
        classes, seeds = best(of, count or 1) if target is None else picked(of, target)
    _refuse_missing(floats)
    precision = Precision.of(forward, recipe.arithmetic)
    tape.wide = precision.wide
    gradients = []
    for seed in seeds:
        found = pullback(forward, tape, score, precision.enter(seed), wrt)
        gradients.append({name: precision.leave(g, forward.type(name).dtype) for name, g in found.items()})
    return classes, gradients


def _stacked(values: Sequence[Value], count: int | None) -> Value:
    """One value as it is, or those of `count` classes side by side: (N, K, …)."""
    if count is None:
        return values[0]
    columns = [op.Unsqueeze(v, axes=[1]) for v in values]
    return op.Concat(*columns, axis=1) if len(columns) > 1 else columns[0]


def _of_samples(value: Value, floats: Plan) -> Value:
    """`value` with its first axis under the name that the model's input has for it."""
    first = floats.inspection.inputs[0]
    samples = floats.forward.type(first.name).shape
    if first.bare or not samples or isinstance(value.shape[0], int) or not isinstance(samples[0], str):
        return value
    return value.tape.retype(value, Type(value.dtype, (samples[0], *value.shape[1:])))


def _gated(outer: Tape, tape: Tape, named: Mapping[str, Value], explain: Value) -> dict[str, Value]:
    """The same in an If on `cam/explain`; where that is false, every output is there and empty."""
    bodies = []
    for kind in ("then", "else"):
        inner = tape if kind == "then" else outer.within(kind)
        values = []
        for value in named.values():
            dims = [0, *(d if isinstance(d, int) else 0 for d in value.shape[1:])]
            made = value if kind == "then" else inner.constant(np.zeros(dims), value.dtype)
            values.append(inner.rename(made, inner.fresh(kind)))
        bodies.append(inner.written([], values))
    node = helper.make_node("If", [explain.name], list(named), "cam/If", then_branch=bodies[0], else_branch=bodies[1])
    types = [Type(v.dtype, (f"cam/rows/{i}", *v.shape[1:])) for i, v in enumerate(named.values())]
    return dict(zip(named, outer.copy(node, types), strict=True))


def _in_floats(chosen: Plan, tape: Tape) -> Plan:
    """The plan with the tensors that integers stand for."""
    layers = tuple(replace(x, tensor=dequantized(x.tensor, chosen.forward, tape)) for x in chosen.layers)
    score = replace(chosen.score, tensor=dequantized(chosen.score.tensor, chosen.forward, tape))
    return replace(chosen, layers=layers, score=score)


# ----- what is refused -----
def _refuse_missing(chosen: Plan) -> None:
    """Raise where operators have no gradient, naming all of them and the layer that would work."""
    forward, score = chosen.forward, chosen.score.tensor
    lost = missing(forward, score, [layer.tensor for layer in chosen.layers])
    if not lost:
        return
    working = next((x.name for x in chosen.inspection.layers if not missing(forward, score, [x.tensor])), None)
    way = f"Choose the layer '{working}'" if working else "Use a method without a gradient: eigencam, scorecam"
    raise UnsupportedGradient(f"No gradient for {', '.join(map(str, lost))}. {way}.")


def _refuse_taken(chosen: Plan, names: Iterable[str]) -> None:
    for name in names:
        if chosen.forward.taken(name):
            raise InputError(
                f"The model has a tensor '{name}' already: it is explainable as it is. Convert the original instead."
            )


def _describe(result: onnx.ModelProto, chosen: Plan, recipe: Recipe, index: int) -> None:
    """Metadata that says all one needs to run the file elsewhere, and to take it apart again."""
    about: dict[str, object] = {
        VERSION: onnxcam.__version__,
        "cam.layers": [layer.name for layer in chosen.layers],
        "cam.score": chosen.score.tensor,
        "cam.emit": list(recipe.emit),
    }
    if recipe.target is not None:
        about["cam.target"] = recipe.target if recipe.goals or top_k(str(recipe.target)) else index
    if recipe.method is not None or "heatmap" in recipe.emit:
        about["cam.method"] = recipe.method or "gradcam"
    if recipe.options:
        about["cam.options"] = dict(recipe.options)
    remember(result, chosen.source)
    present = {p.key for p in result.metadata_props}
    for key, value in about.items():
        if key not in present:
            result.metadata_props.add(key=key, value=value if isinstance(value, str) else json.dumps(value))
