"""Where results go: links, devices, full disks; and many photos, one batch at a time."""

import gc
import json
import os
import shutil
import sys
import weakref

import numpy as np
import onnx
import pytest

from onnxcam import image
from onnxcam.report import Explanation
from tests.builders import Net
from tests.cli.test_bad_input import one_line

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="there are no such devices, and links need rights")


@pytest.fixture
def small(tmp_path):
    """A small model, with the path of one that is not there yet."""
    onnx.save(Net().model(dims="N, 3, 24, 20"), tmp_path / "m.onnx")
    return tmp_path / "m.onnx", tmp_path / "out.onnx"


class Full:
    """A file on a disk that is full after a hundred bytes."""

    def __init__(self, file):
        self.file = file

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def write(self, content):
        self.file.write(content[:100])
        if len(content) > 100:
            raise OSError(28, "No space left on device")


@pytest.fixture
def fill(monkeypatch):
    """Fills the disk, once `room` more files have been written."""

    def fill(room=0):
        opened, left = os.fdopen, iter([True] * room)

        def full(handle, mode):
            return opened(handle, mode) if mode == "rb" or next(left, False) else Full(opened(handle, mode))

        monkeypatch.setattr("onnxcam.files.os.fdopen", full)

    return fill


@pytest.mark.parametrize("command", ["convert", "strip"])
def test_a_full_disk_leaves_what_was_there(run, small, tmp_path, fill, command):
    given, output = small
    if command == "strip":
        assert run("convert", given, "-o", tmp_path / "cam.onnx").exit_code == 0
        given = tmp_path / "cam.onnx"
    output.write_text("kept")
    before = sorted(tmp_path.iterdir())
    fill()
    one_line(run(command, given, "-o", output), 1, f"Cannot write '{output}'", "No space left on device")
    assert output.read_text() == "kept"
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("room", [0, 1, 2])
def test_both_files_of_a_split_are_written_or_none_is(run, tmp_path, fill, room):
    (tmp_path / "given").mkdir()
    onnx.save(Net().model(), tmp_path / "given" / "m.onnx", save_as_external_data=True, location="w", size_threshold=0)
    first, tail = tmp_path / "a.onnx", tmp_path / "t.onnx"
    first.write_text("kept")
    fill(room)
    full = (first, tail, tmp_path / "w")[room]
    made = run("convert", tmp_path / "given" / "m.onnx", "-o", first, "--split", tail)
    one_line(made, 1, f"Cannot write '{full}'", "No space left on device")
    assert first.read_text() == "kept"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.onnx", "given"]


def test_a_full_disk_leaves_no_part_of_a_picture(run, model, cat, tmp_path, fill):
    fill()
    one_line(run("explain", model, cat, "-o", tmp_path / "out"), 1, "cat_overlay.png'", "No space left on device")
    assert list((tmp_path / "out").iterdir()) == []


@POSIX
@pytest.mark.parametrize("device", ["/dev/null", "/dev/full"])
def test_a_device_is_no_place(run, small, device):
    given, output = small
    one_line(run("convert", given, "-o", device), 2, f"'{device}'", "no regular file")
    one_line(run("convert", given, "-o", output, "--split", device), 2, f"'{device}'", "no regular file")
    one_line(run("explain", given, given, "-o", device), 2)
    assert not os.path.isfile(device)
    assert not output.exists()


@POSIX
def test_a_link_is_followed_and_stays(run, small, tmp_path):
    given, output = small
    (tmp_path / "far").mkdir()
    real = tmp_path / "far" / "real.onnx"
    real.write_text("old")
    output.symlink_to(real)
    assert run("convert", given, "-o", output).exit_code == 0
    assert output.is_symlink()
    assert onnx.load(real).graph.output
    assert os.listdir(tmp_path / "far") == ["real.onnx"]
    output.unlink()
    output.symlink_to(output)
    one_line(run("convert", given, "-o", output), 2, "a link to itself")
    output.unlink()
    output.symlink_to(given)
    one_line(run("convert", given, "-o", output), 2, "the model itself")


