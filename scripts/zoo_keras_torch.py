"""keras.applications on Keras's torch backend: Keras's own export through torch.onnx, and torch's autograd.

With an open batch Keras takes the TorchScript exporter, which fails on ConvNeXt; with a fixed one it takes dynamo.
"""

from pathlib import Path

import keras
import numpy as np
import torch

PACKAGES = ("torch", "onnxscript", "keras")
SWEPT = ("export, torch",)

torch.set_num_threads(1)


def write(model: keras.Model, exporter: str, path: Path, batch: int) -> None:
    """Export a network for a fixed batch."""
    signature = keras.InputSpec(shape=(batch, *model.input.shape[1:]), dtype="float32")
    model.export(path, format="onnx", verbose=False, input_signature=[signature])


def pull(model: keras.Model, images: np.ndarray, seed: np.ndarray, dtype: str) -> np.ndarray:
    """Differentiate Σ seed · logits of a model that gives a feature map and logits, with respect to the feature map."""
    kind = getattr(torch, dtype)
    value, logits = model(torch.tensor(images, dtype=kind), training=False)
    (found,) = torch.autograd.grad((logits * torch.tensor(seed, dtype=kind)).sum(), value)
    return found.numpy()
