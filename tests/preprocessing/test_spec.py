"""How photographs are laid into an input, as Pillow, torchvision and ultralytics do, and how maps come back."""

import json
from itertools import pairwise

import numpy as np
import pytest

from onnxcam.errors import InputError
from onnxcam.preprocessing import PRESETS, Preprocess, preset
from onnxcam.preprocessing.spec import grey
from onnxcam.resample import resample


def wave(height, width):
    """A picture whose exact numbers Pillow was run on."""
    i, j, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    return ((i * 37 + j * j * 11 + i * j * 5 + c * 71) % 256).astype(np.uint8)


# The second channel of wave(9, 13) through Pillow 13.0: at (4, 5) all of it, at (14, 20) its fourth row.
PILLOW = {
    "nearest": (
        [[124, 222, 22, 20, 214], [208, 70, 156, 184, 142], [36, 174, 34, 92, 70], [120, 22, 168, 0, 254]],
        [145, 145, 166, 209, 209, 18, 105, 105, 214, 89, 89, 242, 161, 161, 102, 65, 65, 50, 57, 57],
    ),
    "bilinear": (
        [[124, 148, 125, 114, 149], [153, 107, 132, 138, 145], [97, 124, 118, 121, 143], [126, 122, 128, 102, 142]],
        [136, 145, 161, 188, 143, 71, 85, 131, 196, 114, 122, 220, 172, 125, 86, 97, 104, 93, 94, 97],
    ),
    "bicubic": (
        [[119, 151, 125, 110, 151], [162, 99, 136, 140, 143], [90, 128, 117, 121, 151], [128, 124, 125, 101, 141]],
        [135, 141, 163, 216, 154, 53, 65, 139, 216, 101, 109, 241, 189, 119, 78, 85, 94, 81, 81, 85],
    ),
    "lanczos": (
        [[118, 155, 121, 112, 148], [166, 93, 141, 138, 141], [87, 129, 112, 121, 157], [127, 127, 121, 105, 138]],
        [137, 136, 171, 231, 166, 50, 39, 154, 226, 93, 99, 251, 209, 97, 60, 80, 102, 86, 84, 90],
    ),
}


@pytest.mark.parametrize("interpolation", PILLOW)
def test_resizing_is_pillows(interpolation):
    smaller, row = PILLOW[interpolation]
    whole = slice(0, 4), slice(0, 5)
    got = resample(wave(9, 13), (4, 5), whole, interpolation)[:, :, 1].astype(int)
    np.testing.assert_array_equal(got, smaller)
    larger = resample(wave(9, 13), (14, 20), (slice(0, 14), slice(0, 20)), interpolation)[3, :, 1].astype(int)
    np.testing.assert_array_equal(larger, row)
    part = resample(wave(9, 13), (14, 20), (slice(3, 5), slice(6, 9)), interpolation)[0, :, 1].astype(int)
    np.testing.assert_array_equal(part, row[6:9])


def test_a_large_photo_keeps_what_a_plain_filter_would_skip():
    stripes = np.zeros((2000, 3000, 3), np.uint8)
    stripes[:, ::2] = 200
    for interpolation in ("bilinear", "bicubic"):
        small = Preprocess((20, 30), interpolation=interpolation, dtype="uint8", layout="NHWC").apply(stripes)
        assert np.abs(small.astype(int) - 100).max() <= 1


@pytest.mark.parametrize(
    ("photo", "resized", "offset"),
    [  # torchvision 0.29's Resize(256), CenterCrop(224)
        ((300, 451), (256, 384), (-16, -80)),
        ((451, 300), (384, 256), (-80, -16)),
        ((333, 500), (256, 384), (-16, -80)),
        ((400, 400), (256, 256), (-16, -16)),
        ((100, 101), (256, 258), (-16, -17)),
    ],
)
def test_the_crop_is_torchvisions(photo, resized, offset):
    geometry = preset("imagenet", (224, 224)).fit(photo)
    assert (geometry.resized, geometry.offset) == (resized, offset)


