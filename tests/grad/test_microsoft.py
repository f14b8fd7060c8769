"""Operators that onnxruntime fuses into: against central differences of itself, or of numpy for those of GPUs only.

A row is the text of a node (or a few) from float inputs to `y`; arrays are constants, or integers fed at run time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper, parser
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

import onnxcam
from onnxcam.errors import ModelError, UnsupportedGradient
from onnxcam.grad.lowering import operators

MS = "com.microsoft"


@dataclass(frozen=True)
class Row:
    node: str
    inputs: Mapping[str, tuple[int, ...]]
    constants: Mapping[str, np.ndarray] = field(default_factory=dict)
    opset: int = 17
    outputs: tuple[str, ...] = ("y",)
    symbols: bool = True
    tolerance: float = 5e-3
    step: float = 2e-3

    def __str__(self) -> str:
        return self.node.split("= ", 1)[1].replace(f"{MS}.", "").replace(" ", "")[:70] + f"@{self.opset}"

    def model(self, symbols: bool = False) -> onnx.ModelProto:
        dims = {n: ", ".join(map(str, s)) for n, s in self.inputs.items()}
        if symbols:
            dims = {n: dims[n].replace("2", "N", 1) if s[0] == 2 else dims[n] for n, s in self.inputs.items()}
        declared = ", ".join(f"float[{d}] {n}" for n, d in dims.items())
        proto = parser.parse_model(
            f'<ir_version: 8, opset_import: ["" : {self.opset}, "{MS}" : 1]> '
            f"g ({declared}) => ({', '.join(f'float {o}' for o in self.outputs)}) {{ {self.node} }}"
        )
        for output in proto.graph.output:
            output.type.tensor_type.ClearField("shape")
        proto.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in self.constants.items())
        return proto


def check(row: Row, run_forward, run_gradient, dtype: type, symbols: bool = False) -> None:
    rng = np.random.default_rng(7)
    proto = row.model(symbols)
    feeds = {n: rng.normal(size=s).astype(dtype) for n, s in row.inputs.items()}
    for of in row.outputs:
        due = run_forward(proto, feeds, of)
        u = rng.normal(size=due.shape).astype(dtype)
        wanted = [n for n in feeds if not (of != "y" and _independent(run_forward, proto, feeds, of, n))]
        extended = onnxcam.vjp(proto, of=of, wrt=wanted)
        found = run_gradient(extended, {**feeds, f"seed/{of}": u}, [f"grad/{n}" for n in wanted])
        for name, gradient in zip(wanted, found, strict=True):
            assert gradient.shape == feeds[name].shape
            for _ in range(2):
                v = rng.normal(size=feeds[name].shape)
                moved = [{**feeds, name: (feeds[name] + s * row.step * v).astype(dtype)} for s in (1, -1)]
                ends = [run_forward(proto, m, of).astype(float) for m in moved]
                expected = ((ends[0] - ends[1]) * u).sum() / (2 * row.step)
                size = np.abs(gradient.astype(float) * v).sum() + 1e-3
                assert abs((gradient.astype(float) * v).sum() - expected) <= row.tolerance * size, f"d{of}/d{name}"


def _independent(run_forward, proto, feeds, of, name) -> bool:
    moved = {**feeds, name: feeds[name] + feeds[name].dtype.type(0.5)}
    return np.array_equal(run_forward(proto, moved, of), run_forward(proto, feeds, of))


def by_ort(proto: onnx.ModelProto, feeds: Mapping[str, np.ndarray], names: list[str]) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(names, dict(feeds))


RNG = np.random.default_rng(2)
I = np.int64  # noqa: E741 - as in numpy's own tables
CONV = {"X": (2, 4, 6, 5), "W": (3, 4, 3, 3), "B": (3,)}
TOKENS = {"x": (2, 4, 6), "s": (2, 4, 6), "gamma": (6,), "beta": (6,), "bias": (6,)}
IDS = {"ids": np.int32([[1, 0, 2], [3, 3, 1]]), "seg": np.int32([[0, 0, 1], [1, 0, 1]])}
EMBED = {"word": (5, 6), "place": (4, 6), "segment": (2, 6), "gamma": (6,), "beta": (6,)}
ATT = {"x": (2, 5, 6), "w": (6, 24), "b": (24,)}
QKV = {"q": (2, 4, 8), "k": (2, 5, 8), "v": (2, 5, 6)}
COS, SIN = np.cos(RNG.normal(size=(9, 4))).astype(np.float32), np.sin(RNG.normal(size=(9, 4))).astype(np.float32)
MASK = np.int32([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]])


def packed(n: int, k: int, block: int, bits: int) -> dict[str, np.ndarray]:
    blocks = -(-k // block)
    return {
        "B": RNG.integers(0, 256, (n, blocks, block * bits // 8)).astype(np.uint8),
        "s": RNG.uniform(0.01, 0.1, (n, blocks)).astype(np.float32),
        "z": RNG.integers(0, 256, (n, -(-blocks * bits // 8))).astype(np.uint8),
        "zf": RNG.uniform(3, 9, (n, blocks)).astype(np.float32),
    }


N4, N8 = packed(7, 40, 16, 4), packed(7, 40, 16, 8)
ROWS = [
    *(Row(f"y = {MS}.FusedConv<activation = \"{a}\"{p}, pads = [1, 1, 0, 1], strides = [2, 1]>(X, W, B)", CONV)
      for a, p in (("Relu", ""), ("Tanh", ""), ("Sigmoid", ""), ("LeakyRelu", ", activation_params = [0.2]"),
                   ("Clip", ", activation_params = [-0.9, 1.5]"), ("HardSigmoid", ", activation_params = [0.1, 0.4]"))),
    Row(f"y = {MS}.FusedConv<activation = \"Relu\", auto_pad = \"SAME_UPPER\">(X, W, B, Z)",
        {**CONV, "Z": (2, 3, 6, 5)}, opset=11),
    Row(f"y = {MS}.FusedConv<activation = \"Relu\">(X, W)", {"X": (2, 4, 6, 5), "W": (3, 4, 3, 3)}),
    Row(f"y = {MS}.FusedMatMul<alpha = 0.5, transA = 1>(a, b)", {"a": (2, 4, 3), "b": (2, 4, 5)}),
    Row(f"y = {MS}.FusedMatMul<transB = 1>(a, b)", {"a": (2, 3, 4), "b": (5, 4)}),
    Row(f"y = {MS}.FusedMatMul<transBatchA = 1, transBatchB = 1>(a, b)", {"a": (3, 2, 4), "b": (4, 2, 5)},
        symbols=False),
    Row(f"y = {MS}.FusedMatMul<transBatchA = 1, transA = 1, transB = 1>(a, b)", {"a": (4, 2, 3), "b": (2, 5, 4)},
        symbols=False),
    Row(f"y = {MS}.TransposeMatMul<transA = 1, transB = 1, alpha = 2.0>(a, b)", {"a": (4, 3), "b": (5, 4)}),
    Row(f"y = {MS}.FusedGemm<activation = \"LeakyRelu\", activation_alpha = 0.3, transB = 1, beta = 0.5>(a, b, c)",
        {"a": (3, 4), "b": (5, 4), "c": (5,)}),
    Row(f"y = {MS}.FusedGemm<activation = \"Relu\">(a, b)", {"a": (3, 4), "b": (4, 5)}),
    Row(f"y = {MS}.Gelu(x)", {"x": (3, 4, 5)}, opset=12),
    Row(f"y = {MS}.FastGelu(x)", {"x": (3, 4, 5)}),
    Row(f"y = {MS}.FastGelu(x, b)", {"x": (3, 4, 5), "b": (5,)}, opset=12),
    Row(f"y = {MS}.BiasGelu(x, b)", {"x": (3, 4, 5), "b": (5,)}),
    Row(f"y = {MS}.QuickGelu(x)", {"x": (3, 4, 5)}),
    Row(f"y = {MS}.QuickGelu<alpha = 1.0>(x)", {"x": (3, 4, 5)}, opset=11),
    Row(f"y = {MS}.SkipLayerNormalization<epsilon = 0.01>(x, s, gamma, beta, bias)", TOKENS, opset=12),
    Row(f"y = {MS}.SkipLayerNormalization<epsilon = 0.01>(x, s, gamma)",
        {"x": (2, 4, 6), "s": (2, 4, 6), "gamma": (6,)}),
    Row(f"y, , , z = {MS}.SkipLayerNormalization<epsilon = 0.01>(x, s, gamma, beta, bias)", TOKENS, outputs=("y", "z")),
    Row("y = SimplifiedLayerNormalization<epsilon = 0.01, axis = -1>(x, gamma)", {"x": (2, 4, 6), "gamma": (6,)}),
    Row("y = SimplifiedLayerNormalization<epsilon = 0.01>(x, gamma)", {"x": (2, 4, 6), "gamma": (6,)}, opset=18),
    Row(f"y = {MS}.SkipSimplifiedLayerNormalization<epsilon = 0.01>(x, s, gamma, bias)",
        {k: v for k, v in TOKENS.items() if k != "beta"}),
    Row(f"y, , , z = {MS}.SkipSimplifiedLayerNormalization<epsilon = 0.01>(x, s, gamma)",
        {"x": (2, 4, 6), "s": (2, 4, 6), "gamma": (6,)}, outputs=("y", "z")),
    Row(f"y, i = {MS}.EmbedLayerNormalization<epsilon = 0.01>(ids, seg, word, place, segment, gamma, beta)", EMBED,
        IDS),
    Row(f"y, i, z = {MS}.EmbedLayerNormalization<epsilon = 0.01>(ids, , word, place, , gamma, beta, , at)",
        {k: v for k, v in EMBED.items() if k != "segment"}, {"ids": IDS["ids"], "at": np.int32([[3, 1, 0], [0, 1, 2]])},
        outputs=("y", "z")),
    Row(f"y = {MS}.Attention<num_heads = 2>(x, w, b)", ATT),
    Row(f"y = {MS}.Attention<num_heads = 2, scale = 0.3>(x, w, b)", ATT, opset=18),
    Row(f"y = {MS}.Attention<num_heads = 2, unidirectional = 1>(x, w, b)", ATT),
    Row(f"y = {MS}.Attention<num_heads = 2>(x, w, b, mask)", ATT, {"mask": MASK}),
    Row(f"y = {MS}.Attention<num_heads = 2>(x, w, b, mask)", ATT, {"mask": np.int32([3, 5])}, symbols=False),
    Row(f"y = {MS}.Attention<num_heads = 2>(x, w, b, mask)", ATT,
        {"mask": np.int32(np.tril(np.ones((2, 5, 5))))}, opset=12, symbols=False),
    Row(f"y = {MS}.Attention<num_heads = 2, qkv_hidden_sizes = [8, 8, 4]>(x, w, b)",
        {"x": (2, 5, 6), "w": (6, 20), "b": (20,)}, opset=12),
    Row(f"y = {MS}.Attention<num_heads = 2>(x, w, b, , , bias)", {**ATT, "bias": (2, 2, 5, 5)}),
    Row(f"y, z = {MS}.Attention<num_heads = 2>(x, w, b, , past)", {**ATT, "past": (2, 2, 2, 3, 4)},
        outputs=("y", "z"), symbols=False),
    Row(f"y = {MS}.MultiHeadAttention<num_heads = 2>(q, k, v)", QKV),
    Row(f"y = {MS}.MultiHeadAttention<num_heads = 2, scale = 0.3>(q, k, v, bias)", {**QKV, "bias": (22,)}),
    Row(f"y = {MS}.MultiHeadAttention<num_heads = 2>(q, k, v, , mask)", QKV, {"mask": MASK}),
    Row(f"y = {MS}.MultiHeadAttention<num_heads = 2>(q, k, v, , mask)", QKV, {"mask": np.int32([3, 5])}, symbols=False),
    Row(f"y = {MS}.MultiHeadAttention<num_heads = 2>(q, k, v, , , bias)", {**QKV, "bias": (1, 2, 4, 5)}, symbols=False),
    Row(f"y = {MS}.MultiHeadAttention<num_heads = 2, unidirectional = 1>(q, k, v)", dict.fromkeys("qkv", (2, 4, 8))),
    Row(f"y = {MS}.MultiHeadAttention<num_heads = 2>(q, k, v)",
        {"q": (2, 4, 8), "k": (2, 2, 5, 4), "v": (2, 2, 5, 4)}),
    Row(f"y, c, d = {MS}.MultiHeadAttention<num_heads = 2>(q, k, v, , , , pk, pv)",
        {**dict.fromkeys("qkv", (2, 4, 8)), "pk": (2, 2, 3, 4), "pv": (2, 2, 3, 4)}, outputs=("y", "c", "d")),
    Row(f"y = {MS}.RotaryEmbedding(x, at, cos, sin)", {"x": (2, 3, 16)},
        {"at": I([[4, 1, 0], [2, 3, 8]]), "cos": COS, "sin": SIN}),
    Row(f"y = {MS}.RotaryEmbedding(x, at, cos, sin)", {"x": (2, 2, 3, 8)}, {"at": I([2]), "cos": COS, "sin": SIN},
        opset=12),
    Row(f"y = {MS}.RotaryEmbedding<interleaved = 1>(x, at, cos, sin)", {"x": (2, 2, 3, 8)},
        {"at": I([[4, 1, 0], [2, 3, 8]]), "cos": COS, "sin": SIN}),
    Row(f"y = {MS}.RotaryEmbedding<num_heads = 2, rotary_embedding_dim = 8>(x, at, cos, sin)", {"x": (2, 3, 24)},
        {"at": I([[4, 1, 0], [2, 3, 8]]), "cos": COS, "sin": SIN}),
    Row(f"y = {MS}.MatMulNBits<K = 40, N = 7, bits = 4, block_size = 16>(x, B, s)", {"x": (2, 3, 40)}, N4),
    Row(f"y = {MS}.MatMulNBits<K = 40, N = 7, bits = 4, block_size = 16>(x, B, s, z)", {"x": (3, 40)}, N4),
    Row(f"y = {MS}.MatMulNBits<K = 40, N = 7, bits = 4, block_size = 16>(x, B, s, zf, , c)",
        {"x": (3, 40), "c": (7,)}, N4, opset=12),
    Row(f"y = {MS}.MatMulNBits<K = 40, N = 7, bits = 8, block_size = 16>(x, B, s, z)", {"x": (3, 40)}, N8),
    Row(f"y = {MS}.GridSample<align_corners = 1>(x, grid)", {"x": (2, 3, 5, 4), "grid": (2, 3, 2, 2)}, opset=12,
        symbols=False, step=1e-3, tolerance=2e-2),
    Row(f"y = {MS}.GridSample<mode = \"bicubic\", padding_mode = \"border\">(x, grid)",
        {"x": (2, 3, 5, 4), "grid": (2, 3, 2, 2)}, symbols=False, step=1e-3, tolerance=2e-2, opset=20),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_gradient(row):
    check(row, lambda m, f, of: by_ort(m, f, [of])[0], by_ort, np.float32)


@pytest.mark.parametrize("row", [r for r in ROWS if r.symbols], ids=str)
def test_gradient_with_a_batch_of_any_size(row):
    check(row, lambda m, f, of: by_ort(m, f, [of])[0], by_ort, np.float32, symbols=True)


# ----- operators that onnxruntime has on GPUs only: against numpy in float64 -----
def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


class MultiHeadAttention(OpRun):
    """Packed (batch, length, heads, 3 or 2, width), as CUDA takes them."""

    op_domain = MS

    def _run(self, query, key=None, num_heads=None):
        q, k, v = np.moveaxis(query, 3, 0) if key is None else (query, *np.moveaxis(key, 3, 0))
        q = q.reshape(*q.shape[:2], num_heads, -1)
        p = softmax(np.einsum("bqnw,bknw->bnqk", q, k) / np.sqrt(q.shape[-1]))
        return (np.einsum("bnqk,bknw->bqnw", p, v).reshape(q.shape[0], q.shape[1], -1),)


def group_norm(x, gamma, beta, activation, channels_last, epsilon, groups):
    x = x if channels_last else np.moveaxis(x, 1, -1)
    y = np.empty_like(x)
    size = x.shape[-1] // groups
    for n in range(len(x)):
        for c in range(0, x.shape[-1], size):
            part = x[n, ..., c : c + size]
            y[n, ..., c : c + size] = (part - part.mean()) / np.sqrt(part.var() + epsilon)
    y = y * gamma + beta
    y = y / (1 + np.exp(-y)) if activation else y
    return y if channels_last else np.moveaxis(y, -1, 1)


class GroupNorm(OpRun):
    op_domain = MS

    def _run(self, x, gamma, beta, activation=0, channels_last=1, epsilon=1e-5, groups=1):
        return (group_norm(x, gamma, beta, activation, channels_last, epsilon, groups),)


class SkipGroupNorm(OpRun):
    op_domain = MS

    def _run(self, x, gamma, beta, skip, bias=None, activation=0, channels_last=1, epsilon=1e-5, groups=1):
        s = x + (skip[:, None, None] if skip.ndim == 2 else skip) + (0 if bias is None else bias)
        return (group_norm(s, gamma, beta, activation, channels_last, epsilon, groups), s)


def convolved(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """(N, H, W, C) by (M, kh, kw, C), one pixel of padding around."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, w.shape[1:3], axis=(1, 2))
    return np.einsum("nhwcij,mijc->nhwm", windows, w)


