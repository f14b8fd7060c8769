"""`onnxcam.vjp`: a model extended by the gradient of one of its tensors with respect to others."""

from collections.abc import Iterable, Sequence

import onnx

import onnxcam.grad.rules  # noqa: F401 - fills the registry
from onnxcam.errors import InputError, unknown
from onnxcam.grad.forward import Forward
from onnxcam.grad.precision import Arithmetic, Precision
from onnxcam.grad.prepare import prepare
from onnxcam.grad.quantized import dequantized
from onnxcam.grad.reverse import pullback, refuse_missing
from onnxcam.grad.tensor import Tape
from onnxcam.model import ModelLike, graft, read


def vjp(model: ModelLike, *, of: str, wrt: Sequence[str], arithmetic: Arithmetic = "auto") -> onnx.ModelProto:
    """Extend a model by Jᵀ·seed of tensor `of` with respect to each tensor of `wrt`.

    The result has one more input `seed/<of>`, of the shape and type of `of`, and one more output `grad/<name>` for each
    name of `wrt`. `of` and `wrt` are any float tensors of the main graph, inputs and weights included, and integer
    ones that stand for a float one, as quantised models have them: the gradient is that of the dequantised tensor.
    `arithmetic`: gradients of float16 tensors are computed in float16 ("auto") or in "float32"; of bfloat16 in float32.
    Raises InputError for an unknown name, UnsupportedGradient naming every operator on the way without a gradient.
    """
    names = [wrt] if isinstance(wrt, str) else list(wrt) if isinstance(wrt, Iterable) else [wrt]
    for name in (of, *names):
        if not isinstance(name, str):
            raise InputError(f"`of` and `wrt` are names of tensors, not {name!r}.")
    names = list(dict.fromkeys(names))
    source = read(model)
    forward = Forward(source.proto, source.folder)
    if not names:
        raise InputError("Nothing to differentiate by: `wrt` is empty.")
    tape = Tape(forward)
    floats = {name: dequantized(name, forward, tape) for name in (of, *names)}
    for name in names:
        check_float(forward, floats[name])
    for name in (f"seed/{of}", *(f"grad/{n}" for n in names)):
        if forward.taken(name):
            raise InputError(f"The model has a tensor '{name}' already: differentiate the original instead.")
    of_, wrt = floats[of], [floats[name] for name in names]
    prepare(forward, tape, keep=wrt, of=of_)
    refuse_missing(forward, of_, wrt)
    check_float(forward, of_)
    precision = Precision.of(forward, arithmetic)
    tape.wide = precision.wide
    seed = tape.input(f"seed/{of}", forward.type(of_))
    gradients = pullback(forward, tape, of_, precision.enter(seed), wrt)
    outputs = [
        tape.rename(precision.leave(gradients[floats[name]], forward.type(floats[name]).dtype), f"grad/{name}")
        for name in names
    ]
    return graft(source.proto, tape.nodes, tape.tensors([seed]), tape.returned(outputs))


def check_float(forward: Forward, name: str) -> None:
    """Raise InputError unless `name` is a float tensor of the graph."""
    if not forward.has_type(name):
        raise unknown("tensor", name, forward.names())
    if not forward.type(name).is_float:
        raise InputError(f"Tensor '{name}' holds integers: it has no gradient.")
