"""Feature maps whose places do not have an axis each: tokens, windows, blocks; and how they come back to the picture.

The truth is the picture itself: the graphs move it about as exporters do, and `spatial` has to give it back.
"""

import numpy as np
import onnx
import pytest

import onnxcam
import onnxcam.inspection
from onnxcam.errors import InputError
from onnxcam.inspection import Layer
from onnxcam.layout import spatial
from tests.builders import image, model, names, run

TOKENS = "r = Reshape(x, s) t = Transpose<perm = [0, 2, 1]>(r)"

# What a graph does to x (N, 3, 6, 8) up to the feature map `map`, with `s` and `z` to reshape to; and its layout.
MOVES = {
    "a row of tokens": (f"{TOKENS} map = Relu(t)", (0, 3, 48), None, "tokens"),
    "flattened": ("t = Transpose<perm = [0, 2, 3, 1]>(x) r = Reshape(t, s) map = Relu(r)", (0, -1, 3), None, "tokens"),
    "tokens first": ("r = Reshape(x, s) t = Transpose<perm = [2, 0, 1]>(r) map = Relu(t)", (0, 3, 48), None, "tokens"),
    "channels first": ("r = Reshape(x, s) map = Relu(r)", (-1, 3, 48), None, "tokens"),
    "windows": (
        """t = Transpose<perm = [0, 2, 3, 1]>(x) r = Reshape(t, s) p = Transpose<perm = [0, 1, 3, 2, 4, 5]>(r)
           w = Reshape(p, z) map = Relu(w)""",
        (-1, 2, 3, 4, 2, 3), (-1, 6, 3), "windows",
    ),
    "a grid across windows": (
        "r = Reshape(x, s) p = Transpose<perm = [0, 3, 5, 2, 4, 1]>(r) w = Reshape(p, z) map = Relu(w)",
        (-1, 3, 2, 3, 4, 2), (-1, 6, 8, 3), "windows",
    ),
    "windows in one row": (
        "r = Reshape(x, s) p = Transpose<perm = [0, 2, 4, 3, 5, 1]>(r) w = Reshape(p, z) map = Relu(w)",
        (-1, 3, 2, 3, 4, 2), (0, 48, 3), "windows",
    ),
    "blocks by Gather": (
        """g = Gather<axis = 2>(x, rows) h = Gather<axis = 4>(g, columns) p = Transpose<perm = [0, 1, 2, 4, 3, 5]>(h)
           r = Reshape(p, s) t = Transpose<perm = [0, 2, 3, 1]>(r) map = Relu(t)""",
        (0, 3, 4, -1), None, "windows",
    ),
    "width before height": ("t = Transpose<perm = [0, 3, 2, 1]>(x) map = Relu(t)", None, None, "NHWC"),
    "a token before": (f"{TOKENS} c = Concat<axis = 1>(one, t) map = Relu(c)", (2, 3, 48), None, "tokens"),
    "tokens on both sides": (
        f"{TOKENS} a = Concat<axis = 1>(one, two, t) b = Concat<axis = 1>(a, one) map = Relu(b)",
        (2, 3, 48), None, "tokens",
    ),
    "a token cut off again": (
        f"{TOKENS} c = Concat<axis = 1>(one, t) e = Relu(c) u, v = Split<axis = 1>(e, parts) map = Mul(v, v)",
        (2, 3, 48), None, "tokens",
    ),
    "a token left out": (
        f"{TOKENS} c = Concat<axis = 1>(one, t) e = Relu(c) v = Gather<axis = 1>(e, later) map = Mul(v, v)",
        (2, 3, 48), None, "tokens",
    ),
    "rolled and back": (
        """a = Slice(x, b2, end, ax) b = Slice(x, b0, b2, ax) c = Concat<axis = 2>(a, b) d = Relu(c)
           e = Slice(d, b4, end, ax) f = Slice(d, b0, b4, ax) g = Concat<axis = 2>(e, f) map = Mul(g, g)""",
        None, None, "NCHW",
    ),
}  # fmt: skip
SQUARED = ("a token cut off again", "a token left out", "rolled and back")
OTHERS = {"a token before": (1, 0), "tokens on both sides": (3, 1)}


