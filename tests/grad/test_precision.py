"""Half precision, in numpy's own: ONNX's reference computes float16 in float16, where onnxruntime's CPU would not."""

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

import onnxcam
from onnxcam import image
from onnxcam.errors import InputError
from tests.builders import DEMO, MODELS, assert_extends, model, retyped


def small(dtype: type) -> onnx.ModelProto:
    """A mean of 40,000 pixels, times 0.001, times 1000: 2.5e-5 by way of 2.5e-8, which float16 does not have."""
    text = """m (float[1, 1, 200, 200] x) => (float[1, 1, 1, 1] y) {
      h = Mul(x, d) z = Mul(h, c) r = Relu(z) y = ReduceMean(r) }"""
    return retyped(model(text, d=np.array([1000.0]), c=np.array([0.001])), dtype)


def gradient(proto: onnx.ModelProto, x: np.ndarray, **options: str) -> np.ndarray:
    extended = onnxcam.vjp(proto, of="y", wrt=["x"], **options)
    assert_extends(extended, proto)
    seed = np.ones((1, 1, 1, 1), x.dtype)
    return ReferenceEvaluator(extended).run(["grad/x"], {"x": x, "seed/y": seed})[0]


X = np.random.default_rng(0).uniform(-1, 1, (1, 1, 200, 200))
DUE = np.where(X > 0, 1 / 40000, 0)


@pytest.mark.parametrize("arithmetic", ["auto", "float32"])
def test_float16_does_not_underflow(arithmetic):
    found = gradient(small(np.float16), X.astype(np.float16), arithmetic=arithmetic)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found.astype(float), DUE, rtol=0.02)


def test_it_would_without_the_scale(monkeypatch):
    monkeypatch.setattr("onnxcam.grad.precision._SCALE", 1.0)
    found = gradient(small(np.float16), X.astype(np.float16))
    assert not found.any()


def types(proto: onnx.ModelProto, since: int) -> set[int]:
    """Element types of everything that was added and is computed with."""
    inferred = onnx.shape_inference.infer_shapes(proto).graph
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*inferred.value_info, *inferred.output)}
    return {kinds[o] for n in proto.graph.node[since:] if n.op_type not in ("Cast", "Identity") for o in n.output}


def test_bfloat16_is_computed_in_float32_and_returned_in_its_own():
    proto = small(ml_dtypes.bfloat16)
    extended = onnxcam.vjp(proto, of="y", wrt=["x"])
    assert types(extended, len(proto.graph.node)) <= {TensorProto.FLOAT, TensorProto.INT64}
    assert extended.graph.output[-1].type.tensor_type.elem_type == TensorProto.BFLOAT16
    assert extended.graph.input[-1].type.tensor_type.elem_type == TensorProto.BFLOAT16
    found = gradient(proto, X.astype(ml_dtypes.bfloat16))
    np.testing.assert_allclose(found.astype(float), DUE, rtol=0.02)


def test_float16_is_computed_in_float16_unless_float32_is_asked_for():
    proto = small(np.float16)
    own, wide = (onnxcam.vjp(proto, of="y", wrt=["x"], arithmetic=a) for a in ("auto", "float32"))
    assert types(own, len(proto.graph.node)) <= {TensorProto.FLOAT16, TensorProto.INT64}
    assert types(wide, len(proto.graph.node)) <= {TensorProto.FLOAT, TensorProto.INT64}


def test_constants_stay_constants_in_float32():
    """Bounds, axes and scales that rules read as numbers are numbers in a wider type too."""
    text = "m (float[2, 3] x) => (float[2, 3] y) { c = Clip(x, low, high) y = Softmax(c) }"
    proto = retyped(model(text, low=np.array(-1.0), high=np.array(1.5)), np.float16)
    x, u = np.float16([[-2, 0.5, 1], [2, -0.5, 0]]), np.float16([[1, 2, 3], [4, 5, 6]])
    extended = onnxcam.vjp(proto, of="y", wrt=["x"], arithmetic="float32")
    found = ReferenceEvaluator(extended).run(["grad/x"], {"x": x, "seed/y": u})[0]
    y = np.exp(np.clip(x.astype(float), -1, 1.5))
    y /= y.sum(1, keepdims=True)
    expected = y * (u - (u * y).sum(1, keepdims=True)) * ((x > -1) & (x < 1.5))
    np.testing.assert_allclose(found.astype(float), expected, atol=2e-3)
    assert "Max" not in {n.op_type for n in extended.graph.node}


def test_a_model_that_casts_to_float32_in_the_end_is_scaled_too():
    text = """m (float16[1, 1, 200, 200] x) => (float[1, 1, 1, 1] y) {
      h = Mul(x, d) z = Mul(h, c) r = ReduceMean(z) y = Cast<to = 1>(r) }"""
    proto = model(text)
    for name, value in (("d", 1000), ("c", 0.001)):
        proto.graph.initializer.append(numpy_helper.from_array(np.float16([value]), name))
    extended = onnxcam.vjp(proto, of="y", wrt=["x"])
    feeds = {"x": X.astype(np.float16), "seed/y": np.ones((1, 1, 1, 1), np.float32)}
    found = ReferenceEvaluator(extended).run(["grad/x"], feeds)[0]
    np.testing.assert_allclose(found.astype(float), 1 / 40000, rtol=0.02)


def test_an_arithmetic_that_is_none_is_refused():
    with pytest.raises(InputError, match="float32"):
        onnxcam.vjp(small(np.float16), of="y", wrt=["x"], arithmetic="double")  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize("arithmetic", ["auto", "float32"])
def test_the_demo_model_in_float16_has_the_map_of_the_float_one(arithmetic):
    proto = retyped(onnx.load(DEMO), np.float16)
    preprocess = onnxcam.inspect(DEMO).preprocess
    batch = np.concatenate([preprocess.apply(image.read(MODELS / f"{n}.png")) for n in ("cat", "espresso")])
    extended = onnxcam.convert(proto, arithmetic=arithmetic)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    feeds = {"image": batch.astype(np.float16)}
    names = ["cam/activation/head/Clip", "cam/gradient/head/Clip"]
    found = ort.InferenceSession(extended.SerializeToString(), options).run(names, feeds)
    plain = ort.InferenceSession(onnxcam.convert(DEMO).SerializeToString(), options).run(names, {"image": batch})
    maps = [np.maximum(np.einsum("nk,nkhw->nhw", g.astype(float).mean((2, 3)), a), 0) for a, g in (found, plain)]
    assert found[1].dtype == np.float16
    for a, b in zip(*maps, strict=True):
        assert (a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b) >= 0.999
