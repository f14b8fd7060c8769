"""One box of a detector, whatever its head: the seed is the slope of the score of the box that plain numpy chooses."""

import numpy as np
import pytest

from onnxcam.errors import InputError
from onnxcam.inspection import Boxes
from onnxcam.targets.boxes import Box
from tests.targeted import asked, plain, slope

# Two pictures, 60 wide and 40 high, with boxes (x0, y0, x1, y1) and a certainty of three classes for each of them.
CORNERS = np.float32([
    [[2, 3, 12, 13], [30, 10, 50, 30], [31, 11, 52, 31], [5, 20, 25, 38], [3, 3, 13, 14]],
    [[10, 10, 20, 20], [0, 0, 60, 40], [40, 5, 55, 35], [41, 6, 55, 33], [22, 22, 30, 30]],
])  # fmt: skip
SURE = np.float32([
    [[0.1, 0.7, 0.05], [0.9, 0.1, 0.2], [0.85, 0.3, 0.1], [0.2, 0.3, 0.6], [0.2, 0.65, 0.1]],
    [[0.5, 0.1, 0.1], [0.1, 0.2, 0.3], [0.3, 0.95, 0.1], [0.4, 0.8, 0.1], [0.45, 0.2, 0.55]],
])  # fmt: skip


def area(b):
    return (b[2] - b[0]) * (b[3] - b[1])


def iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inside = max(width, 0) * max(height, 0)
    return inside / (area(a) + area(b) - inside)


def choose(corners, sure, cls=-1, index=-1, near=None, rank=0):
    """The box and the class of one picture, by plain loops; None where there is no such box."""
    if index >= 0:
        return (index, int(sure[index].argmax()) if cls < 0 else cls) if index < len(sure) else None
    certainty = [max(row) if cls < 0 else row[cls] for row in sure]
    worth = [c * (iou(b, near) if near else 1) for b, c in zip(corners, certainty, strict=True)]
    order = sorted(range(len(worth)), key=lambda i: -worth[i])
    kept = []
    for i in order:
        if worth[i] > 0 and all(iou(corners[i], corners[j]) <= 0.45 for j in kept):
            kept.append(i)
    if rank >= len(kept):
        return None
    return kept[rank], int(sure[kept[rank]].argmax()) if cls < 0 else cls


def centred(corners):
    a, b = corners[..., :2], corners[..., 2:]
    return np.concatenate([(a + b) / 2, b - a], -1)


def rows(corners, sure):
    objectness = np.sqrt(sure.max(-1, keepdims=True))
    return np.concatenate([centred(corners), objectness, sure / objectness, 0 * objectness + 0.3], -1)


def columns(corners, sure):
    return np.concatenate([centred(corners), sure], -1).transpose(0, 2, 1)


def listed(corners, sure):
    classes = sure.argmax(-1)[..., None].astype(np.float32)
    return np.concatenate([corners, sure.max(-1, keepdims=True), classes], -1)


def logits(sure):
    return np.log(sure / (1 - sure))


def of_rows(y, n, b, c):
    return y[n, b, 4] * y[n, b, 5 + c]


