"""RNN, GRU and LSTM: the equations of the specification, which the walk goes through.

The input's part of all gates is one product over all steps; a step adds the part of the state before it. For sequences
of their own lengths there is one mask per step: outside its length a sequence keeps its state and returns 0, from
either end, so that a reversed one begins where it is long enough. Where the specification leaves a choice (what is
clipped, a sequence of length 0) it is onnxruntime's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx

from onnxcam.errors import UnsupportedGradient
from onnxcam.grad.infer import Type
from onnxcam.grad.recurrence import Values, recurrence
from onnxcam.grad.registry import Joint, formula
from onnxcam.grad.scatter import numbers
from onnxcam.grad.shapes import INT64, sizes, static
from onnxcam.grad.tensor import Value, op, split

Function = Callable[[Value], Value]
Cell = Callable[..., Values]
FLOAT = onnx.TensorProto.FLOAT
WAYS = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}  # from the end?

# The functions by their names in `activations`, in lower case; a and b are activation_alpha and activation_beta.
_FUNCTIONS: dict[str, Callable[[float, float, Value], Value]] = {
    "affine": lambda a, b, x: x * a + b,
    "elu": lambda a, b, x: op.Elu(x, alpha=a),
    "hardsigmoid": lambda a, b, x: op.HardSigmoid(x, alpha=a, beta=b),
    "leakyrelu": lambda a, b, x: op.LeakyRelu(x, alpha=a),
    "relu": lambda a, b, x: op.Relu(x),
    "scaledtanh": lambda a, b, x: op.Tanh(x * b) * a,
    "sigmoid": lambda a, b, x: op.Sigmoid(x),
    "softplus": lambda a, b, x: op.Softplus(x),
    "softsign": lambda a, b, x: op.Softsign(x),
    "tanh": lambda a, b, x: op.Tanh(x),
    "thresholdedrelu": lambda a, b, x: x * op.Cast(op.Greater(x, a), to=x.dtype),
}
_ALPHA = {"affine": 1.0, "elu": 1.0, "hardsigmoid": 0.2, "leakyrelu": 0.01, "scaledtanh": 1.0, "thresholdedrelu": 1.0}
_BETA = {"affine": 0.0, "hardsigmoid": 0.5, "scaledtanh": 1.0}


# ----- one step: the input's part of the gates and the states -> the next states -----
def rnn_step(x: Value, h: Value, *, r: Value, f: Function) -> Values:
    """Ht = f(Xt Wᵀ + Ht₋₁ Rᵀ + b)."""
    return (f(x + op.MatMul(h, r)),)


def gru_step(
    x: Value, h: Value, *, r: Value, b: Value | None, f: Function, g: Function, linear_before_reset: int
) -> Values:
    """Ht = (1 − zt)·ht + zt·Ht₋₁, with the reset gate rt before or after the product with Rhᵀ."""
    hidden = _hidden(h)
    x_gates, x_new = split(x, 1, [2 * hidden, hidden])
    r_gates, r_new = split(r, 1, [2 * hidden, hidden])
    z, reset = split(f(x_gates + op.MatMul(h, r_gates)), 1, [hidden, hidden])
    old = op.MatMul(h if linear_before_reset else reset * h, r_new)
    old = old if b is None else old + b
    new = g(x_new + (reset * old if linear_before_reset else old))
    return ((1 - z) * new + z * h,)


def lstm_step(
    x: Value, h: Value, c: Value, *, r: Value, p: Values, f: Function, g: Function, h_of: Function, input_forget: int
) -> Values:
    """Ct = ft·Ct₋₁ + it·ct and Ht = ot·h(Ct); peepholes p let the gates see C."""
    i, o, forget, new = split(x + op.MatMul(h, r), 1, [_hidden(h)] * 4)
    i = f(i + p[0] * c if p else i)
    forget = 1 - i if input_forget else f(forget + p[2] * c if p else forget)
    c = forget * c + i * g(new)
    return f(o + p[1] * c if p else o) * h_of(c), c


# ----- the operators -----
@dataclass(frozen=True)
class Way:
    """The weights, the bias, the peepholes and the activations of one direction, and the attributes of cells."""

    w: Value
    r: Value
    b: Value | None
    p: Value | None
    functions: Sequence[Function]
    linear_before_reset: int
    input_forget: int


def rnn(way: Way) -> tuple[Value | None, Cell]:
    """The bias of the input's part, and the step."""
    return _sum(way.b), partial(rnn_step, r=_turned(way.r), f=way.functions[0])


