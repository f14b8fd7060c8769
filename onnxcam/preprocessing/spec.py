"""`Preprocess`: how a photograph becomes the tensor that a model takes, as one value, and the way back for maps."""

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeGuard

import numpy as np
import numpy.typing as npt

from onnxcam import geometry, image
from onnxcam.errors import InputError, unknown
from onnxcam.geometry import Geometry
from onnxcam.resample import FILTERS, Photo, Size, resample

LETTERBOX_GREY = 114  # of 255: what detectors are trained with (darknet, ultralytics)
LONGEST = 65535  # pixels of a side, as in a JPEG file
PILLOW = ("nearest", *FILTERS)

CHOICES = {
    "color": ("RGB", "BGR", "GRAY"),
    "resize": ("stretch", "crop", "letterbox", "proportional", "height"),
    "anchor": ("centre", "centre-down", "top-left"),
    "interpolation": (*PILLOW, *image.OPENCV),
    "layout": ("NCHW", "NHWC", "NHW", "CHW", "HWC"),
    "dtype": ("float32", "float16", "float64", "uint8", "int8", "uint16", "int16", "int32"),
}


@dataclass(frozen=True)
class Slot:
    """What a model takes: size (None where it is open), layout, type and channels of its image input.

    `sides` are height and width, where only one of them is open too. `dense` is a model that answers for each place: a
    crop would leave places out. `habit` is the preset that models which answer in that form are trained with.
    """

    size: Size | None = None
    layout: str = "NCHW"
    dtype: str = "float32"
    channels: int | None = 3
    dense: bool = False
    sides: tuple[int | None, int | None] = (None, None)
    habit: str = ""


