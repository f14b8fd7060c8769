"""Models that pack tensors into sequences and take them out again, against central differences."""

import numpy as np
import onnx
import pytest
from onnx import parser
from onnx.reference import ReferenceEvaluator

import onnxcam
from onnxcam.errors import UnsupportedGradient
from tests.grad.harness import difference, normal, vjp_of

STATIC, OPEN = "2, 4", "N, M"
CONSTANTS = "<int64 zero = {0}, int64 one = {1}, int64 last = {-1}, int64 two = {2}, int64[2] sizes = {1, 3}>"


def model(body: str, shape: str = STATIC, dtype: str = "float", opset: int = 13) -> onnx.ModelProto:
    return parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : {opset}]>'
        f"net ({dtype}[{shape}] x, int64 i) => ({dtype}[A, B] y) {CONSTANTS} {{ {body} }}"
    )


def assert_numeric(body: str, shape: str = STATIC, opset: int = 13, i: int = 1) -> None:
    rng = np.random.default_rng(0)
    reference = ReferenceEvaluator(model(body, STATIC, "double", opset))

    def forward(feeds):
        return reference.run(None, dict(feeds))

    feeds = {"x": normal(rng, (2, 4)), "i": np.array(i)}
    u, v = rng.standard_normal(np.shape(forward(feeds)[0])), rng.standard_normal((2, 4))
    found = vjp_of(model(body, shape, opset=opset), feeds, u, ["x"])["x"] * v
    expected = difference(forward, feeds, "x", v, u, 1e-5)
    assert abs(found.sum() - expected) <= 1e-4 * np.abs(found).sum()


@pytest.mark.parametrize("shape", [STATIC, OPEN])
@pytest.mark.parametrize("opset", [11, 13, 17])
@pytest.mark.parametrize(
    "body",
    [
        "s = SequenceConstruct(x, a) y = SequenceAt(s, one)",
        "s = SequenceConstruct(x, a) b = SequenceAt(s, last) c = SequenceAt(s, zero) y = Mul(b, c)",
        "s = SequenceConstruct(a, x, a) y = ConcatFromSequence<axis = 1>(s)",
        """s = SequenceConstruct(x, a) b = ConcatFromSequence<axis = -1, new_axis = 1>(s)
           y = ReduceMax<axes = [2], keepdims = 0>(b)""",
        """b = Neg(x) e = SequenceEmpty() s = SequenceInsert(e, a) t = SequenceInsert(s, b)
           u = SequenceInsert(t, x, one) v = SequenceInsert(u, a, last) w = SequenceErase(v, zero)
           y = ConcatFromSequence<axis = 0>(w)""",
        "b = Neg(x) s = SequenceConstruct(a, b) t = SequenceErase(s) y = SequenceAt(t, zero)",
        """s = SplitToSequence<axis = 1>(a, sizes) b = SequenceAt(s, one) c = SequenceAt(s, zero) d = Exp(b)
           y = Concat<axis = 1>(d, c)""",
        """s = SplitToSequence<axis = 1>(a, two) b = SequenceAt(s, one) c = SequenceAt(s, zero) d = Exp(b)
           y = Concat<axis = 1>(d, c)""",
        "s = SplitToSequence<axis = 1>(a) b = SequenceAt(s, two) y = Mul(x, b)",
        "s = SplitToSequence<axis = 0, keepdims = 0>(a) b = SequenceAt(s, last) y = Mul(x, b)",
        "s = SplitToSequence<axis = 1>(a) y = ConcatFromSequence<axis = -1>(s)",
        "s = SplitToSequence<axis = 1, keepdims = 0>(a) y = ConcatFromSequence<axis = 1, new_axis = 1>(s)",
    ],
)
def test_known_positions(body, shape, opset):
    assert_numeric(f"a = Exp(x) {body}", shape, opset)


@pytest.mark.parametrize("shape", [STATIC, OPEN])
@pytest.mark.parametrize("i", [1, -2])
@pytest.mark.parametrize("words", ["axis = 0, keepdims = 0", "axis = 1"])
def test_a_part_at_a_position_known_at_run_time(words, i, shape):
    assert_numeric(f"a = Exp(x) s = SplitToSequence<{words}>(a) b = SequenceAt(s, i) y = Mul(x, b)", shape, i=i)


@pytest.mark.parametrize(
    "body",
    [
        "o = Optional(a) y = OptionalGetElement(o)",
        "y = OptionalGetElement(a)",
        "s = SequenceConstruct(x, a) t = Identity(s) y = SequenceAt(t, one)",
    ],
)
def test_other_names(body):
    rng = np.random.default_rng(0)
    x, u = rng.standard_normal((2, 2, 4))
    found = vjp_of(model(f"a = Exp(x) {body}", opset=18), {"x": x, "i": np.array(0)}, u, ["x"])["x"]
    np.testing.assert_allclose(found, u * np.exp(x), rtol=1e-5)


def test_tensors_of_one_sequence_are_not_taken_to_be_of_one_size():
    """Onnx's shape inference gives both parts the same symbol; one has length 1 and is stretched."""
    body = "a = Exp(x) s = SplitToSequence<axis = 1>(a, sizes) b = SequenceAt(s, one) c = SequenceAt(s, zero)"
    assert_numeric(f"{body} d = Relu(b) e = Relu(c) y = Mul(d, e)", OPEN)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("s = SequenceConstruct(x, a) b = SequenceAt(s, i)", "SequenceAt"),
        ("s = SequenceConstruct(x, a) t = SequenceInsert(s, a, i) b = SequenceAt(t, zero)", "SequenceInsert"),
        ("s = SplitToSequence<axis = 1>(a) t = SequenceInsert(s, c, i) b = SequenceAt(t, zero)", "SequenceInsert"),
        ("s = SplitToSequence<axis = 1>(a, i) b = SequenceAt(s, zero)", "SplitToSequence"),
    ],
)
@pytest.mark.parametrize("shape", [STATIC, OPEN])
def test_what_cannot_be_followed_is_refused_where_another_path_would_hide_it(body, named, shape):
    proto = model(f"a = Exp(x) c = CastLike(one, x) {body} y = Add(x, b)", shape, opset=15)
    with pytest.raises(UnsupportedGradient, match=named):
        onnxcam.vjp(proto, of="y", wrt=["x"])
