"""The table of derivatives: which function differentiates which operator, for which input, at which opset.

A rule is `rule(g, y, *inputs, **attributes)`: the gradient of the output, the output, then the node's own inputs in
order and its attributes as keywords under ONNX's names, defaults filled in. It returns the gradient of one input.
Three spellings, three meanings: a rule; STOP, mathematically none; absent, not offered, which is an error when it is
asked for. An attribute that a rule does not name must be at its default, so that none is ever ignored in silence.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from onnxcam.grad.tensor import Value

Rule = Callable[..., Value]
Joint = Callable[..., Sequence[Value]]
Outputs = tuple[Value | None, ...]  # what belongs to each output; None for one that has no name


class Stop:
    """The type of STOP."""

    def __repr__(self) -> str:
        return "STOP"


STOP: Final = Stop()


@dataclass(frozen=True)
class Row:
    """How one operator is differentiated, for models of opset `since` ≤ version < `until`.

    `elementwise` rules return something shaped like the output, which the walk sums to the input's shape; `variadic`
    is one rule `(g, y, index, *inputs)` for every input; `many` hands tuples of all outputs as `g` and `y`; `joint` is
    one rule `(g, wanted, *inputs)`, g of all outputs, that returns the gradients of all the inputs at `wanted`;
    `formula` is no rule but the operator itself, `(*inputs) -> outputs` in others, which the walk goes through.
    """

    rules: tuple[Rule | Stop, ...]
    since: int = 1
    until: int = 10_000
    elementwise: bool = False
    variadic: Rule | None = None
    many: bool = False
    joint: Joint | None = None
    formula: Joint | None = None

    def rule(self, index: int) -> Rule | Stop | None:
        """The rule for one input; None where there is none."""
        if self.variadic is not None:
            return self.variadic
        return self.rules[index] if index < len(self.rules) else None


_TABLE: dict[tuple[str, str], list[Row]] = {}


def vjp(
    op: str, *rules: Rule | Stop, domain: str = "", since: int = 1, until: int = 10_000, many: bool = False
) -> None:
    """Register one rule per input, in input order; each returns a gradient of its input's shape."""
    _TABLE.setdefault((domain, op), []).append(Row(rules, since, until, many=many))


def elementwise(op: str, *rules: Rule | Stop, domain: str = "", since: int = 1, until: int = 10_000) -> None:
    """Register rules whose results are shaped like the output; broadcasting is undone by the walk."""
    _TABLE.setdefault((domain, op), []).append(Row(rules, since, until, elementwise=True))


def variadic(op: str, rule: Rule, *, elementwise: bool = False) -> None:
    """Register one rule `(g, y, index, *inputs, **attributes)` for all inputs of a variadic operator."""
    _TABLE.setdefault(("", op), []).append(Row((), elementwise=elementwise, variadic=rule))


def joint(op: str, rule: Joint, *, since: int = 1, until: int = 10_000) -> None:
    """Register one rule `(g, wanted, *inputs, **attributes)` for all inputs at once: control flow runs once."""
    _TABLE.setdefault(("", op), []).append(Row((), since=since, until=until, joint=rule))


def formula(op: str, function: Joint, *, domain: str = "") -> None:
    """Register an operator as what it computes, `(*inputs, **attributes) -> outputs`, written in other operators."""
    _TABLE.setdefault((domain, op), []).append(Row((), formula=function))


def find(op: str, domain: str, version: int) -> Row | None:
    """The row for an operator at an opset; None where there is none."""
    rows = _TABLE.get((domain, op), [])
    return next((r for r in rows if r.since <= version < r.until), None)


def operators() -> dict[tuple[str, str], list[Row]]:
    """Every registered operator, as (domain, operator) → rows."""
    return dict(sorted(_TABLE.items()))
