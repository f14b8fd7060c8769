"""Write a small residual network with Chainer 7.8.1 and its onnx_chainer.

    python scripts/exports/from_chainer.py OUT.onnx

Python 3.7.16, chainer 7.8.1, onnx 1.6.0, numpy 1.19.5, protobuf 3.20.3.
"""

import sys

import chainer
import chainer.functions as F
import chainer.links as L
import numpy as np
import onnx_chainer

np.random.seed(1)
chainer.config.train = False


class ConvBN(chainer.Chain):
    """A convolution and batch normalization."""

    def __init__(self, channels, filters, size, stride=1, groups=1):
        super().__init__()
        with self.init_scope():
            he = chainer.initializers.HeNormal()
            self.conv = L.Convolution2D(channels, filters, size, stride, size // 2, True, he, groups=groups)
            self.bn = L.BatchNormalization(filters)
        self.bn.gamma.data[:] = np.random.normal(1, 0.2, filters)
        self.bn.beta.data[:] = np.random.normal(0, 0.2, filters)
        self.bn.avg_mean[:] = np.random.normal(0, 0.2, filters)
        self.bn.avg_var[:] = np.random.normal(1, 0.1, filters)

    def forward(self, x):
        return self.bn(self.conv(x))


class Block(chainer.Chain):
    """A residual block with a depthwise convolution."""

    def __init__(self, channels, filters, stride):
        super().__init__()
        with self.init_scope():
            self.a = ConvBN(channels, filters, 3, stride)
            self.b = ConvBN(filters, filters, 3, groups=filters)
            self.c = ConvBN(filters, filters, 1)
            self.shortcut = ConvBN(channels, filters, 1, stride) if stride > 1 else None

    def forward(self, x):
        y = self.c(F.relu(self.b(F.relu(self.a(x)))))
        return F.relu(y + (self.shortcut(x) if self.shortcut else x))


class Classifier(chainer.Chain):
    """Features, average pooling over the whole map, a dense layer and softmax."""

    def __init__(self):
        super().__init__()
        with self.init_scope():
            self.conv1 = ConvBN(3, 12, 3)
            self.res2 = Block(12, 24, 2)
            self.res3 = Block(24, 24, 1)
            self.fc = L.Linear(24, 10)

    def forward(self, x):
        x = F.max_pooling_2d(F.relu(self.conv1(x)), 3, 2, 1)
        x = self.res3(self.res2(x))
        x = F.average_pooling_2d(x, x.shape[2:])
        return F.softmax(self.fc(F.reshape(x, (len(x), -1))))


onnx_chainer.export(Classifier(), np.random.rand(1, 3, 32, 32).astype(np.float32), filename=sys.argv[1])
