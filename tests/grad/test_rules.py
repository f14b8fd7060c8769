"""Every row of the table of rules, against central differences."""

import pytest
from onnx import defs

from onnxcam.grad.registry import Stop, operators
from tests.grad.cases import CASES
from tests.grad.harness import Case, changes, check


@pytest.mark.parametrize(("case", "opset"), [pytest.param(c, v, id=f"{c}@{v}") for c in CASES for v in c.opsets()])
def test_gradient(case: Case, opset: int) -> None:
    check(case, opset)


@pytest.mark.parametrize(("case", "opset"), [pytest.param(c, c.opsets()[-1], id=str(c)) for c in CASES])
def test_gradient_of_dynamic_shapes(case: Case, opset: int) -> None:
    check(case, opset, symbols=True)


# Tried as whole models: test_patterns.py, test_control.py.
MODELS = {"If", "Loop", "Scan", "Swish"}

# What onnxruntime has no kernel for. Two are tried by ONNX's reference in test_upstream.py; it lacks GlobalLpPool and
# MaxRoiPool, which were given bfloat16 there and nothing else.
UNRUN = {("DequantizeLinear", 28), ("GlobalLpPool", 22), ("MaxRoiPool", 22), ("RoiAlign", 22)}


def stops() -> set[str]:
    """The operators through which nothing flows: there is nothing to difference."""
    return {
        op
        for (domain, op), rows in operators().items()
        if not domain and all(row.rules and all(isinstance(rule, Stop) for rule in row.rules) for row in rows)
    }


def test_every_operator_has_a_row_at_every_opset_where_it_changed() -> None:
    newest = defs.onnx_opset_version()
    missing = []
    for op in {op for domain, op in operators() if not domain} - MODELS - stops():
        tried = {opset for case in CASES if case.op == op for opset in case.opsets()}
        since = sorted(v for v in changes()[op] if not defs.get_schema(op, v).deprecated)
        until = [*since[1:], newest + 1]
        missing += [(op, a) for a, b in zip(since, until, strict=True) if b > 7 and not tried & set(range(a, b))]
    assert set(missing) == UNRUN


def test_nothing_flows_through_these_alone() -> None:
    assert stops() == {
        "Bernoulli", "Ceil", "DynamicQuantizeLinear", "EyeLike", "Floor", "Hardmax", "MelWeightMatrix",
        "QuantizeLinear", "RandomNormalLike", "RandomUniformLike", "Round", "Sign",
    }  # fmt: skip


def test_operators_of_other_domains_are_these() -> None:
    assert {f"{domain}.{op}" for domain, op in operators() if domain} == {
        "ai.onnx.ml.ArrayFeatureExtractor",  # test_indexing.py
        "ai.onnx.ml.Binarizer", "ai.onnx.ml.TreeEnsemble",  # test_upstream.py
        "ai.onnx.ml.TreeEnsembleClassifier", "ai.onnx.ml.TreeEnsembleRegressor",  # nothing flows, as above
        "ai.onnx.preview.training.Adagrad", "ai.onnx.preview.training.Adam",  # test_upstream.py
        "ai.onnx.preview.training.Momentum",
        "com.microsoft.DequantizeLinear", "com.microsoft.QuantizeLinear",  # test_quantized.py
        "onnxcam.walk.Quantized",
    }  # fmt: skip