@pytest.mark.parametrize(
    ("resize", "photo", "inside"),
    [
        ("letterbox", (100, 200), (slice(25, 75), slice(0, 100))),
        ("letterbox", (50, 20), (slice(0, 100), slice(30, 70))),
        ("letterbox", (1, 5000), (slice(49, 50), slice(0, 100))),
        ("crop", (100, 200), (slice(0, 100), slice(0, 100))),
        ("crop", (5000, 1), (slice(0, 100), slice(0, 100))),
        ("stretch", (7, 5), (slice(0, 100), slice(0, 100))),
    ],
)
def test_where_the_photo_lies_in_the_input(resize, photo, inside):
    geometry = Preprocess((100, 100), resize=resize, layout="NHWC", dtype="uint8").fit(photo)
    assert geometry.inside == inside
    picture = Preprocess((100, 100), resize=resize, layout="NHWC", dtype="uint8").apply(
        np.full((*photo, 3), 9, np.uint8)
    )
    shows = np.zeros((100, 100), bool)
    shows[inside] = True
    np.testing.assert_array_equal(picture[0, :, :, 0], np.where(shows, 9, 114))


@pytest.mark.parametrize("resize", ["stretch", "crop", "letterbox"])
@pytest.mark.parametrize("shape", [(200, 320), (320, 200), (37, 53)])
@pytest.mark.parametrize("size", [(64, 64), (48, 96), None])
def test_a_map_comes_back_to_where_the_photo_was_bright(resize, shape, size):
    height, width = shape
    photo = np.zeros((height, width, 3), np.uint8)
    y, x = int(height * 0.4), int(width * 0.55)
    photo[y - 4 : y + 5, x - 4 : x + 5] = 255
    preprocess = Preprocess(size, std=(255.0,), resize=resize)
    seen = preprocess.apply(photo)[0, 0]
    seen = np.where(seen == np.float32(114 / 255), 0, seen)
    restored = preprocess.restore(seen, photo.shape)
    assert restored.shape == shape
    assert restored.dtype == np.float32
    rows, columns = np.indices(shape)
    tolerance = 0.5 + max(shape) / min(size or shape) / 2
    assert abs((rows * restored).sum() / restored.sum() - y) < tolerance
    assert abs((columns * restored).sum() / restored.sum() - x) < tolerance


def test_the_map_is_zero_outside_the_crop():
    restored = Preprocess((64, 64), resize="crop", crop_ratio=0.5).restore(np.ones((64, 64), np.float32), (100, 300))
    expected = np.zeros((100, 300))
    expected[25:75, 125:175] = 1
    np.testing.assert_array_equal(restored, expected)


def test_a_letterboxed_map_loses_its_padding():
    seen = np.ones((64, 64), np.float32)
    seen[20:44] = 0.25
    restored = Preprocess((64, 64), resize="letterbox").restore(seen, (24, 64))
    np.testing.assert_array_equal(restored, np.full((24, 64), 0.25))


def test_a_map_of_another_size_is_refused():
    with pytest.raises(InputError, match=r"\(7, 7\)"):
        Preprocess((64, 64)).restore(np.ones((7, 7), np.float32), (100, 300))


@pytest.mark.parametrize(("layout", "axes"), [("CHW", (2, 0, 1)), ("HWC", (0, 1, 2)), ("NHW", None)])
def test_a_layout_without_samples_or_colours(layout, axes):
    photo = np.random.default_rng(0).integers(0, 255, (5, 4, 3), np.uint8)
    given = Preprocess(layout=layout, color="GRAY" if axes is None else "RGB")
    expected = grey(photo)[:, :, 0][None] if axes is None else photo.transpose(axes)
    np.testing.assert_array_equal(given.apply(photo), expected)
    assert Preprocess.from_json(given.to_json()) == given


@pytest.mark.parametrize(("photo", "width"), [((20, 100), 240), ((100, 20), 10), ((48, 7), 7), ((999, 1), 1)])
def test_a_height_and_any_width(photo, width):
    given = Preprocess(resize="height", shortest_edge=48)
    assert given.apply(np.zeros((*photo, 3), np.uint8)).shape == (1, 3, 48, width)
    assert given.restore(np.ones((48, width)), photo).shape == photo
    assert "height 48, width in proportion" in given.describe()


