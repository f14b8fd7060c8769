import dataclasses

import numpy as np
import pytest

from onnxcam.methods import METHODS

from .cases import CASES
from .fakes import GRIDS, evidence
from .symbolic import Symbolic

every_case = pytest.mark.parametrize("case", CASES, ids=str)
TRACED = [c for c in CASES if METHODS[c.name].graph]


def run(case, e):
    return METHODS[case.name](e, **case.options)


def only(e, n):
    """The evidence of sample n alone."""
    cut = {f: getattr(e, f)[n : n + 1] for f in ("activation", "gradient", "weights")}
    return dataclasses.replace(e, **cut, rescore=e.rescore.of(n), seed=e.seed + n)


def with_channels(e, order):
    return dataclasses.replace(
        e, activation=e.activation[:, order], gradient=e.gradient[:, order], weights=e.weights[:, order]
    )


def test_every_method_has_a_row():
    assert {case.name for case in CASES} == set(METHODS)


def test_every_value_of_an_option_has_a_row():
    rows = {
        (c.name, o, c.options.get(o, METHODS[c.name].options[o].default))
        for c in CASES
        for o in METHODS[c.name].options
    }
    assert rows == {(m.name, o, v) for m in METHODS.values() for o in m.options for v in m.options[o].choices}


@every_case
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_naive_loop(case, grid):
    e = evidence(grid)
    np.testing.assert_allclose(run(case, e), case.naive(e), rtol=1e-6, atol=1e-6)


@every_case
def test_dtype_is_kept(case):
    single, double = evidence(dtype=np.float32), evidence(dtype=np.float64)
    assert run(case, double).dtype == np.float64
    m = run(case, single)
    assert m.dtype == np.float32
    naive = case.naive(single)
    np.testing.assert_allclose(m, naive, atol=2e-5 * abs(naive).max())


@every_case
def test_dtype_is_that_of_the_activation(case):
    e = evidence()
    mixed = dataclasses.replace(e, activation=e.activation.astype(np.float32))
    assert run(case, mixed).dtype == np.float32


@pytest.mark.parametrize(
    ("case", "holds"), [pytest.param(c, p, id=f"{c}-{p.__name__}") for c in CASES for p in c.holds]
)
def test_property(case, holds):
    holds(lambda e: run(case, e))


@every_case
def test_batch_is_a_stack_of_singles(case):
    e = evidence()
    singles = [run(case, only(e, n))[0] for n in range(3)]
    np.testing.assert_allclose(run(case, e), np.stack(singles), rtol=1e-9, atol=1e-12)


@every_case
def test_order_of_channels_does_not_matter(case):
    e = evidence()
    np.testing.assert_allclose(run(case, e), run(case, with_channels(e, [3, 5, 0, 1, 4, 2])), rtol=1e-9, atol=1e-12)


@every_case
def test_half_precision_is_computed_in_single(case):
    e = evidence()
    arrays = {
        f: np.clip(4e4 * getattr(e, f), -6e4, 6e4).astype(np.float16) for f in ("activation", "gradient", "weights")
    }
    half = dataclasses.replace(e, **arrays)
    single = dataclasses.replace(e, **{f: x.astype(np.float32) for f, x in arrays.items()})
    m = run(case, half)
    assert m.dtype == np.float32
    assert np.isfinite(m).all()
    np.testing.assert_array_equal(m, run(case, single))


@every_case
def test_evidence_is_not_written_to(case):
    e = evidence()
    for array in (e.activation, e.gradient, e.weights):
        array.flags.writeable = False
    run(case, e)


@pytest.mark.parametrize("case", [c for c in CASES if METHODS[c.name].uses == "gradient"], ids=str)
def test_zero_gradient_gives_a_zero_map(case):
    e = evidence()
    assert not run(case, dataclasses.replace(e, gradient=np.zeros_like(e.gradient))).any()


@pytest.mark.parametrize("case", TRACED, ids=str)
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_a_graph_could_run_it(case, grid):
    e = evidence(grid, np.float32)
    arrays = {f: Symbolic(getattr(e, f)) for f in ("activation", "gradient", "weights")}
    m = run(case, dataclasses.replace(e, **arrays))
    np.testing.assert_array_equal(m.value, run(case, e))


def test_no_division_by_zero_where_denominators_cancel():
    """2 G² + G³ sum(A) is 0 at G = 1, sum(A) = −2; the sum of the normalised alphas and of A is 0 elsewhere."""
    A = np.array([[[[-1.5, -0.5]], [[1.0, -1.0 - 1e-7]], [[0.0, 0.0]]]])
    e = dataclasses.replace(evidence((1, 2), samples=1, channels=3), activation=A, gradient=np.ones_like(A))
    for case in CASES:
        if case.name != "scorecam":
            assert np.isfinite(run(case, e)).all(), case


@pytest.mark.parametrize("name", ["eigencam", "eigengradcam"])
def test_not_finite_counts_as_zero(name):
    e = evidence()
    broken, mended = e.activation.copy(), e.activation.copy()
    broken[0, 2, 1, 1], broken[1, 3, 0, 0] = np.nan, np.inf
    mended[0, 2, 1, 1], mended[1, 3, 0, 0] = 0, 0
    maps = [METHODS[name](dataclasses.replace(e, activation=A)) for A in (broken, mended)]
    np.testing.assert_array_equal(*maps)
