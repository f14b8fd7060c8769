"""Compare onnxcam's maps with pytorch-grad-cam's, run live on the same networks, images, layers and classes.

    scripts/compare maps                       in the environment that it needs
    python scripts/check_maps.py               where torch and grad-cam are installed
    python scripts/check_maps.py --freeze      only write the numbers that tests/test_golden.py compares with

Every method that both have, at the layer that `inspect` puts first, and two methods fused over two layers: final maps,
in 0..1 at the image's size, may differ by 1e-3 anywhere. Score-CAM gets one image, the others two. Where they differ
by more, because float32 flips masks of ReLU and MaxPool between a fused layer and the score, both are compared with
pytorch-grad-cam's maps in float64: ours may be at most 1.5 times as far from these as its own float32 ones.

The sign of a singular vector is arbitrary, and pytorch-grad-cam leaves it to LAPACK. For the Eigen methods its raw maps
are turned to our sign, sample by sample, before the rest of its own pipeline.
"""

import contextlib
import io
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytorch_grad_cam
import torch
import zoo
from common import ROOT, Rows, arguments, markdown, say, select, smooth_images, versions, write_result
from pairing import FeatureMap, Unpaired, feature_maps, first_pair, side
from pytorch_grad_cam.utils.image import scale_cam_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

import onnxcam

METHODS = {
    "gradcam": pytorch_grad_cam.GradCAM,
    "gradcam++": pytorch_grad_cam.GradCAMPlusPlus,
    "xgradcam": pytorch_grad_cam.XGradCAM,
    "hirescam": pytorch_grad_cam.HiResCAM,
    "gradcamelementwise": pytorch_grad_cam.GradCAMElementWise,
    "layercam": pytorch_grad_cam.LayerCAM,
    "eigencam": pytorch_grad_cam.EigenCAM,
    "eigengradcam": pytorch_grad_cam.EigenGradCAM,
    "scorecam": pytorch_grad_cam.ScoreCAM,
}
CASES = {**dict.fromkeys(METHODS, 1), "gradcam, 2 layers": 2, "layercam, 2 layers": 2}
EXPORTER = "torchscript-17"
LIMIT = 1e-3
GOLDEN = ROOT / "tests" / "golden" / "pytorch-grad-cam.npz"


class Maps(NamedTuple):
    """What a method gives: each layer's signed maps at its own size, and the final maps at the image's size."""

    raw: list[np.ndarray]
    final: np.ndarray


def theirs(network: nn.Module, method: str, layers: list[nn.Module], images: np.ndarray, targets: list[int]) -> Maps:
    """Run pytorch-grad-cam; the raw maps are caught on their way through its pipeline."""
    raw: list[np.ndarray] = []
    with METHODS[method](network, layers) as cam, contextlib.redirect_stderr(io.StringIO()):  # Score-CAM's progress
        image_of = cam.get_cam_image
        cam.get_cam_image = lambda *inputs: raw.append(image_of(*inputs)) or raw[-1]
        final = cam(torch.from_numpy(images), [ClassifierOutputTarget(target) for target in targets])
    return Maps(raw, final)


def ours(path: Path, method: str, layers: list[str], images: np.ndarray, targets: list[int]) -> Maps:
    explanation = onnxcam.Explainer(path, method, layers=layers, target=targets, providers="cpu")(images)
    return Maps([explanation.raw[layer] for layer in explanation.layers], explanation.maps)


def turned(maps: Maps, like: Maps) -> Maps:
    """Turn raw maps to the signs of `like`, and let pytorch-grad-cam's pipeline follow."""
    raw, scaled = [], []
    for each, ours in zip(maps.raw, like.raw, strict=True):
        raw.append(each * np.where((each * ours).sum((1, 2), keepdims=True) < 0, -1, 1))
        scaled.append(scale_cam_image(np.maximum(raw[-1], 0), like.final.shape[:0:-1]))
    return Maps(raw, scale_cam_image(np.mean(scaled, axis=0)))


