"""Normalisation layers and Softmax."""

from collections.abc import Callable
from dataclasses import dataclass

from onnxcam.errors import UnsupportedGradient
from onnxcam.grad.mask import step
from onnxcam.grad.registry import Outputs, Rule, vjp
from onnxcam.grad.shapes import INT64, as_type, count, reshape_like, sum_to, zeros_like
from onnxcam.grad.tensor import Value, op


# ----- batch normalisation: an affine function of each channel -----
def _columns(v: Value, x: Value) -> Value:
    """A value per channel, shaped to broadcast over `x`."""
    return op.Unsqueeze(v, axes=[0, *range(2, x.rank)]) if x.rank > 1 else v


def _over_channels(v: Value) -> Value:
    return op.ReduceSum(v, axes=[0, *range(2, v.rank)], keepdims=0)


@dataclass(frozen=True)
class BatchNorm:
    """One use of BatchNormalization: its inputs but the bias, in the type of `x`, and the gradients of its outputs.

    At inference y = x̂·scale + b with x̂ = (x − mean)/√(var + ε). In training mode the mean and the variance are those
    of the batch, and those given are only carried on: running = given·momentum + batch's·(1 − momentum).
    """

    g: Outputs
    x: Value
    scale: Value
    mean: Value
    var: Value
    epsilon: float
    momentum: float
    training: bool

    @property
    def axes(self) -> list[int]:
        """Those that statistics are taken over: all but the channels."""
        return [0, *range(2, self.x.rank)]

    @property
    def dy(self) -> Value:
        """The gradient of the first output."""
        return self.g[0] or zeros_like(self.x)

    def deviation(self) -> Value:
        """√(var + ε), a value per channel."""
        return op.Sqrt(self.var + self.epsilon)

    def dx(self) -> Value:
        """g·scale/√(var + ε); the statistics of a batch take a part of it back, and pass on their own gradients."""
        if not self.training:
            return self.dy * _columns(self.scale / self.deviation(), self.x)
        back = _normalized(self.dy * _columns(self.scale, self.x), self.x, self.axes, self.epsilon)
        centred = self.x - op.ReduceMean(self.x, axes=self.axes, keepdims=1)
        share = (1 - self.momentum) / count(self.x, self.axes)
        mean, var = (*self.g[1:], None, None)[:2]
        back = back if mean is None else back + _columns(mean, self.x) * share
        return back if var is None else back + _columns(var, self.x) * centred * 2 * share

    def dscale(self) -> Value:
        """Σ g·x̂."""
        if self.training:
            return _over_channels(self.dy * _moments(self.x, self.axes, self.epsilon)[0])
        return _over_channels(self.dy * (self.x - _columns(self.mean, self.x))) / self.deviation()

    def dbias(self) -> Value:
        """Σ g."""
        return _over_channels(self.dy)

    def dmean(self) -> Value:
        """−Σ g·scale/√(var + ε)."""
        return self._carried(1) if self.training else -_over_channels(self.dy) * self.scale / self.deviation()

    def dvar(self) -> Value:
        """−½ Σ g·scale·(x − mean)/(var + ε)^1.5."""
        if self.training:
            return self._carried(2)
        total = _over_channels(self.dy * (self.x - _columns(self.mean, self.x)))
        return total * self.scale * -0.5 / op.Pow(self.var + self.epsilon, 1.5)

    def _carried(self, index: int) -> Value:
        g = self.g[index] if index < len(self.g) else None
        return zeros_like(self.mean) if g is None else g * self.momentum


def _batch_norm(index: int, gradient: Callable[[BatchNorm], Value]) -> Rule:
    """The rule for one input of BatchNormalization; the attributes are the same for all."""

    def rule(
        g: Outputs, y: Outputs, x: Value, scale: Value, b: Value, mean: Value, var: Value,
        *, epsilon: float, momentum: float, training_mode: int | None = None, spatial: int = 1,
    ) -> Value:  # fmt: skip
        if not spatial:
            raise UnsupportedGradient("spatial=0 keeps statistics per pixel. Export with spatial=1")
        if training_mode is None and any(v is not None for v in y[1:]):
            raise UnsupportedGradient("it is in training mode, which runtimes compute from opset 14 on only")
        grads = tuple(v and as_type(v, x.dtype) for v in g)
        own = [as_type(v, x.dtype) for v in (scale, mean, var)]
        result = gradient(BatchNorm(grads, x, own[0], own[1], own[2], epsilon, momentum, bool(training_mode)))
        return as_type(result, (x, scale, b, mean, var)[index].dtype)

    return rule


vjp(
    "BatchNormalization",
    _batch_norm(0, BatchNorm.dx),
    _batch_norm(1, BatchNorm.dscale),
    _batch_norm(2, BatchNorm.dbias),
    _batch_norm(3, BatchNorm.dmean),
    _batch_norm(4, BatchNorm.dvar),
    many=True,
)


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


def mean_variance(g: Value, y: Value, x: Value, *, axes: list[int]) -> Value:
    """x̂ = (x − mean)/s with s = σ + 10⁻⁹: (g − mean(g) − x̂·mean(g·x̂)·s/σ)/s.

    Where nothing varies x̂ is 0; onnxruntime divides by σ itself, so that y is not a number there.
    """
    centred = x - op.ReduceMean(x, axes=axes, keepdims=1)
    deviation = op.Sqrt(op.ReduceMean(centred * centred, axes=axes, keepdims=1))
    scale = deviation + 1e-9
    xhat = centred / scale
    share = op.ReduceMean(g * xhat, axes=axes, keepdims=1) * scale / (deviation + (1 - step(deviation)))
    return (g - op.ReduceMean(g, axes=axes, keepdims=1) - xhat * share) / scale


vjp("MeanVarianceNormalization", mean_variance)


def lp_normalization(g: Value, y: Value, x: Value, *, axis: int, p: int) -> Value:
    """Y = x/‖x‖_p along one axis; 0 where the norm is, at the point where the direction is undefined."""
    norm = op.ReduceL2(x, axes=[axis], keepdims=1) if p == 2 else op.ReduceL1(x, axes=[axis], keepdims=1)
    direction = y if p == 2 else step(x) - step(-x)
    some = step(norm)
    return (g - direction * op.ReduceSum(g * y, axes=[axis], keepdims=1)) * some / (norm + (1 - some))


vjp("LpNormalization", lp_normalization)
