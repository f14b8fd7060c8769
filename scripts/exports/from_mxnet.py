"""Write a small residual network with Apache MXNet 1.9.1 (Gluon).

    python scripts/exports/from_mxnet.py OUT.onnx

Python 3.7.16, mxnet 1.9.1, onnx 1.8.1, numpy 1.19.5, protobuf 3.20.3.
"""

import os
import sys
import tempfile

import mxnet as mx
import numpy as np
from mxnet.gluon import nn

mx.random.seed(1)
RNG = np.random.RandomState(1)


def convolution(filters, size, strides=1, groups=1):
    layer = nn.HybridSequential()
    layer.add(nn.Conv2D(filters, size, strides, size // 2, groups=groups, use_bias=False), nn.BatchNorm())
    return layer


class Block(nn.HybridBlock):
    """A residual block with a depthwise convolution."""

    def __init__(self, filters, strides):
        super().__init__()
        with self.name_scope():
            self.body = nn.HybridSequential()
            self.body.add(convolution(filters, 3, strides), nn.Activation("relu"))
            self.body.add(convolution(filters, 3, groups=filters), nn.Activation("relu"), convolution(filters, 1))
            self.shortcut = convolution(filters, 1, strides) if strides > 1 else None

    def hybrid_forward(self, F, x):
        y = self.shortcut(x) if self.shortcut else x
        return F.Activation(self.body(x) + y, act_type="relu")


class Classifier(nn.HybridBlock):
    """Features, global pooling, a dense layer and softmax."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.features = nn.HybridSequential()
            self.features.add(convolution(12, 3), nn.Activation("relu"), nn.MaxPool2D(3, 2, 1))
            self.features.add(Block(24, 2), Block(24, 1), nn.GlobalAvgPool2D(), nn.Flatten())
            self.output = nn.Dense(10)

    def hybrid_forward(self, F, x):
        return F.softmax(self.output(self.features(x)))


model = Classifier()
model.initialize(mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2))
model(mx.nd.zeros((1, 3, 32, 32)))
spread = {"gamma": (1, 0.2), "beta": (0, 0.2), "running_mean": (0, 0.2), "running_var": (1, 0.1)}
for name, each in model.collect_params().items():
    for ending, (mean, deviation) in spread.items():
        if name.endswith(ending):
            each.set_data(mx.nd.array(RNG.normal(mean, deviation, each.shape)))
model.hybridize()
model(mx.nd.zeros((1, 3, 32, 32)))
stem = os.path.join(tempfile.mkdtemp(), "small")
model.export(stem)
mx.onnx.export_model(stem + "-symbol.json", stem + "-0000.params", [(1, 3, 32, 32)], np.float32, sys.argv[1])
