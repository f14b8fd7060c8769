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
from keras_networks import SIZE, build, pictures, settle
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

FRAMEWORK = "tensorflow"
PACKAGES = ("tensorflow-cpu", "keras", "tf2onnx")
EXPORTERS = ("tf2onnx-15",)
NETWORKS = ("MobileNetV2", "ResNet50", "EfficientNetB0", "DenseNet121")
SWEPT = ("tf2onnx-15", "export")

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)


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


def write(model: keras.Model, exporter: str, path: Path, batch: int | None = None) -> None:
    """Export a network: `tf2onnx-<opset>`, or `export` for Keras's own method; the batch is open."""
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


def pull(model: keras.Model, images: np.ndarray, seed: np.ndarray, dtype: str) -> np.ndarray:
    """Differentiate Σ seed · logits of a model that gives a feature map and logits, with respect to the feature map."""
    with tf.GradientTape() as tape:
        x = tf.constant(images, dtype)
        tape.watch(x)
        value, logits = model(x, training=False)
        total = tf.reduce_sum(logits * tf.constant(seed, dtype))
    return tape.gradient(total, value).numpy()


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
