"""Detectors whose answers for each size of boxes are outputs of their own: which output says what, level by level.

Exports for edge devices leave out what comes after the last convolutions: RetinaNet, FCOS, NanoDet, PicoDet, SCRFD and
YuNet, and YOLO for RKNN, NCNN or DeepStream. A level has half the height and width of the one before, and the same
outputs. What cannot be told is left open rather than guessed.
"""

import re
from collections import defaultdict
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from math import prod

from onnxcam.grad.forward import Forward
from onnxcam.grad.node import Node
from onnxcam.inspection.walk import descendants, origin, plain, shape_of

_STRIDES = tuple(2**n for n in range(2, 9))
_MOST_ANCHORS = 9
_ANCHORS = 3  # of YOLOv3 to v7, where they share an axis with what they say
_MOST_LEVELS = 4  # of these: a pyramid of features has more
_BEHIND = (0, 32, 51)  # behind the classes: nothing, weights of masks, or points of a body
_COCO = 80  # classes, of which there are so many models that their number tells
_LOW = -1.0  # of a bias: a probability of 0.27
_COARSE = 8  # pixels of the smallest step
MOVES = frozenset({
    "Cast", "Clip", "Concat", "DequantizeLinear", "Flatten", "Identity", "QuantizeLinear", "Reshape", "Slice", "Split",
    "Squeeze", "Transpose", "Unsqueeze",
})  # fmt: skip
_BINS = (64, 32, 68)  # four distances, each a distribution over 16 steps, as YOLO has them, or 8 or 17
_POINTS = 10  # five landmarks of a face
_NAMED = {
    "corners": re.compile(r"(?<![a-z])(b?box|reg|loc|dist|dfl)", re.IGNORECASE),
    "classes": re.compile(r"(?<![a-z])(cls|class|score|prob|logit|conf)", re.IGNORECASE),
    "sure": re.compile(r"(?<![a-z])(obj|ctr|cent(er|re)ness|iou)", re.IGNORECASE),
    "others": re.compile(r"(?<![a-z])(seg|mask|edge|flow|disp|depth|heat|hm)", re.IGNORECASE),
    "points": re.compile(r"(?<![a-z])(kps|kpt|landm|keyp|point)", re.IGNORECASE),
}


@dataclass(frozen=True)
class Piece:
    """An output, or a part of one, of one level: `count` places along `axes`, `width` numbers at each along `axis`.

    `anchors` is how many boxes a place has, along an axis of their own before or after the places, or within `axis`.
    """

    name: str
    count: int
    axes: tuple[int, ...]
    axis: int
    width: int
    anchors: int = 1

    @property
    def kind(self) -> tuple[object, ...]:
        """What it has in common with the same piece of another level."""
        return self.axes, self.axis, self.width, self.anchors


@dataclass(frozen=True)
class Level:
    """What is known at each place of one level.

    classes: scores of `count` classes for each of `anchors` boxes. sure: whether there is a thing, where that is said
    apart. corners: coordinates. Where `classes` holds all three, as of YOLOv3 to v7, the others are None.
    """

    classes: Piece
    count: int
    anchors: int = 1
    sure: Piece | None = None
    corners: Piece | None = None


def find_levels(forward: Forward, size: Sequence[int], alone: bool, names: int | None) -> list[Level]:
    """The levels of a detector, the finest first; none where the outputs are something else.

    `size` is that of the pictures, which come one by one where they are `alone`; `names` how many classes are named.
    """
    looks = (_Look(forward, size, alone, row) for row in (1, 2))
    return next((found for look in looks if (found := _levels(look, names))), [])


@dataclass(frozen=True)
class _Look:
    """What pieces are told by: the size of pictures, whether they are `alone`, and the axis of places in a row."""

    forward: Forward
    size: Sequence[int]
    alone: bool
    row: int


def _levels(look: _Look, names: int | None) -> list[Level]:
    forward, size = look.forward, look.size
    by_count: dict[int, list[Piece]] = defaultdict(list)
    for piece in _pieces(look):
        by_count[piece.count].append(piece)
    groups = [by_count[count] for count in sorted(by_count, reverse=True)]
    if len(groups) < 2 or not _halve([g[0] for g in groups], size):
        return []
    kinds = [sorted(map(str, (p.kind for p in group))) for group in groups]
    if any(k != kinds[0] for k in kinds):
        return []
    levels = [_level(forward, group, names, size) for group in groups]
    found = [level for level in levels if level is not None]
    together = [level for level in found if level.corners is None and level.classes.anchors != level.anchors]
    return found if len(found) == len(levels) and len(together) <= _MOST_LEVELS else []


