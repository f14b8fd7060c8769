"""onnx's own inference over a whole graph, where shapes are computed from shapes, without its large weights."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, shape_inference

from onnxcam.grad.infer import Type, keeps_sliced_symbols
from onnxcam.grad.subgraph import SMALL, forget_shapes


def whole_graph_types(
    model: onnx.ModelProto, protos: Sequence[onnx.NodeProto], initializers: Iterable[str], inputs: Mapping[str, Type]
) -> list[onnx.ValueInfoProto]:
    """Onnx's inference over the graph without its large weights; what the file declares where that says nothing.

    `inputs` are types of inputs that count in place of the declared ones.
    """
    source = model.graph
    light = onnx.ModelProto(
        ir_version=max(model.ir_version, 4), opset_import=model.opset_import, functions=model.functions
    )
    light.graph.name = source.name or "graph"
    light.graph.node.extend(protos)
    for node in light.graph.node:
        forget_shapes(node)
    # Shapes that the file declares may be stale (a batch size edited afterwards): only what is computed counts.
    light.graph.output.extend(helper.make_empty_tensor_value_info(o.name) for o in source.output)
    known = set(initializers)
    light.graph.input.extend(i for i in source.input if i.name not in known)
    for value in light.graph.input:
        if value.name in inputs:
            value.type.CopyFrom(inputs[value.name].proto())
    for value in light.graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.dim_value < 0:  # Paddle's word for an open size
                dim.dim_param = f"{value.name}:{axis}"
    for tensor in source.initializer:
        if int(np.prod(tensor.dims)) <= SMALL and tensor.data_location != TensorProto.EXTERNAL:
            light.graph.initializer.append(tensor)
        else:
            light.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    opsets = {o.domain: o.version for o in model.opset_import}
    if keeps_sliced_symbols(opsets) and any(n.op_type == "Slice" for n in source.node):
        return list(source.value_info)
    try:
        inferred = shape_inference.infer_shapes(light, data_prop=True).graph
    except (shape_inference.InferenceError, RuntimeError):
        inferred = light.graph  # a contradiction somewhere: node-by-node inference goes as far as it can
    computed = [*inferred.value_info, *inferred.output]
    if any(n.op_type == "SequenceAt" for n in source.node):
        _forget_symbols(computed)
    names = {v.name for v in computed if v.type.WhichOneof("value")}
    return [*computed, *(v for v in (*source.value_info, *source.output) if v.name not in names)]


def _forget_symbols(values: Iterable[onnx.ValueInfoProto]) -> None:
    """Drop the symbols of onnx's own: tensors out of one sequence share them, though their sizes differ."""
    for value in values:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param.startswith("unk__"):
                dim.Clear()


def misdeclared(graph: onnx.GraphProto, types: Mapping[str, Type]) -> frozenset[str]:
    """Tensors that the file gives another number of axes than they have: `types` are what the operators make."""
    said = {v.name: t.shape for v in (*graph.output, *graph.value_info) if (t := Type.of(v.type, v.name))}
    ours = {name: types[name].shape for name in said if name in types}
    return frozenset(name for name, shape in ours.items() if shape and len(said[name] or shape) != len(shape))
