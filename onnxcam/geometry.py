"""How a photograph is laid into a model's input, and how a map of that input is laid back. Numpy only.

The trap: a map is only in the right place if the geometry that made the input is undone exactly. So `Geometry` is the
one description of it, and both directions read it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxcam.resample import Size


@dataclass(frozen=True)
class Geometry:
    """Where a photo lies in a model's input: `input = photo · scale + offset`, in continuous pixels, (y, x)."""

    photo: Size
    resized: Size
    offset: Size  # of the resized photo's corner in the input: negative where it is cropped, positive where padded
    size: Size  # of the model's input

    @property
    def scale(self) -> tuple[float, float]:
        """Input pixels per photo pixel, (y, x)."""
        return self.resized[0] / self.photo[0], self.resized[1] / self.photo[1]

    @property
    def inside(self) -> tuple[slice, slice]:
        """The part of the input that shows the photo."""
        starts = [max(o, 0) for o in self.offset]
        stops = [min(o + r, n) for o, r, n in zip(self.offset, self.resized, self.size, strict=True)]
        return slice(starts[0], stops[0]), slice(starts[1], stops[1])

    @property
    def shown(self) -> tuple[slice, slice]:
        """The part of the resized photo that the input shows."""
        rows, columns = self.inside
        top, left = self.offset
        return slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)

    def restore(self, values: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Bring a map (h, w) of the input to the photo: (H, W) float32, linear, 0 where the input shows nothing of it.

        The padding's values are not mixed in at the photo's edges.
        """
        down, across = (self._reads(axis) for axis in (0, 1))
        return np.asarray(down @ np.asarray(values[self.inside], np.float32) @ across.T, np.float32)

    def _reads(self, axis: int) -> npt.NDArray[np.float32]:
        """How much each of the photo's pixels takes of each input pixel that shows it: half-pixel centres."""
        part, n = self.inside[axis], self.photo[axis]
        matrix = np.zeros((n, part.stop - part.start), np.float32)
        at = (np.arange(n) + 0.5) * self.scale[axis] + self.offset[axis] - part.start
        seen = np.flatnonzero((at >= 0) & (at <= matrix.shape[1]))
        at = (at[seen] - 0.5).clip(0, matrix.shape[1] - 1)
        below = at.astype(np.int64)
        np.add.at(matrix, (seen, below), 1 - (at - below))
        np.add.at(matrix, (seen, (below + 1).clip(max=matrix.shape[1] - 1)), at - below)
        return matrix


def stretch(photo: Size, size: Size) -> Geometry:
    """Lay a photo over the whole of an input of `size`."""
    return Geometry(photo, size, (0, 0), size)


def crop(photo: Size, size: Size, resized: Size, down: bool = False) -> Geometry:
    """Take the centre of the photo, resized before: torchvision's CenterCrop, with a border where that is smaller.

    Half of an odd margin is rounded to the even number, or `down`.
    """
    margins = [r - n for n, r in zip(size, resized, strict=True)]
    top, left = (-((-m) // 2) if m < 0 else m // 2 if down else round(m / 2) for m in margins)
    return Geometry(photo, resized, (-top, -left), size)


def cover(photo: Size, size: Size) -> Size:
    """The size of a photo that is resized until it covers `size`: torchvision's for a square, else timm's."""
    if size[0] == size[1]:
        return short_side(photo, size[0])
    scale = min(p / n for n, p in zip(size, photo, strict=True))
    return round(photo[0] / scale), round(photo[1] / scale)


def letterbox(photo: Size, size: Size, centred: bool = True) -> Geometry:
    """Fit the whole photo into an input of `size`, with a border at two sides: ultralytics' LetterBox.

    The border is at the right or at the bottom only where it is not `centred`, as YOLOX has it.
    """
    scale = min(n / p for n, p in zip(size, photo, strict=True))
    if not centred:
        return Geometry(photo, (max(1, int(photo[0] * scale)), max(1, int(photo[1] * scale))), (0, 0), size)
    resized = max(1, round(photo[0] * scale)), max(1, round(photo[1] * scale))
    top, left = (round((n - r) / 2 - 0.1) for n, r in zip(size, resized, strict=True))
    return Geometry(photo, resized, (top, left), size)


def short_side(photo: Size, side: int, longest: int | None = None) -> Size:
    """The size of a photo after its short side is brought to `side`, unless the long one exceeds `longest` then.

    torchvision's Resize(side), and DETR's rule for the two.
    """
    short, long = min(photo), max(photo)
    new_short, new_long = side, side * long // short
    if longest is not None and long / short * side > longest:
        exact = longest * short / long
        new_short, new_long = max(1, round(exact)), int(exact * long / short)
    return (new_short, new_long) if photo[0] <= photo[1] else (new_long, new_short)
