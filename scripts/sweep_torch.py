"""torchvision's and timm's networks for the sweep: made with random weights that behave, exported, differentiated.

The tensor that `inspect` chose is found in the framework by its values, among the results of all functions of torch:
names are of no use, and the layer may well be an addition that no module makes.
"""

import copy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torchvision
import zoo
from common import smooth_images
from experts import TIMM, TORCHVISION, experts, module_at
from pairing import Unpaired, axis_like, flat
from torch import nn
from torch.overrides import TorchFunctionMode
from torchvision.models.regnet import BlockParams, RegNet
from torchvision.models.vision_transformer import VisionTransformer

torch.backends.mha.set_fastpath_enabled(False)  # the TorchScript exporter knows no fused attention

PACKAGES = (*zoo.PACKAGES, "timm")
EXPORTERS = ("torchscript-17", "dynamo")
SAMPLES = 3
LEAST = 1e-2  # variance
START = 1e-2  # scales of residual branches start at 1e-6 to 1e-2

# Sides of the pictures, by the beginning of the name: 128 where the network takes any, more where it does not.
SIZES = {"alexnet": 224, "inception": 160, "maxvit": 224, "vgg": 224, "vit_": 224}
TIMM_NETWORKS = {
    "resnet10t": 128, "seresnext26d_32x4d": 128, "skresnet18": 128, "resnest14d": 128, "res2net50_26w_4s": 128,
    "resnetv2_18": 128, "densenet121": 128, "dla46_c": 128, "dpn48b": 128, "efficientnet_b0": 128,
    "tf_efficientnetv2_b0": 128, "mobilenetv3_small_050": 128, "mobilenetv4_conv_small_050": 128, "lcnet_050": 128,
    "hardcorenas_a": 128, "ghostnet_050": 128, "rexnet_100": 128, "regnetx_002": 128, "nf_regnet_b0": 128,
    "eca_nfnet_l0": 128, "cs3darknet_s": 128, "selecsls42": 128, "hrnet_w18_small": 128, "ese_vovnet19b_dw": 128,
    "xception41": 160, "inception_v4": 160, "repvgg_a0": 128, "mobileone_s0": 128, "convmixer_768_32": 112,
    "fasternet_t0": 128, "repghostnet_050": 128, "repvit_m0_9": 128, "starnet_s1": 128, "rdnet_tiny": 128,
    "hgnetv2_b0": 128, "convnext_atto": 128, "convnextv2_atto": 128, "inception_next_atto": 128,
    "mambaout_femto": 128, "vgg11_bn": 224, "tresnet_m": 128, "inception_resnet_v2": 160,
    "vit_tiny_patch16_224": 224, "deit_tiny_distilled_patch16_224": 224, "deit3_small_patch16_224": 224,
    "vit_medium_patch16_reg4_gap_256": 256, "vit_relpos_small_patch16_224": 224, "beit_base_patch16_224": 224,
    "eva02_tiny_patch14_224": 224, "cait_xxs24_224": 224, "convit_tiny": 224, "coat_lite_tiny": 224,
    "crossvit_9_240": 240, "davit_tiny": 224, "edgenext_xx_small": 128, "efficientformer_l1": 224,
    "efficientformerv2_s0": 224, "efficientvit_b0": 128, "efficientvit_m0": 224, "fastvit_t8": 128,
    "focalnet_tiny_srf": 128, "gcvit_xxtiny": 224, "hiera_tiny_224": 224, "levit_128s": 224,
    "maxvit_rmlp_pico_rw_256": 256, "coatnet_pico_rw_224": 224, "poolformer_s12": 128, "caformer_s18": 128,
    "mixer_s32_224": 224, "resmlp_12_224": 224, "gmlp_ti16_224": 224, "mobilevit_xxs": 128, "mobilevitv2_050": 128,
    "mvitv2_tiny": 224, "jx_nest_tiny": 224, "nextvit_small": 128, "pit_ti_224": 224, "pit_ti_distilled_224": 224,
    "pvt_v2_b0": 224, "sequencer2d_s": 224, "swin_tiny_patch4_window7_224": 224, "swinv2_tiny_window8_256": 256,
    "swinv2_cr_tiny_ns_224": 224, "swiftformer_xs": 224, "tiny_vit_5m_224": 224, "tnt_s_patch16_224": 224,
    "twins_pcpvt_small": 224, "twins_svt_small": 224, "vitamin_small_224": 224, "volo_d1_224": 224,
    "visformer_tiny": 224, "xcit_nano_12_p16_224": 224, "vit_tiny_r_s16_p8_224": 224, "shvit_s1": 224,
    "efficientvim_m1": 224,
}  # fmt: skip