def gru(way: Way) -> tuple[Value | None, Cell]:
    """The same; where the reset gate comes after the product, its own bias stays inside."""
    outside, inside, hidden = _sum(way.b), None, _hidden(way.r)
    if way.b is not None and way.linear_before_reset:
        b_w, b_gates, inside = split(way.b, 0, [3 * hidden, 2 * hidden, hidden])
        outside = b_w + op.Concat(b_gates, inside.tape.constant(np.zeros(hidden), inside.dtype), axis=0)
    f, g = way.functions
    return outside, partial(gru_step, r=_turned(way.r), b=inside, f=f, g=g, linear_before_reset=way.linear_before_reset)


def lstm(way: Way) -> tuple[Value | None, Cell]:
    """The same."""
    p = () if way.p is None else split(way.p, 0, [_hidden(way.r)] * 3)
    f, g, h_of = way.functions
    step = partial(lstm_step, r=_turned(way.r), p=p, f=f, g=g, h_of=h_of, input_forget=way.input_forget)
    return _sum(way.b), step


def _recurrent(cell_of: Callable[[Way], tuple[Value | None, Cell]], gates: Sequence[str], states: int) -> Joint:
    """An operator of such cells, with that many states: Y and the final ones. `gates`: the activations by default."""

    def operator(
        x: Value,
        w: Value,
        r: Value,
        b: Value | None = None,
        sequence_lens: Value | None = None,
        initial_h: Value | None = None,
        initial_c: Value | None = None,
        p: Value | None = None,
        *,
        activations: Sequence[str | bytes] | None = None,
        activation_alpha: Sequence[float] | None = None,
        activation_beta: Sequence[float] | None = None,
        clip: float | None = None,
        direction: str = "forward",
        hidden_size: int | None = None,
        input_forget: int = 0,
        linear_before_reset: int = 0,
        layout: int = 0,
    ) -> Values:
        ways = WAYS[direction]
        names = activations or [*gates] * len(ways)
        functions = _functions(names, activation_alpha, activation_beta, clip, len(gates), len(ways))
        weights = zip(_parts(w, ways), _parts(r, ways), _each(b, ways), _each(p, ways), functions, strict=True)
        each = [Way(*parts, linear_before_reset, input_forget) for parts in weights]
        cells = [(way.w, *cell_of(way)) for way in each]
        return _run(x, cells, sequence_lens, [initial_h, initial_c][:states], _hidden(r), ways, layout)

    return operator


formula("RNN", _recurrent(rnn, ["Tanh"], 1))
formula("GRU", _recurrent(gru, ["Sigmoid", "Tanh"], 1))
formula("LSTM", _recurrent(lstm, ["Sigmoid", "Tanh", "Tanh"], 2))


# ----- what they share -----
def _run(
    x: Value,
    cells: Sequence[tuple[Value, Value | None, Cell]],
    lens: Value | None,
    initial: Sequence[Value | None],
    hidden: int,
    ways: Sequence[bool],
    layout: int,
) -> Values:
    """Y [steps, directions, batch, hidden] and the final states [directions, batch, hidden]; layout 1: batch first.

    `cells` are W, bias and step of each direction.
    """
    if layout:
        x = op.Transpose(x, perm=[1, 0, 2])
        initial = [v if v is None else op.Transpose(v, perm=[1, 0, 2]) for v in initial]
    mask = None if lens is None else _mask(lens, x)
    starts = zip(*(_each(v, ways) for v in initial), strict=True)
    outputs, finals = [], []
    for (w, b, cell), given, backwards in zip(cells, starts, ways, strict=True):
        z = op.MatMul(x, _turned(w))
        z = z if b is None else z + b
        states = tuple(_zeros(x, hidden) if v is None else v for v in given)
        if mask is None:
            y, last = recurrence(partial(_plain, cell), (z,), states, backwards)
        else:
            alive = op.ReduceMax(mask, axes=[0], keepdims=0)
            y, last = recurrence(partial(_kept, cell), (z, mask), tuple(alive * v for v in states), backwards)
            y = y * mask
        outputs.append(op.Unsqueeze(y, axes=[1]))
        finals.append([op.Unsqueeze(v, axes=[0]) for v in last])
    y = op.Concat(*outputs, axis=1)
    states = tuple(op.Concat(*parts, axis=0) for parts in zip(*finals, strict=True))
    if layout:
        return op.Transpose(y, perm=[2, 0, 1, 3]), *(op.Transpose(v, perm=[1, 0, 2]) for v in states)
    return y, *states


