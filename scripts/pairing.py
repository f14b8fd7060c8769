"""Which tensor of an ONNX file is which feature map of the framework: found by value, so no names are needed."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
from common import relative_error

CLOSE = 1e-3


class Unpaired(LookupError):
    """The framework has no feature map with a tensor's values."""


class FeatureMap(NamedTuple):
    """A tensor of an ONNX file and what the framework calls the same feature map."""

    tensor: str
    label: str
    channels_last: bool

    def turn(self, array: np.ndarray) -> np.ndarray:
        """[N, C, H, W], as the framework has it."""
        return array.transpose(0, 3, 1, 2) if self.channels_last else array


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def feature_maps(path: Path, images: np.ndarray) -> dict[str, np.ndarray]:
    """Run the model for every float tensor of rank 4 with a spatial extent, in the order of the nodes."""
    model = onnx.load(path)
    have = {output.name for output in model.graph.output}
    names = [name for node in model.graph.node for name in node.output if name and name not in have]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    running = session(model)
    values = zip(names, running.run(names, {running.get_inputs()[0].name: images}), strict=True)
    return {name: value for name, value in values if value.ndim == 4 and value.dtype == np.float32 and side(value) > 1}


def flat(value: np.ndarray, axis: int) -> np.ndarray:
    """Any layout as [N, K, positions], from the axis of the channels."""
    return np.moveaxis(value, axis, 1).reshape(len(value), value.shape[axis], -1)


def axis_like(value: np.ndarray, wanted: np.ndarray) -> int | None:
    """Find the axis of channels with which `value` is the same feature map as `wanted` [N, K, positions]."""
    if value.size != wanted.size or value.ndim < 2 or len(value) != len(wanted):
        return None
    axes = [axis for axis in range(1, value.ndim) if value.shape[axis] == wanted.shape[1]]
    return next((axis for axis in axes if relative_error(flat(value, axis), wanted).max() < CLOSE), None)


def side(value: np.ndarray) -> int:
    """Tell the height of a feature map in either layout: of its three sizes the middle one."""
    return sorted(value.shape[1:])[1]


def pair(tensor: str, value: np.ndarray, maps: dict[str, np.ndarray]) -> FeatureMap | None:
    """Find the framework's feature map closest to `value`, as it is or turned from NHWC; None beyond 1e-3."""
    best, found = CLOSE, None
    for label, each in maps.items():
        for channels_last in (False, True):
            candidate = FeatureMap(tensor, label, channels_last)
            if each.shape != candidate.turn(value).shape:
                continue
            distance = relative_error(candidate.turn(value), each).max()
            if distance < best:
                best, found = distance, candidate
    return found


def first_pair(names: list[str], values: dict[str, np.ndarray], maps: dict[str, np.ndarray]) -> FeatureMap:
    """Find the first of `names` that the framework has too."""
    for name in names:
        if found := pair(name, values[name], maps):
            return found
    raise Unpaired(f"the framework's network has no feature map like {names[:3]}; if the cache is old, empty it")
