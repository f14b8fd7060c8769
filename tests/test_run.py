"""onnxruntime behind one door: providers, checked feeds, and what is said where it is absent or doubled."""

import importlib.metadata
import sys
import types
from collections.abc import Iterable

import numpy as np
import onnxruntime
import pytest

import onnxcam
from onnxcam.errors import InputError, ModelError, OnnxcamError, RuntimeUnavailable
from onnxcam.run import Session, doctor, installed, runtime
from tests.builders import Net, image, model


def session(text: str, providers: object = "cpu", **weights: np.ndarray) -> Session:
    return Session(model(text, **weights).SerializeToString(), providers=providers)


def wheels(monkeypatch: pytest.MonkeyPatch, names: Iterable[str]) -> None:
    """Let only these onnxruntime distributions be installed."""
    there = set(names)

    def version(name: str) -> str:
        if name in there:
            return "1.99.0"
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)


# ----- running -----
def test_a_session_runs_a_model():
    s = session("""net (float[N, 3] x, int64 k) => (float[N, 3] y, float z) {
      c = Cast<to = 1>(k) y = Mul(x, c) z = Identity(c)
    }""")
    assert (s.provider, s.outputs) == ("CPUExecutionProvider", ["y", "z"])
    assert s.inputs == {"x": (("N", 3), "float32"), "k": ((), "int64")}
    feeds = {"x": np.float32([[1, 2, 3]]), "k": np.int64(2)}
    found = s.run(feeds)
    assert {k: v.tolist() for k, v in found.items()} == {"y": [[2, 4, 6]], "z": 2}
    assert list(s.run(feeds, ["z"])) == ["z"]


@pytest.mark.parametrize(
    ("feeds", "said"),
    [
        ({}, "input 'x' is not given. It takes: x, k"),
        ({"x": np.zeros((1, 3), np.float32)}, "input 'k' is not given"),
        ({"image": np.zeros((1, 3), np.float32)}, "no input 'image'. It takes: x, k"),
        ({"x": np.zeros((1, 4), np.float32)}, "'x' has shape [1, 4]; the model takes [?, 3]"),
        ({"x": np.zeros(3, np.float32)}, "'x' has shape [3]"),
        ({"x": np.zeros((1, 3))}, "'x' is float64; the model takes float32"),
        ({"x": np.zeros((1, 3), np.float32), "k": np.int32(1)}, "'k' is int32; the model takes int64"),
    ],
)
def test_feeds_that_do_not_fit_are_one_clear_line(feeds, said):
    s = session("net (float[N, 3] x, int64 k) => (float[N, 3] y) { c = Cast<to = 1>(k) y = Mul(x, c) }")
    with pytest.raises(InputError) as caught:
        s.run(feeds)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.array([1.5]), "Input 'cam/target' is float64; the model takes int64"),
        (np.array(1), "Input 'cam/target' has shape []"),
    ],
)
def test_optional_inputs_are_checked_as_others(given, said):
    s = Session(onnxcam.convert(Net().model()).SerializeToString())
    with pytest.raises(InputError) as caught:
        s.run({"x": image(1), "cam/target": given})
    assert said in str(caught.value)


def test_text_is_an_input_like_others():
    s = session("net (string[N] x) => (string[N] y) { y = Identity(x) }")
    assert s.run({"x": np.array(["a"])})["y"].tolist() == ["a"]


def test_a_run_that_fails_is_one_clear_line_and_nothing_else(capfd):
    s = session("net (float[N, 3] x) => (float[2, 3] y) { y = Reshape(x, r) }", r=np.int64([2, 3]))
    with pytest.raises(OnnxcamError, match="onnxruntime failed on this input") as caught:
        s.run({"x": np.zeros((5, 3), np.float32)})
    assert "\n" not in str(caught.value)
    assert "Reshape" in str(caught.value)


def test_onnxruntime_keeps_its_own_log_to_itself(capfd):
    s = session("net (float[N, 3] x) => (float[2, 3] y) { y = Reshape(x, r) }", r=np.int64([2, 3]))
    with pytest.raises(OnnxcamError):
        s.run({"x": np.zeros((5, 3), np.float32)})
    assert capfd.readouterr() == ("", "")


def test_a_model_that_onnxruntime_refuses_is_one_clear_line():
    text = "net (float[N, 3] x) => (float[N, 3] y) { y = Nowhere(x) }"
    with pytest.raises(ModelError, match=r"onnxruntime [\d.]+ refuses the model") as caught:
        session(text)
    assert "Nowhere" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="refuses the model"):
        Session(b"no model at all", providers="cpu")


# ----- providers -----
@pytest.mark.parametrize("providers", ["cpu", "CPU", "CPUExecutionProvider", ["cpu"], ("CPU", "cpu")])
def test_a_provider_by_any_of_its_names(providers):
    assert session("net (float[N] x) => (float[N] y) { y = Relu(x) }", providers).provider == "CPUExecutionProvider"


