"""Write a small residual network with PaddlePaddle 2.6.2 and paddle2onnx 1.2.11.

    python scripts/exports/from_paddle.py OUT.onnx

Python 3.10.13, paddlepaddle 2.6.2, paddle2onnx 1.2.11, numpy 1.26.4.
"""

import os
import sys
import tempfile

import paddle
from paddle import nn

paddle.seed(1)


class ConvBN(nn.Sequential):
    """A convolution and batch normalization."""

    def __init__(self, channels, filters, size, stride=1, groups=1):
        he = nn.initializer.KaimingNormal()
        conv = nn.Conv2D(channels, filters, size, stride, size // 2, 1, groups, weight_attr=he, bias_attr=False)
        super().__init__(conv, nn.BatchNorm2D(filters))
        for value, mean, deviation in [(self[1].weight, 1, 0.2), (self[1].bias, 0, 0.2), (self[1]._mean, 0, 0.2)]:
            value.set_value(paddle.normal(mean, deviation, value.shape))
        self[1]._variance.set_value(paddle.normal(1.0, 0.1, [filters]))


class Block(nn.Layer):
    """A residual block with a depthwise convolution."""

    def __init__(self, channels, filters, stride):
        super().__init__()
        self.a = ConvBN(channels, filters, 3, stride)
        self.b = ConvBN(filters, filters, 3, groups=filters)
        self.c = ConvBN(filters, filters, 1)
        self.shortcut = ConvBN(channels, filters, 1, stride) if stride > 1 else None
        self.act = nn.Hardswish()

    def forward(self, x):
        y = self.c(self.act(self.b(self.act(self.a(x)))))
        return self.act(y + (x if self.shortcut is None else self.shortcut(x)))


class Classifier(nn.Layer):
    """Features, adaptive pooling, a dense layer and softmax."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(ConvBN(3, 12, 3), nn.Hardswish(), nn.MaxPool2D(3, 2, 1))
        self.blocks = nn.Sequential(Block(12, 24, 2), Block(24, 24, 1))
        self.avg_pool = nn.AdaptiveAvgPool2D(1)
        self.fc = nn.Linear(24, 10)

    def forward(self, x):
        x = self.avg_pool(self.blocks(self.stem(x)))
        return nn.functional.softmax(self.fc(paddle.flatten(x, 1)))


model = Classifier()
model.eval()
stem = os.path.join(tempfile.mkdtemp(), "small")
spec = [paddle.static.InputSpec([None, 3, 32, 32], "float32", "x")]
paddle.onnx.export(model, stem, input_spec=spec, opset_version=13)
os.replace(stem + ".onnx", sys.argv[1])
