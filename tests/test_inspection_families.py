"""The layer that is chosen without being asked for, in each family of networks, as exporters write them.

What an expert takes is a name in the graph; that it can explain anything is measured: its gradient is not zero anywhere
on the grid, and where `inspect` says that places do not all reach the score, it is zero everywhere.
"""

import numpy as np
import onnx
import pytest

import onnxcam
from onnxcam.layout import spatial
from tests.builders import model, names, run

K, GRID, PATCHES = 8, (4, 4), 16
rng = np.random.default_rng(5)
WEIGHTS = {
    "Wp": rng.normal(size=(K, 3, 4, 4)), "cls": rng.normal(size=(1, 1, K)), "reg": rng.normal(size=(1, 4, K)),
    "g": np.ones(K), "b": np.zeros(K), "Wqkv": rng.normal(size=(K, 3 * K)), "Wk": rng.normal(size=(K, K)),
    "bq": rng.normal(size=3 * K), "Wo": rng.normal(size=(K, K)), "W1": rng.normal(size=(K, 2 * K)),
    "W2": rng.normal(size=(2 * K, K)), "H": rng.normal(size=(K, 3)), "H2": rng.normal(size=(K, 3)),
    "i0": np.int64(0), "i1": np.int64(1), "i2": np.int64(2), "back": np.int64(-1),
    "v0": np.int64([0]), "v1": np.int64([1]),
    "v4": np.int64([4]), "v5": np.int64([5]), "end": np.int64([2**62]), "half": np.float64(0.5),
    "rest": np.int64([-1, -1]), "minus": np.int64([-1, -1, -1]), "ones": np.int64([1, 1, 1]),
    "space": np.int64([0, K, -1]),
}  # fmt: skip


def net(
    text: str, x: str = "float[N, 3, 16, 16] x", out: str = "float[N, 3] y", opset: int = 17, **more: np.ndarray
) -> onnx.ModelProto:
    weights = {k: v for k, v in {**WEIGHTS, **more}.items() if f"({k}" in text or f" {k}," in text or f" {k})" in text}
    return model(f"net ({x}) => ({out}) {{ {text} }}", opset=opset, **weights)


PATCH = """e = Conv<kernel_shape = [4, 4], strides = [4, 4]>(x, Wp) e1 = Reshape(e, space)
  e2 = Transpose<perm = [0, 2, 1]>(e1)"""
# torch's x.expand(batch, -1, -1) of the class token, as TorchScript writes it.
BATCH = """shape = Shape(e2) first = Gather<axis = 0>(shape, i0) batch = Unsqueeze(first, v0)
  want = Concat<axis = 0>(batch, rest)
  open = Equal(want, minus) size = Where(open, ones, want)"""


def block(i: int, tokens: int, before: str, after: str) -> str:
    """A transformer block of two heads, from `before` to `after`, with attention written out."""
    return f"""n{i} = LayerNormalization({before}, g, b) w{i} = MatMul(n{i}, Wqkv) z{i} = Add(bq, w{i})
      r{i} = Reshape(z{i}, heads{tokens}) p{i} = Transpose<perm = [2, 0, 3, 1, 4]>(r{i})
      q{i} = Gather<axis = 0>(p{i}, i0) k{i} = Gather<axis = 0>(p{i}, i1) val{i} = Gather<axis = 0>(p{i}, i2)
      u{i} = Transpose<perm = [0, 1, 3, 2]>(k{i}) s{i} = MatMul(q{i}, u{i}) h{i} = Mul(s{i}, half) a{i} = Softmax(h{i})
      o{i} = MatMul(a{i}, val{i}) ot{i} = Transpose<perm = [0, 2, 1, 3]>(o{i}) oc{i} = Reshape(ot{i}, joined{tokens})
      pr{i} = MatMul(oc{i}, Wo) x{i} = Add({before}, pr{i}) m{i} = LayerNormalization(x{i}, g, b)
      f{i} = MatMul(m{i}, W1) act{i} = Relu(f{i}) l{i} = MatMul(act{i}, W2) {after} = Add(x{i}, l{i})"""


