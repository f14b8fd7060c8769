"""Random small graphs against central differences in float64: operators in combinations that nobody thought of.

A program is drawn node by node. Every node reads any tensors that are there already, so tensors are shared, paths fork
and meet, and some lead nowhere; all that nothing reads is joined in the output. The batch stays the first axis
throughout, which makes the same nodes legal with sizes declared as numbers, with an open batch, and with every size
open. Each is evaluated by ONNX's reference as it is drawn, so that its sizes are known.
"""

from collections.abc import Callable, Sequence

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import onnxcam
from onnxcam.errors import UnsupportedGradient
from tests.builders import run

STEP = 1e-5
EXAMPLES = 200
LARGE = 30.0  # values are kept below, and tensors shorter than
LONG = 600
SHAPES = ((2, 5, 4), (4, 6, 6), (3, 1, 5), (2, 3), (6,), (1, 4), ())
UNARY = (
    "Relu", "Tanh", "Sigmoid", "Neg", "Abs", "Softplus", "Elu", "LeakyRelu", "HardSigmoid", "Identity", "Softsign",
    "Sin",
)  # fmt: skip
Draw = Callable[..., object]


class Program:
    """The nodes so far with the values that they make, in float64."""

    def __init__(self, draw: Draw, opset: int, batch: int, seed: int) -> None:
        self.draw, self.opset, self.batch, self.rng = draw, opset, batch, np.random.default_rng(seed)
        self.values: dict[str, np.ndarray] = {}
        self.constants: dict[str, np.ndarray] = {}
        self.inputs: list[str] = []
        self.nodes: list[onnx.NodeProto] = []
        self.probe = self.added = self.output = ""

    def number(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def choose(self, values: Sequence) -> object:
        return self.draw(st.sampled_from(values))

    def input(self, value: np.ndarray) -> str:
        name = f"x{len(self.inputs)}"
        self.inputs.append(name)
        self.values[name] = value
        return name

    def constant(self, value: object, dtype: type = np.float64) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(value, dtype)
        return name

    def weight(self, *shape: int) -> str:
        """Normal numbers, small enough that values keep their size."""
        return self.constant(self.rng.normal(size=shape) / np.sqrt(max(1, np.prod(shape[1:]))))

    def node(self, op: str, *names: str, outputs: int = 1, **attributes: object) -> str:
        """Add a node; what it makes is brought down by Tanh where it is large."""
        made = self.exactly(op, *names, outputs=outputs, **attributes)
        return self.exactly("Tanh", made) if np.abs(self.values[made]).max(initial=0) > LARGE else made

    def exactly(self, op: str, *names: str, outputs: int = 1, **attributes: object) -> str:
        """Add a node, evaluate it, and return its first output."""
        made = [f"t{len(self.nodes)}" if outputs == 1 else f"t{len(self.nodes)}_{i}" for i in range(outputs)]
        node = helper.make_node(op, names, made, **attributes)
        everything = {**self.values, **self.constants}
        feeds = {n: everything[n] for n in names if n}
        found = ReferenceEvaluator(node, opsets={"": self.opset}).run(None, feeds)
        self.nodes.append(node)
        self.values.update(zip(made, map(np.asarray, found), strict=True))
        return made[0]

    def reduce(self, op: str, x: str, axes: list[int], keepdims: int) -> str:
        if self.opset >= (13 if op == "ReduceSum" else 18):
            return self.node(op, x, self.constant(axes, np.int64), keepdims=keepdims)
        return self.node(op, x, axes=axes, keepdims=keepdims)

    def pick(self, fits: Callable[[np.ndarray], bool] = lambda value: True) -> str:
        """Any tensor that fits, one of the last two as likely as all of them together."""
        names = [n for n, v in self.values.items() if v.size and n != self.added and fits(v)]
        return self.choose(names[-2:]) if self.number(0, 1) else self.choose(names)

    def model(self, dtype: type, sizes: str) -> onnx.ModelProto:
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        inputs = [helper.make_tensor_value_info(n, kind, self._dims(n, sizes)) for n in self.inputs]
        output = helper.make_tensor_value_info(self.output, kind, None)
        arrays = {n: v.astype(dtype) if v.dtype.kind == "f" else v for n, v in self.constants.items()}
        weights = [numpy_helper.from_array(v, n) for n, v in arrays.items()]
        graph = helper.make_graph(self.nodes, "drawn", inputs, [output], weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)

    def _dims(self, name: str, sizes: str) -> list[int | str | None]:
        shape = self.values[name].shape
        if sizes == "numbers":
            return list(shape)
        return ["N", *(d if sizes == "open batch" else f"{name}_{i}" if sizes == "open" else None
                       for i, d in enumerate(shape[1:]))]  # fmt: skip

    def __repr__(self) -> str:
        return "\n".join(
            [f"opset {self.opset}, batch {self.batch}", *(f"{n}: {self.values[n].shape}" for n in self.inputs)]
            + [f"{n.output[0]} = {helper.printable_node(n)}" for n in self.nodes]
            + [f"{n} = {np.array2string(v, threshold=12)}" for n, v in self.constants.items()]
        )


# ----- kinds of nodes; each reads x and returns what it makes -----
def unary(p: Program, x: str) -> str:
    return p.node(p.choose(UNARY), x)


def clip(p: Program, x: str) -> str:
    return p.node("Clip", x, p.constant(-0.7) if p.number(0, 1) else "", p.constant(0.9))


def root(p: Program, x: str) -> str:
    return p.node("Sqrt", p.node("Add", p.node("Mul", x, x), p.constant(0.5)))


def swish(p: Program, x: str) -> str:
    return p.node("Mul", x, p.node("Sigmoid", x))


def other(p: Program, x: str) -> str:
    """A tensor that broadcasts with x: x itself, one that is there, or a weight of lower rank with axes of 1."""
    shape = p.values[x].shape
    if not p.number(0, 2):
        kept = shape[p.number(1, len(shape)) :]
        return p.weight(*(1 if i + 1 == len(shape) or not p.number(0, 2) else d for i, d in enumerate(kept)))

    def fits(value: np.ndarray) -> bool:
        return value.ndim == len(shape) and all(a == b or 1 in (a, b) for a, b in zip(value.shape, shape, strict=True))

    return p.pick(fits)


def binary(p: Program, x: str) -> str:
    op, y = p.choose(("Add", "Sub", "Mul", "Max", "Min", "Div")), other(p, x)
    if op == "Div" and y in p.constants:
        return p.node("Div", x, p.constant(np.abs(p.constants[y]) + 0.5))
    if op == "Div":
        return p.node("Div", x, p.node("Add", p.node("Sigmoid", y), p.constant(0.5)))
    return p.node(op, x, y) if p.number(0, 1) else p.node(op, y, x)


def convolve(p: Program, x: str) -> str:
    channels, *space = p.values[x].shape[1:]
    kernel = [p.number(1, min(3, d)) for d in space]
    group = p.choose([g for g in (1, channels) if channels % g == 0])
    weight = p.weight(group * p.number(1, 2), channels // group, *kernel)
    names = [x, weight, p.weight(p.constants[weight].shape[0])][: p.number(2, 3)]
    pads = [p.number(0, 1) for _ in range(2 * len(space))]
    strides = [p.number(1, 2) for _ in space]
    return p.node("Conv", *names, group=group, strides=strides, pads=pads, kernel_shape=kernel)


def pool(p: Program, x: str) -> str:
    op, space = p.choose(("MaxPool", "AveragePool", "GlobalAveragePool")), p.values[x].shape[2:]
    if op == "GlobalAveragePool":
        return p.node(op, x)
    side = p.number(1, min(3, *space))  # square: the reference takes the padding of one axis for all
    more = {"count_include_pad": p.number(0, 1)} if op == "AveragePool" else {}
    kernel, pads, strides = [side], [(side - 1) // 2], [p.number(1, 2)]
    across = {"kernel_shape": kernel, "strides": strides, "pads": pads * 2}
    return p.node(op, x, **{k: v * len(space) for k, v in across.items()}, **more)


def normalize(p: Program, x: str) -> str:
    channels = p.values[x].shape[1]
    if p.values[x].ndim > 2 and (p.opset < 14 or p.number(0, 1)):  # the reference computes an old one as in training
        return p.node("InstanceNormalization", x, p.weight(channels), p.weight(channels), epsilon=0.1)
    statistics = p.weight(channels), p.constant(p.rng.uniform(0.5, 2, channels))
    return p.node("BatchNormalization", x, p.weight(channels), p.weight(channels), *statistics)


def product(p: Program, x: str) -> str:
    last = p.values[x].shape[-1]
    rank = p.values[x].ndim
    if rank == 2 and p.number(0, 1):
        rows = p.number(1, 4)
        return p.node("Gemm", x, p.weight(rows, last), p.weight(rows), transB=1, alpha=0.5)
    if rank > 2 and p.number(0, 1):
        turned = p.node("Transpose", x, perm=[*range(rank - 2), rank - 1, rank - 2])
        return p.node("MatMul", p.node("Tanh", x), turned)
    return p.node("MatMul", x, p.weight(last, p.number(1, 4)))


def reshape(p: Program, x: str) -> str:
    shape = p.values[x].shape
    form = p.choose(("flat", "merged", "split", "unsqueezed"))
    if form == "flat":
        return p.node("Flatten", x, axis=1)
    if form == "unsqueezed":
        axes = p.constant([p.number(1, len(shape))], np.int64)
        y = p.node("Unsqueeze", x, axes)
        return p.node("Squeeze", y, axes) if p.number(0, 1) else y
    if form == "split" and shape[1] % 2 == 0:
        return p.node("Reshape", x, p.constant([0, 2, shape[1] // 2, *shape[2:]], np.int64))
    return p.node("Reshape", x, p.constant([0, shape[1], -1], np.int64))


def transpose(p: Program, x: str) -> str:
    return p.node("Transpose", x, perm=[0, *p.draw(st.permutations(range(1, p.values[x].ndim)))])


def concatenate(p: Program, x: str) -> str:
    shape = p.values[x].shape
    axis = p.number(1, len(shape) - 1)

    def fits(value: np.ndarray) -> bool:
        return value.ndim == len(shape) and all(
            a == b or i == axis for i, (a, b) in enumerate(zip(value.shape, shape, strict=True))
        )

    return p.node("Concat", p.pick(fits), x, axis=p.choose((axis, axis - len(shape))))


def split(p: Program, x: str) -> str:
    shape = p.values[x].shape
    axis = p.number(1, len(shape) - 1)
    first = p.number(int(p.opset < 14), shape[axis])  # before, Reshape makes no axis empty that a run finds to be
    y = p.node("Split", x, p.constant([first, shape[axis] - first], np.int64), axis=axis, outputs=2)
    return y if p.values[y].size else p.nodes[-1].output[1]


def cut(p: Program, x: str) -> str:
    shape = p.values[x].shape
    axis = p.number(1, len(shape) - 1)
    bounds = p.choose(((0, 3, 1), (-2, 9, 1), (0, -1, 1), (1, 9, 2), (-1, -9, -1), (9, 0, -2)))
    if not range(shape[axis])[slice(*bounds)]:
        return x
    return p.node("Slice", x, *(p.constant([v], np.int64) for v in (*bounds[:2], axis, bounds[2])))


def pad(p: Program, x: str) -> str:
    shape = p.values[x].shape
    mode = p.choose(("constant", "edge", "reflect"))
    most = [min(2, d - 1) if mode == "reflect" else 2 for d in shape[1:]]
    pads = [0, *(p.number(0, m) for m in most), 0, *(p.number(0, m) for m in most)]
    return p.node("Pad", x, p.constant(pads, np.int64), mode=mode)


def reduction(p: Program, x: str) -> str:
    op = p.choose(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceLogSumExp", "ReduceSumSquare"))
    rank = p.values[x].ndim
    axes = p.draw(st.lists(st.integers(1, rank - 1), min_size=1, unique=True))
    return p.reduce(op, x, [p.choose((a, a - rank)) for a in axes], p.number(0, 1))


def softmax(p: Program, x: str) -> str:
    return p.node(p.choose(("Softmax", "LogSoftmax")), x, axis=p.number(1, p.values[x].ndim - 1))


def where(p: Program, x: str) -> str:
    shape = p.values[x].shape
    mask = p.constant(p.rng.random(shape[1:]) < 0.5, bool)
    return p.node("Where", mask, *p.draw(st.permutations([x, other(p, x)])))


def gather(p: Program, x: str) -> str:
    axis = p.number(1, p.values[x].ndim - 1)
    size = p.values[x].shape[axis]
    indices = p.draw(st.lists(st.integers(-size, size - 1), min_size=1, max_size=4))
    return p.node("Gather", x, p.constant(indices if p.number(0, 2) else indices[0], np.int64), axis=axis)


KINDS: tuple[tuple[Callable[[Program, str], str], range], ...] = (
    (unary, range(6)), (clip, range(6)), (root, range(6)), (swish, range(6)), (binary, range(6)), (binary, range(6)),
    (convolve, range(3, 5)), (convolve, range(3, 5)), (pool, range(3, 5)), (pool, range(3, 5)),
    (normalize, range(3, 5)), (product, range(2, 5)), (product, range(2, 5)), (reshape, range(2, 5)),
    (transpose, range(2, 6)), (concatenate, range(2, 6)), (split, range(2, 6)), (cut, range(2, 6)),
    (pad, range(2, 6)), (reduction, range(2, 6)), (softmax, range(2, 6)), (where, range(1, 6)), (gather, range(2, 6)),
)  # fmt: skip


@st.composite
def programs(draw: Draw) -> Program:
    """Three to ten nodes on one or two inputs; to the tensor `probe` among them one more input, zero, is added."""
    p = Program(draw, draw(st.sampled_from((13, 17, 18, 21))), draw(st.integers(1, 3)), draw(st.integers(0, 999)))
    for shape in draw(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=2)):
        p.input(p.rng.uniform(-2, 2, (p.batch, *shape)))
    steps = draw(st.integers(3, 10))
    probed = draw(st.integers(0, steps - 1))
    for step in range(steps):
        x = p.pick()
        if step == probed:
            p.added = p.input(np.zeros_like(p.values[x]))
            x = p.probe = p.exactly("Add", x, p.added)
        fitting = [kind for kind, ranks in KINDS if p.values[x].ndim in ranks]
        y = draw(st.sampled_from(fitting))(p, x)
        if p.values[y].size > LONG:
            p.reduce("ReduceMean", y, [p.values[y].ndim - 1], 0)
    read = {name for node in p.nodes for name in node.input}
    loose = [p.node("Flatten", name, axis=1) for name in [*p.values] if name not in read]
    p.output = p.node("Concat", *loose, axis=1)
    return p


def smooth_difference(p: Program, name: str, u: np.ndarray, v: np.ndarray) -> float:
    """Change of ⟨u, output⟩ along v by central differences in float64; an example at a kink is given up."""
    reference = ReferenceEvaluator(p.model(np.float64, "numbers"))
    feeds = {n: p.values[n] for n in p.inputs}
    low, middle, high = (
        float((reference.run([p.output], {**feeds, name: feeds[name] + t * v})[0] * u).sum()) for t in (-STEP, 0, STEP)
    )
    assume(abs(high - 2 * middle + low) <= 1e-3 * STEP * max(1.0, abs(high - low) / STEP))
    return (high - low) / (2 * STEP)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, where the reference computes both sides of a Where
@settings(max_examples=EXAMPLES, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(programs(), st.sampled_from(("numbers", "open batch", "open", "nameless")))
def test_a_random_program_against_differences(p: Program, sizes: str) -> None:
    rng = np.random.default_rng(0)
    u = rng.normal(size=p.values[p.output].shape)
    wrt = [*p.inputs, p.probe]
    try:
        extended = onnxcam.vjp(p.model(np.float32, sizes), of=p.output, wrt=wrt)
    except UnsupportedGradient as error:
        assert "the number of channels" in str(error) and sizes in ("open", "nameless")  # noqa: PT017, PT018 - the one thing that has to be a number
        assume(False)
    feeds = {n: p.values[n].astype(np.float32) for n in p.inputs} | {f"seed/{p.output}": u.astype(np.float32)}
    found = run(extended, feeds)
    np.testing.assert_allclose(found[p.output], p.values[p.output], rtol=1e-3, atol=1e-4)  # the same function
    for name in p.inputs:
        gradient = found[f"grad/{name}"].astype(np.float64)
        assert gradient.shape == p.values[name].shape
        v = rng.normal(size=gradient.shape)
        due = smooth_difference(p, name, u, v)
        assert abs((gradient * v).sum() - due) <= 2e-3 * (np.abs(gradient * v).sum() + abs(due)) + 1e-4, name
    np.testing.assert_allclose(found[f"grad/{p.probe}"], found[f"grad/{p.added}"], rtol=1e-5, atol=1e-6)
