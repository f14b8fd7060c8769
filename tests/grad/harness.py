"""Check a gradient against central differences of ONNX's own reference implementation in float64."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, defs, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import onnxcam

Feeds = Mapping[str, np.ndarray]
Forward = Callable[[Feeds], Sequence[np.ndarray]]
Sample = Callable[[np.random.Generator, Sequence[int]], np.ndarray]
RENAMED = {("Pad", "value"): "constant_value", ("TopK", "k"): "K"}


def normal(rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    """Any sign, away from 0 and from each other, so that no kink or tie lies within a difference step."""
    values = np.linspace(-2, 2, max(2, int(np.prod(shape))))[: int(np.prod(shape))] + rng.uniform(0.004, 0.012)
    return rng.permutation(values).reshape(shape)


def positive(rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    return np.abs(normal(rng, shape)) + 0.3


def unit(rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    """Inside −0.9..0.9."""
    return normal(rng, shape) * 0.44


@cache
def changes() -> Mapping[str, set[int]]:
    """The opsets at which the schema of each operator changed."""
    found: dict[str, set[int]] = defaultdict(set)
    for schema in defs.get_all_schemas_with_history():
        if not schema.domain:
            found[schema.name].add(schema.since_version)
    return found


@dataclass(frozen=True)
class Fed:
    """An operand without a gradient that is given at run time; its sizes are symbols in the dynamic test where open."""

    values: np.ndarray
    open: bool = True


def fed(values: object, dtype: type = np.int64, open: bool = True) -> Fed:
    return Fed(np.asarray(values, dtype), open)


@dataclass(frozen=True)
class Case:
    """One operator, used one way. A tuple is the shape of a float input; an array is a constant input; Fed is run-time.

    Keywords are attributes or inputs, whichever the opset has; `since`/`until` bound the opsets where this use
    is legal; `dynamic` names the axes of the first input that are symbols in the dynamic test.
    """

    op: str
    inputs: tuple[object, ...]
    keywords: Mapping[str, object] = field(default_factory=dict)
    sample: Sample = normal
    since: int = 7
    until: int = 10_000
    outputs: int = 1
    dynamic: tuple[int, ...] | None = None
    wrt: tuple[int, ...] | None = None
    tolerance: float = 2e-3
    forward: str = "reference"

    def __str__(self) -> str:
        shapes = ",".join(
            "x".join(map(str, i)) if isinstance(i, tuple) else {Fed: "r", type(None): "-"}.get(type(i), "c")
            for i in self.inputs
        )
        words = ",".join(f"{k}={_short(v)}" for k, v in self.keywords.items())
        return f"{self.op}({shapes}){'[' + words + ']' if words else ''}"

    def opsets(self) -> list[int]:
        """The newest opset, and every one from 7 on where the operator's schema changed."""
        newest = min(defs.onnx_opset_version(), self.until - 1)
        first = max(7, self.since)
        return sorted({v for v in changes()[self.op] if first <= v <= newest} | {first, newest})

    def model(self, opset: int, dtype: int, symbols: bool) -> onnx.ModelProto:
        """The operator alone, float inputs as graph inputs x0, x1, …"""
        schema = defs.get_schema(self.op, opset, "")
        names: list[str] = []
        inputs, constants = [], []
        for i, value in enumerate(self.inputs):
            names.append("" if value is None else f"x{i}")
            if isinstance(value, tuple):
                inputs.append(helper.make_tensor_value_info(f"x{i}", dtype, self._dims(i, value, symbols)))
            elif isinstance(value, Fed):
                inputs.append(_fed_input(f"x{i}", value, symbols))
            elif value is not None:
                constants.append(numpy_helper.from_array(_typed(np.asarray(value), dtype), f"x{i}"))
        attributes = {}
        for key, value in self.keywords.items():
            old = next((o for (name, o), new in RENAMED.items() if (name, new) == (self.op, key)), key)
            if key in schema.attributes or old in schema.attributes:
                attributes[key if key in schema.attributes else old] = value
            else:
                position = [p.name for p in schema.inputs].index(key)
                names += [""] * (position + 1 - len(names))
                names[position] = key
                if isinstance(value, Fed):
                    inputs.append(_fed_input(key, value, symbols))
                    continue
                constants.append(numpy_helper.from_array(_typed(np.asarray(value), dtype), key))
        outputs = [f"y{i}" for i in range(self.outputs)]
        node = helper.make_node(self.op, names, outputs, **attributes)
        declared = [helper.make_tensor_value_info(o, dtype, None) for o in outputs[:1]]
        declared += [helper.make_empty_tensor_value_info(o) for o in outputs[1:]]  # TopK's second ones are integers
        graph = helper.make_graph([node], "case", inputs, declared, constants)
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8 if opset < 21 else 10
        )

    def feeds(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        floats = {
            f"x{i}": np.asarray(self.sample(rng, v), np.float64)
            for i, v in enumerate(self.inputs)
            if isinstance(v, tuple)
        }
        named = {**{f"x{i}": v for i, v in enumerate(self.inputs)}, **self.keywords}
        return floats | {name: v.values for name, v in named.items() if isinstance(v, Fed)}

    def _dims(self, index: int, shape: tuple[int, ...], symbols: bool) -> list[int | str]:
        if not symbols or index:
            return list(shape)
        open_axes = self.dynamic if self.dynamic is not None else tuple(a for a in range(len(shape)) if a != 1)
        return [f"d{a}" if a in open_axes else d for a, d in enumerate(shape)]


def case(
    op: str,
    *inputs: object,
    sample: Sample = normal,
    since: int = 7,
    until: int = 10_000,
    outputs: int = 1,
    dynamic: tuple[int, ...] | None = None,
    wrt: tuple[int, ...] | None = None,
    tolerance: float = 2e-3,
    forward: str = "reference",
    **keywords: object,
) -> Case:
    return Case(op, inputs, keywords, sample, since, until, outputs, dynamic, wrt, tolerance, forward)


def check(case_: Case, opset: int, symbols: bool = False, seed: int = 0) -> None:
    """Compare ⟨vjp(u), v⟩ in float32 ORT with the central difference along v in float64, for each float input."""
    rng = np.random.default_rng(seed)
    feeds = case_.feeds(rng)
    forward = _forward(case_, opset)
    outputs = forward(feeds)
    u = [rng.standard_normal(np.shape(o)) for o in outputs]
    floats = [n for n, v in feeds.items() if v.dtype.kind == "f"]
    wanted = [n for n in floats if case_.wrt is None or int(n[1:]) in case_.wrt]
    gradients = vjp_of(case_.model(opset, TensorProto.FLOAT, symbols), feeds, u[0], wanted)
    for name in wanted:
        for _ in range(2):
            v = rng.standard_normal(feeds[name].shape)
            expected = difference(forward, feeds, name, v, u[0], 1e-4 if case_.forward == "reference" else 2e-3)
            found = float((gradients[name].astype(np.float64) * v).sum())
            scale = np.abs(gradients[name].astype(np.float64) * v).sum() + 1e-3
            assert abs(found - expected) <= case_.tolerance * scale, f"d/d{name}: {found} instead of {expected}"


def vjp_of(
    model: onnx.ModelProto, feeds: Mapping[str, np.ndarray], u: np.ndarray, wrt: Sequence[str]
) -> dict[str, np.ndarray]:
    """Run `onnxcam.vjp` in onnxruntime, float32."""
    extended = onnxcam.vjp(model, of=model.graph.output[0].name, wrt=wrt)
    assert not any(map(races, extended.graph.node[len(model.graph.node) :]))
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(extended.SerializeToString(), options, providers=["CPUExecutionProvider"])
    given = _narrow(feeds) | {f"seed/{model.graph.output[0].name}": np.asarray(u, np.float32)}
    results = session.run([f"grad/{n}" for n in wrt], given)
    found = dict(zip(wrt, results, strict=True))
    for name, gradient in found.items():
        assert gradient.shape == feeds[name].shape
    return found


def races(node: onnx.NodeProto) -> bool:
    """Whether ORT's CPU kernel adds repeated elements from several threads at once, and loses some."""
    return node.op_type == "ScatterND" and any(a.name == "reduction" and a.s != b"none" for a in node.attribute)


def difference(forward: Forward, feeds: Feeds, name: str, v: np.ndarray, u: np.ndarray, step: float) -> float:
    """⟨u, f(x + εv) − f(x − εv)⟩ / 2ε."""
    ends = [np.asarray(forward({**feeds, name: feeds[name] + s * step * v})[0], np.float64) for s in (1, -1)]
    return float(((ends[0] - ends[1]) * u).sum() / (2 * step))


def _forward(case_: Case, opset: int) -> Forward:
    """The operator in float64 by ONNX's reference, or in float32 by onnxruntime where the reference is wrong."""
    if case_.forward == "reference":
        reference = ReferenceEvaluator(case_.model(opset, TensorProto.DOUBLE, False))
        return lambda feeds: reference.run(None, dict(feeds))
    session = ort.InferenceSession(
        case_.model(opset, TensorProto.FLOAT, False).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return lambda feeds: session.run(None, _narrow(feeds))


def _fed_input(name: str, value: Fed, symbols: bool) -> onnx.ValueInfoProto:
    shape = [f"{name}_{a}" if symbols and value.open else d for a, d in enumerate(value.values.shape)]
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.values.dtype), shape)


def _narrow(feeds: Feeds) -> dict[str, np.ndarray]:
    return {k: v.astype(np.float32) if v.dtype.kind == "f" else v for k, v in feeds.items()}


def _typed(array: np.ndarray, dtype: int) -> np.ndarray:
    return array.astype(helper.tensor_dtype_to_np_dtype(dtype)) if array.dtype.kind == "f" else array


def _short(value: object) -> str:
    if isinstance(value, Fed):
        return f"r{_short(value.values)}"
    return str(np.asarray(value).tolist()).replace(" ", "") if not isinstance(value, (int, float, str)) else str(value)
