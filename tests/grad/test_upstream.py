"""ONNX's own node tests: every float input of every case is verified, or is one of the exceptions on record."""

import json
import warnings
from pathlib import Path

import pytest

from tests.grad.upstream import cases, check, table

HERE = Path(__file__).parent
EXCEPTIONS = json.loads((HERE / "exceptions.json").read_text())

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # numpy's, about the infinities that some cases are made of
    NAMES = sorted(cases())


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", NAMES)
def test_node(name: str) -> None:
    for result in check(cases()[name]):
        due = EXCEPTIONS.get(name, {}).get(result.input, ["verified", ""])[0]
        assert result.outcome == due, f"{result.input}: {result.outcome} {result.detail}"


def test_the_table_is_current() -> None:
    assert (HERE.parent.parent / "docs" / "operators.md").read_text().endswith(table(EXCEPTIONS))


def test_exceptions_are_cases() -> None:
    assert set(EXCEPTIONS) <= set(NAMES)
    assert {outcome for case in EXCEPTIONS.values() for outcome, _ in case.values()} <= {
        "by reference", "kink", "independent", "refused", "no forward",
    }  # fmt: skip
