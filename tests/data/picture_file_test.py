import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from brittle_jax.data.picture_file import BadPictureError, read_encoded, size_of_encoded
from brittle_jax.data.preprocess import decode

MAX_PIXELS = 10_000
RGB = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)


def read(file):
    return decode(read_encoded(file, MAX_PIXELS))


def save(tmp_path, image, name, **settings):
    image.save(tmp_path / name, **settings)
    return tmp_path / name


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.ppm"])
def test_lossless_formats_give_the_pixels(tmp_path, name):
    np.testing.assert_array_equal(read(save(tmp_path, Image.fromarray(RGB), name)), RGB)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_plain_files_come_back_byte_for_byte(tmp_path, name, mode):
    file = save(tmp_path, Image.fromarray(RGB).convert(mode), name)
    assert read_encoded(file, MAX_PIXELS) == file.read_bytes()


@pytest.mark.parametrize("name", ["a.jpg", "a.webp", "a.gif"])
def test_lossy_formats_are_near(tmp_path, name):
    smooth = Image.fromarray(RGB).resize((4, 3)).resize((64, 48), Image.Resampling.BICUBIC)
    picture = read(save(tmp_path, smooth, name))
    assert np.abs(picture.astype(int) - np.asarray(smooth)).mean() < 12


def test_a_wrong_suffix_does_not_matter(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.jpg", format="PNG")
    np.testing.assert_array_equal(read(tmp_path / "a.jpg"), RGB)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bits_become_8(tmp_path, name):
    values = np.array([[0, 128, 129], [257, 32768, 65535]], np.uint16)
    picture = read(save(tmp_path, Image.fromarray(values), name))
    expected = np.round(values / 257)
    np.testing.assert_array_equal(picture, np.repeat(expected[..., None], 3, axis=-1))


def test_the_transparent_grey_of_16_bits_is_white(tmp_path):
    values = np.array([[0, 1285, 32768]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png", transparency=1285)
    np.testing.assert_array_equal(read(tmp_path / "a.png")[0, :, 0], [0, 255, 128])


def test_palettes_become_rgb(tmp_path):
    colours = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 0]]], np.uint8)
    image = Image.fromarray(colours).convert("P", palette=Image.Palette.ADAPTIVE, colors=4)
    np.testing.assert_array_equal(read(save(tmp_path, image, "a.png")), colours)


def test_transparent_pixels_lie_over_white(tmp_path):
    rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [10, 20, 30, 51]]], np.uint8)
    picture = read(save(tmp_path, Image.fromarray(rgba), "a.png"))
    np.testing.assert_allclose(picture[0], [[10, 20, 30], [255, 255, 255], [206, 208, 210]], atol=1)
    grey = Image.fromarray(np.array([[0, 255]], np.uint8))
    grey.putalpha(0)
    assert (read(save(tmp_path, grey, "la.png")) == 255).all()


def test_cmyk_becomes_rgb(tmp_path):
    cmyk = np.zeros((16, 16, 4), np.uint8)
    cmyk[..., 1] = 255  # magenta
    picture = read(save(tmp_path, Image.fromarray(cmyk, "CMYK"), "a.jpg", quality=95))
    np.testing.assert_allclose(picture.mean(axis=(0, 1)), [255, 0, 255], atol=4)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_a_photograph_upright(tmp_path, orientation):
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16] = 255  # light at the upper left
    # How a camera stores it: the inverse of what the tag asks a viewer to do.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = save(tmp_path, Image.fromarray(np.ascontiguousarray(stored)), "a.jpg", quality=100, exif=exif)
    np.testing.assert_allclose(read(file), upright, atol=8)


