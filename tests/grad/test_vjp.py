"""The reverse walk over whole graphs: paths that fork and meet, what it refuses, what it leaves alone."""

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, parser
from onnx.reference import ReferenceEvaluator
from onnx.utils import Extractor

import onnxcam
from onnxcam.errors import InputError, ModelError, UnsupportedGradient
from onnxcam.grad.forward import Forward
from onnxcam.grad.reverse import missing
from tests.builders import NEWEST, Net, assert_extends, image, model, names, retyped, run

RNG = np.random.default_rng(7)
SQUARE = RNG.normal(size=(2, 2, 3, 3)) / 4
RESIDUAL = """net (float[N, 2, H, W] x) => (float[N, 3] y) {
  a = Conv<auto_pad = "SAME_LOWER", strides = [2, 2]>(x, W1)
  s = Sigmoid(a)
  b = Mul(a, s)
  c = Conv<pads = [1, 1, 1, 1]>(b, W2)
  d = Add(b, c)
  e = MaxPool<auto_pad = "SAME_UPPER", kernel_shape = [2, 2], strides = [2, 2]>(d)
  g = GlobalAveragePool(e)
  gate = Conv(g, W3)
  t = Tanh(gate)
  h = Mul(e, t)
  p = GlobalAveragePool(h)
  f = Flatten(p)
  y = Gemm<transB = 1>(f, H, bias)
}"""
RESIDUAL_WEIGHTS = {
    "W1": SQUARE,
    "W2": SQUARE[::-1],
    "W3": RNG.normal(size=(2, 2, 1, 1)),
    "H": RNG.normal(size=(3, 2)),
    "bias": RNG.normal(size=3),
}


def gradients(proto: onnx.ModelProto, of: str, wrt: Sequence[str], feeds: dict, u: np.ndarray) -> dict[str, np.ndarray]:
    extended = onnxcam.vjp(proto, of=of, wrt=wrt)
    found = run(extended, {**feeds, f"seed/{of}": u}, [f"grad/{n}" for n in wrt])
    return {name: found[f"grad/{name}"] for name in wrt}


def numeric(proto: onnx.ModelProto, of: str, name: str, feeds: dict, u: np.ndarray, v: np.ndarray) -> float:
    """⟨u, of(t + εv) − of(t − εv)⟩ / 2ε for tensor t `name`, whose own makers are cut off; float64, by ONNX itself."""
    wide = retyped(proto, np.float64)
    for value in (*wide.graph.input, *wide.graph.initializer):
        if value.name == name and isinstance(value, onnx.TensorProto):
            wide.graph.input.append(helper.make_tensor_value_info(name, TensorProto.DOUBLE, list(value.dims)))
    given = {k: np.asarray(x, np.float64) for k, x in feeds.items()}
    everything = onnx.shape_inference.infer_shapes(wide)
    full = ReferenceEvaluator(_showing(everything, [name]))
    point = np.asarray(full.run([name], given)[0], np.float64)
    others = [n for n in names(wide.graph.input) if n != name]
    cut = ReferenceEvaluator(Extractor(everything).extract_model([*others, name], [of]))
    ends = [cut.run([of], {**{k: given[k] for k in others}, name: point + s * 1e-5 * v})[0] for s in (1, -1)]
    return float(((ends[0] - ends[1]) * u).sum() / 2e-5)


def _showing(proto: onnx.ModelProto, more: Sequence[str]) -> onnx.ModelProto:
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    known = {v.name: v for v in (*proto.graph.value_info, *proto.graph.input)}
    result.graph.output.extend(known[n] for n in more if n in known)
    return result


def assert_numeric(proto: onnx.ModelProto, of: str, wrt: Sequence[str], feeds: dict, tolerance: float = 2e-4) -> None:
    rng = np.random.default_rng(3)
    size = run(_showing(onnx.shape_inference.infer_shapes(proto), [of]), feeds, [of])[of].shape
    u = rng.normal(size=size).astype(np.float32)
    for name, found in gradients(proto, of, wrt, feeds, u).items():
        v = rng.normal(size=found.shape)
        product = found.astype(np.float64) * v
        expected = numeric(proto, of, name, feeds, u, v)
        assert abs(product.sum() - expected) <= tolerance * (np.abs(product).sum() + 1e-2), name


