"""One picture, one file, many runtimes: how far heat maps of explainable files are from those of the Python API.

    scripts/compare runtimes [--only NAME] [--in RUNTIME] [--fresh]

Each network is converted by `onnxcam.convert(..., emit=["heatmap"])`. `onnxcam.Explainer` on the original gives the map
to compare with; then the file runs, on the same input, in onnxruntime's CPU provider, OpenVINO (computing in float32),
tract, onnxruntime-node, and onnxruntime-web in a headless Chromium, in WebAssembly and, for the small networks, in
WebGPU on Chromium's software adapter. All of it once for the top class and once for the second: by `cam/target` where
a runtime can give it, by a file with that class fixed (`target=`) in OpenVINO and tract, which know no optional inputs.
For the demo model the page in examples/web is clicked through as well, from the photo to the second class.

Python and npm packages are installed below build/runtimes by scripts/runtimes/probe.py. Chromium is taken from
$CHROMIUM or the PATH (Debian, Ubuntu: apt-get install chromium); where there is none, `npx playwright install chromium`
fetches one. Every row is kept in build/runtimes as soon as it is measured.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
from common import CACHE, ROOT, Rows, arguments, markdown, say, select, versions, write_result
from onnx import numpy_helper
from runtimes import probe

import onnxcam
from onnxcam import image
from onnxcam.preprocessing import PRESETS, Preprocess
from onnxcam.preprocessing.spec import CHOICES

HERE = Path(__file__).resolve().parent
HOME = ROOT / "build" / "runtimes"
PHOTO = ROOT / "models" / "cat-and-espresso.png"
DEMO = ROOT / "models" / "efficientnet-lite0.onnx"
TORCH = ("mobilenet_v2", "resnet50", "convnext_tiny", "vit_b_16", "swin_t")
QUANTIZED = "efficientnet-lite0, QDQ"
NETWORKS = ("efficientnet-lite0", *TORCH, QUANTIZED)
SMALL = ("efficientnet-lite0", "mobilenet_v2", QUANTIZED)  # what a software GPU does in a minute
PYTHON = ("openvino", "openvino-default", "tract")
RUNTIMES = {
    "cpu": "onnxruntime CPU",
    "openvino": "OpenVINO, f32",
    "openvino-default": "OpenVINO, by default",
    "tract": "tract",
    "node": "onnxruntime-node",
    "wasm": "onnxruntime-web, wasm",
    "webgpu": "onnxruntime-web, WebGPU",
    "page": "the page, clicked",
}
GOAL = 1e-5
PATIENCE = 1800


# ----- the networks -----
def model_of(name: str, cache: Path) -> Path:
    """The ONNX file of a network."""
    if name == QUANTIZED:
        return quantized(cache / "lite0-qdq.onnx")
    return DEMO if name not in TORCH else exported(name, cache)


def exported(name: str, cache: Path) -> Path:
    """A torchvision network of random weights that behave, with an open batch, opset 17."""
    path = cache / name / "runtimes.onnx"
    if path.exists():
        return path
    import torch
    import zoo
    from common import smooth_images

    network = zoo.load(name, cache)
    torch.manual_seed(0)
    for key, parameter in network.named_parameters():  # at first, blocks add nothing and a head of zeros sees nothing
        if key.endswith("layer_scale"):
            torch.nn.init.constant_(parameter, 0.1)
        elif "head" in key and key.endswith("weight") and parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.05)
    path.parent.mkdir(parents=True, exist_ok=True)
    zoo.write(network, torch.from_numpy(smooth_images(2, 224)), "torchscript-17", path)
    return path


def quantized(path: Path) -> Path:
    """The demo model with quantized weights and activations, calibrated on the photographs beside it."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    if path.exists():
        return path

    class Photos(CalibrationDataReader):
        """The photographs, once."""

        def __init__(self) -> None:
            self.left = [image_of(DEMO, photo) for photo in sorted(PHOTO.parent.glob("*.png"))]

        def get_next(self) -> dict[str, np.ndarray] | None:
            """The next one, or None."""
            return {"image": self.left.pop()} if self.left else None

    path.parent.mkdir(parents=True, exist_ok=True)
    types = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8, "per_channel": True}
    quantize_static(DEMO, path, Photos(), quant_format=QuantFormat.QDQ, **types)
    return path