FRACTIONS = np.float32([60, 40, 60, 40])
# head: (tensors, how they are read, activation, axis of the classes, the number of box b and class c)
HEADS = {
    "YOLOv5": ({"y": rows(CORNERS, SURE)}, Boxes("rows", "y", "cxcywh", classes=3), None, 2, of_rows),
    "YOLOv8": (
        {"y": columns(CORNERS, SURE)},
        Boxes("columns", "y", "cxcywh", classes=3),
        None,
        1,
        lambda y, n, b, c: y[n, 4 + c, b],
    ),
    "YOLOv8 with masks": (
        {"y": np.concatenate([columns(CORNERS, SURE), np.full((2, 2, 5), 0.9, np.float32)], 1)},
        Boxes("columns", "y", "cxcywh", classes=3),
        None,
        1,
        lambda y, n, b, c: y[n, 4 + c, b],
    ),
    "end to end": ({"y": listed(CORNERS, SURE)}, Boxes("list", "y"), None, 1, lambda y, n, b, c: y[n, b, 4]),
    "DETR without nothing": (
        {"y": logits(SURE), "corners": centred(CORNERS) / FRACTIONS},
        Boxes("apart", "corners", "cxcywh", "fractions", classes=3),
        None,
        2,
        lambda y, n, b, c: y[n, b, c],
    ),
    "classes first": (
        {"y": logits(SURE).transpose(0, 2, 1), "corners": CORNERS},
        Boxes("classes first", "corners", classes=3),
        "sigmoid",
        1,
        lambda y, n, b, c: y[n, c, b],
    ),
    "chosen": (
        {"y": SURE.max(-1), "corners": CORNERS, "labels": SURE.argmax(-1)},
        Boxes("few", "corners", labels="labels"),
        None,
        1,
        lambda y, n, b, c: y[n, b],
    ),
    "chosen, of one picture": (
        {"y": SURE[0].max(-1), "corners": CORNERS[0], "labels": SURE[0].argmax(-1)},
        Boxes("few", "corners", labels="labels"),
        None,
        0,
        lambda y, n, b, c: y[b],
    ),
}
ASKED = {
    "best": {},
    "class": {"cls": 2},
    "another class": {"cls": 0},
    "number": {"index": 3},
    "near": {"near": (38.0, 4.0, 57.0, 36.0)},
    "class near": {"cls": 2, "near": (4.0, 20.0, 30.0, 36.0)},
    "second": {"rank": 1},
    "third": {"rank": 2},
}
ONE_CLASS = ("end to end", "chosen", "chosen, of one picture")  # heads that know one class for each box


@pytest.mark.parametrize("wanted", ASKED)
@pytest.mark.parametrize("head", HEADS)
def test_the_seed_is_the_slope_of_the_chosen_box(head, wanted):
    tensors, boxes, activation, axis, number = HEADS[head]
    tensors = {k: v.astype(np.float32 if v.dtype.kind == "f" else np.int64) for k, v in tensors.items()}
    pictures = 1 if "one picture" in head else 2
    sure = SURE * np.eye(3)[SURE.argmax(-1)] if head in ONE_CLASS else SURE
    expected = [choose(CORNERS[n], sure[n], **ASKED[wanted]) for n in range(pictures)]
    score = plain(tensors["y"], activation, axis, boxes)
    found = asked(Box(**ASKED[wanted]), tensors, score)

    def total(y):
        return sum(number(y, n, *e) for n, e in enumerate(expected) if e)

    np.testing.assert_allclose(found["seed"], slope(total, tensors["y"]), atol=1e-5)
    numbers = [number(tensors["y"], n, *e) if e else 0 for n, e in enumerate(expected)]
    np.testing.assert_allclose(found["number"], numbers, rtol=1e-5)
    assert found["index"].tolist() == [e[0] if e else -1 for e in expected]
    known = [e if e and head not in ONE_CLASS else e and (e[0], sure[n, e[0]].argmax()) for n, e in enumerate(expected)]
    assert found["class"].tolist() == [e[1] if e else -1 for e in known]
    corners = [CORNERS[n, e[0]] if e else [0] * 4 for n, e in enumerate(expected)]
    np.testing.assert_allclose(found["box"], corners, atol=1e-4)


@pytest.mark.parametrize("opset", [11, 13, 18])
def test_every_opset_with_a_class_and_a_box_for_each_picture(opset):
    for head in ("YOLOv5", "YOLOv8", "end to end", "classes first", "chosen"):
        tensors, boxes, activation, axis, _ = HEADS[head]
        tensors = {k: v.astype(np.float32 if v.dtype.kind == "f" else np.int64) for k, v in tensors.items()}
        near = [(2.0, 2.0, 12.0, 12.0), (12.0, 12.0, 22.0, 21.0)]
        given = {"cam/target": np.int64([1, 0]), "cam/box": np.float32(near)}
        score = plain(tensors["y"], activation, axis, boxes)
        found = asked(Box(near=(0, 0, 1, 1)), tensors, score, given=given, opset=opset)
        sure = SURE * np.eye(3)[SURE.argmax(-1)] if head in ONE_CLASS else SURE
        expected = [choose(CORNERS[n], sure[n], c, near=near[n])[0] for n, c in enumerate([1, 0])]
        assert found["index"].tolist() == expected, head


