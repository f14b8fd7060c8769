"""Hugging Face's networks for the sweep, saved as on the hub and exported as `optimum-cli export onnx` does.

Depth and width are small, the layout is the standard one. Optimum leaves samples, channels, height and width open.
"""

import contextlib
import copy
import io
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import onnx
import torch
import transformers as hf
from experts import TRANSFORMERS, experts
from optimum.exporters.onnx import main_export
from optimum.exporters.onnx.model_configs import ViTOnnxConfig
from sweep_torch import Outputs
from sweep_torch import Subject as TorchSubject
from torch.nn import functional as F  # noqa: N812 - as torch writes it
from torch.overrides import TorchFunctionMode
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING

PACKAGES = ("torch", "torchvision", "transformers", "optimum", "optimum-onnx")
EXPORTERS = ("optimum",)

WORDS = (2, 20)  # texts, and tokens of each
CLASSES, BOXES, PLACES, SHOTS, FEATURES = (
    "image-classification", "object-detection", "semantic-segmentation", "zero-shot-image-classification",
    "feature-extraction",
)  # fmt: skip
AUTO = {
    CLASSES: hf.AutoModelForImageClassification,
    BOXES: hf.AutoModelForObjectDetection,
    PLACES: hf.AutoModelForSemanticSegmentation,
    "image-segmentation": hf.AutoModelForSemanticSegmentation,
    "depth-estimation": hf.AutoModelForDepthEstimation,
    SHOTS: hf.AutoModelForZeroShotImageClassification,
    "masked-im": hf.AutoModelForMaskedImageModeling,
    FEATURES: hf.AutoModel,
}
PLAIN = {"hidden_size": 192, "num_hidden_layers": 4, "num_attention_heads": 3, "intermediate_size": 384}
TEXT = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
PAIR = {"vision_config": PLAIN, "text_config": TEXT}
STAGES = {"hidden_sizes": [32, 64, 96, 128], "depths": [1, 1, 2, 1]}
PYRAMID = {"hidden_sizes": [32, 64, 96, 128], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 2, 3, 4]}
WINDOWS = {"embed_dim": 48, "depths": [1, 1, 2, 1], "num_heads": [2, 4, 8, 16]}
LEVIT = {"hidden_sizes": [64, 96, 128], "depths": [2] * 3, "num_attention_heads": [2, 3, 4], "key_dim": [16] * 3}
LATENTS = {"image_size": 224, "num_latents": 32, "d_latents": 128, "num_self_attends_per_block": 2,
           "num_cross_attention_heads": 1}  # fmt: skip
