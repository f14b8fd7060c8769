"""torchvision's detectors for the sweep: random weights that behave, one picture without a batch, all in the graph.

A detector takes a list of pictures C×H×W and is exported as it is, for a list of one: resizing, proposals, RoiAlign,
TopK and NonMaxSuppression are in the graph. What is explained without a flag is the score of the most certain box, at
every feature map that the boxes' scores are made from; the gradients at all of them are compared as one vector. The
same file is asked for box number 3 as well, and the worse of the two gradients counts.
Proposals stay where they are, in torchvision as here: no gradient flows through their corners.
"""

import contextlib
import copy
import io
from collections import OrderedDict
from pathlib import Path
from typing import Any

import measuring
import numpy as np
import onnx
import torch
import torchvision
import zoo
from common import relative_error, smooth_images
from pairing import axis_like, flat
from torch import nn

import onnxcam

PACKAGES = zoo.PACKAGES
EXPORTERS = ("torchscript-17", "dynamo")
PICTURES = 3
# Standard deviation of the logits: random weights as they come give scores of 0 or 1, whose gradient p (1 − p) is lost
# in rounding. Of thousands of boxes the best is 4 to 5 of them from the mean.
SOFTMAX, SIGMOID = 1.5, 0.7
KERNELS = 0.03  # that of the heads' kernels
BOXES = ({}, {"cam/index": np.int64([3])})  # what the explainable file is asked for: the best box, box number 3
FEW = {"detections_per_img": 20}
ONE_STAGE = FEW | {"score_thresh": 0.0, "topk_candidates": 50}
TWO_STAGE = {"box_detections_per_img": 20, "box_score_thresh": 0.01, "rpn_post_nms_top_n_test": 50}
SIZES = {"ssdlite": 320, "ssd": 300, "": 192}


