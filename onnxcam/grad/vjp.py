"""`onnxcam.vjp`: a model extended by the gradient of one of its tensors with respect to others."""

from collections.abc import Sequence

import onnx

import onnxcam.grad.rules  # noqa: F401 - fills the registry
from onnxcam.errors import InputError, unknown
from onnxcam.grad.forward import Forward
from onnxcam.grad.prepare import prepare
from onnxcam.grad.reverse import pullback, refuse_missing
from onnxcam.grad.tensor import Tape
from onnxcam.model import ModelLike, graft, read


def vjp(model: ModelLike, *, of: str, wrt: Sequence[str]) -> onnx.ModelProto:
    """Extend a model by Jᵀ·seed of tensor `of` with respect to each tensor of `wrt`.

    The result has one more input `seed/<of>`, of the shape and type of `of`, and one more output `grad/<name>` for each
    name of `wrt`. `of` and `wrt` are any float tensors of the main graph, inputs and weights included.
    Raises InputError for an unknown name, UnsupportedGradient naming every operator on the way without a gradient.
    """
    source = read(model)
    forward = Forward(source.proto, source.folder)
    names = [wrt] if isinstance(wrt, str) else list(dict.fromkeys(wrt))
    if not names:
        raise InputError("Nothing to differentiate by: `wrt` is empty.")
    for name in names:
        check_float(forward, name)
    for name in (f"seed/{of}", *(f"grad/{n}" for n in names)):
        if forward.taken(name):
            raise InputError(f"The model has a tensor '{name}' already: differentiate the original instead.")
    tape = Tape(forward)
    prepare(forward, tape, keep=[of, *names])
    refuse_missing(forward, of, names)
    check_float(forward, of)
    seed = tape.input(f"seed/{of}", forward.type(of))
    gradients = pullback(forward, tape, of, seed, names)
    outputs = [tape.rename(gradients[name], f"grad/{name}") for name in names]
    return graft(source.proto, tape.nodes, tape.tensors([seed]), tape.tensors(outputs))


def check_float(forward: Forward, name: str) -> None:
    """Raise InputError unless `name` is a float tensor of the graph."""
    if not forward.has_type(name):
        raise unknown("tensor", name, forward.names())
    if not forward.type(name).is_float:
        raise InputError(f"Tensor '{name}' holds integers: it has no gradient.")
