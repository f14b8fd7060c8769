"""Preprocessing where nobody tells it: from what the graph itself does to its image first, and from habit.

A graph that subtracts means and divides by deviations takes photos as they are; one that takes bytes normalises too.
What is left is habit, and said to be a guess.
"""

import dataclasses
from dataclasses import dataclass

from onnxcam.preprocessing.presets import BYTES, fitted, gray, preset
from onnxcam.preprocessing.spec import Preprocess, Slot

DEFAULT = (224, 224)
DENSE = (640, 640)  # what answers for each place is trained on larger pictures
RANGES = {
    "imagenet": (-2.118, 2.64),
    "tf": (-1.0, 1.0),
    "unit": (0.0, 1.0),
    "raw": (0.0, 255.0),
    "caffe": (-123.7, 151.1),
}
_NOTHING = "nothing in the file or beside it says"
HABITS = {"yolo": "its boxes are YOLO's", "yolox": "its boxes are YOLOX's", "tf": "it reads a text"}
MEANS = (0.485, 0.456, 0.406)  # ImageNet's, of red, green and blue


@dataclass(frozen=True)
class Entry:
    """What a graph does to its image input before its first layer: `scale · x + offset` for each channel, and more.

    `steps` are the operators that say so, `swapped` is an exchange of red and blue, `resized` a Resize, so that the
    input's size is free. `quantised` is the range of values that the first QuantizeLinear can hold.
    """

    scale: tuple[float, ...] = (1.0,)
    offset: tuple[float, ...] = (0.0,)
    swapped: bool = False
    resized: bool = False
    quantised: tuple[float, float] | None = None
    steps: tuple[str, ...] = ()

    @property
    def takes(self) -> str | None:
        """The preset of what goes in where the graph normalises by itself: "raw" for 0..255, "unit" for 0..1.

        What comes out of a normalisation is a few units wide, whichever it is: 1 for 0..1, 2 for −1..1, 4.4 for
        ImageNet's deviations. Bytes are as wide as they come, or made of 0..1 (torchvision's SSD).
        """
        pairs = [(abs(s), o) for s, o in zip(self.scale, self.offset, strict=True)]
        if all(0.5 <= 255 * s <= 12 for s, _ in pairs) or all(0.9 < s < 1.1 and -160 < o < -80 for s, o in pairs):
            return "raw"
        if all(250 <= s <= 260 and -160 < o < -80 for s, o in pairs):
            return "unit"
        moved = any(abs(s - 1) > 0.05 or abs(o) > 0.05 for s, o in pairs)
        return "unit" if moved and all(0.5 <= s <= 12 and abs(o) < 8 for s, o in pairs) else None

    @property
    def color(self) -> str | None:
        """RGB or BGR, where the means of three channels are ImageNet's in one order or the other."""
        if len(self.scale) != 3 or self.takes is None:
            return None
        top = 255 if self.takes == "raw" else 1
        means = [-o / s / top for s, o in zip(self.scale, self.offset, strict=True)]
        for color, known in (("RGB", MEANS), ("BGR", MEANS[::-1])):
            if max(abs(m - k) for m, k in zip(means, known, strict=True)) < 0.02:
                return color
        return None


def guess(slot: Slot, entry: Entry) -> tuple[Preprocess, tuple[str, ...]]:
    """The preprocessing that is likeliest, and the line that says so and why."""
    name, why = _likeliest(slot, entry)
    found = preset(name)
    if slot.dense and found.resize == "crop":
        found = dataclasses.replace(found, resize="stretch")
    found = fitted(found, slot)
    found = found if slot.size is None and entry.resized else sized(found, slot)
    if entry.color and found.color != "GRAY":
        found = dataclasses.replace(found, color=entry.color)
    where = "the photo's own size" if found.size is None else f"{found.size[0]}×{found.size[1]}"
    where = f"height {found.shortest_edge}" if found.resize == "height" else where
    found = dataclasses.replace(found, source=f"preset '{name}', a guess")
    return found, (f"preprocessing '{name}' at {where} is a guess: {why}; set it with --preprocess",)


def sized(found: Preprocess, slot: Slot) -> Preprocess:
    """The same at the size that the model takes; where that is open, a usual one, or of a given height any width."""
    height, width = slot.size or slot.sides
    if height is not None and width is None:
        return dataclasses.replace(found, size=None, resize="height", shortest_edge=height)
    usual = DENSE if slot.dense else DEFAULT
    return dataclasses.replace(found, size=(height or usual[0], width or usual[1]))


def remaining(found: Preprocess, slot: Slot, entry: Entry) -> tuple[Preprocess, tuple[str, ...]]:
    """What is left to do of a configuration that is found, where the graph does a part itself."""
    takes = "raw" if slot.dtype in BYTES else entry.takes
    if takes is None:
        return found, ()
    values = fitted(preset(takes), slot)
    if (found.mean, found.std) == (values.mean, values.std):
        return found, ()
    kept = dataclasses.replace(found, mean=values.mean, std=values.std, color=entry.color or found.color)
    why = _steps(entry) if entry.takes else f"its input is {slot.dtype}"
    return gray(kept) if slot.channels == 1 else kept, (f"values are {kept.values()}: {why}",)


def _likeliest(slot: Slot, entry: Entry) -> tuple[str, str]:
    if slot.dtype in BYTES:
        return "raw", f"the model takes bytes ({slot.dtype})"
    if entry.takes:
        return entry.takes, _steps(entry)
    if entry.quantised:
        low, high = entry.quantised
        name = max(RANGES, key=lambda n: _overlap(RANGES[n], (low, high)))
        if _overlap(RANGES[name], (low, high)) > 0.6:
            return name, f"its input is quantised from {low:.3g} to {high:.3g}"
    if slot.habit:
        return slot.habit, f"{_NOTHING}, and {HABITS[slot.habit]}"
    if slot.channels == 1:
        return "unit", "it has one channel, and nothing says more"
    if slot.layout.endswith("C"):
        return "tf", f"{_NOTHING}, and while Keras's MobileNet and Inception want it, its ResNet and VGG want 'caffe'"
    return "imagenet", _NOTHING


def _steps(entry: Entry) -> str:
    return f"the graph normalises by itself ({', '.join(entry.steps)})"


def _overlap(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Intersection over union."""
    return max(0.0, min(a[1], b[1]) - max(a[0], b[0])) / (max(a[1], b[1]) - min(a[0], b[0]))
