"""How a photograph is laid into a model's input: resized, cropped or padded. Numpy only.

Pictures are resized as Pillow does it, antialiased, because most models were trained on that: OpenCV has no antialiased
bilinear or bicubic, and its plain ones skip most pixels of a large photo. A filter is one matrix per axis, so a crop
costs only the rows that it keeps.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Size = tuple[int, int]  # height, width

RADIUS = {"bilinear": 1, "bicubic": 2, "lanczos": 3}


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


def fit(photo: Size, size: Size, resize: str = "stretch", crop_ratio: float = 1.0) -> Geometry:
    """Lay a photo into an input of `size`: "stretch", "letterbox", or "crop" from `size / crop_ratio`."""
    if resize == "stretch":
        return Geometry(photo, size, (0, 0), size)
    height, width = photo
    crop = resize == "crop"
    # In whole numbers: 256 / height · height is 255.99… for some heights, where torchvision has 256.
    box_height, box_width = (int(n / crop_ratio) if crop else n for n in size)
    if (box_height * width >= box_width * height) == crop:  # the crop covers its box, the letterbox fits into it
        resized = box_height, max(1, width * box_height // height)
    else:
        resized = max(1, height * box_width // width), box_width
    top, left = (round((n - r) / 2) for n, r in zip(size, resized, strict=True))
    return Geometry(photo, resized, (top, left), size)


def resample(
    photo: npt.NDArray[np.uint8], resized: Size, shown: tuple[slice, slice], interpolation: str
) -> npt.NDArray[np.uint8]:
    """Resize (H, W, C) uint8 to `resized` (h, w), and give only the part `shown` of that."""
    height, width, channels = photo.shape
    if interpolation == "nearest":
        rows, columns = (nearest(n, r, part) for n, r, part in zip((height, width), resized, shown, strict=True))
        return photo[rows[:, None], columns]
    down = weights(height, resized[0], shown[0], interpolation)
    across = weights(width, resized[1], shown[1], interpolation)
    strips = (down @ photo.reshape(height, -1).astype(np.float32)).reshape(-1, width, channels)
    columns_first = strips.transpose(1, 0, 2).reshape(width, -1)  # one product of matrices is faster than one a row
    picture = (across @ columns_first).reshape(len(across), len(down), channels).transpose(1, 0, 2)
    return np.asarray(np.rint(picture).clip(0, 255), np.uint8)


def nearest(n_in: int, n_out: int, part: slice) -> npt.NDArray[np.int64]:
    """Find which of `n_in` pixels lies at the centre of those of the `n_out` pixels that are in `part`."""
    return ((np.arange(part.start, part.stop) + 0.5) * (n_in / n_out)).astype(np.int64)


def weights(n_in: int, n_out: int, part: slice, interpolation: str) -> npt.NDArray[np.float32]:
    """Give (len(part), n_in): what each of `n_in` pixels adds to those of the `n_out` pixels that are in `part`."""
    scale = n_in / n_out
    centre = (np.arange(part.start, part.stop) + 0.5) * scale
    x = np.abs(np.arange(n_in) + 0.5 - centre[:, None]) / max(scale, 1)
    if interpolation == "bilinear":
        y = 1 - x
    elif interpolation == "bicubic":  # Keys' cubic convolution with a = −0.5
        y = np.where(x < 1, (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2)
    else:
        y = np.sinc(x) * np.sinc(x / 3)
    y = np.where(x < RADIUS[interpolation], y, 0)
    return np.asarray(y / y.sum(axis=1, keepdims=True), np.float32)
