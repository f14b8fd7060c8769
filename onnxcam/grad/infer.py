"""Types of tensors: element type and shape, one node at a time.

onnx's own inference does the work. What it leaves open is named here: two convolutions that cut a dynamic height
into the same number of windows get the same symbol, so that a residual addition is seen to need no broadcasting;
any other open dimension gets a symbol of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx
from onnx import defs, helper, numpy_helper, shape_inference

from onnxcam.grad.window import Window

Dim = int | str
Shape = tuple[Dim, ...]

FLOATS = frozenset(
    {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}
)
_WINDOWED = frozenset({"Conv", "MaxPool", "AveragePool", "LpPool", "ConvInteger", "QLinearConv"})


@dataclass(frozen=True)
class Type:
    """Element type (`onnx.TensorProto.DataType`) and shape of a tensor; shape None where the rank is unknown."""

    dtype: int
    shape: Shape | None

    @property
    def is_float(self) -> bool:
        """Whether a gradient can flow through a tensor of this type."""
        return self.dtype in FLOATS

    @property
    def is_static(self) -> bool:
        """Whether every dimension is a number."""
        return self.shape is not None and all(isinstance(d, int) for d in self.shape)

    def proto(self) -> onnx.TypeProto:
        """The type as ONNX writes it."""
        return helper.make_tensor_type_proto(self.dtype, self.shape)

    @classmethod
    def of(cls, proto: onnx.TypeProto, name: str) -> "Type | None":
        """Read a TypeProto of tensor `name`; None for sequences, maps and optionals."""
        if proto.WhichOneof("value") != "tensor_type" or not proto.tensor_type.elem_type:
            return None
        tensor = proto.tensor_type
        if not tensor.HasField("shape"):
            return cls(tensor.elem_type, None)
        return cls(tensor.elem_type, tuple(_dim(d, name, i) for i, d in enumerate(tensor.shape.dim)))


def infer(
    node: onnx.NodeProto,
    schema: defs.OpSchema,
    opsets: Mapping[str, int],
    inputs: Mapping[str, Type],
    data: Mapping[str, onnx.TensorProto],
) -> dict[str, Type]:
    """Types of a node's outputs from those of its inputs and from the small constants among them.

    Raises onnx.shape_inference.InferenceError where the node contradicts its specification.
    """
    found = shape_inference.infer_node_outputs(
        schema,
        node,
        {name: t.proto() for name, t in inputs.items()},
        dict(data),
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in opsets.items()],
    )
    types = {name: t for name in found if (t := Type.of(found[name], name))}
    if node.op_type in _WINDOWED and node.input[0] in inputs:
        types = {name: _window_symbols(node, inputs, t) for name, t in types.items()}
    if node.op_type == "Split":
        types = _split_sizes(node, types, data)
    if node.op_type == "Slice" and keeps_sliced_symbols(opsets):
        types = {name: _sliced_symbols(node, t, data) for name, t in types.items()}
    return types


def keeps_sliced_symbols(opsets: Mapping[str, int]) -> bool:
    """Whether onnx's inference takes a slice of an open axis to be as long as the axis: that of opset 10 does."""
    return opsets.get("") == 10


def _sliced_symbols(node: onnx.NodeProto, y: Type, data: Mapping[str, onnx.TensorProto]) -> Type:
    shape = y.shape or ()
    axes = data.get(node.input[3]) if len(node.input) > 3 else None
    cut = {int(a) % len(shape) for a in numpy_helper.to_array(axes).reshape(-1)} if axes else set(range(len(shape)))
    name = node.output[0]
    return Type(y.dtype, tuple(f"{name}:{i}" if i in cut and isinstance(d, str) else d for i, d in enumerate(shape)))


def _split_sizes(node: onnx.NodeProto, types: dict[str, Type], data: Mapping[str, onnx.TensorProto]) -> dict[str, Type]:
    """The given lengths of the parts, which onnx's inference forgets where the axis as a whole is open."""
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    lengths = data.get(node.input[1]) if len(node.input) > 1 else None
    given = numpy_helper.to_array(lengths) if lengths else attributes.get("split", [])
    sizes = {name: int(size) for name, size in zip(node.output, given, strict=False)}
    axis = attributes.get("axis", 0)
    for name, t in types.items():
        if t.shape is not None and name in sizes:
            at = axis % len(t.shape)
            types[name] = Type(t.dtype, (*t.shape[:at], sizes[name], *t.shape[at + 1 :]))
    return types


def broadcast(shapes: Sequence[Shape]) -> Shape | None:
    """The shape that `shapes` broadcast to; None where that is not decided before run time."""
    rank = max(len(s) for s in shapes)
    result: list[Dim] = []
    for dims in zip(*[(1,) * (rank - len(s)) + s for s in shapes], strict=True):
        wide = {d for d in dims if d != 1}
        if len(wide) > 1:
            return None
        result.append(wide.pop() if wide else 1)
    return tuple(result)


def _dim(dim: onnx.TensorShapeProto.Dimension, name: str, axis: int) -> Dim:
    if dim.HasField("dim_value") and dim.dim_value >= 0:
        return dim.dim_value
    return dim.dim_param or f"{name}:{axis}"


def _window_symbols(node: onnx.NodeProto, inputs: Mapping[str, Type], y: Type) -> Type:
    x = inputs[node.input[0]].shape
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    kernel = attributes.get("kernel_shape")
    weight = inputs.get(node.input[1]) if len(node.input) > 1 else None
    if kernel is None and weight and weight.shape:
        kernel = [d for d in weight.shape[2:] if isinstance(d, int)]
    if x is None or y.shape is None or not kernel or len(kernel) != len(x) - 2 or len(y.shape) != len(x):
        return y
    same = attributes.get("auto_pad", b"NOTSET") in (b"SAME_UPPER", b"SAME_LOWER")
    valid = attributes.get("auto_pad", b"NOTSET") == b"VALID"
    window = Window.of(
        kernel, attributes.get("strides"), attributes.get("dilations"), None if valid else attributes.get("pads")
    )
    ceil = bool(attributes.get("ceil_mode", 0))
    dims = [
        window.symbol(i, size, same, ceil) if not isinstance(d, int) else d - window.beyond(i, size, d) if ceil else d
        for i, (d, size) in enumerate(zip(y.shape[2:], x[2:], strict=True))
    ]
    return Type(y.dtype, (*y.shape[:2], *dims))


def sharper(a: Type | None, b: Type | None) -> Type | None:
    """The type of the two that says more: a rank over none, a number over a symbol."""
    if a is None or b is None:
        return a or b
    if a.shape is None:
        return Type(a.dtype, b.shape)
    if b.shape is None or len(a.shape) != len(b.shape):
        return a
    open_ = [isinstance(d, str) and ":" in d for d in a.shape]
    pairs = zip(a.shape, b.shape, open_, strict=True)
    return Type(a.dtype, tuple(y if o or (isinstance(y, int) and isinstance(x, str)) else x for x, y, o in pairs))