@dataclass(frozen=True)
class Preprocess:
    """How a photo becomes a model's input: geometry, colours, `(x − mean) / std` with x in 0..255, layout.

    `size` is (height, width), or None for the photo's own. `mean` and `std` are in the order of `color`. `resize`:

    - "stretch" to `size`; without one the photo's own, cut to a `multiple`;
    - "crop": resize so that the short side is `shortest_edge`, or to `resized`, or so that it covers
      `size / crop_ratio`; then the centre;
    - "letterbox": fit into `size`, with a border of `fill` (in the order of `color`), the photo at `anchor`;
    - "proportional": the short side to `shortest_edge`, the long one at most `longest_edge`, both cut to a `multiple`;
      the input's size is open;
    - "height": the height to `shortest_edge`, as lines of text are; the input's width is open.

    `anchor` is "centre", "top-left", or "centre-down": where a crop's margin is odd, its half is rounded down, and not
    to the even number as torchvision does.
    `interpolation` has Pillow's filters under Pillow's names, antialiased, and OpenCV's as "linear", "cubic", "area".
    Raises InputError where a field has a value that cannot be meant.
    """

    size: Size | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    color: str = "RGB"
    resize: str = "stretch"
    crop_ratio: float = 0.875
    shortest_edge: int | None = None
    longest_edge: int | None = None
    multiple: int = 1
    resized: Size | None = None
    anchor: str = "centre"
    fill: tuple[float, ...] = (LETTERBOX_GREY,)
    interpolation: str = "bilinear"
    layout: str = "NCHW"
    dtype: str = "float32"
    source: str = field(default="given", compare=False)

    def __post_init__(self) -> None:
        for name in ("size", "mean", "std", "resized", "fill"):
            if isinstance(getattr(self, name), list):  # as JSON has them
                object.__setattr__(self, name, tuple(getattr(self, name)))
        for name, names in CHOICES.items():
            if getattr(self, name) not in names:
                raise unknown(f"preprocessing {name}", str(getattr(self, name)), names)
        for name, (good, wanted) in self._rules().items():
            if not good:
                raise InputError(f"Preprocessing: '{name}' must be {wanted}, not {getattr(self, name)!r}.")
        before = self.resized or ((self.shortest_edge,) if self.shortest_edge else ())
        if self.resize == "crop" and self.size and before:  # for readers of the JSON that know the ratio only
            object.__setattr__(self, "crop_ratio", min(1.0, min(self.size) / min(before)))

    def _rules(self) -> dict[str, tuple[bool, str]]:
        channels = 1 if self.color == "GRAY" else 3
        counts, edge = {1, channels}, f"a whole number from 1 to {LONGEST}"
        pair = f"[height, width], whole and from 1 to {LONGEST}"
        open_ = self.resize in ("proportional", "height")
        return {
            "size": (self.size is None or (not open_ and _is_size(self.size)),
                     f"null: '{self.resize}' leaves it open" if open_ else pair),
            "mean": (_numbers(self.mean, counts), f"a list of {channels} numbers, or of 1"),
            "std": (_positive(self.std, counts), f"a list of {channels} numbers above 0, or of 1"),
            "crop_ratio": (_positive((self.crop_ratio,), {1}) and self.crop_ratio <= 1, "above 0 and at most 1"),
            "shortest_edge": (_edge(self.shortest_edge) and not (open_ and self.shortest_edge is None), edge),
            "longest_edge": (_edge(self.longest_edge), edge),
            "multiple": (is_side(self.multiple), edge),
            "resized": (self.resized is None or _is_size(self.resized), pair),
            "fill": (_numbers(self.fill, counts), f"a list of {channels} numbers, or of 1"),
            "layout": ("C" in self.layout or channels == 1, "one with 'C' where 'color' is not 'GRAY'"),
            "source": (isinstance(self.source, str), "a text"),
        }  # fmt: skip

    def fit(self, photo_shape: tuple[int, ...]) -> Geometry:
        """Give the geometry for a photo of this shape, (H, W) or (H, W, 3)."""
        photo = photo_shape[0], photo_shape[1]
        if self.resize == "height" and self.shortest_edge is not None:
            width = max(1, round(photo[1] * self.shortest_edge / photo[0]))
            return geometry.stretch(photo, (self.shortest_edge, width))
        if self.size is None:
            free = photo
            if self.resize == "proportional" and self.shortest_edge is not None:
                free = geometry.short_side(photo, self.shortest_edge, self.longest_edge)
            height, width = (max(side // self.multiple, 1) * self.multiple for side in free)
            return geometry.stretch(photo, (height, width))
        if self.resize == "crop":
            before = self._before_the_crop(photo, self.size)
            return geometry.crop(photo, self.size, before, down=self.anchor == "centre-down")
        if self.resize == "letterbox":
            return geometry.letterbox(photo, self.size, centred=self.anchor != "top-left")
        return geometry.stretch(photo, self.size)

    def _before_the_crop(self, photo: Size, size: Size) -> Size:
        if self.resized is not None:
            return self.resized
        if self.shortest_edge is not None:
            return geometry.short_side(photo, self.shortest_edge)
        return geometry.cover(photo, (int(size[0] / self.crop_ratio), int(size[1] / self.crop_ratio)))

    def apply(self, photo: Photo) -> npt.NDArray[np.generic]:
        """Make the model's input from a photo (H, W, 3) uint8 RGB: one of `dtype`, its axes in the order of `layout`.

        Raises InputError for another array.
        """
        image.check(photo)
        where = self.fit(photo.shape)
        if self.color == "GRAY":
            photo = grey(photo)
        elif self.color == "BGR":
            photo = photo[:, :, ::-1]
        border = self.fill if self.resize == "letterbox" else (0,)
        picture = np.full((*where.size, photo.shape[2]), border, np.float32)
        if self.interpolation in PILLOW:
            picture[where.inside] = resample(photo, where.resized, where.shown, self.interpolation)
        else:
            picture[where.inside] = image.resize(photo, where.resized, self.interpolation)[where.shown]
        values = (picture - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
        if np.dtype(self.dtype).kind in "iu":
            limits = np.iinfo(self.dtype)
            values = np.rint(values).clip(limits.min, limits.max)
        absent = tuple(i for i, axis in enumerate("NHWC") if axis not in self.layout)  # of length 1, samples or grey
        kept = [axis for axis in "NHWC" if axis in self.layout]
        laid = values[None].squeeze(absent).transpose([kept.index(axis) for axis in self.layout])
        return np.ascontiguousarray(laid, self.dtype)

    def restore(self, map01: npt.NDArray[np.floating], photo_shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Bring a map (h, w) of the input's size back to the photo: (H, W) float32, 0 where the model saw nothing.

        Raises InputError for a map of another size.
        """
        where = self.fit(photo_shape)
        if map01.shape != where.size:
            raise InputError(f"A map {map01.shape} is none of this photo: the model's input is {where.size}.")
        return where.restore(map01)

    def describe(self) -> str:
        """Say it in one line for a person."""
        return f"{self._geometry()}, {self.color}, {self.values()}, {self.layout} {self.dtype}; {self.source}"

    def values(self) -> str:
        """The formula of the values, for a person."""
        top = f"(x − {_short(self.mean)})" if any(self.mean) else "x"
        return f"{top} / {_short(self.std)}" if set(self.std) != {1} else f"{top} of 0..255"

    def to_json(self) -> str:
        """Write every field as one JSON object."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str, source: str | None = None) -> "Preprocess":
        """Read what `to_json` wrote; fields that are left out have their defaults.

        Raises InputError for text that is no JSON object, unknown fields and wrong values.
        """
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"Preprocessing{f' of {source}' if source else ''} is not JSON: {error}.") from error
        return cls.from_fields(fields, source)

    @classmethod
    def from_fields(cls, fields: object, source: str | None = None, slot: Slot | None = None) -> "Preprocess":
        """Fields by name; what is left out is as the `slot` has it, else the default.

        Raises InputError where a field is unknown, with all that there are, or has a wrong value.
        """
        if not isinstance(fields, dict):
            raise InputError(f"Preprocessing is a JSON object with fields like 'mean', not {type(fields).__name__}.")
        names = [f.name for f in dataclasses.fields(cls)]
        for key in fields:
            if key not in names:
                raise InputError(f"Preprocessing has no field '{key}'. Its fields are: {', '.join(names)}.")
        own: dict[str, object] = {}
        if slot is not None:
            own = {"size": slot.size, "layout": slot.layout, "dtype": slot.dtype}
            own |= {"color": "GRAY"} if slot.channels == 1 else {}
            own |= {"size": None} if fields.get("resize") in ("proportional", "height") else {}
        return cls(**{**own, **fields, **({"source": source} if source else {})})

    def _geometry(self) -> str:
        if self.resize == "proportional":
            most = f", at most {self.longest_edge}" if self.longest_edge else ""
            whole = f", multiples of {self.multiple}" if self.multiple > 1 else ""
            return f"short side {self.shortest_edge}{most}{whole} ({self.interpolation})"
        if self.resize == "height":
            return f"height {self.shortest_edge}, width in proportion ({self.interpolation})"
        if self.size is None:
            return "photo's own size" + (f", multiples of {self.multiple}" if self.multiple > 1 else "")
        ratio = f"{self.crop_ratio:g} of"
        if self.resized is not None:
            ratio = f"of {self.resized[0]}×{self.resized[1]} to"
        elif self.shortest_edge is not None:
            ratio = f"of short side {self.shortest_edge} to"
        words = {"stretch": "stretched to", "letterbox": "letterboxed to", "crop": f"centre crop {ratio}"}
        corner = ", top left" if self.resize == "letterbox" and self.anchor == "top-left" else ""
        return f"{words[self.resize]} {self.size[0]}×{self.size[1]} ({self.interpolation}{corner})"


def grey(photo: Photo) -> Photo:
    """(H, W, 3) RGB as (H, W, 1): ITU-R BT.601 in Pillow's whole numbers."""
    weighted = photo.astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32)
    return ((weighted + 0x8000) >> 16).astype(np.uint8)[:, :, None]


def _numbers(values: object, counts: Iterable[int]) -> bool:
    """Is it a tuple of this many sensible numbers? True and False are none, though Python counts them as such."""
    return (
        isinstance(values, tuple)
        and len(values) in counts
        and all(isinstance(v, (int, float)) and not isinstance(v, bool) and abs(v) < 1e9 for v in values)
    )


def _positive(values: tuple[float, ...], counts: Iterable[int]) -> bool:
    return _numbers(values, counts) and min(values) > 0


def is_side(value: object) -> TypeGuard[int]:
    """Whether something can be meant as height or width in pixels."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LONGEST


def _is_size(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(map(is_side, value))


def _edge(value: int | None) -> bool:
    return value is None or is_side(value)


def _short(values: tuple[float, ...]) -> str:
    return f"{values[0]:.4g}" if len(set(values)) == 1 else f"[{' '.join(f'{v:.4g}' for v in values)}]"
