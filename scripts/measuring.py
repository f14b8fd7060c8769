"""What the sweep measures on one ONNX file, whatever framework it came from."""

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from common import relative_error
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from pairing import flat

import onnxcam
from onnxcam.inspection import Layer, Score
from onnxcam.layout import spatial

ROUNDS = 3
DIRECTIONS = 6
STEP = 1e-5
Feeds = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Explained:
    """One file, explained without a flag, for one batch: values and gradient of the chosen layer, [N, K, positions].

    `path` is the file, or the same with the score that is joined from several outputs.
    """

    path: Path
    model: onnx.ModelProto
    layer: Layer
    score: Score
    scores: np.ndarray  # as the model gives them
    seed: np.ndarray  # the gradient is that of Σ seed · scores
    values: np.ndarray
    gradient: np.ndarray
    grid: tuple[int, ...]
    opset: int
    prefix: bool


def session(model: onnx.ModelProto, folder: Path) -> onnxruntime.InferenceSession:
    """Make a session with one thread, which reads weights beside the model from `folder`."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def explain(path: Path, feeds: Feeds) -> Explained:
    """Convert the file as `onnxcam convert` does, and run it; the class is each sample's top one."""
    inspection = onnxcam.inspect(path)
    extended = onnxcam.convert(path, emit=["activation", "gradient", "score"])
    layer = next(x for x in inspection.layers if f"cam/gradient/{x.name}" in {o.name for o in extended.graph.output})
    names = [f"cam/activation/{layer.name}", f"cam/gradient/{layer.name}", "cam/score"]
    values, gradient, scores = session(extended, path.parent).run(names, dict(feeds))
    source, score = onnx.load(path, load_external_data=False), inspection.scores[0]
    if score.tensor not in {name for node in source.graph.node for name in node.output}:
        onnxcam.convert(path, joined := path.with_name("joined.onnx"), emit=["score"])
        path = joined
    seed = top_seed(scores, score.axis)
    if scores.ndim != 2:  # which places are explained is a choice of its own: here the top class, at all places
        pulled = onnxcam.vjp(path, of=score.tensor, wrt=[layer.tensor])
        given = {**feeds, f"seed/{score.tensor}": seed}
        (gradient,) = session(pulled, path.parent).run([f"grad/{layer.tensor}"], given)
    return Explained(
        path,
        extended,
        layer,
        score,
        scores,
        seed,
        flat(values, layer.channel_axis),
        flat(gradient, layer.channel_axis),
        spatial(values, layer).shape[2:],
        next(each.version for each in source.opset_import if each.domain in ("", "ai.onnx")),
        is_prefix(source, extended),
    )


def run_plain(path: Path, feeds: Feeds) -> None:
    """Run the original; onnxruntime's error where it cannot."""
    session(onnx.load(path, load_external_data=False), path.parent).run(None, dict(feeds))


def batch_of(path: Path) -> str:
    """Tell whether the file's first dimension is open: "dynamic" or "fixed"."""
    graph = onnx.load(path, load_external_data=False).graph
    weights = {each.name for each in graph.initializer}
    first = next(each for each in graph.input if each.name not in weights).type.tensor_type.shape.dim[0]
    return "fixed" if first.dim_value > 0 else "dynamic"


def about(found: Explained) -> dict[str, object]:
    """Describe the choices in the words of the table."""
    layer, score = found.layer, found.score
    ending = f" before {score.activation}" if score.activation else ""
    return {
        "tensor": layer.tensor,
        "layout": layer.layout + (f", {layer.prefix} before" if layer.prefix else ""),
        "grid": "×".join(map(str, found.grid)),
        "score": score.tensor + ending,
        "prefix": found.prefix,
    }


def top_seed(scores: np.ndarray, axis: int) -> np.ndarray:
    """Mark each sample's top class: 1 at all its places, 0 elsewhere."""
    axis = min(axis, scores.ndim - 1)
    totals = scores.sum(tuple(i for i in range(1, scores.ndim) if i != axis), keepdims=True)
    classes = np.arange(scores.shape[axis]).reshape([-1 if i == axis else 1 for i in range(scores.ndim)])
    return np.broadcast_to(classes == totals.argmax(axis, keepdims=True), scores.shape).astype(scores.dtype)


def is_prefix(source: onnx.ModelProto, extended: onnx.ModelProto) -> bool:
    """Tell whether the file begins with the source's nodes, initializers, outputs and metadata, byte for byte."""
    pairs = [
        (source.graph.node, extended.graph.node),
        (source.graph.initializer, extended.graph.initializer),
        (source.graph.output, extended.graph.output),
        (source.functions, extended.functions),
        (source.metadata_props, extended.metadata_props),
    ]
    return all(
        len(ours) >= len(theirs) and all(a.SerializeToString() == b.SerializeToString() for a, b in zip(theirs, ours))  # noqa: B905 - the result is longer
        for theirs, ours in pairs
    )


