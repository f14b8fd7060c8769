"""Files in and out: what is refused, what is copied, what is never written over."""

import hashlib
import os
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import helper, numpy_helper

import onnxcam
from onnxcam.cli import main
from onnxcam.errors import InputError, ModelError, OnnxcamError, UnsupportedGradient
from onnxcam.model import read
from tests.builders import DEMO, Net, image, model, run


def save(proto: onnx.ModelProto, path: Path, **external: object) -> Path:
    """Write a file, with external data where options of that are given; the given proto stays as it is."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    path.parent.mkdir(parents=True, exist_ok=True)
    if external:
        external = {"location": "weights.bin", "size_threshold": 0, **external}
    onnx.save(copy, path, save_as_external_data=bool(external), **external)
    return path


def tree(folder: Path) -> dict[str, bytes]:
    """Everything below a folder, hidden files too."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def cli(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, [str(a) for a in arguments], prog_name="onnxcam")
    return result.exit_code, result.stdout, result.stderr


# ----- reading -----
def test_a_model_is_a_path_bytes_or_a_proto(tmp_path):
    proto = Net().model()
    path = save(proto, tmp_path / "some.net.onnx")
    content = path.read_bytes()
    for given, folder in ((path, str(tmp_path)), (str(path), str(tmp_path)), (content, ""), (proto, "")):
        source = read(given)
        assert (source.proto, source.folder, source.external) == (proto, folder, [])
    assert read(path).sha256 == read(content).sha256 == hashlib.sha256(content).hexdigest()
    with pytest.raises(InputError, match="not list"):
        read([1])


def test_a_file_that_is_cut_off_anywhere_is_refused(tmp_path):
    content = save(Net().model(), tmp_path / "m.onnx").read_bytes()
    opset = len(content) - 4  # the last field: without it, what is left is a valid message
    for end in (*range(0, opset, 97), opset, len(content) - 1):
        with pytest.raises(ModelError, match="not an ONNX model"):
            read(content[:end])


BAD_FILES = {
    "text": (b"This is no model.", "not an ONNX model"),
    "empty": (b"", "not an ONNX model"),
    "json": (b'{"format": "onnx"}', "not an ONNX model"),
    "picture": ((DEMO.parent / "cat.png").read_bytes(), "not an ONNX model"),
    "checkpoint": (b"PK\x03\x04" + bytes(200), "not an ONNX model"),
    "truncated": (DEMO.read_bytes()[:100_000], "truncated"),
}


@pytest.mark.parametrize(("content", "said"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_file_that_is_no_model_is_one_clear_line(tmp_path, content, said):
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    for verb in (onnxcam.inspect, onnxcam.convert, onnxcam.Explainer, lambda m: onnxcam.vjp(m, of="y", wrt=["x"])):
        with pytest.raises(ModelError) as caught:
            verb(path)
        assert str(path) in str(caught.value)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_one_clear_line(tmp_path):
    with pytest.raises(ModelError, match=r"'none\.onnx': No such file"):
        read("none.onnx")
    with pytest.raises(ModelError, match=r"it is a folder without a model"):
        read(tmp_path)
    (tmp_path / "model.onnx").touch()
    with pytest.raises(ModelError, match=r"it is a folder; name a file in it, such as '.*model\.onnx'"):
        read(tmp_path)


def test_nodes_in_any_order_are_taken_as_runtimes_take_them():
    """As the converters to float16 leave them: casts of the inputs come last."""
    net, x = Net(), image()
    proto = net.model()
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes[::-1])
    found = run(onnxcam.convert(proto), {"x": x, "cam/target": np.int64([1])})
    np.testing.assert_allclose(found["cam/gradient/map"], net.gradient(x, [1] * len(x)), atol=1e-6)


def damaged(change: str) -> onnx.ModelProto:
    proto = Net().model()
    graph = proto.graph
    if change == "cyclic":
        graph.node[0].input[2] = "f"
    elif change == "weightless":
        del graph.initializer[0]
    elif change == "outputless":
        graph.output[0].name = "z"
    elif change == "old":
        proto.opset_import[0].version = 6
    elif change == "futuristic":
        proto.opset_import[0].version = 999
    elif change == "empty":
        proto.Clear()
    return proto


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("cyclic", "'c' reads 'f' before a node makes it"),
        ("weightless", "'c' reads 'W' before a node makes it"),
        ("outputless", "output 'z' is made by no node"),
        ("old", "opset 6"),
        ("futuristic", "opset 999"),
        ("empty", "no graph"),
    ],
)
@pytest.mark.parametrize("form", ["file", "proto"])
def test_a_damaged_graph_is_one_clear_line(tmp_path, change, said, form):
    given = damaged(change)
    if form == "file":
        path = save(given, tmp_path / "m.onnx")
        code, out, err = cli("convert", path, "-o", tmp_path / "out.onnx")
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert said in err
        given = path
    with pytest.raises(ModelError) as caught:
        onnxcam.inspect(given)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.onnx").exists()


