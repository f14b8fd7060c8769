"""The inputs of a model, and which of them takes a picture."""

import numpy as np
import onnx

from onnxcam.grad.forward import Forward
from onnxcam.grad.infer import Shape
from onnxcam.grad.node import Node
from onnxcam.inspection.parts import BARE, GREY, LAYOUTS, Input
from onnxcam.inspection.walk import CHANNEL_SECOND, ints, kept_axes, plain, rank

_COLOURS = (1, 3, 4)
_MOST = 200  # operators between an input and the first that says where its channels are
_MIXES = frozenset({"Einsum", "Gather", "Gemm", "MatMul", "Reshape", "Shape", "Size"})
Axes = list[int | None]  # axes of an input where they are in a tensor; None for one that was added


def read_input(forward: Forward, name: str) -> Input:
    """An input as the graph declares it."""
    type_ = forward.type(name)
    shape = type_.shape or ()
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(type_.dtype)).name
    return Input(name, shape, dtype, _layout(forward, name, shape))


def _layout(forward: Forward, name: str, shape: Shape) -> str | None:
    """The layout of an input: by the first operator that needs one, else by where a number of colours stands."""
    dims = len(shape)
    if not 2 <= dims <= 5:
        return None
    axes = _axes(forward, name, dims)
    if axes is not None and axes[0] is None and set(range(dims)) <= set(axes):
        return None if axes[1] is None else BARE.get((dims, axes[1]))
    if axes is not None and dims == 3 and axes[0] == 0 and axes[1] is None and set(axes[2:]) == {1, 2}:
        return GREY
    if axes is not None and axes[1] is not None:
        return LAYOUTS.get((dims, axes[1]))
    if dims != 4:
        return LAYOUTS.get((dims, 1))
    if shape[3] in _COLOURS and shape[1] not in _COLOURS:
        return "NHWC"
    return "NCHW" if isinstance(shape[1], int) else None


def _axes(forward: Forward, name: str, dims: int) -> Axes | None:
    """The axes of an input as the first convolution or pooling sees them, samples and channels first."""
    readers = forward.consumers()
    waiting: list[tuple[str, Axes]] = [(name, list(range(dims)))]
    for _ in range(_MOST):
        if not waiting:
            return None
        tensor, axes = waiting.pop(0)
        for node in readers.get(tensor, []):
            if plain(node) in CHANNEL_SECOND and node.inputs[0] == tensor and len(axes) > 2:
                last = node.op.startswith("Nhwc") or node.attributes.get("channels_last")
                return [axes[0], axes[-1], *axes[1:-1]] if last else axes
            turned = _turned(forward, node, tensor, axes)
            if turned is not None:
                waiting.append((node.outputs[0], turned))
    return None


def _turned(forward: Forward, node: Node, tensor: str, axes: Axes) -> Axes | None:
    """The input's axes in what a node makes; None where it does more than turn, add, scale, cut or resize."""
    if node.op == "Transpose":
        perm = ints(node.attributes.get("perm")) or list(range(len(axes)))[::-1]
        return [axes[p] for p in perm]
    kept = kept_axes(forward, node) if node.inputs[0] == tensor else None
    if kept is not None:
        return [None if i is None else axes[i] for i in kept]
    alone = node.inputs[0] == tensor or len(node.inputs) == 2
    return axes if alone and node.op not in _MIXES and rank(forward, node.outputs[0]) == len(axes) else None
