"""Write a small residual network with Sony's Neural Network Libraries and nnabla_converter.

    python scripts/exports/from_nnabla.py OUT.onnx

Python 3.10.13, nnabla 1.39.0, nnabla_converter 1.39.0, onnx 1.13.1, numpy 1.26.4, protobuf 3.20.3.
"""

import os
import subprocess
import sys
import tempfile

import nnabla as nn
import nnabla.functions as F
import nnabla.parametric_functions as PF
import numpy as np
from nnabla.utils.save import save

np.random.seed(1)
nn.random.prng = np.random.RandomState(1)


def convolution(x, filters, size, stride=1, groups=1, name=""):
    with nn.parameter_scope(name):
        pads, strides, side = (size // 2,) * 2, (stride,) * 2, (size, size)
        x = PF.convolution(x, filters, side, pads, strides, group=groups, with_bias=False)
        return PF.batch_normalization(x, batch_stat=False)


def block(x, filters, stride, name):
    with nn.parameter_scope(name):
        y = F.relu(convolution(x, filters, 3, stride, name="a"))
        y = F.relu(convolution(y, filters, 3, groups=filters, name="b"))
        y = convolution(y, filters, 1, name="c")
        return F.relu(y + (convolution(x, filters, 1, stride, name="shortcut") if stride > 1 else x))


x = pictures = nn.Variable((1, 3, 32, 32))
x = F.max_pooling(F.relu(convolution(x, 12, 3, name="stem")), (3, 3), (2, 2), pad=(1, 1))
x = block(block(x, 24, 2, "block1"), 24, 1, "block2")
x = F.average_pooling(x, x.shape[2:])
scores = F.softmax(PF.affine(x, 10, name="fc"))
spread = {"gamma": (1, 0.2), "beta": (0, 0.2), "mean": (0, 0.2), "var": (1, 0.1)}
for name, value in nn.get_parameters(grad_only=False).items():
    if name.rpartition("/")[2] in spread:
        value.d = np.random.normal(*spread[name.rpartition("/")[2]], size=value.shape)

source = os.path.join(tempfile.mkdtemp(), "small.nnp")
network = {"name": "small", "batch_size": 1, "outputs": {"scores": scores}, "names": {"pictures": pictures}}
executor = {"name": "runtime", "network": "small", "data": ["pictures"], "output": ["scores"]}
save(source, {"networks": [network], "executors": [executor]})
subprocess.check_call([os.path.join(sys.prefix, "bin", "nnabla_cli"), "convert", "-b", "1", source, sys.argv[1]])