def image_of(model: Path, photo: Path = PHOTO) -> np.ndarray:
    """The input that the Python API makes of a photo."""
    explainer = onnxcam.Explainer(model, providers="cpu")
    return explainer.preprocess.apply(image.read(photo))


# ----- the runtimes -----
def in_cpu(job: dict) -> dict:
    """The file in onnxruntime's CPU provider, here."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(job["file"], options, providers=["CPUExecutionProvider"])
    pixels = np.fromfile(job["image"], np.float32).reshape(job["shape"])
    feeds = {session.get_inputs()[0].name: pixels, "cam/target": np.array([job["target"]])}
    scores, heatmap = session.run([session.get_outputs()[0].name, "cam/heatmap"], feeds)
    scores.tofile(job["scores"])
    heatmap.tofile(job["output"])
    return {}


def elsewhere(runtime: str, job: dict, home: Path) -> dict:
    """The file in a runtime of its own process, which may end in a crash."""
    jobs, results = home / "jobs.json", home / "results.jsonl"
    jobs.write_text(json.dumps([job]))
    results.unlink(missing_ok=True)
    if runtime in PYTHON:
        command = [home / "venv/bin/python", HERE / "runtimes/heatmaps.py", runtime, jobs, results]
    else:
        command = ["node", HERE / "runtimes/heatmaps.mjs", runtime, jobs, results, home / "node_modules"]
    environment = os.environ | {"CHROMIUM": chromium(home), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environment)
    if results.exists():
        return json.loads(results.read_text())
    return {"error": f"ended with {done.returncode}: {done.stderr.strip()[-300:]}"}


def chromium(home: Path) -> str:
    """The path of a Chromium that is installed, or is installed now."""
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if found:
        return found
    subprocess.run(["npx", "playwright", "install", "--with-deps", "chromium"], cwd=home, check=True)  # noqa: S607 - found on PATH
    script = "console.log(require('playwright').chromium.executablePath())"
    return subprocess.run(["node", "-e", script], cwd=home, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S607 - found on PATH


def compare(
    runtime: str, files: list[Path], truth: list[np.ndarray], scores: np.ndarray, job: dict, home: Path
) -> dict:
    """The largest differences of a runtime's maps and scores from the truth, over the classes; or the error it gave."""
    far = {"difference": 0.0, "scores": 0.0}
    for choice, (file, true) in enumerate(zip(files, truth, strict=True)):
        target = choice_of(file)
        job = job | {"file": str(file), "target": target}
        if runtime == "page":
            job |= {"file": str(files[0]), "photo": str(PHOTO), "choice": choice and label(files[0], target)}
            job["screenshot"] = choice and str(ROOT / "docs" / "web.png")
        said = in_cpu(job) if runtime == "cpu" else elsewhere(runtime, job, home)
        if "error" in said:
            return {"error": said["error"]}
        for key, place, expected in (("difference", "output", true), ("scores", "scores", scores)):
            found = np.fromfile(job[place], np.float32).reshape(expected.shape)
            far[key] = float(np.fmax(far[key], np.abs(found - expected).max())) if np.isfinite(found).all() else np.inf
    return far


def choice_of(file: Path) -> int:
    """The class that a file explains where none is given."""
    proto = onnx.load(file, load_external_data=False)
    return int(next(numpy_helper.to_array(t)[0] for t in proto.graph.initializer if t.name == "cam/target"))


def label(file: Path, index: int) -> str:
    proto = onnx.load(file, load_external_data=False)
    return json.loads(next(p.value for p in proto.metadata_props if p.key == "cam.classes"))[index]