class NhwcConv(OpRun):
    op_domain = MS

    def _run(self, x, w, b=None, pads=None):
        w = w if w.shape[-1] == x.shape[-1] else np.moveaxis(w, 1, -1)
        return (convolved(x, w) + (0 if b is None else b),)


class NhwcFusedConv(OpRun):
    op_domain = MS

    def _run(self, x, w, b=None, z=None, pads=None, activation=None):
        y = convolved(x, np.moveaxis(w, 1, -1)) + b + z
        return (np.maximum(y, 0) if activation == "Relu" else y,)


NUMPY = [MultiHeadAttention, GroupNorm, SkipGroupNorm, NhwcConv, NhwcFusedConv]
GROUPS = {"x": (2, 4, 3, 6), "gamma": (6,), "beta": (6,)}
GPU = [
    Row(f"y = {MS}.MultiHeadAttention<num_heads = 2>(q, kv)", {"q": (2, 4, 8), "kv": (2, 5, 2, 2, 4)}),
    Row(f"y = {MS}.MultiHeadAttention<num_heads = 2>(qkv)", {"qkv": (2, 5, 2, 3, 4)}),
    Row(f"y = {MS}.GroupNorm<activation = 0, groups = 2, epsilon = 0.01>(x, gamma, beta)", GROUPS),
    Row(f"y = {MS}.GroupNorm<activation = 1, groups = 3, epsilon = 0.01>(x, gamma, beta)", GROUPS, opset=12),
    Row(f"y = {MS}.GroupNorm<activation = 1, groups = 2, channels_last = 0>(x, gamma, beta)",
        {**GROUPS, "x": (2, 6, 4, 3)}),
    Row(f"y, z = {MS}.SkipGroupNorm<activation = 1, groups = 2>(x, gamma, beta, skip, bias)",
        {**GROUPS, "skip": (2, 4, 3, 6), "bias": (6,)}, outputs=("y", "z")),
    Row(f"y = {MS}.SkipGroupNorm<activation = 0, groups = 2>(x, gamma, beta, skip)", {**GROUPS, "skip": (2, 6)}),
    Row(f"y = {MS}.NhwcConv<pads = [1, 1, 1, 1]>(x, w, b)", {"x": (2, 6, 5, 4), "w": (7, 3, 3, 4), "b": (7,)}),
    Row(f"y = {MS}.NhwcConv<pads = [1, 1, 1, 1]>(x, w)", {"x": (2, 6, 5, 4), "w": (7, 4, 3, 3)}),
    Row(f"y = {MS}.NhwcFusedConv<pads = [1, 1, 1, 1], activation = \"Relu\">(x, w, b, z)",
        {"x": (2, 6, 5, 4), "w": (7, 4, 3, 3), "b": (7,), "z": (2, 6, 5, 7)}, step=3e-4),
]  # fmt: skip