def test_the_photos_own_size_in_whole_steps():
    given = Preprocess(multiple=32)
    assert given.apply(np.zeros((300, 451, 3), np.uint8)).shape == (1, 3, 288, 448)
    assert given.fit((20, 70)).size == (32, 64)
    assert "photo's own size, multiples of 32" in given.describe()


@pytest.mark.parametrize("wrong", [{"shortest_edge": None}, {"shortest_edge": 48, "size": (48, 320)}])
def test_a_height_is_given_and_no_size(wrong):
    with pytest.raises(InputError):
        Preprocess(resize="height", **wrong)


def test_colours_need_an_axis():
    with pytest.raises(InputError, match="'layout' must be one with 'C' where 'color' is not 'GRAY'"):
        Preprocess(layout="NHW")


@pytest.mark.parametrize(
    ("name", "expected"),
    [  # of the pixel (255, 0, 51); from torchvision, keras.applications.imagenet_utils and open_clip
        ("imagenet", [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0.2 - 0.406) / 0.225]),
        ("tf", [1, -1, -0.6]),
        ("caffe", [51 - 103.939, -116.779, 255 - 123.68]),
        ("clip", [(1 - 0.48145466) / 0.26862954, -0.4578275 / 0.26130258, (0.2 - 0.40821073) / 0.27577711]),
        ("unit", [1, 0, 0.2]),
        ("raw", [255, 0, 51]),
    ],
)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_presets(name, expected, layout):
    photo = np.tile(np.array([255, 0, 51], np.uint8), (40, 30, 1))
    values = preset(name, (8, 9), layout).apply(photo)
    assert values.dtype == np.float32
    assert values.shape == ((1, 3, 8, 9) if layout == "NCHW" else (1, 8, 9, 3))
    assert values.flags.c_contiguous
    channels = np.moveaxis(values[0], 0, -1) if layout == "NCHW" else values[0]
    np.testing.assert_allclose(channels, np.tile(expected, (8, 9, 1)), rtol=1e-5, atol=1e-6)


def test_the_crops_of_the_presets():
    assert preset("imagenet", (224, 224)).fit((256, 512)).offset == (-16, -144)
    assert preset("clip", (224, 224)).fit((224, 448)).offset == (0, -112)


def test_grey_input_has_one_channel_with_the_usual_weights():
    photo = np.tile(np.array([100, 200, 50], np.uint8), (4, 4, 1))
    values = Preprocess((4, 4), color="GRAY").apply(photo)
    assert values.shape == (1, 1, 4, 4)
    np.testing.assert_array_equal(values, round(0.299 * 100 + 0.587 * 200 + 0.114 * 50))  # ITU-R BT.601


def test_whole_number_inputs_are_rounded_and_kept_in_range():
    ramp = np.repeat(np.array([[[0], [127], [128], [255]]], np.uint8), 3, axis=2)
    values = Preprocess((1, 4), mean=(127.6,), dtype="int8", layout="NHWC").apply(ramp)
    np.testing.assert_array_equal(values[0, 0, :, 0], [-128, -1, 0, 127])


def test_without_a_size_the_photo_keeps_its_own():
    values = preset("imagenet", None).apply(wave(37, 53))
    assert values.shape == (1, 3, 37, 53)
    np.testing.assert_allclose(values[0, 1], (wave(37, 53)[:, :, 1] / 255 - 0.456) / 0.224, atol=1e-5)


@pytest.mark.parametrize(
    "photo",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        [[0, 0, 0]],
    ],
)
def test_an_array_that_is_no_photo_is_refused(photo):
    with pytest.raises(InputError, match="height, width, 3"):
        Preprocess((4, 4)).apply(photo)


