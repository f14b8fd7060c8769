"""ONNX files: read, write, extend. A model that is given is never changed, and an extended one begins with it whole."""

import filecmp
import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_graphsurgeon as gs
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # no stubs come with it
from onnx import TensorProto

from onnxcam import files
from onnxcam.errors import InputError, ModelError

_OPTIONAL = 4  # the first IR version in which an initializer is the default of an input
_OLDEST = 7  # the first opset that onnxruntime runs
_SLICED = 10  # the opset at which runtimes too take a slice to be as long as its axis: grad/infer.py
_UNTOLD = 17  # the opset of what is added to a model that has operators of other domains only

ModelLike = str | os.PathLike[str] | bytes | onnx.ModelProto


@dataclass(frozen=True)
class Source:
    """A model as it was given: the proto without external data, and where that data lies."""

    proto: onnx.ModelProto
    path: Path | None = None
    sha256: str = ""

    @property
    def folder(self) -> str:
        """Where external data lies."""
        return "" if self.path is None else str(self.path.parent)

    @property
    def external(self) -> list[str]:
        """Locations of external data, relative to `folder`."""
        constants = [
            a.t for n in self.proto.graph.node if n.op_type == "Constant" for a in n.attribute if a.HasField("t")
        ]
        tensors = [*self.proto.graph.initializer, *constants]
        return sorted({_location(t) for t in tensors if t.data_location == TensorProto.EXTERNAL})


def read(model: ModelLike) -> Source:
    """Read a path, bytes or ModelProto. Raises ModelError for a file that is missing, truncated, or no ONNX model."""
    if isinstance(model, Source):
        return model
    if isinstance(model, onnx.ModelProto):
        content = model.SerializeToString(deterministic=True)
        source = Source(_checked(model, "The given model"), None, hashlib.sha256(content).hexdigest())
    elif isinstance(model, bytes):
        source = Source(_parse(model, "What is given"), None, hashlib.sha256(model).hexdigest())
    elif isinstance(model, (str, os.PathLike)):
        path = Path(model)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ModelError(f"Cannot read the model '{path}': {_reason(path, error)}.") from error
        source = Source(_parse(content, f"'{path}'"), path, hashlib.sha256(content).hexdigest())
    else:
        raise InputError(f"A model is a path, bytes or a ModelProto, not {type(model).__name__}.")
    _check_external(source)
    return source


def _reason(path: Path, error: OSError) -> str:
    """Why a file cannot be read; of a folder, which file in it was meant."""
    if not path.is_dir():
        return error.strerror or str(error)
    inside = sorted([*path.glob("*.onnx"), *path.glob("onnx/*.onnx")])
    return f"it is a folder; name a file in it, such as '{inside[0]}'" if inside else "it is a folder without a model"


def write(proto: onnx.ModelProto, output: str | os.PathLike[str], source: Source) -> None:
    """Write `proto` to `output` in one step, with the original's external data beside it.

    Raises InputError where that is the original itself, or cannot be written; ModelError over protobuf's 2 GB.
    """
    write_all({output: proto}, source)


def write_all(made: Mapping[str | os.PathLike[str], onnx.ModelProto | bytes], source: Source) -> None:
    """`write` for several, by their outputs, and files beside them: none takes its place before all are written."""
    with ExitStack() as done:
        beside = set()
        for output, proto in made.items():
            path = destination(output, source)
            try:
                content = proto if isinstance(proto, bytes) else proto.SerializeToString()
            except ValueError as error:
                raise ModelError(
                    f"Cannot write '{path}': over 2 GB in one file. Give the model with external data."
                ) from error
            files.folder(path.parent)
            file = done.enter_context(files.replacing(path))
            file.write(content)
            file.flush()  # a full disk says so before the first file is in its place
            external = () if isinstance(proto, bytes) else source.external
            beside |= {(Path(source.folder) / location, path.parent / location) for location in external}
        for data, target in sorted(beside):
            _copy(data, target, done)


def destination(output: str | os.PathLike[str], source: Source) -> Path:
    """Where `output` is written. Raises InputError where that is no file, or the original itself."""
    path = files.place(output)
    own = [] if source.path is None else [source.path, *(Path(source.folder) / x for x in source.external)]
    if any(path == p.resolve() for p in own):
        raise InputError(f"'{output}' is the model itself, or its weights. Give the result another name.")
    return path