@pytest.mark.parametrize("row", GPU, ids=str)
def test_gradient_of_operators_for_gpus(row):
    def run(proto: onnx.ModelProto, feeds: Mapping[str, np.ndarray], names: list[str]) -> list[np.ndarray]:
        return ReferenceEvaluator(proto, new_ops=NUMPY).run(names, dict(feeds))

    check(row, lambda m, f, of: run(m, f, [of])[0], run, np.float32)


# ----- what is refused -----
def test_every_lowering_has_a_row():
    tried = {node for row in (*ROWS, *GPU) for node in (row.node,)}
    for domain, operator in operators():
        if (operator.startswith("Q") and operator != "QuickGelu") or "Integer" in operator or operator in INTEGER:
            continue  # tests/grad/test_quantized.py
        assert any(f"{operator}<" in node or f"{operator}(" in node for node in tried), (domain, operator)


INTEGER = {"DequantizeLinear", "DynamicQuantizeMatMul", "NhwcMaxPool"}


def test_a_model_baked_for_this_cpu_says_how_to_export():
    proto = parser.parse_model(
        f'''<ir_version: 8, opset_import: ["" : 17, "{MS}.nchwc" : 1]>
        g (float[1, 8, 6, 6] x) => (float[1, 8, 6, 6] y) {{
          r = {MS}.nchwc.ReorderInput(x) y = {MS}.nchwc.ReorderOutput<channels = 8>(r) }}'''
    )
    with pytest.raises(ModelError, match="before optimising"):
        onnxcam.vjp(proto, of="y", wrt=["x"])


def test_an_attribute_that_is_not_honoured_is_refused_by_name():
    row = Row(f"y = {MS}.Attention<num_heads = 2, do_rotary = 1>(x, w, b)", ATT)
    with pytest.raises((UnsupportedGradient, ModelError), match="Attention"):
        onnxcam.vjp(row.model(), of="y", wrt=["x"])