class Alone(nn.Module):
    """A detector of one picture x [3, H, W], for the exporters."""

    def __init__(self, inner: nn.Module) -> None:
        """Wrap a detector that takes and returns lists."""
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return what it finds in the picture."""
        return tuple(self.inner([x])[0].values())


def detector(name: str, size: int) -> nn.Module:
    """Make one whose activations and logits have a sensible spread."""
    two = "rcnn" in name
    options = (TWO_STAGE if two else ONE_STAGE) | (
        {} if name.startswith("ssd") else {"min_size": size, "max_size": size}
    )
    model = torchvision.models.get_model(name, weights=None, weights_backbone=None, **options)
    for key, value in model.named_parameters():
        if value.dim() == 4 and "head" in key:
            nn.init.normal_(value, 0, KERNELS)
    picture = pictures(3, size, seed=100)
    settle(model, picture)
    if two:
        spread(model, [model.rpn.head.cls_logits], SIGMOID, picture)
        spread(model, [model.roi_heads.box_predictor.cls_score], SOFTMAX, picture)
    else:
        deviation = SOFTMAX if name.startswith("ssd") else SIGMOID
        spread(model, last_layers(model.head.classification_head), deviation, picture)
    return model.requires_grad_(False)


def last_layers(head: nn.Module) -> list[nn.Module]:
    """The convolutions that make the logits: one, or in SSD one for each feature map."""
    if hasattr(head, "cls_logits"):
        return [head.cls_logits]
    return [[m for m in each.modules() if isinstance(m, nn.Conv2d)][-1] for each in head.module_list]


def settle(model: nn.Module, picture: list[torch.Tensor]) -> None:
    """Give every BatchNorm the statistics of smooth pictures; those of the heads see what the backbone then makes."""
    for part in ("backbone", "head", "rpn", "roi_heads"):
        norms = [m for m in getattr(model, part, nn.Identity()).modules() if isinstance(m, nn.BatchNorm2d)]
        model.eval()
        for norm in norms:
            zoo.loosen(norm)
        with torch.no_grad():
            if part == "backbone":
                model.backbone(model.transform(picture)[0].tensors)
            elif norms:
                model(picture)
    model.eval()


def spread(model: nn.Module, layers: list[nn.Module], wanted: float, picture: list[torch.Tensor]) -> None:
    """Scale the layers that make logits, so that these have the standard deviation wanted."""
    seen: list[torch.Tensor] = []
    hooks = [each.register_forward_hook(lambda _module, _inputs, output: seen.append(output)) for each in layers]
    with torch.no_grad():
        model(picture)
    deviation = torch.cat([each.flatten() for each in seen]).std()
    for each, hook in zip(layers, hooks, strict=True):
        hook.remove()
        each.weight.data *= wanted / deviation
        each.bias.data.zero_()


def pictures(count: int, size: int, seed: int) -> list[torch.Tensor]:
    """Smooth pictures around the middle of 0..1."""
    return list(torch.from_numpy(0.5 + 0.25 * smooth_images(count, size, seed)))


class Subject:
    """A detector with pictures."""

    def __init__(self, name: str) -> None:
        """Make its weights."""
        torch.manual_seed(1)
        self.size = next(side for start, side in SIZES.items() if name.startswith(start))
        self.model = detector(name, self.size)
        self.images = pictures(PICTURES, self.size, seed=1)

    def feeds(self, path: Path) -> dict[str, np.ndarray]:
        """Feed one picture."""
        return {"image": self.images[0].numpy()}

    def export(self, exporter: str, path: Path) -> None:
        """Write the file, for one picture of a fixed size."""
        with torch.no_grad():
            names = tuple(self.model([self.images[0]])[0])
        with contextlib.redirect_stderr(io.StringIO()):  # where torch.export gives up, it prints all of its program
            zoo.write(Alone(self.model).eval(), self.images[0], exporter, path, names, dynamic=False)

    def row(self, path: Path) -> dict[str, Any]:
        """Compare the gradients of boxes in each picture: of a box the best picture counts, then the worse box."""
        inspection, source = onnxcam.inspect(path), onnx.load(path)
        extended = onnxcam.convert(path, emit=["activation", "gradient", "score"])
        running = measuring.session(extended, path.parent)
        names = [each.name for each in running.get_outputs()]
        layers = [x for x in inspection.layers if f"cam/gradient/{x.name}" in names]
        compared, experts = [], []
        for box in BOXES:
            for image in self.images:
                found = dict(zip(names, running.run(None, {"image": image.numpy(), **box}), strict=True))
                maps = [found[f"cam/activation/{x.name}"] for x in layers]
                ours = np.concatenate([found[f"cam/gradient/{x.name}"].ravel() for x in layers])
                labels, true = self.truth(torch.float64, image, found, maps)
                theirs = self.truth(torch.float32, image, found, maps)[1]
                compared.append([relative_error(each[None], true[None])[0] for each in (ours, theirs)])
                experts.append(labels)
        ours, float32 = np.reshape(compared, (len(BOXES), PICTURES, 2)).min(1).max(0)
        grids = ["×".join(map(str, x.grid)) for x in layers]
        return {
            "opset": inspection.opset,
            "batch": "none",
            "tensor": f"{layers[0].tensor} and {len(layers) - 1} more" if len(layers) > 1 else layers[0].tensor,
            "layout": layers[0].layout,
            "grid": ", ".join(grids),
            "score": inspection.scores[0].tensor,
            "prefix": measuring.is_prefix(source, extended),
            "ours": float(ours),
            "float32": float(float32),
            "expert": experts[0],
            "cost": measuring.cost(path, extended, self.feeds(path)),
        }

    def truth(
        self, dtype: torch.dtype, image: torch.Tensor, found: dict[str, np.ndarray], maps: list[np.ndarray]
    ) -> tuple[str | None, np.ndarray]:
        """Differentiate the score of the same box at the backbone's outputs that have the values of `maps`."""
        model, leaves = copy.deepcopy(self.model).to(dtype), OrderedDict[str, torch.Tensor]()

        def cut(_module: object, _inputs: object, output: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            leaves.update({key: value.detach().requires_grad_() for key, value in output.items()})
            return OrderedDict((key, value.clone()) for key, value in leaves.items())

        model.backbone.register_forward_hook(cut)
        result = model([image.to(dtype)])[0]
        box, label = torch.from_numpy(found["cam/found/box"][0]), int(found["cam/found/class"][0])
        distance = (result["boxes"].detach() - box).abs().sum(1) + 1e6 * (result["labels"] != label)
        gradients = torch.autograd.grad(result["scores"][distance.argmin()], list(leaves.values()), allow_unused=True)
        of = dict(zip(leaves, gradients, strict=True))
        keys = [next((k for k, v in leaves.items() if same(v, each)), None) for each in maps]
        if None in keys:
            return None, np.full(sum(each.size for each in maps), np.nan)
        parts = [torch.zeros_like(leaves[k]) if of[k] is None else of[k] for k in keys]
        return "`, `".join(f"backbone.{k}" for k in keys), np.concatenate([each.numpy().ravel() for each in parts])


def same(value: torch.Tensor, wanted: np.ndarray) -> bool:
    return value.numel() == wanted.size and axis_like(value.detach().numpy(), flat(wanted, 1)) == 1


def detectors() -> list[str]:
    return torchvision.models.list_models(module=torchvision.models.detection)


LISTS = {"detection": (detectors, Subject)}
