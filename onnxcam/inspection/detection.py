"""Detectors: which outputs hold boxes, and what their axes mean, from shapes, names and the graph.

Coordinates come in an output of their own, four wide, beside scores (torchvision, DETR, SSD), or as the first four
columns of one output (YOLO). What cannot be told is left open rather than guessed.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain

from onnxcam.grad.forward import Forward
from onnxcam.grad.node import Node
from onnxcam.inspection.parts import Boxes, Layout, Score
from onnxcam.inspection.towers import levels_of
from onnxcam.inspection.walk import ancestors, origin, plain, shape_of

_ENDINGS = {"Softmax": "softmax", "LogSoftmax": "softmax", "Sigmoid": "sigmoid"}
_CARRIES = frozenset({"Cast", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
_CHOOSES = frozenset({"NonMaxSuppression", "TopK"})
_COCO_OF_DETR = 92  # 91 numbers of COCO and one for no object


def find_boxes(forward: Forward, names: int | None, metadata: Mapping[str, str]) -> Score | None:
    """The score of a detector; None for other models. `names` is how many classes the file names."""
    corners = [o for o in forward.outputs if _is_float(forward, o) and _coordinates(forward, o)]
    corners.sort(key=lambda o: not re.search(r"box|loc|det", o, re.IGNORECASE))
    beside = (_chosen(forward, output) or _apart(forward, output, names) for output in corners)
    packed = (_packed(forward, output, names, metadata) for output in forward.outputs)
    found = next((score for score in chain(beside, packed) if score), None)
    if found is None or found.boxes is None:
        return None
    boxes = replace(found.boxes, levels=tuple(levels_of(forward, found.tensor)))
    cells = _cells(forward, boxes.levels, found.shape[1]) if boxes.raw else ()
    return replace(found, boxes=replace(boxes, cells=cells, form="cxcywh" if cells else boxes.form))


def _chosen(forward: Forward, corners: str) -> Score | None:
    """Boxes that the graph has chosen: a score and a class number beside the corners of each."""
    shape = shape_of(forward, corners)
    others = [o for o in forward.outputs if o != corners and len(shape_of(forward, o)) == len(shape) - 1]
    numbers = [o for o in others if not _is_float(forward, o) or re.search(r"class|label", o, re.IGNORECASE)]
    scores = [o for o in others if _is_float(forward, o) and o not in numbers[:1]]
    if not numbers or not scores:
        return None
    scores.sort(key=lambda o: "score" not in o.lower())
    tensorflow = corners.startswith("detection_boxes")
    boxes = Boxes("few", corners, labels=numbers[0])
    boxes = replace(boxes, form="yxyx", unit="fractions") if tensorflow else boxes
    return Score(scores[0], scores[0], shape_of(forward, scores[0]), None, "boxes", boxes=boxes)


def _apart(forward: Forward, corners: str, names: int | None) -> Score | None:
    """Coordinates (N, boxes, 4) beside scores of every class."""
    shape = shape_of(forward, corners)
    if len(shape) != 3:
        return None
    producers = forward.producers()
    for output in forward.outputs:
        dims = shape_of(forward, output)
        if output == corners or len(dims) != 3 or not _is_float(forward, output):
            continue
        last = isinstance(dims[2], int) and dims[1] == shape[1]
        first = isinstance(dims[1], int) and dims[2] == shape[1]
        if not last and not first:
            last = isinstance(dims[2], int) and not isinstance(dims[1], int) and not isinstance(shape[1], int)
        if last or first:
            axis = 2 if last else 1
            tensor, activation = _before(forward, producers, output, axis)
            classes = dims[axis]
            assert isinstance(classes, int)  # noqa: S101 - one of the two conditions above
            centred = _ends_in(producers, corners, "Sigmoid")
            background = _background(activation, classes, names, centred)
            boxes = Boxes(
                "apart" if last else "classes first",
                corners,
                "cxcywh" if centred else None,
                "fractions" if centred else "pixels",
                classes,
                background=background,
            )
            return Score(tensor, output, shape_of(forward, tensor), activation, "boxes", axis, boxes)
    return None


def _background(activation: str | None, classes: int, names: int | None, centred: bool) -> int | None:
    """The class that means no object: the first behind a softmax, as in SSD, the last in DETR; None without one."""
    if activation == "softmax":
        return 0
    return classes - 1 if centred and (classes == _COCO_OF_DETR or names == classes - 1) else None


_PACKED: tuple[tuple[int, Layout, int], ...] = ((1, "columns", 4), (2, "rows", 5))


def _packed(forward: Forward, output: str, names: int | None, metadata: Mapping[str, str]) -> Score | None:
    """One output that holds coordinates and classes."""
    shape = shape_of(forward, output)
    if len(shape) != 3 or not _is_float(forward, output):
        return None
    reached = ancestors(forward, output)
    chooses = any(n.op in _CHOOSES and reached.intersection(n.outputs) for n in forward.nodes)
    if chooses and isinstance(shape[2], int) and shape[2] >= 6 and _fewer(shape[1], 1001):
        return Score(output, output, shape, None, "boxes", boxes=Boxes("list", output))
    widths = _widths(forward, output)
    said = "names" in metadata and "stride" in metadata
    for axis, layout, first in _PACKED:
        size, count = shape[axis], shape[3 - axis]
        if isinstance(size, int) and size > first and not _fewer(count, size + 1) and (said or size in widths):
            classes = names if names is not None and names + first <= size else size - first
            raw = layout == "rows" and _undecoded(forward, output)
            boxes = Boxes(layout, output, None if raw else "cxcywh", classes=classes)
            return Score(output, output, shape, None, "boxes", axis, boxes)
    return None


def _widths(forward: Forward, output: str) -> set[int]:
    """Widths of what was joined from coordinates, 4 or 2 and 2 wide, and more, on the way to `output`."""
    producers, found, waiting, seen = forward.producers(), set(), [output], 0
    while waiting and seen < 200:
        node, seen = producers.get(waiting.pop(0)), seen + 1
        if node is None or node.op not in _CARRIES | {"Concat"}:
            continue
        if node.op == "Concat":
            axis = int(str(node.attributes.get("axis", 1)))
            parts = [shape_of(forward, i) for i in node.inputs]
            sizes = [p[axis] if -len(p) <= axis < len(p) else None for p in parts]
            if sizes[:1] == [4] or sizes[:2] == [2, 2]:
                found.add(sum(s for s in sizes if isinstance(s, int)))
        waiting += node.inputs if node.op == "Concat" else node.inputs[:1]
    return found


def _undecoded(forward: Forward, output: str) -> bool:
    """Whether the coordinates are what convolutions made of them, offsets in a grid, as YOLOX is exported."""
    node = origin(forward.producers(), output, _CARRIES | {"Concat", "Slice"})
    return node is not None and plain(node) == "Conv"


def _cells(forward: Forward, levels: Sequence[str], count: int | str) -> tuple[tuple[int, int, int], ...]:
    """The grids of `count` boxes, one in each of its cells, the finest first; none where sizes are open."""
    images = [s[2:] for name in forward.inputs if len(s := shape_of(forward, name)) == 4]
    sizes = [shape_of(forward, name)[2:] for name in levels]
    if len(images) != 1 or not all(len(s) == 2 and all(isinstance(d, int) for d in s) for s in (*images, *sizes)):
        return ()
    image = images[0]
    cells = sorted(((int(h), int(w), int(image[0]) // int(h)) for h, w in sizes), reverse=True)
    return tuple(cells) if sum(h * w for h, w, _ in cells) == count else ()


def _before(forward: Forward, producers: Mapping[str, Node], output: str, axis: int) -> tuple[str, str | None]:
    """What is before a last Softmax or Sigmoid over the classes, and which of them it is."""
    node = origin(producers, output, ("Cast", "Identity"))
    if node is None or node.op not in _ENDINGS or len(shape_of(forward, node.inputs[0])) != 3:
        return output, None
    along = int(str(node.attributes.get("axis", -1 if node.version >= 13 else 1))) % 3
    fits = node.op == "Sigmoid" or (along == axis and (node.version >= 13 or axis == 2))
    return (node.inputs[0], _ENDINGS[node.op]) if fits else (output, None)


def _ends_in(producers: Mapping[str, Node], name: str, op: str) -> bool:
    node = origin(producers, name, _CARRIES | {"Gather", "Slice"})
    return node is not None and node.op == op


def _coordinates(forward: Forward, output: str) -> bool:
    shape = shape_of(forward, output)
    return len(shape) in (2, 3) and shape[-1] == 4


def _fewer(size: int | str, limit: int) -> bool:
    return isinstance(size, int) and size < limit


def _is_float(forward: Forward, name: str) -> bool:
    return forward.has_type(name) and forward.type(name).is_float
