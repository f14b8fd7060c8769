"""Integer operators as float ones between dequantised tensors.

Every body reads its quantised operands through DequantizeLinear and ends in QuantizeLinear: the QDQ form, which
quantized.py joins. Biases, for which no gradient can be asked, are left out: nothing reads the sums that lack them.
"""

from onnxcam.grad.lowering import WALK, Use, lower
from onnxcam.grad.lowering.text import channels_first

_WINDOW = ("auto_pad", "dilations", "kernel_shape", "pads", "strides")
_CONV = "auto_pad dilations group kernel_shape pads strides"


def dequantized(*names: str) -> str:
    """The value `x_f` of each integer operand `x` with its `x_scale` and `x_zero_point`."""
    return "\n".join(f"{x}_f = DequantizeLinear({x}, {x}_scale, {x}_zero_point)" for x in names)


def centred(use: Use, name: str, index: int, zero: int, axis: int) -> str:
    """`w_c`, the integers of input `index` less their zero point (input `zero`), which may vary along `axis`.

    In arithmetic and not by DequantizeLinear, because runtimes fold it where it is constant.
    """
    rank = use.rank(index) or 2
    columns = ", ".join("-1" if a == axis % rank else "1" for a in range(rank))
    given = f"""
        {name}_z = Cast<to = 1>({name}_zero_point)
        {name}_zc = Reshape({name}_z, {name}_columns)
        {name}_c = Sub({name}_i, {name}_zc)"""
    return f"""
        {name}_columns = Constant<value = int64[{rank}] {{{columns}}}>()
        {name}_i = Cast<to = 1>({name})
        {given if use.has(zero) else f"{name}_c = Identity({name}_i)"}"""


def weight(use: Use, name: str, index: int, zero: int, axis: int) -> str:
    """`w_f`, the value of a weight quantised per tensor or along `axis`."""
    return f"""{centred(use, name, index, zero, axis)}
        {name}_sc = Reshape({name}_scale, {name}_columns)
        {name}_f = Mul({name}_c, {name}_sc)"""


def _last(use: Use) -> bool:
    return bool(use.integer("channels_last", 0))


for _op in ("QuantizeLinear", "DequantizeLinear"):  # with 16 bits before ONNX had them; for their types, as rules exist
    lower(
        f"{_op} (x, scale, zero_point) => (y)",
        lambda use, op=_op: f"y = {op}{use.passed('axis')}(x, scale, zero_point)",  # type: ignore[misc]  # bound early
        "axis",
    )


# ----- convolution -----
def _qlinear_conv(use: Use) -> str:
    conv = f"Conv{use.passed(*_CONV.split())}"
    return f"""
      {dequantized("x")}
      {weight(use, "w", 3, 5, 0)}
      {channels_first(lambda x: f"{conv}({x}, w_f)", "c", "x_f", use.rank(0) or 4, _last(use))}
      y = QuantizeLinear(c, y_scale, y_zero_point)"""


_QLINEAR_CONV = "QLinearConv (x, x_scale, x_zero_point, w, w_scale, w_zero_point, y_scale, y_zero_point, B) => (y)"
lower(_QLINEAR_CONV, _qlinear_conv, _CONV, domain="")
lower(_QLINEAR_CONV, _qlinear_conv, f"{_CONV} channels_last")
lower(
    "ConvInteger (x, w, x_zero_point, w_zero_point) => (y)",
    lambda use: (
        f"""
      {centred(use, "x", 0, 2, 0)}
      {centred(use, "w", 1, 3, 0)}
      c = Conv{use.passed(*_CONV.split())}(x_c, w_c)
      y = {WALK}.Round(c)"""
    ),
    _CONV,
    domain="",
)

# ----- matrix products -----
lower(
    "QLinearMatMul (a, a_scale, a_zero_point, b, b_scale, b_zero_point, y_scale, y_zero_point) => (y)",
    lambda use: (
        f"""
      {weight(use, "a", 0, 2, -2) if use.rank(1) else dequantized("a")}
      {weight(use, "b", 3, 5, -1) if use.rank(4) else dequantized("b")}
      p = MatMul(a_f, b_f)
      y = QuantizeLinear(p, y_scale, y_zero_point)"""
    ),
    domain="",
)
lower(
    "MatMulInteger (A, B, A_zero_point, B_zero_point) => (Y)",
    lambda use: (
        f"""
      {centred(use, "A", 0, 2, -2)}
      {centred(use, "B", 1, 3, -1)}
      p = MatMul(A_c, B_c)
      Y = {WALK}.Round(p)"""
    ),
    domain="",
)
lower(
    "MatMulIntegerToFloat (A, B, A_scale, B_scale, A_zero_point, B_zero_point, bias) => (Y)",
    lambda use: (
        f"""
      {dequantized("A")}
      {weight(use, "B", 1, 5, -1)}
      p = MatMul(A_f, B_f)
      {"Y = Add(p, bias)" if use.has(6) else "Y = Identity(p)"}"""
    ),
)
lower(
    "DynamicQuantizeMatMul (A, B, B_scale, B_zero_point, bias) => (Y)",
    lambda use: (
        f"""
      {weight(use, "B", 1, 3, -1)}
      p = MatMul(A, B_f)
      {"Y = Add(p, bias)" if use.has(4) else "Y = Identity(p)"}"""
    ),
)


