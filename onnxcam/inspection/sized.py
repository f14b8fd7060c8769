"""Shapes for pictures of one size, where the model leaves it open: tokens, windows and rolls are told apart by numbers.

The size is the one that preprocessing makes. Some models declare an open size and take one only, which their position
embeddings have: where a size contradicts the graph, another one that is common does not.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from onnxcam.grad.forward import Forward
from onnxcam.grad.infer import Type
from onnxcam.inspection.parts import Input, Layer, Score
from onnxcam.model import Source
from onnxcam.preprocessing import Preprocess

_SIDES = (224, 256, 384, 336, 448, 512, 518, 192, 640)  # of published models, the commonest first


def at_size(source: Source, forward: Forward, inputs: Sequence[Input], made: Preprocess | None) -> Forward:
    """The graph for pictures of the size that preprocessing makes; the graph itself where they all have a size."""
    pictures = [i for i in inputs if i.layout]
    if all(isinstance(d, int) for i in pictures for d in i.size) or any(len(i.size) != 2 for i in pictures):
        return forward
    edge = None if made is None else made.shortest_edge
    size = None if made is None else made.size or (edge and (edge, edge))
    for height, width in [size, *((n, n) for n in _SIDES if size != (n, n))] if size else ():
        known = {i.name: Type(forward.type(i.name).dtype, i.of_size((height, width))) for i in pictures}
        found = forward.again(source.proto, known)
        if found.misused.keys() <= forward.misused.keys():
            return found
    return forward


def opened(
    forward: Forward, given: Iterable[Input], layers: Iterable[Layer], scores: Iterable[Score]
) -> tuple[tuple[Layer, ...], tuple[Score, ...]]:
    """What was found at one size, with the shapes that the graph `forward` leaves open; folds say their size."""
    sizes = {i.size for i in given if i.layout}
    at = next(iter(sizes)) if len(sizes) == 1 else ()
    found = []
    for layer in layers:
        if layer.fold is not None:
            found.append(replace(layer, fold=replace(layer.fold, at=at)))
            continue
        shape = forward.type(layer.tensor).shape or layer.shape
        kept = layer.shape[layer.channel_axis]
        found.append(replace(layer, shape=tuple(kept if a == layer.channel_axis else d for a, d in enumerate(shape))))
    return tuple(found), tuple(_opened(forward, score) for score in scores)


def _opened(forward: Forward, score: Score) -> Score:
    """The score in its own shape; grids of one size are none of the others."""
    boxes = score.boxes
    boxes = replace(boxes, cells=(), form=None) if boxes is not None and boxes.cells else boxes
    return replace(score, shape=forward.type(score.tensor).shape or score.shape, boxes=boxes)
