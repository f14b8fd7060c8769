"""Operators that draw random numbers: the gradient is that of what was drawn."""

import numpy as np

from onnxcam.errors import UnsupportedGradient
from onnxcam.grad.registry import STOP, Outputs, elementwise, vjp
from onnxcam.grad.shapes import as_type, reshape_like, zeros_like
from onnxcam.grad.tensor import Value, op


# ----- dropout -----
def dropout(
    g: Outputs,
    y: Outputs,
    x: Value,
    ratio: Value | None = None,
    training_mode: Value | None = None,
    *,
    seed: int | None = None,
) -> Value:
    """Y = x·mask/(1 − ratio) in training, else x. Which mask was drawn, only the output of that name tells."""
    if _is_off(training_mode) or (ratio is not None and ratio.constant is not None and not np.any(ratio.constant)):
        return _first(g, x)
    mask = y[1] if len(y) > 1 else None
    if mask is None:
        raise UnsupportedGradient(
            "what it drops in training mode is random. Export in inference mode, or with the mask as an output"
        )
    return _first(g, x) * op.Cast(mask, to=x.dtype) * _scale(x, ratio, training_mode)


def dropout_ratio(
    g: Outputs, y: Outputs, x: Value, ratio: Value, training_mode: Value | None = None, *, seed: int | None = None
) -> Value:
    """Σ g·y/(1 − ratio) in training: what is kept grows with the ratio, and for no small change is less of it kept."""
    if _is_off(training_mode) or training_mode is None or y[0] is None:
        return zeros_like(ratio)
    kept = op.ReduceSum(_first(g, x) * y[0] * _scale(x, ratio, training_mode), keepdims=0)
    return reshape_like(as_type(kept * op.Cast(training_mode, to=x.dtype), ratio.dtype), ratio)


def _first(g: Outputs, x: Value) -> Value:
    return g[0] or zeros_like(x)


def _is_off(training_mode: Value | None) -> bool:
    return training_mode is None or (training_mode.constant is not None and not np.any(training_mode.constant))


def _scale(x: Value, ratio: Value | None, training_mode: Value | None) -> "Value | float":
    """1/(1 − ratio), or 1 where the mode turns out to be inference."""
    share = 0.5 if ratio is None else as_type(ratio, x.dtype)
    on = None if training_mode is None or training_mode.constant is not None else op.Cast(training_mode, to=x.dtype)
    return 1 / (1 - (share if on is None else on * share))


elementwise("Dropout", lambda g, y, x, *, ratio=0.5: g, until=12)
vjp("Dropout", dropout, dropout_ratio, STOP, since=12, many=True)

# ----- draws -----
vjp("Bernoulli", STOP)  # a draw below its probability stays below it
vjp("RandomNormalLike", STOP)
vjp("RandomUniformLike", STOP)
