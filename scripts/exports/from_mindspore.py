"""Write a small residual network with MindSpore 2.7.0.

    python scripts/exports/from_mindspore.py OUT.onnx

Python 3.10.13, mindspore 2.7.0 (CPU), numpy 1.26.4.
"""

import sys

import mindspore as ms
import numpy as np
from mindspore import nn

ms.set_context(mode=ms.GRAPH_MODE, device_target="CPU")
ms.set_seed(1)
np.random.seed(1)


def convolution(channels, filters, size, stride=1, groups=1):
    conv = nn.Conv2d(channels, filters, size, stride, "pad", size // 2, group=groups, weight_init="HeNormal")
    bn = nn.BatchNorm2d(filters)
    spread = [(bn.gamma, 1, 0.2), (bn.beta, 0, 0.2), (bn.moving_mean, 0, 0.2), (bn.moving_variance, 1, 0.1)]
    for value, mean, deviation in spread:
        value.set_data(ms.Tensor(np.random.normal(mean, deviation, filters).astype(np.float32)))
    return nn.SequentialCell(conv, bn)


class Block(nn.Cell):
    """A residual block with a depthwise convolution."""

    def __init__(self, channels, filters, stride):
        super().__init__()
        self.a = convolution(channels, filters, 3, stride)
        self.b = convolution(filters, filters, 3, groups=filters)
        self.c = convolution(filters, filters, 1)
        self.shortcut = convolution(channels, filters, 1, stride) if stride > 1 else nn.Identity()
        self.relu = nn.ReLU()

    def construct(self, x):
        y = self.c(self.relu(self.b(self.relu(self.a(x)))))
        return self.relu(y + self.shortcut(x))


class Classifier(nn.Cell):
    """Features, the mean over all places, a dense layer and softmax."""

    def __init__(self):
        super().__init__()
        self.stem = nn.SequentialCell(convolution(3, 12, 3), nn.ReLU(), nn.MaxPool2d(3, 2, "same"))
        self.blocks = nn.SequentialCell(Block(12, 24, 2), Block(24, 24, 1))
        self.fc = nn.Dense(24, 10)
        self.softmax = nn.Softmax()

    def construct(self, x):
        x = self.blocks(self.stem(x)).mean((2, 3))
        return self.softmax(self.fc(x))


model = Classifier().set_train(False)
ms.export(model, ms.Tensor(np.zeros((1, 3, 32, 32), np.float32)), file_name=sys.argv[1], file_format="ONNX")
