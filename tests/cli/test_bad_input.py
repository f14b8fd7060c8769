"""Whatever is wrong: one clear line on stderr, nothing on stdout, nothing half-written.

The exit code is 2 where what was given is wrong, 1 where it failed nevertheless.
"""

import os
import re
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import parser

from onnxcam import run as runtime

FLAT = """<ir_version: 8, opset_import: ["": 13]>
agraph (float[N,4] x) => (float[N,3] y) <float[4,3] w = {1,2,3,4,5,6,7,8,9,10,11,12}> { y = MatMul(x, w) }"""


def truncated(model, folder):
    (folder / "m.onnx").write_bytes(model.read_bytes()[:-1000])


def text(_, folder):
    (folder / "m.onnx").write_text("this is no model")


def empty(_, folder):
    (folder / "m.onnx").write_bytes(b"")


def external(model, folder, location="weights.bin"):
    """The demo model with its weights in a file that is not there."""
    proto = onnx.load(model)
    onnx.save_model(proto, folder / "m.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    (folder / "weights.bin").unlink()
    proto = onnx.load(folder / "m.onnx", load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            entry.value = location if entry.key == "location" else entry.value
    onnx.save(proto, folder / "m.onnx")


def outside(model, folder):
    (folder.parent / "secret").write_bytes(bytes(20_000_000))
    external(model, folder, "../secret")


def flat(_, folder):
    onnx.save(parser.parse_model(FLAT), folder / "m.onnx")


def no_rule(_, folder):
    """Two operators without a gradient between an early layer and the score, none after the late one."""
    weights = np.ones((4, 3, 3, 3), np.float32)
    nodes = [
        onnx.helper.make_node("Conv", ["image", "w"], ["a"], name="early", pads=[1, 1, 1, 1]),
        onnx.helper.make_node("Scaler", ["a"], ["b"], name="warp", domain="ai.onnx.ml", offset=[0.0], scale=[2.0]),
        onnx.helper.make_node("Scaler", ["b"], ["c"], name="running", domain="ai.onnx.ml", offset=[0.0], scale=[2.0]),
        onnx.helper.make_node("Relu", ["c"], ["d"], name="late"),
        onnx.helper.make_node("GlobalAveragePool", ["d"], ["p"], name="pool"),
        onnx.helper.make_node("Flatten", ["p"], ["y"], name="flat"),
    ]
    constants = {"w": weights}
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        [onnx.helper.make_tensor_value_info("image", 1, [1, 3, 8, 8])],
        [onnx.helper.make_tensor_value_info("y", 1, [1, 4])],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    graph.value_info.extend(onnx.helper.make_tensor_value_info(n, 1, [1, 4, 8, 8]) for n in ("b", "c"))
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), folder / "m.onnx")


def one_line(result, code, *said):
    assert "Traceback" not in result.stderr
    assert result.exit_code == code
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("Error: ")
    for word in said:
        assert word in lines[0]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda *_: None, ["m.onnx", "No such file"]),
        (text, ["not an ONNX model"]),
        (empty, ["not an ONNX model"]),
        (truncated, ["truncated"]),
        (external, ["weights.bin"]),
        (outside, ["../secret", "outside"]),
        (flat, ["no feature map with a spatial extent"]),
    ],
)
@pytest.mark.parametrize("command", ["explain", "convert"])
def test_a_model_that_cannot_be_explained(run, model, cat, tmp_path, command, make, said):
    folder = tmp_path / "given"
    folder.mkdir()
    make(model, folder)
    photos = [cat] if command == "explain" else []
    one_line(run(command, folder / "m.onnx", *photos, "-o", tmp_path / "out", "--json"), 2, *said)
    assert not (tmp_path / "out").exists()