# ----- external data -----
@pytest.fixture
def external(tmp_path) -> Path:
    return save(Net().model(), tmp_path / "in" / "m.onnx", location="weights.bin")


def test_external_data_is_read_where_it_lies(external, monkeypatch):
    net, x = Net(), image()
    assert read(external).external == ["weights.bin"]
    for given in (external, os.path.relpath(external)):
        explanation = onnxcam.Explainer(given, target=1)(x)
        np.testing.assert_allclose(explanation.raw["map"], net.gradcam(x, [1] * 4), atol=1e-6)
    monkeypatch.chdir(external.parent)
    np.testing.assert_allclose(onnxcam.Explainer("m.onnx", "cam", target=1)(x).scores, net.score(x)[:, 1], rtol=1e-5)


def test_external_data_goes_along_to_another_folder(external, tmp_path):
    x = image()
    before = tree(tmp_path / "in")
    onnxcam.convert(external, tmp_path / "out" / "deeper" / "e.onnx", target=2)
    assert tree(tmp_path / "in") == before
    assert set(tree(tmp_path / "out")) == {"deeper/e.onnx", "deeper/weights.bin"}
    found = run(tmp_path / "out" / "deeper" / "e.onnx", {"x": x})
    np.testing.assert_array_equal(found["y"], run(external, {"x": x})["y"])
    np.testing.assert_allclose(found["cam/gradient/map"], Net().gradient(x, [2] * 4), rtol=1e-6)


def test_external_data_in_the_same_folder_is_shared(external):
    data = external.parent / "weights.bin"
    before = (data.read_bytes(), data.stat().st_ino, data.stat().st_mtime_ns)
    onnxcam.convert(external, external.parent / "e.onnx")
    assert (data.read_bytes(), data.stat().st_ino, data.stat().st_mtime_ns) == before
    assert set(tree(external.parent)) == {"m.onnx", "e.onnx", "weights.bin"}
    np.testing.assert_array_equal(*(run(external.parent / n, {"x": image()})["y"] for n in ("m.onnx", "e.onnx")))


def test_external_data_of_constant_nodes_goes_along(tmp_path):
    proto = Net().model("v = Constant() g = Mul(p, v) f = Flatten(g) y = Gemm<transB = 1>(f, H, b)")
    node = next(n for n in proto.graph.node if n.op_type == "Constant")
    node.attribute.append(helper.make_attribute("value", numpy_helper.from_array(np.full((1, 4, 1, 1), 2, np.float32))))
    path = save(proto, tmp_path / "in" / "m.onnx", convert_attribute=True, all_tensors_to_one_file=False)
    onnxcam.convert(path, tmp_path / "out" / "e.onnx")
    found, expected = (run(p, {"x": image()})["y"] for p in (tmp_path / "out" / "e.onnx", path))
    np.testing.assert_array_equal(found, expected)


