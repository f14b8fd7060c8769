"""torchvision networks as oracles: random weights that behave, both ONNX exporters, activations and gradients.

Random weights need BatchNorm statistics from forward passes first: with the initial ones (0 and 1) activations and
gradients vanish or explode with depth, and no relative error means anything. Weights and files are cached, because
a network made twice differs in the last bits, and those would be counted as errors of the gradient.
"""

import contextlib
import io
import os
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torchvision
from common import smooth_images
from torch import nn
from torch.nn import functional as F  # noqa: N812 - as torch and torchvision write it

FRAMEWORK = "torch"
PACKAGES = ("torch", "torchvision", "onnxscript")
EXPORTERS = ("torchscript-11", "torchscript-17", "dynamo")
NETWORKS = (
    "resnet18",
    "resnet50",
    "vgg16_bn",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "densenet121",
    "efficientnet_b0",
    "squeezenet1_1",
    "googlenet",
    "inception_v3",
    "shufflenet_v2_x1_0",
    "regnet_y_400mf",
    "mnasnet1_0",
)

RELU, SILU, SIGMOID, AVERAGE = F.relu, F.silu, F.sigmoid, F.avg_pool2d


def average(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    return AVERAGE(x, kernel_size, stride, padding, ceil_mode, count_include_pad=False)


NOT_IN_PLACE = {"relu": lambda x, inplace=False: RELU(x)}
SMOOTH = {
    "relu": lambda x, inplace=False: SILU(x),
    "hardtanh": lambda x, low=-1.0, high=1.0, inplace=False: SILU(x),
    "hardswish": lambda x, inplace=False: SILU(x),
    "hardsigmoid": lambda x, inplace=False: SIGMOID(x),
    "max_pool2d": average,
}


class Network(nn.Module):
    """A torchvision network that overwrites no activation; its smooth twin has no kinks.

    Modules take `inplace` as an attribute, but three networks call `F.relu(x, inplace=True)` themselves, so functions
    of `torch.nn.functional` are exchanged for the length of a forward pass. That also makes the smooth twin: ReLU,
    ReLU6 and Hardswish become SiLU, Hardsigmoid becomes Sigmoid and MaxPool becomes AveragePool, wherever they are.
    """

    def __init__(self, model: nn.Module, *, smooth: bool = False) -> None:
        """Wrap a network."""
        super().__init__()
        self.model = model
        self.functions = SMOOTH if smooth else NOT_IN_PLACE
        for module in self.modules():
            if hasattr(module, "inplace"):
                module.inplace = False

    def forward(self, x):
        """Compute logits [N, 1000]."""
        with mock.patch.multiple(F, **self.functions):
            return self.model(x)


def build(name: str, **options: Any) -> nn.Module:
    """Make torchvision's network called `name` with random weights."""
    if name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": False}
    model = torchvision.models.get_model(name, weights=None, **options)
    if not name.startswith("densenet"):
        return model
    parts = {"features": model.features, "relu": nn.ReLU(), "pool": nn.AdaptiveAvgPool2d(1)}
    parts |= {"flatten": nn.Flatten(), "classifier": model.classifier}
    return nn.Sequential(OrderedDict(parts))  # its last activation is a function call, and hooks need a module


def size_of(name: str) -> int:
    return 299 if name.startswith("inception") else 224


def loosen(norm: nn.BatchNorm2d) -> None:
    """Give a BatchNorm a random scale and shift, and let it take the statistics of the pictures to come."""
    nn.init.uniform_(norm.weight, 0.5, 1.0)
    nn.init.normal_(norm.bias, 0.7, 0.5)
    norm.momentum = None  # a plain mean over the batches
    norm.train()


def settle(network: nn.Module, size: int, batches: int = 3) -> None:
    """Give every BatchNorm random scales and shifts, and the statistics of smooth images.

    The shifts are mostly positive: around zero a deep random network is chaotic, and multiplies rounding errors by
    thousands from its last layers to its first ones.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        loosen(norm)
    with torch.no_grad():
        for seed in range(batches if norms else 0):
            network(torch.from_numpy(smooth_images(8, size, seed=100 + seed)))
    for head in (m for m in network.modules() if isinstance(m, nn.Linear) and not m.weight.any()):
        nn.init.normal_(head.weight, std=head.in_features**-0.5)  # torchvision's ViT starts with zeros: no gradient
    network.eval()


def load(name: str, cache: Path) -> Network:
    """Get the network called `name` (torchvision's, or that and `-smooth`) in float32 and eval mode."""
    weights = cache / name / "weights.pt"
    torch.manual_seed(0)
    network = Network(build(name.removesuffix("-smooth")), smooth=name.endswith("-smooth")).eval()
    if weights.exists():
        network.load_state_dict(torch.load(weights, weights_only=True))
        return network
    settle(network, size_of(name))
    weights.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), weights.with_suffix(".partial"))
    os.replace(weights.with_suffix(".partial"), weights)
    return network


