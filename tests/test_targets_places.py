"""Targets of classes at places, of steps and of characters: the seed is the slope of what is written here in numpy."""

import cv2
import numpy as np
import pytest

from onnxcam.errors import InputError
from onnxcam.targets.places import Masked, Point, Rectangle, Region
from onnxcam.targets.sequences import Character, Step
from tests.targeted import asked, plain, slope

RNG = np.random.default_rng(8)
Z = RNG.normal(size=(3, 4, 5, 6)).astype(np.float32)  # N, classes, rows, columns; the picture is 40 high and 60 wide
MASK = RNG.uniform(size=(5, 6)).astype(np.float32)
FINE = RNG.uniform(size=(40, 60)).astype(np.float32)


def which(given, sums):
    return [s.argmax() if c < 0 else c for s, c in zip(sums, np.broadcast_to(given, len(sums)), strict=True)]


def predicted(z, given):
    return np.array([z[n, c][z[n].argmax(0) == c].sum() for n, c in enumerate(which(given, z.sum((2, 3))))])


def peak(z, given):
    return np.array([z[n, c].max() for n, c in enumerate(which(given, z.max((2, 3))))])


def masked(z, given, mask=MASK):
    return np.array([(z[n, c] * mask).sum() for n, c in enumerate(which(given, (z * mask).sum((2, 3))))])


def at(z, given, row=3, column=2):
    return np.array([z[n, c, row, column] for n, c in enumerate(which(given, z[:, :, row, column]))])


def coarse(z, given):
    return masked(z, given, cv2.resize(FINE, (6, 5), interpolation=cv2.INTER_LINEAR))


def inside(z, given):
    mask = np.outer([0, 1, 1, 0, 0], [0, 0, 1, 1, 1, 0])  # middles at x = 5, 15, …, 55 and y = 4, 12, …, 36
    return masked(z, given, mask)


ROWS = {
    "rectangle": (lambda c: Rectangle(15.5, 10, 45.5, 21, c), inside),
    "predicted": (lambda c: Region(c), predicted),
    "peak": (lambda c: Region(c, "peak"), peak),
    "mask": (lambda c: Masked(MASK, c), masked),
    "mask of the picture": (lambda c: Masked(FINE, c), coarse),
    "point": (lambda c: Point(29.9, 24, c), at),
}


@pytest.mark.parametrize("opset", [9, 11, 18])
@pytest.mark.parametrize("fixed", [False, True], ids=["open", "fixed"])
@pytest.mark.parametrize("name", ROWS)
def test_the_seed_is_the_slope_of_the_number(name, fixed, opset):
    if opset < 11 and "mask" in name and not (fixed and name == "mask"):
        pytest.skip("a mask cannot be resized in the graph before opset 11: an error, tested below")
    make, number = ROWS[name]
    for given in (2, np.int64([3, -1, 0])):
        goal = make(-1)
        wanted = {"cam/target": np.atleast_1d(np.int64(given))}
        found = asked(goal, {"y": Z}, plain(Z), given=wanted, fixed=fixed, opset=opset)
        np.testing.assert_allclose(found["number"], number(Z.astype(np.float64), given), rtol=1e-5)
        np.testing.assert_allclose(found["seed"], slope(lambda z, g=given: number(z, g), Z), atol=2e-6)


def test_classes_last():
    z = np.ascontiguousarray(Z.transpose(0, 2, 3, 1))
    for name, (make, number) in ROWS.items():
        found = asked(make(-1), {"y": z}, plain(z, axis=3))
        np.testing.assert_allclose(found["number"], number(Z.astype(np.float64), -1), rtol=1e-5, err_msg=name)
        expected = slope(lambda x, f=number: f(x, -1), Z).transpose(0, 2, 3, 1)
        np.testing.assert_allclose(found["seed"], expected, atol=2e-6, err_msg=name)


def test_what_is_found_is_said_in_pixels_of_the_picture():
    found = asked(Region(1, "peak"), {"y": Z}, plain(Z))
    rows, columns = np.unravel_index(Z[:, 1].reshape(3, -1).argmax(1), (5, 6))
    np.testing.assert_allclose(found["place"], np.stack([columns * 10 + 5, rows * 8 + 4], 1))
    assert found["class"].tolist() == [1, 1, 1]
    several = {"cam/point": np.float32([[0, 0], [59.9, 39.9], [10, 8]])}
    found = asked(Point(0, 0), {"y": Z}, plain(Z), given=several)
    expected = [Z[0, :, 0, 0].max(), Z[1, :, 4, 5].max(), Z[2, :, 1, 1].max()]
    np.testing.assert_allclose(found["number"], expected, rtol=1e-6)


def test_one_class_behind_a_sigmoid_is_predicted_where_it_is_positive():
    z = Z[:, :1]
    found = asked(Region(), {"y": z}, plain(z, "sigmoid"))
    np.testing.assert_array_equal(found["seed"], z > 0)
    np.testing.assert_allclose(found["number"], np.maximum(z, 0).sum((1, 2, 3)), rtol=1e-5)


