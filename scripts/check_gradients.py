"""Compare `onnxcam.vjp` with autograd in float64, on whole networks and on every exporter's files.

    scripts/compare gradients                      everything, in the environments that it needs
    python scripts/check_gradients.py torch        the torchvision networks, where torch is installed
    python scripts/check_gradients.py keras        the keras.applications networks, where tensorflow is installed
    python scripts/check_gradients.py table        only write the table, of the rows that are in the cache

For each file: the gradient of one class score at the layer that `inspect` puts first and at an early one, for three
random images in one batch. Feature maps of the two worlds are paired by their values, so no names are needed.

The error is the relative L2 distance from autograd in float64, the best of the three images. It has to be at most
1e-5, or at most 1.5 times the error of the framework's own float32 gradient: rounding flips masks of ReLU, ReLU6 and
MaxPool at random, and over a deep network that alone can make 1e-2. Wherever an error is above 1e-5, the network's
smooth twin (no kinks: smooth activations, average pools) is measured too, and has to be below 1e-5 itself.
"""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
from common import Rows, arguments, markdown, relative_error, say, select, versions, write_result
from pairing import FeatureMap, Unpaired, feature_maps, first_pair, session, side

import onnxcam

SAMPLES = 3
EXACT = 1e-5
RATIO = 1.5
ROLES = ("chosen", "early")
SMOOTH = "-smooth"
ZOOS = {"torch": "zoo", "keras": "zoo_keras"}
COLUMNS = ("network", "exporter", "opset", "layer", "tensor", "shape", "ours", "framework's float32", "verdict")


def true_gradients(folder: Path, oracle: Any, images: np.ndarray, targets: np.ndarray, labels: list[str]) -> list[Any]:
    """Get the framework's gradients for each label, {"float64": …, "float32": …}; they are kept in `folder`."""
    files = {label: folder / f"gradient-{label.replace('/', '_').replace(' ', '-')}.npz" for label in labels}
    missing = [label for label, file in files.items() if not file.exists()]
    if missing:
        both = [oracle.gradients(images, dtype, targets, missing) for dtype in ("float64", "float32")]
        for label, double, single in zip(missing, *both, strict=True):
            np.savez(files[label], float64=double, float32=single)
    return [np.load(files[label]) for label in labels]


def our_gradients(
    path: Path, score: str, maps: list[FeatureMap], images: np.ndarray, targets: np.ndarray
) -> list[np.ndarray]:
    """Run the file that `onnxcam.vjp` makes; gradients as [N, C, H, W]."""
    running = session(onnxcam.vjp(path, of=score, wrt=[each.tensor for each in maps]))
    image, seed = running.get_inputs()
    feed = {image.name: images, seed.name: np.eye(seed.shape[-1], dtype=np.float32)[targets]}
    found = running.run([f"grad/{each.tensor}" for each in maps], feed)
    return [each.turn(gradient) for each, gradient in zip(maps, found, strict=True)]


class Subject:
    """A network in its framework with images, feature maps and classes: what every exported file is compared with."""

    def __init__(self, zoo: ModuleType, name: str, cache: Path) -> None:
        """Run the network in float64."""
        self.oracle = zoo.Oracle(name, cache)
        self.images = self.oracle.images(SAMPLES)
        self.maps, logits = self.oracle.run(self.images, "float64")
        self.targets = logits.argmax(axis=1)

    def check(self, path: Path) -> Iterator[dict[str, Any]]:
        """Measure one exported file: the chosen layer, then an early one."""
        inspection = onnxcam.inspect(path)
        values = feature_maps(path, self.images)
        small = [tensor for tensor, value in values.items() if side(value) <= self.oracle.size / 4]
        best = inspection.layers[0].tensor
        chosen = [first_pair(names, values, self.maps) for names in ([best], small)]
        labels = [each.label for each in chosen]
        truths = true_gradients(path.parent, self.oracle, self.images, self.targets, labels)
        found = our_gradients(path, inspection.scores[0].tensor, chosen, self.images, self.targets)
        for role, layer, true, gradient in zip(ROLES, chosen, truths, found, strict=True):
            yield {
                "opset": opset(path),
                "role": role,
                "tensor": layer.tensor,
                "shape": list(gradient.shape[1:]),
                "ours": relative_error(gradient, true["float64"]).tolist(),
                "float32": relative_error(true["float32"], true["float64"]).tolist(),
            }


