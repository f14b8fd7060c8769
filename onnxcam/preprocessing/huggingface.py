"""Hugging Face's `preprocessor_config.json`: an image processor's fields, in the forms of all its versions.

Fields that are left out have the default of the processor's class; of those only what differs between classes that
classify or detect is in the tables here. https://huggingface.co/docs/transformers/main_classes/image_processor
"""

from collections.abc import Mapping

from onnxcam.errors import InputError
from onnxcam.preprocessing.spec import LONGEST, Preprocess, Slot, is_side

CODES = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # PIL.Image.Resampling
KEYS = frozenset({
    "do_center_crop", "do_convert_rgb", "do_normalize", "do_rescale", "do_resize", "feature_extractor_type",
    "image_mean", "image_processor_type", "image_std", "rescale_factor",
})  # fmt: skip

# A plain number as size is the short side's in these classes, and both sides' in all others.
SHORT = ("bit", "chineseclip", "clip", "convnext", "levit", "mobilenet", "mobilevit", "poolformer", "videomae", "vivit")
BICUBIC = ("beit", "bit", "blip", "clip", "convnext", "deit", "dpt", "efficientnet", "levit", "mobilevit",
           "poolformer", "pvt", "siglip")  # fmt: skip
CROPS = ("bit", "clip", "deit", "levit", "mobilenet", "mobilevit", "poolformer")
FOLLOWED = frozenset({
    "do_center_crop", "do_convert_annotations", "do_convert_rgb", "do_flip_channel_order", "do_grayscale",
    "do_normalize", "do_pad", "do_reduce_labels", "do_rescale", "do_resize",
})  # fmt: skip

_CROP = {"resize": "crop", "anchor": "centre-down"}  # image_transforms.center_crop takes the whole part of the margin

Notes = tuple[str, ...]


def recognises(config: Mapping[str, object]) -> bool:
    """Whether it looks like an image processor's configuration."""
    return bool(KEYS & set(inner(config)))


def inner(config: Mapping[str, object]) -> Mapping[str, object]:
    """The image processor's part: `processor_config.json` has it inside."""
    nested = config.get("image_processor")
    return nested if isinstance(nested, dict) else config


def read(config: Mapping[str, object], slot: Slot, source: str) -> tuple[Preprocess, Notes]:
    """The preprocessing, and lines that say what of the configuration is not followed exactly.

    Raises InputError for values that cannot be meant, and for processors that are not for images.
    """
    config = inner(config)
    kind = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "").lower()
    if not {"size", "image_mean", "crop_size", "do_resize"} & set(config):
        raise InputError("It is no image processor's configuration: it has neither 'size' nor 'image_mean'.")
    fields, notes = _geometry(config, kind, slot)
    mean, std = _values(config, kind)
    color = "RGB"
    if slot.channels == 1 or config.get("do_grayscale"):
        color = "GRAY"
    elif config.get("do_flip_channel_order", kind.startswith("mobilevit")):
        color = "BGR"
    strange = sorted(k for k, v in config.items() if k.startswith("do_") and v is True and k not in FOLLOWED)
    if strange:
        notes = (*notes, f"{source} asks for {', '.join(strange)}, which is not done here")
    found = Preprocess.from_fields(
        {"mean": mean, "std": std, "color": color, "interpolation": _interpolation(config, kind),
         "layout": slot.layout, "dtype": slot.dtype, **fields},
        source,
    )  # fmt: skip
    return found, notes


def labels(config: object) -> list[str] | None:
    """Class names of a `config.json`: `id2label`, unless they are only numbered."""
    names = config.get("id2label") if isinstance(config, dict) else None
    if not isinstance(names, dict) or not names or not all(str(k).isdecimal() for k in names):
        return None
    found = [str(names[key]) for key in sorted(names, key=lambda k: int(str(k)))]
    return None if all(name == f"LABEL_{i}" for i, name in enumerate(found)) else found


def _geometry(config: Mapping[str, object], kind: str, slot: Slot) -> tuple[dict[str, object], Notes]:
    """Fields of the geometry for an input that is as large as the file says, or else as the configuration says."""
    size = _sides(config.get("size"), kind, "size")
    crop = _sides(config.get("crop_size"), kind, "crop_size", square=True)
    crops = config.get("do_center_crop", kind.startswith(CROPS)) is True and "height" in crop
    divisor = config.get("size_divisor")
    if isinstance(divisor, int) and not size and slot.size is None:  # GLPN: its own size, cut to whole steps
        return {"size": None, "resize": "stretch", "multiple": divisor}, ()
    if config.get("do_resize", True) is False or not size:
        return _fixed({"size": _pair(crop) if crop else slot.size, "resize": "stretch"}, slot)
    if "shortest_edge" in size and kind.startswith("convnext"):
        return _fixed(_convnext(size["shortest_edge"], config), slot)
    edge = size.get("shortest_edge")
    if edge is not None and crops:
        if kind.startswith("poolformer"):
            edge = int(edge / _number(config, "crop_pct", 0.9))
        elif kind.startswith("levit"):
            edge = int(256 / 224 * edge)
        return _fixed({**_CROP, "size": _pair(crop), "shortest_edge": edge}, slot)
    if edge is not None:
        if slot.size is not None:
            return {"size": slot.size, "resize": "stretch"}, ("the file's input is fixed: photos are stretched to it",)
        multiple = 16 if kind.startswith("yolos") else 1
        edges = {"shortest_edge": edge, "longest_edge": size.get("longest_edge"), "multiple": multiple}
        return {"resize": "proportional", **edges}, ()
    if "height" not in size:  # the longest edge only, as SAM: padded below and at the right
        side = size["longest_edge"]
        mean, _ = _values(config, kind)
        return _fixed({"size": (side, side), "resize": "letterbox", "anchor": "top-left", "fill": mean}, slot)
    if crops and kind.startswith("perceiver"):  # it cuts the middle out first
        return _fixed({**_CROP, "size": _pair(size), "crop_ratio": min(1.0, size["height"] / crop["height"])}, slot)
    if crops:
        return _fixed({**_CROP, "size": _pair(crop), "resized": _pair(size)}, slot)
    return _fixed({"size": _pair(size), "resize": "stretch"}, slot)


