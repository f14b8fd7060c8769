"""Write a small residual network, or the one of CNTK's tutorial, with CNTK 2.7.

    python scripts/exports/from_cntk.py OUT.onnx [tutorial]

Python 3.6.15, cntk 2.7, numpy 1.16.6, scipy 1.3.3, protobuf 3.17.3. CNTK asks for Open MPI 1.10's libraries under the
names libmpi.so.12 and libmpi_cxx.so.1; links of these names to Open MPI 4.1's (Debian 12, libopenmpi3), in a folder
of LD_LIBRARY_PATH, do.
"""

import sys

import cntk as C
import numpy as np

C.cntk_py.set_fixed_random_seed(1)
RNG = np.random.RandomState(1)


def convolution(x, filters, size, strides=1, name=""):
    x = C.layers.Convolution2D(size, filters, strides=strides, pad=True, bias=False, name=name)(x)
    return C.layers.BatchNormalization(map_rank=1, name=name + "_bn")(x)


def depthwise(x, size, name):
    kernel = C.parameter((x.shape[0], 1, *size), init=C.he_normal(), name=name + ".W")
    x = C.convolution(kernel, x, strides=(1, 1, 1), auto_padding=[False, True, True], groups=x.shape[0], name=name)
    return C.layers.BatchNormalization(map_rank=1, name=name + "_bn")(x)


def residual():
    pictures = C.input_variable((3, 32, 32), name="features")
    x = C.relu(convolution(pictures, 12, (3, 3), name="conv1"))
    x = C.layers.MaxPooling((3, 3), strides=2, pad=True, name="pool1")(x)
    y = C.relu(convolution(x, 24, (3, 3), strides=2, name="conv2a"))
    y = C.relu(depthwise(y, (3, 3), name="conv2b"))
    y = convolution(y, 24, (1, 1), name="conv2c")
    x = C.relu(y + convolution(x, 24, (1, 1), strides=2, name="shortcut2"), name="sum2")
    y = convolution(C.relu(convolution(x, 24, (3, 3), name="conv3a")), 24, (3, 3), name="conv3b")
    x = C.relu(x + y, name="sum3")
    x = C.layers.GlobalAveragePooling(name="pool")(x)
    return C.softmax(C.layers.Dense(10, name="fc")(x), name="prob")


def tutorial():
    pictures = C.input_variable((1, 28, 28))
    with C.layers.default_options(init=C.glorot_uniform(), activation=C.relu):
        x = C.layers.Convolution2D((5, 5), 8, pad=True, name="first_conv")(pictures / 255)
        x = C.layers.MaxPooling((2, 2), strides=(2, 2), name="first_max")(x)
        x = C.layers.Convolution2D((5, 5), 16, pad=True, name="second_conv")(x)
        x = C.layers.MaxPooling((3, 3), strides=(3, 3), name="second_max")(x)
        return C.layers.Dense(10, activation=None, name="classify")(x)


model = tutorial() if sys.argv[2:] == ["tutorial"] else residual()
for each in model.parameters + model.constants:
    spread = {"scale": (1, 0.2), "bias": (0, 0.2), "aggregate_mean": (0, 0.2), "aggregate_variance": (1, 0.1)}
    if each.name in spread:
        mean, deviation = spread[each.name]
        each.value = RNG.normal(mean, deviation, each.shape).astype(np.float32)
model.save(sys.argv[1], format=C.ModelFormat.ONNX)
