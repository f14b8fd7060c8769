"""What a target makes of a score that is given as it is: its seed, its number and what it found, by onnxruntime."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxcam.grad.forward import Forward
from onnxcam.grad.infer import Type
from onnxcam.grad.tensor import Tape, Value
from onnxcam.inspection import Boxes, Input, Score
from onnxcam.model import graft
from onnxcam.targets.goal import Goal, Scene
from tests.builders import run

Arrays = Mapping[str, np.ndarray]
PICTURE = Input("image.in", ("N", 3, 40, 60), "float32", "NCHW")  # 60 wide, 40 high
STEP = 1e-5


def asked(
    goal: Goal,
    arrays: Arrays,
    score: Score,
    *,
    given: Arrays | None = None,
    opset: int = 17,
    fixed: bool = False,
    by: Callable[[onnx.ModelProto, Arrays], dict[str, Any]] = run,
) -> dict[str, Any]:
    """Seed, number and findings for tensors of those values, the score's among them; sizes are open unless `fixed`."""
    tensors = dict(arrays)
    tensors.setdefault("image", np.zeros((len(arrays[score.tensor]), 3, 40, 60), np.float32))
    proto = _model(tensors, opset, score, fixed)
    forward = Forward(proto)
    tape = Tape(forward, "cam")
    parameters = {k: tape.input(k, _type(k, v)) for k, v in goal.inputs.items()}
    answer = goal.answer(Scene(tape.value(score.tensor), score, PICTURE), parameters)
    named: dict[str, Value] = {"seed": answer.seed, "number": answer.number, **answer.found}
    outputs = [tape.rename(v, f"found/{k}") for k, v in named.items()]
    result = graft(proto, tape.nodes, tape.tensors(list(parameters.values())), tape.tensors(outputs))
    for name, default in goal.inputs.items():
        result.graph.initializer.append(numpy_helper.from_array(default, name))
    onnx.checker.check_model(result, full_check=True)
    assert answer.seed.type == forward.type(score.tensor)
    found = by(result, {f"{k}.in": v for k, v in tensors.items()} | dict(given or {}))
    return {k.removeprefix("found/"): v for k, v in found.items() if k.startswith("found/")}


def slope(number: Callable[[np.ndarray], np.ndarray], y: np.ndarray) -> np.ndarray:
    """d Σ number / d y by central differences in float64."""
    y = np.asarray(y, np.float64)
    found = np.zeros_like(y)
    for i in np.ndindex(y.shape):
        ends = []
        for sign in (1, -1):
            moved = y.copy()
            moved[i] += sign * STEP
            ends.append(np.sum(number(moved)))
        found[i] = (ends[0] - ends[1]) / (2 * STEP)
    return found


def plain(y: np.ndarray, activation: str | None = None, axis: int = 1, boxes: Boxes | None = None) -> Score:
    """The score that tensor `y` is, with every size open but that of the classes."""
    shape = tuple(d if i in (axis, -1) else f"d{i}" for i, d in enumerate(y.shape))
    return Score("y", "y", shape if y.ndim > 1 else y.shape, activation, "boxes" if boxes else "classes", axis, boxes)


def _model(tensors: Arrays, opset: int, score: Score, fixed: bool) -> onnx.ModelProto:
    inputs, outputs, nodes = [], [], []
    for name, value in tensors.items():
        kept = {score.axis % value.ndim} if name == score.tensor else {1}
        if fixed or name == "corners":
            kept = set(range(1, value.ndim))
        if score.boxes and score.boxes.layout == "list":
            kept |= {2}
        shape = [d if i in kept else f"{name}_{i}" for i, d in enumerate(value.shape)]
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        inputs.append(helper.make_tensor_value_info(f"{name}.in", kind, shape))
        outputs.append(helper.make_tensor_value_info(name, kind, shape))
        nodes.append(helper.make_node("Identity", [f"{name}.in"], [name]))
    graph = helper.make_graph(nodes, "given", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _type(name: str, value: np.ndarray) -> Type:
    kind = TensorProto.INT64 if value.dtype.kind == "i" else TensorProto.FLOAT
    return Type(kind, (f"{name}/rows", *value.shape[1:]))
