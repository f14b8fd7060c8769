"""The original inside an explainable file: everything is appended, so that counting gives it back."""

import base64
import hashlib
import json
import os
from collections.abc import Mapping

import onnx

import onnxcam
from onnxcam.errors import ModelError
from onnxcam.model import ModelLike, Source, read, write

VERSION, ORIGINAL, HASH, PART = "cam.version", "cam.original", "cam.source_sha256", "cam.part"


def facts(proto: onnx.ModelProto) -> Mapping[str, str]:
    """What an explainable file says about itself, by `cam.` keys; empty for any other model.

    Raises ModelError for the second file of a split, which has no model in it.
    """
    said = {p.key: p.value for p in proto.metadata_props if p.key.startswith("cam.")}
    if PART in said:
        raise ModelError("This is the second file of a split: it explains what the first one returns. Give the first.")
    return said if VERSION in said and ORIGINAL in said else {}


def remember(result: onnx.ModelProto, source: Source) -> None:
    """Write into an extended model what `strip` needs: how much of it is the original, and the original's hash."""
    graph = source.proto.graph
    about: dict[str, object] = {
        "nodes": len(graph.node),
        "initializers": len(graph.initializer),
        "outputs": len(graph.output),
        "types": len(graph.value_info),
        "metadata": len(source.proto.metadata_props),
        "ir": source.proto.ir_version,
        "inputs": len(graph.input),
    }
    if result.ir_version != source.proto.ir_version:  # weights stood among the inputs
        about["inputs"] = [base64.b64encode(i.SerializeToString()).decode() for i in graph.input]
    written = hashlib.sha256(source.proto.SerializeToString()).hexdigest()
    if written != source.sha256:
        about["sha256"] = written  # a file whose fields were in another order: its content comes back
    result.metadata_props.add(key=ORIGINAL, value=json.dumps(about))
    result.metadata_props.add(key=HASH, value=source.sha256)


def put(result: onnx.ModelProto, key: str, value: str) -> None:
    """Set a metadata value of an explainable model; one of the original's own is kept for `strip`."""
    own = next((p for p in result.metadata_props if p.key == key), None)
    if own is None:
        result.metadata_props.add(key=key, value=value)
        return
    record = next(p for p in result.metadata_props if p.key == ORIGINAL)
    about = json.loads(record.value)
    about.setdefault("replaced", {}).setdefault(key, own.value)
    record.value, own.value = json.dumps(about), value


def strip(model: ModelLike, output: str | os.PathLike[str] | None = None) -> onnx.ModelProto:
    """The model that an explainable file was made from, written to `output` where that is given.

    Byte for byte what it was, which its hash proves; one that was not written in protobuf's usual order comes back in
    that. Raises InputError where `output` cannot be written, ModelError for a file that is not explainable, that a
    newer version made, or that was changed since.
    """
    source = read(model)
    original = without(source).proto
    if output is not None:
        write(original, output, source)
    return original


def without(source: Source) -> Source:
    """The original of an explainable file; see `strip`."""
    said = facts(source.proto)
    if not said:
        raise ModelError("This is no explainable file of onnxcam: it has no 'cam.original' in its metadata.")
    if _release(said[VERSION]) > _release(onnxcam.__version__):
        raise ModelError(
            f"The file was made by onnxcam {said[VERSION]}, newer than this one ({onnxcam.__version__}): install that."
        )
    result = onnx.ModelProto()
    result.CopyFrom(source.proto)
    try:
        about = json.loads(said[ORIGINAL])
        _cut(result, about)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError("The file's 'cam.original' cannot be read. Take the original model instead.") from error
    content = result.SerializeToString()
    if hashlib.sha256(content).hexdigest() not in (said.get(HASH), about.get("sha256")):
        raise ModelError(
            "The file was changed after onnxcam made it: what is left is not the original. Take the original model."
        )
    return Source(result, source.path, said[HASH])


def _cut(model: onnx.ModelProto, about: Mapping[str, object]) -> None:
    graph = model.graph
    for field, name in (
        (graph.node, "nodes"),
        (graph.initializer, "initializers"),
        (graph.output, "outputs"),
        (graph.value_info, "types"),
        (model.metadata_props, "metadata"),
    ):
        del field[int(str(about[name])) :]
    replaced = about.get("replaced")
    if isinstance(replaced, dict):
        for own in model.metadata_props:
            own.value = str(replaced.get(own.key, own.value))
    inputs = about["inputs"]
    if isinstance(inputs, list):
        del graph.input[:]
        graph.input.extend(onnx.ValueInfoProto.FromString(base64.b64decode(i)) for i in inputs)
    else:
        del graph.input[int(str(inputs)) :]
    model.ir_version = int(str(about["ir"]))


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3] if part.isdecimal())