def graft(
    source: onnx.ModelProto, nodes: Sequence[gs.Node], inputs: Sequence[gs.Variable], outputs: Sequence[gs.Variable]
) -> onnx.ModelProto:
    """A new model: `source`, then the nodes that lead to `outputs`, in order, with their constants.

    A round trip through graphsurgeon would lose metadata, doc strings and quantization annotations: only what is new
    goes through it, and the original's nodes, initializers, inputs and outputs stay a prefix of the result's.
    A file of IR 3 becomes IR 4, where weights need not be listed as inputs, and an input may have a default.
    What is new and has four axes says its shape: onnxruntime stays in its blocked layout only where it knows that two
    batches are equal.
    """
    tail = gs.Graph(list(nodes), list(inputs), list(outputs), opset=_opset(source))
    tail.cleanup(remove_unused_node_outputs=False)  # the tape is in order already
    graph = gs.export_onnx(tail, do_type_check=False).graph
    result = onnx.ModelProto()
    result.CopyFrom(source)
    result.graph.node.extend(graph.node)
    result.graph.initializer.extend(graph.initializer)
    result.graph.input.extend(graph.input)
    result.graph.output.extend(graph.output)
    made = {tensor.name for node in tail.nodes for tensor in node.outputs}
    told = [v for v in graph.value_info if v.name in made and len(v.type.tensor_type.shape.dim) == 4]
    symbols = {d.dim_param for i in source.graph.input for d in i.type.tensor_type.shape.dim}
    if _opset(source) == _SLICED:
        symbols.clear()
    result.graph.value_info.extend(_told(v, symbols) for v in told)
    if result.ir_version < _OPTIONAL:
        weights = {t.name for t in source.graph.initializer}
        kept = [i for i in result.graph.input if i.name not in weights]
        del result.graph.input[:]
        result.graph.input.extend(kept)
        result.ir_version = _OPTIONAL
    return result


def _told(value: onnx.ValueInfoProto, symbols: set[str]) -> onnx.ValueInfoProto:
    """A tensor's type and shape; of open dimensions only those that an input of the model has too."""
    for dim in value.type.tensor_type.shape.dim:
        if dim.dim_param not in symbols:
            dim.ClearField("dim_param")
    return value


def _opset(model: onnx.ModelProto) -> int:
    return next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)


def _parse(content: bytes, what: str) -> onnx.ModelProto:
    try:
        return _checked(onnx.ModelProto.FromString(content), what)
    except DecodeError as error:
        raise ModelError(f"{what} is not an ONNX model, or is truncated.") from error


def _checked(proto: onnx.ModelProto, what: str) -> onnx.ModelProto:
    if not proto.graph.node or not proto.opset_import:
        raise ModelError(f"{what} is not an ONNX model: it has no graph.")
    if not any(o.domain in ("", "ai.onnx") for o in proto.opset_import):
        told = onnx.ModelProto()
        told.CopyFrom(proto)
        told.opset_import.add(domain="", version=_UNTOLD)
        return told
    opset = _opset(proto)
    if opset < _OLDEST:
        raise ModelError(
            f"{what} uses opset {opset}, which onnxruntime does not run. Convert it: onnx.version_converter"
        )
    if opset > onnx.defs.onnx_opset_version():
        raise ModelError(f"{what} uses opset {opset}, newer than the installed onnx knows. Run: pip install -U onnx")
    return proto


def _location(tensor: TensorProto) -> str:
    return next((e.value for e in tensor.external_data if e.key == "location"), "")


def _check_external(source: Source) -> None:
    for location in source.external:
        path = Path(os.path.normpath(Path(source.folder) / location))
        if Path(location).is_absolute() or not path.resolve().is_relative_to(Path(source.folder or ".").resolve()):
            raise ModelError(f"The model's weights are said to lie in '{location}', outside its own folder: refused.")
        if not path.is_file():
            raise ModelError(
                f"The model's weights are missing: put '{location}' into '{source.folder or '.'}', beside the model."
            )


def _copy(data: Path, target: Path, done: ExitStack) -> None:
    """Put external data beside the result, unless it is there. Raises InputError where other data has its name."""
    if target.exists():
        if target.samefile(data) or filecmp.cmp(data, target, shallow=False):
            return
        raise InputError(f"'{target}' holds other data, and the weights have to lie there. Choose another folder.")
    files.folder(target.parent)
    copy = done.enter_context(files.replacing(target))
    with data.open("rb") as original:
        shutil.copyfileobj(original, copy, 1 << 24)
    copy.flush()