def _plain(cell: Cell, now: Values, old: Values) -> Values:
    return cell(now[0], *old)


def _kept(cell: Cell, now: Values, old: Values) -> Values:
    """A step in which the sequences that the mask leaves out keep their states."""
    z, mask = now
    return tuple(mask * new + (1 - mask) * v for new, v in zip(cell(z, *old), old, strict=True))


def _mask(lens: Value, x: Value) -> Value:
    """1 where step t is inside the sequence, 0 behind its end: [steps, batch, 1]."""
    steps = op.Unsqueeze(op.Cast(numbers(sizes(x, [0])), to=FLOAT), axes=[1])
    inside = op.Less(steps, op.Unsqueeze(op.Cast(lens, to=FLOAT), axes=[0]))
    mask = op.Unsqueeze(op.Cast(inside, to=x.dtype), axes=[2])
    return x.tape.retype(mask, Type(x.dtype, (*x.shape[:2], 1)))


def _zeros(x: Value, hidden: int) -> Value:
    batch = static(x, [1])
    if batch is not None:
        return x.tape.constant(np.zeros((*batch, hidden)), x.dtype)
    if x.tape.graph.opsets[""] < 8:
        raise UnsupportedGradient("its batch is known at run time only, which needs opset 8")
    shape = op.Concat(sizes(x, [1]), x.tape.constant([hidden], INT64), axis=0)
    return x.tape.retype(op.Expand(x.tape.constant(0, x.dtype), shape), Type(x.dtype, (x.shape[1], hidden)))


def _parts(v: Value, ways: Sequence[bool]) -> list[Value]:
    """The part of each direction, along axis 0."""
    parts = split(v, 0, [1] * len(ways)) if len(ways) > 1 else [v]
    return [op.Squeeze(part, axes=[0]) for part in parts]


def _each(v: Value | None, ways: Sequence[bool]) -> Sequence[Value | None]:
    """The same of an input that may be left out."""
    return [None for _ in ways] if v is None else _parts(v, ways)


def _sum(b: Value | None) -> Value | None:
    """Wb + Rb, which lie one behind the other."""
    if b is None:
        return None
    (size,) = static(b, [0]) or [0]
    first, second = split(b, 0, [size // 2] * 2)
    return first + second


def _turned(w: Value) -> Value:
    return op.Transpose(w, perm=[1, 0])


def _hidden(v: Value) -> int:
    size = v.shape[-1]
    if not isinstance(size, int):
        raise UnsupportedGradient("its hidden size is unknown. Export the model with weights of fixed size")
    return size


def _functions(
    names: Sequence[str | bytes],
    alpha: Sequence[float] | None,
    beta: Sequence[float] | None,
    clip: float | None,
    each: int,
    ways: int,
) -> list[list[Function]]:
    """The activations of each direction, parameters taken from the lists by those that have one; gates are clipped."""
    if len(names) < each * ways:
        raise UnsupportedGradient(f"it names {len(names)} activations, and needs {each * ways}")
    alphas, betas = iter(alpha or ()), iter(beta or ())
    result: list[Function] = []
    for position, given in enumerate(names[: each * ways]):
        name = (given.decode() if isinstance(given, bytes) else given).lower()
        if name not in _FUNCTIONS:
            raise UnsupportedGradient(f"its activation '{name}' is not in the specification")
        a = next(alphas, _ALPHA[name]) if name in _ALPHA else 0.0
        b = next(betas, _BETA[name]) if name in _BETA else 0.0
        function = partial(_FUNCTIONS[name], a, b)
        gate = position % each < 2  # an LSTM's third is applied to the cell, which onnxruntime does not clip
        result.append(partial(_clipped, function, clip) if clip and gate else function)
    return [result[k : k + each] for k in range(0, each * ways, each)]


def _clipped(function: Function, clip: float, x: Value) -> Value:
    return function(op.Clip(x, min=-clip, max=clip))