def vector(text: str, **weights: np.ndarray) -> onnx.ModelProto:
    return model(f"net (float[N, 3] x) => (float[N, 3] y) {{ {text} }}", **weights)


X = np.float32([[0.5, -1.25, 2.0], [-0.75, 1.5, 0.3]])


# ----- paths -----
@pytest.mark.parametrize(
    ("text", "derivative"),
    [
        ("y = Mul(x, x)", lambda x: 2 * x),
        ("y = Add(x, x)", lambda x: 2 + 0 * x),
        ("y = Sub(x, x)", lambda x: 0 * x),
        ("y = Sum(x, x, x)", lambda x: 3 + 0 * x),
        ("a = Mul(x, x) y = Mul(a, x)", lambda x: 3 * x**2),
        ("a = Mul(x, x) b = Mul(a, a) y = Add(b, a)", lambda x: 4 * x**3 + 2 * x),
        ("a = Exp(x) b = Neg(x) c = Mul(a, b) d = Add(c, a) y = Add(d, x)", lambda x: -x * np.exp(x) + 1),
        ("unused = Exp(x) y = Neg(x)", lambda x: -1 + 0 * x),
        ("a, b = Split<axis = 0>(x) c = Add(a, b) y = Concat<axis = 0>(c, a)", None),
        ("y = Identity(x)", lambda x: 1 + 0 * x),
    ],
)
def test_contributions_of_all_paths_are_added(text, derivative):
    u = np.float32([[1, 2, 3], [4, 5, 6]])
    found = gradients(vector(text), "y", ["x"], {"x": X}, u)["x"]
    expected = u * derivative(X) if derivative else np.float32([[5, 7, 9], [1, 2, 3]])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_tensor_on_the_way_is_held_while_it_is_moved():
    """d/da leaves the path by x alone out; d/dx has both."""
    proto = vector("a = Mul(x, x) b = Mul(a, a) y = Add(b, x)")
    found = gradients(proto, "y", ["x", "a", "b"], {"x": X}, np.ones_like(X))
    np.testing.assert_allclose(found["b"], np.ones_like(X))
    np.testing.assert_allclose(found["a"], 2 * X**2, rtol=1e-6)
    np.testing.assert_allclose(found["x"], 4 * X**3 + 1, rtol=1e-5)


def test_broadcasting_is_undone():
    proto = vector("r = Mul(x, w) y = Add(r, s)", w=RNG.normal(size=(3,)), s=RNG.normal(size=(1, 1)))
    u = np.float32([[1, 2, 3], [4, 5, 6]])
    found = gradients(proto, "y", ["w", "s"], {"x": X}, u)
    np.testing.assert_allclose(found["w"], (u * X).sum(0), rtol=1e-5)
    np.testing.assert_allclose(found["s"], [[21]])


def test_the_seed_is_of_any_value_and_enters_linearly():
    proto, x = Net().model(), image(2)
    u, v = RNG.normal(size=(2, 2, 3)).astype(np.float32)
    one, two, both = (gradients(proto, "y", ["x"], {"x": x}, s)["x"] for s in (u, v, 2 * u - 3 * v))
    np.testing.assert_allclose(both, 2 * one - 3 * two, atol=1e-5)


def test_the_gradient_of_a_tensor_by_itself_is_the_seed():
    u = RNG.normal(size=X.shape).astype(np.float32)
    found = gradients(vector("y = Exp(x)"), "y", ["y"], {"x": X}, u)
    np.testing.assert_array_equal(found["y"], u)


def test_any_tensor_can_be_the_one_that_is_differentiated():
    net, x = Net(), image(2)
    u = RNG.normal(size=(2, 4, 6, 5)).astype(np.float32)
    found = gradients(net.model(), "map", ["c"], {"x": x}, u)["c"]
    np.testing.assert_array_equal(found, u * (net.map(x) > 0))


@pytest.mark.parametrize("size", [(8, 7), (9, 12)])
def test_a_residual_net_of_dynamic_size_against_differences(size):
    proto = model(RESIDUAL, **RESIDUAL_WEIGHTS)
    feeds = {"x": image(2, (2, *size))}
    assert_numeric(proto, "y", ["x", "b", "d", "e", "g", "gate", "s", "a"], feeds)
    assert_numeric(proto, "d", ["x", "b"], feeds)


