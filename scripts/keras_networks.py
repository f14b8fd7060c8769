"""Networks of keras.applications with random weights that behave, on whatever backend Keras runs."""

import keras
import numpy as np
from common import smooth_images

SIZE = 224
RESCALING = ("EfficientNet", "MobileNetV3", "ConvNeXt", "RegNet", "ResNetRS")


def smooth(layer: keras.Layer) -> keras.Layer:
    """Make the layer that the smooth twin has: SiLU for ReLU and ReLU6, average for maximum."""
    config = layer.get_config()
    if isinstance(layer, keras.layers.ReLU) or config.get("activation") == "relu":
        return keras.layers.Activation("silu", name=config["name"], dtype=config["dtype"])
    kind = keras.layers.AveragePooling2D if isinstance(layer, keras.layers.MaxPooling2D) else type(layer)
    return kind.from_config(config)


def build(name: str, *, softmax: bool, dtype: str = "float32", size: int = SIZE) -> keras.Model:
    """Make the network called `name` (Keras's, or that and `-smooth`) with weights of its own."""
    make = getattr(keras.applications, name.removesuffix("-smooth"))
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        shape = None if size == SIZE else (size, size, 3)
        model = make(weights=None, classifier_activation="softmax" if softmax else None, input_shape=shape)
        return keras.models.clone_model(model, clone_function=smooth) if name.endswith("-smooth") else model
    finally:
        keras.config.set_dtype_policy(before)


def pictures(name: str, count: int, seed: int, size: int = SIZE) -> np.ndarray:
    """Draw float32 [count, size, size, 3], standardised, or around 0..255 for networks that rescale them themselves."""
    images = np.ascontiguousarray(smooth_images(count, size, seed).transpose(0, 2, 3, 1))
    return 60 * images + 120 if name.startswith(RESCALING) else images


def settle(model: keras.Model, images: np.ndarray) -> None:
    """Give every BatchNorm random scales and shifts, as in zoo.py, and the statistics of these images."""
    rng = np.random.default_rng(0)
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for norm in norms:
        width = norm.moving_mean.shape[0]
        if norm.scale:
            norm.gamma.assign(rng.uniform(0.5, 1.0, width))
        if norm.center:
            norm.beta.assign(rng.normal(0.7, 0.5, width))
        norm.momentum = 0.0  # the statistics of the last batch
    model(images, training=True)