def test_a_class_that_is_predicted_nowhere_is_nothing():
    z = Z.copy()
    z[:, 1] -= 100
    found = asked(Region(1), {"y": z}, plain(z))
    assert not found["seed"].any()
    assert found["number"].tolist() == [0, 0, 0]


def test_positions_along_one_axis():
    z = Z[:, :, 0]  # keypoints whose x is a row of scores
    found = asked(Region(2, "peak"), {"y": z}, plain(z))
    np.testing.assert_array_equal(found["seed"][:, 2].argmax(1), z[:, 2].argmax(1))
    assert found["seed"].sum() == 3
    np.testing.assert_allclose(found["place"], np.stack([z[:, 2].argmax(1) * 10 + 5, [0] * 3], 1))


def test_of_equal_places_the_first_is_the_peak():
    z = np.zeros((1, 1, 3, 4), np.float32)
    z[0, 0, 1, 2] = z[0, 0, 2, 1] = 1
    seed = asked(Region(0, "peak"), {"y": z}, plain(z))["seed"]
    assert np.argwhere(seed).tolist() == [[0, 0, 1, 2]]


# ----- steps and characters -----
#         blank a  a  blank a  b  b  blank
READ = [0, 1, 1, 0, 1, 2, 2, 0]
T = RNG.uniform(0, 1, size=(2, 8, 4)).astype(np.float32)
T[0, np.arange(8), READ] += 2
T[1, np.arange(8), 3] += 2


def spelled(z, index, blank=0):
    """The sum over the characters that begin, or the one of number `index`."""
    found = []
    for steps, i in zip(z, np.broadcast_to(index, len(z)), strict=True):
        best = steps.argmax(1)
        starts = [t for t, c in enumerate(best) if c != blank and (t == 0 or best[t - 1] != c)]
        found.append(sum(steps[t, best[t]] for n, t in enumerate(starts) if i < 0 or n == i))
    return np.array(found)


@pytest.mark.parametrize("fixed", [False, True], ids=["open", "fixed"])
@pytest.mark.parametrize("index", [-1, 0, 1, 2, 3, np.int64([2, 0])], ids=str)
def test_a_character_is_at_the_step_where_it_begins(index, fixed):
    given = {"cam/index": np.atleast_1d(np.int64(index))}
    found = asked(Character(), {"y": T}, plain(T, axis=2), given=given, fixed=fixed)
    np.testing.assert_allclose(found["number"], spelled(T.astype(np.float64), index), rtol=1e-5)
    np.testing.assert_allclose(found["seed"], slope(lambda z: spelled(z, index), T), atol=2e-6)


def test_characters_have_a_class_and_those_that_are_not_there_have_none():
    given = {"cam/index": np.int64([2, 1])}
    found = asked(Character(), {"y": T}, plain(T, axis=2), given=given)
    assert (found["class"].tolist(), found["index"].tolist()) == ([2, -1], [2, -1])
    found = asked(Character(), {"y": T}, plain(T, axis=2))
    assert (found["class"].tolist(), found["index"].tolist()) == ([-1, -1], [-1, -1])
    last = np.flip(T, axis=2).copy()
    found = asked(Character(0, blank=3), {"y": last}, plain(last, axis=2))
    assert found["class"].tolist() == [2, 0]


@pytest.mark.parametrize("cls", [-1, 2])
def test_one_step(cls):
    found = asked(Step(5, cls), {"y": T}, plain(T, axis=2))
    best = T[:, 5].argmax(1) if cls < 0 else np.array([2, 2])
    expected = np.zeros_like(T)
    expected[[0, 1], 5, best] = 1
    np.testing.assert_array_equal(found["seed"], expected)
    assert (found["class"].tolist(), found["index"].tolist()) == (best.tolist(), [5, 5])
    assert asked(Step(8), {"y": T}, plain(T, axis=2))["index"].tolist() == [-1, -1]


# ----- what cannot be asked -----
@pytest.mark.parametrize(
    ("goal", "y", "said"),
    [
        (Region(), Z[:, :, 0, 0], "one row of classes a sample and no places"),
        (Point(1, 1), Z[:, :, 0], "needs two axes of places"),
        (Masked(MASK), Z[:, :, 0], "The mask has 2 axes, 'y' has places along 1"),
        (Step(0), Z, "need scores \\(N, steps, classes\\)"),
        (Character(0), Z[:, :, 0, 0], "need scores \\(N, steps, classes\\)"),
    ],
)
def test_what_does_not_fit_the_score_is_one_clear_line(goal, y, said):
    with pytest.raises(InputError, match=said) as caught:
        asked(goal, {"y": y}, plain(y))
    assert "\n" not in str(caught.value)


def test_old_opsets_say_what_they_cannot():
    with pytest.raises(InputError, match="opset is below 11: give the mask at the size of the score"):
        asked(Masked(FINE), {"y": Z}, plain(Z), opset=9)
    with pytest.raises(InputError, match="opset 7 cannot count it"):
        asked(Region(0, "peak"), {"y": Z}, plain(Z), opset=7)
