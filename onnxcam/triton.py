"""The `config.pbtxt` of a model for Triton Inference Server's ONNX Runtime backend.

The backend's rules, in its ModelInstanceState::ValidateInputs: an initializer that is also an input is `optional`, and
a model that lets the server batch (max_batch_size above 0) may have no optional inputs, nor list them.
https://github.com/triton-inference-server/onnxruntime_backend/blob/main/src/onnxruntime.cc
"""

import re
from collections.abc import Sequence

import onnx

from onnxcam.errors import InputError, ModelError

# DataType of https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto
_TYPES = {
    "FLOAT": "FP32",
    "FLOAT16": "FP16",
    "BFLOAT16": "BF16",
    "DOUBLE": "FP64",
    "STRING": "STRING",
    **{name: name for name in ("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64")},
}
_ANY = -1  # a size that each request may choose


def config(model: onnx.ModelProto, name: str, *, max_batch_size: int = 0) -> str:
    """The text of config.pbtxt for a model that the server is to call `name`.

    0: the client sends whole batches, and may send what is optional. Above 0: the server makes batches of what clients
    send, up to this size, and what is optional keeps its default.
    Raises InputError for a name that cannot be a folder's, or a size below 0; ModelError for tensors that the server
    cannot carry, and for batches of a model in which not every tensor's first size is open.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise InputError(f"'{name}' is no name for a model on a server: use letters, digits, '_', '-' and '.'.")
    if max_batch_size < 0:
        raise InputError(f"A batch of {max_batch_size} is none. Give 0, or the most samples that the server may join.")
    defaults = {tensor.name for tensor in model.graph.initializer}
    weights = {value.name for value in model.graph.input if value.name in defaults and not _ours(value.name)}  # of IR 3
    inputs = [
        _tensor(value, max_batch_size, optional=value.name in defaults)
        for value in model.graph.input
        if value.name not in weights and not (max_batch_size and value.name in defaults)
    ]
    outputs = [_tensor(value, max_batch_size) for value in model.graph.output]
    batching = ["dynamic_batching { }"] if max_batch_size else []
    lines = [
        f'name: "{name}"',
        'platform: "onnxruntime_onnx"',
        f"max_batch_size: {max_batch_size}",
        *_listed("input", inputs),
        *_listed("output", outputs),
        *batching,
    ]
    return "\n".join(lines) + "\n"


def _ours(name: str) -> bool:
    return name.startswith("cam/")


def _tensor(value: onnx.ValueInfoProto, batch: int, optional: bool = False) -> list[str]:
    """The fields of one input or output; `dims` is never empty, so what is nothing but the batch is sent as [N, 1]."""
    kind, sizes = value.type.tensor_type, _sizes(value)
    known = _TYPES.get(onnx.TensorProto.DataType.Name(kind.elem_type))  # 0, UNDEFINED, where it is no tensor
    if known is None:
        raise ModelError(f"'{value.name}' is of a type that Triton does not carry.")
    if batch:
        if not sizes or sizes[0] != _ANY:
            raise ModelError(
                f"The first size of '{value.name}' is fixed, so the server cannot join requests. Give no batch size."
            )
        sizes = sizes[1:]
    fields = [f'name: "{_quoted(value.name)}"', f"data_type: TYPE_{known}", f"dims: {_dims(sizes or [1])}"]
    if batch and not sizes:
        fields.append("reshape { shape: [ ] }")
    return [*fields, "optional: true"] if optional else fields


def _sizes(value: onnx.ValueInfoProto) -> list[int]:
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not tensor.HasField("shape"):
        raise ModelError(f"The model does not say how many axes '{value.name}' has, and Triton wants to know.")
    return [d.dim_value if d.HasField("dim_value") else _ANY for d in tensor.shape.dim]


def _dims(sizes: Sequence[int]) -> str:
    return f"[ {', '.join(map(str, sizes))} ]"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _listed(kind: str, tensors: Sequence[Sequence[str]]) -> list[str]:
    entries = ["  {\n" + "".join(f"    {field}\n" for field in tensor) + "  }" for tensor in tensors]
    return [f"{kind} [\n" + ",\n".join(entries) + "\n]"]
