"""Readers of text as they are published: steps before samples, an output that is declared wrong, lines of any width."""

import numpy as np
import onnx
import pytest
from onnx import helper

import onnxcam
from tests.builders import model, run

RNG = np.random.default_rng(3)
WEIGHTS = {
    "W": RNG.normal(size=(6, 1, 3, 3)),
    "B": RNG.normal(size=6),
    "H": RNG.normal(size=(6, 5)) * [0, 1, 1, 1, 1],
}
BODY = """c = Conv<pads = [1, 1, 1, 1]>(x, W, B) map = Relu(c) m = ReduceMean<axes = [2], keepdims = 0>(map)"""
LINES = RNG.normal(size=(2, 1, 16, 12)).astype(np.float32)


def steps_first(batch: str = "N", declared: int = 3) -> onnx.ModelProto:
    """Scores (steps, samples, classes), as recurrent layers have them."""
    text = f"""net (float[{batch}, 1, 16, L] x) => (float[S, {batch}, 5] y) {{
      {BODY} t = Transpose<perm = [2, 0, 1]>(m) y = MatMul(t, H) }}"""
    proto = model(text, **WEIGHTS)
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", 1, ["S", batch, 5][:declared]))
    return proto


def samples_first() -> onnx.ModelProto:
    text = f"""net (float[N, 1, 16, L] x) => (float[N, S, 5] y) {{
      {BODY} t = Transpose<perm = [0, 2, 1]>(m) z = MatMul(t, H) y = Softmax<axis = 2>(z) }}"""
    return model(text, **WEIGHTS)


def test_samples_come_second_and_the_height_is_given():
    found = onnxcam.inspect(steps_first())
    score = found.scores[0]
    assert (score.kind, score.axis, score.samples) == ("sequence", 2, 1)
    how = found.preprocess
    assert (how.resize, how.shortest_edge, how.size, how.color) == ("height", 16, None, "GRAY")
    assert "'tf' at height 16 is a guess" in found.assumed[0]


@pytest.mark.parametrize("target", [None, "char:0", "char:1", "step:3", "2", "2@step:5", "1 - 2"])
@pytest.mark.parametrize("declared", [3, 2])
def test_the_map_is_that_of_the_reader_with_the_samples_first(target, declared):
    due = onnxcam.Explainer(samples_first(), target=target)(LINES)
    found = onnxcam.Explainer(steps_first(declared=declared), target=target)(LINES)
    np.testing.assert_array_equal(found.targets, due.targets)
    np.testing.assert_allclose(found.scores, due.scores, rtol=1e-5)
    np.testing.assert_allclose(found.maps, due.maps, atol=1e-5)


def test_places_of_a_picture_in_a_row_are_no_steps_of_a_text():
    text = """net (float[N, 3, 8, 8] x) => (float[N, 64, 2] y) { map = Relu(x) c = Conv(map, V)
      r = Reshape(c, row) t = Transpose<perm = [0, 2, 1]>(r) y = Softmax<axis = 2>(t) }"""
    found = onnxcam.inspect(model(text, V=RNG.normal(size=(2, 3, 1, 1)), row=np.int64([0, 2, -1])))
    assert (found.scores[0].kind, found.scores[0].axis) == ("regions", 2)
    assert "'imagenet' at 8×8 is a guess" in found.assumed[0]


def test_an_output_of_other_axes_than_the_file_says():
    proto = onnxcam.convert(steps_first("1", declared=2), target="char:0", emit=["heatmap", "score"])
    assert len(proto.graph.output[0].type.tensor_type.shape.dim) == 2, "the original's stays as it is"
    found = run(proto, {"x": LINES[:1]})
    due = onnxcam.Explainer(samples_first(), target="char:0")(LINES[:1])
    np.testing.assert_allclose(found["cam/heatmap"], due.maps, atol=1e-5)


def test_photos_of_lines_keep_their_proportions():
    photo = np.random.default_rng(0).integers(0, 255, (32, 90, 3), np.uint8)
    found = onnxcam.Explainer(steps_first("1")).images([photo, photo[:, :40]])
    assert [m.shape for m in found.maps] == [(32, 90), (32, 40)]
    assert [m.shape for m in found.raw["m"]] == [(1, 45), (1, 20)]


@pytest.mark.parametrize("target", [None, 2, "2", "char:0"])
def test_a_converted_file_is_explained_as_it_was_made(target):
    made = onnxcam.Explainer(onnxcam.convert(samples_first(), target=target))
    due = onnxcam.Explainer(samples_first(), target=target)
    assert made.method.name == due.method.name
    np.testing.assert_allclose(made(LINES).maps, due(LINES).maps, atol=1e-6)


def test_places_longer_than_high_stay_so_at_any_width():
    text = """net (float[N, 1, 16, L] x) => (float[N, 5] y) {
      c = Conv<pads = [1, 1, 1, 1]>(x, W, B) r = Relu(c) p = AveragePool<kernel_shape = [4, 1], strides = [4, 1]>(r)
      f = Reshape(p, row) t = Transpose<perm = [0, 2, 1]>(f) map = Sqrt(t)
      m = ReduceMean<axes = [1], keepdims = 0>(map) y = MatMul(m, H) }"""
    proto = model(text, **WEIGHTS, row=np.int64([0, 6, -1]))
    found = onnxcam.Explainer(proto)(np.tile(LINES, (1, 1, 1, 4)))
    assert (found.layers, found.raw["map"].shape) == (("map",), (2, 4, 48))
