"""Targets as one writes them on the command line."""

import os
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from onnxcam.errors import InputError
from onnxcam.inspection import Score
from onnxcam.target import TOP, class_index, top_k
from onnxcam.targets.boxes import Box
from onnxcam.targets.classes import Class, Finer, LogOdds, Probability, Sum
from onnxcam.targets.goal import Array, Goal
from onnxcam.targets.places import Masked, Point, Rectangle, Region
from onnxcam.targets.sequences import Character, Step
from onnxcam.targets.vectors import Similarity, Towards, Weighted

GRAMMAR = """\
281, tabby         the score of a class; of a detector its best box; of classes at places, all of them
top, top5          the best one; the five best, a map for each
A - B, A + 0.5*B   why A rather than B: targets with weights
p:A odds:A         the probability of a class, its log-odds
finer:A            a class minus the classes that are most like it (Finer-CAM)
box:3              box number 3 of a detector
A@10,20,90,80      the box of class A that is most like this one: left, top, right, bottom; of places, those in it
A@30,40            classes at places: at the point x,y
A@predicted        where A is predicted
A@peak             where A is highest: keypoints
A@mask.png         in a mask: a picture of the same size as the photo, or an array in .npy
step:7 A@step:7    one step of a sequence
char:0             a character that is read
like:FILE dot:FILE how like a reference an embedding is, cosine or dot product: a photo, or an array in .npy
down:A A=3.5       an output down, or towards a value
seed:FILE          any weights of the score tensor, an array in .npy"""
_FORMS = 19  # columns of what is written, before what it means
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?"


@dataclass(frozen=True)
class Files:
    """What reads the files that a target names: a mask as (h, w) in 0..1, a photo's embedding as (D,)."""

    mask: Callable[[str], Array]
    embedding: Callable[[str], Array]


def array(path: str) -> Array:
    """The array of an .npy file. Raises InputError where there is none."""
    try:
        with open(path, "rb") as file:
            found = np.load(file, allow_pickle=False)
    except OSError as error:
        raise InputError(f"Cannot read the array '{path}': {error.strerror or error}.") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"Cannot read the array '{path}': it is no .npy file of numbers.") from error
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "biuf":
        what = f"an array of {found.dtype}" if isinstance(found, np.ndarray) else "an archive, as .npz is"
        raise InputError(f"'{path}' holds {what}. Save one array of numbers: numpy.save(path, array)")
    return found


def no_pictures(path: str) -> Array:
    """Where no picture can be read: `convert` writes a file and runs no model."""
    raise InputError(f"'{path}': give an array in .npy here. Pictures are read by `onnxcam explain`.")


ARRAYS = Files(no_pictures, no_pictures)