def reference(file: Path, network: nn.Module, method: str, labels: list[str], *given: Any) -> Maps:
    """Run `theirs` for the modules called `labels`, or take what it gave before from `file`."""
    if file.exists():
        with np.load(file) as arrays:
            if arrays["labels"].tolist() == labels:
                return Maps([arrays[f"raw{n}"] for n in range(len(labels))], arrays["final"])
    maps = theirs(network, method, modules(network, labels), *given)
    np.savez(file, labels=labels, final=maps.final, **{f"raw{n}": raw for n, raw in enumerate(maps.raw)})
    return maps


def modules(network: nn.Module, labels: list[str]) -> list[nn.Module]:
    """The modules of a network that `labels` name."""
    return [network.model.get_submodule(label.split()[0]) for label in labels]


def fits(row: dict[str, Any]) -> bool:
    """Whether a map is as near as it has to be."""
    if row["final"] <= LIMIT:
        return True
    ours_, theirs_ = row["from_exact"]
    return bool(max(ours_) <= 1.5 * max(theirs_))


def layers_of(path: Path, oracle: zoo.Oracle, images: np.ndarray) -> list[FeatureMap]:
    """Take the best of the layers with at least twice the resolution of the very best one, and that one.

    In this order, because pytorch-grad-cam's raw maps come in the order in which its modules run. A module that runs
    more than once is of no use to it.
    """
    maps, _ = oracle.run(images, "float32")
    once = {label: value for label, value in maps.items() if label.endswith(" 0") and f"{label[:-1]}1" not in maps}
    values = feature_maps(path, images)
    best, *others = [layer.tensor for layer in onnxcam.inspect(path).layers]
    finer = [name for name in others if side(values[name]) >= 2 * side(values[best])]
    return [first_pair(finer, values, once), first_pair([best], values, once)]


def check(name: str, rows: Rows, cache: Path) -> None:
    """Measure one network, as far as its rows are missing."""
    todo = [case for case in CASES if f"{name} {case}" not in rows]
    if not todo:
        return
    oracle, path = zoo.Oracle(name, cache), zoo.export(name, EXPORTER, cache)
    images = oracle.images(2)
    layers = layers_of(path, oracle, images)
    targets = oracle.run(images, "float32")[1].argmax(axis=1).tolist()
    for case in todo:
        say(f"{name}, {case}")
        method, some = case.split(",")[0], layers[-CASES[case] :]
        samples = slice(1) if method == "scorecam" else slice(2)
        file, labels = cache / name / f"maps-{case}.npz", [each.label for each in some]
        true = reference(file, oracle.network, method, labels, images[samples], targets[samples])
        found = ours(path, method, [each.tensor for each in some], images[samples], targets[samples])
        if method.startswith("eigen"):
            true = turned(true, like=found)
        far = float(np.abs(found.final - true.final).max())
        from_exact = None
        if far > LIMIT:
            network, precise = oracle.network.double(), images[samples].astype(float)
            exact = theirs(network, method, modules(network, labels), precise, targets[samples])
            oracle.network.float()
            from_exact = [np.abs(each.final - exact.final).max((1, 2)).tolist() for each in (found, true)]
        rows.add(
            f"{name} {case}",
            network=name,
            case=case,
            layers=[each.tensor for each in some],
            raw=max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(found.raw, true.raw, strict=True)),
            final=far,
            from_exact=from_exact,
            versions=versions("grad-cam", "torch", "torchvision", "onnx", "onnxruntime", "numpy"),
        )


