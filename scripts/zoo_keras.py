"""keras.applications networks as oracles: the same interface as zoo.py, through tf2onnx and tf.GradientTape.

Keras works in NHWC and ends in a softmax; feature maps are turned to NCHW here, and the reference gradient is that of
the logits, which is what the score before the softmax means.
"""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read when tensorflow is imported
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import keras
import numpy as np
import tensorflow as tf
import tf2onnx
from common import smooth_images
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

FRAMEWORK = "tensorflow"
PACKAGES = ("tensorflow-cpu", "keras", "tf2onnx")
EXPORTERS = ("tf2onnx-15",)
NETWORKS = ("MobileNetV2", "ResNet50", "EfficientNetB0", "DenseNet121")
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


def load(name: str, cache: Path) -> list[np.ndarray]:
    """Get the network's weights; the first call makes them."""
    path = cache / f"keras-{name}" / "weights.npz"
    if path.exists():
        with np.load(path) as file:
            return [file[f"{n}"] for n in range(len(file.files))]
    keras.utils.set_random_seed(0)
    model = build(name, softmax=True)
    settle(model, pictures(name, 16, seed=100))
    weights = model.get_weights()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name("partial.npz")
    np.savez(partial, **{f"{n}": each for n, each in enumerate(weights)})
    os.replace(partial, path)
    return weights


def export(name: str, exporter: str, cache: Path) -> Path:
    """Write the network as an ONNX file with a dynamic batch, NHWC, with its softmax: `tf2onnx-<opset>`."""
    path = cache / f"keras-{name}" / f"{exporter}.onnx"
    if not path.exists():
        model = build(name, softmax=True)
        model.set_weights(load(name, cache))
        write(model, exporter, path)
    return path


def write(model: keras.Model, exporter: str, path: Path) -> None:
    """Export a network: `tf2onnx-<opset>`, or `export` for Keras's own method."""
    if exporter == "export":
        model.export(path, format="onnx", verbose=False)
        return
    signature = [tf.TensorSpec((None, *model.input.shape[1:]), tf.float32, name="image")]
    call = tf.function(lambda image: model(image, training=False), input_signature=signature)
    # Frozen here, not by from_function: that takes the constants of a Normalization layer for inputs of the model.
    frozen = convert_variables_to_constants_v2(call.get_concrete_function())
    proto, _ = tf2onnx.convert.from_graph_def(
        frozen.graph.as_graph_def(),
        input_names=["image:0"],
        output_names=[each.name for each in frozen.outputs],
        opset=int(exporter.removeprefix("tf2onnx-")),
    )
    partial = path.with_suffix(".partial")
    partial.write_bytes(proto.SerializeToString())
    os.replace(partial, path)


class Oracle:
    """A network in tensorflow: its feature maps and the gradients of the chosen logits with respect to them."""

    def __init__(self, name: str, cache: Path) -> None:
        """Load the cached weights, or make them."""
        self.name, self.size = name, SIZE
        self.weights = load(name, cache)

    def images(self, count: int) -> np.ndarray:
        """Draw images as the ONNX file takes them: float32 [count, 224, 224, 3]."""
        return pictures(self.name, count, seed=1)

    def run(self, images: np.ndarray, dtype: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Compute every layer's feature map, turned to [N, C, H, W], by layer name, and the logits [N, classes]."""
        model, labels = self._model(dtype)
        *maps, logits = model(tf.constant(images, dtype), training=False)
        turned = [each.numpy().transpose(0, 3, 1, 2) for each in maps]
        return dict(zip(labels, turned, strict=True)), logits.numpy()

    def gradients(self, images: np.ndarray, dtype: str, targets: np.ndarray, labels: list[str]) -> list[np.ndarray]:
        """Differentiate each sample's logit of class `targets[n]` with respect to the layers, as [N, C, H, W]."""
        model, names = self._model(dtype)
        x = tf.constant(images, dtype)
        with tf.GradientTape() as tape:
            tape.watch(x)
            *maps, logits = model(x, training=False)
            score = tf.reduce_sum(tf.gather(logits, targets, batch_dims=1))
        gradients = tape.gradient(score, [maps[names.index(label)] for label in labels])
        return [g.numpy().transpose(0, 3, 1, 2) for g in gradients]

    def _model(self, dtype: str) -> tuple[keras.Model, list[str]]:
        model = build(self.name, softmax=False, dtype=dtype)
        model.set_weights(self.weights)
        layers = [layer for layer in model.layers[1:] if len(layer.output.shape) == 4]
        outputs = [layer.output for layer in layers] + [model.output]
        return keras.Model(model.input, outputs), [layer.name for layer in layers]