@pytest.mark.parametrize("name", PRESETS)
def test_json_keeps_everything(name):
    given = preset(name, (224, 192), "NHWC", "float16")
    back = Preprocess.from_json(given.to_json())
    assert back == given
    assert back.source == f"preset '{name}'"
    assert json.loads(given.to_json())["size"] == [224, 192]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[" * 100000, "not JSON"),
        ("[1]", "JSON object"),
        ('{"means": [0]}', "no field 'means'. Its fields are: size, mean, std, color, resize"),
        ('{"mean": 0}', "'mean' must be a list of 3"),
        ('{"mean": [0, 1]}', "'mean' must be a list of 3"),
        ('{"mean": [0, true, 1]}', "'mean' must be"),
        ('{"mean": [NaN]}', "'mean' must be"),
        (f'{{"mean": [1{"0" * 400}]}}', "'mean' must be"),
        ('{"mean": null}', "'mean' must be"),
        ('{"std": [0, 1, 1]}', "'std' must be"),
        ('{"std": [-1]}', "above 0"),
        ('{"size": 224}', "'size' must be"),
        ('{"size": [224]}', "'size' must be"),
        ('{"size": [224.5, 224]}', "'size' must be"),
        ('{"size": [0, 224]}', "'size' must be"),
        ('{"size": ["a", "b"]}', "'size' must be"),
        ('{"color": "rgb"}', "color 'rgb'"),
        ('{"color": 3}', "color '3'"),
        ('{"color": [3]}', "color"),
        ('{"resize": "croped"}', "'crop'"),
        ('{"dtype": "float"}', "'float16'"),
        ('{"crop_ratio": 1.5}', "crop_ratio"),
        ('{"crop_ratio": "a"}', "crop_ratio"),
        ('{"source": 3}', "source"),
    ],
)
def test_wrong_json_is_one_clear_line(text, said):
    with pytest.raises(InputError, match=said) as caught:
        Preprocess.from_json(text)
    assert "\n" not in str(caught.value)


def test_an_unknown_preset_answers_with_the_closest():
    with pytest.raises(InputError, match="'imagenet'"):
        preset("imagnet")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (preset("imagenet", (224, 192)), ["crop 0.875 of 224×192", "RGB", "[123.7 116.3 103.5]", "preset 'imagenet'"]),
        (preset("tf", (8, 8), "NHWC"), ["stretched to 8×8", "(x − 127.5) / 127.5", "NHWC float32"]),
        (preset("unit", None), ["own size", "x / 255"]),
        (preset("raw", (8, 8)), ["x of 0..255"]),
        (preset("yolox", (8, 8)), ["letterboxed to 8×8 (linear, top left)", "BGR"]),
        (Preprocess((8, 8), resize="crop", shortest_edge=10), ["centre crop of short side 10 to 8×8"]),
        (Preprocess((8, 8), resize="crop", resized=(9, 10)), ["centre crop of 9×10 to 8×8"]),
        (
            Preprocess(resize="proportional", shortest_edge=800, longest_edge=1333, multiple=16),
            ["short side 800, at most 1333, multiples of 16"],
        ),
    ],
)
def test_a_person_can_read_it(given, words):
    line = given.describe()
    assert "\n" not in line
    places = [line.index(word) for word in words]
    assert all(a < b for a, b in pairwise(places))


