"""The commands on a real classifier and real photographs."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest

import onnxcam
from onnxcam import heatmap, image, view
from onnxcam import run as runtime
from onnxcam.preprocessing import Preprocess

CAT, TIGER_CAT, ESPRESSO = 285, 282, 967  # of ILSVRC


def load(path):
    with np.load(path) as arrays:
        return dict(arrays)


def explained(run, *arguments):
    result = run("explain", *arguments, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


def test_explain_prints_what_it_saw_chose_and_assumed(run, model, cat, tmp_path):
    result = run("explain", model, cat, "-o", tmp_path / "out")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"{cat}  Egyptian cat ({CAT}): probability 0.7")
    facts = dict(line.split(None, 1) for line in lines[1:] if not line.startswith(" "))
    assert facts["layer"] == "head/Clip"
    assert facts["method"] == "gradcam"
    assert facts["score"] == "logits"
    assert facts["provider"] in ("CPUExecutionProvider", "CUDAExecutionProvider")
    assert "224×224" in facts["preprocess"]
    assert "(x − 127) / 128" in facts["preprocess"]
    for name in ("cat_overlay.png", "cat_heatmap.png", "cat.npz", "cat.json"):
        assert str(tmp_path / "out" / name) in result.stdout


def test_the_pictures_are_those_of_the_map(run, model, cat, tmp_path):
    document = explained(run, model, cat, "-o", tmp_path)
    photo = image.read(cat)
    arrays = load(tmp_path / "cat.npz")
    assert arrays["map"].shape == photo.shape[:2]
    assert arrays["raw/head/Clip"].shape == (7, 7)
    scaled = heatmap.resize(heatmap.relu_minmax(arrays["raw/head/Clip"][None]), photo.shape[:2])[0]
    assert np.abs(arrays["map"] - scaled).max() < 0.05  # by way of the input's size
    np.testing.assert_array_equal(image.read(tmp_path / "cat_overlay.png"), view.overlay(photo, arrays["map"]))
    np.testing.assert_array_equal(image.read(tmp_path / "cat_heatmap.png"), view.colour(arrays["map"]))
    record = json.loads((tmp_path / "cat.json").read_text(encoding="utf-8"))
    assert record["rows"][0]["class"] == document["photos"][0]["rows"][0]["class"] == CAT
    assert sorted(document["files"]) == sorted(str(path) for path in tmp_path.iterdir())


def test_json_says_the_same_as_the_models_own_output(run, model, cat, espresso, tmp_path):
    document = explained(run, model, cat, espresso, "-o", tmp_path)
    session = runtime.Session(model.read_bytes())
    preprocess = Preprocess((224, 224), mean=(127.0,), std=(128.0,))
    for path, photo, cls in zip((cat, espresso), document["photos"], (CAT, ESPRESSO), strict=True):
        logits = session.run({"image": preprocess.apply(image.read(path))})["logits"][0].astype(float)
        assert photo["photo"] == str(path)
        assert [row["class"] for row in photo["rows"]] == [cls] == [logits.argmax()]
        assert photo["rows"][0]["score"] == pytest.approx(logits[cls], rel=1e-4)
        assert photo["rows"][0]["probability"] == pytest.approx(1 / np.exp(logits - logits[cls]).sum(), rel=1e-4)
    assert document["photos"][1]["rows"][0]["label"] == "espresso"


@pytest.mark.parametrize(
    ("target", "classes"),
    [("967", [ESPRESSO]), ("espresso", [ESPRESSO]), ("-1", [CAT]), ("top1", [CAT]), ("top2", [CAT, ESPRESSO])],
)
def test_the_target_is_an_index_a_name_or_the_best(run, model, both, tmp_path, target, classes):
    document = explained(run, model, both, "-o", tmp_path, "--target", target)
    assert [row["class"] for row in document["photos"][0]["rows"]] == classes
    middle = image.read(both).shape[1] // 2
    for cls in classes:
        stem = both.stem if len(classes) == 1 else f"{both.stem}.{cls}"
        found = load(tmp_path / f"{stem}.npz")["map"]
        own = found[:, :middle] if cls == CAT else found[:, middle:]
        assert own.sum() / found.sum() >= 0.8


def test_photos_of_one_name_do_not_overwrite_each_other(run, model, cat, espresso, tmp_path):
    for folder, photo in (("a", cat), ("b", espresso)):
        (tmp_path / folder).mkdir()
        shutil.copy(photo, tmp_path / folder / "photo.png")
    document = explained(run, model, tmp_path / "a/photo.png", tmp_path / "b/photo.png", "-o", tmp_path / "out")
    assert len(set(document["files"])) == len(document["files"]) == len(list((tmp_path / "out").iterdir())) == 8
    shapes = {image.read(path).shape for path in (tmp_path / "out").glob("*_overlay.png")}
    assert shapes == {image.read(cat).shape, image.read(espresso).shape}


def test_several_layers_are_fused_into_one_map(run, model, cat, tmp_path):
    names = ["head/Clip", "blocks.4.2/Add"]
    document = explained(
        run, model, cat, "-o", tmp_path, "--method", "layercam", "--layer", names[0], "--layer", names[1]
    )
    assert document["layers"] == names
    assert document["method"] == "layercam"
    arrays = load(tmp_path / "cat.npz")
    size = arrays["map"].shape
    parts = [heatmap.resize(heatmap.relu_minmax(arrays[f"raw/{name}"][None]), (224, 224)) for name in names]
    np.testing.assert_allclose(arrays["map"], Preprocess((224, 224)).restore(heatmap.fuse(parts)[0], size), atol=1e-5)


def test_other_preprocessing_and_labels_are_used(run, model, cat, tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(f"Klasse {i}" for i in range(1000)), encoding="utf-8")
    file = tmp_path / "p.json"
    file.write_text('{"size": [224, 224], "mean": [127], "std": [128], "resize": "crop", "crop_ratio": 1}')
    document = explained(run, model, cat, "-o", tmp_path / "out", "--labels", labels, "--preprocess", file)
    assert document["photos"][0]["rows"][0]["label"] == f"Klasse {document['photos'][0]['rows'][0]['class']}"
    assert document["preprocess"]["resize"] == "crop"
    found = load(tmp_path / "out/cat.npz")["map"]
    height, width = found.shape
    side = (width - height) // 2
    assert found[:, : side - 1].max() == 0
    assert found[:, side + 1 : -side - 1].max() > 0.9


def test_inspect_shows_the_choice_first(run, model):
    lines = run("inspect", model).stdout.splitlines()
    assert lines[2].split() == ["*", "head/Clip", "Clip", "[N,", "1280,", "7,", "7]", "NCHW", "7×7"]
    assert len([line for line in lines if "NCHW" in line and "×" in line and "224" not in line]) > 50
    facts = dict(line.split(None, 1) for line in lines[2:] if line and not line.startswith(" "))
    assert facts["inputs"] == "image  float32 [N, 3, 224, 224] NCHW"
    assert facts["scores"].startswith("logits  [N, 1000]")
    assert facts["classes"] == "1000 names"
    assert "(x − 127) / 128" in facts["preprocess"]


def test_inspect_as_json(run, model):
    document = json.loads(run("inspect", model, "--json").stdout)
    assert document["layers"][0]["name"] == "head/Clip"
    assert document["layers"][0]["grid"] == [7, 7]
    assert document["missing"] == []


def test_convert_writes_a_file_that_says_what_it_is(run, model, tmp_path):
    output = tmp_path / "explainable.onnx"
    result = run("convert", model, "-o", output, "--layer", "blocks.5.3/Add", "--target", "espresso", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    document = json.loads(result.stdout)
    written = onnx.load(output)
    onnx.checker.check_model(written)
    added = ["cam/activation/blocks.5.3/Add", "cam/gradient/blocks.5.3/Add", "cam/heatmap"]
    assert [o.name for o in written.graph.output] == [o["name"] for o in document["outputs"]] == ["logits", *added]
    assert [i["name"] for i in document["inputs"]] == ["image", "cam/target"]
    assert document["outputs"][1]["shape"] == ["N", 192, 7, 7]
    assert document["bytes"] == output.stat().st_size
    assert document["growth"] == pytest.approx(output.stat().st_size / model.stat().st_size - 1)
    assert 0 < document["growth"] < 0.01
    text = run("convert", model, "-o", output, "--emit", "activation").stdout
    assert "cam/activation/head/Clip  [N, 1280, 7, 7]" in text
    assert "cam/gradient" not in text
    assert str(output) in text


def test_convert_says_what_both_files_of_a_split_take_and_return(run, model, tmp_path):
    first, tail = tmp_path / "a.onnx", tmp_path / "b.onnx"
    command = ("convert", model, "-o", first, "--split", tail, "--emit", "heatmap")
    document = json.loads(run(*command, "--json").stdout)
    for file, said in ((first, document), (tail, document["tail"])):
        graph = onnx.load(file).graph
        assert said["output"] == str(file)
        assert [i["name"] for i in said["inputs"]] == [i.name for i in graph.input]
        assert [o["name"] for o in said["outputs"]] == [o.name for o in graph.output]
    assert document["bytes"] == first.stat().st_size + tail.stat().st_size
    text = run(*command).stdout
    assert text.index(str(first)) < text.index("head/Clip") < text.index(str(tail)) < text.index("cam/heatmap")


def test_convert_counts_no_weights_as_inputs(run, tmp_path):
    weights = np.ones((2, 1, 3, 3), np.float32)
    nodes = [onnx.helper.make_node("Conv", ["x", "w"], ["c"]), onnx.helper.make_node("GlobalAveragePool", ["c"], ["y"])]
    shapes = {"x": [1, 1, 8, 8], "w": weights.shape, "y": [1, 2, 1, 1]}
    x, w, y = (onnx.helper.make_tensor_value_info(name, 1, shape) for name, shape in shapes.items())
    graph = onnx.helper.make_graph(nodes, "g", [x, w], [y], [onnx.numpy_helper.from_array(weights, "w")])
    opsets = [onnx.helper.make_opsetid("", 11)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=3), tmp_path / "m.onnx")
    document = json.loads(run("convert", tmp_path / "m.onnx", "-o", tmp_path / "out.onnx", "--json").stdout)
    assert [i["name"] for i in document["inputs"]] == ["x", "cam/target"]


def test_a_name_that_the_terminal_lacks_ends_no_command(model, tmp_path):
    command = [sys.executable, "-m", "onnxcam", "convert", model, "-o", tmp_path / "図.onnx"]
    environment = os.environ | {"PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(command, capture_output=True, check=True, env=environment)
    assert rb"\u56f3.onnx" in done.stdout


def test_doctor_finds_the_runtime_of_these_tests(run):
    result = run("doctor")
    assert result.exit_code == 0
    assert "CPUExecutionProvider: works" in result.stdout
    assert all(finding["ok"] for finding in json.loads(run("doctor", "--json").stdout))


def test_python_m_onnxcam_is_the_same_command(model, both, tmp_path):
    command = [sys.executable, "-m", "onnxcam", "explain", model, both, "-o", tmp_path, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["photos"][0]["rows"][0]["class"] == CAT
    assert done.stderr == ""
    assert onnxcam.__version__ in (tmp_path / f"{both.stem}.json").read_text(encoding="utf-8")


def test_strip_gives_the_original_back(run, model, tmp_path):
    assert run("convert", model, "-o", tmp_path / "cam.onnx", "--emit", "heatmap", "--gate").exit_code == 0
    assert run("strip", tmp_path / "cam.onnx", "-o", tmp_path / "back.onnx").exit_code == 0
    assert (tmp_path / "back.onnx").read_bytes() == model.read_bytes()
    refused = run("strip", model, "-o", tmp_path / "no.onnx")
    assert refused.exit_code == 2
    assert "no explainable file" in refused.stderr
    assert not (tmp_path / "no.onnx").exists()
