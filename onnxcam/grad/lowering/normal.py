"""Normalisation and activation with what a runtime fused into them: a residual, a bias, an embedding."""

from onnxcam.grad.lowering import Use, lower
from onnxcam.grad.lowering.text import ints, mean, number, to_channels_first, to_channels_last, unsqueeze

FLOAT = 1

# ----- activations -----
lower("BiasGelu (A, B) => (C)", "s = Add(A, B) C = com.microsoft.Gelu(s)")
lower("QuickGelu (X) => (Y)", lambda use: f"Y = Swish<alpha = {use.real('alpha', 1.702)!r}>(X)", "alpha")
lower("Gelu (X) => (Y)", 'Y = Gelu<approximate = "none">(X)')
lower(
    "FastGelu (X, bias) => (Y)",
    lambda use: f'{"s = Add(X, bias)" if use.has(1) else "s = Identity(X)"} Y = Gelu<approximate = "tanh">(s)',
)


# ----- layer normalisation -----
def _layer_norm(use: Use, x: str, y: str) -> str:
    options = f"axis = -1, epsilon = {use.real('epsilon', 1e-12)!r}, stash_type = 1"
    return f"{y} = LayerNormalization<{options}>({x}, gamma, beta)"


def _root_mean_square(use: Use) -> str | None:
    """X/√(mean(X²) + ε)·scale, in float32 as runtimes compute it."""
    rank = use.rank(0)
    if rank is None or use.gives(1):
        return None
    dtype = use.dtype(0)
    axes = list(range(use.integer("axis", -1) % rank, rank))
    return f"""
      x = Cast<to = {FLOAT}>(X)
      square = Mul(x, x)
      {mean(use, "m", "square", axes)}
      {number("epsilon", use.real("epsilon", 1e-5), FLOAT)}
      v = Add(m, epsilon)
      r = Sqrt(v)
      d = Div(x, r)
      n = Cast<to = {dtype}>(d)
      Y = Mul(n, scale)"""


def _residual(use: Use, bias: int, total: str) -> str:
    """`total`, the sum of the input, the residual and a bias that may be there."""
    return f"t = Add(input, skip) {total} = Add(t, bias)" if use.has(bias) else f"{total} = Add(input, skip)"


def _skip_layer_norm(use: Use) -> str | None:
    if use.gives(1) or use.gives(2):
        return None
    total = "sum" if use.gives(3) else "s"
    return f"{_residual(use, 4, total)} {_layer_norm(use, total, 'output')}"


def _skip_root_mean_square(use: Use) -> str | None:
    if use.gives(1) or use.gives(2):
        return None
    total = "sum" if use.gives(3) else "s"
    epsilon = use.real("epsilon", 1e-12)
    norm = f"output = SimplifiedLayerNormalization<axis = -1, epsilon = {epsilon!r}>({total}, gamma)"
    return f"{_residual(use, 3, total)} {norm}"


lower("SimplifiedLayerNormalization (X, scale) => (Y, inv)", _root_mean_square, "axis epsilon stash_type", domain="")
lower(
    "SkipLayerNormalization (input, skip, gamma, beta, bias) => (output, mean, inv, sum)", _skip_layer_norm, "epsilon"
)
lower(
    "SkipSimplifiedLayerNormalization (input, skip, gamma, bias) => (output, mean, inv, sum)",
    _skip_root_mean_square,
    "epsilon",
)


def _embed_layer_norm(use: Use) -> str:
    positions = "position_ids"
    counted = ""
    if not use.has(8):
        positions = "counted"
        counted = f"""
          shape = Shape(input_ids) {ints("one", [1])} one_ = Constant<value = int64 {{1}}>()
          none = Constant<value = int64 {{0}}>() length = Gather<axis = 0>(shape, one_)
          counted = Range(none, length, one_)"""
    total = "sum" if use.gives(2) else "s"
    segments = f"g = Gather<axis = 0>(segment_embedding, segment_ids) {total} = Add(e, g)"
    # The index of the mask holds integers: for the walk only its type counts.
    index = "at = Constant<value = int64 {0}>() ids = Gather<axis = 1>(input_ids, at) index = Cast<to = 6>(ids)"
    return f"""
      {counted}
      w = Gather<axis = 0>(word_embedding, input_ids)
      p = Gather<axis = 0>(position_embedding, {positions})
      e = Add(w, p)
      {segments if use.has(4) else f"{total} = Identity(e)"}
      {_layer_norm(use, total, "output")}
      {index if use.gives(1) else ""}"""


lower(
    "EmbedLayerNormalization (input_ids, segment_ids, word_embedding, position_embedding, segment_embedding, gamma, "
    "beta, mask, position_ids) => (output, index, sum)",
    _embed_layer_norm,
    "epsilon mask_index_type",
)


# ----- group normalisation -----
def _group_norm(use: Use, x: str) -> str | None:
    """Each group as one channel of an instance normalisation, then the scale and shift of each channel."""
    rank, groups, dtype = use.rank(0), use.integer("groups", 1), use.dtype(0)
    if rank is None:
        return None
    last = bool(use.integer("channels_last", 1))
    ones, zeros = ", ".join(["1.0"] * groups), ", ".join(["0.0"] * groups)
    space = list(range(1, rank - 1))
    return f"""
      {to_channels_first("x", x, rank) if last else f"x = Identity({x})"}
      {ints("split", [0, groups, -1])}
      grouped = Reshape(x, split)
      one_32 = Constant<value = float[{groups}] {{{ones}}}>() one = Cast<to = {dtype}>(one_32)
      none_32 = Constant<value = float[{groups}] {{{zeros}}}>() none = Cast<to = {dtype}>(none_32)
      n = InstanceNormalization<epsilon = {use.real("epsilon", 1e-5)!r}>(grouped, one, none)
      shape = Shape(x)
      whole = Reshape(n, shape)
      g = Cast<to = {dtype}>(gamma) {unsqueeze(use, "scale", "g", *space)}
      b = Cast<to = {dtype}>(beta) {unsqueeze(use, "shift", "b", *space)}
      scaled = Mul(whole, scale)
      y = Add(scaled, shift)
      {"gate = Sigmoid(y) z = Mul(y, gate)" if use.integer("activation", 0) else "z = Identity(y)"}
      {to_channels_last("Y", "z", rank) if last else "Y = Identity(z)"}"""


def _skip_group_norm(use: Use) -> str | None:
    rank = use.rank(0)
    flat = use.rank(3) == 2 and rank is not None
    if flat and not use.integer("channels_last", 1):
        return None
    total = "S" if use.gives(1) else "s"
    body = _group_norm(use, total)
    skip = unsqueeze(use, "residual", "skip", *range(1, (rank or 2) - 1)) if flat else "residual = Identity(skip)"
    summed = f"t = Add(X, residual) {total} = Add(t, bias)" if use.has(4) else f"{total} = Add(X, residual)"
    return None if body is None else f"{skip} {summed} {body}"


_GROUPS = "activation channels_last epsilon groups"
lower("GroupNorm (X, gamma, beta) => (Y)", lambda use: _group_norm(use, "X"), _GROUPS)
lower("SkipGroupNorm (X, gamma, beta, skip, bias) => (Y, S)", _skip_group_norm, _GROUPS)