def _pieces(look: _Look) -> Iterator[Piece]:
    """The outputs with places at the steps of a level; what is joined from several numbers a place, in its parts."""
    forward = look.forward
    producers = forward.producers()
    for output in forward.outputs:
        piece = _piece(look, output)
        node = producers.get(output)
        parts = [_piece(look, i) for i in node.inputs] if node and node.op == "Concat" else []
        if piece is not None and node is not None and parts and all(p and p.axis == piece.axis for p in parts):
            along = int(str(node.attributes.get("axis", 1))) % len(forward.type(output).shape or ())
            yield from (filter(None, parts) if along == piece.axis else [piece])
        elif piece is not None:
            yield piece


def _piece(look: _Look, name: str) -> Piece | None:
    forward = look.forward
    if not forward.has_type(name) or not forward.type(name).is_float:
        return None
    shape = forward.type(name).shape or ()
    forms: dict[int, list[tuple[tuple[int, ...], int, int | None]]] = {
        5: [((2, 3), 4, 1), ((1, 2), 4, 3)],
        4: [((2, 3), 1, None), ((1, 2), 3, None)],
        3: [((look.row,), 3 - look.row, None)],
        2: [((0,), 1, None)] if look.alone else [],
    }
    for axes, axis, anchors in forms.get(len(shape), []):
        places = [d for d in (shape[a] for a in axes) if isinstance(d, int)]
        width, boxes = shape[axis], 1 if anchors is None else shape[anchors]
        if len(places) < len(axes) or not isinstance(width, int) or not isinstance(boxes, int) or boxes > _MOST_ANCHORS:
            continue
        if any(_at(places, look.size, s, a) for s, a in product(_STRIDES, range(1, _MOST_ANCHORS + 1))):
            return Piece(name, prod(places), axes, axis, width, boxes)
    return None