def sequence(size: int, patch: int, width: int) -> nn.Module:
    return VisionTransformer(size, patch, num_layers=4, num_heads=16, hidden_dim=width, mlp_dim=4 * width)


def short_regnet() -> nn.Module:
    """Make RegNetY-128GF with one block in each stage."""
    blocks = BlockParams.from_init_params(27, 456, 160.83, 2.52, 264, se_ratio=0.25)
    blocks.depths = [1] * 4
    return RegNet(blocks)


STAND_INS = {
    "vit_h_14 (4 of 32 blocks)": lambda: sequence(224, 14, 1280),
    "vit_l_16 (4 of 24 blocks)": lambda: sequence(224, 16, 1024),
    "vit_l_32 (4 of 24 blocks)": lambda: sequence(224, 32, 1024),
    "regnet_y_128gf (4 of 27 blocks)": short_regnet,
}


class Outputs(nn.Module):
    """A network whose only argument is called `x` and that returns tensors, for the exporters."""

    def __init__(self, model: nn.Module, take: Callable[[nn.Module, torch.Tensor], Any]) -> None:
        """Wrap a network and a function that runs it."""
        super().__init__()
        self.inner, self.take = model, take

    def forward(self, x):
        """Run the network."""
        return self.take(self.inner, x)


def enliven(network: nn.Module) -> None:
    """Give random values to the weights that networks start with at zero, or near it: scales of blocks, heads."""
    for name, value in network.named_parameters():
        first = value.detach().flatten()[:1]
        if value.numel() == 1 or not bool((value == first).all()) or abs(first.item()) > START:
            continue
        if min(value.shape) > 1 and value.ndim > 1:
            nn.init.normal_(value, 0, 0.05)
        elif "bias" not in name:
            nn.init.uniform_(value, 0.2, 0.6)


def calm(network: nn.Module) -> None:
    """Keep channels that were dead on the pictures of `settle` from exploding on others."""
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_var.clamp_(min=LEAST)


