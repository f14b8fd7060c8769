"""Normalisation layers and Softmax."""

from onnxcam.errors import UnsupportedGradient
from onnxcam.grad.mask import step
from onnxcam.grad.registry import vjp
from onnxcam.grad.shapes import INT64, reshape_like, sum_to
from onnxcam.grad.tensor import Value, op


# ----- batch normalisation, at inference: an affine function of each channel -----
def _columns(v: Value, x: Value) -> Value:
    """A value per channel, shaped to broadcast over `x`."""
    return op.Unsqueeze(v, axes=[0, *range(2, x.rank)]) if x.rank > 1 else v


def _inference(training_mode: int, spatial: int) -> None:
    if training_mode:
        raise UnsupportedGradient("batch normalisation is in training mode; export the model in inference mode")
    if not spatial:
        raise UnsupportedGradient(
            "batch normalisation with spatial=0 keeps statistics per pixel; export with spatial=1"
        )


def _over_channels(v: Value) -> Value:
    return op.ReduceSum(v, axes=[0, *range(2, v.rank)], keepdims=0)


def batch_norm_x(
    g: Value, y: Value, x: Value, scale: Value, b: Value, mean: Value, var: Value,
    *, epsilon: float, momentum: float, training_mode: int = 0, spatial: int = 1,
) -> Value:  # fmt: skip
    """g·scale/√(var + ε)."""
    _inference(training_mode, spatial)
    return g * _columns(op.Cast(scale, to=x.dtype) / op.Sqrt(op.Cast(var, to=x.dtype) + epsilon), x)


def batch_norm_scale(
    g: Value, y: Value, x: Value, scale: Value, b: Value, mean: Value, var: Value,
    *, epsilon: float, momentum: float, training_mode: int = 0, spatial: int = 1,
) -> Value:  # fmt: skip
    """Σ g·(x − mean)/√(var + ε)."""
    _inference(training_mode, spatial)
    return _over_channels(g * (x - _columns(mean, x))) / op.Sqrt(var + epsilon)


def batch_norm_bias(
    g: Value, y: Value, x: Value, scale: Value, b: Value, mean: Value, var: Value,
    *, epsilon: float, momentum: float, training_mode: int = 0, spatial: int = 1,
) -> Value:  # fmt: skip
    """Σ g."""
    _inference(training_mode, spatial)
    return _over_channels(g)


def batch_norm_mean(
    g: Value, y: Value, x: Value, scale: Value, b: Value, mean: Value, var: Value,
    *, epsilon: float, momentum: float, training_mode: int = 0, spatial: int = 1,
) -> Value:  # fmt: skip
    """−Σ g·scale/√(var + ε)."""
    _inference(training_mode, spatial)
    return -_over_channels(g) * scale / op.Sqrt(var + epsilon)


def batch_norm_var(
    g: Value, y: Value, x: Value, scale: Value, b: Value, mean: Value, var: Value,
    *, epsilon: float, momentum: float, training_mode: int = 0, spatial: int = 1,
) -> Value:  # fmt: skip
    """−½ Σ g·scale·(x − mean)/(var + ε)^1.5."""
    _inference(training_mode, spatial)
    total = _over_channels(g * (x - _columns(mean, x)))
    return total * scale * -0.5 / op.Pow(var + epsilon, 1.5)


vjp("BatchNormalization", batch_norm_x, batch_norm_scale, batch_norm_bias, batch_norm_mean, batch_norm_var)


# ----- local response -----
def lrn(g: Value, y: Value, x: Value, *, size: int, alpha: float, beta: float, bias: float) -> Value:
    """Y = x·s^−β with s = bias + α/size·Σ x² over neighbouring channels: g·s^−β − 2αβ/size·x·Σᵀ(g·y/s)."""
    before, after = (size - 1) // 2, size // 2
    s = bias + _channel_window(x * x, size, before, after) * alpha
    spread = _channel_window(g * y / s, size, after, before)
    return g * op.Pow(s, -beta) - x * spread * (2 * alpha * beta)


vjp("LRN", lrn)


