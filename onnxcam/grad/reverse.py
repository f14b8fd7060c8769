"""The reverse walk: from the gradient of one tensor to the gradients of others, through the table of rules.

It knows no operator. For each node from last to first it asks the registry for one rule per input that lies on a
path to a tensor asked for, and adds up what the rules return. Every gradient has exactly its tensor's shape and type.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import cast

from onnx.checker import ValidationError
from onnx.defs import SchemaError
from onnx.shape_inference import InferenceError

from onnxcam.errors import ModelError, UnsupportedGradient
from onnxcam.grad import bind
from onnxcam.grad.forward import Forward
from onnxcam.grad.node import Node
from onnxcam.grad.registry import Joint, Row, Rule, Stop, find
from onnxcam.grad.rows import added, rows_of
from onnxcam.grad.shapes import sum_to, zeros_like
from onnxcam.grad.tensor import Tape, Value

# What rules run into with a node that contradicts its own specification: sizes that do not match, attributes of another
# kind, numbers out of bounds.
_CONTRADICTIONS = (
    ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError,
    InferenceError, SchemaError, ValidationError,
)  # fmt: skip


def pullback(forward: Forward, tape: Tape, of: str, seed: Value, wrt: Sequence[str]) -> dict[str, Value]:
    """Gradients Jᵀ·seed of tensor `of` with respect to each tensor of `wrt`, written on `tape`.

    `seed` has the shape and type of `of`. Raises UnsupportedGradient naming every operator on the way that has no
    rule, and ModelError where `of` does not depend on one of `wrt`.
    """
    found = accumulate(forward, tape, {of: seed}, wrt)
    for name in wrt:
        if name not in found:
            raise ModelError(f"'{of}' does not depend on '{name}' by any path that a gradient can follow.")
    return found


def accumulate(forward: Forward, tape: Tape, seeds: Mapping[str, Value], wrt: Sequence[str]) -> dict[str, Value]:
    """The same from several tensors at once; one of `wrt` on which none of them depends is left out."""
    refuse_missing(forward, list(seeds), wrt)
    reached = reachable(forward, wrt)
    gradients = {of: [seed] for of, seed in seeds.items()}
    for node in reversed(_path(forward, seeds, reached)):
        g = [_total(gradients, o) for o in node.outputs]
        if any(v is not None for v in g):
            _pull(forward, tape, node, g, reached, gradients)
    return {name: total for name in wrt if (total := _total(gradients, name)) is not None}


def missing(forward: Forward, of: str | Sequence[str], wrt: Sequence[str]) -> list[Node]:
    """The nodes between `wrt` and `of` that have no rule, first to last."""
    reached = reachable(forward, wrt)
    return [n for n in _path(forward, [of] if isinstance(of, str) else of, reached) if not _has_rules(n, reached)]


def refuse_missing(forward: Forward, of: str | Sequence[str], wrt: Sequence[str]) -> None:
    """Raise UnsupportedGradient where there are such nodes, naming all of them."""
    if lost := missing(forward, of, wrt):
        raise UnsupportedGradient(f"No gradient for {', '.join(map(str, lost))}.")


def _pull(
    forward: Forward,
    tape: Tape,
    node: Node,
    g: list[Value | None],
    reached: set[str],
    gradients: dict[str, list[Value]],
) -> None:
    row = cast("Row", find(node.op, node.domain, node.version))
    inputs = bind.inputs(node, tape)
    outputs = [tape.read(o) if o else None for o in node.outputs]
    wanted = {i: x for i, x in enumerate(inputs) if x is not None and node.inputs[i] in reached}
    try:
        if row.joint is not None:
            attributes = bind.attributes(node, row.joint, tape)
            given = [tape.value(name) if name else None for name in node.inputs]
            results = dict(zip(wanted, row.joint(g, list(wanted), *given, **attributes), strict=True))
        elif row.formula is not None:
            formula = partial(row.formula, **bind.attributes(node, row.formula, tape))
            results = _through(formula, inputs, wanted, g, forward, tape)
        else:
            rules = {i: rule for i in wanted if (rule := row.rule(i)) is not None and not isinstance(rule, Stop)}
            results = _by_rules(row, rules, node, g, outputs, inputs, tape)
        for i, result in results.items():
            gradients.setdefault(node.inputs[i], []).append(_checked(result, wanted[i], node))
    except (UnsupportedGradient, *_CONTRADICTIONS) as error:
        raise _refusal(forward, node, error) from error


def _refusal(forward: Forward, node: Node, error: Exception) -> Exception:
    """What a rule could not do, as a line for a person: mostly it was given a node that no specification allows."""
    misuse = forward.misused.get(node.outputs[0])
    if misuse is None and isinstance(error, UnsupportedGradient):
        return UnsupportedGradient(str(error) if str(node) in str(error) else f"{node}: {error}")
    said = (misuse or str(error) or type(error).__name__).strip().splitlines()[0]
    said = said.removeprefix("[ShapeInferenceError] ").rstrip(".")
    return ModelError(
        f"{node} does not fit its inputs or its specification: {said}. If onnxruntime runs the model, please report it."
    )


def _through(
    formula: Joint,
    inputs: Sequence[Value | None],
    wanted: Mapping[int, Value],
    g: Sequence[Value | None],
    forward: Forward,
    tape: Tape,
) -> dict[int, Value]:
    """Write what an operator computes, from copies of the inputs at `wanted`, and walk from there back to them."""
    own = {i: tape.rename(x, tape.fresh("given")) for i, x in wanted.items()}
    given = [own.get(i, x) for i, x in enumerate(inputs)]
    seeds = {y.name: d for y, d in zip(formula(*given), g, strict=False) if d is not None}
    inside = forward.only(tape.between([x.name for x in given if x], seeds), tape.types)
    found = accumulate(inside, tape, seeds, [x.name for x in own.values()])
    return {i: found[x.name] for i, x in own.items() if x.name in found}


def _by_rules(
    row: Row,
    rules: Mapping[int, Rule],
    node: Node,
    g: list[Value | None],
    outputs: list[Value | None],
    inputs: list[Value | None],
    tape: Tape,
) -> dict[int, Value]:
    """What the rules return, each shaped like its input; for a gradient of few rows, what they return for those."""
    operator = "" if node.domain else node.op
    rows = None if row.many else rows_of(operator, node.attributes, row.elementwise, g, outputs, inputs)
    if rows is not None:
        g, outputs, given = [rows.g], rows.outputs, rows.inputs
    else:
        given = inputs
    results = {}
    for i, rule in rules.items():
        result = _apply(row, rule, i, node, g, outputs, given, tape)
        x, y = given[i], outputs[0]
        if row.elementwise and x is not None and y is not None and len([i for i in node.inputs if i]) > 1:
            result = sum_to(result, y, x)
        results[i] = rows.whole(result, i) if rows is not None else result
    return results


def _apply(
    row: Row,
    rule: Rule,
    index: int,
    node: Node,
    g: list[Value | None],
    outputs: list[Value | None],
    inputs: list[Value | None],
    tape: Tape,
) -> Value:
    attributes = bind.attributes(node, rule, tape)
    if row.many:
        filled = tuple(zeros_like(y) if v is None and y is not None else v for v, y in zip(g, outputs, strict=True))
        return rule(filled, tuple(outputs), *inputs, **attributes)
    if g[0] is None:
        raise UnsupportedGradient(
            f"{node}: no gradient flows through its second output. Choose another layer or score."
        )
    position = (index,) if row.variadic is not None else ()
    return rule(g[0], outputs[0], *position, *inputs, **attributes)


def _checked(result: Value, x: Value, node: Node) -> Value:
    """The gradient under its tensor's own type; a rule that returns another shape is wrong and must not pass."""
    got, due = result.type.shape, x.type.shape
    same = (
        got is None
        or due is None
        or (
            len(got) == len(due)
            and all(a == b or not (isinstance(a, int) and isinstance(b, int)) for a, b in zip(got, due, strict=True))
        )
    )
    if not same or result.dtype != x.dtype:
        raise AssertionError(f"The rule of {node} returned {result.type} for '{x.name}', which is {x.type}")
    return x.tape.retype(result, x.type)


