"""Attention of transformer exports, as products and a softmax: heads split, masks added, heads joined."""

import math
from collections.abc import Sequence

from onnxcam.grad.lowering import Use, lower
from onnxcam.grad.lowering.text import first, ints, number, split, squeeze, transpose, unsqueeze

_FILTER = -10000.0


def _heads(y: str, x: str, heads: int, width: int = -1) -> str:
    """(batch, length, heads·width) as (batch, heads, length, width)."""
    dims = ints(f"{y}_dims", [0, 0, heads, width])
    return f"{dims} {y}_r = Reshape({x}, {y}_dims) {transpose(y, f'{y}_r', [0, 2, 1, 3])}"


def _join(y: str, x: str) -> str:
    """Heads side by side again."""
    return f"{transpose(f'{y}_t', x, [0, 2, 1, 3])} {ints(f'{y}_dims', [0, 0, -1])} {y} = Reshape({y}_t, {y}_dims)"


def _weighted(use: Use, size: int | None, biases: list[str], present: str = "") -> str:
    """`joined`, from q, k and v (batch, heads, length, width): softmax(q·kᵀ·scale + biases)·v."""
    dtype = use.dtype(0)
    scale = use.real("scale", 0.0) or (1 / math.sqrt(size) if size else 0.0)
    width = f"""
      width_shape = Shape(q) {ints("width_at", [3])} width_i = Gather<axis = 0>(width_shape, width_at)
      width_f = Cast<to = {dtype}>(width_i) root = Sqrt(width_f) s0 = Div(products, root)"""
    lines = [
        present,
        transpose("kt", "k", [0, 1, 3, 2]),
        "products = MatMul(q, kt)",
        f"{number('scale', scale, dtype)} s0 = Mul(products, scale)" if scale else width,
        *(f"s{i + 1} = Add(s{i}, {bias})" for i, bias in enumerate(biases)),
        f"p = Softmax<axis = 3>(s{len(biases)})",
        "weighted = MatMul(p, v)",
        _join("joined", "weighted"),
    ]
    return "\n".join(lines)


def _filtered(use: Use, y: str, kept: str) -> str:
    """0 where `kept` (int32 or bool) is set, the filter's value where not."""
    dtype, value = use.dtype(0), use.real("mask_filter_value", _FILTER)
    one, fill = number(f"{y}_one", 1.0, dtype), number(f"{y}_fill", value, dtype)
    return f"{one} {fill} {y}_k = Cast<to = {dtype}>({kept}) {y}_n = Sub({y}_one, {y}_k) {y} = Mul({y}_n, {y}_fill)"


def _count(y: str, x: str, axis: int) -> str:
    """0, 1, … to the length of an axis, int64."""
    return f"""
      {y}_shape = Shape({x}) {y}_axis = Constant<value = int64 {{{axis}}}>()
      {y}_length = Gather<axis = 0>({y}_shape, {y}_axis)
      {y}_none = Constant<value = int64 {{0}}>() {y}_step = Constant<value = int64 {{1}}>()
      {y} = Range({y}_none, {y}_length, {y}_step)"""


def _causal(use: Use) -> str:
    """`causal`: a query sees the keys before it and its own; queries are the last of the keys."""
    return f"""
      {_count("rows", "q", 2)} {_count("columns", "k", 2)}
      ahead = Sub(columns_length, rows_length)
      shifted = Add(rows, ahead)
      {unsqueeze(use, "limit", "shifted", 1)}
      hidden = Greater(columns, limit)
      seen = Not(hidden)
      {_filtered(use, "causal", "seen")}"""


def _mask(use: Use, index: int, name: str) -> str | None:
    """`masked`, to be added to the products; None for a form that is not known."""
    rank = use.rank(index)
    if rank == 2:
        return f"{unsqueeze(use, 'kept', name, 1, 2)} {_filtered(use, 'masked', 'kept')}"
    if rank == 3:
        return f"{unsqueeze(use, 'kept', name, 1)} {_filtered(use, 'masked', 'kept')}"
    if rank == 1 and _same_batch(use, index):
        return f"""
          {_count("places", "k", 2)}
          lengths = Cast<to = 7>({name}) {unsqueeze(use, "ends", "lengths", 1)}
          inside = Less(places, ends) {unsqueeze(use, "kept", "inside", 1, 2)}
          {_filtered(use, "masked", "kept")}"""
    return None