def test_operators_without_a_gradient_are_all_named_with_the_layer_that_works(run, cat, tmp_path):
    no_rule(None, tmp_path)
    result = run("explain", tmp_path / "m.onnx", cat, "-o", tmp_path / "out", "--layer", "early")
    one_line(result, 1, "Scaler 'warp'", "Scaler 'running'")
    assert not (tmp_path / "out").exists()
    offered = re.search(r"the layer '([^']+)'", result.stderr).group(1)
    result = run("explain", tmp_path / "m.onnx", cat, "-o", tmp_path / "out", "--layer", offered)
    assert (result.exit_code, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--layer", "head/Clp"], 2, ["layer 'head/Clp'", "'head/Clip'"]),
        (["--target", "Egyptain cat"], 2, ["class 'Egyptain cat'", "'Egyptian cat'"]),
        (["--target", "1000"], 2, ["class 1000", "0 to 999"]),
        (["--target", "-2"], 2, ["class -2"]),
        (["--target", "top0"], 2, ["'top0'", "'topK' stands alone"]),
        (["--target", "top5 - 285"], 2, ["'top5'", "'topK' stands alone"]),
        (["--target", "p:top5"], 2, ["'top5'", "'topK' stands alone"]),
        (["--target", ""], 2, ["lacks a class"]),
        (["--target", "p: "], 2, ["lacks a class"]),
        (["--target", "cat"], 2, ["class 'cat'", "'tiger cat' or 'Persian cat' or 'Siamese cat'"]),
        (["--target", "1e400*285"], 2, ["weight", "inf"]),
        (["--target", "285 - 1e39*282"], 2, ["weight", "-1e+39"]),
        (["--target", "285=1e400"], 2, ["finite numbers"]),
        (["--target", "top1001"], 2, ["1000"]),
        (["--method", "gradcan"], 2, ["method 'gradcan'", "'gradcam'"]),
        (["--method", "Grad-CAM"], 2, ["method 'Grad-CAM'", "'gradcam'"]),
        (["--score", "logit"], 2, ["score tensor 'logit'", "'logits'"]),
        (["--score", "stem/weight"], 2, ["score tensor 'stem/weight'"]),
        (["--score", "image"], 2, ["score tensor 'image'"]),
        (["--score", ""], 2, ["score tensor ''", "There is: logits, head/"]),
        (["--preprocess", "imagnet"], 2, ["'imagnet'", "'imagenet'"]),
        (["--preprocess", "none.json"], 2, ["none.json", "No such file"]),
        (["--labels", "none.txt"], 2, ["none.txt", "No such file"]),
        (["--labels", __file__], 2, ["class names in", "1000"]),
        (["--option", "alpha=1"], 2, ["gradcam option 'alpha'"]),
        (["--method", "gradcam++", "--option", "alpha=plan"], 2, ["'alpha'", "'plan'", "plain"]),
        (["--option", "alpha"], 2, ["KEY=VALUE"]),
        (["--provider", "cdua"], 2, ["'cdua'", "'cuda'", "cpu"]),
        (["--output", ""], 2, ["no folder", "'.'"]),
    ],
)
def test_a_wrong_choice(run, model, cat, tmp_path, options, code, said):
    one_line(run("explain", model, cat, "-o", tmp_path / "out", *options), code, *said)
    assert not (tmp_path / "out").exists()


def test_a_provider_that_is_not_there_is_never_replaced(run, model, cat, tmp_path):
    absent = next(p for p in ("cuda", "coreml", "dml") if not any(p in a.lower() for a in available()))
    one_line(run("explain", model, cat, "-o", tmp_path / "out", "--provider", absent), 1, absent, "cpu")


def available():
    return runtime.runtime().get_available_providers()


@pytest.mark.parametrize("content", [b"", b"no photo", None, "cut"])
def test_one_photo_that_cannot_be_read_stops_all(run, model, cat, tmp_path, content):
    photo = tmp_path / "bad.png"
    if content is not None:
        photo.write_bytes(cat.read_bytes()[:-500] if content == "cut" else content)
    one_line(run("explain", model, cat, photo, "-o", tmp_path / "out"), 2, "bad.png")
    assert not (tmp_path / "out").exists()


def test_a_folder_is_no_photo_and_a_file_no_folder(run, model, cat, tmp_path):
    one_line(run("explain", model, tmp_path, "-o", tmp_path / "out"), 2, "directory")
    (tmp_path / "file").write_text("kept")
    one_line(run("explain", model, cat, "-o", tmp_path / "file"), 2, "file")
    one_line(run("explain", model, cat, "-o", tmp_path / "file" / "out"), 2, "file")
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--layer", "nope"], 2, ["'nope'", "head/Clip"]),
        (["--target", "catt"], 2, ["'catt'"]),
        (["--emit", "gradeint"], 2, ["'gradeint'", "'gradient'"]),
        (["--emit", ","], 2, ["activation"]),
        (["--score", "nope"], 2, ["'nope'", "logits"]),
    ],
)
def test_a_wrong_conversion(run, model, tmp_path, options, code, said):
    one_line(run("convert", model, "-o", tmp_path / "out.onnx", *options), code, *said)
    assert list(tmp_path.iterdir()) == []


def test_a_model_is_not_written_over_itself_or_into_nowhere(run, model, tmp_path):
    copy = tmp_path / "m.onnx"
    copy.write_bytes(model.read_bytes())
    one_line(run("convert", copy, "-o", tmp_path / "." / "m.onnx"), 2, "the model itself")
    assert copy.read_bytes() == model.read_bytes()
    one_line(run("convert", copy, "-o", copy / "out.onnx"), 2, "m.onnx", "no")


def test_without_onnxruntime(run, model, cat, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", absent)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    one_line(run("explain", model, cat, "-o", tmp_path / "out"), 1, "not installed", "pip install")
    assert not (tmp_path / "out").exists()
    result = run("doctor")
    assert result.exit_code == 1
    assert "pip install onnxruntime" in result.stdout
    result = run("convert", model, "-o", tmp_path / "out.onnx")  # needs no runtime
    assert result.exit_code == 0


def absent(name):
    import importlib.metadata

    raise importlib.metadata.PackageNotFoundError(name)


def test_with_both_wheels(model, cat, tmp_path):
    wheel = tmp_path / "onnxruntime_gpu-1.20.0.dist-info"
    wheel.mkdir()
    (wheel / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.20.0\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}

    def real(*arguments):
        command = [sys.executable, "-m", "onnxcam", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    done = real("explain", model, cat, "-o", tmp_path / "out")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu" in done.stderr
    done = real("doctor")
    assert (done.returncode, done.stderr) == (1, "")
    assert "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu" in done.stdout
