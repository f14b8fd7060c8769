"""The linear head of closed-form CAM: global average pooling and one linear layer between feature map and score."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from onnxcam.errors import ModelError
from onnxcam.grad.forward import Forward
from onnxcam.grad.node import Node
from onnxcam.inspection import Layer, Score

Weights = npt.NDArray[np.float32]

_RESHAPES = frozenset({"Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze"})


@dataclass(frozen=True)
class _Seen:
    """What lies between the score and the tensor `at`, walking towards the layer."""

    at: str
    weights: Weights | None = None
    pooled: bool = False


def linear_head(forward: Forward, layer: Layer, score: Score) -> Weights:
    """The weights (classes, K) with score = W·mean(A) + b. Raises ModelError where the head is not of that form."""
    producers = forward.producers()
    seen: _Seen | None = _Seen(score.tensor)
    node: Node | None = None
    while seen is not None and seen.at != layer.tensor:
        node = producers.get(seen.at)
        seen = None if node is None else _step(forward, node, layer, seen)
    if seen is None or not seen.pooled:
        raise ModelError(
            f"Method 'cam' needs global average pooling and one linear layer after '{layer.name}', and meets "
            f"{node or score.tensor}. Use 'gradcam', which equals it up to scale where both exist."
        )
    channels = layer.shape[layer.channel_axis]
    weights = seen.weights if seen.weights is not None else np.eye(int(channels), dtype=np.float32)
    if weights.shape[1] != channels:
        raise ModelError(
            f"Method 'cam': the linear layer reads {weights.shape[1]} values, '{layer.name}' has {channels}."
        )
    return weights


def _step(forward: Forward, node: Node, layer: Layer, seen: _Seen) -> _Seen | None:
    """The tensor before `node`; None where the head is not linear in the mean of the layer."""
    x = node.inputs[0]
    if node.op in ("Gemm", "MatMul") and not seen.pooled:
        return _linear(forward, node, seen)
    if node.op == "Conv":
        return _pointwise(forward, node, seen)
    if node.op == "Add":
        moving = [i for i in node.inputs if forward.constant(i) is None]
        return replace(seen, at=moving[0]) if len(moving) == 1 else None
    if not seen.pooled and _pools(forward, node, layer):
        return replace(seen, at=x, pooled=True)
    if node.op in _RESHAPES and not seen.pooled:
        return replace(seen, at=x)
    return replace(seen, at=x) if node.op == "Transpose" else None


def _linear(forward: Forward, node: Node, seen: _Seen) -> _Seen | None:
    w = forward.constant(node.inputs[1])
    if w is None or w.ndim != 2 or seen.weights is not None or node.attributes.get("transA", 0):
        return None
    matrix = np.asarray(w if node.attributes.get("transB", 0) else w.T, np.float32)
    return replace(seen, at=node.inputs[0], weights=matrix * np.float32(str(node.attributes.get("alpha", 1.0))))


def _pointwise(forward: Forward, node: Node, seen: _Seen) -> _Seen | None:
    w = forward.constant(node.inputs[1])
    if (
        w is None
        or w.size != w.shape[0] * w.shape[1]
        or seen.weights is not None
        or node.attributes.get("group", 1) != 1
    ):
        return None
    return replace(seen, at=node.inputs[0], weights=np.asarray(w, np.float32).reshape(w.shape[:2]))


def _pools(forward: Forward, node: Node, layer: Layer) -> bool:
    """Whether `node` averages over all of space, and over nothing else."""
    if node.op == "GlobalAveragePool":
        return True
    shape = forward.type(node.outputs[0]).shape or ()
    if node.op == "AveragePool":
        return all(d == 1 for d in shape[2:])
    if node.op != "ReduceMean" or len(forward.type(node.inputs[0]).shape or ()) != len(layer.shape):
        return False
    given = node.attributes.get("axes")
    named = forward.constant(node.inputs[1]) if given is None and len(node.inputs) > 1 else given
    axes = {int(a) % len(layer.shape) for a in np.asarray(named).reshape(-1)} if named is not None else set()
    before = forward.producers().get(node.inputs[0])
    turned = before is not None and before.op == "Transpose" and before.inputs[0] == layer.tensor
    order = (
        np.asarray(before.attributes.get("perm")).tolist()
        if before is not None and turned
        else list(range(len(layer.shape)))
    )
    return {order[a] for a in axes} == set(range(1, len(layer.shape))) - {layer.channel_axis}