def _total(gradients: dict[str, list[Value]], name: str) -> Value | None:
    parts = gradients.get(name, [])
    while len(parts) > 1:
        first, second = parts.pop(0), parts.pop(0)
        parts.append(first.tape.retype(added(first, second), first.type))
    return parts[0] if parts else None


def reachable(forward: Forward, wrt: Iterable[str]) -> set[str]:
    """Every float tensor that depends on one of `wrt` by a path on which a gradient can flow."""
    reached = set(wrt)
    for node in forward.nodes:
        if any(name in reached and not _stops(node, i) for i, name in enumerate(node.inputs)):
            reached.update(o for o in node.outputs if o and not (forward.has_type(o) and not forward.type(o).is_float))
    return reached


def _stops(node: Node, index: int) -> bool:
    row = find(node.op, node.domain, node.version)
    return row is not None and isinstance(row.rule(index), Stop)


def _path(forward: Forward, of: Iterable[str], reached: set[str]) -> list[Node]:
    """The nodes that lead from the tensors reached to `of`, in graph order."""
    wanted = set(of) & reached
    path = []
    for node in reversed(forward.nodes):
        if wanted.intersection(node.outputs):
            inside = {name for i, name in enumerate(node.inputs) if name in reached and not _stops(node, i)}
            if inside:
                wanted |= inside
                path.append(node)
    return path[::-1]


def _has_rules(node: Node, reached: set[str]) -> bool:
    row = find(node.op, node.domain, node.version)
    if row is None or row.joint is not None or row.formula is not None:
        return row is not None
    return all(row.rule(i) is not None for i, name in enumerate(node.inputs) if name in reached)