def _same_batch(use: Use, index: int) -> bool:
    """Whether a vector has one element for each sample: other lengths mean other things."""
    vector, x = use.types[index], use.types[0]
    return bool(vector and x and vector.shape and x.shape and vector.shape[0] == x.shape[0])


def _biases(use: Use, mask: int, mask_name: str, bias: int, bias_name: str) -> tuple[str, list[str]] | None:
    lines, names = [], []
    if use.has(mask):
        masked = _mask(use, mask, mask_name)
        if masked is None:
            return None
        lines.append(masked)
        names.append("masked")
    if use.integer("unidirectional", 0):
        lines.append(_causal(use))
        names.append("causal")
    if use.has(bias):
        names.append(bias_name)
    return "\n".join(lines), names


# ----- Attention: one weight for queries, keys and values -----
def _attention(use: Use) -> str | None:
    if use.integer("do_rotary", 0) or use.integer("past_present_share_buffer", 0) or use.has(6):
        return None
    heads, total = use.integer("num_heads", 1), use.size(1, 1)
    given = use.attributes.get("qkv_hidden_sizes")
    sizes = [int(v) for v in given] if isinstance(given, list) and given else None
    added = _biases(use, 3, "mask_index", 5, "attention_bias")
    if added is None:
        return None
    width = (sizes[0] if sizes else total // 3 if total else 0) // heads
    return f"""
      product = MatMul(input, weights)
      {"t = Add(product, bias)" if use.has(2) else "t = Identity(product)"}
      {split(use, ["tq", "tk", "tv"], "t", 2, sizes)}
      {_heads("q", "tq", heads)} {_heads("k" if not use.has(4) else "own_k", "tk", heads)}
      {_heads("v" if not use.has(4) else "own_v", "tv", heads)}
      {_past(use) if use.has(4) else ""}
      {_present(use) if use.gives(1) else ""}
      {added[0]}
      {_weighted(use, width or None, added[1])}
      output = Identity(joined)"""


def _past(use: Use) -> str:
    return f"""
      {split(use, ["past_k5", "past_v5"], "past", 0)}
      {squeeze(use, "past_k", "past_k5", 0)} {squeeze(use, "past_v", "past_v5", 0)}
      k = Concat<axis = 2>(past_k, own_k) v = Concat<axis = 2>(past_v, own_v)"""


def _present(use: Use) -> str:
    return f"""
      {unsqueeze(use, "k5", "k", 0)} {unsqueeze(use, "v5", "v", 0)}
      present = Concat<axis = 0>(k5, v5)"""


lower(
    "Attention (input, weights, bias, mask_index, past, attention_bias, past_length) => (output, present)",
    _attention,
    "do_rotary mask_filter_value num_heads past_present_share_buffer qkv_hidden_sizes scale unidirectional",
)


# ----- MultiHeadAttention: projected already -----
def _multi_head(use: Use) -> str | None:
    heads = use.integer("num_heads", 1)
    parts = _operands(use, heads)
    added = _biases(use, 4, "key_padding_mask", 5, "attention_bias")
    if parts is None or added is None or use.has(8) or use.has(9) or use.gives(3):
        return None
    past = "k = Concat<axis = 2>(past_key, own_k) v = Concat<axis = 2>(past_value, own_v)"
    present = "present_key = Identity(k) present_value = Identity(v)"
    size = use.size(0, 4) if use.rank(0) == 5 else (use.size(0, 2) or 0) // heads
    return f"""
      {parts}
      {past if use.has(6) else "k = Identity(own_k) v = Identity(own_v)"}
      {present if use.gives(1) else ""}
      {added[0]}
      {_weighted(use, size or None, added[1])}
      output = Identity(joined)"""


def _operands(use: Use, heads: int) -> str | None:
    """`q`, `own_k` and `own_v` (batch, heads, length, width) from whatever they are packed in."""
    names = ("q", "own_k", "own_v")
    if not use.has(1):
        if use.rank(0) != 5 or use.has(3):
            return None
        return _unpacked(use, "query", names)
    if not use.has(2):
        if use.rank(1) != 5 or use.has(3):
            return None
        return f"{_heads('q', 'query', heads)} {_unpacked(use, 'key', names[1:])}"
    if use.rank(1) == 4:
        biased = f"{first(use, 'bq', 'bias', use.size(0, 2) or 0, 0)} qb = Add(query, bq)" if use.has(3) else ""
        q = _heads("q", "qb" if biased else "query", heads)
        return f"{biased} {q} own_k = Identity(key) own_v = Identity(value)"
    if not use.has(3):
        return " ".join(_heads(n, x, heads) for n, x in zip(names, ("query", "key", "value"), strict=True))
    sizes = [use.size(i, 2) for i in range(3)]
    known = [s for s in sizes if s]
    if len(known) < 3:
        return None
    summed = "qb = Add(query, bq) kb = Add(key, bk) vb = Add(value, bv)"
    split_ = split(use, ["bq", "bk", "bv"], "bias", 0, known)
    return f"{split_} {summed} {' '.join(_heads(n, x, heads) for n, x in zip(names, ('qb', 'kb', 'vb'), strict=True))}"


def _unpacked(use: Use, x: str, names: Sequence[str]) -> str:
    """What lies side by side in `x` (batch, length, heads, parts, width)."""
    lines = [split(use, [f"{n}_p" for n in names], x, 3)]
    lines += [f"{squeeze(use, f'{n}_u', f'{n}_p', 3)} {transpose(n, f'{n}_u', [0, 2, 1, 3])}" for n in names]
    return " ".join(lines)


lower(
    "MultiHeadAttention (query, key, value, bias, key_padding_mask, attention_bias, past_key, past_value, "
    "past_length, cache) => (output, present_key, present_value, qk)",
    _multi_head,
    "mask_filter_value num_heads scale unidirectional",
)


# ----- positions as rotations -----
def _rotary(use: Use) -> str | None:
    rank, half = use.rank(0), use.size(2, 1)
    if rank not in (3, 4) or not half or use.integer("is_packed_batching", 0) or use.real("scale", 1.0) != 1:
        return None
    partial = use.integer("rotary_embedding_dim", 0)
    size = use.size(0, 3) if rank == 4 else None
    heads = use.integer("num_heads", 0)
    if rank == 3:
        hidden = use.size(0, 2)
        size = hidden // heads if hidden and heads else 2 * half
    if size is None or (partial and partial != 2 * half):
        return None
    into = f"{ints('dims', [0, 0, -1, size])} r = Reshape(input, dims) {transpose('x', 'r', [0, 2, 1, 3])}"
    rest = size - 2 * half
    turned = _interleaved(use, half) if use.integer("interleaved", 0) else _halves(use, half)
    parts = split(use, ["a", "rest"], "x", 3, [2 * half, rest]) if rest else "a = Identity(x)"
    return f"""
      {into if rank == 3 else "x = Identity(input)"}
      {parts}
      {_positions(use)}
      {turned}
      {"y = Concat<axis = 3>(b, rest)" if rest else "y = Identity(b)"}
      {_join("output", "y") if rank == 3 else "output = Identity(y)"}"""


def _positions(use: Use) -> str:
    """`cos` and `sin` of each position, (batch or 1, 1, length, half)."""
    offset = f"{_count('steps', 'x', 2)} at_1 = Add(steps, position_ids) {unsqueeze(use, 'at', 'at_1', 0)}"
    return f"""
      {offset if use.rank(1) == 1 else "at = Identity(position_ids)"}
      cos_3 = Gather<axis = 0>(cos_cache, at) {unsqueeze(use, "cos", "cos_3", 1)}
      sin_3 = Gather<axis = 0>(sin_cache, at) {unsqueeze(use, "sin", "sin_3", 1)}"""


_TURN = "rc = Mul(re, cos) is = Mul(im, sin) b_re = Sub(rc, is) rs = Mul(re, sin) ic = Mul(im, cos) b_im = Add(rs, ic)"


def _halves(use: Use, half: int) -> str:
    return f"{split(use, ['re', 'im'], 'a', 3, [half, half])} {_TURN} b = Concat<axis = 3>(b_re, b_im)"


def _interleaved(use: Use, half: int) -> str:
    return f"""
      {ints("pairs", [0, 0, 0, half, 2])} a_5 = Reshape(a, pairs)
      {split(use, ["re_5", "im_5"], "a_5", 4, [1, 1])} {squeeze(use, "re", "re_5", 4)} {squeeze(use, "im", "im_5", 4)}
      {_TURN}
      {unsqueeze(use, "y_re", "b_re", 4)} {unsqueeze(use, "y_im", "b_im", 4)}
      b_5 = Concat<axis = 4>(y_re, y_im) {ints("flat", [0, 0, 0, 2 * half])} b = Reshape(b_5, flat)"""


lower(
    "RotaryEmbedding (input, position_ids, cos_cache, sin_cache) => (output)",
    _rotary,
    "interleaved is_packed_batching num_heads rotary_embedding_dim scale",
)
