"""Write a small residual network with Keras 2.2.5 as a Core ML classifier of pictures.

    python scripts/exports/from_coreml.py OUT.onnx

By coremltools 4.1 and onnxmltools 1.7.0; its scores end in a ZipMap, with names of classes.
Python 3.7.16, tensorflow-cpu 1.15.0, keras 2.2.5, h5py 2.10.0, onnx 1.8.1, numpy 1.19.5, protobuf 3.20.3.
"""

import sys

import coremltools
import keras
import numpy as np
import onnxmltools
import tensorflow as tf
from small_keras import network

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]

tf.set_random_seed(1)
np.random.seed(1)
model = coremltools.converters.keras.convert(
    network(keras), input_names=["image"], output_names=["scores"], class_labels=NAMES, image_input_names=["image"],
    is_bgr=True, image_scale=1 / 127.5, red_bias=-1, green_bias=-1, blue_bias=-1,
)  # fmt: skip
onnxmltools.utils.save_model(onnxmltools.convert_coreml(model, "small"), sys.argv[1])
