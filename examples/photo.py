"""What the examples in Python share: a photo in, as the file wants it, and a map out. Needs numpy, onnx and Pillow."""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
from PIL import Image, ImageOps

FILTERS = {name.lower(): value for name, value in Image.Resampling.__members__.items()}


def arguments() -> tuple[str, str, str]:
    """FILE PHOTO OUT of the command line."""
    if len(sys.argv) != 4:
        sys.exit(f"usage: python {Path(sys.argv[0]).name} FILE PHOTO OUT.png")
    return sys.argv[1], sys.argv[2], sys.argv[3]


def metadata(file: str) -> dict[str, str]:
    """What the file says of itself."""
    model = onnx.load(file, load_external_data=False)
    return {entry.key: entry.value for entry in model.metadata_props}


def prepare(photo: str, about: dict[str, str]) -> np.ndarray:
    """The model's input from a photo, by the file's `cam.preprocess`, its axes in the order of the layout there.

    Pillow's filters only, stretched or cut to a square: what classifiers are trained with.
    """
    how = json.loads(about["cam.preprocess"])
    picture = ImageOps.exif_transpose(Image.open(photo)).convert("L" if how["color"] == "GRAY" else "RGB")
    if how["size"] is not None or how.get("multiple", 1) > 1 or how["resize"] not in ("stretch", "crop"):
        picture = _fit(picture, how)
    x = np.asarray(picture, np.float32).reshape(picture.height, picture.width, -1)
    x = x[:, :, ::-1] if how["color"] == "BGR" else x
    x = (x - np.asarray(how["mean"], np.float32)) / np.asarray(how["std"], np.float32)
    x = x if how["layout"].endswith("C") else x.transpose(2, 0, 1)
    length = {"N": 1, "C": x.size // (picture.height * picture.width), "H": picture.height, "W": picture.width}
    return np.ascontiguousarray(x.reshape([length[axis] for axis in how["layout"]]), how["dtype"])


def _fit(picture: Image.Image, how: dict) -> Image.Image:
    if how["interpolation"] not in FILTERS or how["resize"] not in ("stretch", "crop"):
        sys.exit(f"This example has no {how['interpolation']} {how['resize']}: prepare the photo with onnxcam.")
    step = how.get("multiple", 1)
    own = [n // step * step or step for n in (picture.height, picture.width)]
    resample, size = FILTERS[how["interpolation"]], tuple(how["size"] or own)[::-1]
    if how["resize"] == "stretch" or how["size"] is None:
        return picture.resize(size, resample)
    short = how["shortest_edge"] or int(min(size) / how["crop_ratio"])
    width, height = (n * short // min(picture.size) for n in picture.size)
    left, top = round((width - size[0]) / 2), round((height - size[1]) / 2)
    return picture.resize((width, height), resample).crop((left, top, left + size[0], top + size[1]))


def report(scores: np.ndarray, heatmap: np.ndarray, about: dict[str, str], out: str) -> None:
    """Print the five classes with the largest scores, and write the map (H, W) of 0 to 1 as a grey picture."""
    names = json.loads(about.get("cam.classes", "[]"))
    for index in np.argsort(-scores)[:5]:
        print(f"{scores[index]:8.3f}  {names[index] if names else f'class {index}'}")
    Image.fromarray(np.rint(255 * heatmap).astype(np.uint8)).save(out)
    print(f"written: {out}")
