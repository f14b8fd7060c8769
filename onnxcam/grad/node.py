"""One operator of a graph, read from its protobuf."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx
from onnx import helper

from onnxcam.grad.subgraph import captured


@dataclass(frozen=True)
class Node:
    """One operator of the graph, attributes as Python values; `domain` "" is ONNX's own.

    What its subgraphs read from outside comes last among its inputs.
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, object] = field(default_factory=dict)
    domain: str = ""
    version: int = 0

    @classmethod
    def of(cls, proto: onnx.NodeProto, opsets: Mapping[str, int]) -> "Node":
        """Read a NodeProto; `version` is the opset of its domain."""
        domain = "" if proto.domain == "ai.onnx" else proto.domain
        attributes = {a.name: helper.get_attribute_value(a) for a in proto.attribute}
        return cls(
            proto.op_type,
            proto.name,
            (*proto.input, *captured(proto)),
            tuple(proto.output),
            attributes,
            domain,
            opsets.get(domain, 0),
        )

    def __str__(self) -> str:
        operator = f"{self.domain}.{self.op}" if self.domain else self.op
        return f"{operator} '{self.name or self.outputs[0]}'"