def graph(text: str, batch: object = "N", **weights: np.ndarray | None) -> onnx.ModelProto:
    """A graph from x to `map` that goes on in a way which uses every place."""
    count = 1 if batch == 1 else 2
    weights |= {
        "one": np.full((count, 1, 3), -1.0), "two": np.full((count, 2, 3), 9.0), "parts": np.int64([1, 48]),
        "later": np.arange(1, 49),
        "b0": np.int64([0]), "b2": np.int64([2]), "b4": np.int64([4]), "end": np.int64([2**62]), "ax": np.int64([2]),
        "rows": np.arange(2)[:, None] + 2 * np.arange(3), "columns": np.arange(2)[:, None] + 2 * np.arange(4),
    }  # fmt: skip
    whole = f"net (float[{batch}, 3, 6, 8] x) => (float[A, B] y) {{ {text} flat = Flatten(map) y = Tanh(flat) }}"
    return model(whole, **{k: v for k, v in weights.items() if v is not None and (f"{k})" in text or f"{k}," in text)})


def value(proto: onnx.ModelProto, name: str, x: np.ndarray) -> np.ndarray:
    """What a tensor inside the model holds."""
    shown = onnx.ModelProto()
    shown.CopyFrom(proto)
    shown.graph.output.append(onnx.ValueInfoProto(name=name))
    return run(shown, {"x": x}, [name])[name]


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("kind", MOVES)
def test_what_the_graph_moved_comes_back_as_the_picture(kind, count):
    text, s, z, layout = MOVES[kind]
    fixed = count == 1 or ("token" in kind and "row" not in kind and "first" not in kind)
    s = (count, *s[1:]) if s and s[0] == 2 else s
    shapes = {name: None if shape is None else np.int64(shape) for name, shape in (("s", s), ("z", z))}
    proto = graph(text, count if fixed else "N", **shapes)
    x = image(count, (3, 6, 8))
    layer = onnxcam.inspect(proto).layer("map")
    assert (layer.grid, layer.layout) == ((6, 8), layout)
    assert (layer.prefix, layer.fold.suffix if layer.fold else 0) == OTHERS.get(kind, (0, 0))
    found = spatial(value(proto, "map", x), layer)
    expected = np.maximum(x, 0) ** (2 if kind in SQUARED else 1)
    np.testing.assert_array_equal(found, expected)


def test_a_map_that_is_rolled_is_none():
    text, *_ = MOVES["rolled and back"]
    assert "d" not in names(onnxcam.inspect(graph(text)).layers)


def test_patches_are_places_and_what_is_in_them_is_channels():
    text = """r = Reshape(x, s) t = Transpose<perm = [0, 2, 4, 3, 5, 1]>(r) p = Reshape(t, z) q = Relu(p)
              m = MatMul(q, pick) map = Relu(m)"""
    pick = np.eye(12)[:, 3:6]  # what stands in the upper right of each patch
    proto = graph(text, s=np.int64([-1, 3, 3, 2, 4, 2]), z=np.int64([-1, 12, 12]), pick=pick)
    x, found = image(2, (3, 6, 8)), onnxcam.inspect(proto)
    np.testing.assert_array_equal(
        spatial(value(proto, "map", x), found.layer("map")), np.maximum(x[:, :, ::2, 1::2], 0)
    )
    patches = spatial(value(proto, "q", x), found.layer("q"))
    np.testing.assert_array_equal(patches[:, 3:6], np.maximum(x[:, :, ::2, 1::2], 0))