DPT = PLAIN | {"neck_hidden_sizes": [24, 48, 96, 96], "fusion_hidden_size": 64, "backbone_out_indices": [0, 1, 2, 3]}
DETR = {"use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None, "num_queries": 20,
        "d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4}  # fmt: skip
RT_DETR = {"num_queries": 30, "d_model": 64, "encoder_hidden_dim": 64, "decoder_layers": 2, "decoder_ffn_dim": 128,
           "encoder_ffn_dim": 128, "num_denoising": 0, "decoder_in_channels": [64] * 3}  # fmt: skip
PERCEIVER = "PerceiverForImageClassification"
OUT = ["stage1", "stage2", "stage3", "stage4"]
UPERNET = {"backbone_config": hf.ConvNextConfig(out_features=OUT, **STAGES), "hidden_size": 64,
           "use_auxiliary_head": False}  # fmt: skip


class Row(NamedTuple):
    """A network: its configuration, what it is for, the pictures' side, and its class where a task has several."""

    config: Callable[[], Any]
    task: str = CLASSES
    size: int = 224
    model: str = ""
    custom: bool = False  # optimum knows no such architecture, and is told that it is one of vision


def of(name: str, **options: Any) -> Callable[[], Any]:
    """A configuration of that class."""
    return lambda: getattr(hf, name)(**options)


def named(name: str, **options: Any) -> Callable[[], Any]:
    """The same with names for five classes."""
    names = {i: f"thing {i}" for i in range(5)}
    return of(name, id2label=names, label2id={name: i for i, name in names.items()}, **options)


ROWS = {
    "vit": Row(named("ViTConfig", **PLAIN)),
    "deit": Row(named("DeiTConfig", **PLAIN), model="DeiTForImageClassification"),
    "deit, distilled": Row(named("DeiTConfig", **PLAIN), model="DeiTForImageClassificationWithTeacher"),
    "beit": Row(named("BeitConfig", use_relative_position_bias=True, **PLAIN)),
    "data2vec-vision": Row(named("Data2VecVisionConfig", use_relative_position_bias=True, **PLAIN)),
    "vit_msn": Row(named("ViTMSNConfig", **PLAIN)),
    "dinov2": Row(named("Dinov2Config", **PLAIN)),
    "dinov2_with_registers": Row(named("Dinov2WithRegistersConfig", image_size=224, **PLAIN), custom=True),
    "ijepa": Row(named("IJepaConfig", **PLAIN), custom=True),
    "swin": Row(named("SwinConfig", **WINDOWS)),
    "swinv2": Row(named("Swinv2Config", image_size=256, window_size=8, **WINDOWS), size=256),
    "hiera": Row(named("HieraConfig", embed_dim=48, depths=[1, 1, 2, 1], num_heads=[1, 2, 4, 8])),
    "cvt": Row(named("CvtConfig", embed_dim=[32, 64, 128], num_heads=[1, 2, 4], depth=[1, 2, 3])),
    "pvt": Row(named("PvtConfig", **PYRAMID)),
    "pvt_v2": Row(named("PvtV2Config", **PYRAMID), custom=True),
    "levit": Row(named("LevitConfig", **LEVIT), model="LevitForImageClassification"),
    "levit, distilled": Row(named("LevitConfig", **LEVIT), model="LevitForImageClassificationWithTeacher"),
    "poolformer": Row(named("PoolFormerConfig", **STAGES)),
    "convnext": Row(named("ConvNextConfig", **STAGES)),
    "convnextv2": Row(named("ConvNextV2Config", **STAGES)),
    "resnet": Row(named("ResNetConfig", embedding_size=32, **STAGES)),
    "regnet": Row(named("RegNetConfig", embedding_size=32, groups_width=16, **STAGES)),
    "mobilenet_v1": Row(named("MobileNetV1Config", depth_multiplier=0.5)),
    "mobilenet_v2": Row(named("MobileNetV2Config", depth_multiplier=0.5)),
    "mobilevit": Row(named("MobileViTConfig"), size=256),
    "mobilevitv2": Row(named("MobileViTV2Config", width_multiplier=0.5), size=256, custom=True),
    "efficientnet": Row(named("EfficientNetConfig", width_coefficient=1.0, depth_coefficient=1.0, hidden_dim=1280)),
    "focalnet": Row(named("FocalNetConfig", embed_dim=48, depths=[1, 1, 2, 1]), custom=True),
    "bit": Row(named("BitConfig", embedding_size=32, num_groups=8, **STAGES), custom=True),
    "swiftformer": Row(named("SwiftFormerConfig"), custom=True),
    "perceiver, convolutions": Row(named("PerceiverConfig", **LATENTS), model=f"{PERCEIVER}ConvProcessing"),
    "perceiver, learned": Row(named("PerceiverConfig", **LATENTS), model=f"{PERCEIVER}Learned"),
    "clip, image-classification": Row(named("CLIPConfig", **PAIR)),
    "segformer, image-classification": Row(named("SegformerConfig", **PYRAMID)),
    "segformer": Row(named("SegformerConfig", decoder_hidden_size=64, **PYRAMID), PLACES),
    "mobilevit, deeplab": Row(named("MobileViTConfig"), "image-segmentation", 256),
    "dpt, semantic-segmentation": Row(named("DPTConfig", **DPT), PLACES),
    "upernet": Row(named("UperNetConfig", **UPERNET), PLACES, custom=True),
    "dpt": Row(of("DPTConfig", **DPT), "depth-estimation"),
    "glpn": Row(of("GLPNConfig", decoder_hidden_size=64, **PYRAMID), "depth-estimation"),
    "detr": Row(named("DetrConfig", **DETR), BOXES),
    "table-transformer": Row(named("TableTransformerConfig", **DETR), BOXES),
    "conditional_detr": Row(named("ConditionalDetrConfig", **DETR), BOXES, custom=True),
    "yolos": Row(named("YolosConfig", image_size=[224, 224], num_detection_tokens=20, **PLAIN), BOXES),
    "rt_detr": Row(named("RTDetrConfig", **RT_DETR), BOXES),
    "rt_detr_v2": Row(named("RTDetrV2Config", **RT_DETR), BOXES),
    "d_fine": Row(named("DFineConfig", **RT_DETR), BOXES),
    "clip": Row(of("CLIPConfig", projection_dim=64, **PAIR), SHOTS),
    "siglip": Row(of("SiglipConfig", vision_config=PLAIN, text_config=TEXT | {"projection_size": 192}), SHOTS),
    "chinese_clip": Row(of("ChineseCLIPConfig", projection_dim=64, **PAIR), SHOTS),
    "metaclip_2": Row(of("MetaClip2Config", projection_dim=64, **PAIR), SHOTS),
    "vit, masked-im": Row(of("ViTConfig", **PLAIN), "masked-im"),
    "swin, masked-im": Row(
        of("SwinConfig", image_size=192, window_size=6, encoder_stride=32, **WINDOWS), "masked-im", 192
    ),
    "vit, feature-extraction": Row(of("ViTConfig", **PLAIN), FEATURES),
    "dinov2, feature-extraction": Row(of("Dinov2Config", **PLAIN), FEATURES),
    "convnext, feature-extraction": Row(of("ConvNextConfig", **STAGES), FEATURES),
    "clip, vision": Row(of("CLIPVisionConfig", **PLAIN), FEATURES),
    "siglip, vision": Row(of("SiglipVisionConfig", **PLAIN), FEATURES),
}


class Attached(TorchFunctionMode):
    """What training holds constant, as boxes that are refined, a file does not."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the function, unless it cuts the graph."""
        return args[0] if func is torch.Tensor.detach else func(*args, **(kwargs or {}))


class Subject(TorchSubject):
    """A network, settled as torchvision's are, with its folder as `save_pretrained` writes it."""

    def __init__(self, name: str, model: torch.nn.Module | None = None, *, smooth: bool = False) -> None:
        """Make the network, or take the one that is given."""
        torch.manual_seed(0)
        self.name, self.recipe = name, ROWS[name]
        network = built(self.recipe) if model is None else model
        self.texts = texts(network)
        wrapped = Outputs(network, self._answer)
        super().__init__(wrapped, self.recipe.size, experts(TRANSFORMERS, name), smooth=smooth)

    def _answer(self, network: torch.nn.Module, x: torch.Tensor) -> Any:
        with Attached():
            return network(pixel_values=x, **self.texts)

    def twin(self) -> "Subject":
        """Make the same network without kinks."""
        return Subject(self.name, copy.deepcopy(self.network.model.inner), smooth=True)

    def feeds(self, path: Path) -> dict[str, np.ndarray]:
        """Feed the pictures, and texts where the network takes some."""
        names = {each.name for each in onnx.load(path, load_external_data=False).graph.input}
        given = {"pixel_values": self.images} | {name: value.numpy() for name, value in self.texts.items()}
        return {name: value for name, value in given.items() if name in names}

    def export(self, exporter: str, path: Path) -> None:
        """Save the network, and let optimum write the folder that the file is in."""
        model, row = self.network.model.inner, self.recipe
        custom = {"model": ViTOnnxConfig(model.config, task=row.task)} if row.custom else None
        with (
            tempfile.TemporaryDirectory(dir=path.parent) as folder,
            mock.patch.multiple(F, **self.network.functions),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),  # where torch gives up, it prints all of the network
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            save(model, row.size, Path(folder))
            main_export(folder, path.parent, task=row.task, custom_onnx_configs=custom, do_validation=False)
        (path.parent / "model.onnx").rename(path)


def built(row: Row) -> torch.nn.Module:
    """Make the network with random weights."""
    config = row.config()
    return getattr(hf, row.model)(config) if row.model else AUTO[row.task].from_config(config)


def texts(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The other inputs of a network that compares pictures with texts."""
    if not hasattr(network, "text_model") or not hasattr(network, "logit_scale"):
        return {}
    words = torch.from_numpy(np.random.default_rng(0).integers(3, 99, WORDS))
    words[:, -1] = min(network.config.text_config.vocab_size - 1, 49407)  # CLIP reads a text at its end, token 49407
    return {"input_ids": words, "attention_mask": torch.ones_like(words)}


def save(model: torch.nn.Module, size: int, folder: Path) -> None:
    """Write the network and its image processor, as they lie on the hub."""
    model.save_pretrained(folder)
    slow, _ = IMAGE_PROCESSOR_MAPPING.get(type(model.config), (hf.ViTImageProcessor, None))
    fixed = {"size": {"height": size, "width": size}} if slow is hf.ViTImageProcessor else {}
    slow(**fixed).save_pretrained(folder)


LISTS = {"transformers": (lambda: list(ROWS), Subject)}