def measure(name: str, runtimes: list[str], rows: Rows, home: Path, cache: Path) -> None:
    """Fill the rows of one network."""
    model = model_of(name, cache)
    pixels = image_of(model)
    pixels.tofile(home / "image.bin")
    job = {"image": str(home / "image.bin"), "shape": pixels.shape}
    job |= {"output": str(home / "heatmap.bin"), "scores": str(home / "scores.bin")}
    explain = partial(onnxcam.Explainer, model, providers="cpu")
    scores = next(iter(explain()(pixels).outputs.values()))
    best, second = (int(index) for index in np.argsort(-scores[0])[:2])
    targets = [best if name == QUANTIZED else -1, second]  # integers round differently, and another class may be on top
    truth = [explain(target=None if target < 0 else target)(pixels).maps for target in targets]
    files = [home / "files" / f"{name.replace(', ', '-')}-{choice}.onnx" for choice in ("top", "second")]
    for file, target in zip(files, targets, strict=True):
        onnxcam.convert(model, file, target=target, emit=["heatmap"])
    for runtime in runtimes:
        key = f"{name} {runtime}"
        if key in rows:
            continue
        say(key)
        found = compare(runtime, files, truth, scores, job, home)
        layer = json.loads(next(p.value for p in onnx.load(files[0]).metadata_props if p.key == "cam.layers"))[0]
        rows.add(key, network=name, runtime=runtime, layer=layer, **found)
        print(key, found, flush=True)


# ----- the page's own preprocessing -----
def photos(folder: Path) -> str:
    """What examples/web/onnxcam.mjs makes of photos, against onnxcam.image: a line for the text."""
    size = {"size": (224, 160)}
    hows = [replace(preset, **size) for preset in PRESETS.values()]
    hows += [Preprocess(**size, interpolation=name) for name in CHOICES["interpolation"]]
    hows += [Preprocess(**size, layout="NHWC", dtype=name, mean=(100.0,)) for name in ("uint8", "int8")]
    hows += [Preprocess(**size, resize="letterbox", color="GRAY"), Preprocess()]
    hows += [
        Preprocess(**size, resize="crop", shortest_edge=200),
        Preprocess(**size, resize="crop", shortest_edge=257, anchor="centre-down"),
        Preprocess(size=(224, 224), resize="crop"),
        Preprocess(resize="proportional", shortest_edge=80, multiple=32),
        Preprocess(**size, resize="crop", resized=(256, 256)),
    ]
    hows += [Preprocess(resize="proportional", shortest_edge=80, longest_edge=longest) for longest in (None, 100)]
    pictures = [image.read(path) for path in sorted(PHOTO.parent.glob("*.png"))]
    pictures.append(cv2.resize(pictures[0], (2111, 1500), interpolation=cv2.INTER_CUBIC))
    folder.mkdir(exist_ok=True)
    jobs, due = [], []
    for number, picture in enumerate(pictures):
        pixels = folder / f"photo-{number}.rgba"
        cv2.cvtColor(picture, cv2.COLOR_RGB2RGBA).tofile(pixels)
        for how in hows:
            job = {"pixels": str(pixels), "height": picture.shape[0], "width": picture.shape[1]}
            jobs.append(job | {"how": json.loads(how.to_json()), "output": str(folder / f"photo-{len(jobs)}.bin")})
            due.append((how, how.apply(picture)))
    (folder / "photos.json").write_text(json.dumps(jobs))
    subprocess.run(["node", HERE / "runtimes" / "photos.mjs", folder / "photos.json"], check=True)  # noqa: S607 - found on PATH
    found = [np.fromfile(job["output"], x.dtype).reshape(x.shape) for job, (_, x) in zip(jobs, due, strict=True)]
    shutil.rmtree(folder)
    off: dict[str, list[float]] = {"Pillow's": [], "OpenCV's": []}
    for values, (how, expected) in zip(found, due, strict=True):
        levels = np.abs(values.astype(np.float64) - expected) * min(how.std)
        off["OpenCV's" if how.interpolation in image.OPENCV else "Pillow's"].append(float(levels.max()))
    ways = " and ".join(f"at most {max(far):.0f} of 255 apart with {whose} filters" for whose, far in off.items())
    return f"{len(pictures)} photos in {len(hows)} ways, {ways}"


