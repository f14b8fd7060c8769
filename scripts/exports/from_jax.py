"""Write a small residual network with JAX, Flax's nnx and jax2onnx.

    python scripts/exports/from_jax.py OUT.onnx

Python 3.12.1, jax and jaxlib 0.12.0.1, flax 0.12.12, jax2onnx 0.17.1, onnx 1.23.2, numpy 2.5.5.
"""

import sys

import jax
from flax import nnx
from jax2onnx import to_onnx


class ConvBN(nnx.Module):
    """A convolution and batch normalization."""

    def __init__(self, channels, filters, size, strides=1, groups=1, *, rngs):
        he = nnx.initializers.he_normal()
        self.conv = nnx.Conv(channels, filters, (size, size), strides, feature_group_count=groups, use_bias=False,
                             kernel_init=he, rngs=rngs)  # fmt: skip
        self.bn = nnx.BatchNorm(filters, use_running_average=True, rngs=rngs)
        for value, mean, deviation in [(self.bn.scale, 1, 0.2), (self.bn.bias, 0, 0.2), (self.bn.mean, 0, 0.2)]:
            value[...] = mean + deviation * jax.random.normal(rngs.params(), (filters,))
        self.bn.var[...] = 1 + 0.1 * jax.random.normal(rngs.params(), (filters,))

    def __call__(self, x):
        return self.bn(self.conv(x))


class Block(nnx.Module):
    """A residual block with a depthwise convolution."""

    def __init__(self, channels, filters, strides, *, rngs):
        self.a = ConvBN(channels, filters, 3, strides, rngs=rngs)
        self.b = ConvBN(filters, filters, 3, groups=filters, rngs=rngs)
        self.c = ConvBN(filters, filters, 1, rngs=rngs)
        self.shortcut = ConvBN(channels, filters, 1, strides, rngs=rngs) if strides > 1 else None

    def __call__(self, x):
        y = self.c(nnx.relu(self.b(nnx.relu(self.a(x)))))
        return nnx.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class Classifier(nnx.Module):
    """Features, the mean over all places, a dense layer and softmax."""

    def __init__(self, *, rngs):
        self.stem = ConvBN(3, 12, 3, rngs=rngs)
        self.block1 = Block(12, 24, 2, rngs=rngs)
        self.block2 = Block(24, 24, 1, rngs=rngs)
        self.head = nnx.Linear(24, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(nnx.relu(self.stem(x)), window_shape=(3, 3), strides=(2, 2), padding="SAME")
        x = self.block2(self.block1(x)).mean((1, 2))
        return nnx.softmax(self.head(x))


model = Classifier(rngs=nnx.Rngs(1))
to_onnx(model, [("B", 32, 32, 3)], model_name="small", return_mode="file", output_path=sys.argv[1])
