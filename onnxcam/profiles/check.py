"""Hold a model against a profile: every node that would fail there, or fall back to something slower.

A node is what its operator, the version of its specification, the types of its tensors and its attributes say; so the
walk is over any graph: branches and bodies of If, Loop and Scan, functions, and operators that are functions of others.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, defs

from onnxcam.errors import ModelError, UnsupportedGradient, unknown
from onnxcam.grad.bind import with_defaults
from onnxcam.grad.expand import inlined, specified
from onnxcam.grad.forward import Forward
from onnxcam.grad.infer import Type
from onnxcam.grad.node import Node
from onnxcam.grad.subgraph import enter
from onnxcam.grad.tape import schema_of
from onnxcam.model import ModelLike, Source, read
from onnxcam.profiles import PROFILES
from onnxcam.profiles.limits import TYPES
from onnxcam.profiles.table import Profile, Row, profile

Severity = Literal["fails", "differs", "falls back"]
"""What becomes of a node: refused; run, but not as ONNX specifies; run by something else than the runtime's best."""

_SPELLED = {int(value): name for name, value in TYPES.items()}
_HALF = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
_SIZES = ("Shape", "Size", "Constant")
_SHOWN = 3


@dataclass(frozen=True)
class Finding:
    """A node that a runtime does not run as it runs others, and why; `node` is "" where it is about the file."""

    severity: Severity
    profile: str
    node: str
    operator: str
    tensor: str
    why: str

    def __str__(self) -> str:
        what = f"{self.operator} '{self.node}'" if self.operator else f"'{self.tensor}'" if self.tensor else "The file"
        return f"{what} {self.severity} in {self.profile}: {self.why}"


@dataclass(frozen=True)
class Report:
    """What `check` found, in the order of the file; nothing of what runs as it should."""

    profile: str
    findings: tuple[Finding, ...] = field(default=())

    @property
    def fails(self) -> tuple[Finding, ...]:
        """What the runtime refuses."""
        return tuple(f for f in self.findings if f.severity == "fails")

    @property
    def ok(self) -> bool:
        """Whether every node runs, be it elsewhere."""
        return not self.fails

    def to_json(self) -> str:
        """The report as a JSON document."""
        return json.dumps({"profile": self.profile, "ok": self.ok, "findings": [asdict(f) for f in self.findings]})


def check(model: ModelLike, profile: str = "portable") -> Report:
    """Every node of a model that would fail, or fall back, where `profile` says; see docs/runtimes.md.

    Raises InputError for an unknown profile, ModelError for a file that is no model.
    """
    if profile not in PROFILES:
        raise unknown("profile", profile, PROFILES)
    source = read(model)
    return Report(profile, tuple(f for _, f in _findings(source, Forward(source.proto, source.folder), profile)))


def require(model: ModelLike, profile: str, original: ModelLike) -> tuple[Finding, ...]:
    """Raise ModelError where what was added to `original` fails in a profile, or where the original itself does.

    The message tells the two apart, for only one of them can be converted otherwise. Returns what falls back.
    Raises InputError for an unknown profile.
    """
    if profile not in PROFILES:
        raise unknown("profile", profile, PROFILES)
    source, before = read(model), read(original).proto.graph
    theirs = {o for n in before.node for o in n.output} | {v.name for v in before.input}
    found = list(_findings(source, Forward(source.proto, source.folder), profile))
    for own, text in ((True, "The model itself does not run"), (False, "What explains the model does not run")):
        failing = [f for root, f in found if f.severity == "fails" and (root in theirs or not root) == own]
        if failing:
            more = f" And {len(failing) - _SHOWN} more: onnxcam check." if len(failing) > _SHOWN else ""
            raise ModelError(f"{text} in '{profile}'. {'. '.join(map(str, failing[:_SHOWN]))}.{more}")
    return tuple(f for _, f in found)


def _findings(source: Source, forward: Forward, name: str) -> Iterator[tuple[str, Finding]]:
    """Findings, each with the tensor of the main graph that it is rooted in; "" where it is about the file."""
    where = profile(name)
    for member in where.members:
        yield from _findings(source, forward, member)
    if where.members:
        return
    yield from _of_file(source.proto, forward, where)
    for node in forward.nodes:
        root = next(filter(None, node.outputs), "")
        for finding in _of_node(node, forward, where):
            yield root, finding


