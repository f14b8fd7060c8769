"""The inputs of a model, and which of them takes a picture."""

import numpy as np
import onnx

from onnxcam.grad.forward import Forward
from onnxcam.grad.infer import Shape
from onnxcam.inspection.parts import LAYOUTS, Input
from onnxcam.inspection.walk import CHANNEL_SECOND, ints


def read_input(forward: Forward, name: str) -> Input:
    """An input as the graph declares it."""
    type_ = forward.type(name)
    shape = type_.shape or ()
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(type_.dtype)).name
    return Input(name, shape, dtype, _layout(forward, name, shape))


def _layout(forward: Forward, name: str, shape: Shape) -> str | None:
    """The layout of an input: by the operator that reads it, else by where a number of colours stands."""
    if len(shape) != 4:
        return LAYOUTS.get((len(shape), 1))
    for reader in forward.consumers().get(name, []):
        if reader.op == "Transpose" and ints(reader.attributes.get("perm")) == [0, 3, 1, 2]:
            return "NHWC"
        if reader.op in CHANNEL_SECOND:
            return "NCHW"
    colours = (1, 3, 4)
    if shape[3] in colours and shape[1] not in colours:
        return "NHWC"
    return "NCHW" if isinstance(shape[1], int) else None