@dataclass(frozen=True)
class Reader:
    """Reads targets of one score; `labels` are its class names."""

    score: Score
    labels: tuple[str, ...] | None = None
    files: Files = ARRAYS

    def read(self, text: str) -> tuple[Goal, ...]:
        """The rows of a target, one goal for each map of a sample. Raises InputError, which lists what there is."""
        wanted = text.strip()
        if not self._is_label(wanted) and (ranks := top_k(wanted)):
            if self.score.kind != "boxes":
                raise InputError(f"No class '{text}' here: 'topK' is for all samples, of a row of classes or of boxes.")
            return tuple(Box(rank=rank) for rank in range(ranks))
        return (self._sum(wanted),)

    def default(self) -> Goal:
        """What is explained where nothing is said."""
        if self.score.kind == "sequence":
            return Character()
        return Similarity() if self.score.kind == "embedding" else self.of_class(TOP)

    def of_class(self, cls: int) -> Goal:
        """A class alone."""
        return Box(cls) if self.score.kind == "boxes" else Class(cls)

    def _sum(self, text: str) -> Goal:
        parts = [text] if self._is_label(text) else re.split(r"\s+([+-])\s+", text)
        terms = [self._term(parts[0], 1.0)]
        terms += [self._term(p, -1.0 if s == "-" else 1.0) for s, p in zip(parts[1::2], parts[2::2], strict=True)]
        return terms[0][1] if len(terms) == 1 and terms[0][0] == 1 else Sum(tuple(terms))

    def _term(self, text: str, sign: float) -> tuple[float, Goal]:
        weighted = None if self._is_label(text) else re.fullmatch(rf"({_NUMBER})\s*\*\s*(.+)", text)
        if weighted:
            return sign * float(weighted[1]), self._one(weighted[2])
        down = None if self._is_label(text) else re.fullmatch(r"(up|down):(.+)", text)
        if down:
            return sign * (-1.0 if down[1] == "down" else 1.0), self._one(down[2])
        return sign, self._one(text)

    def _one(self, text: str) -> Goal:
        if self._is_label(text):
            return self.of_class(self._class(text))
        word, colon, rest = text.partition(":")
        if colon and word in _WORDS:
            return _WORDS[word](self, rest)
        if colon and word.isalpha():
            raise self.wrong(text)
        who, at, where = text.rpartition("@")
        if at:
            return self._at(TOP if who in ("", "top") else self._class(who), where)
        towards = re.fullmatch(rf"(.+?)\s*=\s*({_NUMBER})", text)
        if towards:
            return Towards(float(towards[2]), self._class(towards[1]))
        return self.of_class(TOP if text == "top" else self._class(text))

    def _at(self, cls: int, where: str) -> Goal:
        """A class somewhere."""
        if where == "predicted":
            return Region(cls)
        if where == "peak":
            return Region(cls, "peak")
        if found := re.fullmatch(r"step:(\d+)", where):
            return Step(int(found[1]), cls)
        numbers = [float(n) for n in where.split(",")] if re.fullmatch(rf"{_NUMBER}(,{_NUMBER})+", where) else []
        if len(numbers) == 4:
            return self._near(cls, numbers)
        if len(numbers) == 2:
            return Point(numbers[0], numbers[1], cls)
        if numbers or not os.path.splitext(where)[1]:
            raise self.wrong(f"@{where}")
        return Masked(array(where) if where.endswith(".npy") else self.files.mask(where), cls)

    def _near(self, cls: int, corners: list[float]) -> Goal:
        left, top, right, bottom = corners
        if left >= right or top >= bottom:
            raise InputError(f"The box {corners} is empty: left, top, right and bottom are wanted, in pixels.")
        if self.score.kind == "boxes":
            return Box(cls, near=(left, top, right, bottom))
        return Rectangle(left, top, right, bottom, cls)

    def _is_label(self, text: str) -> bool:
        return text.casefold() in {name.casefold() for name in self.labels or ()}

    def _class(self, text: str) -> int:
        return TOP if text == "top" else class_index(text.strip(), self.score, self.labels)

    def number(self, text: str) -> int:
        """A number from 0 on."""
        if not re.fullmatch(r"\d+", text):
            raise InputError(f"'{text}' is no number: boxes, steps and characters have numbers from 0 on.")
        return int(text)

    def reference(self, path: str, *, dot: bool = False) -> Goal:
        """Similarity with what a file holds."""
        vector = array(path) if path.endswith(".npy") else self.files.embedding(path)
        return Similarity(vector.reshape(-1), "dot" if dot else "cosine")

    def classed(self, make: Callable[[int], Goal], text: str) -> Goal:
        """A target that takes a class."""
        return make(self._class(text))

    def wrong(self, text: str) -> InputError:
        """The error for what is no target."""
        forms = "; ".join(line[:_FORMS].strip() for line in GRAMMAR.splitlines())
        return InputError(f"'{text}' is no target. There is: {forms}.")


_WORDS: dict[str, Callable[[Reader, str], Goal]] = {
    "p": lambda reader, text: reader.classed(Probability, text),
    "odds": lambda reader, text: reader.classed(LogOdds, text),
    "finer": lambda reader, text: reader.classed(Finer, text),
    "box": lambda reader, text: Box(index=reader.number(text)),
    "char": lambda reader, text: Character(reader.number(text)),
    "step": lambda reader, text: Step(reader.number(text)),
    "like": Reader.reference,
    "dot": partial(Reader.reference, dot=True),
    "seed": lambda reader, text: Weighted(array(text)),
}
