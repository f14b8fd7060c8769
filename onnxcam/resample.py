"""Pictures resized as Pillow does it up to version 12, to the bit. Numpy only.

Most models were trained and are evaluated on Pillow's antialiased filters. OpenCV has none of them: its bilinear and
bicubic skip most pixels of a large photo. Pillow works in whole numbers, columns first and then rows, each rounded to
uint8 (src/libImaging/Resample.c); products of whole numbers below 2⁵³ are exact in float64, so a product of matrices
gives the same bits. Pillow 13 takes the rows first where that is cheaper, which moves
values by 1 of 255 with most filters, and by dozens at sharp edges with "bicubic" and "lanczos". https://github.com/python-pillow/Pillow/blob/12.0.0/src/libImaging/Resample.c
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Size = tuple[int, int]  # height, width
Photo = npt.NDArray[np.uint8]  # (H, W, C)
Doubles = npt.NDArray[np.float64]

BITS = 22  # of a weight's fraction: PRECISION_BITS
BLOCK = 4_000_000  # numbers that are float64 at a time


def _hamming(x: Doubles) -> Doubles:
    return np.asarray(np.sinc(x) * (0.54 + 0.46 * np.cos(np.pi * x)))


def _bicubic(x: Doubles) -> Doubles:
    """Keys' cubic convolution with a = −0.5."""
    return np.where(x < 1, (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2)


FILTERS: dict[str, tuple[float, Callable[[Doubles], Doubles]]] = {  # radius, and weight at a distance within it
    "box": (0.5, np.ones_like),
    "bilinear": (1, lambda x: 1 - x),
    "hamming": (1, _hamming),
    "bicubic": (2, _bicubic),
    "lanczos": (3, lambda x: np.asarray(np.sinc(x) * np.sinc(x / 3))),
}


def resample(photo: Photo, resized: Size, shown: tuple[slice, slice], interpolation: str) -> Photo:
    """Resize (H, W, C) uint8 to `resized` (h, w), and give only the part `shown` of that."""
    height, width, channels = photo.shape
    rows, columns = shown
    if interpolation == "nearest":
        return photo[nearest(height, resized[0], rows)[:, None], nearest(width, resized[1], columns)]
    first, _, last = _support(height, resized[0], rows, interpolation)
    top, bottom = int(first.min()), int(last.max())
    across = photo[top:bottom].transpose(1, 0, 2).reshape(width, -1)
    narrow = _along(across, resized[1], columns, interpolation).reshape(-1, bottom - top, channels)
    upright = np.zeros((height, narrow.shape[0] * channels), np.uint8)  # rows that are not needed stay empty
    upright[top:bottom] = narrow.transpose(1, 0, 2).reshape(bottom - top, -1)
    return _along(upright, resized[0], rows, interpolation).reshape(-1, narrow.shape[0], channels)


def nearest(n_in: int, n_out: int, part: slice) -> npt.NDArray[np.int64]:
    """Find which of `n_in` pixels lies at the centre of those of the `n_out` pixels that are in `part`."""
    steps = np.full(n_out, n_in / n_out)
    steps[0] /= 2
    return np.add.accumulate(steps)[part].astype(np.int64)  # summed one by one, as Pillow does: ties depend on it


def weights(n_in: int, n_out: int, part: slice, interpolation: str) -> Doubles:
    """Give (len(part), n_in): what each of `n_in` pixels adds, times 2²², to the `n_out` pixels that are in `part`."""
    first, centre, last = _support(n_in, n_out, part, interpolation)
    radius, weigh = FILTERS[interpolation]
    x = (np.arange(n_in) - centre[:, None] + 0.5) / max(n_in / n_out, 1)
    inside = (np.arange(n_in) >= first[:, None]) & (np.arange(n_in) < last[:, None])
    inside &= (x > -radius) & (x <= radius)
    y = np.where(inside, weigh(np.abs(x)), 0)
    y = y / y.sum(axis=1, keepdims=True) * 2**BITS
    return np.asarray(np.trunc(y + np.copysign(0.5, y)))


def _support(
    n_in: int, n_out: int, part: slice, interpolation: str
) -> tuple[npt.NDArray[np.int64], Doubles, npt.NDArray[np.int64]]:
    """First pixel that is read, centre, and the one after the last, for each of the pixels in `part`."""
    scale = n_in / n_out
    centre = (np.arange(part.start, part.stop) + 0.5) * scale
    reach = FILTERS[interpolation][0] * max(scale, 1)
    first = np.trunc(centre - reach + 0.5).clip(0).astype(np.int64)
    last = np.trunc(centre + reach + 0.5).clip(max=n_in).astype(np.int64)
    return first, centre, last


def _along(lines: Photo, n_out: int, part: slice, interpolation: str) -> Photo:
    """Resize (n_in, m) uint8 along its first axis: a block of results reads a block of lines only."""
    n_in, m = lines.shape
    if n_in == n_out:
        return lines[part]
    result = np.empty((part.stop - part.start, m), np.uint8)
    step = max(1, int(BLOCK / m * n_out / n_in))
    for start in range(part.start, part.stop, step):
        block = slice(start, min(start + step, part.stop))
        first, _, last = _support(n_in, n_out, block, interpolation)
        read = slice(int(first.min()), int(last.max()))
        matrix = weights(n_in, n_out, block, interpolation)[:, read]
        sums = matrix @ lines[read].astype(np.float64) + 2 ** (BITS - 1)
        result[block.start - part.start : block.stop - part.start] = np.floor(sums / 2**BITS).clip(0, 255)
    return result
