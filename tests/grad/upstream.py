"""ONNX's own node tests as a conformance suite for gradients.

A node test is a model of one operator with an input and the output that is due. Here each float input is moved along a
random direction: the change of a random projection of the output, by central differences in float64 of ONNX's reference
(onnxruntime in float32 where the reference cannot or contradicts the test's own output), has to be what the gradient
says. Where the two one-sided differences disagree the point is a kink, and the check is made beside it. A case that
onnxruntime does not run at all is checked by the reference, which then computes the gradient as well.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases
from onnx.backend.test.case.test_case import TestCase
from onnx.reference import ReferenceEvaluator

import onnxcam
from onnxcam.errors import OnnxcamError

# The reference takes x for |x|; it sums squares over the wrong neighbours.
UNTRUSTED = {"LpNormalization", "LRN"}

# What draws at random draws the same for a seed in a new session only.
RANDOM = {"Bernoulli", "Dropout", "RandomNormalLike", "RandomUniformLike"}

_COARSE = 1e-3

Outcome = Literal["verified", "by reference", "kink", "refused", "wrong", "independent", "no forward"]
COLUMNS: Sequence[Outcome] = ("verified", "by reference", "kink", "independent", "refused", "no forward")
Feeds = dict[str, np.ndarray]
Function = Callable[[Feeds], np.ndarray]
Gradient = Callable[[onnx.ModelProto, Feeds, str, str, np.ndarray], np.ndarray]  # (model, feeds, of, wrt, seed)


@dataclass(frozen=True)
class Result:
    """What became of one input of one case."""

    case: str
    input: str
    outcome: Outcome
    detail: str = ""


@cache
def cases() -> dict[str, TestCase]:
    """The node tests of the installed onnx by name: those with a float32 input and a float32 output."""
    found = {}
    for case in collect_testcases(None):
        if case.data_sets and case.model is not None and float_inputs(case) and _float_output(case):
            found[case.name] = case
    return found


@dataclass(frozen=True)
class Subject:
    """What one case is about: the function of its feeds, the step to difference it with, or why there is none.

    `runtime` says why onnxruntime does not run the model; nothing where it does.
    """

    model: onnx.ModelProto
    of: str
    feeds: Feeds
    function: Function | None
    step: float
    reason: str
    runtime: str

    @classmethod
    def of_case(cls, case: TestCase) -> "Subject":
        """Find the function: ONNX's reference, or onnxruntime."""
        name, due = _float_output(case)
        feeds = _feeds(case)
        return cls(case.model, name, feeds, *_forward(case.model, name, feeds, due))


def check(case: TestCase, gradient: Gradient | None = None) -> Iterator[Result]:
    """The outcome for each float input of a case; `gradient` is ours where none is given."""
    subject = Subject.of_case(case)
    for wrt in float_inputs(case):
        row = (case.name, wrt)
        if subject.function is None:
            yield Result(*row, "no forward", subject.reason)
        else:
            outcome, detail = _outcome(subject, subject.function, gradient or _our_way(subject), wrt)
            if gradient is None and subject.runtime and outcome == "verified":
                outcome, detail = "by reference", f"onnxruntime: {subject.runtime}"
            if gradient is None and not subject.runtime and outcome == "no forward":
                outcome = "wrong"  # onnxruntime runs the model and not its gradient
            yield Result(*row, outcome, detail)


