"""Photographs are read as a person sees them, and written whole or not at all."""

import struct
import zlib

import numpy as np
import pytest

from onnxcam import image
from onnxcam.errors import InputError, OnnxcamError

GREY, RGB, GREY_ALPHA, RGBA = 0, 2, 4, 6


def png(pixels, kind, depth=8):
    """A PNG file of (H, W, C) pixels, without OpenCV."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(f">u{depth // 8}").tobytes() for row in pixels)

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def turned(jpeg, orientation):
    """The JPEG file with an EXIF segment that says how the camera was held."""
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + entry + b"\0\0\0\0"
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


def quarters():
    """Red, green / blue, white: 32×48, so that a turn shows."""
    photo = np.zeros((32, 48, 3), np.uint8)
    photo[:16, :24], photo[:16, 24:], photo[16:, :24], photo[16:, 24:] = (255, 0, 0), (0, 255, 0), (0, 0, 255), 255
    return photo


def wave(height, width):
    """A picture whose exact numbers Pillow was run on."""
    i, j, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    return ((i * 37 + j * j * 11 + i * j * 5 + c * 71) % 256).astype(np.uint8)


@pytest.mark.parametrize(
    ("pixel", "kind", "depth", "seen"),
    [
        ([10, 20, 30], RGB, 8, [10, 20, 30]),
        ([77], GREY, 8, [77, 77, 77]),
        ([100, 0, 200, 255], RGBA, 8, [100, 0, 200]),
        ([100, 0, 200, 0], RGBA, 8, [255, 255, 255]),
        ([100, 0, 200, 51], RGBA, 8, [224, 204, 244]),  # a fifth of the colour, four fifths of white
        ([0, 0], GREY_ALPHA, 8, [255, 255, 255]),
        ([257 * 10, 257 * 20, 257 * 30], RGB, 16, [10, 20, 30]),
        ([257 * 100, 0, 257 * 200, 65535], RGBA, 16, [100, 0, 200]),
    ],
)
def test_every_kind_of_png_is_read_as_rgb(tmp_path, pixel, kind, depth, seen):
    file = tmp_path / "a.png"
    file.write_bytes(png(np.tile(np.array(pixel), (2, 3, 1)), kind, depth))
    photo = image.read(file)
    assert photo.dtype == np.uint8
    np.testing.assert_array_equal(photo, np.tile(np.array(seen), (2, 3, 1)))


@pytest.mark.parametrize(
    ("orientation", "turns", "mirrored"), [(1, 0, False), (2, 0, True), (3, 2, False), (6, 3, False), (8, 1, False)]
)
def test_exif_turns_the_photo_upright(tmp_path, orientation, turns, mirrored):
    plain = tmp_path / "plain.jpg"
    image.write(plain, quarters())
    file = tmp_path / "turned.jpg"
    file.write_bytes(turned(plain.read_bytes(), orientation))
    upright = np.rot90(quarters()[:, ::-1] if mirrored else quarters(), turns)
    photo = image.read(file)
    assert photo.shape == upright.shape
    assert np.abs(photo[4::8, 4::8].astype(int) - upright[4::8, 4::8]).max() < 12


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp", ".tiff"])
def test_what_is_written_is_read_again(tmp_path, suffix):
    file = tmp_path / f"größe 图像{suffix}"
    image.write(file, quarters())
    assert np.abs(image.read(file).astype(int) - quarters())[4::8, 4::8].max() < 12
    assert [p.name for p in tmp_path.iterdir()] == [file.name]


def test_a_grey_picture_is_written_as_it_is(tmp_path):
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image.write(tmp_path / "a.png", levels)
    np.testing.assert_array_equal(image.read(tmp_path / "a.png"), np.repeat(levels[:, :, None], 3, axis=2))


@pytest.mark.parametrize("cut", [0, 3, 40, 0.5, 0.97])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp"])
def test_a_cut_off_photo_is_refused(tmp_path, suffix, cut, capfd):
    file = tmp_path / f"a{suffix}"
    image.write(file, wave(64, 96))
    data = file.read_bytes()
    file.write_bytes(data[: cut if cut >= 3 else int(cut * len(data))])
    with pytest.raises(InputError, match="Cannot decode photo"):
        image.read(file)
    assert capfd.readouterr().err == ""


def test_what_is_no_photo_is_refused(tmp_path):
    (tmp_path / "a.jpg").write_text("not a picture")
    for path, said in (("a.jpg", "Cannot decode photo"), ("none.jpg", "No such file"), ("", "Is a directory")):
        with pytest.raises(InputError, match=said):
            image.read(tmp_path / path)


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    file = tmp_path / "a.png"
    image.write(file, quarters())
    before = file.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OnnxcamError, match="No space left"):
        image.write(file, wave(8, 8))
    assert file.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("path", "picture", "said"),
    [
        ("a.xyz", np.zeros((2, 2, 3), np.uint8), "use .png"),
        ("a", np.zeros((2, 2, 3), np.uint8), "use .png"),
        ("none/a.png", np.zeros((2, 2, 3), np.uint8), "No such file"),
        ("a.png", np.zeros((2, 2, 3), np.float32), "float32"),
        ("a.png", np.zeros((2, 2, 4), np.uint8), r"\(2, 2, 4\)"),
    ],
)
def test_a_picture_that_cannot_be_written_is_refused(tmp_path, path, picture, said):
    with pytest.raises(InputError, match=said):
        image.write(tmp_path / path, picture)
    assert list(tmp_path.iterdir()) == []