def _convnext(side: int, config: Mapping[str, object]) -> dict[str, object]:
    """Below 384 pixels a crop, from there on the whole photo warped: ConvNextImageProcessor.resize."""
    if side >= 384:
        return {"size": (side, side), "resize": "stretch"}
    edge = int(side / _number(config, "crop_pct", 224 / 256))
    return {**_CROP, "size": (side, side), "shortest_edge": edge}


def _fixed(fields: dict[str, object], slot: Slot) -> tuple[dict[str, object], Notes]:
    """The same for the size that the file has, where that is another one."""
    said, has = fields["size"], slot.size
    if has is None or not isinstance(said, tuple) or has == said:
        return fields, ()
    scale = min(has) / min(said)
    fields["size"] = has
    if isinstance(edge := fields.get("shortest_edge"), int):
        fields["shortest_edge"] = round(edge * scale)
    if isinstance(before := fields.get("resized"), tuple):
        fields["resized"] = tuple(round(n * scale) for n in before)
    return fields, (f"the configuration is for {said[0]}×{said[1]}, the file takes {has[0]}×{has[1]}",)


def _values(config: Mapping[str, object], kind: str) -> tuple[list[float], list[float]]:
    """Mean and std in 0..255: x · factor − offset, less the mean, over the std."""
    factor = _number(config, "rescale_factor", 1 / 255) if config.get("do_rescale", True) is not False else 1.0
    offset = (
        1.0
        if config.get("rescale_offset") is True or (kind.startswith("vivit") and config.get("offset") is True)
        else 0.0
    )
    if config.get("do_normalize", "image_mean" in config) is not True:
        return [offset / factor], [1 / factor]
    mean, std = (_numbers(config, key) for key in ("image_mean", "image_std"))
    if kind.startswith("efficientnet") and config.get("include_top", True) is not False:
        std = [s * s for s in std]  # its processor normalises twice, the second time by the std alone
    return [(m + offset) / factor for m in mean], [s / factor for s in std]


def _interpolation(config: Mapping[str, object], kind: str) -> str:
    code = config.get("resample")
    if code is None:
        return "bicubic" if kind.startswith(BICUBIC) else "bilinear"
    if isinstance(code, int) and not isinstance(code, bool) and 0 <= code < len(CODES):
        return CODES[code]
    name = str(code).rpartition(".")[2].lower()
    if name in CODES:
        return name
    raise InputError(f"'resample' is {code!r}; Pillow's filters are 0 to 5: {', '.join(CODES)}.")


def _sides(value: object, kind: str, key: str, square: bool = False) -> dict[str, int]:
    """A size in any of its forms, as a dictionary with height and width, or shortest_edge and longest_edge."""
    known = ("height", "width", "shortest_edge", "longest_edge")
    found: dict[object, object]
    if value is None:
        return {}
    if isinstance(value, dict):
        found = {k: v for k, v in value.items() if v is not None}
    elif isinstance(value, (list, tuple)) and len(value) == 2:
        found = {"height": value[0], "width": value[1]}
    elif not square and kind.startswith(SHORT):
        found = {"shortest_edge": value}
    else:
        found = {"height": value, "width": value}
    sides = {str(k): v for k, v in found.items() if is_side(v)}
    complete = {"height", "width"} <= set(sides) or {"shortest_edge", "longest_edge"} & set(sides)
    if len(sides) != len(found) or not complete or not set(sides) <= set(known):
        wanted = f"a whole number from 1 to {LONGEST}, or an object of such with {', '.join(known)}"
        raise InputError(f"'{key}' is {value!r}; it must be {wanted}.")
    return sides


def _pair(sides: Mapping[str, int]) -> tuple[int, int]:
    return sides["height"], sides["width"]


def _number(config: Mapping[str, object], key: str, default: float) -> float:
    value = config.get(key)
    if value is None:
        return default
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < 1e6:
        raise InputError(f"'{key}' is {value!r}; it must be a number above 0.")
    return float(value)


def _numbers(config: Mapping[str, object], key: str) -> list[float]:
    value = config.get(key)
    values = value if isinstance(value, list) else [value]
    found = [float(v) for v in values if isinstance(v, (int, float)) and not isinstance(v, bool) and abs(v) < 1e6]
    if not values or len(found) != len(values):
        raise InputError(f"'{key}' is {value!r}; it must be a list of numbers.")
    return found