def _of_file(model: onnx.ModelProto, forward: Forward, where: Profile) -> Iterator[tuple[str, Finding]]:
    """What is wrong with the file as a whole, and with its inputs."""
    about = Finding("fails", where.name, "", "", "", "")
    if where.opset is not None and forward.opsets[""] > where.opset:
        yield "", replace(about, why=f"opset {forward.opsets['']} is newer than {where.opset}, the newest known there")
    if where.ir is not None and model.ir_version > where.ir:
        yield "", replace(about, why=f"IR version {model.ir_version} is newer than {where.ir}, the newest known there")
    for value in model.graph.input:
        about = replace(about, tensor=value.name)
        if value.name in forward.initializers and model.ir_version > 3 and not where.defaults:
            yield value.name, replace(about, severity="differs", why="its default is built in: nothing can be given")
        elif where.fixed and forward.has_type(value.name) and not forward.type(value.name).is_static:
            severity: Severity = "falls back" if where.rest else "fails"
            yield value.name, replace(about, severity=severity, why="its size is not fixed")


def _of_node(node: Node, forward: Forward, where: Profile) -> Iterator[Finding]:
    """What is wrong with a node, and with those inside it."""
    function = (node.domain, node.op) in forward.functions
    opened = function and "own" in where.functions
    refused = None if opened else _verdict(node, forward, where)
    if refused:
        yield refused
    inner = _inside(node, forward) if opened or not function else ()
    for graph in inner:
        for each in graph.nodes:
            yield from _of_node(each, graph, where)


def _inside(node: Node, forward: Forward) -> Iterator[Forward]:
    """The graphs inside a node: subgraphs, or the body of the model's own function."""
    if (node.domain, node.op) in forward.functions:
        body = _body(node, forward)
        if body is not None:
            yield body
    for name, graph in node.attributes.items():
        for each in graph if isinstance(graph, (list, tuple)) else [graph]:
            if isinstance(each, onnx.GraphProto):
                formal = [Type.of(v.type, v.name) for v in each.input]
                outer = next(filter(None, node.outputs), node.name)
                yield enter(each, f"{outer}/{name}", formal, forward).graph


def _body(node: Node, forward: Forward) -> Forward | None:
    """What an operator stands for, as a graph; None where it stands for itself."""
    if not all(forward.has_type(i) for i in node.inputs if i):
        return None
    function = forward.functions.get((node.domain, node.op)) or specified(node, forward)
    return None if function is None else forward.inside(inlined(node, function, forward))


def _verdict(node: Node, forward: Forward, where: Profile, half: bool = False) -> Finding | None:
    """What becomes of a node; None where it runs as it should."""
    reason = _refusal(node, forward, where, half)
    if reason is None:
        return None
    tensor, why, mark = reason
    name = node.name or next(filter(None, node.outputs), "")
    finding = Finding("fails", where.name, name, _operator(node), tensor, why)
    if mark:
        return replace(finding, severity="differs" if mark == "~" else "fails")
    rest = profile(where.rest) if where.rest else None
    if rest is not None and _refusal(node, forward, rest, False) is None:
        return replace(finding, severity="falls back", why=f"{why}: {rest.name} takes it")
    if where.half and not half and _refusal(node, forward, where, True) is None:
        return replace(finding, severity="falls back", why=f"{why}: it is computed in float32")
    if "specified" in where.functions and not node.domain and (body := _body(node, forward)) is not None:
        inner = [found for each in body.nodes if (found := _verdict(each, body, where))]
        if not inner:
            return None
        if all(found.severity != "fails" for found in inner):
            return replace(finding, severity=inner[0].severity, why=f"{inner[0].operator} inside it: {inner[0].why}")
    below = rest and _verdict(node, forward, rest)
    if below and below.severity != "fails":
        return replace(below, profile=where.name, why=f"{why}: {below.why}")
    return finding