def shuffled(rng: np.random.Generator, count: int) -> onnx.ModelProto:
    """Axes of x (count, 3, 6, 8) split, turned and merged at random."""
    sizes, text, at, weights = [count, 3, 6, 8], "", "x", {}
    for step in range(6):
        kind, a = rng.choice(["split", "turn", "merge"]), int(rng.integers(len(sizes)))
        if kind == "split" and sizes[a] % 2 == 0 and sizes[a] > 2:
            sizes[a : a + 1] = [sizes[a] // 2, 2] if rng.random() < 0.5 else [2, sizes[a] // 2]
        elif kind == "merge" and a + 1 < len(sizes) > 3:
            sizes[a : a + 2] = [sizes[a] * sizes[a + 1]]
        else:
            perm = [int(p) for p in rng.permutation(len(sizes))]
            sizes = [sizes[p] for p in perm]
            text += f" v{step} = Transpose<perm = {perm}>({at})"
            at = f"v{step}"
            continue
        weights[f"w{step}"] = np.int64(sizes)
        text += f" v{step} = Reshape({at}, w{step})"
        at = f"v{step}"
    return graph(f"{text} map = Relu({at})", count, **weights)


@pytest.mark.parametrize(("count", "least"), [(1, 32), (2, 10)])
def test_any_order_of_reshapes_and_transposes_comes_back(count, least):
    """Every value says where it is from: one step along the grid is one and the same step in the picture."""
    n, c, h, w = np.indices((count, 3, 6, 8))
    codes = (1 + w + 10 * h + 100 * c + 1000 * n).astype(np.float32)
    rng = np.random.default_rng(0)
    whole = 0
    for _ in range(60):
        proto = shuffled(rng, count)
        for layer in onnxcam.inspect(proto).layers:
            if layer.note:
                continue  # a guess, and said to be one
            found = spatial(value(proto, "map", codes), layer)
            assert (found // 1000 == np.arange(count)[:, None, None, None]).all()
            for axis, step in ((2, 10), (3, 1)):
                steps = np.diff(found, axis=axis)
                assert (steps == steps.flat[0]).all() if steps.size else True
                assert not steps.size or (steps.flat[0] > 0 and steps.flat[0] % step == 0)
            if layer.grid == (6, 8):
                np.testing.assert_array_equal(found, codes)
                whole += 1
    assert whole > least


def test_values_of_a_graph_are_folded_like_arrays():
    """The same function writes the nodes of an in-graph heat map: what they compute is what numpy computes."""
    text = f"{TOKENS} c = Concat<axis = 1>(one, t) map = Relu(c)"
    proto = graph(text, 2, s=np.int64([2, 3, 48]))
    extended = onnxcam.convert(proto, layers="map", method="gradcam", emit=("heatmap", "activation", "gradient"))
    x = image(2, (3, 6, 8))
    outputs = run(extended, {"x": x})
    layer = onnxcam.inspect(proto).layer("map")
    a, g = (spatial(outputs[f"cam/{what}/map"], layer) for what in ("activation", "gradient"))
    raw = np.maximum((g.mean((2, 3), keepdims=True) * a).sum(1), 0)
    low, high = raw.min((1, 2), keepdims=True), raw.max((1, 2), keepdims=True)
    np.testing.assert_allclose(outputs["cam/heatmap"], (raw - low) / (high - low), atol=1e-5)


def test_a_sequence_of_unknown_length_is_a_square_or_an_error():
    proto = model(
        """net (float[N, 3, H, W] x) => (float[N, 2] y) {
             c = Conv<kernel_shape = [2, 2], strides = [2, 2]>(x, W0) r = Reshape(c, s)
             t = Transpose<perm = [0, 2, 1]>(r)
             map = Relu(t) m = ReduceMean<axes = [1], keepdims = 0>(map) y = MatMul(m, W1)
           }""",
        W0=np.ones((4, 3, 2, 2)), W1=np.ones((4, 2)), s=np.int64([0, 4, -1]),
    )  # fmt: skip
    (layer, *_) = onnxcam.inspect(proto).layers
    assert (layer.name, layer.layout) == ("map", "tokens")
    for size in (6, 8):
        x = image(2, (3, size, size))
        sums = x.reshape(2, 3, size // 2, 2, size // 2, 2).sum((1, 3, 5))
        expected = np.maximum(sums, 0)[:, None].repeat(4, 1)
        np.testing.assert_allclose(spatial(value(proto, "map", x), layer), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="12 places in a row"):
        spatial(value(proto, "map", image(2, (3, 6, 8))), layer)
    assert spatial(value(proto, "map", image(2, (3, 6, 8))), layer, (6, 8)).shape == (2, 4, 3, 4)
    assert onnxcam.Explainer(proto)(image(2, (3, 6, 8))).raw["map"].shape == (2, 3, 4)


def test_layers_say_where_other_tokens_come_from():
    text = f"{TOKENS} a = Concat<axis = 1>(one, two, t) map = Relu(a)"
    layer: Layer = onnxcam.inspect(graph(text, 2, s=np.int64([2, 3, 48]))).layer("map")
    assert layer.why.startswith("the last feature map before the score, 6×8 places")
    assert "3 before them by Concat 'a'" in layer.why
    assert layer.why.endswith("on all ways to the score")


# ----- what nothing tells -----
def behind_a_branch(count: int, size: tuple[int, int]) -> onnx.ModelProto:
    """Tokens out of an If, which nothing is followed through, then a norm over them and their mean."""
    turn = "r{0} = Reshape(c, s) t{0} = Transpose<perm = [0, 2, 1]>(r{0})"
    branch = "then_branch = yes () => (t{0}) {{ " + turn + " }}"
    branches = f"{branch.format(0)}, {branch.format(1).replace('then_branch = yes', 'else_branch = no')}"
    text = f"""net (float[2, 3, {size[0]}, {size[1]}] x) => (float[2, 2] y) {{
      c = Conv<kernel_shape = [2, 2], strides = [2, 2]>(x, W0) t = If<{branches}>(is) d = Reshape(t, shape)
      map = LayerNormalization(d, g) m = ReduceMean<axes = [1], keepdims = 0>(map) y = MatMul(m, W1)
    }}"""
    rng = np.random.default_rng(1)
    return model(
        text, W0=rng.normal(size=(4, 3, 2, 2)), s=np.int64([0, 4, -1]), shape=np.int64([2, count, 4]), g=np.ones(4),
        W1=rng.normal(size=(4, 2)), **{"is": np.array(True)},
    )  # fmt: skip


def test_a_square_number_of_tokens_is_a_square_and_the_guess_is_said():
    first, *_ = onnxcam.inspect(behind_a_branch(16, (8, 8))).layers
    assert (first.name, first.grid, first.layout, first.prefix) == ("map", (4, 4), "tokens", 0)
    assert first.note == "the grid of its 16 tokens is a guess, for nothing in the graph tells it"


def test_another_number_has_the_proportions_of_the_picture_or_is_an_error():
    proto = behind_a_branch(12, (6, 8))
    first, *_ = onnxcam.inspect(proto).layers
    assert (first.name, first.grid) == ("map", ("?", "?"))
    assert first.note.startswith("its grid is open")
    x = image(2, (3, 6, 8))
    found = spatial(value(proto, "map", x), first, (6, 8))
    assert found.shape == (2, 4, 3, 4)
    np.testing.assert_array_equal(found.reshape(2, 4, 12), value(proto, "map", x).transpose(0, 2, 1))
    with pytest.raises(InputError, match=r"12 places in a row, and no grid of them fits a square: 1×12, 2×6, 3×4"):
        spatial(value(proto, "map", x), first)
    with pytest.raises(InputError, match=r"no grid of them fits a picture of 8×80: 1×12, 2×6, 3×4, 4×3, 6×2, 12×1\."):
        spatial(value(proto, "map", x), first, (8, 80))


def test_what_a_branch_hides_is_learned_by_a_run():
    """Out of branches of different ranks nothing is inferred; a run tells what it is."""
    proto = model(
        """net (float[N, 3, 8, 8] x) => (float[N, 2] y) {
             c = Conv<kernel_shape = [2, 2], strides = [2, 2]>(x, W0) top = ReduceMax<keepdims = 0>(x)
             is = Less(top, large)
             t = If<then_branch = yes () => (a) { r = Reshape(c, s) a = Transpose<perm = [0, 2, 1]>(r) },
                    else_branch = no () => (b) { b = Identity(c) }>(is)
             map = LayerNormalization(t, g) m = ReduceMean<axes = [1], keepdims = 0>(map) y = MatMul(m, W1)
           }""",
        W0=np.ones((4, 3, 2, 2)), s=np.int64([0, 4, -1]), g=np.ones(4), W1=np.ones((4, 2)), large=np.array(99.0),
    )  # fmt: skip
    assert names(onnxcam.inspection.inspect(proto).layers) == ["c"]
    found = onnxcam.inspect(proto).layers
    assert [(x.name, x.shape, x.grid) for x in found] == [("map", ("N", 16, 4), (4, 4)), ("c", ("N", 4, 4, 4), (4, 4))]
    assert found[0].note
