"""Maps are shown in colours that mean one thing."""

import numpy as np
import pytest

from onnxcam import view
from onnxcam.errors import InputError


def test_colours_go_from_blue_over_green_to_red():
    picture = view.colour(np.array([[0, 0.5, 1, -3, 7]], np.float32))
    assert picture.dtype == np.uint8
    assert picture[0, [0, 1, 2]].argmax(axis=1).tolist() == [2, 1, 0]
    np.testing.assert_array_equal(picture[0, [3, 4]], picture[0, [0, 2]])
    assert len(np.unique(view.colour(np.linspace(0, 1, 256)[None]), axis=1)[0]) == 256


def test_the_overlay_is_the_colour_over_the_grey_photo():
    photo = np.zeros((2, 2, 3), np.uint8)
    photo[0] = 200
    photo[1] = (255, 0, 0)  # red is 76 in grey
    m = np.array([[0, 1], [0, 1]], np.float32)
    grey = np.array([200, 76])[:, None, None]
    for alpha in (0.5, 0.2):
        expected = alpha * view.colour(m) + (1 - alpha) * grey
        assert np.abs(view.overlay(photo, m, alpha) - expected).max() <= 0.51
    assert view.overlay(photo, m).dtype == np.uint8
    np.testing.assert_array_equal(view.overlay(photo, m, 1), view.colour(m))


@pytest.mark.parametrize(
    ("m", "said"),
    [
        (np.full((4, 4), np.nan), "finite"),
        (np.full((4, 4), np.inf), "finite"),
        (np.zeros((7, 7)), r"\(7, 7\)"),
        (np.zeros((1, 4, 4)), r"\(1, 4, 4\)"),
    ],
)
def test_a_map_that_cannot_be_shown_is_refused(m, said):
    with pytest.raises(InputError, match=said):
        view.overlay(np.zeros((4, 4, 3), np.uint8), m)
