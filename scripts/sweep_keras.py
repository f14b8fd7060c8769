"""keras.applications for the sweep: through tf2onnx and through `model.export`, on TensorFlow and on torch.

KERAS_BACKEND tells which backend: each has its exporters and its own automatic differentiation.
"""

import importlib
from pathlib import Path
from typing import Any

import keras
import keras_networks
import numpy as np
import onnx
from pairing import Unpaired, axis_like, flat

zoo = importlib.import_module({"tensorflow": "zoo_keras", "torch": "zoo_keras_torch"}[keras.backend.backend()])
PACKAGES = zoo.PACKAGES
EXPORTERS = zoo.SWEPT
SAMPLES = 3
NETWORKS = (
    "MobileNetV3Small", "MobileNetV2", "MobileNet", "NASNetMobile", "MobileNetV3Large", "EfficientNetB0",
    "EfficientNetV2B0", "EfficientNetB1", "EfficientNetV2B1", "DenseNet121", "EfficientNetB2", "EfficientNetV2B2",
    "EfficientNetB3", "DenseNet169", "EfficientNetV2B3", "EfficientNetB4", "DenseNet201", "EfficientNetV2S", "Xception",
    "InceptionV3", "ResNet50", "ResNet50V2", "ConvNeXtTiny", "EfficientNetB5", "EfficientNetB6", "ResNet101",
    "ResNet101V2", "ConvNeXtSmall", "EfficientNetV2M", "InceptionResNetV2", "ResNet152", "ResNet152V2",
    "EfficientNetB7", "ConvNeXtBase", "NASNetLarge", "EfficientNetV2L", "VGG16", "VGG19", "ConvNeXtLarge",
    "ConvNeXtXLarge",
)  # fmt: skip
SIZES = {"VGG": 64, "Xception": 160, "Inception": 160}


class Subject:
    """A network with pictures: what every exporter's file of it is compared with."""

    def __init__(self, name: str) -> None:
        """Make the network with random weights that behave, and pictures."""
        self.name = name
        self.size = next((side for start, side in SIZES.items() if name.startswith(start)), 128)
        keras.utils.set_random_seed(0)
        self.model = keras_networks.build(name, softmax=True, size=self.size)
        self._enliven()
        keras_networks.settle(self.model, keras_networks.pictures(name, 16, 100, self.size))
        self.images = keras_networks.pictures(name, SAMPLES, 1, self.size)

    def _enliven(self) -> None:
        """Give random values to the scales of residual branches, which start near zero."""
        rng = np.random.default_rng(0)
        for weight in self.model.trainable_weights:
            if weight.path.endswith("gamma") and float(np.abs(weight).max()) < 1e-2:
                weight.assign(rng.uniform(0.2, 0.6, weight.shape))

    def feeds(self, path: Path) -> dict[str, np.ndarray]:
        """Feed the pictures to the file's only input."""
        return {onnx.load(path, load_external_data=False).graph.input[0].name: self.images}

    def export(self, exporter: str, path: Path) -> None:
        """Write the file."""
        zoo.write(self.model, exporter, path, SAMPLES)

    def truth(self, layer: np.ndarray, score: np.ndarray, seed: np.ndarray) -> dict[str, np.ndarray]:
        """Differentiate Σ seed · logits with respect to the layer [N, K, positions], in float64 and in float32."""
        return {dtype: self._gradient(dtype, layer, seed) for dtype in ("float64", "float32")}

    def _gradient(self, dtype: str, layer: np.ndarray, seed: np.ndarray) -> np.ndarray:
        model = keras_networks.build(self.name, softmax=False, dtype=dtype, size=self.size)
        model.set_weights(self.model.get_weights())
        label, axis = self._pair(layer, model, self.images.astype(dtype))
        split = keras.Model(model.input, [model.get_layer(label).output, model.output])
        return flat(zoo.pull(split, self.images, seed, dtype), axis)

    @staticmethod
    def _pair(layer: np.ndarray, model: keras.Model, images: np.ndarray) -> tuple[str, int]:
        """Find the first of Keras's layers with these values, and the axis of its channels."""
        size = layer.size // len(layer)
        some = [each for each in model.layers[1:] if np.prod([d or 0 for d in single(each).shape[1:]]) == size]
        if some:
            values = run(keras.Model(model.input, [single(each) for each in some]), images)
            for each, value in zip(some, values, strict=True):
                axis = axis_like(value, layer)
                if axis is not None:
                    return each.name, axis
        raise Unpaired("no layer of the framework has these values")

    def expert(self, layer: np.ndarray, tensor: str) -> str | None:
        """Name the layer that the head pools, or the one that a last pool before it pools; None for another one."""
        heads = (keras.layers.GlobalAveragePooling2D, keras.layers.Flatten)
        last = [each for each in self.model.layers if isinstance(each, heads) and max(each.input.shape[1:3]) > 1][-1]
        tensors = [last.input]
        before = last.input._keras_history.operation
        if isinstance(before, keras.layers.MaxPooling2D):
            tensors.append(before.input)
        for tensor in tensors:
            (value,) = run(keras.Model(self.model.input, [tensor]), self.images)
            if axis_like(value, layer) is not None:
                return tensor._keras_history.operation.name
        return None


def run(model: keras.Model, images: np.ndarray) -> list[np.ndarray]:
    """Compute all outputs."""
    return [keras.ops.convert_to_numpy(each) for each in keras.tree.flatten(model(images, training=False))]


def single(layer: keras.Layer) -> Any:
    """Take the layer's output, of several the first."""
    return layer.output[0] if isinstance(layer.output, list | tuple) else layer.output


LISTS = {"keras": (lambda: list(NETWORKS), Subject)}
