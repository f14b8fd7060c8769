"""Targets of a row of classes: each seed is the slope of what the target says it is, written here in plain numpy."""

import numpy as np
import pytest

from onnxcam.errors import InputError
from onnxcam.targets.classes import Class, Finer, LogOdds, Probability, Sum
from onnxcam.targets.vectors import Similarity, Towards, Weighted
from tests.targeted import asked, plain, slope

Z = np.float32([[0.5, -1.2, 2, 1.6, 1.7], [-3.3, -2, -2.5, -4, -2.2], [7, 1, 6.4, 7.5, 0], [0.1, 5.2, 4, 1, 3]])
R = np.float32([0.3, -1, 2, 0.5, 0.1])


def classes(z, given):
    return np.asarray([r.argmax() if c < 0 else c for r, c in zip(z, np.broadcast_to(given, len(z)), strict=True)])


def of(z, given):
    return z[np.arange(len(z)), classes(z, given)]


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def odds(z, given):
    p = of(softmax(z), given)
    return np.log(p / (1 - p))


def finer(z, given, alpha=1.0, count=3):
    """pytorch-grad-cam's FinerWeightedTarget: Σ p_d (z_c − α z_d) / Σ p_d over the `count` closest."""
    found = []
    for row, c in zip(z, classes(z, given), strict=True):
        near = [d for d in np.argsort(np.abs(row - row[c]), kind="stable") if d != c][:count]
        p = softmax(row[None])[0][near]
        found.append((p * (row[c] - alpha * row[near])).sum() / p.sum())
    return np.array(found)


def cosine(z, _):
    return (z @ R) / np.linalg.norm(z, axis=1) / np.linalg.norm(R)


# name: (the target for class c, what it is of scores z and classes c, the activation behind the score)
ROWS = {
    "class": (Class, of, "softmax"),
    "probability": (Probability, lambda z, c: of(softmax(z), c), "softmax"),
    "probability without a softmax": (Probability, lambda z, c: of(softmax(z), c), None),
    "probability behind a sigmoid": (Probability, lambda z, c: of(sigmoid(z), c), "sigmoid"),
    "log-odds": (LogOdds, odds, "softmax"),
    "log-odds behind a sigmoid": (LogOdds, of, "sigmoid"),
    "finer": (Finer, finer, "softmax"),
    "finer, weaker, of two": (lambda c: Finer(c, 0.6, 2), lambda z, c: finer(z, c, 0.6, 2), None),
    "finer, of more than there are": (lambda c: Finer(c, 1, 9), lambda z, c: finer(z, c, 1, 9), None),
    "contrast": (lambda c: Sum(((1, Class(c)), (-1, Class(3)))), lambda z, c: of(z, c) - z[:, 3], None),
    "contrast of probabilities": (
        lambda c: Sum(((2, Probability(c)), (-0.5, Probability(0)))),
        lambda z, c: 2 * of(softmax(z), c) - 0.5 * softmax(z)[:, 0],
        "softmax",
    ),
    "down": (lambda c: Sum(((-1, Class(c)),)), lambda z, c: -of(z, c), None),
    "cosine": (lambda c: Similarity(R), cosine, None),
    "dot": (lambda c: Similarity(R, "dot"), lambda z, c: z @ R, None),
    "length": (lambda c: Similarity(), lambda z, c: np.linalg.norm(z, axis=1), None),
    "towards": (lambda c: Towards(1.2, c), lambda z, c: -np.abs(of(z, c) - 1.2), None),
    "weights": (lambda c: Weighted(R), lambda z, c: z @ R, None),
}


@pytest.mark.parametrize("cls", [-1, 0, 4])
@pytest.mark.parametrize("name", ROWS)
def test_the_seed_is_the_slope_of_the_number(name, cls):
    make, number, activation = ROWS[name]
    found = asked(make(cls), {"y": Z}, plain(Z, activation))
    np.testing.assert_allclose(found["number"], number(Z.astype(np.float64), cls), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["seed"], slope(lambda z: number(z, cls), Z), rtol=2e-4, atol=1e-6)
    if "class" in found:
        np.testing.assert_array_equal(found["class"], classes(Z, cls))


