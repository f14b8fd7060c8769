"""Models that leave the picture's size open: tokens are folded for the size that preprocessing makes."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper

import onnxcam
from onnxcam.errors import InputError
from onnxcam.layout import spatial
from tests.builders import image, model, run

SIDES = "s = Shape(c) n = Slice(s, zero, two, zero) row = Concat<axis = 0>(n, last) r = Reshape(c, row)"


def tokens(patch: int, count: int | None = None, before: int = 1) -> onnx.ModelProto:
    """A transformer's beginning as optimum writes it: patches, a class token, position embeddings for `count` places.

    Without a `count` it has none, and takes any size. All tokens are averaged.
    """
    add = "p = Add(k, places)" if count else "p = Identity(k)"
    rng = np.random.default_rng(0)
    weights = {"places": rng.normal(size=(1, before + (count or 0), 4))} if count else {}
    return model(
        f"""net (float[N, K, H, W] x) => (float[N, 2] y) {{
          c = Conv<kernel_shape = [{patch}, {patch}], strides = [{patch}, {patch}]>(x, W0) {SIDES}
          t = Transpose<perm = [0, 2, 1]>(r) wide = Concat<axis = 0>(n0, one, last4) e = Expand(token, wide)
          k = Concat<axis = 1>(e, t) {add} map = Relu(p) m = ReduceMean<axes = [1], keepdims = 0>(map) y = MatMul(m, W1)
        }}""".replace("wide = ", "n0 = Slice(s, zero, w1, zero) wide = "),
        W0=rng.normal(size=(4, 3, patch, patch)), W1=rng.normal(size=(4, 2)), token=np.ones((1, before, 4)),
        zero=np.int64([0]), w1=np.int64([1]), two=np.int64([2]), one=np.int64([before]), last=np.int64([-1]),
        last4=np.int64([4]), **weights,
    )  # fmt: skip


def held(proto: onnx.ModelProto, names: list[str], x: np.ndarray) -> dict[str, np.ndarray]:
    """What tensors inside the model hold."""
    shown = onnx.ModelProto()
    shown.CopyFrom(proto)
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return run(shown, {"x": x}, names)


@pytest.mark.parametrize(("patch", "count", "grid"), [(32, 49, (7, 7)), (64, 16, (4, 4)), (16, None, (14, 14))])
@pytest.mark.parametrize("before", [1, 3])
def test_tokens_of_a_picture_of_open_size_have_a_grid(patch, count, grid, before):
    """Of 224×224, which is the habit; 16 patches of 64 say that the picture is 256×256."""
    first, *_ = onnxcam.inspect(tokens(patch, count, before)).layers
    assert (first.name, first.layout, first.grid, first.prefix) == ("map", "tokens", grid, before)
    assert first.fold.at == (256, 256) if patch == 64 else (224, 224)


@pytest.mark.parametrize("size", [(224, 224), (96, 160), (160, 96), (64, 512)])
def test_pictures_of_any_size_are_folded_into_their_own_grid(size):
    proto = tokens(16)
    layer = onnxcam.inspect(proto).layer("map")
    x = image(2, (3, *size))
    found = held(proto, ["map", "c"], x)
    np.testing.assert_array_equal(spatial(found["map"], layer, size), np.maximum(found["c"], 0))
    maps = onnxcam.Explainer(proto)(x).maps
    assert maps.shape == (2, *size)


@pytest.mark.parametrize("size", [(224, 224), (112, 448), (96, 160), (230, 225)])
def test_a_heat_map_in_the_file_is_folded_into_the_grid_of_the_picture_that_comes(size):
    """112×448 has as many places as 224×224, in another grid."""
    x = image(2, (3, *size))
    for proto in (tokens(16), tokens(16, before=3)):
        file = onnxcam.convert(proto, emit=["heatmap"])
        found = run(file, {"x": x}, ["cam/heatmap"])["cam/heatmap"]
        np.testing.assert_allclose(found, onnxcam.Explainer(proto)(x).maps, atol=1e-5)
        small = onnxcam.convert(proto, emit=["heatmap"], size="layer")
        assert run(small, {"x": x}, ["cam/heatmap"])["cam/heatmap"].shape == (2, size[0] // 16, size[1] // 16)


def test_a_heat_map_in_the_file_refuses_places_that_are_not_the_grid():
    """A padded convolution has 15×15 places where 14×14 would fit: the run fails, it does not draw something else."""
    proto = tokens(16)
    node = next(n for n in proto.graph.node if n.op_type == "Conv")
    node.attribute.append(helper.make_attribute("pads", [0, 0, 15, 15]))
    file = onnxcam.convert(proto, emit=["heatmap"])
    assert run(file, {"x": image(1, (3, 224, 224))}, ["cam/heatmap"])["cam/heatmap"].shape == (1, 224, 224)
    with pytest.raises(Exception, match=r"[Rr]eshape"):
        run(file, {"x": image(1, (3, 230, 230))}, ["cam/heatmap"])


@pytest.mark.parametrize("patch", [10, 12, 20, 24])
def test_patches_that_do_not_divide_the_usual_size(patch):
    proto = tokens(patch)
    file = onnxcam.convert(proto, emit=["heatmap"])
    for size in ((224, 224), (patch * 9, patch * 17), (216, 240)):
        x = image(1, (3, *size))
        found = run(file, {"x": x}, ["cam/heatmap"])["cam/heatmap"]
        np.testing.assert_allclose(found, onnxcam.Explainer(proto)(x).maps, atol=1e-5)


def test_windows_that_were_found_for_another_size_are_refused():
    layer = onnxcam.inspect(tokens(16)).layer("map")
    windows = replace(layer, fold=replace(layer.fold, layout="windows"))
    with pytest.raises(InputError, match="Export the model for a fixed size"):
        spatial(np.zeros((1, 197, 4), np.float32), windows, (112, 448))


def labelled(grid: int = 7) -> onnx.ModelProto:
    """A transformer that segments, for pictures of 32·grid only, which its file does not say."""
    text = f"""net (float[N, 3, H, W] x) => (float[N, 2, {grid}, {grid}] y) {{
      c = Conv<kernel_shape = [32, 32], strides = [32, 32]>(x, W0) {SIDES}
      t = Transpose<perm = [0, 2, 1]>(r) p = Add(t, places) map = Relu(p) b = Transpose<perm = [0, 2, 1]>(map)
      d = Reshape(b, square) y = Conv(d, W1)
    }}"""
    rng = np.random.default_rng(0)
    return model(
        text, W0=rng.normal(size=(4, 3, 32, 32)), W1=rng.normal(size=(2, 4, 1, 1)), zero=np.int64([0]),
        two=np.int64([2]), last=np.int64([-1]), square=np.int64([0, 4, grid, grid]),
        places=rng.normal(size=(1, grid * grid, 4)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("proto", "side"), [(tokens(64, 16), 256), (tokens(32, 49), 224), (tokens(16), 224), (labelled(), 224)]
)
def test_photos_are_prepared_in_the_size_that_the_graph_takes(proto, side):
    found = onnxcam.inspect(proto)
    assert found.preprocess.size == (side, side)
    assert f"at {side}×{side} is a guess" in found.assumed[0]
    photo = np.random.default_rng(0).integers(0, 255, (75, 101, 3), np.uint8)
    assert onnxcam.Explainer(proto).images([photo]).maps[0].shape == (75, 101)


def test_features_of_a_backbone_are_of_pictures_as_small_as_classes_are():
    """Tokens without a head are no classes at places, whose models see larger pictures."""
    proto = tokens(16)
    del proto.graph.node[-2:]
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("p", 1, ["N", "T", 4]))
    del proto.graph.node[-1]
    found = onnxcam.inspect(proto)
    assert (found.scores[0].kind, found.preprocess.size) == ("regions", (224, 224))


@pytest.mark.parametrize("drop", ["y = Squeeze(d, axis)", "y = Reshape(d, places)", "y = Gather<axis = 1>(d, first)"])
def test_a_depth_at_every_place_is_one_class_at_places(drop):
    text = f"net (float[N, 3, 6, 8] x) => (float[N, 6, 8] y) {{ map = Relu(x) c = Conv(map, W0) d = Relu(c) {drop} }}"
    given = {"axis": np.int64([1]), "places": np.int64([0, 6, 8]), "first": np.int64(0)}
    used = {name: value for name, value in given.items() if f"{name})" in text}
    proto = model(text, W0=np.float32([2, -1, 1]).reshape(1, 3, 1, 1), **used)
    score, *_ = onnxcam.inspect(proto).scores
    assert (score.tensor, score.kind, score.axis, score.classes) == ("d", "regions", 1, 1)
    x = image(2, (3, 6, 8))
    file = onnxcam.convert(proto)
    found = run(file, {"x": x}, ["y", "cam/gradient/map"])
    weights = np.float32([2, -1, 1])[:, None, None]
    np.testing.assert_array_equal(found["cam/gradient/map"], (found["y"][:, None] > 0) * weights)