def vit(start: str, head: str, tokens: int) -> onnx.ModelProto:
    shapes = {f"heads{tokens}": np.int64([0, tokens, 3, 2, 4]), f"joined{tokens}": np.int64([0, tokens, K])}
    position = rng.normal(size=(1, tokens, K))
    text = f"{PATCH} {start} {block(0, tokens, 't', 't1')} {block(1, tokens, 't1', 't2')} {head}"
    return net(text, pos=position, **shapes)


ONE = f"{BATCH} one = Expand(cls, size)"
CLASS = f"{ONE} all = Concat<axis = 1>(one, e2) t = Add(all, pos)"
REGISTERS = (
    f"{BATCH} one = Expand(cls, size) reg4 = Expand(reg, size) all = Concat<axis = 1>(one, reg4, e2) t = Add(all, pos)"
)
AFTER = f"{ONE} all = Concat<axis = 1>(e2, one) t = Add(all, pos)"
DISTILLED = (
    f"{BATCH} one = Expand(cls, size) two = Expand(cls, size) all = Concat<axis = 1>(one, two, e2) t = Add(all, pos)"
)
NORM = "last = LayerNormalization(t2, g, b)"
TRANSFORMERS = {
    "class token": (CLASS, f"{NORM} c = Gather<axis = 1>(last, i0) y = MatMul(c, H)", 17, "n1", (1, 0)),
    "class token by Slice": (
        CLASS, f"{NORM} s = Slice(last, v0, v1, v1) c = Squeeze(s, v1) y = MatMul(c, H)", 17, "n1", (1, 0),
    ),
    "class token taken before the norm": (
        CLASS, "c0 = Gather<axis = 1>(t2, i0) c = LayerNormalization(c0, g, b) y = MatMul(c, H)", 17, "n1", (1, 0),
    ),
    "registers": (REGISTERS, f"{NORM} c = Gather<axis = 1>(last, i0) y = MatMul(c, H)", 21, "n1", (5, 0)),
    "class token behind": (AFTER, f"{NORM} c = Gather<axis = 1>(last, back) y = MatMul(c, H)", 17, "n1", (0, 1)),
    "distillation token": (
        DISTILLED,
        f"""{NORM} c = Gather<axis = 1>(last, i0) d = Gather<axis = 1>(last, i1) y1 = MatMul(c, H) y2 = MatMul(d, H2)
            y3 = Add(y1, y2) y = Mul(y3, half)""",
        18, "n1", (2, 0),
    ),
    "mean of all tokens": (
        CLASS, f"{NORM} c = ReduceMean<axes = [1], keepdims = 0>(last) y = MatMul(c, H)", 17, "last", (1, 0),
    ),
    "mean of the patches": (
        CLASS, f"{NORM} s = Slice(last, v1, end, v1) c = ReduceMean<axes = [1], keepdims = 0>(s) y = MatMul(c, H)",
        17, "last", (1, 0),
    ),
    "no class token": (
        "t = Add(e2, pos)", f"{NORM} c = ReduceMean<axes = [1], keepdims = 0>(last) y = MatMul(c, H)",
        16, "last", (0, 0),
    ),
    "mean, then norm": (
        "t = Add(e2, pos)",
        "c0 = ReduceMean<axes = [1], keepdims = 0>(t2) c = LayerNormalization(c0, g, b) y = MatMul(c, H)",
        16, "t2", (0, 0),
    ),
}  # fmt: skip


def gradients(proto: onnx.ModelProto, layers: list[str], **feeds: np.ndarray) -> dict[str, np.ndarray]:
    """Of the top score with respect to each layer, (N, K, *space)."""
    found = onnxcam.inspect(proto)
    outputs = run(onnxcam.convert(proto, layers=layers, emit=["gradient"]), feeds)
    return {n: spatial(outputs[f"cam/gradient/{n}"], found.layer(n)) for n in layers}