def cost(path: Path, extended: onnx.ModelProto, feeds: Feeds) -> float:
    """Divide the explainable file's processor time by the plain model's: the median over rounds, in turn."""
    plain, explainable = session(onnx.load(path, load_external_data=False), path.parent), session(extended, path.parent)
    ratios = []
    for turn in range(ROUNDS + 1):
        times = {}
        for running in (plain, explainable)[:: 1 if turn % 2 else -1]:
            start = time.process_time()
            running.run(None, dict(feeds))
            times[running] = time.process_time() - start
        ratios.append(times[explainable] / times[plain])
    return statistics.median(ratios[1:])


# ----- central differences, where there is no autograd -----
def differences(found: Explained, feeds: Feeds) -> float:
    """Estimate the relative error of the gradient of the part after the layer, run in float64 along random directions.

    For a normal direction v the mean of (d·v)² is |d|²: the error of the gradient times v, and of nothing else.
    """
    head, values = double_head(found, feeds)
    tensor, start = found.layer.tensor, values[found.layer.tensor]
    rng = np.random.default_rng(0)
    axis, step = found.layer.channel_axis, STEP * float(np.sqrt((start**2).mean()))
    gradient = np.moveaxis(found.gradient.reshape(np.moveaxis(start, axis, 1).shape), 1, axis)

    def scalar(x: np.ndarray) -> float:
        return float((head.run([found.score.tensor], values | {tensor: x})[0] * found.seed).sum())

    wrong, true = [], []
    for _ in range(DIRECTIONS):
        v = rng.standard_normal(start.shape)
        slope = (scalar(start + step * v) - scalar(start - step * v)) / (2 * step)
        true.append(slope)
        wrong.append(slope - float((gradient * v).sum()))
    return float(np.linalg.norm(wrong) / np.linalg.norm(true))


class LayerNormalization(OpRun):
    """The operator in the type of its input: the reference computes it in float32, whatever comes in."""

    op_domain = ""

    def _run(
        self,
        X: np.ndarray,
        Scale: np.ndarray,
        B: np.ndarray | None = None,
        axis: int = -1,
        epsilon: float = 1e-5,
        stash_type: int = 1,
    ) -> tuple[np.ndarray]:
        axes = tuple(range(axis % X.ndim, X.ndim))
        centred = X - X.mean(axes, keepdims=True)
        y = centred / np.sqrt((centred**2).mean(axes, keepdims=True) + epsilon) * Scale
        return (y if B is None else y + B,)


class BatchNormalization(OpRun):
    """The operator as models are run: up to opset 13, the reference mixes the statistics of its input in."""

    op_domain = ""

    def _run(
        self,
        x: np.ndarray,
        scale: np.ndarray,
        b: np.ndarray,
        mean: np.ndarray,
        var: np.ndarray,
        epsilon: float = 1e-5,
        momentum: float = 0.9,
        training_mode: int = 0,
    ) -> tuple[np.ndarray]:
        rows = [-1 if i == 1 else 1 for i in range(x.ndim)]
        centred = (x - mean.reshape(rows)) / np.sqrt(var.reshape(rows) + epsilon)
        return (centred * scale.reshape(rows) + b.reshape(rows),)


def double_head(found: Explained, feeds: Feeds) -> tuple[ReferenceEvaluator, dict[str, np.ndarray]]:
    """Cut out what leads from the layer to the score, in float64, for ONNX's own reference; and the values it takes."""
    model = onnx.load(found.path)
    graph, tensor = model.graph, found.layer.tensor
    after, nodes = {tensor}, []
    for node in graph.node:
        if after.intersection(node.input) and tensor not in node.output:
            nodes.append(node)
            after.update(node.output)
    wanted, kept = {found.score.tensor}, []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            kept.insert(0, node)
            wanted.update(node.input)
    weights = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    inner = {name for node in kept for name in node.output}
    outer = sorted({name for node in kept for name in node.input if name} - inner)
    computed = [name for name in outer if name not in weights and name not in feeds]
    have = {each.name for each in graph.output}
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in computed if name not in have)
    run = session(model, found.path.parent).run
    ran = dict(zip(computed, run(computed, dict(feeds)), strict=True)) if computed else {}
    values = {name: widened(({**weights, **feeds, **ran})[name]) for name in outer}
    kinds = {name: onnx.helper.np_dtype_to_tensor_dtype(value.dtype) for name, value in values.items()}
    inputs = [onnx.helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items()]
    output = onnx.helper.make_tensor_value_info(found.score.tensor, TensorProto.DOUBLE, None)
    for node in kept:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.DOUBLE
            if node.op_type in ("Constant", "ConstantOfShape") and attribute.t.data_type == TensorProto.FLOAT:
                attribute.t.CopyFrom(numpy_helper.from_array(widened(numpy_helper.to_array(attribute.t))))
    cut = onnx.helper.make_graph(kept, "head", inputs, [output])
    head = onnx.helper.make_model(cut, opset_imports=model.opset_import, functions=model.functions)
    return ReferenceEvaluator(head, new_ops=[BatchNormalization, LayerNormalization]), values


def widened(value: np.ndarray) -> np.ndarray:
    return value.astype(np.float64) if value.dtype == np.float32 else value


def best_error(found: np.ndarray, true: np.ndarray) -> float:
    """Take the best sample's relative error; a gradient that is zero everywhere has none."""
    if not np.abs(true).max() > 0:
        raise ValueError("the true gradient is zero")
    return float(relative_error(found, true).min())