def export(name: str, exporter: str, cache: Path) -> Path:
    """Write the network as an ONNX file with a dynamic batch: `torchscript-<opset>` or `dynamo`."""
    path = cache / name / f"{exporter}.onnx"
    if not path.exists():
        write(load(name, cache), torch.from_numpy(smooth_images(2, size_of(name))), exporter, path)
    return path


def write(
    network: nn.Module,
    example: torch.Tensor,
    exporter: str,
    path: Path,
    outputs: tuple[str, ...] = ("logits",),
    *,
    dynamic: bool = True,
) -> None:
    """Export a network whose `forward` takes `x`, with a dynamic batch or with that of `example`."""
    partial = path.with_suffix(".partial")
    options: dict[str, Any] = {"input_names": ["image"], "output_names": list(outputs)}
    if exporter == "dynamo":
        options |= {"dynamo": True, "external_data": False}
        options |= {"dynamic_shapes": {"x": {0: torch.export.Dim("batch")}}} if dynamic else {}
    else:
        options |= {"dynamo": False, "opset_version": int(exporter.removeprefix("torchscript-"))}
        options |= {"dynamic_axes": {name: {0: "batch"} for name in ("image", *outputs)}} if dynamic else {}
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # both exporters warn about themselves
        torch.onnx.export(network, (example,), partial, **options)
    os.replace(partial, path)


class Oracle:
    """A network in torch: its feature maps and the gradients of the chosen logits with respect to them."""

    def __init__(self, name: str, cache: Path) -> None:
        """Load the cached weights, or make them."""
        self.network = load(name, cache)
        self.size = size_of(name)

    def images(self, count: int) -> np.ndarray:
        """Draw images as the ONNX file takes them: float32 [count, 3, size, size]."""
        return smooth_images(count, self.size, seed=1)

    def run(self, images: np.ndarray, dtype: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Compute every module's feature map [N, C, H, W], by '<module> <call>', and the logits [N, classes]."""
        maps, logits = self._forward(images, dtype)
        return {label: each.detach().numpy() for label, each in maps.items()}, logits.detach().numpy()

    def gradients(self, images: np.ndarray, dtype: str, targets: np.ndarray, labels: list[str]) -> list[np.ndarray]:
        """Differentiate each sample's logit of class `targets[n]` with respect to the feature maps called `labels`."""
        maps, logits = self._forward(images, dtype)
        score = logits.gather(1, torch.from_numpy(targets)[:, None]).sum()
        return [g.numpy() for g in torch.autograd.grad(score, [maps[label] for label in labels])]

    def _forward(self, images: np.ndarray, dtype: str) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        network = self.network.to(getattr(torch, dtype))
        maps: dict[str, torch.Tensor] = {}
        handles = []

        def keep(name):
            def hook(module, inputs, output):
                if not isinstance(output, torch.Tensor) or output.ndim != 4:
                    return None
                maps[f"{name} {sum(label.split()[0] == name for label in maps)}"] = output
                return output.clone()  # `out += identity` in what follows must not reach the map that is kept

            return hook

        for name, module in network.model.named_modules():
            if name:
                handles.append(module.register_forward_hook(keep(name)))
        logits = network(torch.from_numpy(images).to(getattr(torch, dtype)))
        for handle in handles:
            handle.remove()
        return maps, logits