def _refusal(node: Node, forward: Forward, where: Profile, half: bool) -> tuple[str, str, str] | None:
    """The tensor and the reason for which a table has no line for a node, and the mark of the limit."""
    try:
        use = _Use(node, forward, schema_of(node.op, node.domain, node.version), half)
    except defs.SchemaError:
        use = _Use(node, forward, None, half)
    limits = [limit for versions, limit in where.limits.get(node.op, ()) if any(use.version in r for r in versions)]
    found = [("", why, limit.mark) for limit in limits if (why := limit.broken(use))]
    broken = sorted(found, key=lambda reason: "! ~".index(reason[2] or " "))
    if broken and broken[0][2] == "!":
        return broken[0]
    rows = where.rows.get((node.domain, node.op), ())
    if not rows:
        return "", "the operator is not known there", ""
    same = [row for row in rows if row.has(use.version)]
    if not same:
        return "", f"version {use.version} of the operator is not known there", ""
    wrong = [_mistyped(row, use) for row in same]
    if all(wrong):
        return next(filter(None, wrong))
    return broken[0] if broken else None


def _mistyped(row: Row, use: "_Use") -> tuple[str, str, str] | None:
    """The first tensor of a type that a line does not have."""
    for tensor, parameter in use.tensors:
        dtype = use.dtype(tensor)
        if dtype is not None and dtype not in row.types.get(parameter, {dtype}):
            spelled = _SPELLED.get(dtype, TensorProto.DataType.Name(dtype).lower())
            return tensor, f"not for {spelled}", ""
    return None


class _Use:
    """A node as `limits` see it, and its tensors with the type parameter of each."""

    def __init__(self, node: Node, forward: Forward, schema: defs.OpSchema | None, half: bool) -> None:
        self._node, self._forward, self._half = node, forward, half
        self.version = schema.since_version if schema else node.version
        self.outputs = node.outputs
        self.attributes = _attributes(node)
        self._inputs = _formal(node.inputs, schema.inputs) if schema else []
        self._outputs = _formal(node.outputs, schema.outputs) if schema else []
        self.tensors = [(t, p.type_str) for t, p in (*self._inputs, *self._outputs) if t]

    def dtype(self, tensor: str) -> int | None:
        """Element type of a tensor, where it is known."""
        if not self._forward.has_type(tensor):
            return None
        dtype = self._forward.type(tensor).dtype
        return int(TensorProto.FLOAT) if self._half and dtype in _HALF else dtype

    def first(self) -> str:
        """The name that the specification has for the first input."""
        return self._inputs[0][1].name if self._inputs else ""

    def input(self, name: str) -> str:
        """The tensor that is given for an input."""
        return next((t for t, p in self._inputs if p.name == name), "")

    def output(self, name: str) -> str:
        """The tensor that is given for an output."""
        return next((t for t, p in self._outputs if p.name == name), "")

    def type(self, name: str) -> Type | None:
        """Type of an input."""
        tensor = self.input(name)
        return self._forward.type(tensor) if tensor and self._forward.has_type(tensor) else None

    def sized(self, name: str) -> bool:
        """Whether an input is computed from constants and sizes alone."""
        producers, late, seen = _producers(self._forward), [self.input(name)], set[str]()
        while late:
            tensor = late.pop()
            node = producers.get(tensor)
            if tensor in seen or not tensor:
                continue
            seen.add(tensor)
            if node is None and tensor not in self._forward.initializers:
                return False
            if node is not None and node.op not in _SIZES:
                late += node.inputs
        return True

    def types(self) -> list[Type | None]:
        """Types of all inputs, in order."""
        return [self._forward.type(t) if t and self._forward.has_type(t) else None for t, _ in self._inputs]

    def constant(self, name: str) -> npt.NDArray[np.generic] | None:
        """Value of an input that is a constant."""
        tensor = self.input(name)
        return self._forward.constant(tensor) if tensor else None


@lru_cache(maxsize=16)
def _producers(forward: Forward) -> Mapping[str, Node]:
    return forward.producers()


def _formal(
    names: tuple[str, ...], formal: Sequence[defs.OpSchema.FormalParameter]
) -> list[tuple[str, defs.OpSchema.FormalParameter]]:
    """Tensors with the parameters that they are given for: the last one may be repeated."""
    repeated = formal and formal[-1].option == defs.OpSchema.FormalParameterOption.Variadic
    given = names if repeated else names[: len(formal)]
    return [(name, formal[min(i, len(formal) - 1)]) for i, name in enumerate(given)] if formal else []


def _attributes(node: Node) -> Mapping[str, object]:
    try:
        return with_defaults(node)
    except UnsupportedGradient:
        return node.attributes  # it has one that its specification does not know


def _operator(node: Node) -> str:
    return f"{node.domain}.{node.op}" if node.domain else node.op
