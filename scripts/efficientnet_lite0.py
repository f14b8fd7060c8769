"""EfficientNet-Lite0 as an ONNX graph, from the state dictionary of its PyTorch port.

Batch normalisation is folded into the convolutions in float64. The weights are TensorFlow's, so padding is SAME: at
stride 2 an even size is padded at the bottom and the right only.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

SIZE = 224
EPSILON = 1e-3
# (blocks, stride of the first) of each stage: Tan & Le 2019, table 1. Widths, kernels and expansion show in the weights
STAGES = ((1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1))


def fold(
    weight: np.ndarray, gamma: np.ndarray, beta: np.ndarray, mean: np.ndarray, variance: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weight and bias (float32) of the convolution that normalises too: s = γ/√(σ²+ε), W·s and β − μ·s."""
    w, g, b, m, v = (a.astype(np.float64) for a in (weight, gamma, beta, mean, variance))
    s = g / np.sqrt(v + EPSILON)
    return (w * s[:, None, None, None]).astype(np.float32), (b - m * s).astype(np.float32)


def same(size: int, kernel: int, stride: int) -> list[int]:
    """Pad a square as TensorFlow does: [top, left, bottom, right], an odd pixel at the end."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return [total // 2, total // 2, total - total // 2, total - total // 2]


@dataclass
class Network:
    """The graph as it grows: `weights` empties as they are used, `size` is the height of the feature map."""

    weights: dict[str, np.ndarray]
    size: int = SIZE
    nodes: list[NodeProto] = field(default_factory=list)
    initializers: list[TensorProto] = field(default_factory=list)

    def constant(self, name: str, value: np.ndarray) -> str:
        """Add an initializer."""
        self.initializers.append(numpy_helper.from_array(value, name))
        return name

    def op(self, kind: str, inputs: list[str], scope: str, output: str = "", **attributes: Any) -> str:
        """Add a node `<scope>/<kind>`; its output is `<scope>/<kind>_output` where no name is given."""
        name = f"{scope}/{kind}"
        output = output or f"{name}_output"
        self.nodes.append(helper.make_node(kind, inputs, [output], name, **attributes))
        return output

    def conv(self, x: str, scope: str, key: str, norm: str, stride: int = 1, relu6: bool = True) -> str:
        """Convolution, the normalisation `norm` and ReLU6; depthwise where the weights have one channel."""
        statistics = [self.weights.pop(f"{norm}.{name}") for name in ("weight", "bias", "running_mean", "running_var")]
        weight, bias = fold(self.weights.pop(f"{key}.weight"), *statistics)
        attributes: dict[str, Any] = {
            "group": len(weight) if weight.shape[1] == 1 else 1,
            "kernel_shape": weight.shape[2:],
            "pads": same(self.size, weight.shape[2], stride),
            "strides": [stride, stride],
        }
        self.size = -(-self.size // stride)
        inputs = [x, self.constant(f"{scope}/weight", weight), self.constant(f"{scope}/bias", bias)]
        x = self.op("Conv", inputs, scope, **attributes)
        return self.op("Clip", [x, "relu6/min", "relu6/max"], scope) if relu6 else x

    def block(self, x: str, scope: str, key: str, stride: int, shortcut: bool) -> str:
        """Inverted residual: expand (where there are weights for it), depthwise, project, and the shortcut around."""
        start = x
        if f"{key}._expand_conv.weight" in self.weights:
            x = self.conv(x, f"{scope}/expand", f"{key}._expand_conv", f"{key}._bn0")
        x = self.conv(x, f"{scope}/depthwise", f"{key}._depthwise_conv", f"{key}._bn1", stride)
        x = self.conv(x, f"{scope}/project", f"{key}._project_conv", f"{key}._bn2", relu6=False)
        return self.op("Add", [x, start], scope) if shortcut else x


def graph(state: dict[str, np.ndarray]) -> GraphProto:
    """Build the network: `image` [N, 3, 224, 224] to `logits` [N, 1000]; ValueError where weights are left over."""
    net = Network({name: value for name, value in state.items() if not name.endswith(".num_batches_tracked")})
    net.constant("relu6/min", np.array(0, np.float32))
    net.constant("relu6/max", np.array(6, np.float32))
    x = net.conv("image", "stem", "_conv_stem", "_bn0", stride=2)
    number = 0
    for stage, (blocks, stride) in enumerate(STAGES):
        for index in range(blocks):
            step = 1 if index else stride
            x = net.block(x, f"blocks.{stage}.{index}", f"_blocks.{number}", step, shortcut=index > 0)
            number += 1
    x = net.conv(x, "head", "_conv_head", "_bn1")
    x = net.op("GlobalAveragePool", [x], "head")
    x = net.op("Flatten", [x], "head")
    weight = net.constant("classifier/weight", net.weights.pop("_fc.weight"))
    bias = net.constant("classifier/bias", net.weights.pop("_fc.bias"))
    net.op("Gemm", [x, weight, bias], "classifier", "logits", transB=1)
    if net.weights:
        raise ValueError(f"Weights without a place in the network: {', '.join(net.weights)}.")
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, SIZE, SIZE])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 1000])
    return helper.make_graph(net.nodes, "efficientnet-lite0", [image], [logits], net.initializers)
