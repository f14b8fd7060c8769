"""Write a small residual network with tf2onnx, from a SavedModel or a tflite file.

    python scripts/exports/from_tensorflow.py OUT.onnx KIND

KIND is saved-model, tflite or tflite-int8 (the file quantized to 8 bits, with what 50 random pictures give as ranges).
Python 3.7.16, tensorflow-cpu 2.3.4, tf2onnx 1.9.3, onnx 1.8.1, wrapt 1.12.1, numpy 1.18.5, protobuf 3.20.3.
"""

import os
import subprocess
import sys
import tempfile

import numpy as np
import tensorflow as tf
from small_keras import network

out, kind = os.path.abspath(sys.argv[1]), sys.argv[2]
tf.random.set_seed(1)
np.random.seed(1)
model = network(tf.keras)
os.chdir(tempfile.mkdtemp())  # the file says what it was made from: "small", not a path of the machine
if kind == "saved-model":
    tf.saved_model.save(model, "small")
else:
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if kind == "tflite-int8":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([np.random.randn(1, 32, 32, 3).astype("f")] for _ in range(50))
    with open("small", "wb") as file:
        file.write(converter.convert())
option = "--saved-model" if kind == "saved-model" else "--tflite"
subprocess.check_call([sys.executable, "-m", "tf2onnx.convert", option, "small", "--output", out, "--opset", "13"])
