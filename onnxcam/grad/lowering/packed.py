"""Products with weights packed into a few bits, and samplers that became standard later under the same name."""

from onnxcam.grad.lowering import Use, lower
from onnxcam.grad.lowering.text import first, ints, number, transpose, unsqueeze


def _unpacked(y: str, x: str, bits: int, use: Use, shape: list[int]) -> str:
    """The numbers of `bits` bits in bytes, lowest first, as floats of a shape."""
    per_byte, dtype = 8 // bits, use.dtype(0)
    lines = [f"{y}_0 = Cast<to = 6>({x})", f"{y}_base = Constant<value = int32 {{{2**bits}}}>()"]
    for i in range(per_byte):
        lines.append(f"{y}_p{i} = Mod({y}_{i}, {y}_base)")
        lines.append(f"{y}_{i + 1} = Div({y}_{i}, {y}_base)")
        lines.append(unsqueeze(use, f"{y}_u{i}", f"{y}_p{i}", -1))
    names = ", ".join(f"{y}_u{i}" for i in range(per_byte))
    return f"""{" ".join(lines)}
      {y}_all = Concat<axis = -1>({names}) {ints(f"{y}_dims", shape)} {y}_flat = Reshape({y}_all, {y}_dims)
      {y} = Cast<to = {dtype}>({y}_flat)"""


def _zero_points(use: Use, bits: int, n: int, blocks: int) -> str:
    dtype = use.dtype(0)
    if not use.has(3):
        return number("z", 2.0 ** (bits - 1), dtype)
    if use.dtype(3) != 2:
        return f"{ints('z_dims', [n, blocks, 1])} z_r = Reshape(zero_points, z_dims) z = Cast<to = {dtype}>(z_r)"
    rows = f"{ints('rows', [n, -1])} z_rows = Reshape(zero_points, rows)"
    unpacked = _unpacked("z_all", "z_rows", bits, use, [n, -1])
    return f"{rows} {unpacked} {first(use, 'z_kept', 'z_all', blocks, 1)} {unsqueeze(use, 'z', 'z_kept', 2)}"


def _matmul_n_bits(use: Use) -> str | None:
    bits, n, k, block = (use.integer(a, d) for a, d in (("bits", 4), ("N", 0), ("K", 0), ("block_size", 0)))
    if bits not in (1, 2, 4, 8) or use.integer("weight_prepacked", 0) or use.has(4) or not (n and k and block):
        return None
    blocks = -(-k // block)
    return f"""
      {_unpacked("u", "B", bits, use, [n, blocks, block])}
      {_zero_points(use, bits, n, blocks)}
      centred = Sub(u, z)
      {ints("s_dims", [n, blocks, 1])} s_r = Reshape(scales, s_dims) s = Cast<to = {use.dtype(0)}>(s_r)
      w_3 = Mul(centred, s)
      {ints("w_dims", [n, blocks * block])} w_2 = Reshape(w_3, w_dims)
      {first(use, "w", "w_2", k, 1)}
      {transpose("wt", "w", [1, 0])}
      p = MatMul(A, wt)
      {"Y = Add(p, bias)" if use.has(5) else "Y = Identity(p)"}"""


lower(
    "MatMulNBits (A, B, scales, zero_points, g_idx, bias) => (Y)",
    _matmul_n_bits,
    "K N accuracy_level bits block_size weight_prepacked",
)


def _grid_sample(use: Use) -> str:
    mode = use.text("mode", "bilinear")
    if use.opset >= 20:
        mode = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    options = f'align_corners = {use.integer("align_corners", 0)}, mode = "{mode}"'
    return f'Y = GridSample<{options}, padding_mode = "{use.text("padding_mode", "zeros")}">(X, Grid)'


lower("GridSample (X, Grid) => (Y)", _grid_sample, "align_corners mode padding_mode")