@pytest.mark.parametrize("size", [(8, 7), (9, 12)])
def test_dynamic_and_fixed_sizes_agree(size):
    proto = model(RESIDUAL, **RESIDUAL_WEIGHTS)
    fixed = model(RESIDUAL.replace("N, 2, H, W", f"2, 2, {size[0]}, {size[1]}"), **RESIDUAL_WEIGHTS)
    feeds, u = {"x": image(2, (2, *size))}, RNG.normal(size=(2, 3)).astype(np.float32)
    open_, closed = (gradients(m, "y", ["x", "d"], feeds, u) for m in (proto, fixed))
    for name in open_:
        np.testing.assert_allclose(open_[name], closed[name], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 17, 21, NEWEST])
def test_every_opset_to_inputs_and_weights(opset):
    net, x = Net(), image(2)
    proto = net.model(opset=opset)
    assert_numeric(proto, "y", ["x", "c", "map"], {"x": x})
    u = RNG.normal(size=(2, 3)).astype(np.float32)
    found = gradients(proto, "y", ["H", "b"], {"x": x}, u)
    np.testing.assert_allclose(found["b"], u.sum(0), rtol=1e-5)
    np.testing.assert_allclose(found["H"], u.T @ net.map(x).mean((2, 3)), rtol=1e-5)


@pytest.mark.parametrize("gate", ["HardSigmoid<alpha = 0.16666667, beta = 0.5>", "Sigmoid"])
def test_a_gate_that_is_fused_in_the_walk_can_still_be_asked_for(gate):
    proto = vector(f"g = {gate}(x) a = Mul(x, g) y = Mul(a, a)")
    assert_numeric(proto, "y", ["x", "g", "a"], {"x": X})
    assert_numeric(vector(f"g = {gate}(x) a = Mul(g, x) b = Add(a, g) y = Exp(b)"), "y", ["x", "g"], {"x": X})


def test_a_gradient_can_be_differentiated():
    """d/dx of ⟨v, u · exp(x²)⟩, the gradient by a = x² of exp(a)."""
    once = onnxcam.vjp(vector("a = Mul(x, x) y = Exp(a)"), of="y", wrt=["a"])
    u, v = RNG.normal(size=(2, *X.shape)).astype(np.float32)
    twice = onnxcam.vjp(once, of="grad/a", wrt=["x"])
    found = run(twice, {"x": X, "seed/y": u, "seed/grad/a": v}, ["grad/x"])["grad/x"]
    np.testing.assert_allclose(found, u * v * 2 * X * np.exp(X**2), rtol=1e-4)


def test_functions_that_the_model_brings_along_are_differentiated():
    proto = parser.parse_model("""<ir_version: 9, opset_import: ["" : 17, "local" : 1]>
      net (float[N, 3] x) => (float[N, 3] y) { a = local.outer(x) y = Exp(a) }
      <domain: "local", opset_import: ["" : 17, "local" : 1]> outer (v) => (w) { t = local.twice(v) w = Mul(t, v) }
      <domain: "local", opset_import: ["" : 17]> twice (v) => (w) { w = Add(v, v) }""")
    found = gradients(proto, "y", ["x", "a"], {"x": X}, np.ones_like(X))
    np.testing.assert_allclose(found["a"], np.exp(2 * X**2), rtol=1e-5)
    np.testing.assert_allclose(found["x"], np.exp(2 * X**2) * 4 * X, rtol=1e-4)


# ----- where no gradient flows -----
@pytest.mark.parametrize(
    "text",
    [
        "i = ArgMax<axis = 1, keepdims = 0>(x) k = Cast<to = 1>(i) one = Unsqueeze(k, axis) y = Add(x, one)",
        "s = Shape(x) r = Reshape(x, s) y = Identity(r)",
        "g = Greater(x, half) m = Cast<to = 1>(g) n = Sub(m, m) y = Add(x, n)",
        "f = Floor(x) o = Sub(f, f) y = Add(o, x)",
    ],
)
def test_integers_and_steps_carry_none(text):
    proto = vector(text, axis=np.int64([1]), half=np.float64(0.5))
    u = RNG.normal(size=X.shape).astype(np.float32)
    np.testing.assert_allclose(gradients(proto, "y", ["x"], {"x": X}, u)["x"], u, rtol=1e-6)