def table(exceptions: Mapping[str, Mapping[str, Sequence[str]]]) -> str:
    """The results by operator, as Markdown; `exceptions` is what is not verified: case → input → outcome, detail."""
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    opsets: dict[str, set[int]] = defaultdict(set)
    reasons: dict[str, dict[str, None]] = defaultdict(dict)
    for name, case in cases().items():
        operator, opset = operator_of(case)
        opsets[operator].add(opset)
        for wrt in float_inputs(case):
            outcome, detail = exceptions.get(name, {}).get(wrt, ("verified", ""))
            rows[operator][outcome] += 1
            if outcome in ("refused", "no forward", "by reference"):
                reasons[operator][f"{outcome}: {detail}"] = None
    lines = [
        "| operator | opsets | verified | by reference | beside a kink | independent | refused | no forward | why |",
        "|---|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for operator in sorted(rows):
        counts = [str(rows[operator][o] or "") for o in COLUMNS]
        why = "; ".join(reasons[operator]).replace("|", "\\|")
        lines.append(f"| {operator} | {', '.join(map(str, sorted(opsets[operator])))} | {' | '.join(counts)} | {why} |")
    total = sum(rows.values(), Counter())
    return "\n".join(lines) + f"\n\n{_summary(total)}\n"


def _summary(total: Mapping[str, int]) -> str:
    good = total["verified"] + total["by reference"] + total["kink"]
    due = good + total["refused"]
    return (
        f"{sum(total.values())} inputs of {len(cases())} cases. Of the {due} on which an output depends and whose "
        f"operator something computes, {good} ({100 * good / due:.1f} %) are verified, {total['by reference']} of them "
        f"by the reference; {total['refused']} are refused, none is wrong."
    )


def operator_of(case: TestCase) -> tuple[str, int]:
    """The operator that a case is about and its opset; a function's expansion counts as that function."""
    node = case.model.graph.node[0]
    opsets = {"" if o.domain == "ai.onnx" else o.domain: o.version for o in case.model.opset_import}
    if "_expanded" in case.name:
        return "(bodies of functions)", opsets[""]
    return f"{node.domain}.{node.op_type}" if node.domain else node.op_type, opsets[node.domain]


def _outcome(subject: Subject, function: Function, gradient: Gradient, wrt: str) -> tuple[Outcome, str]:
    """At the case's point, or beside it where that is a kink or a jump; coarser where float32 in a body is noise."""
    feeds, step = subject.feeds, subject.step

    def attempt(h: float, feeds: Feeds) -> _Attempt:
        return _attempt(subject, function, gradient, h, feeds, wrt)

    found = attempt(step, feeds)
    if found.outcome == "wrong" and step < _COARSE:
        coarse = attempt(_COARSE, feeds)
        found = coarse if coarse.outcome == "verified" else found
    if found.outcome in ("wrong", "refused") and not found.smooth:
        rng = np.random.default_rng(1)
        moved = {**feeds, wrt: np.asarray(feeds[wrt] + 1e-2 * rng.standard_normal(feeds[wrt].shape))}
        for h in (step, _COARSE):
            beside = attempt(h, moved)
            if beside.outcome == "verified":
                return "kink", "at a kink or a jump; verified beside it"
            if found.outcome == "refused" and beside.outcome == "independent":
                return "independent", "at a jump; nothing changes beside it"
    return found.outcome, found.detail


@dataclass(frozen=True)
class _Attempt:
    outcome: Outcome
    detail: str = ""
    smooth: bool = True


def _attempt(subject: Subject, forward: Function, gradient: Gradient, step: float, feeds: Feeds, wrt: str) -> _Attempt:
    rng = np.random.default_rng(0)
    base = forward(feeds)
    u, v = rng.standard_normal(base.shape), rng.standard_normal(feeds[wrt].shape)
    try:
        ends = [forward({**feeds, wrt: np.asarray(feeds[wrt] + h * v)}) for h in (step, -step, step / 8)]
    except Exception as error:  # noqa: BLE001 - sizes and scales given as floats: nothing smooth about them
        return _Attempt("independent", f"not a function that can be differenced: {str(error)[:80]}")
    if any(end.shape != base.shape for end in ends):
        return _Attempt("independent", "it decides the shape of the output")
    up, down, close = (((end - base) * u).sum() / h for end, h in zip(ends, (step, -step, step / 8), strict=True))
    smooth = abs(up - down) <= 1e-2 * abs(up) and abs(close - up) <= 1e-2 * abs(up)
    try:
        found = gradient(subject.model, feeds, subject.of, wrt, u)
    except OnnxcamError as error:
        if not up and not down:
            return _Attempt("independent", "nothing changes with it")
        return _Attempt("refused", str(error), smooth)
    except _errors() as error:
        return _Attempt("no forward", f"onnxruntime does not run it: {_said(error)}")
    if found.shape != feeds[wrt].shape:
        return _Attempt("wrong", f"shape {found.shape}")
    products = found.astype(np.float64) * v
    got, tolerance = products.sum(), 5e-3 * max(np.abs(products).sum(), abs(up), 1e-1)
    if abs(got - (up + down) / 2) <= tolerance:
        return _Attempt("verified")
    if not np.isfinite(up) or not np.isfinite(down):
        return _Attempt("kink", "the function is not finite around the point")
    smooth = abs(up - down) <= tolerance and abs(close - up) <= tolerance
    return _Attempt("wrong", f"{got} instead of {up} or {down}", smooth)


def _said(error: Exception) -> str:
    """What onnxruntime says is wrong, without where in its source it says so."""
    text = " ".join(str(error).split()).rpartition(" was false. ")[2]
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (Fatal error: )?| node with name ''", "", text)[:200].strip()


def _errors() -> tuple[type[Exception], ...]:
    state = ort.capi.onnxruntime_pybind11_state
    return state.NotImplemented, state.Fail, state.InvalidArgument, state.RuntimeException, state.InvalidGraph


def _our_way(subject: Subject) -> Gradient:
    return _referred if subject.runtime else our_gradient


def _referred(model: onnx.ModelProto, feeds: Feeds, of: str, wrt: str, u: np.ndarray) -> np.ndarray:
    """Compute the file that `onnxcam.vjp` makes by ONNX's reference."""
    extended = onnxcam.vjp(model, of=of, wrt=[wrt])
    reference = ReferenceEvaluator(extended)
    return np.asarray(reference.run([f"grad/{wrt}"], {**narrow(feeds), f"seed/{of}": u.astype(np.float32)})[0])


def our_gradient(model: onnx.ModelProto, feeds: Feeds, of: str, wrt: str, u: np.ndarray) -> np.ndarray:
    """Run the file that `onnxcam.vjp` makes."""
    extended = onnxcam.vjp(model, of=of, wrt=[wrt])
    session = session_of(extended)
    given = {**narrow(feeds), f"seed/{of}": u.astype(np.float32)}
    return np.asarray(session.run([f"grad/{wrt}"], given)[0])


def _forward(
    model: onnx.ModelProto, name: str, feeds: Feeds, due: np.ndarray
) -> tuple[Function | None, float, str, str]:
    """The function, the step to difference it with, or why there is none; and why onnxruntime does not run it.

    The reference in float64, where it gives what is due and onnxruntime does not contradict it: a gradient has to be
    that of the function which runs. Else onnxruntime in float32.
    """
    exact, reason = _by_reference(model, name)
    run, other = _by_runtime(model, name, feeds)
    if exact and _gives(exact, feeds, due) and (run is None or _gives(run, feeds, due)):
        return exact, 1e-5, "", other
    if run and exact and _gives(exact, feeds, due):
        return run, 2e-3, "", ""
    if run and _gives(run, feeds, due):
        return run, 2e-3, "", ""
    if exact and _gives(narrow_ := lambda given: exact(narrow(given)), feeds, due):
        return narrow_, 2e-3, "", other
    reason = reason or "the reference contradicts the data of the case"
    return None, 0, f"{reason}; onnxruntime: {other or 'so does it'}", other


def _gives(function: Function, feeds: Feeds, due: np.ndarray) -> bool:
    try:
        return bool(np.allclose(function(feeds), due, rtol=1e-3, atol=1e-4, equal_nan=True))
    except Exception:  # noqa: BLE001 - the reference and the runtime may fail in any way
        return False


def _by_reference(model: onnx.ModelProto, name: str) -> tuple[Function | None, str]:
    if any(node.op_type in UNTRUSTED for node in model.graph.node):
        return None, "its reference is wrong away from the test's own point"
    try:
        reference = ReferenceEvaluator(model)
    except Exception as error:  # noqa: BLE001 - as above
        return None, f"the reference fails: {str(error)[:80]}"
    return lambda given: np.asarray(reference.run([name], dict(given))[0], np.float64), ""


def _by_runtime(model: onnx.ModelProto, name: str, feeds: Feeds) -> tuple[Function | None, str]:
    try:
        kept = session_of(model)
    except Exception as error:  # noqa: BLE001 - as above
        return None, _said(error)
    random = any(node.op_type in RANDOM for node in model.graph.node)

    def run(given: Feeds) -> np.ndarray:
        session = session_of(model) if random else kept
        return np.asarray(session.run([name], narrow(given))[0], np.float64)

    try:
        run(feeds)
    except Exception as error:  # noqa: BLE001 - as above
        return None, _said(error)
    return run, ""


def session_of(model: onnx.ModelProto) -> ort.InferenceSession:
    """A session on one thread, on the processor."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _feeds(case: TestCase) -> Feeds:
    given = zip([i.name for i in case.model.graph.input], case.data_sets[0][0], strict=False)
    return {name: _wide(value) for name, value in given}


def _wide(value: object) -> np.ndarray:
    value = numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value
    array = np.asarray(value) if isinstance(value, (np.ndarray, np.generic, int, float)) else value
    return array.astype(np.float64) if isinstance(array, np.ndarray) and array.dtype == np.float32 else array  # type: ignore[return-value]  # sequences pass through


def narrow(feeds: Mapping[str, np.ndarray]) -> Feeds:
    """Floats as float32."""
    return {
        k: v.astype(np.float32) if isinstance(v, np.ndarray) and v.dtype == np.float64 else v for k, v in feeds.items()
    }


def float_inputs(case: TestCase) -> list[str]:
    values = case.data_sets[0][0]
    inputs = [i.name for i in case.model.graph.input if i.type.HasField("tensor_type")]
    given = zip([i.name for i in case.model.graph.input], values, strict=False)
    return [
        n
        for n, v in given
        if n in inputs and isinstance(v, (np.ndarray, np.generic)) and v.dtype == np.float32 and v.size
    ]


def _float_output(case: TestCase) -> tuple[str, np.ndarray] | None:
    pairs = zip([o.name for o in case.model.graph.output], case.data_sets[0][1], strict=False)
    return next(((n, v) for n, v in pairs if isinstance(v, np.ndarray) and v.dtype == np.float32 and v.size), None)
