"""timm's `config.json`, as its models lie on the Hugging Face hub: `pretrained_cfg` says how they are evaluated.

The formulas are those of timm.data.transforms_factory.transforms_imagenet_eval, the defaults those of timm.data.config.
"""

from collections.abc import Mapping

from onnxcam.errors import InputError
from onnxcam.preprocessing.presets import IMAGENET_MEAN, IMAGENET_STD
from onnxcam.preprocessing.spec import Preprocess, Slot, is_side

Notes = tuple[str, ...]


def recognises(config: Mapping[str, object]) -> bool:
    """Whether it looks like timm's."""
    return isinstance(config.get("pretrained_cfg"), dict) or {"architecture", "input_size"} <= set(config)


def read(config: Mapping[str, object], slot: Slot, source: str) -> tuple[Preprocess, Notes]:
    """The preprocessing, and a line where the file's input has another size than the configuration.

    Raises InputError for values that cannot be meant.
    """
    nested = config.get("pretrained_cfg")
    cfg = {k: v for k, v in (nested if isinstance(nested, dict) else config).items() if v is not None}
    test = slot.size is not None and _size(cfg, "test_input_size") == slot.size
    said = _size(cfg, "test_input_size" if test else "input_size") or (224, 224)
    size = slot.size or said
    ratio = cfg.get("test_crop_pct", cfg.get("crop_pct", 0.875)) if test else cfg.get("crop_pct", 0.875)
    if not isinstance(ratio, (int, float)) or isinstance(ratio, bool) or not 0 < ratio < 10:
        raise InputError(f"'crop_pct' is {ratio!r}; it must be a number above 0.")
    mean, std = (
        [v * 255 for v in _numbers(cfg, key)] if key in cfg else list(default)
        for key, default in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD))
    )
    name = str(cfg.get("interpolation", "bicubic"))
    mode = cfg.get("crop_mode", "center")
    fields: dict[str, object] = {"resize": "crop", "crop_ratio": ratio}
    if mode == "squash" or ratio > 1:
        fields = {"resize": "crop", "resized": tuple(int(n / ratio) for n in size)}
    elif mode == "border":
        fields = {"resize": "letterbox", "fill": [round(m) for m in mean]}
    elif mode != "center":
        raise InputError(f"'crop_mode' is {mode!r}; timm's are center, squash and border.")
    notes = []
    if size != said:
        notes.append(f"the configuration is for {said[0]}×{said[1]}, the file takes {size[0]}×{size[1]}")
    if mode == "border" and ratio != 1:
        notes.append(f"{source} trims the borders to {ratio:g}, which is not done here")
    fields |= {"size": size, "mean": mean, "std": std, "interpolation": "bilinear" if name == "random" else name}
    fields |= {"layout": slot.layout, "dtype": slot.dtype}
    return Preprocess.from_fields(fields | ({"color": "GRAY"} if slot.channels == 1 else {}), source), tuple(notes)


def labels(config: object) -> list[str] | None:
    """Class names: `label_names`, or what `label_descriptions` says of them."""
    if not isinstance(config, dict):
        return None
    nested = config.get("pretrained_cfg")
    for part in (config, nested if isinstance(nested, dict) else {}):
        names = part.get("label_names")
        if isinstance(names, list) and names:
            told = part.get("label_descriptions")
            return [str(told.get(n, n)) if isinstance(told, dict) else str(n) for n in names]
    return None


def _size(cfg: Mapping[str, object], key: str) -> tuple[int, int] | None:
    """Height and width of [channels, height, width]."""
    value = cfg.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 3 or not all(map(is_side, value)):
        raise InputError(f"'{key}' is {value!r}; it must be [channels, height, width].")
    return value[1], value[2]


def _numbers(cfg: Mapping[str, object], key: str) -> list[float]:
    value = cfg[key]
    if not isinstance(value, list) or not value or not all(isinstance(v, (int, float)) for v in value):
        raise InputError(f"'{key}' is {value!r}; it must be a list of numbers.")
    return [float(v) for v in value]
