"""Convolutions and matrix products with what a runtime fused into them: a sum, an activation, another layout."""

from collections.abc import Sequence

from onnxcam.grad.lowering import Use, lower
from onnxcam.grad.lowering.text import channels_first, number, to_channels_first, to_channels_last, transpose

_CONV = "auto_pad dilations group kernel_shape pads strides"
_PARAMETERS = {"LeakyRelu": ("alpha",), "HardSigmoid": ("alpha", "beta"), "Elu": ("alpha",)}
_PLAIN = ("Relu", "Sigmoid", "Softplus", "Softsign", "Tanh")


def activation(use: Use, y: str, x: str, kind: str, parameters: Sequence[float]) -> str | None:
    """`y`, which an activation makes of `x`; None for one that is not known."""
    if not kind:
        return f"{y} = Identity({x})"
    if kind in _PLAIN:
        return f"{y} = {kind}({x})"
    if kind == "Clip" and len(parameters) == 2:
        if use.opset < 11:
            return f"{y} = Clip<min = {parameters[0]!r}, max = {parameters[1]!r}>({x})"
        bounds = " ".join(number(n, v, use.dtype(0)) for n, v in zip(("low", "high"), parameters, strict=True))
        return f"{bounds} {y} = Clip({x}, low, high)"
    names = _PARAMETERS.get(kind)
    if names is None or len(parameters) > len(names):
        return None
    given = ", ".join(f"{n} = {v!r}" for n, v in zip(names, parameters, strict=False))
    return f"{y} = {kind}{f'<{given}>' if given else ''}({x})"


# ----- convolution -----
def _fused_conv(use: Use) -> str | None:
    call = f"Conv{use.passed(*_CONV.split())}"
    given = use.attributes.get("activation_params", [])
    parameters = [float(v) for v in given] if isinstance(given, list) else []
    after = activation(use, "Y", "s", use.text("activation"), parameters)
    if after is None:
        return None
    return f"""
      {channels_first(lambda x: f"{call}({x}, W, B)", "c", "X", use.rank(0) or 4, _channels_last(use))}
      {"s = Add(c, Z)" if use.has(3) else "s = Identity(c)"}
      {after}"""


def _channels_last(use: Use) -> bool:
    return bool(use.integer("channels_last", 0))


def _nhwc_fused_conv(use: Use) -> str | None:
    return _fused_conv(use.with_(channels_last=1))


def _nhwc_conv(use: Use) -> str:
    """Weights are (M, *kernel, C/group), as optimisers write them, or ONNX's own (M, C/group, *kernel)."""
    rank, group = use.rank(0) or 4, use.integer("group", 1)
    channels = use.size(0, -1)
    own = channels is not None and use.size(1, 1) == channels // group and use.size(1, -1) != channels // group
    weights = "w = Identity(W)" if own else to_channels_first("w", "W", rank)
    return f"""
      {weights}
      {to_channels_first("x", "X", rank)}
      c = Conv{use.passed(*_CONV.split())}(x, w, B)
      {to_channels_last("Y", "c", rank)}"""


lower("FusedConv (X, W, B, Z) => (Y)", _fused_conv, f"{_CONV} activation activation_params")
lower("NhwcFusedConv (X, W, B, Z) => (Y)", _nhwc_fused_conv, f"{_CONV} activation activation_params")
lower("NhwcConv (X, W, B) => (Y)", _nhwc_conv, _CONV)


# ----- matrix products -----
def _turned(use: Use, y: str, x: str, index: int) -> str | None:
    """An operand of a product, with its batch and its matrix transposed as the attributes say."""
    rank = use.rank(index)
    batch, matrix = use.integer(f"transBatch{x}", 0), use.integer(f"trans{x}", 0)
    if not batch and not matrix:
        return f"{y} = Identity({x})"
    if rank is None:
        return None
    order = [*range(1, rank - 1), 0, rank - 1] if batch and rank > 1 else list(range(rank))
    if matrix and rank > 1:
        order[-2:] = order[:-3:-1]
    return transpose(y, x, order)


def _matmul(use: Use) -> str | None:
    a, b = _turned(use, "a", "A", 0), _turned(use, "b", "B", 1)
    if a is None or b is None:
        return None
    alpha = use.real("alpha", 1.0)
    product = f"{number('alpha', alpha, use.dtype(0))} p = MatMul(a, b) Y = Mul(p, alpha)"
    return f"{a} {b} {'Y = MatMul(a, b)' if alpha == 1 else product}"


lower("FusedMatMul (A, B) => (Y)", _matmul, "alpha transA transB transBatchA transBatchB")
lower("TransposeMatMul (A, B) => (Y)", _matmul, "alpha transA transB")


def _fused_gemm(use: Use) -> str | None:
    names = [f"activation_{n}" for n in ("alpha", "beta", "gamma")]
    parameters = [use.real(n, 0.0) for n in names if n in use.attributes]
    kind = use.text("activation")
    after = activation(use, "Y", "s", kind, parameters[: len(_PARAMETERS.get(kind, ()))])
    if after is None:
        return None
    none = number("none", 0.0, use.dtype(0)) if not use.has(2) else ""
    call = f"Gemm{use.passed('alpha', 'beta', 'transA', 'transB')}"
    return f"{none} s = {call}(A, B, {'C' if use.has(2) else 'none'}) {after}"


lower(
    "FusedGemm (A, B, C) => (Y)",
    _fused_gemm,
    "alpha beta transA transB activation activation_alpha activation_beta activation_gamma",
)
