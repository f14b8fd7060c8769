"""The heat map as a subgraph: a method's one formula, traced over the graph's own activation and gradient."""

from collections.abc import Mapping, Sequence

from onnx import TensorProto

from onnxcam.errors import InputError
from onnxcam.evidence import Array, Evidence
from onnxcam.grad.tensor import Tape, Value, op
from onnxcam.head import linear_head
from onnxcam.heatmap import heatmap, resize
from onnxcam.inspection import Input, Layer
from onnxcam.layout import spatial
from onnxcam.methods import METHODS, find
from onnxcam.methods.array import space
from onnxcam.plan import Plan, Recipe
from onnxcam.traced import Traced, enlarged, size_of


def drawn(floats: Plan, recipe: Recipe, tape: Tape, gradients: Mapping[str, Value]) -> Value:
    """The heat map (N, *size) of one class, by the method's own formula."""
    method = find(recipe.method or "gradcam")
    if not method.graph:
        able = ", ".join(m.name for m in METHODS.values() if m.graph)
        raise InputError(f"Method '{method.name}' cannot live in a graph: its formula needs arrays. These can: {able}.")
    picture = floats.inspection.sees(floats.layers[0])
    size = None if picture is None else size_of(tape.value(picture.name), picture.space)
    raws = []
    for layer in floats.layers:
        activation = spatial(Traced(tape.value(layer.tensor)), layer, size)
        gradient = spatial(Traced(gradients[layer.tensor]), layer, size) if gradients else None
        weights = _head(floats, layer, gradient) if method.uses == "weights" else None
        raws.append(method(Evidence(activation, gradient, weights), **recipe.options))
    finished: Value = heatmap(raws, lambda m: _enlarged(m, floats, picture, recipe, tape)).value
    if recipe.dtype == "uint8":
        return op.Cast(finished * 255.0 + 0.5, to=TensorProto.UINT8)
    return finished


def _head(floats: Plan, layer: Layer, gradient: Array) -> Array:
    """The row of the linear head (N, K): what the gradient of a score W·mean(A) sums to over space."""
    linear_head(floats.forward, layer, floats.score)
    return gradient.__array_namespace__().sum(gradient, axis=space(gradient))


def _enlarged(maps: Traced, floats: Plan, picture: Input | None, recipe: Recipe, tape: Tape) -> Traced:
    if recipe.size == "layer" or picture is None:
        return maps if len(floats.layers) == 1 else _resized(maps, floats.layers[0].grid, None, [])
    return _resized(maps, picture.size, tape.value(picture.name), picture.space)


def _resized(maps: Traced, size: Sequence[int | str], like: Value | None, axes: Sequence[int]) -> Traced:
    known = [d for d in size if isinstance(d, int)]
    if len(known) == len(size) and all(isinstance(d, int) for d in maps.shape[1:]):
        resized: Traced = resize(maps, known)
        return resized
    if like is None:
        raise InputError("The layers' grids are known only when the model runs: choose one layer, or size 'input'.")
    return enlarged(maps, like, axes)