def opset(path: Path) -> int:
    return next(each.version for each in onnx.load(path).opset_import if not each.domain)


def verdict(row: dict[str, Any], rows: Rows) -> str:
    """Say why the row's error is as it should be, or FAILS."""
    ours, float32 = min(row["ours"]), min(row["float32"])
    if ours <= EXACT:
        return "≤ 1e-5"
    twin = rows.get(row["key"].replace(row["network"], row["network"] + SMOOTH))
    without_kinks = min(twin["ours"]) if twin else float("inf")
    if without_kinks > EXACT:
        return "FAILS"
    return f"{ours / float32:.2f} × float32's" if ours <= RATIO * float32 else f"kinks: {without_kinks:.1e} without"


def line(row: dict[str, Any], rows: Rows) -> list[str]:
    """Format the row."""
    errors = [f"{min(row['ours']):.1e}", f"{min(row['float32']):.1e}"]
    layer = [row["role"], f"`{row['tensor']}`", "×".join(map(str, row["shape"]))]
    return [row["network"], row["exporter"], str(row["opset"]), *layer, *errors, verdict(row, rows)]


def report(rows: Rows) -> str:
    """Format the Markdown report: the networks, then their smooth twins."""
    ordered = [rows[key] for key in sorted(rows)]
    networks = [line(row, rows) for row in ordered if not row["network"].endswith(SMOOTH)]
    twins = [line(row, rows) for row in ordered if row["network"].endswith(SMOOTH)]
    method = __doc__.partition("in the cache\n\n")[2]
    parts = ["# Gradients of whole networks", "Made by `scripts/compare gradients` with:"]
    parts.append("\n".join(f"- {each}" for each in sorted({row["versions"] for row in ordered})))
    parts += [method, markdown(COLUMNS, networks), "## Smooth twins", markdown(COLUMNS, twins)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def measure(zoo: ModuleType, name: str, rows: Rows, cache: Path) -> list[str]:
    """Add the rows of one network that are missing; what could not be measured is returned."""
    todo = [exporter for exporter in zoo.EXPORTERS if f"{zoo.FRAMEWORK} {name} {exporter} {ROLES[-1]}" not in rows]
    subject = Subject(zoo, name, cache) if todo else None
    refused, used = [], versions(*zoo.PACKAGES, "onnx", "onnxruntime", "numpy")
    for exporter in todo:
        say(f"{name}, {exporter}")
        made = {"network": name, "exporter": exporter, "versions": used}
        try:
            for row in subject.check(zoo.export(name, exporter, cache)):
                new = rows.add(f"{zoo.FRAMEWORK} {name} {exporter} {row['role']}", **made, **row)
                print("  ".join(line(new, rows)[:-1]), flush=True)
        except (onnxcam.OnnxcamError, Unpaired) as error:
            refused.append(f"{name}, {exporter}: {error}")
    return refused


def main() -> int:
    """Measure, print, write the report; 1 when a row fails or a network has none."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("framework", choices=[*ZOOS, "table"])
    options = parser.parse_args()
    rows, refused = Rows(options.cache / "gradients.jsonl"), []
    if options.framework != "table":
        zoo = importlib.import_module(ZOOS[options.framework])
        for name in select(zoo.NETWORKS, options.only):
            for network in (name, name + SMOOTH):
                if options.fresh:
                    rows.forget(network)
                refused += measure(zoo, network, rows, options.cache)
                if all(min(row["ours"]) <= EXACT for row in rows.values() if row["network"] == network):
                    break
    write_result("gradients", report(rows))
    failures = [key for key, row in rows.items() if verdict(row, rows) == "FAILS"]
    print(*refused, *(f"{key} FAILS" for key in failures), sep="\n")
    return int(bool(refused or failures))


if __name__ == "__main__":
    sys.exit(main())
