"""An explainable model as two files, for runtimes without If: the model itself, and what is run only where wanted."""

import onnx
from onnx import helper

from onnxcam.grad.subgraph import captured
from onnxcam.original import PART
from onnxcam.plan import Plan


def split(extended: onnx.ModelProto, chosen: Plan) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The original with what the explanation reads as further outputs; the explanation, which takes these as inputs.

    A tensor has one name in both: what the first returns is fed to the second as it is. Weights that both need are in
    both. The second also takes those inputs of the model that it reads, and `cam/target`.
    """
    original, graph = chosen.source.proto.graph, extended.graph
    added = graph.node[len(original.node) :]
    made = {name for node in added for name in node.output}
    weights = {t.name: t for t in graph.initializer}
    reads = dict.fromkeys(
        name for node in added for name in (*node.input, *captured(node)) if name and name not in made
    )
    own = {i.name for i in graph.input[len(original.input) :]}
    passed = [name for name in reads if name not in weights and name not in own]
    declared = {v.name: v for v in (*original.input, *original.output)}

    first = onnx.ModelProto()
    first.CopyFrom(extended)
    for field, count in (
        (first.graph.node, len(original.node)),
        (first.graph.initializer, len(original.initializer)),
        (first.graph.output, len(original.output)),
    ):
        del field[count:]
    inputs = [i for i in first.graph.input if not i.name.startswith("cam/")]
    del first.graph.input[:]
    first.graph.input.extend(inputs)
    first.graph.output.extend(_value(chosen, name) for name in passed if name not in declared)

    second = helper.make_model(
        helper.make_graph(
            added,
            f"{original.name}-explanation",
            [*(_value(chosen, n) for n in passed), *(i for i in graph.input if i.name.startswith("cam/"))],
            graph.output[len(original.output) :],
            [weights[name] for name in reads if name in weights],
        ),
        opset_imports=extended.opset_import,
        functions=extended.functions,
        ir_version=extended.ir_version,
    )
    second.metadata_props.extend(p for p in extended.metadata_props if p.key.startswith("cam."))
    second.metadata_props.add(key=PART, value="tail")
    return first, second


def _value(chosen: Plan, name: str) -> onnx.ValueInfoProto:
    type_ = chosen.forward.type(name)
    return helper.make_tensor_value_info(name, type_.dtype, type_.shape)
