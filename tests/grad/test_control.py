"""If, Loop and Scan against central differences in float64: which branch, how often, from which end, from where."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import onnxcam
from onnxcam.errors import UnsupportedGradient
from onnxcam.grad.forward import Forward
from tests.builders import assert_extends, model, run

RNG = np.random.default_rng(5)
W = RNG.normal(size=(3, 3)) / 2
X = np.float32([[0.5, -1.25, 2.0], [-0.75, 1.5, 0.3]])
Y = np.float32([[1.5, 0.2, -0.4], [0.7, -0.6, 1.1]])


def assert_gradients(
    text: str, feeds: dict, wrt: list[str], of: str = "y", opset: int = 17, **weights: np.ndarray
) -> dict[str, np.ndarray]:
    """⟨vjp(u), v⟩ in float32 is the difference of ⟨u, f⟩ along v in float64, for each name."""
    rng = np.random.default_rng(3)
    proto = model(text, opset=opset, **weights)
    u = rng.normal(size=run(proto, feeds, [of])[of].shape).astype(np.float32)
    extended = onnxcam.vjp(proto, of=of, wrt=wrt)
    assert_extends(extended, proto)
    found = run(extended, {**feeds, f"seed/{of}": u}, [f"grad/{n}" for n in wrt])
    gradients = {n: found[f"grad/{n}"] for n in wrt}
    for name, gradient in gradients.items():
        v = rng.normal(size=gradient.shape)
        ends = [double(text, opset, {**feeds, **weights}, {name: s * 1e-5 * v}, of) for s in (1, -1)]
        expected = float(((ends[0] - ends[1]) * u).sum() / 2e-5)
        product = gradient.astype(np.float64) * v
        assert gradient.shape == np.shape({**feeds, **weights}[name])
        assert abs(product.sum() - expected) <= 2e-4 * (np.abs(product).sum() + 1e-2), name
    return gradients


def double(text: str, opset: int, values: dict, moved: dict, of: str) -> np.ndarray:
    """One output of the model in float64, with some values moved."""
    proto = model(text.replace("float", "double").replace("to = 1>", "to = 11>"), opset=opset)
    inputs = {i.name for i in proto.graph.input}
    feeds = {}
    for name, value in values.items():
        array = np.asarray(value)
        if array.dtype.kind == "f":
            array = array.astype(np.float64) + moved.get(name, 0)
        if name in inputs:
            feeds[name] = array
        else:
            proto.graph.initializer.append(numpy_helper.from_array(array, name))
    return run(proto, feeds, [of])[of]


# ----- an If that is decided beforehand -----
DECIDED = """net (float[2, 3] x) => (float[2, 3] y) {
  s = Shape(x)
  n = Size(s)
  c = Equal(n, RANK)
  h = Tanh(x)
  r = If(c) <
    then_branch = yes () => (float[2, 3] a) { a0 = MatMul(h, W) a1 = Mul(a0, scale) a = Sigmoid(a1) },
    else_branch = no () => (float[2, 3] b) { b = Mul(h, x) }
  >
  y = Exp(r)
}"""


@pytest.mark.parametrize("rank", [2, 3])
def test_a_decided_if_is_the_branch_that_it_takes(rank):
    weights = {"W": W, "RANK": np.int64(rank), "scale": np.float64(0.7)}
    assert_gradients(DECIDED, {"x": X}, ["x", "W", "scale"] if rank == 2 else ["x"], **weights)
    nodes = onnxcam.vjp(model(DECIDED, **weights), of="y", wrt=["x"]).graph.node
    assert [n.op_type for n in nodes].count("If") == 1  # the model's own


WITHIN = """net (float[N, 3] x) => (float[N, 3] y) {
  t = Constant<value = bool {1}>()
  f = Constant<value = bool {0}>()
  p, q = If(f) <
    then_branch = a () => (float[N, 3] a0, float[N, 3] a1) { a0 = Neg(x) a1 = Neg(x) },
    else_branch = b () => (float[N, 3] b0, float[N, 3] b2) <float[3] w = {1.5, -2.0, 0.5}> {
      b1 = Mul(x, w)
      b2 = Sin(b1)
      b0 = If(t) <
        then_branch = c () => (float[N, 3] c0) { c0 = Add(b2, x) },
        else_branch = d () => (float[N, 3] d0) { d0 = Exp(x) }
      >
    }
  >
  y = Mul(p, q)
}"""


def test_a_decided_if_in_a_decided_if_with_weights_of_its_own():
    assert_gradients(WITHIN, {"x": X}, ["x"])


# ----- an If on a run-time condition -----
FORK = """net (float[N, 3] x, bool c) => (float[N, 3] y) {
  h = Tanh(x)
  q = Mul(x, x)
  i = Constant<value = int64[3] {2, 0, 1}>()
  r, s = If(c) <
    then_branch = yes () => (float[N, 3] a, float[N, 3] b) { a0 = MatMul(h, W) a = Sigmoid(a0) b = Add(q, a) },
    else_branch = no () => (float[N, 3] d, float[N, 3] e) { d = Gather<axis = 1>(q, i) e = Identity(x) }
  >
  y = Mul(r, s)
}"""


@pytest.mark.parametrize("c", [True, False])
@pytest.mark.parametrize("opset", [9, 11, 13, 17, 25])
def test_the_gradient_of_an_if_is_that_of_the_branch_taken(c, opset):
    gradients = assert_gradients(FORK, {"x": X, "c": np.array(c)}, ["x", "W"], opset=opset, W=W)
    assert gradients["W"].any() == c


OTHER_SHAPES = """net (float[N, 3] x, bool c) => (float[M, 3] y) {
  r = If(c) <
    then_branch = yes () => (float[A, 3] a) { a0 = Sin(x) a = Concat<axis = 0>(a0, x) },
    else_branch = no () => (float[B, 3] b) { b = Exp(x) }
  >
  y = Mul(r, k)
}"""
# Both call a length M; one is 1 at run time where the other is 2.
SAME_SYMBOL = """net (float[N, 3] x, bool c, int64[1] one) => (float[P, 3] y) {
  z = Constant<value = int64[1] {0}>()
  p = If(c) <
    then_branch = a () => (float[M, 3] a0) { a0 = Slice(x, z, one, z) },
    else_branch = b () => (float[M, 3] b0) { b0 = Neg(x) }
  >
  q = If(c) <
    then_branch = d () => (float[M, 3] d0) { d0 = Sin(x) },
    else_branch = e () => (float[M, 3] e0) { e0 = Cos(x) }
  >
  y = Mul(p, q)
}"""


@pytest.mark.parametrize("c", [True, False])
def test_branches_of_different_shapes(c):
    assert_gradients(OTHER_SHAPES, {"x": X, "c": np.array(c)}, ["x", "k"], k=np.array([0.5, 2.0, -1.0]))


@pytest.mark.parametrize("c", [True, False])
def test_symbols_of_two_subgraphs_are_not_mixed_up(c):
    assert_gradients(SAME_SYMBOL, {"x": X, "c": np.array(c), "one": np.array([1])}, ["x"])


# ----- Scan -----
RECURRENT = """net (float[T, 3] x, float[3] h0) => (float[T, 3] y) {
  one = Constant<value = int64 {1}>()
  h, n, y = Scan<num_scan_inputs = 1, body = step (float[3] h, int64 n, float[3] xt)
      => (float[3] h1, int64 n1, float[3] yt) {
    a = MatMul(h, W)
    b = Add(a, xt)
    k = Cast<to = 1>(n)
    h1 = Tanh(b)
    c = Mul(h1, k)
    yt = Mul(c, xt)
    n1 = Add(n, one)
  }>(h0, one, x)
}"""


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_scan_with_a_state_an_integer_state_slices_and_captured_weights(steps):
    x = np.random.default_rng(steps).normal(size=(steps, 3)).astype(np.float32)
    assert_gradients(RECURRENT, {"x": x, "h0": X[0]}, ["x", "W", "h0"], W=W)


@pytest.mark.parametrize("opset", [9, 11, 16, 25])
@pytest.mark.parametrize("ways", [(0, 0, 0), (1, 0, 0), (0, 1, 1), (1, 1, 1)])
def test_scans_along_other_axes_and_from_the_end(ways, opset):
    axis = -1 if opset >= 11 else 2
    text = f"""net (float[2, T, 3] x, float[3, 2, T] w, float[2, 3] h0) => (float[2, 3, T] y) {{
      h, y = Scan<num_scan_inputs = 2, scan_input_axes = [1, {axis}], scan_input_directions = [{ways[0]}, {ways[1]}],
                  scan_output_axes = [{axis}], scan_output_directions = [{ways[2]}],
          body = step (float[2, 3] h, float[2, 3] xt, float[3, 2] wt) => (float[2, 3] h1, float[2, 3] yt) {{
        a = Transpose(wt)
        h1 = Add(h, xt)
        b = Mul(h1, a)
        yt = Tanh(b)
      }}>(h0, x, w)
    }}"""
    feeds = {"x": RNG.normal(size=(2, 4, 3)), "w": RNG.normal(size=(3, 2, 4)), "h0": X}
    assert_gradients(text, {k: v.astype(np.float32) for k, v in feeds.items()}, ["x", "w", "h0"], opset=opset)


TWO_SCANS = """net (float[T, 3] x) => (float[T, 3] y, float[3] h, float[T, 3] z) {
  y = Scan<num_scan_inputs = 1, body = step (float[3] xt) => (float[3] yt) { yt = Sin(xt) }>(x)
  h, z = Scan<num_scan_inputs = 1, body = sum (float[3] h, float[3] xt) => (float[3] h1, float[3] zt) {
    h1 = Add(h, xt) zt = Exp(xt)
  }>(h0, y)
}"""


@pytest.mark.parametrize("of", ["y", "h", "z"])
def test_a_scan_without_states_and_outputs_that_nothing_reads(of):
    assert_gradients(TWO_SCANS, {"x": X}, ["x"], of, h0=np.zeros(3))


# ----- Scan, as opset 8 had it -----
BY_SAMPLE = """net (float[2, 4, 3] x, float[2, 4, 3] w, float[2, 3] h0) => (float[2, 3] h, float[2, 4, 3] y) {
  h, y = Scan<num_scan_inputs = 2, directions = [WAYS],
              body = step (float[3] h, float[3] xt, float[3] wt) => (float[3] h1, float[3] yt) {
    a = MatMul(h, W)
    b = Add(a, xt)
    h1 = Tanh(b)
    yt = Mul(h1, wt)
  }>(LENGTHS, h0, x, w)
}"""


@pytest.mark.parametrize("ways", ["0, 0", "1, 0", "1, 1"])
@pytest.mark.parametrize("of", ["h", "y"])
def test_a_scan_for_each_sample(ways, of):
    x, w = RNG.normal(size=(2, 2, 4, 3)).astype(np.float32)
    text = BY_SAMPLE.replace("WAYS", ways).replace("LENGTHS", "")
    assert_gradients(text, {"x": x, "w": w, "h0": X}, ["x", "W", "h0"] + ["w"] * (of == "y"), of, 8, W=W)


def test_samples_of_their_own_lengths_are_refused():
    text = BY_SAMPLE.replace("WAYS", "0, 0").replace("LENGTHS", "n")
    with pytest.raises(UnsupportedGradient, match="Scan 'h'"):
        onnxcam.vjp(model(text, opset=8, n=np.int64([4, 2]), W=W), of="y", wrt=["x"])


# ----- Loop -----
COUNTED = """net (float[N, 3] x, int64 k) => (float[N, 3] y, float[T, N, 3] z) {
  go = Constant<value = bool {1}>()
  y, z = Loop(k, go, x) <body = step (int64 i, bool c, float[N, 3] h) => (bool d, float[N, 3] h1, float[N, 3] s) {
    a = MatMul(h, W)
    n = Cast<to = 1>(i)
    b = Add(a, n)
    h1 = Tanh(b)
    s = Mul(h1, x)
    d = Identity(c)
  }>
}"""


@pytest.mark.parametrize("opset", [8, 11, 13, 16, 25])
@pytest.mark.parametrize("trips", [0, 1, 3])
def test_a_loop_runs_backwards_as_often_as_forwards(trips, opset):
    gradients = assert_gradients(COUNTED, {"x": X, "k": np.array(trips)}, ["x", "W"], opset=opset, W=W)
    assert gradients["W"].any() == (trips > 0)


def test_what_a_loop_stacks():
    assert_gradients(COUNTED, {"x": X, "k": np.array(3)}, ["x", "W"], "z", W=W)


WHILE = """net (float[3] x) => (float[3] y) {
  go = Constant<value = bool {1}>()
  y = Loop( , go, x) <body = step (int64 i, bool c, float[3] h) => (bool d, float[3] h1) {
    w = Mul(x, r)
    a = Sin(w)
    h1 = Add(a, h)
    m = ReduceMax<keepdims = 0>(h1)
    d = Less(m, top)
  }>
}"""


@pytest.mark.parametrize("start", [0.5, 3.0, 40.0])
def test_a_loop_that_ends_when_its_data_say_so(start):
    x = np.float32([1.0, 0.7, 0.9]) * np.float32(start / 3)
    assert_gradients(WHILE, {"x": x}, ["x", "r"], r=np.array([0.2, 0.3, 0.1]), top=np.float64(5.0))


GROWING = """net (float[N, 3] x, int64 k) => (float[M, 3] y) {
  y = Loop(k, , x) <body = step (int64 i, bool c, float[P, 3] h) => (bool d, float[Q, 3] h1) {
    a = MatMul(h, W) b = Tanh(a) e = Concat<axis = 0>(b, x) h1 = Sin(e) d = Identity(c)
  }>
}"""


@pytest.mark.parametrize("opset", [13, 17, 25])
@pytest.mark.parametrize("trips", [0, 1, 4])
def test_a_state_that_grows(trips, opset):
    assert_gradients(GROWING, {"x": X, "k": np.array(trips)}, ["x", "W"], opset=opset, W=W)


# b depends on x from the second iteration on; m does so too, but by no path that a gradient could follow.
LATER = """net (float[3] x) => (float[3] y) {
  k = Constant<value = int64 {3}>()
  a, y, m = Loop(k, , x, zero, zero) <
    body = step (int64 i, bool c, float[3] a, float[3] b, float[3] m)
        => (bool d, float[3] a1, float[3] b1, float[3] m1) {
      a1 = Sin(a) s = Mul(a, b) t = Add(s, a) b1 = Add(t, m) f = Floor(a) m1 = Add(m, f) d = Identity(c)
    }>
}"""


def test_states_without_a_gradient_and_states_that_get_one_later():
    assert_gradients(LATER, {"x": np.float32([0.4, 1.3, -2.2])}, ["x"], zero=np.zeros(3))


# ----- one in another -----
NESTED = """net (float[T, 3] x, float[3] h0, int64 k) => (float[T, 3] y) {
  h, y = Scan<num_scan_inputs = 1, body = outer (float[3] h, float[3] xt) => (float[3] h1, float[3] yt) {
    s = ReduceSum<keepdims = 0>(xt)
    c = Greater(s, half)
    a = If(c) <
      then_branch = yes () => (float[3] a0) {
        a0 = Loop(k, , h) <body = inner (int64 i, bool c1, float[3] g) => (bool d1, float[3] g1) {
          b0 = MatMul(g, W) b1 = Mul(b0, xt) g1 = Tanh(b1) d1 = Identity(c1)
        }>
      },
      else_branch = no () => (float[3] e0) { e0 = Sin(xt) }
    >
    h1 = Add(a, xt)
    yt = Mul(h1, h)
  }>(h0, x)
}"""


@pytest.mark.parametrize("k", [0, 2])
def test_a_loop_in_an_if_in_a_scan(k):
    feeds = {"x": np.concatenate([X, Y, -X]), "h0": Y[0], "k": np.array(k)}
    assert_gradients(NESTED, feeds, ["x", "h0", "W"], W=W, half=np.float64(0.5))


def test_a_function_that_loops_over_a_function():
    """Two times three steps of h ← sin(h) + v, differentiated by hand."""
    proto = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
        net (float[N, 3] x, int64 k) => (float[N, 3] y) { h = own.power(x, k) y = own.power(h, k) }
        <domain: "own", opset_import: ["" : 17, "own" : 1]> power (v, n) => (r) {
          r = Loop(n, , v) <body = step (int64 i, bool c, float[N, 3] h) => (bool d, float[N, 3] h1) {
            h1 = own.wave(h, v) d = Identity(c)
          }>
        }
        <domain: "own", opset_import: ["" : 17]> wave (a, b) => (r) { s = Sin(a) r = Add(s, b) }""")
    h, slope = X.astype(np.float64), np.ones(X.shape)
    for _ in range(2):
        v, along = h, slope
        for _ in range(3):
            slope = np.cos(h) * slope + along
            h = np.sin(h) + v
    extended = onnxcam.vjp(proto, of="y", wrt=["x"])
    found = run(extended, {"x": X, "k": np.array(3), "seed/y": Y}, ["y", "grad/x"])
    np.testing.assert_allclose(found["y"], h, rtol=1e-5)
    np.testing.assert_allclose(found["grad/x"], Y * slope, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("arithmetic", ["auto", "float32"])
@pytest.mark.parametrize(("text", "more"), [(COUNTED, {"k": np.array(3)}), (FORK, {"c": np.array(True)})])
def test_half_precision(text, more, arithmetic):
    feeds = {"x": X, **more, "seed/y": Y}
    due = run(onnxcam.vjp(model(text, W=W), of="y", wrt=["x"]), feeds, ["grad/x"])["grad/x"]
    half = model(text.replace("float", "float16").replace("to = 1>", "to = 10>"), W=W.astype(np.float16))
    given = {n: v.astype(np.float16) if v.dtype == np.float32 else v for n, v in feeds.items()}
    found = run(onnxcam.vjp(half, of="y", wrt=["x"], arithmetic=arithmetic), given, ["grad/x"])["grad/x"]
    np.testing.assert_allclose(found.astype(np.float32), due, atol=4e-3 * np.abs(due).max())


# ----- what is said -----
def test_what_comes_out_of_a_loop_has_a_shape_for_those_who_read_it():
    untold = COUNTED.replace("float[T, N, 3] z", "z").replace("float[N, 3] y,", "y,").replace("float[N, 3] h1", "h1")
    forward = Forward(model(untold, W=W))
    assert forward.type("y").shape == ("N", 3)
    assert forward.type("z").shape[1:] == ("N", 3)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (FORK.replace("Sigmoid(a0)", "Unheard.of(a0)"), "^If 'r': No gradient for Unheard.of '.*/a'.$"),
        (COUNTED.replace("Tanh(b)", "Unheard.of(b)"), "^Loop 'y': No gradient for Unheard.of '.*/h1'.$"),
        (FORK.replace("Sigmoid(a0)", "Unheard(a0)"), "^If 'r': No gradient for Unheard '.*/a'.$"),
    ],
)
def test_an_operator_inside_is_named(text, match):
    proto = model(text, W=W)
    proto.opset_import.append(helper.make_opsetid("Unheard", 1))
    with pytest.raises(UnsupportedGradient, match=match):
        onnxcam.vjp(proto, of="y", wrt=["x"])