def _qgemm(use: Use) -> str:
    axis = 0 if use.integer("transB", 0) else 1
    quantised = "Y = QuantizeLinear(p, y_scale, y_zero_point)"
    return f"""
      {dequantized("A")}
      {weight(use, "B", 3, 5, axis)}
      none = Constant<value = float[1] {{0.0}}>()
      p = Gemm{use.passed("alpha", "transA", "transB")}(A_f, B_f, none)
      {quantised if use.has(7) else "Y = Identity(p)"}"""


lower(
    "QGemm (A, A_scale, A_zero_point, B, B_scale, B_zero_point, C, y_scale, y_zero_point) => (Y)",
    _qgemm,
    "alpha transA transB",
)
lower(
    "QAttention (x, w, bias, x_scale, w_scale, mask, x_zero_point, w_zero_point, past) => (y, present)",
    lambda use: (
        f"""
      {dequantized("x")}
      {weight(use, "w", 1, 7, 1)}
      {"y, present" if use.gives(1) else "y"} = com.microsoft.Attention{use.passed(*use.attributes)}(
        x_f, w_f, bias, mask, past)"""
    ),
    "num_heads unidirectional scale mask_filter_value",
)

# ----- elementwise, pooling, joining -----
for _op in ("Add", "Mul"):
    lower(
        f"QLinear{_op} (A, A_scale, A_zero_point, B, B_scale, B_zero_point, C_scale, C_zero_point) => (C)",
        f"{dequantized('A', 'B')} c = {_op}(A_f, B_f) C = QuantizeLinear(c, C_scale, C_zero_point)",
    )
for _op in ("LeakyRelu<alpha: float = @alpha>", "Sigmoid"):
    lower(
        f"QLinear{_op.partition('<')[0]} (X, X_scale, X_zero_point, Y_scale, Y_zero_point) => (Y)",
        f"{dequantized('X')} y = {_op}(X_f) Y = QuantizeLinear(y, Y_scale, Y_zero_point)",
        "alpha" if "alpha" in _op else "",
    )


def _softmax(use: Use) -> str | None:
    if (use.integer("opset", 13) < 13) != (use.opset < 13):
        return None  # flattened and not flattened softmax differ, and the model's opset has one of them only
    return f"""
      {dequantized("X")}
      y = Softmax<axis = {use.integer("axis", -1)}>(X_f)
      Y = QuantizeLinear(y, y_scale, y_zero_point)"""


lower("QLinearSoftmax (X, X_scale, X_zero_point, y_scale, y_zero_point) => (Y)", _softmax, "axis opset")


def _pool(use: Use, pool: str) -> str:
    return f"""
      {dequantized("x")}
      {channels_first(lambda x: f"{pool}({x})", "p", "x_f", use.rank(0) or 4, _last(use))}
      y = QuantizeLinear(p, y_scale, y_zero_point)"""


lower(
    "QLinearAveragePool (x, x_scale, x_zero_point, y_scale, y_zero_point) => (y)",
    lambda use: _pool(use, f"AveragePool{use.passed(*_WINDOW, 'ceil_mode', 'count_include_pad')}"),
    " ".join((*_WINDOW, "ceil_mode", "count_include_pad", "channels_last")),
)
lower(
    "QLinearGlobalAveragePool (x, x_scale, x_zero_point, y_scale, y_zero_point) => (y)",
    lambda use: _pool(use, "GlobalAveragePool"),
    "channels_last",
)


lower(
    "QLinearWhere (test, x, x_scale, x_zero_point, y, y_scale, y_zero_point, z_scale, z_zero_point) => (z)",
    f"{dequantized('x', 'y')} w = Where(test, x_f, y_f) z = QuantizeLinear(w, z_scale, z_zero_point)",
)


def _concat(use: Use) -> str:
    parts = range(2, len(use.inputs), 3)
    read = "\n".join(f"p{k} = DequantizeLinear(i{k}, i{k + 1}, i{k + 2})" for k in parts)
    return f"""
      {read}
      j = Concat{use.passed("axis")}({", ".join(f"p{k}" for k in parts)})
      Y = QuantizeLinear(j, i0, i1)"""


lower("QLinearConcat (*inputs) => (Y)", _concat, "axis")
lower(
    "NhwcMaxPool (x) => (y)",
    lambda use: channels_first(
        lambda x: f"MaxPool{use.passed(*_WINDOW, 'ceil_mode')}({x})", "y", "x", use.rank(0) or 4, True
    ),
    " ".join((*_WINDOW, "ceil_mode")),
)