def test_operators_beside_the_path_need_no_rule():
    proto = vector("w = NonZero(x) y = Exp(x)")
    np.testing.assert_allclose(gradients(proto, "y", ["x"], {"x": X}, np.ones_like(X))["x"], np.exp(X), rtol=1e-5)


def lacking() -> onnx.ModelProto:
    """Three operators without a rule on the way."""
    odd = "com.example.Odd"
    proto = vector(f"a = Exp(x) b = {odd}(a) c = Neg(b) d = {odd}(c) e = Neg(d) y = {odd}(e)")
    for node, name in zip(proto.graph.node, ("exp", "first", "", "middle", "", "last"), strict=True):
        node.name = name
    proto.opset_import.add(domain="com.example", version=1)
    return proto


def test_every_operator_without_a_rule_is_named():
    proto, wanted = lacking(), [f"com.example.Odd '{n}'" for n in ("first", "middle", "last")]
    with pytest.raises(UnsupportedGradient) as caught:
        onnxcam.vjp(proto, of="y", wrt=["x"])
    assert f"No gradient for {', '.join(wanted)}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [str(n) for n in missing(Forward(proto), "y", ["x"])] == wanted


@pytest.mark.parametrize("taken", [True, False])
def test_a_subgraph_that_reads_the_tensor_is_differentiated_or_refused(taken):
    proto = model("""net (float[N, 3] x, bool q) => (float[N, 3] y) {
      r = Exp(x)
      i = If(q)<then_branch = g () => (float[N, 3] t) { t = Mul(r, r) },
                else_branch = h () => (float[N, 3] e) { e = Identity(r) }>
      y = Add(r, i)
    }""")
    try:
        found = gradients(proto, "y", ["x"], {"x": X, "q": np.array(taken)}, np.ones_like(X))["x"]
    except UnsupportedGradient as error:
        assert "If" in str(error)  # noqa: PT017 - one of two good answers
        return
    r = np.exp(X)
    np.testing.assert_allclose(found, r + 2 * r**2 if taken else 2 * r, rtol=1e-5)


# ----- bad names -----
@pytest.mark.parametrize(
    ("of", "wrt", "leaf", "said"),
    [
        ("yy", ["x"], InputError, "No tensor 'yy'. Did you mean 'y'"),
        ("y", ["cc"], InputError, "No tensor 'cc'. Did you mean 'c'"),
        ("y", ["x", "i"], InputError, "'i' holds integers"),
        ("i", ["x"], InputError, "'i' holds integers"),
        ("c", ["y"], ModelError, "'c' does not depend on 'y'"),
        ("y", ["c", "side"], ModelError, "'y' does not depend on 'side'"),
    ],
)
def test_a_wrong_name_is_one_clear_line(of, wrt, leaf, said):
    proto = vector("c = Neg(x) i = Cast<to = 7>(c) side = Exp(c) y = Neg(c)")
    with pytest.raises(leaf) as caught:
        onnxcam.vjp(proto, of=of, wrt=wrt)
    assert type(caught.value) is leaf
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_to_differentiate_by_is_an_error():
    with pytest.raises(InputError):
        onnxcam.vjp(vector("y = Neg(x)"), of="y", wrt=[])


@pytest.mark.parametrize(("of", "taken"), [("y", "seed/y"), ("grad/x", "grad/x")])
def test_a_gradient_of_a_name_that_is_taken_is_refused(of, taken):
    once = onnxcam.vjp(vector("y = Exp(x)"), of="y", wrt=["x"])
    with pytest.raises(InputError, match=taken):
        onnxcam.vjp(once, of=of, wrt=["x"])