def test_of_several_frames_the_first_is_taken(tmp_path):
    first, second = (Image.fromarray(np.full((4, 4, 3), value, np.uint8)) for value in (0, 255))
    assert (read(save(tmp_path, first, "a.tif", save_all=True, append_images=[second])) == 0).all()


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 5000, 3)])
def test_tiny_and_long_pictures_are_read(tmp_path, shape):
    picture = np.full(shape, 7, np.uint8)
    np.testing.assert_array_equal(read(save(tmp_path, Image.fromarray(picture), "a.png")), picture)


def png_of(width, height):
    """Returns the bytes of a PNG whose header says so many pixels, with next to nothing behind it."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    content = zlib.compress(bytes(100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def encoded(kind):
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, kind)
    return buffer.getvalue()


BAD = {
    "empty": (b"", "empty file"),
    "text": (b"not a picture at all", "not a picture"),
    "script": (b"#!/bin/sh\nrm -rf /\n", "not a picture"),
    "PostScript, which could run code": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
    "cut off PNG": (encoded("PNG")[:-200], "damaged"),
    "cut off JPEG": (encoded("JPEG")[:-200], "damaged"),
    "damaged PNG": (encoded("PNG")[:60] + b"xxxxxxxx" + encoded("PNG")[68:], "damaged"),
    "header alone": (encoded("JPEG")[:20], "not a picture|damaged"),
    "too large": (png_of(200, 100), "200 x 100 pixels, more than data.max_image_pixels"),
    "bomb": (png_of(60_000, 60_000), "too many pixels, a decompression bomb"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_read_is_refused_with_the_reason(tmp_path, kind):
    content, reason = BAD[kind]
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(BadPictureError, match=reason):
        read_encoded(tmp_path / "a.png", MAX_PIXELS)


def test_pixels_of_unknown_scale_are_refused(tmp_path):
    reals = Image.fromarray(np.zeros((2, 2), np.float32))
    with pytest.raises(BadPictureError, match="real numbers, of no known scale"):
        read_encoded(save(tmp_path, reals, "a.tif"), MAX_PIXELS)
    integers = Image.fromarray(np.full((2, 2), 70_000, np.int32))
    with pytest.raises(BadPictureError, match="more than 16 bits"):
        read_encoded(save(tmp_path, integers, "b.tif"), MAX_PIXELS)


def test_what_is_not_there_or_no_file_is_refused(tmp_path):
    with pytest.raises(BadPictureError, match="cannot be read: No such file"):
        read_encoded(tmp_path / "a.png", MAX_PIXELS)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(BadPictureError, match="not a regular file"):
        read_encoded(tmp_path / "folder.png", MAX_PIXELS)
    os.mkfifo(tmp_path / "pipe.png")  # to read it would wait for ever
    with pytest.raises(BadPictureError, match="not a regular file"):
        read_encoded(tmp_path / "pipe.png", MAX_PIXELS)


def test_a_file_that_is_far_too_large_is_refused_unread(tmp_path):
    with open(tmp_path / "a.png", "wb") as file:
        file.write(encoded("PNG"))
        file.truncate(2**40)  # takes no room on the disk
    with pytest.raises(BadPictureError, match="1099511627776 bytes, more than a picture of data.max_image_pixels has"):
        read_encoded(tmp_path / "a.png", MAX_PIXELS)


@pytest.mark.parametrize("kind", ["plain", "turned", "16 bits"])
def test_the_size_to_come_is_never_below_what_comes(tmp_path, kind):
    noise = np.random.default_rng(0).integers(0, 2**16, (80, 100), np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    images = {"plain": ("a.png", {}), "turned": ("a.jpg", {"exif": exif, "quality": 5}), "16 bits": ("b.png", {})}
    name, settings = images[kind]
    image = Image.fromarray(noise if kind == "16 bits" else (noise // 257).astype(np.uint8))
    file = save(tmp_path, image, name, **settings)
    assert len(read_encoded(file, MAX_PIXELS)) <= size_of_encoded(file, MAX_PIXELS)
    assert size_of_encoded(tmp_path / "missing.png", MAX_PIXELS) == 0