def pointing(path: Path, location: str, **more: int) -> Path:
    """The model with the data of its weights said to lie in `location`."""
    proto = onnx.load(path, load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
            elif entry.key in more:
                entry.value = str(more[entry.key])
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.mark.parametrize("location", ["../secret.bin", "sub/../../secret.bin", "/etc/passwd", "link/secret.bin"])
def test_external_data_outside_the_folder_is_refused(external, tmp_path, location):
    (tmp_path / "secret.bin").write_bytes(bytes(10_000))
    if "link" in location:
        if sys.platform == "win32":
            pytest.skip("symbolic links need rights on Windows")
        (external.parent / "link").symlink_to(tmp_path)
    pointing(external, location)
    before = tree(tmp_path)
    for verb in (onnxcam.inspect, onnxcam.Explainer, lambda m: onnxcam.convert(m, tmp_path / "out" / "e.onnx")):
        with pytest.raises(ModelError, match="outside its own folder"):
            verb(external)
    code, _, err = cli("convert", external, "-o", tmp_path / "out" / "e.onnx")
    assert (code, err.count("\n")) == (2, 1)
    assert location in err
    assert tree(tmp_path) == before
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("location", ["gone.bin", "sub/gone.bin", ""])
def test_external_data_that_is_missing_is_named(external, tmp_path, location):
    pointing(external, location)
    with pytest.raises(ModelError, match="missing") as caught:
        onnxcam.convert(external, tmp_path / "out" / "e.onnx")
    assert f"'{location}'" in str(caught.value)
    assert str(external.parent) in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_external_data_that_is_cut_off_is_one_clear_line(external):
    (external.parent / "weights.bin").write_bytes((external.parent / "weights.bin").read_bytes()[:40])
    for method in ("gradcam", "cam"):
        with pytest.raises(ModelError) as caught:
            onnxcam.Explainer(external, method)
        assert "\n" not in str(caught.value)
        assert "weights.bin" in str(caught.value) or "weight '" in str(caught.value)


# ----- writing -----
def same_file_names(folder: Path) -> list[tuple[str, str]]:
    """Pairs of a model's name and another spelling of it."""
    pairs = [("m.onnx", "m.onnx"), ("m.onnx", "sub/../m.onnx"), ("m.pb", "m.pb"), ("m", "m"), ("m.ONNX", "m.ONNX")]
    return [*pairs, ("m.onnx", "link.onnx")] if sys.platform != "win32" else pairs


@pytest.mark.parametrize(("given", "output"), same_file_names(Path()))
def test_a_model_is_never_written_over_itself(tmp_path, given, output):
    (tmp_path / "sub").mkdir()
    path = save(Net().model(), tmp_path / given)
    if output == "link.onnx":
        (tmp_path / output).symlink_to(path)
    before = tree(tmp_path)
    with pytest.raises(InputError, match="the model itself"):
        onnxcam.convert(path, tmp_path / output)
    assert tree(tmp_path) == before


def test_the_weights_of_a_model_are_never_written_over(external):
    before = tree(external.parent)
    with pytest.raises(InputError):
        onnxcam.convert(external, external.parent / "weights.bin")
    assert tree(external.parent) == before


def test_the_weights_of_another_model_are_never_written_over(external, tmp_path):
    save(Net(seed=5).model(), tmp_path / "out" / "other.onnx", location="weights.bin")
    before = tree(tmp_path / "out")
    with pytest.raises(OnnxcamError, match=r"weights\.bin"):
        onnxcam.convert(external, tmp_path / "out" / "e.onnx")
    assert tree(tmp_path / "out") == before


def test_what_was_there_is_replaced_whole(tmp_path):
    (tmp_path / "e.onnx").write_bytes(b"an older result")
    onnxcam.convert(Net().model(), tmp_path / "e.onnx")
    assert list(tree(tmp_path)) == ["e.onnx"]
    onnx.checker.check_model(tmp_path / "e.onnx", full_check=True)


@pytest.mark.parametrize("output", ["taken", "file/e.onnx"])
@pytest.mark.parametrize("data", [False, True])
def test_a_place_that_cannot_be_written_stays_as_it_was(external, tmp_path, output, data):
    (tmp_path / "out" / "taken").mkdir(parents=True)
    (tmp_path / "out" / "file").write_text("kept")
    before = tree(tmp_path)
    with pytest.raises(InputError, match="Cannot write") as caught:
        onnxcam.convert(external if data else Net().model(), tmp_path / "out" / output)
    assert "\n" not in str(caught.value)
    assert tree(tmp_path) == before
    code, out, err = cli("convert", external, "-o", tmp_path / "out" / "file" / "e.onnx")
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "e.onnx"
    path.write_bytes(b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OnnxcamError, match=r"Cannot write .*e\.onnx'.*No space left on device"):
        onnxcam.convert(Net().model(), path)
    assert tree(tmp_path) == {"e.onnx": b"old"}


def test_nothing_is_written_where_nothing_can_be_explained(tmp_path):
    flat = model("net (float[N, 3] x) => (float[N, 3] y) { y = Relu(x) }")
    with pytest.raises(ModelError, match="no feature map with a spatial extent"):
        onnxcam.convert(flat, tmp_path / "e.onnx")
    with pytest.raises(InputError, match=r"No layer 'mpa'\. Did you mean 'map'"):
        onnxcam.convert(Net().model(), tmp_path / "e.onnx", layers="mpa")
    steps = Net().model("k = com.example.Odd(p) f = Flatten(k) y = Gemm<transB = 1>(f, H, b)")
    steps.opset_import.add(domain="com.example", version=1)
    with pytest.raises(UnsupportedGradient, match="Odd 'k'"):
        onnxcam.convert(steps, tmp_path / "e.onnx")
    assert tree(tmp_path) == {}