# ----- what is written -----
def test_the_original_is_a_prefix_and_stays_as_it_was():
    proto = Net().model(opset=13, ir=7)
    proto.doc_string, proto.graph.doc_string, proto.graph.node[1].doc_string = "m", "g", "n"
    proto.metadata_props.add(key="names", value="{0: 'a'}")
    proto.graph.value_info.append(helper.make_tensor_value_info("map", 1, ["N", 4, 6, 5]))
    proto.graph.quantization_annotation.add(tensor_name="map").quant_parameter_tensor_names.add(key="S", value="W")
    before = proto.SerializeToString(deterministic=True)
    extended = onnxcam.vjp(proto, of="y", wrt=["x", "map", "W"])
    assert proto.SerializeToString(deterministic=True) == before
    assert_extends(extended, proto)
    assert names(extended.graph.input)[1:] == ["seed/y"]
    assert names(extended.graph.output)[1:] == ["grad/x", "grad/map", "grad/W"]
    onnx.checker.check_model(extended, full_check=True)


def test_the_seed_has_the_type_of_what_is_differentiated():
    extended = onnxcam.vjp(retyped(Net().model(), np.float16), of="y", wrt=["map"])
    seed, grad = extended.graph.input[-1].type.tensor_type, extended.graph.output[-1].type.tensor_type
    assert seed.elem_type == grad.elem_type == TensorProto.FLOAT16
    assert [d.dim_param or d.dim_value for d in seed.shape.dim] == ["N", 3]
    assert [d.dim_param or d.dim_value for d in grad.shape.dim] == ["N", 4, 6, 5]


def test_gradients_of_pictures_say_their_shape_in_the_symbols_of_the_input():
    proto = model(RESIDUAL.replace("H, W", "8, 7"), **RESIDUAL_WEIGHTS)
    extended = onnxcam.vjp(proto, of="y", wrt=["x"])
    values = (*extended.graph.value_info, *extended.graph.output)
    told = {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
    tail = extended.graph.node[len(proto.graph.node) :]
    made = [o for n in tail if n.op_type in ("Conv", "HardSigmoid", "Add") for o in n.output]
    assert len(made) > 8
    for name in made:
        assert told[name][0] == "N"
        assert all(isinstance(d, int) and d > 0 for d in told[name][1:])


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("Conv<strides = [2, 2]>(x, S)", (4, 4, 2, 2)),
        ("Conv<strides = [2, 2], group = 2>(x, S)", (4, 2, 3, 3)),
        ("ConvTranspose<strides = [2, 2]>(x, S)", (4, 4, 2, 2)),
        ("ConvTranspose<strides = [2, 2], group = 2>(x, S)", (4, 2, 2, 2)),
        ("MatMul(x, S)", (4, 4)),
    ],
)
def test_a_square_weight_is_not_read_the_other_way_as_it_is(text, shape):
    """OpenVINO's CPU would take it for laid out as the first reader has it, and give a wrong gradient in silence."""
    proto = model(f"net (float[N, 4, 6, 4] x) => (float y) {{ y = {text} }}", S=RNG.normal(size=shape))
    extended = onnxcam.vjp(proto, of="y", wrt=["x"])
    readers = {n.op_type for n in extended.graph.node[len(proto.graph.node) :] if "S" in n.input}
    assert readers <= {"Neg", "Transpose"}


def test_names_that_are_taken_are_left_alone():
    proto = vector("grad/Mul_0 = Mul(x, x) grad/Exp_0 = Exp(x) y = Mul(grad/Mul_0, grad/Exp_0)".replace("/", "_"))
    for node in proto.graph.node:
        for field in (node.input, node.output):
            field[:] = [n.replace("grad_", "grad/") for n in field]
    found = gradients(proto, "y", ["x"], {"x": X}, np.ones_like(X))["x"]
    np.testing.assert_allclose(found, (X**2 + 2 * X) * np.exp(X), rtol=1e-4, atol=1e-6)


def test_what_lies_below_the_tensor_costs_nothing():
    """The tail is as long for a layer at the end of a deep network as for the same layer of a shallow one."""
    deep = "r0 = Exp(x)" + "".join(f" r{i + 1} = Sigmoid(r{i})" for i in range(30)) + " y = Tanh(r30)"
    extended = [onnxcam.vjp(vector(t), of="y", wrt=[w]) for t, w in ((deep, "r30"), ("y = Tanh(x)", "x"))]
    tails = [len(e.graph.node) - n for e, n in zip(extended, (32, 1), strict=True)]
    assert tails[0] == tails[1] > 0
