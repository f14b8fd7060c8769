"""From a node to the arguments of its rule: inputs in order, attributes by ONNX's names with defaults filled in.

From opset 8 on ONNX turned attributes into inputs of the same name (`axes`, `pads`, `min`, `scales`, …). A rule that
takes one as an ordinary parameter gets a Value for it from either form, and so needs no opset of its own.
"""

import inspect
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnxcam.errors import UnsupportedGradient
from onnxcam.grad.node import Node
from onnxcam.grad.registry import Joint, Rule
from onnxcam.grad.tape import schema_of
from onnxcam.grad.tensor import RENAMED, Tape, Value


@lru_cache(maxsize=1024)
def _parameters(rule: Rule | Joint) -> tuple[tuple[str, ...], frozenset[str]]:
    """Names of a rule's parameters by position, and of its keyword-only ones."""
    given = inspect.signature(rule).parameters.values()
    ordinary = tuple(p.name for p in given if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD))
    return ordinary, frozenset(p.name for p in given if p.kind is p.KEYWORD_ONLY)


def inputs(node: Node, tape: Tape) -> list[Value | None]:
    """The node's inputs as values; None for one that is left out."""
    return [tape.read(name) if name else None for name in node.inputs]


def attributes(node: Node, rule: Rule | Joint, tape: Tape) -> dict[str, object]:
    """Keyword arguments of `rule` for `node`. Raises UnsupportedGradient for an attribute that it would ignore."""
    ordinary, keywords = _parameters(rule)
    result: dict[str, object] = {}
    for name, value in with_defaults(node).items():
        parameter = RENAMED.get((node.op, name), name)
        if parameter in keywords:
            result[parameter] = value
        elif parameter in ordinary:
            if value is not None:
                result[parameter] = _as_value(value, node, tape)
        elif value != _defaults(node).get(name):
            raise UnsupportedGradient(f"{node} uses {name}={value}, which its gradient does not support. {_ADVICE}")
    return result


def with_defaults(node: Node) -> dict[str, object]:
    """The node's attributes, those left out at their default, None where the specification gives none."""
    defaults = _defaults(node)
    unknown = [a for a in node.attributes if a not in defaults]
    if unknown and defaults is not _NO_SCHEMA:
        raise UnsupportedGradient(
            f"{node} has an attribute '{unknown[0]}' that its specification does not know. {_ADVICE}"
        )
    return {**defaults, **{k: _text(v) for k, v in node.attributes.items()}}


_ADVICE = "Choose a layer after this node, or export the model without it."
_NO_SCHEMA: Mapping[str, object] = {}


def _defaults(node: Node) -> Mapping[str, object]:
    try:
        return _schema_defaults(node.op, node.domain, node.version)
    except onnx.defs.SchemaError:
        return _NO_SCHEMA


@lru_cache(maxsize=1024)
def _schema_defaults(op: str, domain: str, version: int) -> dict[str, object]:
    schema = schema_of(op, domain, version)
    return {
        name: _text(helper.get_attribute_value(a.default_value)) if a.default_value.type else None
        for name, a in schema.attributes.items()
    }


def _as_value(value: object, node: Node, tape: Tape) -> Value:
    if isinstance(value, onnx.TensorProto):
        return tape.constant(numpy_helper.to_array(value), value.data_type)
    array = np.asarray(value)
    dtype = tape.read(node.inputs[0]).dtype if array.dtype.kind == "f" else onnx.TensorProto.INT64
    return tape.constant(array, dtype)


def _text(value: object) -> object:
    if isinstance(value, bytes):
        return value.decode()
    return list(value) if isinstance(value, (list, tuple)) else value
