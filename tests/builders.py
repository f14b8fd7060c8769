"""Small models as ONNX text, and the numpy that knows what they compute."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper, parser

MODELS = Path(__file__).resolve().parents[1] / "models"
DEMO = MODELS / "efficientnet-lite0.onnx"
NEWEST = onnx.defs.onnx_opset_version()


class Named(Protocol):
    name: str


SHAPE = (3, 6, 5)  # channels, height and width of what `Net` sees: all different, so that exchanged axes show


def model(text: str, *, opset: int = 17, ir: int = 8, **weights: np.ndarray) -> onnx.ModelProto:
    """A model from the text of its graph, with initializers; an array that is not float stays what it is."""
    proto = parser.parse_model(f'<ir_version: {ir}, opset_import: ["" : {opset}]> {text}')
    for name, value in weights.items():
        array = np.asarray(value)
        proto.graph.initializer.append(
            numpy_helper.from_array(array.astype(np.float32) if array.dtype == float else array, name)
        )
    return proto


def run(proto: onnx.ModelProto | str | Path, feeds: Mapping[str, np.ndarray], names: list[str] | None = None) -> dict:
    """All outputs of a model by onnxruntime alone, as anyone runs an ONNX file."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    given = proto.SerializeToString() if isinstance(proto, onnx.ModelProto) else str(proto)
    session = ort.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    names = names or [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def names(values: Iterable[Named]) -> list[str]:
    return [v.name for v in values]


def retyped(proto: onnx.ModelProto, dtype: type[np.floating]) -> onnx.ModelProto:
    """The model with every float32 input, output and initializer in another float type."""
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    for tensor in result.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(dtype), tensor.name))
    for value in (*result.graph.input, *result.graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return result


def assert_extends(result: onnx.ModelProto, original: onnx.ModelProto) -> None:
    """Without what was appended, the result is the original byte for byte; what was appended has names of its own."""
    rest = onnx.ModelProto()
    rest.CopyFrom(result)
    added = set()
    for field in ("node", "initializer", "input", "output"):
        ours, theirs = getattr(rest.graph, field), getattr(original.graph, field)
        added |= {n for v in ours[len(theirs) :] for n in (v.output if field == "node" else [v.name])}
        del ours[len(theirs) :]
    del rest.graph.value_info[len(original.graph.value_info) :]
    del rest.metadata_props[len(original.metadata_props) :]
    assert rest.SerializeToString(deterministic=True) == original.SerializeToString(deterministic=True)
    tensors = {*names(original.graph.input), *names(original.graph.initializer)}
    assert not added & (tensors | {o for n in original.graph.node for o in n.output})


def image(samples: int = 4, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(samples, *shape)).astype(np.float32)


class Net:
    """conv 3×3 → ReLU `map` → global average pooling → Gemm `y`: the network whose CAM is known in closed form.

    `head` replaces what comes after the pooling `p`, `out` declares the outputs, `dims` the input.
    """

    HEAD = "f = Flatten(p) y = Gemm<transB = 1>(f, H, b)"

    def __init__(self, classes: int = 3, channels: int = 4, seed: int = 73) -> None:
        rng = np.random.default_rng(seed)
        self.W, self.B = _weights(rng, channels, SHAPE[0], 3, 3) / 4, _weights(rng, channels) / 4
        self.H, self.b = _weights(rng, classes, channels), _weights(rng, classes)

    def model(
        self,
        head: str = HEAD,
        *,
        dims: str = "N, 3, 6, 5",
        out: str | None = None,
        pooling: str = "p = GlobalAveragePool(map)",
        opset: int = 17,
        ir: int = 8,
        **more: np.ndarray,
    ) -> onnx.ModelProto:
        batch = dims.split(",")[0]
        text = f"""net (float[{dims}] x) => ({out or f"float[{batch}, {len(self.b)}] y"}) {{
          c = Conv<pads = [1, 1, 1, 1]>(x, W, B)
          map = Relu(c)
          {pooling}
          {head}
        }}"""
        return model(text, opset=opset, ir=ir, **self.weights(), **more)

    def weights(self) -> dict[str, np.ndarray]:
        return {"W": self.W, "B": self.B, "H": self.H, "b": self.b}

    def map(self, x: np.ndarray) -> np.ndarray:
        """The layer `map`, (N, K, h, w), in float64."""
        padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
        return np.maximum(np.einsum("nchwij,kcij->nkhw", windows, self.W) + self.B[:, None, None], 0)

    def score(self, x: np.ndarray) -> np.ndarray:
        return self.map(x).mean((2, 3)) @ self.H.T + self.b

    def gradient(self, x: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """d score[class] / d map: the head's row over the number of places."""
        height, width = x.shape[2:]
        rows = self.H[np.asarray(classes)][:, :, None, None] / (height * width)
        return np.broadcast_to(rows, (len(x), self.H.shape[1], height, width))

    def gradcam(self, x: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """The raw Grad-CAM: mean gradient times activation, summed over the channels."""
        return np.einsum("nk,nkhw->nhw", self.gradient(x, classes).mean((2, 3)), self.map(x))


_HEAD = "f = Flatten(p) s = Gemm<transB = 1>(f, H, b)"
_PARTS = "m = ReduceMax<axes = [1]>(s) d = Sub(s, m) e = Exp(d) t = ReduceSum(e, one)"
_SQUEEZED = """m = ReduceMax<axes = [1], keepdims = 0>(s) k = Unsqueeze(m, one) d = Sub(s, k) e = Exp(d)
  t = ReduceSum<keepdims = 0>(e, one)"""
ENDINGS = {
    "plain": ("f = Flatten(p) y = Gemm<transB = 1>(f, H, b)", None),
    "softmax": (f"{_HEAD} y = Softmax<axis = 1>(s)", None),
    "logsoftmax": (f"{_HEAD} y = LogSoftmax<axis = 1>(s)", None),
    "sigmoid": (f"{_HEAD} y = Sigmoid(s)", None),
    "softmax, then reshaped": (f"{_HEAD} q = Softmax<axis = 1>(s) y = Reshape(q, R)", "float[N, 3, 1, 1] y"),
    "softmax, then cast": (f"{_HEAD} q = Softmax<axis = 1>(s) y = Cast<to = 11>(q)", "double[N, 3] y"),
    "softmax, then the class": (f"{_HEAD} q = Softmax(s) y = ArgMax<axis = 1, keepdims = 0>(q)", "int64[N] y"),
    "the class": (f"{_HEAD} y = ArgMax<axis = 1>(s)", "int64[N, 1] y"),
    "the best two": (f"{_HEAD} q = Softmax(s) y, i = TopK(q, two)", "float[N, 2] y, int64[N, 2] i"),
    "1×1 convolution": ("y = Conv(p, C, b)", "float[N, 3, 1, 1] y"),
    "1×1 convolution before": ("q = Conv(map, C, b) g = GlobalAveragePool(q) y = Flatten(g)", None),
    "classes, then more": (f"{_HEAD} y = Softmax(s) z = Relu(p)", "float[N, 3] y, float[N, 4, 1, 1] z"),
    "softmax in its parts": (f"{_HEAD} {_PARTS} y = Div(e, t)", None),
    "softmax in its parts, without the axis": (f"{_HEAD} {_SQUEEZED} u = Unsqueeze(t, one) y = Div(e, u)", None),
    "softmax in its parts, of exp alone": (f"{_HEAD} e = Exp(s) t = ReduceSum(e, one) y = Div(e, t)", None),
    "scores and probabilities": (f"{_HEAD} y = Identity(s) z = Softmax(s)", "float[N, 3] y, float[N, 3] z"),
}


def of_ending(kind: str, **options: object) -> tuple[Net, onnx.ModelProto]:
    net, (head, out) = Net(), ENDINGS[kind]
    more = {"R": np.int64([-1, 3, 1, 1]), "one": np.int64([1]), "two": np.int64([2]), "C": net.H[:, :, None, None]}
    return net, net.model(head, out=out, **{k: v for k, v in more.items() if k in head}, **options)


def _weights(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Normal numbers that float32 holds exactly, in float64."""
    return rng.normal(size=shape).astype(np.float32).astype(np.float64)


def pipeline(raws: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """pytorch-grad-cam's: relu, min-max, resize, mean over the layers, relu, min-max; pixel by pixel."""
    layers = []
    for raw in raws:
        scaled = np.stack([_unit(np.maximum(m, 0)) for m in np.asarray(raw, np.float64)])
        layers.append(np.stack([_resized(m, size) for m in scaled]))
    mean = np.mean(layers, axis=0)
    return np.stack([_unit(np.maximum(m, 0)) for m in mean])


def _unit(m: np.ndarray) -> np.ndarray:
    return (m - m.min()) / (1e-7 + (m - m.min()).max())


def _resized(m: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear, half-pixel centres, held at the edges."""
    down, across = (_reads(n_in, n_out) for n_in, n_out in zip(m.shape, size, strict=True))
    return down @ m @ across.T


def _reads(n_in: int, n_out: int) -> np.ndarray:
    """How much of each input pixel an output pixel along one axis reads, (n_out, n_in)."""
    matrix = np.zeros((n_out, n_in))
    for i in range(n_out):
        at = min(max((i + 0.5) * n_in / n_out - 0.5, 0), n_in - 1)
        matrix[i, int(at)] += 1 - (at - int(at))
        matrix[i, min(int(at) + 1, n_in - 1)] += at - int(at)
    return matrix