def picture(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_transformers(kind):
    start, head, tokens, expected, (before, after) = TRANSFORMERS[kind]
    proto = vit(start, head, tokens)
    found = onnxcam.inspect(proto).layers
    first = found[0]
    assert (first.name, first.layout, first.grid, first.prefix) == (expected, "tokens", GRID, before)
    assert first.fold.suffix == after
    assert not {"t", "all", "z1", "w1", "r1", "a1", "q1"} & set(names(found)), "moved, or only a query, key or value"
    deaf = [x.name for x in found if not x.heard]
    assert ("t2" in deaf) == (expected == "n1")
    measured = gradients(proto, names(found), x=picture(2, 3, 16, 16))
    for layer in found:
        live = np.abs(measured[layer.name]).max((0, 1)) > 0
        assert live.all() if layer.name not in deaf else not live.any(), layer.name


BEST = "s = Slice(last, v1, end, v1) aux = MatMul(s, H2) best = ReduceMax<axes = [1], keepdims = 0>(aux)"


def test_the_best_patch_beside_a_class_token():
    head = f"{NORM} c = Gather<axis = 1>(last, i0) y1 = MatMul(c, H) {BEST} y2 = Mul(best, half) y = Add(y1, y2)"
    proto = vit(CLASS, head, 17)
    found = onnxcam.inspect(proto).layers
    assert found[0].name == "n1"
    assert "aux" not in names(found)
    assert "last" in [x.name for x in found if not x.heard], "only the best patch has a gradient there"
    live = np.abs(gradients(proto, ["n1"], x=picture(2, 3, 16, 16))["n1"]).max((0, 1)) > 0
    assert live.all()


WIDE = """c = Conv<pads = [1, 1, 1, 1]>(x, W) early = Relu(c) d = Conv<pads = [1, 1, 1, 1]>(early, V) late = Relu(d)
  g = GlobalMaxPool(late) f = Flatten(g) a = GlobalAveragePool(early) e = Flatten(a) k = Concat<axis = 1>(f, e)
  y = MatMul(k, H)"""


@pytest.mark.parametrize("channels", [4, 5])
def test_a_maximum_of_as_many_features_as_there_are_classes_is_none_of_classes(channels):
    rng = np.random.default_rng(0)
    proto = model(
        f"net (float[N, 3, 8, 8] x) => (float[N, 4] y) {{ {WIDE} }}", W=rng.normal(size=(channels, 3, 3, 3)),
        V=rng.normal(size=(channels, channels, 3, 3)), H=rng.normal(size=(2 * channels, 4)),
    )  # fmt: skip
    assert [(x.name, x.heard) for x in onnxcam.inspect(proto).layers] == [("early", True), ("late", True)]


def test_a_maximum_of_features_beside_numbers_of_an_open_number_of_classes():
    text = """net (float[N, 3, 8, 8] x, float[N, 7] z) => (float[N, K] y) { c = Conv(x, W) late = Relu(c)
      g = ReduceMax<axes = [2, 3], keepdims = 0>(late) k = Concat<axis = 1>(g, z) y = MatMul(k, H) }"""
    proto = model(text, W=np.ones((4, 3, 3, 3)), H=np.ones((11, 4)))
    assert [(x.name, x.heard) for x in onnxcam.inspect(proto).layers] == [("late", True)]


def test_the_best_patch_alone():
    proto = vit("t = Add(e2, pos)", f"{NORM} aux = MatMul(last, H2) y = ReduceMax<axes = [1], keepdims = 0>(aux)", 16)
    assert onnxcam.inspect(proto).layers[0].name == "aux"


# ----- attention as one operator -----
QKV = "n = LayerNormalization(t, g, b) q = MatMul(n, Wk) k = MatMul(n, Wk) v = MatMul(n, Wk)"
FUSED = {
    "ai.onnx Attention": "o = Attention<q_num_heads = 2, kv_num_heads = 2>(q, k, v)",
    "MultiHeadAttention": "o = com.microsoft.MultiHeadAttention<num_heads = 2>(q, k, v)",
}


@pytest.mark.parametrize("kind", FUSED)
def test_attention_that_is_one_operator(kind):
    """With a class token the layer is what goes into the last attention, whatever attention is written as."""
    text = f"""{PATCH} {BATCH} one = Expand(cls, size) t = Concat<axis = 1>(one, e2) {QKV} {FUSED[kind]}
      x1 = Add(t, o) c = Gather<axis = 1>(x1, i0) y = MatMul(c, H)"""
    proto = net(text, opset=23 if kind.startswith("ai") else 17)
    proto.opset_import.add(domain="com.microsoft", version=1)
    found = onnxcam.inspect(proto).layers
    assert (found[0].name, found[0].prefix, found[0].grid) == ("n", 1, GRID)
    assert not {"q", "k", "v"} & set(names(found))


@pytest.mark.parametrize("batch", ["N", 1])
def test_shifted_windows(batch):
    """Swin: roll, 2×2 windows, attention within them, windows back, roll back, patch merging; the mean at the end."""
    text = """e = Conv<kernel_shape = [4, 4], strides = [4, 4]>(x, Wp) t = Transpose<perm = [0, 2, 3, 1]>(e)
      n1 = LayerNormalization(t, g, b)
      a0 = Slice(n1, v1, end, v1) a1 = Slice(n1, v0, v1, v1) a2 = Concat<axis = 1>(a0, a1)
      a3 = Slice(a2, v1, end, v2) a4 = Slice(a2, v0, v1, v2) a5 = Concat<axis = 2>(a3, a4)
      w0 = Reshape(a5, cut) w1 = Transpose<perm = [0, 1, 3, 2, 4, 5]>(w0) w2 = Reshape(w1, win)
      q = MatMul(w2, Wk) k = MatMul(w2, Wo) u = Transpose<perm = [0, 2, 1]>(k) s = MatMul(q, u) p = Softmax(s)
      o = MatMul(p, q) pr = MatMul(o, Wo)
      r0 = Reshape(pr, cut1) r1 = Transpose<perm = [0, 1, 3, 2, 4, 5]>(r0) r2 = Reshape(r1, whole)
      b0 = Slice(r2, v3, end, v1) b1 = Slice(r2, v0, v3, v1) b2 = Concat<axis = 1>(b0, b1)
      b3 = Slice(b2, v3, end, v2) b4 = Slice(b2, v0, v3, v2) b5 = Concat<axis = 2>(b3, b4) x1 = Add(t, b5)
      m0 = Slice(x1, v00, ends, v12, v22) m1 = Slice(x1, v10, ends, v12, v22) m2 = Slice(x1, v01, ends, v12, v22)
      m3 = Slice(x1, v11, ends, v12, v22) m = Concat<axis = 3>(m0, m1, m2, m3) d = MatMul(m, W4)
      last = LayerNormalization(d, g, b) c = ReduceMean<axes = [1, 2], keepdims = 0>(last) y = MatMul(c, H)"""
    more = {
        "v2": np.int64([2]), "v3": np.int64([3]), "cut": np.int64([-1, 2, 2, 2, 2, K]), "win": np.int64([-1, 4, K]),
        "cut1": np.int64([-1, 2, 2, 2, 2, K]), "whole": np.int64([-1, 4, 4, K]), "v00": np.int64([0, 0]),
        "v10": np.int64([1, 0]), "v01": np.int64([0, 1]), "v11": np.int64([1, 1]), "v12": np.int64([1, 2]),
        "v22": np.int64([2, 2]), "ends": np.int64([99, 99]), "W4": rng.normal(size=(4 * K, K)),
    }  # fmt: skip
    proto = net(text, f"float[{batch}, 3, 16, 16] x", **more)
    found = onnxcam.inspect(proto)
    seen = [found.layers[0], found.layer("x1")]
    assert [(x.name, x.layout, x.grid) for x in seen] == [("last", "NHWC", (2, 2)), ("x1", "NHWC", (4, 4))]
    assert not {"a2", "a5", "w2", "q", "pr"} & set(names(found.layers)), "rolled, moved, or within attention"
    assert (np.abs(gradients(proto, ["last", "x1"], x=picture(1, 3, 16, 16))["x1"]).max((0, 1)) > 0).all()


# ----- where the picture ends -----
POOLED = {
    "global pool": ("map = Relu(e) p = GlobalAveragePool(map) c = Flatten(p) y = MatMul(c, H)", "map"),
    "mean over space": ("map = Relu(e) c = ReduceMean<axes = [2, 3], keepdims = 0>(map) y = MatMul(c, H)", "map"),
    "product with weights": (
        "map = Relu(e) r = Reshape(map, space) c0 = MatMul(r, even) c = Squeeze(c0, v2) y = MatMul(c, H)", "map",
    ),
    "strided convolution": (
        "map = Relu(e) p = Conv<kernel_shape = [4, 4]>(map, Wl) c = Flatten(p) y = MatMul(c, H)", "map",
    ),
    "all places, flattened": ("map = Relu(e) c = Flatten(map) y = MatMul(c, Hall)", "map"),
    "attention pool": (
        """map = Relu(e) l = Conv<kernel_shape = [1, 1]>(map, Wa) r = Reshape(map, space) l1 = Reshape(l, flat)
           a = Softmax<axis = 2>(l1) at = Transpose<perm = [0, 2, 1]>(a) c0 = MatMul(r, at) c = Squeeze(c0, v2)
           y = MatMul(c, H)""",
        "map",
    ),
    "squeeze and excite": (
        """d = Relu(e) p0 = GlobalAveragePool(d) s = Conv(p0, Ws) a = Sigmoid(s) map = Mul(d, a)
           p = GlobalAveragePool(map) c = Flatten(p) y = MatMul(c, H)""",
        "map",
    ),
    "two branches, joined": (
        """d = Relu(e) f = Conv(d, Ws) h = Relu(f) map = Concat<axis = 1>(d, h) p = GlobalAveragePool(map)
           c = Flatten(p) y = MatMul(c, H16)""",
        "map",
    ),
    "branches, pooled apart": (
        """map = Relu(e) f = Conv(map, Ws) h = Relu(f) k = Conv(map, Ws) l = Relu(k) p = GlobalAveragePool(h)
           q = GlobalAveragePool(l) j = Concat<axis = 1>(p, q) c = Flatten(j) y = MatMul(c, H16)""",
        "map",
    ),
    "mixer": (
        """r = Reshape(e, space) t = Transpose<perm = [0, 2, 1]>(r) n = LayerNormalization(t, g, b)
           u = Transpose<perm = [0, 2, 1]>(n) f = MatMul(u, Wt1) h = Relu(f) k = MatMul(h, Wt2)
           w = Transpose<perm = [0, 2, 1]>(k) s = Add(t, w) map = LayerNormalization(s, g, b)
           c = ReduceMean<axes = [1], keepdims = 0>(map) y = MatMul(c, H)""",
        "map",
    ),
}  # fmt: skip
MORE = {
    "even": np.full((16, 1), 1 / 16), "v2": np.int64([2]), "flat": np.int64([0, 1, -1]),
    "Wa": rng.normal(size=(1, K, 1, 1)),
    "Wl": rng.normal(size=(K, K, 4, 4)), "Hall": rng.normal(size=(K * 16, 3)), "Ws": rng.normal(size=(K, K, 1, 1)),
    "H16": rng.normal(size=(2 * K, 3)), "Wt1": rng.normal(size=(16, 5)), "Wt2": rng.normal(size=(5, 16)),
}  # fmt: skip


@pytest.mark.parametrize("kind", POOLED)
def test_the_layer_before_the_places_are_given_up(kind):
    text, expected = POOLED[kind]
    proto = net(f"e = Conv<kernel_shape = [4, 4], strides = [4, 4]>(x, Wp) {text}", **MORE)
    first = onnxcam.inspect(proto).layers[0]
    assert (first.name, first.grid) == (expected, GRID)
    assert first.why.endswith("on all ways to the score")
    assert (np.abs(gradients(proto, [expected], x=picture(1, 3, 16, 16))[expected]).max((0, 1)) > 0).any()


@pytest.mark.parametrize(("shape", "kernel"), [((2, 3, 16), (4,)), ((2, 3, 8, 16, 12), (4, 4, 4))])
def test_signals_and_volumes(shape, kernel):
    """Tokens of a signal, or of a video, with a class token before them."""
    grid = tuple(d // 4 for d in shape[2:])
    text = f"""e = Conv<kernel_shape = {list(kernel)}, strides = {list(kernel)}>(x, Wv) e1 = Reshape(e, space)
      e2 = Transpose<perm = [0, 2, 1]>(e1) one = Expand(cls, pair) t = Concat<axis = 1>(one, e2)
      map = LayerNormalization(t, g, b) f = MatMul(map, Wk) c = ReduceMean<axes = [1], keepdims = 0>(f)
      y = MatMul(c, H)"""
    weights = rng.normal(size=(K, 3, *kernel))
    proto = net(text, f"float{list(shape)} x", "float[2, 3] y", Wv=weights, pair=np.int64([2, 1, K]))
    layer = onnxcam.inspect(proto).layer("map")
    assert (layer.grid, layer.prefix) == (grid, 1)
    assert onnxcam.Explainer(proto, layers="map")(picture(*shape)).maps.shape == (2, *shape[2:])


def test_two_pictures():
    """Each feature map knows its picture; where the ways join after pooling, the last one is as good as any."""
    side = (
        "{0} = Conv<kernel_shape = [4, 4], strides = [4, 4]>(x{0}, Wp) m{0} = Relu({0}) p{0} = GlobalAveragePool(m{0})"
    )
    text = f"{side.format('a')} {side.format('b')} s = Sub(pa, pb) c = Flatten(s) y = MatMul(c, H)"
    found = onnxcam.inspect(net(text, "float[N, 3, 16, 16] xa, float[N, 3, 16, 16] xb"))
    assert names(found.layers)[:1] == ["mb"]
    assert (found.sees(found.layer("mb")).name, found.sees(found.layer("ma")).name) == ("xb", "xa")
    assert found.layers[0].why.endswith("on 50% of the ways to the score")


def test_regions_are_no_places_of_the_picture():
    text = """map = Conv<kernel_shape = [4, 4], strides = [4, 4]>(x, Wp)
      r = RoiAlign<output_height = 2, output_width = 2>(map, boxes, of) a = Relu(r)
      p = GlobalAveragePool(a) c = Flatten(p) y = MatMul(c, H)"""
    found = onnxcam.inspect(net(text, boxes=np.array([[0.0, 0, 3, 3]]), of=np.int64([0])))
    assert names(found.layers) == ["map"]


def test_what_a_segmenter_says_is_no_reason_for_it():
    """The class maps that are only enlarged and added up are what is explained: the layer is before them."""
    text = """e = Conv<kernel_shape = [4, 4], strides = [4, 4]>(x, Wp) map = Relu(e) l = Conv(map, Wc) h = Conv(map, Wc)
      s = Add(l, h) y = Resize<mode = "linear">(s, none, factor)"""
    more = {"Wc": rng.normal(size=(5, K, 1, 1)), "none": np.zeros(0, np.float32), "factor": np.float32([1, 1, 4, 4])}
    found = onnxcam.inspect(net(text, out="float[N, 5, 16, 16] y", **more))
    assert names(found.layers) == ["map"]


@pytest.mark.parametrize("batch", ["N", 1])
def test_groups_that_are_normalised_and_put_back(batch):
    text = """e = Conv<kernel_shape = [4, 4], strides = [4, 4]>(x, Wp) r = Reshape(e, group)
      i = InstanceNormalization(r, one1, zero1) m = Reshape(i, whole) map = Relu(m)
      p = GlobalAveragePool(map) c = Flatten(p) y = MatMul(c, H)"""
    more = {"group": np.int64([0, 1, -1]), "one1": np.ones(1), "zero1": np.zeros(1), "whole": np.int64([-1, K, 4, 4])}
    found = onnxcam.inspect(net(text, f"float[{batch}, 3, 16, 16] x", **more))
    assert [(x.name, x.layout, x.grid) for x in found.layers[:1]] == [("map", "NCHW", (4, 4))]
