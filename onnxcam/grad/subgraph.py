"""Subgraphs of If, Loop and Scan: each as a model of its own, so that the walk over one is the walk over any model.

What a subgraph captures from outside becomes an input of that model, under the same name; a small constant becomes an
initializer, so that rules see its value. Names inside get a prefix of their own: what is written from them (a second
run, a gradient) then clashes with nothing around it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Generic, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from onnxcam.grad.infer import Type

SMALL = 4096  # constants up to this many elements are shown to shape inference, and known inside subgraphs


class Around(Protocol):
    """What a body asks of the graph around it."""

    opsets: dict[str, int]
    functions: dict[tuple[str, str], onnx.FunctionProto]

    def type(self, name: str) -> Type:
        """Type of a tensor."""
        ...

    def has_type(self, name: str) -> bool:
        """Whether the element type of a tensor is known."""
        ...

    def constant(self, name: str, limit: int | None = None) -> npt.NDArray[np.generic] | None:
        """Value of a small constant."""
        ...

    def inside(self, model: onnx.ModelProto) -> Self:
        """Read a graph inside this one."""
        ...


G = TypeVar("G", bound=Around)


@dataclass(frozen=True)
class Body:
    """A subgraph as a model: names inside of its formal inputs, its outputs and (by name outside) what it captures."""

    model: onnx.ModelProto
    scope: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    captured: Mapping[str, str]


@dataclass(frozen=True)
class Inside(Generic[G]):
    """A subgraph, and what is known of its tensors."""

    body: Body
    graph: G

    def output(self, index: int) -> Type | None:
        """Type of an output; None where it is no tensor, or an operator is unknown."""
        name = self.body.outputs[index]
        return self.graph.type(name) if self.graph.has_type(name) else None


def enter(graph: onnx.GraphProto, scope: str, inputs: Sequence[Type | None], around: G) -> Inside[G]:
    """Read a subgraph whose formal inputs have given types."""
    body = close(graph, scope, inputs, around)
    return Inside(body, around.inside(body.model))


def captured(node: onnx.NodeProto) -> list[str]:
    """The tensors that a node's subgraphs read from outside, in alphabetical order."""
    return free(*subgraphs(node))


def free(*graphs: onnx.GraphProto) -> list[str]:
    """The tensors that graphs read from outside, in alphabetical order."""
    return sorted({name for graph in graphs for name in _free(graph)})


def subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The graphs among a node's attributes."""
    graphs = [g for a in node.attribute for g in a.graphs]
    return graphs + [a.g for a in node.attribute if a.HasField("g")]


def forget_shapes(node: onnx.NodeProto) -> None:
    """Drop the shapes that subgraphs declare: they may be stale, and a symbol there says nothing elsewhere."""
    for graph in subgraphs(node):
        for value in (*graph.input, *graph.output, *graph.value_info):
            if value.type.HasField("tensor_type"):
                value.type.tensor_type.ClearField("shape")
        for inner in graph.node:
            forget_shapes(inner)


def close(graph: onnx.GraphProto, scope: str, inputs: Sequence[Type | None], around: Around) -> Body:
    """The model that `graph` is; `inputs` are the types of its formal inputs, None for what is no tensor."""
    own = [v.name for v in graph.input] + [t.name for t in graph.initializer]
    own += [o for n in graph.node for o in n.output if o]
    names = {name: f"{scope}/{name}" for name in own}
    taken = free(graph)
    constants = {n: c for n in taken if (c := around.constant(n, SMALL)) is not None}
    outer = {n: f"{scope}/{n}" if n in constants else n for n in taken}
    names |= outer
    model = helper.make_model(
        helper.make_graph([], scope, [], []),
        opset_imports=[helper.make_opsetid(d, v) for d, v in around.opsets.items()],
        functions=list(around.functions.values()),
        ir_version=10,
    )
    inside = model.graph
    inside.initializer.extend(graph.initializer)
    for tensor in inside.initializer:
        tensor.name = names[tensor.name]
    inside.initializer.extend(numpy_helper.from_array(c, outer[n]) for n, c in constants.items())
    formal = tuple(names[v.name] for v in graph.input)
    given = dict(zip(formal, inputs, strict=True))
    given |= {n: around.type(n) if around.has_type(n) else None for n in taken if n not in constants}
    inside.input.extend(_declared(n, t) for n, t in given.items())
    inside.node.extend(graph.node)
    for node in inside.node:
        rename(node, names)
    outputs = _own_outputs([names[v.name] for v in graph.output], inside, scope)
    inside.output.extend(helper.make_empty_tensor_value_info(o) for o in outputs)
    return Body(model, scope, formal, tuple(outputs), outer)


def rename(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    """Give tensors new names, those that a subgraph captures too."""
    node.input[:] = [names.get(n, n) for n in node.input]
    node.output[:] = [names.get(n, n) for n in node.output]
    for graph in subgraphs(node):
        inside = {v.name for v in graph.input} | {t.name for t in graph.initializer}
        inside |= {o for n in graph.node for o in n.output}
        outer = {k: v for k, v in names.items() if k not in inside}
        for inner in graph.node:
            rename(inner, outer)
        for value in graph.output:
            value.name = outer.get(value.name, value.name)


def prune(graph: onnx.GraphProto) -> set[str]:
    """Drop the nodes and initializers that lead to no output; the names that are left to read."""
    wanted = {v.name for v in graph.output}
    kept = []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted.update(node.input, captured(node))
            kept.append(node)
    nodes, tensors = kept[::-1], [t for t in graph.initializer if t.name in wanted]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(tensors)
    return wanted


def _free(graph: onnx.GraphProto) -> Iterator[str]:
    inside = {v.name for v in graph.input} | {t.name for t in graph.initializer} | {""}
    for node in graph.node:
        yield from (n for n in (*node.input, *captured(node)) if n not in inside)
        inside.update(node.output)
    yield from (v.name for v in graph.output if v.name not in inside)


def _declared(name: str, type_: Type | None) -> onnx.ValueInfoProto:
    return helper.make_value_info(name, type_.proto()) if type_ else helper.make_empty_tensor_value_info(name)


def _own_outputs(names: Sequence[str], graph: onnx.GraphProto, scope: str) -> list[str]:
    """The outputs, each made by a node of its own: one that only passes through gets an Identity."""
    made = {o for n in graph.node for o in n.output}
    taken = made | {v.name for v in graph.input} | {t.name for t in graph.initializer}
    outputs: list[str] = []
    for name in names:
        own = name
        if name not in made or name in outputs:
            own = next(n for i in count() if (n := f"{scope}/output_{i}") not in taken and n not in outputs)
            graph.node.append(helper.make_node("Identity", [name], [own], own))
        outputs.append(own)
    return outputs
