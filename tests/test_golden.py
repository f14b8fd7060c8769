"""Maps of a tiny network against those that pytorch-grad-cam 1.5.7 gave, frozen by `scripts/check_maps.py --freeze`."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import onnxcam

GOLDEN = Path(__file__).parent / "golden" / "pytorch-grad-cam.npz"
TINY = """<ir_version: 8, opset_import: ["" : 17]>
tiny (float[N, 3, 32, 32] image) => (float[N, 5] logits) {
  c1 = Conv <pads = [1, 1, 1, 1]> (image, first_0_weight, first_0_bias)
  first = Relu (c1)
  c2 = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (first, second_0_weight, second_0_bias)
  second = Relu (c2)
  p2 = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (second)
  c3 = Conv <pads = [1, 1, 1, 1]> (p2, third_1_weight, third_1_bias)
  third = LeakyRelu <alpha = 0.3> (c3)
  p3 = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (third)
  flat = Flatten (p3)
  logits = Gemm <transB = 1> (flat, head_2_weight, head_2_bias)
}"""


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def model(golden: dict[str, np.ndarray]) -> onnx.ModelProto:
    proto = onnx.parser.parse_model(TINY)
    weights = {key.removeprefix("weight/"): value for key, value in golden.items() if key.startswith("weight/")}
    proto.graph.initializer.extend(
        onnx.numpy_helper.from_array(value, key.replace(".", "_")) for key, value in weights.items()
    )
    return proto


def cases() -> list[str]:
    with np.load(GOLDEN) as arrays:
        return sorted(key.removesuffix("/final") for key in arrays.files if key.endswith("/final"))


def test_the_network_is_the_one_that_was_frozen(model: onnx.ModelProto, golden: dict[str, np.ndarray]) -> None:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"image": golden["image"]})[0], golden["logits"], atol=1e-5)


@pytest.mark.parametrize("case", cases())
def test_maps_are_pytorch_grad_cams(case: str, model: onnx.ModelProto, golden: dict[str, np.ndarray]) -> None:
    layers = [layer for layer in ("second", "third") if f"{case}/raw/{layer}" in golden]
    targets = golden["target"].tolist()
    explain = onnxcam.Explainer(model, case.split(",")[0], layers=layers, target=targets, providers="cpu")
    explanation = explain(golden["image"])
    for layer in layers:
        ours, theirs = explanation.raw[layer], golden[f"{case}/raw/{layer}"]
        if case.startswith("eigen"):  # pytorch-grad-cam leaves the sign to LAPACK
            theirs = theirs * np.sign((ours * theirs).sum((1, 2), keepdims=True))
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())
    if not case.startswith("eigen"):
        np.testing.assert_allclose(explanation.maps, golden[f"{case}/final"], atol=1e-3)