class Watch(TorchFunctionMode):
    """Cut the network at the first result with the values of the wanted feature map, and keep the wanted score.

    The layer becomes a leaf, so that nothing before it is recorded: a gradient at the end costs next to nothing.
    """

    def __init__(self, layer: np.ndarray, score: np.ndarray) -> None:
        """Take the feature map as [N, K, positions], and the score."""
        super().__init__()
        self.layer, self.score = layer, score
        self.leaf: torch.Tensor | None = None
        self.axis = 0
        self.found: torch.Tensor | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the function and look at what it gives."""
        result = func(*args, **(kwargs or {}))
        if not isinstance(result, torch.Tensor) or not result.is_floating_point():
            return result
        if result.numel() == self.score.size and self._is_score(result):
            self.found = result
        if self.leaf is None and result.numel() == self.layer.size and result.ndim > 1:
            axis = axis_like(result.detach().numpy(), self.layer)
            if axis is not None:
                self.leaf, self.axis = result.detach().clone().requires_grad_(), axis
                return self.leaf.clone()
        return result

    def _is_score(self, result: torch.Tensor) -> bool:
        value = result.detach().numpy().reshape(-1)
        return np.linalg.norm(value - self.score.reshape(-1)) <= 1e-3 * np.linalg.norm(self.score)


class Subject:
    """A network with pictures: what every exporter's file of it is compared with."""

    def __init__(
        self,
        network: nn.Module,
        size: int,
        paths: tuple[str, ...],
        outputs: tuple[str, ...] = ("logits",),
        *,
        smooth: bool = False,
    ) -> None:
        """Settle the network's statistics and make pictures."""
        self.size, self.paths, self.outputs = size, paths, outputs
        enliven(network)
        self.network = zoo.Network(network, smooth=smooth).eval()
        zoo.settle(self.network, size, batches=1)
        calm(self.network)
        self.network.requires_grad_(False)
        self.images = smooth_images(SAMPLES, size, seed=1)

    def twin(self) -> "Subject":
        """Make the same network without kinks."""
        model = copy.deepcopy(self.network.model)
        return Subject(model, self.size, self.paths, self.outputs, smooth=True)

    def feeds(self, path: Path) -> dict[str, np.ndarray]:
        """Feed the pictures to the file."""
        return {"image": self.images}

    def export(self, exporter: str, path: Path) -> None:
        """Write the file with a dynamic batch, or with a fixed one where the exporter refuses."""
        example = torch.from_numpy(self.images)
        try:
            zoo.write(self.network, example, exporter, path, self.outputs)
        except Exception as error:  # noqa: BLE001 - whatever the exporter raises, a fixed batch may do
            print(f"fixed batch, because: {str(error).splitlines()[:1]}", file=sys.stderr)
            zoo.write(self.network, example, exporter, path, self.outputs, dynamic=False)

    def truth(self, layer: np.ndarray, score: np.ndarray, seed: np.ndarray) -> dict[str, np.ndarray]:
        """Differentiate Σ seed · score with respect to the layer [N, K, positions], in float64 and in float32."""
        return {dtype: self._gradient(dtype, layer, score, seed) for dtype in ("float64", "float32")}

    def _gradient(self, dtype: str, layer: np.ndarray, score: np.ndarray, seed: np.ndarray) -> np.ndarray:
        kind = getattr(torch, dtype)
        network = copy.deepcopy(self.network).to(kind)
        with Watch(layer, score) as watch:
            network(torch.from_numpy(self.images).to(kind))
        if watch.leaf is None or watch.found is None:
            what = "layer" if watch.leaf is None else "score"
            raise Unpaired(f"no function of the framework gives the values of the {what}")
        total = (watch.found.reshape(seed.shape) * torch.from_numpy(np.array(seed)).to(kind)).sum()
        return flat(torch.autograd.grad(total, watch.leaf)[0].numpy(), watch.axis)

    def expert(self, layer: np.ndarray, tensor: str) -> str | None:
        """Name the expert's module that has the layer's values; None where none has."""
        found: list[str] = []
        handles = []
        for path in self.paths:
            module = module_at(inner(self.network), path)
            if module is not None:
                handles.append(self._listen(module, path, layer, found))
        with torch.no_grad():
            self.network(torch.from_numpy(self.images))
        for handle in handles:
            handle.remove()
        return found[0] if found else None

    @staticmethod
    def _listen(module: nn.Module, path: str, layer: np.ndarray, found: list[str]) -> Any:
        def look(value: Any) -> None:
            for each in tensors(value):
                if each.numel() == layer.size and axis_like(each.detach().numpy(), layer) is not None:
                    found.append(path)

        if path.endswith("<"):
            return module.register_forward_pre_hook(lambda _, inputs: look(inputs))
        return module.register_forward_hook(lambda _, inputs, output: look(output))


def inner(network: nn.Module) -> nn.Module:
    """Unwrap the library's network."""
    model = network.model
    return model.inner if isinstance(model, Outputs) else model


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """All tensors in nested tuples, lists and dictionaries."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for each in value.values() if isinstance(value, dict) else value:
            yield from tensors(each)


# ----- the lists -----
def listed(module: Any) -> list[str]:
    """Names of the networks in a module of torchvision, small ones first."""
    names = torchvision.models.list_models(module=module)
    return sorted(names, key=lambda name: torchvision.models.get_model_weights(name).DEFAULT.meta["num_params"])


def torchvision_networks() -> list[str]:
    """Torchvision's classification networks, with stand-ins for those that are too large here."""
    big = {name.split()[0] for name in STAND_INS}
    return [*(name for name in listed(torchvision.models) if name not in big), *STAND_INS]


def torchvision_subject(name: str) -> Subject:
    torch.manual_seed(0)
    size = next((side for start, side in SIZES.items() if name.startswith(start)), 128)
    network = STAND_INS[name]() if name in STAND_INS else zoo.build(name)
    return Subject(network, size, experts(TORCHVISION, name))


def timm_subject(name: str) -> Subject:
    torch.manual_seed(0)
    return Subject(timm.create_model(name, pretrained=False), TIMM_NETWORKS[name], experts(TIMM, name))


def segmentation_subject(name: str) -> Subject:
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None, weights_backbone=None, aux_loss=False)
    return Subject(Outputs(model, lambda inner, x: inner(x)["out"]), 128, experts(TORCHVISION, name), ("out",))


LISTS = {
    "torchvision": (torchvision_networks, torchvision_subject),
    "timm": (lambda: list(TIMM_NETWORKS), timm_subject),
    "segmentation": (lambda: listed(torchvision.models.segmentation), segmentation_subject),
}
