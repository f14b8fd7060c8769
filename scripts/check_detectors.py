"""Compare the gradient of one box's score with autograd's, at every feature map that the boxes are made from.

torchvision's one-stage detectors with random weights, exported with their post-processing: TopK, NonMaxSuppression and
Gather are in the graph. The score explained is that of box 3 in the list that the model returns; compared is
Σ_k g_k A_k, HiResCAM's raw map, by relative L2. Run it where torch, torchvision and onnxcam are: `scripts/compare`
makes such an environment. The table goes to `scripts/results/detectors.md`.
"""

import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from torchvision.models import detection

from onnxcam import Explainer

TABLE = Path(__file__).resolve().parent / "results" / "detectors.md"
BOX = 3
SPREAD = 1.5  # standard deviation of the logits: random weights as they come give scores of 0 or 1
NONE = {"weights": None, "weights_backbone": None}
FEW = {"score_thresh": 0.0, "detections_per_img": 20, "topk_candidates": 50}
MODELS = {
    "ssdlite320_mobilenet_v3_large": (320, {}),
    "ssd300_vgg16": (300, {}),
    "retinanet_resnet50_fpn": (256, {"min_size": 256, "max_size": 256}),
    "fcos_resnet50_fpn": (256, {"min_size": 256, "max_size": 256}),
}
HEAD = f"""# Gradients of a box's score against autograd

torchvision's detectors, random weights, post-processing in the graph, score of box {BOX}. Relative L2 of Σ_k g_k A_k
at the feature maps that the boxes are made from, to autograd in float64: the largest where there is a gradient. At the
others there is none here either. Written by `scripts/check_detectors.py`.

| model | score, float64 | score, ONNX | feature maps | with a gradient | ours | autograd in float32 |
|---|---|---|---|---|---|---|
"""


class Listed(torch.nn.Module):
    """A detector of one picture [1, 3, H, W] that returns boxes, scores and labels."""

    def __init__(self, inner: torch.nn.Module) -> None:
        """Wrap a detector that takes and returns lists."""
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return what it finds in the one picture."""
        found = self.inner([x[0]])[0]
        return found["boxes"], found["scores"], found["labels"]


def detector(name: str, size: int, options: dict[str, int]) -> torch.nn.Module:
    """Build one whose activations and logits have a sensible spread."""
    torch.manual_seed(1)
    model = getattr(detection, name)(**NONE, **FEW, **options)
    for key, value in model.named_parameters():
        if value.dim() == 4 and "head" in key:
            torch.nn.init.normal_(value, 0, 0.03)
    for module in model.modules():
        module.train(isinstance(module, torch.nn.BatchNorm2d))
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
            module.reset_running_stats()
    head, seen = model.head.classification_head, []
    hook = head.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with torch.no_grad():
        model.backbone(model.transform([torch.rand(3, size, size) for _ in range(2)])[0].tensors)
        model.eval()([torch.rand(3, size, size)])
    hook.remove()
    logits = seen[0] if torch.is_tensor(seen[0]) else seen[0]["cls_logits"]
    last = [m for m in head.modules() if isinstance(m, torch.nn.Conv2d) and m.out_channels % logits.shape[-1] == 0]
    for conv in last if name.startswith("ssd") else last[-1:]:
        conv.weight.data *= SPREAD / logits.std()
        conv.bias.data.zero_()
    return model


def autograd(model: torch.nn.Module, x: torch.Tensor) -> tuple[float, dict[tuple[int, ...], np.ndarray]]:
    """The score of the box, and Σ_k g_k A_k by the shape of each feature map."""
    kept: list[torch.Tensor] = []

    def keep(_module: object, _inputs: object, output: dict[str, torch.Tensor]) -> None:
        for value in output.values():
            value.retain_grad()
            kept.append(value)

    hook = model.backbone.register_forward_hook(keep)
    model.zero_grad()
    score = model.eval()([x[0]])[0]["scores"][BOX]
    score.backward()
    hook.remove()
    maps = {}
    for value in kept:
        product = torch.zeros_like(value) if value.grad is None else value.grad * value
        maps[tuple(value.shape[2:])] = product.sum(1).detach().numpy()
    return float(score), maps


def distance(found: np.ndarray, true: np.ndarray) -> float:
    """Relative L2."""
    return float(np.linalg.norm(found - true) / np.linalg.norm(true))


def row(name: str, size: int, options: dict[str, int]) -> str:
    """Compare one model."""
    model = detector(name, size, options)
    torch.manual_seed(3)
    x = torch.rand(1, 3, size, size)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        names = {"input_names": ["image"], "output_names": ["boxes", "scores", "labels"]}
        torch.onnx.export(Listed(model), (x,), str(path), dynamo=False, opset_version=17, **names)
        found = Explainer(path, target=f"box:{BOX}")(x.numpy())
    _, rounded = autograd(model, x)
    score, maps = autograd(model.double(), x.double())
    errors, theirs = [], []
    for shape, true in maps.items():
        ours = [m for m in found.raw.values() if m.shape[1:] == shape]
        assert ours, f"{name}: no feature map of {shape} was chosen"
        if not true.any():
            assert any(not m.any() for m in ours), f"{name}: a gradient where autograd has none"
            continue
        errors.append(min(distance(m, true) for m in ours))
        theirs.append(distance(rounded[shape], true))
    counts = f"{len(maps)} | {len(errors)} | {max(errors):.1e} | {max(theirs):.1e}"
    measured = f"{score:.6f} | {found.scores[0]:.6f} | {counts}"
    return f"| {name} | {measured} |"


def main() -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    rows = []
    for name, (size, options) in MODELS.items():
        rows.append(row(name, size, options))
        print(rows[-1], flush=True)
    TABLE.write_text(HEAD + "\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