def test_what_was_chosen_once_is_chosen_again_by_its_number():
    """As methods need it that mask the picture: the box must stay the same."""
    tensors, boxes, activation, axis, number = HEADS["YOLOv5"]
    first = asked(Box(cls=2), tensors, plain(tensors["y"], activation, axis, boxes))
    fainter = {"y": tensors["y"] * np.linspace(0, 1, 5, dtype=np.float32)[:, None]}
    given = {"cam/index": first["index"].astype(np.int64), "cam/target": first["class"].astype(np.int64)}
    again = asked(Box(), fainter, plain(tensors["y"], activation, axis, boxes), given=given)
    assert again["index"].tolist() == first["index"].tolist()
    expected = [number(fainter["y"], n, int(b), 2) for n, b in enumerate(first["index"])]
    np.testing.assert_allclose(again["number"], expected, rtol=1e-5)


def test_no_object_is_no_class():
    """DETR: softmax over the classes and, last, nothing; SSD: nothing first."""
    scores = np.float32([[[1, 5, 0, 9], [2, 4, 1, 3], [0, 0, 3.5, 0]]])
    corners = centred(CORNERS[:1, :3]) / FRACTIONS
    for turned, nothing in ((scores, 3), (scores[..., [3, 0, 1, 2]], 0)):
        boxes = Boxes("apart", "corners", "cxcywh", "fractions", classes=4, background=nothing)
        found = asked(Box(), {"y": turned, "corners": corners}, plain(turned, None, 2, boxes))
        assert found["index"].tolist() == [2]  # e^3.5 of 3 others at e^0 is more certain than e^4 beside e^3
        assert found["class"].tolist() == [2 + (nothing == 0)]
        np.testing.assert_allclose(found["certainty"], np.exp(3.5) / (np.exp(3.5) + 3), rtol=1e-5)


def test_tensorflow_has_its_corners_in_another_order():
    corners = CORNERS[:, :, [1, 0, 3, 2]] / np.float32([40, 60, 40, 60])
    tensors = {"y": SURE.max(-1), "corners": corners, "labels": SURE.argmax(-1).astype(np.float32)}
    boxes = Boxes("few", "corners", "yxyx", "fractions", labels="labels")
    found = asked(Box(near=(38, 4, 57, 36)), tensors, plain(tensors["y"], None, 1, boxes))
    np.testing.assert_allclose(found["box"], CORNERS[[0, 1], [2, 2]], atol=1e-4)


def test_no_box_at_all():
    tensors = {"y": np.zeros(0, np.float32), "corners": np.zeros((0, 4), np.float32), "labels": np.zeros(0, np.int64)}
    boxes = Boxes("few", "corners", labels="labels")
    found = asked(Box(), tensors | {"image": np.zeros((1, 3, 40, 60), np.float32)}, plain(tensors["y"], None, 0, boxes))
    assert (found["index"].tolist(), found["number"].tolist(), found["seed"].shape) == ([-1], [0], (0,))


def test_coordinates_of_an_unknown_form_are_not_compared():
    tensors, _, _, _, _ = HEADS["classes first"]
    boxes = Boxes("classes first", "corners", None, classes=3)
    tensors = {k: v.astype(np.float32) for k, v in tensors.items()}
    with pytest.raises(InputError, match="Nothing in the model tells what the coordinates in 'corners' are"):
        asked(Box(near=(0, 0, 1, 1)), tensors, plain(tensors["y"], None, 1, boxes))
    assert asked(Box(), tensors, plain(tensors["y"], None, 1, boxes))["index"].tolist() == [1, 2]


def test_a_box_of_something_else():
    y = np.zeros((2, 3), np.float32)
    with pytest.raises(InputError, match="'y' is not the output of a detector"):
        asked(Box(), {"y": y}, plain(y))
