"""The layer that an expert would defend, for each family of networks, as paths of modules; `<` is a module's input.

The conventions are those of pytorch-grad-cam's README: the last block of a convolutional network, and of a transformer
whose head reads one token the first norm of its last block, because past it only that token matters. Where several
tensors are as good (before or after the last pool of VGG, the last norm of Swin or of its last block), all are listed.
Paths start at the network as its library makes it; a part that is -1 is the last child.
"""

import re
from typing import Any

POOLED = ("global_pool<", "head.global_pool<", "avgpool<", "pool<")
LAST_NORM = ("blocks.-1.norm1", "blocks.-1<", "blocks.-1.norm1<")

HF_NORM = ("0.encoder.layer.-1.layernorm_before", "0.encoder.layer.-1.norm1", "0.encoder.layer.-1<")
CLASS_ATTENTION = ("cls_attn_blocks.-1.norm1", "blocks_token_only.-1.norm1", "post_network.-1.norm1")

TORCHVISION = {
    "alexnet": ("features.-1", "features.-2"),
    "vgg": ("features.-1", "features.-2"),
    "resnet|resnext|wide_resnet": ("layer4.-1",),
    "densenet": ("features.-1", "relu"),
    "squeezenet": ("features.-1", "classifier.-2"),
    "googlenet": ("inception5b",),
    "inception_v3": ("Mixed_7c",),
    "shufflenet": ("conv5",),
    "mnasnet": ("layers.-1",),
    "mobilenet|efficientnet|convnext": ("features.-1",),
    "regnet": ("trunk_output",),
    "swin": ("norm", "features.-1", "features.-1.-1.norm1", "features.-1.-1.norm2"),
    "vit": ("encoder.layers.-1.ln_1", "encoder.layers.-1<"),
    "maxvit": ("blocks.-1", "classifier<"),
    "fcn|deeplabv3": ("backbone.layer4.-1", "classifier.-2", "classifier.-3", "classifier.-1<", "backbone.-1"),
    "lraspp": ("classifier.high_classifier<", "classifier<", "classifier.cbr", "backbone.16"),
}
TIMM = {
    "beit|deit|vit_|cait|convit|xcit|volo|eva": (*LAST_NORM, *CLASS_ATTENTION, "blocks.-1"),
    "pit": ("transformers.-1.blocks.-1.norm1", "transformers.-1.blocks.-1<"),
    "hiera": ("norm", "blocks.-1"),
    "tnt": ("blocks.-1.norm_out", "blocks.-1.norm_out<"),
    "crossvit": (
        "blocks.-1.fusion.-1.norm1",
        "blocks.-1.fusion.0.norm1",
        "blocks.-1.blocks.0.-1.norm1",
        "blocks.-1.blocks.1.-1.norm1",
        "blocks.-1<",
    ),
    "coat_": ("serial_blocks4.-1.norm1", "parallel_blocks.-1.norm14", "serial_blocks4.-1<"),
    "mixer|gmlp|resmlp": ("norm", "blocks.-1", "blocks.-1.norm1", "blocks.-1.norm2"),
    "sequencer": ("norm", "stages.-1", *POOLED),
    "twins|mvitv2|nest|jx_nest|pvt|gcvit|focalnet|davit": ("norm", "stages.-1", "levels.-1", "norm_pre", *POOLED),
    "swin": ("norm", "layers.-1", "layers.-1.blocks.-1.norm1", "layers.-1.blocks.-1.norm2", *POOLED),
    "efficientvit|levit|efficientformer|swiftformer|poolformer|caformer": ("norm", "stages.-1", *POOLED),
    "tiny_vit|vitamin|visformer|nextvit|fastvit": ("norm", "stages.-1", "stage3", "final_conv", *POOLED),
    "": ("features.-1", "stages.-1", "layer4.-1", *POOLED),
}
TRANSFORMERS = {  # 0 is the first child, which the library calls by the network's own name
    ".*masked-im": ("0.layernorm", "0.encoder.layer.-1", "0.encoder.layers.-1"),
    ".*feature-extraction": ("encoder.layer.-1", "encoder.stages.-1.layers.-1<"),
    "beit|data2vec|ijepa|dinov2": ("0.layernorm", "0.encoder.layer.-1", *HF_NORM),
    "vit|deit|yolos": (*HF_NORM, "encoder.layer.-1.layernorm_before", "encoder.layer.-1<"),
    "cvt": ("0.encoder.stages.-1.layers.-1.layernorm_before", "0.encoder.stages.-1.layers.-1<"),
    "clip|siglip|chinese_clip|metaclip": ("vision_model.post_layernorm", "vision_model.encoder.layers.-1",
                                          "vision_model.encoder.layers.-1.layer_norm1"),
    "swin|focalnet|hiera": ("0.layernorm", "0.encoder.layers.-1", "0.encoder.stages.-1", "0.pooler<"),
    "pvt_v2|levit|convnext|resnet|regnet|bit": ("0.encoder", "0.encoder.stages.-1", "0.encoder.layers.-1", "0.norm"),
    "pvt": ("0.encoder.block.-1.0.layer_norm_1", "0.encoder.block.-1.0<"),
    "poolformer|swiftformer": ("norm", "0.encoder", "0.encoder.block.-1.-1"),
    "mobilenet|mobilevit|efficientnet": ("0.conv_1x1", "0.layer.-1", "0.conv_1x1_exp", "0.encoder", "0.pooler<",
                                         "segmentation_head.classifier<"),
    "perceiver": ("0.encoder.cross_attention.attention.self.layernorm2", "0.input_preprocessor"),
    "segformer": ("0.encoder", "0.encoder.layer_norm.-1", "decode_head.classifier<"),
    "dpt|glpn": ("head.head.1", "head.head.2", "head.head.3"),
    "detr|table|conditional": ("0.backbone",),
    "rt_detr|d_fine": ("0.encoder", "0.backbone"),
    "": (),
}  # fmt: skip

# Layers that an expert would defend and that no module gives: the tensor's name by each exporter, and what it is.
NAMELESS = {
    "lraspp": (("/model/inner/classifier/Mul_output_0", "mul_563"), "classifier.cbr × classifier.scale"),
    "efficientvim": (("/model/stages.2/blocks.1/Add_output_0", "add_1408"), "stages.-1.blocks.-1, first of two"),
}


def nameless(network: str, tensor: str) -> str | None:
    """Describe such a layer; None for any other."""
    return next(
        (what for start, (names, what) in NAMELESS.items() if network.startswith(start) and tensor in names), None
    )


def experts(table: dict[str, tuple[str, ...]], name: str) -> tuple[str, ...]:
    """Look up the family that `name` begins with."""
    return next(paths for family, paths in table.items() if re.match(family, name))


def module_at(network: Any, path: str) -> Any | None:
    """Walk down a path of children; None where it does not lead anywhere."""
    for part in path.removesuffix("<").split("."):
        children = dict(network.named_children())
        if part.lstrip("-").isdigit() and part not in children:
            names, index = list(children), int(part)
            if not -len(names) <= index < len(names):
                return None
            network = children[names[index]]
        elif part in children:
            network = children[part]
        else:
            return None
    return network
