"""Small classifiers as other frameworks' exporters wrote them (tests/exports/README.md), explained without a flag."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

import onnxcam
from onnxcam.cli import main
from tests.builders import assert_extends, run

EXPORTS = Path(__file__).resolve().parent / "exports"
NHWC = (3, 32, 32, 3)
TF = "StatefulPartitionedCall/functional_1"
ROWS = {  # shape of the input; layer, score before a softmax or not, layout and grid that an expert would say
    "cntk": ((1, 3, 32, 32), "sum3_Output", "Plus922_Output_0", "softmax", "NCHW", (8, 8)),
    "cntk-tutorial": ((1, 1, 28, 28), "Pooling196_Output_0", "Plus257_Output_0", None, "NCHW", (4, 4)),
    "mxnet": ((1, 3, 32, 32), "classifier0_block1_activation0", "classifier0_dense0_fwd", "softmax", "NCHW", (8, 8)),
    "chainer": ((1, 3, 32, 32), "ReLU_6", "LinearFunction_0", "softmax", "NCHW", (9, 9)),
    "pytorch-1.0": ((2, 3, 32, 32), "76", "86", None, "NCHW", (8, 8)),
    "pytorch-1.4": ((2, 3, 32, 32), "76", "86", None, "NCHW", (8, 8)),
    "keras2onnx": (NHWC, "activation_6/Relu:0", "biased_tensor_name", "softmax", "NCHW", (8, 8)),
    "tf2onnx-saved-model": (NHWC, f"{TF}/activation_6/Relu:0", f"{TF}/predictions/MatMul:0", "softmax", "NCHW", (8, 8)),
    "tf2onnx-tflite": (NHWC, "Relu__25:0", "Add__28:0", "softmax", "NCHW", (8, 8)),
    "tf2onnx-tflite-int8": (
        NHWC, "functional_1/activation_6/Relu;functional_1/add_1/add_dequant",
        "functional_1/predictions/BiasAdd_dequant", "softmax", "NCHW", (8, 8),
    ),
    "paddle": ((3, 3, 32, 32), "hardswish_6.tmp_0", "Add.5", "softmax", "NCHW", (8, 8)),
    "jax2onnx": (NHWC, "relu_out_6", "out_1", "softmax", "NHWC", (8, 8)),
    "coreml": ((3, 3, 32, 32), "activation_7_output", "predictions_output", "softmax", "NCHW", (8, 8)),
    "nnabla": ((1, 3, 32, 32), "@small/ReLU_out_6", "@small/Affine_out", "softmax", "NCHW", (8, 8)),
    "mindspore": ((1, 3, 32, 32), "26", "28", "softmax", "NCHW", (8, 8)),
}  # fmt: skip


def load(name: str) -> onnx.ModelProto:
    return onnx.load(EXPORTS / f"{name}.onnx")


def picture(name: str) -> dict[str, np.ndarray]:
    scale = 100 if name == "coreml" else 1  # its own graph expects 0..255
    shape = ROWS[name][0]
    x = scale * np.random.default_rng(len(name)).normal(size=shape).astype(np.float32)
    return {onnxcam.inspect(load(name)).image().name: x}


@pytest.mark.parametrize("name", ROWS)
def test_the_layer_and_the_score_are_the_experts(name):
    _, tensor, score, activation, layout, grid = ROWS[name]
    found = onnxcam.inspect(EXPORTS / f"{name}.onnx")
    layer, best = found.layers[0], found.scores[0]
    assert (layer.tensor, layer.layout, layer.grid) == (tensor, layout, grid)
    assert (best.tensor, best.activation, best.classes) == (score, activation, 10)
    assert found.missing == ()


def doubled(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if array.dtype == np.float32 else array


def smooth(proto: onnx.ModelProto) -> onnx.ModelProto:
    """In float64, and of the steps of quantization only the range: what rounds to an end of it has no gradient."""
    weights = {each.name: doubled(numpy_helper.to_array(each)) for each in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "Constant":
            weights[node.output[0]] = doubled(numpy_helper.to_array(node.attribute[0].t))
        elif node.op_type == "QuantizeLinear":
            scale, zero = (weights[name].astype(np.float64) for name in node.input[1:])
            ends = {f"{node.output[0]}/{end}": (end - zero) * scale for end in (-127.5, 126.5)}
            weights |= ends
            node.op_type, node.input[1:] = "Clip", list(ends)
        elif node.op_type == "DequantizeLinear" and node.input[0] in weights:
            q, scale, zero = (weights[each].astype(np.float64) for each in node.input)
            shape = (-1, *[1] * (q.ndim - 1)) if scale.size > 1 else ()
            weights[node.output[0]] = (q - zero.reshape(shape)) * scale.reshape(shape)
        elif node.op_type == "DequantizeLinear":
            del node.input[1:], node.attribute[:]
            node.op_type = "Identity"
        elif node.op_type == "BatchNormalization":  # below opset 14 the reference mixes in the batch's own mean
            epsilon = [each for each in node.attribute if each.name == "epsilon"]
            del node.attribute[:]
            node.attribute.extend([*epsilon, onnx.helper.make_attribute("momentum", 1.0)])
    kept = [node for node in proto.graph.node if node.output[0] not in weights]
    del proto.graph.node[:], proto.graph.initializer[:]
    proto.graph.node.extend(kept)
    proto.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights.items())
    return proto


def head(proto: onnx.ModelProto, layer: str, score: str) -> ReferenceEvaluator:
    """What leads from the layer to the score, in the type of its input."""
    wanted, kept = {score}, []
    for node in reversed(proto.graph.node):
        if wanted.intersection(node.output) and layer not in node.output:
            kept.insert(0, node)
            wanted.update(node.input)
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, None) for name in (layer, score)]
    graph = onnx.helper.make_graph(kept, "head", ends[:1], ends[1:], proto.graph.initializer)
    return ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=proto.opset_import))


def original(name: str) -> onnx.ModelProto:
    """The file, in the version of the format that the explainable one has: optional inputs are new in 4."""
    proto = load(name)
    if proto.ir_version < 4:
        weights = {each.name for each in proto.graph.initializer}
        inputs = [each for each in proto.graph.input if each.name not in weights]
        del proto.graph.input[:]
        proto.graph.input.extend(inputs)
        proto.ir_version = 4
    return proto


@pytest.mark.parametrize("name", ROWS)
def test_the_explainable_file_begins_with_the_original_and_answers_as_it_does(name):
    file = onnxcam.convert(EXPORTS / f"{name}.onnx")
    assert_extends(file, original(name))
    found = run(file, picture(name))
    for output, value in run(load(name), picture(name)).items():
        if isinstance(value, np.ndarray) and value.dtype == np.float32:
            np.testing.assert_allclose(found[output], value, rtol=1e-5)
        else:
            assert len(found[output]) == len(value)


PLACES = [(name, "best") for name in ROWS]
PLACES += [(name, "first pooling") for name in ROWS if "int8" not in name]  # rounding would open or close its ReLUs


@pytest.mark.parametrize(("name", "which"), PLACES)
def test_the_gradient_is_that_of_central_differences(name, which):
    """Of the plain file in float64, by ONNX's reference implementation, along six random directions.

    At the best layer, and below all blocks: at the first pooling, where no two values that are compared are equal.
    """
    layers = onnxcam.inspect(load(name)).layers
    if which == "first pooling":
        layers = [layer for layer in layers if layer.op == "MaxPool"][-1:]
    layer = layers[0]
    file = onnxcam.convert(EXPORTS / f"{name}.onnx", layers=layer.name, emit=["activation", "gradient", "score"])
    found = run(file, picture(name))
    values, gradient = (found[f"cam/{each}/{layer.name}"].astype(np.float64) for each in ("activation", "gradient"))
    scores = found["cam/score"]
    top = np.eye(10)[scores.reshape(len(scores), -1).argmax(1)].reshape(scores.shape)
    plain = head(smooth(load(name)), layer.tensor, ROWS[name][2])

    def scalar(x: np.ndarray) -> float:
        return float((plain.run(None, {layer.tensor: x})[0] * top).sum())

    step = 1e-6 * np.sqrt((values**2).mean())
    directions = np.random.default_rng(0).normal(size=(6, *values.shape))
    slopes = [(scalar(values + step * v) - scalar(values - step * v)) / (2 * step) for v in directions]
    np.testing.assert_allclose([(gradient * v).sum() for v in directions], slopes, atol=1e-5 * np.abs(slopes).max())


def test_pictures_are_prepared_and_classes_named_as_core_ml_says():
    found = onnxcam.inspect(EXPORTS / "coreml.onnx")
    assert (found.labels[0], found.labels[-1], len(found.labels)) == ("airplane", "truck", 10)
    said = found.preprocess
    assert (said.color, said.mean, said.std, said.source) == (
        "BGR", (0.0,), (1.0,), "from the model's ONNX image metadata",
    )  # fmt: skip


def test_what_cntks_tutorial_divides_by_itself_is_not_divided_before():
    said = onnxcam.inspect(EXPORTS / "cntk-tutorial.onnx").preprocess
    assert (said.color, said.mean, said.std) == ("GRAY", (0.0,), (1.0,))


@pytest.mark.parametrize("command", [["convert"], ["explain", "models/cat.png"]])
def test_a_perceptron_on_flat_pictures_is_refused_in_one_line(command, tmp_path):
    path, out = EXPORTS / "skl2onnx.onnx", tmp_path / "out"
    verb, *photos = command
    photos = [str(EXPORTS.parents[1] / each) for each in photos]
    result = CliRunner().invoke(main, [verb, str(path), *photos, "-o", str(out)])
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: The model has no feature map with a spatial extent on the way to its score")
    assert len(result.stderr.splitlines()) == 1
    assert not out.exists()
