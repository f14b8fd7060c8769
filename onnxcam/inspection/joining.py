"""One tensor of the scores of all boxes, for detectors that have outputs of their own for each size of boxes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnxcam.grad.forward import Forward
from onnxcam.grad.infer import Type
from onnxcam.inspection.detection import find_boxes
from onnxcam.inspection.parts import Boxes, Input, Score
from onnxcam.inspection.pieces import MOVES, Level, Piece, find_levels, is_certain
from onnxcam.inspection.towers import levels_of
from onnxcam.inspection.walk import origin, shape_of
from onnxcam.model import Source

SCORES = "cam/scores"
_OPSET = 10
_SIDE = 640  # of the pictures that levels are told by, where the model leaves their size open
_DISTANCES = 64  # four distributions over 16 steps, as YOLO has them from version 8 on
_YOLO = "of YOLO"
_OBJECTNESS = 4  # where it stands beside coordinates and classes


def joined(
    source: Source, forward: Forward, inputs: Sequence[Input], names: int | None, said: Mapping[str, str]
) -> Forward:
    """The graph with `cam/scores` (N, boxes, classes), the certainty of every box; itself where that is no such model.

    Boxes are numbered from the finest level on, in the order of its rows. `names` is how many classes the file names in
    what is `said` by its metadata.
    """
    pictures = [i for i in inputs if i.batched.layout in ("NCHW", "NHWC") and len(i.size) == 2]
    if len(pictures) != 1 or forward.opsets[""] < _OPSET or forward.taken(SCORES):
        return forward
    picture, sized = pictures[0], forward
    alone = picture.batched.shape[0] == 1
    if sum(_has_places(forward, o, alone) for o in forward.outputs) < 2:
        return forward
    size = [d if isinstance(d, int) else _SIDE for d in picture.size]
    if tuple(size) != picture.size:  # read once more, for that
        known = {picture.name: Type(forward.type(picture.name).dtype, picture.of_size(size))}
        sized = forward.again(source.proto, known)
    levels = find_levels(sized, size, alone, names)
    whole = find_boxes(sized, names, said) if levels else None
    told = {p.name for level in levels for p in (level.classes, level.sure, level.corners) if p}
    if not levels or (whole is not None and whole.output not in told):
        return forward
    writer = _Writer(sized)
    writer.write("Concat", [writer.scores(level) for level in levels], SCORES, axis=1)
    if all(level.corners is None or level.corners.width == _DISTANCES for level in levels):
        writer.nodes[-1].doc_string = _YOLO
    return forward.followed_by(writer.nodes, SCORES)


def _has_places(forward: Forward, output: str, alone: bool) -> bool:
    """Whether an output may have places: beside samples and numbers, or instead of samples where one is `alone`."""
    shape = shape_of(forward, output)
    return len(shape) > 2 or (len(shape) == 2 and alone and shape[0] != 1)


def joined_score(forward: Forward) -> Score | None:
    """The score that `joined` has made."""
    if SCORES not in forward.outputs:
        return None
    shape = forward.type(SCORES).shape or ()
    classes = shape[2] if isinstance(shape[2], int) else None
    own = [node for node in forward.nodes if node.name.startswith(SCORES)]
    yolo = forward.added[-1].doc_string == _YOLO
    makers = [origin(forward.producers(), node.outputs[0], MOVES) for node in own]
    softmax = any(node is not None and node.op == "Softmax" for node in makers)
    boxes = Boxes("certain", "", None, classes=classes, background=0 if softmax else None, yolo=yolo)
    boxes = replace(boxes, levels=tuple(levels_of(forward, SCORES)))
    return Score(SCORES, SCORES, shape, None, "boxes", 2, boxes)


class _Writer:
    """Nodes behind the outputs of `forward`."""

    def __init__(self, forward: Forward) -> None:
        self.forward, self.nodes = forward, list[onnx.NodeProto]()

    def write(self, op: str, inputs: Sequence[str], name: str = "", **attributes: Any) -> str:
        """One node; the name of what it makes."""
        name = name or f"{SCORES}/{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name, **attributes))
        return name

    def constant(self, values: Sequence[int]) -> str:
        """Whole numbers."""
        return self.write("Constant", [], value=numpy_helper.from_array(np.array(values, np.int64)))

    def scores(self, level: Level) -> str:
        """The certainty of each class for each box of a level, (N, boxes, classes)."""
        if level.corners is None:
            rows = self.rows(level.classes, level.anchors)
            first = _OBJECTNESS + 1
            sure, classes = self.cut(rows, _OBJECTNESS, first), self.cut(rows, first, first + level.count)
            return self.write("Mul", [sure, classes])
        classes = self.rows(level.classes, level.anchors)
        return classes if level.sure is None else self.write("Mul", [self.rows(level.sure, level.anchors), classes])

    def rows(self, piece: Piece, anchors: int) -> str:
        """A piece as (N, boxes, numbers), each of 0..1."""
        name, rank = piece.name, len(self.forward.type(piece.name).shape or ())
        if not is_certain(self.forward, piece):
            name = self.write("Sigmoid", [name])
        if rank == 3 and piece.axis == 1:
            return self.write("Transpose", [name], perm=[0, 2, 1])
        if rank == 4 and piece.axis == 1:
            name = self.reshape(name, [0, anchors, piece.width // anchors, -1])
            name = self.write("Transpose", [name], perm=[0, 3, 1, 2])
        lead = 1 if rank == 2 else 0
        return self.reshape(name, [lead, -1, piece.width // (anchors if rank == 4 else 1)])

    def reshape(self, name: str, shape: Sequence[int]) -> str:
        """The same in another shape."""
        return self.write("Reshape", [name, self.constant(shape)])

    def cut(self, name: str, start: int, end: int) -> str:
        """Columns of rows."""
        return self.write("Slice", [name, *(self.constant([n]) for n in (start, end, 2))])
