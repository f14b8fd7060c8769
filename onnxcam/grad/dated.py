"""Scan as opset 8 had it, run apart for each sample of a batch: a Loop over samples around a Loop over steps."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Nodes = list[onnx.NodeProto]


def by_sample(inputs: Sequence[str], outputs: Sequence[str], attributes: Mapping[str, Any], scope: str) -> Nodes | None:
    """The nodes that a Scan stands for, new names beginning with `scope`; None where samples have their own lengths."""
    body, streams = attributes["body"], attributes["num_scan_inputs"]
    lengths, *given = inputs[: 1 + len(body.input)]
    if lengths:
        return None
    formal, states = [v.name for v in body.input], len(body.input) - streams
    own = [f"{scope}/{name}" for name in formal]
    ways = attributes.get("directions") or [0] * streams
    step, steps, last, sample, samples, zero, one = (
        f"{scope}/{name}" for name in ("step", "steps", "last", "sample", "samples", "zero", "one")
    )
    slices: Nodes = []
    for whole, slice_, way in zip(own[states:], formal[states:], ways, strict=True):
        index = f"{slice_}/index"
        slices += [_node("Sub", [last, step], index)] if way else []
        slices.append(_node("Gather", [whole, index if way else step], slice_, axis=0))
    results = [v.name for v in body.output]
    inner = _loop(steps, own[:states], step, formal[:states], [*slices, *body.node], results, f"{scope}/of_one")
    inner.attribute[0].g.initializer.extend(body.initializer)
    ones = [f"{scope}/one_{i}" for i in range(len(outputs))]
    inner.output.extend(ones)
    cut = [_node("Gather", [name, sample], part, axis=0) for name, part in zip(given, own, strict=True)]
    nothing, still = f"{scope}/nothing", f"{scope}/still"  # a Loop had to have a state
    cut.append(_node("Identity", [nothing], still))
    around = _loop(samples, [zero], sample, [nothing], [*cut, inner], [still, *ones], f"{scope}/of_all")
    around.output.extend([f"{scope}/end", *outputs])
    shape = f"{scope}/shape"
    return [
        _number(zero, 0),
        _number(one, 1),
        _node("Shape", [given[states]], shape),
        _node("Gather", [shape, zero], samples, axis=0),
        _node("Gather", [shape, one], steps, axis=0),
        _node("Sub", [steps, one], last),
        around,
    ]


def _loop(
    trips: str, starts: Sequence[str], counter: str, states: Sequence[str], nodes: Nodes, ends: Sequence[str], name: str
) -> onnx.NodeProto:
    """A Loop without its outputs."""
    going, on = f"{name}/going", f"{name}/on"
    graph = helper.make_graph(
        [_node("Identity", [going], on), *nodes],
        name,
        [
            helper.make_tensor_value_info(counter, TensorProto.INT64, []),
            helper.make_tensor_value_info(going, TensorProto.BOOL, []),
            *(helper.make_empty_tensor_value_info(state) for state in states),
        ],
        [helper.make_tensor_value_info(on, TensorProto.BOOL, []), *map(helper.make_empty_tensor_value_info, ends)],
    )
    return helper.make_node("Loop", [trips, "", *starts], [], name, body=graph)


def _node(operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, inputs, [output], output, **attributes)


def _number(name: str, value: int) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], name, value=numpy_helper.from_array(np.array(value), name))