# ----- geometry -----
@pytest.mark.parametrize(
    ("fields", "photo", "resized", "offset", "size"),
    [
        ({"size": (640, 640), "resize": "letterbox"}, (480, 641), (479, 640), (80, 0), (640, 640)),
        ({"size": (640, 640), "resize": "letterbox"}, (427, 640), (427, 640), (106, 0), (640, 640)),  # 106.5 − 0.1
        ({"size": (640, 640), "resize": "letterbox", "anchor": "top-left"}, (300, 451), (425, 640), (0, 0), (640, 640)),
        ({"size": (8, 8), "resize": "crop", "shortest_edge": 10}, (20, 26), (10, 13), (-1, -2), (8, 8)),  # 2.5 to even
        ({"size": (8, 8), "resize": "crop", "shortest_edge": 11}, (11, 11), (11, 11), (-2, -2), (8, 8)),  # 1.5 to even
        (
            {"size": (8, 8), "resize": "crop", "shortest_edge": 11, "anchor": "centre-down"},
            (11, 11), (11, 11), (-1, -1), (8, 8),
        ),
        ({"size": (8, 8), "resize": "crop", "resized": (10, 12)}, (50, 50), (10, 12), (-1, -2), (8, 8)),
        ({"size": (8, 8), "resize": "crop", "shortest_edge": 5}, (5, 5), (5, 5), (1, 1), (8, 8)),  # a border of 0
        ({"size": (256, 128), "resize": "crop", "crop_ratio": 1.0}, (100, 100), (256, 256), (0, -64), (256, 128)),
        ({"resize": "proportional", "shortest_edge": 800, "longest_edge": 1333}, (480, 640), (800, 1066), (0, 0), None),
        ({"resize": "proportional", "shortest_edge": 800, "longest_edge": 1333}, (300, 900), (444, 1333), (0, 0), None),
        ({"resize": "proportional", "shortest_edge": 70, "multiple": 32}, (100, 200), (64, 128), (0, 0), None),
        ({"resize": "proportional", "shortest_edge": 7, "multiple": 32}, (100, 100), (32, 32), (0, 0), None),
    ],
)  # fmt: skip
def test_where_a_photo_lies(fields, photo, resized, offset, size):
    geometry = Preprocess(**fields).fit(photo)
    assert (geometry.resized, geometry.offset, geometry.size) == (resized, offset, size or resized)


@pytest.mark.parametrize(
    "given",
    [
        Preprocess((64, 48)),
        Preprocess((64, 64), resize="crop", crop_ratio=0.8),
        Preprocess((64, 64), resize="crop", resized=(80, 70)),
        Preprocess((64, 48), resize="letterbox"),
        Preprocess((64, 48), resize="letterbox", anchor="top-left"),
        Preprocess((64, 64), resize="crop", shortest_edge=40),
        Preprocess(resize="proportional", shortest_edge=40, multiple=8),
    ],
    ids=str,
)
@pytest.mark.parametrize("shape", [(97, 140), (140, 97), (300, 299)])
def test_every_pixel_of_a_map_comes_from_where_the_photo_was_laid(given, shape):
    """A map whose value is its own place, against `input = photo · scale + offset` at every pixel's centre."""
    where = given.fit(shape)
    for axis in (0, 1):
        places = np.indices(where.size)[axis].astype(np.float32) + 0.5
        got = given.restore(places, shape)
        expected = (np.indices(shape)[axis] + 0.5) * where.scale[axis] + where.offset[axis]
        seen = np.ones(shape, bool)
        for a in (0, 1):
            at = (np.indices(shape)[a] + 0.5) * where.scale[a] + where.offset[a]
            seen &= (at >= where.inside[a].start) & (at <= where.inside[a].stop)
        low, high = where.inside[axis].start + 0.5, where.inside[axis].stop - 0.5
        np.testing.assert_allclose(got, np.where(seen, expected.clip(low, high), 0), atol=1e-3)


def test_the_border_is_in_the_colours_given():
    given = Preprocess((4, 8), resize="letterbox", fill=(1.0, 2.0, 3.0), layout="NHWC", dtype="uint8")
    values = given.apply(np.full((4, 4, 3), 9, np.uint8))[0]
    np.testing.assert_array_equal(values[:, :2], np.tile([1, 2, 3], (4, 2, 1)))
    np.testing.assert_array_equal(values[:, 2:6], 9)


def test_opencvs_filters_are_opencvs():
    import cv2

    photo = wave(40, 50)
    for name, flag in (("linear", cv2.INTER_LINEAR), ("cubic", cv2.INTER_CUBIC), ("area", cv2.INTER_AREA)):
        values = Preprocess((17, 23), interpolation=name, layout="NHWC", dtype="uint8").apply(photo)[0]
        np.testing.assert_array_equal(values, cv2.resize(photo, (23, 17), interpolation=flag))
