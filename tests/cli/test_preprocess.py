"""`--preprocess`, and what is found without it, on the command line: said by inspect and by explain alike."""

import json
import shutil

import numpy as np
import onnx
import pytest

from onnxcam import image
from onnxcam.preprocessing import preset

CAT = 285


@pytest.fixture
def bare(model, tmp_path):
    """The demo model without its metadata."""
    proto = onnx.load(model)
    del proto.metadata_props[:]
    onnx.save(proto, tmp_path / "bare.onnx")
    return tmp_path / "bare.onnx"


def lines(run, *arguments):
    result = run(*arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout.splitlines()


def fact(printed, name):
    return next(line.split(None, 1)[1] for line in printed if line.startswith(name))


def test_inspect_and_explain_say_the_same_guess(run, bare, cat, tmp_path):
    shown, explained = lines(run, "inspect", bare), lines(run, "explain", bare, cat, "-o", tmp_path / "out")
    assert fact(shown, "preprocess") == fact(explained, "preprocess")
    assert fact(shown, "preprocess").endswith("; preset 'imagenet', a guess")
    said = "preprocessing 'imagenet' at 224×224 is a guess: nothing in the file or beside it says; set it with"
    for printed in (shown, explained):
        assert any(said in line for line in printed)
    document = json.loads(run("inspect", bare, "--json").stdout)
    assert document["preprocess"]["mean"] == list(preset("imagenet").mean)
    assert said in document["assumed"][0]


def test_a_model_in_the_layout_of_a_hub_needs_no_flags(run, bare, model, cat, tmp_path):
    (tmp_path / "hub" / "onnx").mkdir(parents=True)
    shutil.copy(bare, tmp_path / "hub" / "onnx" / "model.onnx")
    config = {
        "image_processor_type": "ViTImageProcessor",
        "size": {"height": 224, "width": 224},
        "resample": 2,
        "rescale_factor": 1 / 128,
        "do_normalize": True,
        "image_mean": [127 / 128] * 3,
        "image_std": [1, 1, 1],
    }
    names = {p.key: p.value for p in onnx.load(model).metadata_props}["cam.classes"]
    (tmp_path / "hub" / "preprocessor_config.json").write_text(json.dumps(config))
    (tmp_path / "hub" / "config.json").write_text(json.dumps({"id2label": dict(enumerate(json.loads(names)))}))
    path = tmp_path / "hub" / "onnx" / "model.onnx"
    printed = lines(run, "explain", path, cat, "-o", tmp_path / "out", "--target", "Egyptian cat")
    assert printed[0].startswith(f"{cat}  Egyptian cat ({CAT}): probability 0.7")
    assert any("preprocessing from 'preprocessor_config.json' in the folder above the model" in x for x in printed)
    assert any("class names from 'config.json' in the folder above the model" in x for x in printed)
    assert (
        fact(lines(run, "inspect", path), "classes") == "1000 names, from 'config.json' in the folder above the model"
    )


@pytest.mark.parametrize("name", ["letterbox", "top-left"])
def test_a_letterboxed_map_is_at_the_photos_size(run, model, cat, tmp_path, name):
    fields = {"mean": [127], "std": [128], "resize": "letterbox"} | ({"anchor": name} if name == "top-left" else {})
    (tmp_path / "p.json").write_text(json.dumps(fields))
    lines(run, "explain", model, cat, "-o", tmp_path / "out", "--preprocess", tmp_path / "p.json")
    with np.load(tmp_path / "out" / "cat.npz") as arrays:
        assert arrays["map"].shape == image.read(cat).shape[:2]
        assert arrays["map"].max() > 0.5


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("p.json", '{"means": [1]}', "no field 'means'. Its fields are: size, mean, std"),
        ("p.json", '{"size": [0, 3]}', "'size' must be [height, width]"),
        ("p.yaml", "size: [", "YAML"),
        ("p.yaml", None, "Cannot read preprocessing"),
    ],
)
def test_a_wrong_file_is_one_clear_line(run, model, cat, tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_text(content)
    result = run("explain", model, cat, "-o", tmp_path / "out", "--preprocess", tmp_path / name)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert said in result.stderr
    assert not (tmp_path / "out").exists()
