"""The demo model, quantised by onnxruntime as users do it: explained like the float one, and still run in integers."""

import logging
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

import onnxcam
from onnxcam import image
from onnxcam.errors import ModelError
from onnxcam.preprocessing import Preprocess
from tests.builders import DEMO, MODELS, assert_extends, run

PHOTOS = [MODELS / "cat.png", MODELS / "espresso.png"]
FORMATS = {"qdq": QuantFormat.QDQ, "qoperator": QuantFormat.QOperator}


class Photographs(CalibrationDataReader):
    def __init__(self, batches: list[np.ndarray]) -> None:
        self.feeds = iter([{"image": b} for b in batches])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.feeds, None)


@pytest.fixture(scope="module")
def preprocess() -> Preprocess:
    return onnxcam.inspect(DEMO).preprocess


@pytest.fixture(scope="module")
def batch(preprocess: Preprocess) -> np.ndarray:
    return np.concatenate([preprocess.apply(image.read(p)) for p in PHOTOS])


@pytest.fixture(scope="module", params=FORMATS)
def quantised(request, tmp_path_factory, batch) -> onnx.ModelProto:
    path = tmp_path_factory.mktemp("quantised") / f"{request.param}.onnx"
    logging.disable(logging.WARNING)  # it recommends a preprocessing that changes nothing here
    quantize_static(
        DEMO, path, Photographs([batch]), quant_format=FORMATS[request.param],
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    logging.disable(logging.NOTSET)
    return onnx.load(path)


@pytest.fixture(scope="module")
def due() -> list[np.ndarray]:
    return onnxcam.Explainer(DEMO, providers="cpu").images(PHOTOS).maps


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("method", ["gradcam", "layercam"])
def test_its_map_is_that_of_the_float_model(method, quantised, preprocess, due):
    explain = onnxcam.Explainer(quantised, method, preprocess=preprocess, providers="cpu")
    found = explain.images(PHOTOS)
    assert explain.assumptions[0].startswith("layer 'head/Conv")
    assert found.targets.tolist() == [285, 967]
    if method == "gradcam":
        assert min(cosine(a, b) for a, b in zip(found.maps, due, strict=True)) >= 0.98
    else:
        assert min(m.max() for m in found.maps) > 0.99


def kernels(proto: onnx.ModelProto, folder: Path) -> Counter:
    """The operators that are left when onnxruntime has optimised a model."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Counter(n.op_type for n in onnx.load(folder / "optimized.onnx").graph.node)


def test_its_backbone_still_runs_in_integers(quantised, tmp_path):
    plain, extended = kernels(quantised, tmp_path), kernels(onnxcam.convert(quantised), tmp_path)
    integer = [op for op in plain if op.startswith("Q")]
    assert plain["QLinearConv"] == 49
    assert {op: extended[op] for op in integer} == {op: plain[op] for op in integer}
    assert extended["Conv"] == extended["FusedConv"] == 0
    deeper = kernels(onnxcam.vjp(quantised, of="logits", wrt=["image"]), tmp_path)
    assert {op: deeper[op] for op in integer} == {op: plain[op] for op in integer}


def test_its_outputs_stay_and_the_activation_is_dequantised(quantised, batch):
    extended = onnxcam.convert(quantised)
    assert_extends(extended, quantised)
    layer = onnxcam.inspect(quantised).layers[0]
    assert layer.name.startswith("head/Conv")
    found = run(extended, {"image": batch})
    np.testing.assert_array_equal(found["logits"], run(quantised, {"image": batch})["logits"])
    activation = found[f"cam/activation/{layer.name}"]
    scale = np.unique(activation)[1]
    np.testing.assert_array_equal(np.rint(activation / scale) * scale, activation)
    assert activation.dtype == np.float32
    assert activation.shape == (2, 1280, 7, 7)
    assert found[f"cam/gradient/{layer.name}"].any(axis=(1, 2, 3)).all()


def test_a_layer_of_integers_is_named_like_any_other(quantised):
    found = onnxcam.inspect(quantised)
    assert found.missing == ()
    assert len(found.layers) == len(onnxcam.inspect(DEMO).layers)
    assert all(layer.layout == "NCHW" for layer in found.layers)
    assert not any("Quantize" in layer.op for layer in found.layers)
    deep = found.layers[20].name
    extended = onnxcam.convert(quantised, layers=deep)
    gradient = next(o for o in extended.graph.output if o.name == f"cam/gradient/{deep}")
    assert gradient.type.tensor_type.elem_type == TensorProto.FLOAT


# ----- saved after optimising -----
def optimised(proto: onnx.ModelProto, level: str, folder: Path) -> onnx.ModelProto:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "optimised.onnx")


def test_a_quantised_model_that_was_optimised_for_speed(quantised, preprocess, due, tmp_path):
    """Its convolutions have become onnxruntime's own, with their channels last."""
    proto = optimised(quantised, "ALL", tmp_path)
    assert {n.domain for n in proto.graph.node if n.op_type == "QLinearConv"} == {"com.microsoft"}
    explain = onnxcam.Explainer(proto, preprocess=preprocess, providers="cpu")
    assert onnxcam.inspect(proto).layers[0].layout == "NHWC"
    assert min(cosine(a, b) for a, b in zip(explain.images(PHOTOS).maps, due, strict=True)) >= 0.98


def test_a_float_model_that_was_optimised(preprocess, due, tmp_path):
    proto = optimised(onnx.load(DEMO), "EXTENDED", tmp_path)
    assert sum(n.op_type == "FusedConv" for n in proto.graph.node) == 33
    explain = onnxcam.Explainer(proto, preprocess=preprocess, providers="cpu")
    assert min(cosine(a, b) for a, b in zip(explain.images(PHOTOS).maps, due, strict=True)) >= 0.9999
    with pytest.raises(ModelError, match="before optimising"):
        onnxcam.inspect(optimised(onnx.load(DEMO), "ALL", tmp_path))
