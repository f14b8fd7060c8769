"""Every row of the table of rules, against central differences."""

import pytest

from onnxcam.grad.registry import operators
from tests.grad.cases import CASES
from tests.grad.harness import Case, check


@pytest.mark.parametrize(("case", "opset"), [pytest.param(c, v, id=f"{c}@{v}") for c in CASES for v in c.opsets()])
def test_gradient(case: Case, opset: int) -> None:
    check(case, opset)


@pytest.mark.parametrize(("case", "opset"), [pytest.param(c, c.opsets()[-1], id=str(c)) for c in CASES])
def test_gradient_of_dynamic_shapes(case: Case, opset: int) -> None:
    check(case, opset, symbols=True)


def test_every_operator_has_a_row() -> None:
    tried = {case.op for case in CASES}
    # Nothing flows through these: there is nothing to difference.
    stops = {"CastLike", "Ceil", "DynamicQuantizeLinear", "EyeLike", "Floor", "Hardmax", "MelWeightMatrix"}
    stops |= {"QuantizeLinear", "Round", "Sign"}
    assert {op for domain, op in operators() if not domain} - tried - stops <= PATTERNS


PATTERNS = {"Swish", "If", "Loop", "Scan"}  # tried as whole models: test_patterns.py, test_control.py