@pytest.mark.parametrize("opset", [7, 11, 13, 18])
@pytest.mark.parametrize("name", ROWS)
def test_every_opset_and_a_class_for_each_sample(name, opset):
    make, number, activation = ROWS[name]
    wanted = np.int64([0, -1, 3, 1])
    goal = make(2)
    given = {"cam/target": wanted} if "cam/target" in goal.inputs else {}
    found = asked(goal, {"y": Z}, plain(Z, activation), given=given, opset=opset)
    np.testing.assert_allclose(found["number"], number(Z.astype(np.float64), wanted), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["seed"], slope(lambda z: number(z, wanted), Z), rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_float_types(name, dtype):
    make, number, activation = ROWS[name]
    z = Z.astype(dtype)
    found = asked(make(1), {"y": z}, plain(z, activation))
    assert (found["seed"].dtype, found["number"].dtype) == (dtype, np.float32)
    tolerance = 2e-3 if dtype == np.float16 else 2e-4
    np.testing.assert_allclose(found["seed"], slope(lambda x: number(x, 1), z), rtol=tolerance, atol=tolerance)


def test_a_score_without_an_axis_for_the_samples():
    for name, (make, number, activation) in ROWS.items():
        found = asked(make(-1), {"y": Z[0]}, plain(Z[0], activation))
        np.testing.assert_allclose(found["number"], number(Z[:1].astype(np.float64), -1), rtol=1e-5, err_msg=name)
        expected = slope(lambda z, n=number: n(z[None], -1), Z[0])
        np.testing.assert_allclose(found["seed"], expected, rtol=2e-4, atol=1e-6, err_msg=name)


def test_a_class_that_is_certain_still_has_a_slope():
    """1 − p by subtraction is 0 in float32 from a margin of 17 on."""
    z = np.float32([[30, 0, 5], [-30, 60, 0]])
    found = asked(Probability(), {"y": z}, plain(z, "softmax"))["seed"]
    exact = np.exp(z.astype(np.float64) - z.max(1, keepdims=True))
    exact = -exact * (1 - np.eye(3)[[0, 1]])
    exact[[0, 1], [0, 1]] = -exact.sum(1)
    np.testing.assert_allclose(found, exact, rtol=1e-3)
    odds_ = asked(LogOdds(), {"y": z}, plain(z, "softmax"))
    np.testing.assert_allclose(odds_["number"], [30 - np.log(1 + np.exp(5)), 60], rtol=1e-5)


def test_infinite_scores_of_other_classes_do_no_harm():
    z = np.float32([[-np.inf, 1, 2], [np.inf, 0, 0]])
    for goal in (Class(1), Probability(1), LogOdds(1), Sum(((1, Class(1)), (-1, Class(2))))):
        found = asked(goal, {"y": z[:1]}, plain(z[:1], "softmax"))
        assert np.isfinite(found["number"]).all()
        assert np.isfinite(found["seed"]).all()


def test_classes_at_another_axis():
    z = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    found = asked(Class(), {"y": z}, plain(z, axis=3))
    np.testing.assert_array_equal(found["class"], z.sum((1, 2)).argmax(1))
    expected = np.broadcast_to(np.eye(5)[z.sum((1, 2)).argmax(1)][:, None, None, :], z.shape)
    np.testing.assert_array_equal(found["seed"], expected)


def test_the_terms_of_a_sum_are_inputs_of_their_own():
    goal = Sum(((1, Class(0)), (-1, Class(1)), (0.5, Class(2))))
    assert list(goal.inputs) == ["cam/target", "cam/target/1", "cam/target/2"]
    given = {"cam/target": np.int64([3, 0, 0, 0]), "cam/target/1": np.int64([0, 0, 4, 4])}
    found = asked(goal, {"y": Z}, plain(Z), given=given)
    assert found["seed"].tolist() == [[-1, 0, 0.5, 1, 0], [0, 0, 0.5, 0, 0], [1, 0, 0.5, 0, -1], [1, 0, 0.5, 0, -1]]


def test_a_reference_for_each_sample():
    r = np.random.default_rng(3).normal(size=Z.shape).astype(np.float32)
    found = asked(Similarity(R), {"y": Z}, plain(Z), given={"cam/reference": r})
    z = Z.astype(np.float64)
    expected = (z * r).sum(1) / np.linalg.norm(z, axis=1) / np.linalg.norm(r, axis=1)
    np.testing.assert_allclose(found["number"], expected, rtol=1e-5)


def test_an_embedding_of_zeros_is_like_nothing():
    found = asked(Similarity(R), {"y": np.zeros((1, 5), np.float32)}, plain(Z))
    assert np.isfinite(found["seed"]).all()
    assert found["number"] == 0


# ----- what cannot be asked -----
MAPS = np.zeros((2, 3, 4, 5), np.float32)


@pytest.mark.parametrize(
    ("goal", "y", "said"),
    [
        (Probability(1), MAPS, "need one row of classes"),
        (Finer(1), np.zeros((2, 1), np.float32), "compares a class with others"),
        (LogOdds(0), MAPS, "need one row of classes"),
        (Similarity(R[:3]), Z, "The reference has 3 values, the embedding 'y' has 5"),
        (Weighted(R[:4]), Z, r"The weights are \[4\], 'y' has \[5\] for a sample"),
        (Weighted(R[None]), Z, r"The weights are \[1, 5\], 'y' has \[5\] for a sample"),
    ],
)
def test_what_does_not_fit_the_score_is_one_clear_line(goal, y, said):
    with pytest.raises(InputError, match=said) as caught:
        asked(goal, {"y": y}, plain(y))
    assert "\n" not in str(caught.value)