# ----- the table -----
def cell(row: dict | None) -> str:
    if row is None:
        return "–"
    if "error" in row:
        return f"fails: {row['error'][:120]}"
    scores = f", scores {row['scores']:.1e}" if row["network"] == QUANTIZED else ""
    return f"{row['difference']:.1e}{scores}"


def table(rows: Rows) -> str:
    lines = []
    for name in NETWORKS:
        found = [rows.get(f"{name} {runtime}") for runtime in RUNTIMES]
        layer = next((row["layer"] for row in found if row), None)
        if layer:
            lines.append([name, f"`{layer}`", *map(cell, found)])
    return markdown(["network", "layer", *RUNTIMES.values()], lines)


def installed(home: Path) -> str:
    """The versions of the runtimes."""
    python = [f"{name} {version}" for name, version in re.findall(r"(\w+)==([\d.]+)", " ".join(probe.PYTHON))]
    packages = [home / "node_modules" / name / "package.json" for name in ("onnxruntime-node", "onnxruntime-web")]
    node = [f"{found['name']} {found['version']}" for found in (json.loads(p.read_text()) for p in packages)]
    said = subprocess.run([chromium(home), "--version"], capture_output=True, text=True)
    node_version = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout.strip()  # noqa: S607 - found on PATH
    return ", ".join(
        [versions("onnxruntime", "torch", "torchvision"), *python, *node, f"Node {node_version}", said.stdout.strip()]
    )


TEXT = """# One picture, one file, many runtimes

Made by `scripts/compare runtimes`, with {versions}.

The largest difference between a runtime's heat map, 224×224 in 0 to 1, and that of `onnxcam.Explainer` on the original
model, for `models/cat-and-espresso.png`, over two maps: of the top class, and of the second. The goal for models in
floating point is {goal:.0e}. The quantized model's scores differ too, because each runtime rounds integers in its own
way, or computes in floating point between the quantized tensors: how far they are apart is said beside it.

{table}
The file is one and the same everywhere: `onnxcam.convert(model, file, emit=["heatmap"])`, Grad-CAM at the layer that is
chosen by itself. `cam/target` is an optional input, which only onnxruntime's C, C++ and Python interfaces know: the
second class is a file with `target=` in OpenVINO and tract, and in JavaScript `requireInput` of
examples/web/onnxcam.mjs makes the input one that has to be given. torchvision's networks have random weights, as
scripts/zoo.py makes them. OpenVINO computes in float32 where it is told to (INFERENCE_PRECISION_HINT); by default it
takes bfloat16 where the processor has it, as here, and that column is no part of the goal. WebGPU ran on Chromium's
software adapter (SwiftShader), small networks only.
*The page, clicked* is examples/web in Chromium, from the photo itself, so that the difference includes its
preprocessing; and that is held against onnxcam's own: {photos}.
"""


def main() -> None:
    parser = arguments("Compare heat maps of explainable files over runtimes.")
    parser.add_argument("--home", type=Path, default=HOME, help="where runtimes are installed, and rows kept")
    parser.add_argument("--in", dest="runtimes", action="append", default=[], metavar="RUNTIME", choices=list(RUNTIMES))
    options = parser.parse_args()
    cache = options.cache or CACHE
    probe.install(options.home)
    rows = Rows(options.home / "heatmaps.jsonl")
    for name in select(NETWORKS, options.only):
        if options.fresh:
            rows.forget(name)
        runtimes = [r for r in options.runtimes or RUNTIMES if r != "page" or name == NETWORKS[0]]
        measure(name, [r for r in runtimes if r != "webgpu" or name in SMALL], rows, options.home, cache)
    text = TEXT.format(
        versions=installed(options.home), goal=GOAL, table=table(rows), photos=photos(options.home / "photos")
    )
    write_result("runtimes", text)
    held = [key for key, row in rows.items() if row["network"] != QUANTIZED and row["runtime"] != "openvino-default"]
    far = [key for key in held if not rows[key].get("difference", 1) <= GOAL]
    if far:
        sys.exit(f"Further than {GOAL:.0e}: {', '.join(far)}")


if __name__ == "__main__":
    main()