def test_a_provider_that_is_not_there_is_never_replaced():
    there = onnxruntime.get_available_providers()
    name = next(p for p in ("CUDA", "CoreML", "DML") if f"{p}ExecutionProvider" not in there)
    for given in (name, name.lower(), [name], ["cpu", f"{name}ExecutionProvider"]):
        with pytest.raises(RuntimeUnavailable, match=f"(?i)no provider '{name}.*'. It has: .*cpu"):
            session("net (float[N] x) => (float[N] y) { y = Relu(x) }", given)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cdua", "No provider 'cdua'. Did you mean 'cuda'.* This onnxruntime has: .*cpu"),
        ("tpu", "No provider 'tpu'.*cpu"),
        ("", "No provider ''.*cpu"),
        (["cpu", "cdua"], "No provider 'cdua'"),
        (None, "not None"),
        (3, "not 3"),
        (["cpu", None], "not None"),
    ],
)
def test_what_is_no_provider_anywhere_is_a_mistake(name, said):
    with pytest.raises(InputError, match=said):
        session("net (float[N] x) => (float[N] y) { y = Relu(x) }", name)


class Falling(onnxruntime.InferenceSession):
    """What onnxruntime does with a provider that it has and that does not work here: it takes another."""

    def __init__(self, content, options, providers):
        super().__init__(content, options, providers=["CPUExecutionProvider"])


def test_a_provider_that_does_not_work_is_an_error_where_it_was_asked_for(monkeypatch):
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    monkeypatch.setattr(onnxruntime, "InferenceSession", Falling)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None, raising=False)
    text = "net (float[N] x) => (float[N] y) { y = Relu(x) }"
    for providers in ("cuda", ["cuda", "cpu"]):
        with pytest.raises(RuntimeUnavailable, match="CUDAExecutionProvider is installed but does not work here"):
            session(text, providers)
    assert session(text, "auto").provider == "CPUExecutionProvider"
    explainer = onnxcam.Explainer(Net().model())
    assert explainer.provider == "CPUExecutionProvider"
    assert "provider CPU" in explainer.assumptions
    found = {f.name: f for f in doctor()}
    assert (found["CUDAExecutionProvider"].ok, found["CPUExecutionProvider"].ok) == (False, True)
    assert 'pip install "onnxruntime-gpu[cuda,cudnn]"' in found["CUDAExecutionProvider"].mend


@pytest.mark.skipif("CUDAExecutionProvider" not in onnxruntime.get_available_providers(), reason="needs CUDA")
def test_cuda_gives_the_same_map():
    net, x = Net(), image(5)
    explanation = onnxcam.Explainer(net.model(), providers="cuda", target=1)(x)
    np.testing.assert_allclose(explanation.raw["map"], net.gradcam(x, [1] * 5), atol=1e-4)


# ----- which onnxruntime -----
def test_none_is_installed(monkeypatch):
    wheels(monkeypatch, [])
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert installed() == []
    for verb in (runtime, lambda: onnxcam.Explainer(Net().model())):
        with pytest.raises(RuntimeUnavailable, match=r"not installed\. Run: pip install onnxruntime, or"):
            verb()
    (finding,) = doctor()
    assert not finding.ok
    assert finding.mend == 'pip install onnxruntime, or for CUDA: pip install "onnxruntime-gpu[cuda,cudnn]"'
    assert len(onnxcam.convert(Net().model()).graph.output) == 3
    assert onnxcam.inspect(Net().model()).layers


@pytest.mark.parametrize(
    ("both", "keeps"),
    [
        (["onnxruntime", "onnxruntime-gpu"], "onnxruntime-gpu"),
        (["onnxruntime", "onnxruntime-openvino"], "onnxruntime-openvino"),
    ],
)
def test_two_are_installed(monkeypatch, both, keeps):
    wheels(monkeypatch, both)
    command = f"pip uninstall -y {' '.join(both)} && pip install {keeps}"
    with pytest.raises(RuntimeUnavailable) as caught:
        onnxcam.Explainer(Net().model())
    assert f"{both[0]} and {both[1]} are both installed" in str(caught.value)
    assert command in str(caught.value)
    assert "\n" not in str(caught.value)
    (finding,) = doctor()
    assert (finding.ok, finding.mend) == (False, command)


def test_one_is_damaged(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", types.ModuleType("onnxruntime"))
    wheels(monkeypatch, ["onnxruntime"])
    with pytest.raises(RuntimeUnavailable, match=r"damaged\. Run: pip install --force-reinstall"):
        runtime()
    (finding,) = doctor()
    assert not finding.ok
    assert "pip install --force-reinstall" in finding.mend


def test_doctor_tries_what_is_there():
    findings = doctor()
    assert findings[0].name == "onnxruntime"
    assert onnxruntime.__version__ in findings[0].detail
    found = {f.name: f for f in findings}
    assert found["CPUExecutionProvider"].detail == "works"
    assert found["CPUExecutionProvider"].mend is None
    assert "AzureExecutionProvider" not in found