def test_a_name_that_ends_as_a_folder_does_is_no_file(run, small, tmp_path):
    one_line(run("convert", small[0], "-o", f"{tmp_path}/new/"), 2, "new/'", "folder")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--split", "{tmp}/out.onnx"], ["out.onnx' is to be both files"]),
        (["--split", "{tmp}/tail.onnx", "--gate"], ["Choose a gate or a tail"]),
        (["--split", "{tmp}/tail.onnx", "--triton", "{tmp}/t"], ["--triton", "one file"]),
        (["--split", "{tmp}/m.onnx"], ["the model itself"]),
        (["--split", "{tmp}"], ["folder"]),
        (["--required", "--target", "top2"], ["Nothing to require", "topK"]),
        (["--required", "--emit", "activation"], ["Nothing to require"]),
        (["--size", "layer", "--emit", "gradient"], ["heat map", "add 'heatmap'"]),
        (["--heatmap", "uint8", "--emit", "class"], ["heat map", "add 'heatmap'"]),
    ],
)
def test_choices_that_exclude_each_other_write_nothing(run, small, tmp_path, options, said):
    given, output = small
    one_line(run("convert", given, "-o", output, *[o.replace("{tmp}", str(tmp_path)) for o in options]), 2, *said)
    assert list(tmp_path.iterdir()) == [given]


def test_what_is_required_is_an_input_without_a_default(run, small):
    given, output = small
    for options in (["--required"], ["--required", "--gate", "--target", "top2"]):
        assert run("convert", given, "-o", output, *options).exit_code == 0
        made = onnx.load(output).graph
        added = {i.name for i in made.input} - {"x"}
        assert added
        assert not added & {t.name for t in made.initializer}


# ----- many photos -----
@pytest.fixture
def many(tmp_path):
    """More photos than two batches hold, two of each name."""
    rng = np.random.default_rng(3)
    paths = [tmp_path / folder / f"{i}.png" for folder in "ab" for i in range(18)]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        image.write(path, rng.integers(0, 256, (24, 20, 3), np.uint8))
    return paths


def test_many_photos_are_saved_batch_by_batch(run, small, many, tmp_path, monkeypatch):
    saved, save = [], Explanation.save

    def watched(self, folder):
        gc.collect()
        assert not any(earlier() for earlier in saved)
        saved.append(weakref.ref(self))
        return save(self, folder)

    monkeypatch.setattr(Explanation, "save", watched)
    result = run("explain", small[0], *many, "-o", tmp_path / "out", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    document = json.loads(result.stdout)
    assert len(saved) == 3
    assert [photo["photo"] for photo in document["photos"]] == [str(p) for p in many]
    assert sorted(document["files"]) == sorted(str(p) for p in (tmp_path / "out").iterdir())
    for i, (path, photo) in enumerate(zip(many, document["photos"], strict=True)):
        alone = json.loads(run("explain", small[0], path, "-o", tmp_path / "alone", "--json").stdout)
        assert alone["photos"][0]["rows"][0]["score"] == pytest.approx(photo["rows"][0]["score"], rel=1e-4)
        record = json.loads((tmp_path / "out" / f"{path.stem}{'_2' if i >= 18 else ''}.json").read_text())
        assert record["photo"] == str(path)
        shutil.rmtree(tmp_path / "alone")


def test_a_photo_that_is_not_there_is_said_before_any_work(run, small, many, tmp_path):
    many[-1].unlink()
    one_line(run("explain", small[0], *many, "-o", tmp_path / "out"), 2, "17.png")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["explain", "inspect", "convert", "check", "strip"])
def test_files_that_are_not_there_have_one_exit_code(run, small, cat, tmp_path, command):
    more = {"explain": [cat, "-o", tmp_path / "o"], "convert": ["-o", tmp_path / "o"], "strip": ["-o", tmp_path / "o"]}
    one_line(run(command, tmp_path / "none.onnx", *more.get(command, [])), 2, "none.onnx")
    if command == "explain":
        one_line(run(command, small[0], tmp_path / "none.png", "-o", tmp_path / "o"), 2, "none.png")
        for option in ("--labels", "--preprocess"):
            one_line(run(command, small[0], cat, "-o", tmp_path / "o", option, "none.json"), 2, "none.json")