def _channel_window(v: Value, size: int, before: int, after: int) -> Value:
    """Mean over `size` neighbouring channels, counting absent ones as zero."""
    flat = op.Reshape(op.Unsqueeze(v, axes=[1]), v.tape.constant([0, 0, 0, -1], INT64))
    pooled = op.AveragePool(
        flat, kernel_shape=[size, 1], strides=[1, 1], pads=[before, 0, after, 0], count_include_pad=1
    )
    return reshape_like(pooled, v)


# ----- softmax -----
def _softmax(g: Value, y: Value, axes: list[int]) -> Value:
    return y * (g - op.ReduceSum(g * y, axes=axes, keepdims=1))


def _log_softmax(g: Value, y: Value, axes: list[int]) -> Value:
    return g - op.Exp(y) * op.ReduceSum(g, axes=axes, keepdims=1)


def _from(axis: int, x: Value) -> list[int]:
    """Before opset 13 the input was flattened to two axes at `axis`, and all of the second normalised."""
    return list(range(axis % x.rank if x.rank else 0, x.rank))


vjp("Softmax", lambda g, y, x, *, axis: _softmax(g, y, _from(axis, x)), until=13)
vjp("Softmax", lambda g, y, x, *, axis: _softmax(g, y, [axis]), since=13)
vjp("LogSoftmax", lambda g, y, x, *, axis: _log_softmax(g, y, _from(axis, x)), until=13)
vjp("LogSoftmax", lambda g, y, x, *, axis: _log_softmax(g, y, [axis]), since=13)


# ----- statistics over space -----
def _moments(x: Value, axes: list[int], epsilon: float) -> tuple[Value, Value]:
    """Centred `x` divided by its standard deviation, and 1 / standard deviation."""
    centred = x - op.ReduceMean(x, axes=axes, keepdims=1)
    scale = 1 / op.Sqrt(op.ReduceMean(centred * centred, axes=axes, keepdims=1) + epsilon)
    return centred * scale, scale


def _normalized(g: Value, x: Value, axes: list[int], epsilon: float) -> Value:
    """d/dx of x̂ = (x − mean)/σ: (g − mean(g) − x̂·mean(g·x̂))/σ."""
    xhat, scale = _moments(x, axes, epsilon)
    mean = op.ReduceMean(g, axes=axes, keepdims=1)
    return (g - mean - xhat * op.ReduceMean(g * xhat, axes=axes, keepdims=1)) * scale


def _space(x: Value) -> list[int]:
    return list(range(2, x.rank))


vjp(
    "InstanceNormalization",
    lambda g, y, x, scale, b, *, epsilon: _normalized(g * _columns(scale, x), x, _space(x), epsilon),
    lambda g, y, x, scale, b, *, epsilon: _over_channels(g * _moments(x, _space(x), epsilon)[0]),
    lambda g, y, x, scale, b, *, epsilon: _over_channels(g),
)


def _last_axes(axis: int, x: Value) -> list[int]:
    return list(range(axis % x.rank, x.rank))


vjp(
    "LayerNormalization",
    lambda g, y, x, scale, b=None, *, axis, epsilon, stash_type: _normalized(
        g * scale, x, _last_axes(axis, x), epsilon
    ),
    lambda g, y, x, scale, b=None, *, axis, epsilon, stash_type: sum_to(
        g * _moments(x, _last_axes(axis, x), epsilon)[0], x, scale
    ),
    lambda g, y, x, scale, b=None, *, axis, epsilon, stash_type: sum_to(g, x, b),
)


def lp_normalization(g: Value, y: Value, x: Value, *, axis: int, p: int) -> Value:
    """Y = x/‖x‖_p along one axis; 0 where the norm is, at the point where the direction is undefined."""
    norm = op.ReduceL2(x, axes=[axis], keepdims=1) if p == 2 else op.ReduceL1(x, axes=[axis], keepdims=1)
    direction = y if p == 2 else step(x) - step(-x)
    some = step(norm)
    return (g - direction * op.ReduceSum(g * y, axes=[axis], keepdims=1)) * some / (norm + (1 - some))


vjp("LpNormalization", lp_normalization)