def _at(places: Sequence[int], size: Sequence[int], stride: int, anchors: int) -> bool:
    """Whether these are the places of a level: height and width, or all of them with their anchors in a row."""
    low, high = ([(d + more) // stride for d in size] for more in (0, stride - 1))
    if len(places) == 2:
        return anchors == 1 and all(p in (a, b) for p, a, b in zip(places, low, high, strict=True))
    return places[0] > 0 and places[0] in (anchors * prod(low), anchors * prod(high))


def _halve(firsts: Sequence[Piece], size: Sequence[int]) -> bool:
    """Whether the steps of each level are twice as long as of the one before, with as many boxes at each place."""
    grids = [(p.count, len(p.axes)) for p in firsts]
    for anchors in range(1, _MOST_ANCHORS + 1):
        steps = [[s for s in _STRIDES if _at([count], size, s, anchors if axes == 1 else 1)] for count, axes in grids]
        if all(any(2 * a in later for a in sooner) for sooner, later in pairwise(steps)):
            return True
    return False


# ----- which piece says what -----
def _level(forward: Forward, pieces: Sequence[Piece], names: int | None, size: Sequence[int]) -> Level | None:
    if len(pieces) == 1:
        return _all_in_one(forward, pieces[0], names, size)
    low = {p.name for p in pieces if _is_low(forward, p, slice(None))}
    active = {p.name for p in pieces if is_certain(forward, p)}
    corners = _corners([p for p in pieces if p.name not in low | active] or pieces, pieces, names)
    rest = [p for p in pieces if p is not corners and not _said(p, "points")]
    scores = {p.name for p in rest if _said(p, "classes") or p.width == names} | low | active
    rest = [p for p in rest if p.width != _POINTS or p.name in scores] or rest
    if corners is None or not rest:
        return None
    anchors = _per_place(corners)
    classes = _classes(rest, anchors, names, low | active)
    head = _convolution(forward, classes)
    made = descendants(forward, [classes.name] if head is None else head.outputs)  # YOLO for RKNN sums its classes
    narrow = [p for p in rest if p is not classes and p.width == anchors and p.name not in made]
    sure = narrow[0] if len(narrow) == 1 and corners.width not in _BINS else None
    said = [_said(classes, "classes"), _said(corners, "corners"), sure is not None and _said(sure, "sure")]
    shown = (low or active) and corners.name not in active and not _is_fine(classes, size)
    known = names is not None or sum(said) > 1 or shown
    if classes.width % anchors or not known or _mixes_boxes(forward, classes) or _said(classes, "others"):
        return None
    return Level(classes, classes.width // anchors, anchors, sure, corners)


def _classes(rest: Sequence[Piece], anchors: int, names: int | None, certain: Container[str]) -> Piece:
    """The scores of the classes, of what is not coordinates: by name, by number, else the widest.

    Three numbers for each of several points are no classes, where another piece is `certain` and they are not.
    """
    for able in (
        [p for p in rest if _said(p, "classes")],
        [p for p in rest if names is not None and p.width == names * anchors],
        [p for p in rest if p.width == anchors and p.name in certain]
        if all(p.width % 3 == 0 and p.name not in certain for p in rest if p.width != anchors)
        else [],
    ):
        if len(able) == 1:
            return able[0]
    return max(rest, key=lambda p: (not _said(p, "sure"), p.width))


def _is_low(forward: Forward, piece: Piece, part: slice, every: int | None = None) -> bool:
    """Whether scores are low where nothing is seen, by the bias of their convolution: most places hold nothing."""
    node = _convolution(forward, piece)
    if node is None or len(node.inputs) < 3:
        return False
    bias = forward.constant(node.inputs[2])
    if bias is None or bias.size % (every or piece.width):
        return False
    return float(bias.reshape(-1, every or piece.width)[:, part].mean()) < _LOW


def _mixes_boxes(forward: Forward, classes: Piece) -> bool:
    """Whether a Softmax is taken along another axis than that of the classes, as of (2, anchors) in RetinaFace."""
    node = origin(forward.producers(), classes.name, MOVES)
    if node is None or node.op != "Softmax":
        return False
    shape = shape_of(forward, node.outputs[0])
    along = int(str(node.attributes.get("axis", -1 if node.version >= 13 else 1))) % max(len(shape), 1)
    return along != classes.axis or shape[along : along + 1] != (classes.width,)


def is_certain(forward: Forward, piece: Piece) -> bool:
    """Whether a Sigmoid or a Softmax has made a piece certainties of 0..1."""
    node = origin(forward.producers(), piece.name, MOVES)
    return node is not None and plain(node) in ("HardSigmoid", "Sigmoid", "Softmax")


def _is_fine(piece: Piece, size: Sequence[int]) -> bool:
    """Whether a level has smaller steps than detectors have: what has an answer for almost every pixel has them."""
    return len(piece.axes) == 2 and any(_at([piece.count], size, s, 1) for s in _STRIDES if s < _COARSE)


def _per_place(corners: Piece) -> int:
    """How many boxes a place has, by the numbers that tell where they are."""
    return corners.width // 4 if len(corners.axes) == 2 and corners.width not in _BINS else 1


def _corners(candidates: Sequence[Piece], pieces: Sequence[Piece], names: int | None) -> Piece | None:
    """The coordinates: by name, or four distributions, four numbers, four numbers for each of several anchors.

    Another piece has the classes, as many as are named.
    """
    able = []
    for piece in candidates:
        widths = [
            piece.width == _BINS[0],
            piece.width in _BINS,
            piece.width == 4,
            piece.width % 4 == 0 and piece.width <= 4 * _MOST_ANCHORS,
        ]
        fits = names is None or any(p.width == names * _per_place(piece) for p in pieces if p is not piece)
        if True in widths and fits and not _said(piece, "classes") and not _said(piece, "points"):
            able.append((not _said(piece, "corners"), widths.index(True), piece))
    able.sort(key=lambda each: each[:2])
    return able[0][2] if able and [each[:2] for each in able].count(able[0][:2]) == 1 else None


def _all_in_one(forward: Forward, piece: Piece, names: int | None, size: Sequence[int]) -> Level | None:
    """Coordinates, objectness and classes of each anchor, as of YOLOv3 to v7."""
    anchors = piece.anchors
    if len(piece.axes) == 2 and len(forward.type(piece.name).shape or ()) == 4:
        if _is_fine(piece, size) or piece.width % _ANCHORS or not _pointwise(forward, piece):
            return None
        anchors, width = _ANCHORS, piece.width // _ANCHORS
        sure = slice(4, 5)
        if names is None and width != 5 + _COCO and not (width > 5 and _is_low(forward, piece, sure, width)):
            return None
    elif len(piece.axes) != 2:
        return None
    width = piece.width // anchors if piece.anchors == 1 and anchors > 1 else piece.width
    classes = width - 5 if names is None else names
    known = width - 5 - classes in _BEHIND and (names is not None or width != 5 + 1 + _POINTS)
    return Level(piece, classes, anchors) if known and classes >= 1 else None


def _convolution(forward: Forward, piece: Piece) -> Node | None:
    """The convolution that makes a piece, before its activation."""
    node = origin(forward.producers(), piece.name, MOVES | {"Sigmoid"})
    return node if node is not None and plain(node) == "Conv" else None


def _pointwise(forward: Forward, piece: Piece) -> bool:
    """Whether a convolution of single places makes a piece."""
    node = _convolution(forward, piece)
    return node is not None and set(shape_of(forward, node.inputs[1])[2:]) == {1}


def _said(piece: Piece, what: str) -> bool:
    return _NAMED[what].search(piece.name) is not None
