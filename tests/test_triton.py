"""config.pbtxt against frozen texts; `scripts/check_triton.py` holds those against Triton's schema and a server."""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

import onnxcam
from onnxcam.errors import InputError, ModelError
from onnxcam.triton import config
from tests.builders import DEMO, model

GOLDEN = Path(__file__).parent / "golden"


def explainable() -> onnx.ModelProto:
    """The inputs and outputs of an explainable file; what is between them does not matter here."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 224, 224])
    target = helper.make_tensor_value_info("cam/target", TensorProto.INT64, ["cam/targets"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 1000])
    heatmap = helper.make_tensor_value_info("cam/heatmap", TensorProto.FLOAT, ["N", 224, 224])
    preset = helper.make_tensor("cam/target", TensorProto.INT64, [1], [-1])
    nodes = [helper.make_node("Identity", ["image"], [name]) for name in ("logits", "cam/heatmap")]
    graph = helper.make_graph(nodes, "classifier", [image, target], [logits, heatmap], [preset])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(("name", "batch"), [("whole-batches", 0), ("joined-requests", 8)])
def test_the_text_is_the_one_that_the_server_took(name, batch):
    golden = (GOLDEN / f"triton-{name}.pbtxt").read_text(encoding="utf-8")
    assert config(explainable(), "classifier", max_batch_size=batch) == golden


def test_the_example_is_what_the_demo_model_gives():
    example = Path(__file__).parents[1] / "examples" / "triton" / "config.pbtxt"
    assert config(onnxcam.convert(DEMO, emit=["heatmap"]), "explainable") == example.read_text(encoding="utf-8")


def test_what_is_optional_is_so_only_where_the_client_makes_the_batches():
    assert config(explainable(), "m").count("optional: true") == 1
    assert "cam/target" not in config(explainable(), "m", max_batch_size=4)


def test_weights_that_an_old_file_lists_as_inputs_are_none():
    proto = explainable()
    proto.graph.input.append(helper.make_tensor_value_info("weight", TensorProto.FLOAT, [4]))
    proto.graph.initializer.append(helper.make_tensor("weight", TensorProto.FLOAT, [4], [0.0] * 4))
    assert config(proto, "classifier") == config(explainable(), "classifier")


def test_a_tensor_with_nothing_but_the_batch_is_reshaped():
    proto = model("g (float[N, 4] x) => (float[N] y) { y = ReduceMax<axes = [1], keepdims = 0>(x) }")
    assert "dims: [ 1 ]\n    reshape { shape: [ ] }" in config(proto, "m", max_batch_size=2)
    assert "dims: [ -1 ]\n  }" in config(proto, "m")


def test_a_single_number_has_one_size_and_no_reshape():
    proto = model("g (float[4] x) => (float y) { y = ReduceMax<keepdims = 0>(x) }")
    assert 'name: "y"\n    data_type: TYPE_FP32\n    dims: [ 1 ]\n  }' in config(proto, "m")


@pytest.mark.parametrize(
    ("onnx_type", "triton"),
    [("float16", "FP16"), ("double", "FP64"), ("uint8", "UINT8"), ("bool", "BOOL"), ("bfloat16", "BF16")],
)
def test_types_have_other_names(onnx_type, triton):
    proto = model(f"g ({onnx_type}[N] x) => ({onnx_type}[N] y) {{ y = Identity(x) }}")
    assert config(proto, "m").count(f"data_type: TYPE_{triton}\n") == 2


@pytest.mark.parametrize("name", ["", "..", "a/b", "-a", "a b", 'a"'])
def test_a_name_that_is_no_folder_is_refused(name):
    with pytest.raises(InputError, match="no name for a model"):
        config(explainable(), name)


def test_a_batch_below_zero_is_refused():
    with pytest.raises(InputError, match="batch of -1"):
        config(explainable(), "m", max_batch_size=-1)


def test_batches_of_a_model_with_a_fixed_batch_are_refused():
    proto = model("g (float[1, 4] x) => (float[1, 4] y) { y = Identity(x) }")
    with pytest.raises(ModelError, match="first size of 'x' is fixed"):
        config(proto, "m", max_batch_size=2)


def test_a_tensor_of_unknown_shape_is_refused():
    proto = explainable()
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    with pytest.raises(ModelError, match="how many axes 'logits' has"):
        config(proto, "m")


def test_a_type_that_the_server_lacks_is_refused():
    proto = explainable()
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.COMPLEX64
    with pytest.raises(ModelError, match="'logits' is of a type"):
        config(proto, "m")