def report(rows: Rows) -> str:
    """Format the Markdown report: the largest differences of the final maps, then of the raw ones."""
    networks = list(dict.fromkeys(row["network"] for row in rows.values()))

    def differences(kind: str) -> str:
        cells = [[rows.get(f"{name} {case}") for case in CASES] for name in networks]
        texts = [[f"{row[kind]:.0e}" if row else "" for row in line] for line in cells]
        return markdown(["network", *CASES], ([name, *line] for name, line in zip(networks, texts, strict=True)))

    pairs = {row["network"]: row["layers"] for row in rows.values() if len(row["layers"]) == 2}
    layers = [[name, f"`{best}`", f"`{finer}`"] for name, (finer, best) in pairs.items()]
    return "\n\n".join(
        [
            "# Maps against pytorch-grad-cam",
            "Made by `scripts/compare maps` with:",
            "\n".join(f"- {each}" for each in sorted({row["versions"] for row in rows.values()})),
            __doc__.partition("test_golden.py compares with\n\n")[2].strip(),
            f"Largest absolute difference of the final maps (limit {LIMIT:g}):",
            differences("final").strip(),
            "Those above the limit, and each image's distance from pytorch-grad-cam in float64:",
            markdown(
                ["network", "maps", "ours to theirs", "ours to float64", "theirs to float64"],
                [
                    [
                        row["network"],
                        row["case"],
                        f"{row['final']:.1e}",
                        *(" and ".join(f"{d:.1e}" for d in each) for each in row["from_exact"]),
                    ]
                    for row in rows.values()
                    if row["final"] > LIMIT
                ],
            ).strip(),
            "Largest difference of the raw, signed maps, as a part of the largest value:",
            differences("raw").strip(),
            "Layers (the second one only where two are fused):",
            markdown(["network", "layer", "second"], layers),
        ]
    )


class Tiny(nn.Module):
    """A network on which no two methods agree.

    Its head looks at places, so gradients differ from place to place; its last activations are negative at times; and
    its gradients are so small that the epsilons in the formulas show.
    """

    def __init__(self) -> None:
        """Make it with random weights."""
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.ReLU())
        self.third = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(8, 10, 3, padding=1), nn.LeakyReLU(0.3))
        self.head = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(160, 5))

    def forward(self, x):
        """Compute logits [N, 5] of images [N, 3, 32, 32]."""
        return self.head(self.third(self.second(self.first(x))))


def freeze() -> None:
    """Write pytorch-grad-cam's maps of a tiny network, with its weights and inputs, for a test that needs no torch."""
    torch.manual_seed(1)
    network, images, targets = Tiny().eval(), smooth_images(2, 32, seed=5), [3, 0]
    arrays = {f"weight/{name}": value.numpy() for name, value in network.state_dict().items()}
    logits = network(torch.from_numpy(images)).detach().numpy()
    arrays |= {"image": images, "target": np.array(targets), "logits": logits}
    for case, count in CASES.items():
        layers = ["second", "third"][-count:]
        maps = theirs(network, case.split(",")[0], [network.get_submodule(name) for name in layers], images, targets)
        arrays[f"{case}/final"] = maps.final
        arrays |= {f"{case}/raw/{layer}": raw for layer, raw in zip(layers, maps.raw, strict=True)}
    GOLDEN.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(GOLDEN, **{name: np.asarray(value) for name, value in arrays.items()})
    print(f"written: {GOLDEN.relative_to(ROOT)} ({GOLDEN.stat().st_size} bytes)")


def main() -> int:
    """Measure, print, write the report; 1 when a map is too far."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--freeze", action="store_true", help="only write the golden file of the tests")
    options = parser.parse_args()
    if options.freeze:
        freeze()
        return 0
    rows, refused = Rows(options.cache / "maps.jsonl"), []
    for name in select(zoo.NETWORKS, options.only):
        if options.fresh:
            rows.forget(name)
        try:
            check(name, rows, options.cache)
        except (onnxcam.OnnxcamError, Unpaired) as error:
            refused.append(f"{name}: {error}")
            continue
        print(name, *(f"{case} {rows[f'{name} {case}']['final']:.0e}" for case in CASES), sep="  ", flush=True)
    write_result("maps", report(rows))
    different = [f"{key}: {row['final']:.1e}" for key, row in rows.items() if not fits(row)]
    print(*refused, *different, sep="\n")
    return int(bool(refused or different))


if __name__ == "__main__":
    sys.exit(main())
