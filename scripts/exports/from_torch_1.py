"""Write a small residual network with an old PyTorch.

    python scripts/exports/from_torch_1.py OUT.onnx

Python 3.7.16, torch 1.0.1 or 1.4.0 (weights among the inputs), onnx 1.8.1, numpy 1.21.6, protobuf 3.20.3.
"""

import sys

import onnx
import torch
from torch import nn

torch.manual_seed(1)


def convolution(channels, filters, size, stride=1, groups=1):
    conv = nn.Conv2d(channels, filters, size, stride, size // 2, groups=groups, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out" if groups == 1 else "fan_in", nonlinearity="relu")
    bn = nn.BatchNorm2d(filters)
    nn.init.normal_(bn.weight, 1, 0.2)
    nn.init.normal_(bn.bias, 0, 0.2)
    nn.init.normal_(bn.running_mean, 0, 0.2)
    nn.init.normal_(bn.running_var, 1, 0.1)
    return nn.Sequential(conv, bn)


class Block(nn.Module):
    """A residual block with a depthwise convolution."""

    def __init__(self, channels, filters, stride):
        super().__init__()
        self.a = convolution(channels, filters, 3, stride)
        self.b = convolution(filters, filters, 3, groups=filters)
        self.c = convolution(filters, filters, 1)
        self.shortcut = convolution(channels, filters, 1, stride) if stride > 1 else None
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.c(self.relu(self.b(self.relu(self.a(x)))))
        return self.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class Classifier(nn.Module):
    """Features, adaptive pooling, a dense layer."""

    def __init__(self):
        super().__init__()
        stem = (convolution(3, 12, 3), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1))
        self.features = nn.Sequential(*stem, Block(12, 24, 2), Block(24, 24, 1))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(24, 10)

    def forward(self, x):
        x = self.avgpool(self.features(x))
        return self.fc(x.view(x.size(0), -1))


options = {"keep_initializers_as_inputs": True} if torch.__version__ >= "1.3" else {}
torch.onnx.export(Classifier().eval(), torch.randn(2, 3, 32, 32), sys.argv[1], **options)
model = onnx.load(sys.argv[1])
for node in model.graph.node:
    node.doc_string = ""  # PyTorch 1.0 writes the Python stack of every operator, with the paths of the machine
onnx.save(model, sys.argv[1])
