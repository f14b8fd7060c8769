"""Write a small residual network with Keras 2 and keras2onnx 1.7.0.

    python scripts/exports/from_keras2.py OUT.onnx

Python 3.7.16, tensorflow-cpu 2.3.4, keras2onnx 1.7.0, onnx 1.8.1, numpy 1.18.5, protobuf 3.20.3.
"""

import os
import sys

os.environ["TF_KERAS"] = "1"

import keras2onnx
import numpy as np
import tensorflow as tf
from small_keras import network

tf.random.set_seed(1)
np.random.seed(1)
keras2onnx.save_model(keras2onnx.convert_keras(network(tf.keras), "small"), sys.argv[1])
