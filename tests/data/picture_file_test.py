import concurrent.futures
import contextlib
import io
import logging
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from brittle_jax.data.picture_file import (
    SUFFIXES,
    BadPictureError,
    decoders_silenced,
    read_encoded,
    read_picture,
    read_pixels,
)
from brittle_jax.data.preprocess import decode
from tests.data.made_pictures import png, tiff

MAX_PIXELS = 10_000
RGB = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)


def read(file):
    decoded = decode(read_encoded(file, MAX_PIXELS))
    pixels, bits = read_pixels(file, MAX_PIXELS)
    np.testing.assert_array_equal(pixels, decoded)  # by whichever way
    assert pixels.dtype == np.uint8 and bits == read_picture(file, MAX_PIXELS).bits
    return decoded


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


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.webp"])
def test_alpha_of_zeros_is_ignored(tmp_path, name):
    rgba = Image.fromarray(np.dstack([RGB, np.zeros(RGB.shape[:2], np.uint8)]))
    settings = {"lossless": True, "exact": True} if name == "a.webp" else {}
    if name == "a.bmp":
        (tmp_path / name).write_bytes(bmp_with_alpha(np.asarray(rgba)))
    else:
        save(tmp_path, rgba, name, **settings)
    np.testing.assert_array_equal(read(tmp_path / name), RGB)


def bmp_with_alpha(rgba):
    """Returns [H, W, 4] uint8 as BMP with a mask for alpha, as Photoshop writes it."""
    height, width, _ = rgba.shape
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
    header = struct.pack("<IiiHHIIiiII", 108, width, height, 1, 32, 3, rgba.nbytes, 2835, 2835, 0, 0) + masks
    start = 14 + len(header)
    file_header = b"BM" + struct.pack("<IHHI", start + rgba.nbytes, 0, 0, start)
    return file_header + header + rgba[::-1, :, [2, 1, 0, 3]].tobytes()


def test_alpha_of_a_bmp_counts_where_it_is_used(tmp_path):
    rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0]]], np.uint8)
    (tmp_path / "a.bmp").write_bytes(bmp_with_alpha(rgba))
    np.testing.assert_array_equal(read(tmp_path / "a.bmp"), [[[10, 20, 30], [255, 255, 255]]])


def test_a_palette_of_nothing_but_transparent_colours_is_opaque(tmp_path):
    grey = Image.fromarray(np.array([[0, 200]], np.uint8))
    grey.putalpha(0)
    np.testing.assert_array_equal(read(save(tmp_path, grey, "la.png"))[0, :, 0], [0, 200])
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    for name in ("palette.png", "palette.gif"):
        file = save(tmp_path, palette, name, transparency=b"\0\0" if name.endswith("png") else 0)
        expected = [[10, 20, 30], [40, 50, 60]] if name.endswith("png") else [[255, 255, 255], [40, 50, 60]]
        np.testing.assert_array_equal(read(file)[0], expected)
    same = Image.fromarray(np.full((2, 3), 100, np.uint8))
    assert (read(save(tmp_path, same, "same.png", transparency=100)) == 100).all()


def test_a_tiff_of_grey_multiplied_by_its_alpha_is_read(tmp_path):
    values = np.array([[[100, 255], [50, 128], [0, 0]]], np.uint8)
    (tmp_path / "a.tif").write_bytes(tiff(values, tags={262: 1, 338: 1}))
    np.testing.assert_allclose(read(tmp_path / "a.tif")[0, :, 0], [100, 177, 255], atol=1)


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


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp"])
def test_the_facts_of_a_picture_are_those_of_its_upright_pixels(tmp_path, name):
    exif = Image.Exif()
    exif[0x0112] = 6
    file = save(tmp_path, Image.fromarray(RGB // 2 + 20), name, **({} if name == "a.bmp" else {"exif": exif}))
    picture = read_picture(file, MAX_PIXELS)
    pixels = decode(picture.encoded)
    assert (picture.height, picture.width) == pixels.shape[:2] == ((12, 16) if name == "a.bmp" else (16, 12))
    assert (picture.bits, picture.low, picture.high) == (8, pixels.min(), pixels.max())
    assert picture.scale == (0, 255)


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
def test_unreadable_pictures_are_refused_with_the_reason(tmp_path, kind):
    content, reason = BAD[kind]
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(BadPictureError, match=reason):
        read_encoded(tmp_path / "a.png", MAX_PIXELS)


def test_pixels_of_unknown_scale_are_refused(tmp_path):
    reals = Image.fromarray(np.zeros((2, 2), np.float32))
    with pytest.raises(BadPictureError, match="real numbers, of no known scale"):
        read_encoded(save(tmp_path, reals, "a.tif"), MAX_PIXELS)
    integers = Image.fromarray(np.full((2, 2), 70_000, np.int32))
    with pytest.raises(BadPictureError, match="signed integers of 32 bits, of no known scale"):
        read_encoded(save(tmp_path, integers, "b.tif"), MAX_PIXELS)


def test_missing_and_irregular_files_are_refused(tmp_path):
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


def ftyp(major, *compatible):
    brands = major + bytes(4) + b"".join(compatible)
    return struct.pack(">I", 8 + len(brands)) + b"ftyp" + brands + bytes(100)


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.heic", ftyp(b"heic", b"mif1"), "HEIC"),
        ("a.jpg", ftyp(b"mif1", b"heic"), "HEIC"),
        ("a.HEIF", ftyp(b"msf1"), "HEIC"),
        ("a.avif", ftyp(b"avif", b"mif1"), "AVIF"),
        ("a.png", ftyp(b"mif1", b"avif"), "AVIF"),
        ("a.CR3", ftyp(b"crx "), r"raw photograph \(CR3\)"),
        ("a.nef", tiff(RGB), r"raw photograph \(NEF\)"),
        ("a.DNG", tiff(RGB), r"raw photograph \(DNG\)"),
        ("a.raf", b"FUJIFILMCCD-RAW 0201", r"raw photograph \(RAF\)"),
    ],
)
def test_unsupported_kinds_of_photograph_are_named(tmp_path, name, content, kind):
    (tmp_path / name).write_bytes(content)
    assert (tmp_path / name).suffix.lower() in SUFFIXES
    with pytest.raises(BadPictureError, match=f"^{kind}, which is not supported$"):
        read_picture(tmp_path / name, MAX_PIXELS)


@pytest.mark.parametrize("name", ["a.heic", "a.nef"])
def test_a_jpeg_named_as_a_raw_photograph_is_read(tmp_path, name):
    (tmp_path / name).write_bytes(encoded("JPEG"))
    assert read_encoded(tmp_path / name, MAX_PIXELS) == encoded("JPEG")


def test_a_film_is_not_a_picture(tmp_path):
    (tmp_path / "a.heic").write_bytes(ftyp(b"isom", b"mp41"))
    with pytest.raises(BadPictureError, match="not a picture"):
        read_picture(tmp_path / "a.heic", MAX_PIXELS)


NOISY = {
    "Pillow warns": tiff(RGB, tags={34665: (4, struct.pack("<I", 10**9))}),
    "Pillow logs an error": tiff(RGB, tags={277: 99}),
    "libtiff writes": tiff(RGB, compressed=True, tags={274: 99}),
}


@pytest.mark.parametrize("kind", NOISY)
def test_decoders_are_silent_in_every_thread(tmp_path, capfd, kind):
    (tmp_path / "a.tif").write_bytes(NOISY[kind])

    def read_all(_):
        with contextlib.suppress(BadPictureError):
            read_picture(tmp_path / "a.tif", MAX_PIXELS)

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with decoders_silenced(), concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(read_all, range(20)))
            warnings.warn("of others", stacklevel=1)
    assert [str(warning.message) for warning in seen] == ["of others"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", NOISY)
def test_decoders_speak_unless_they_are_silenced(tmp_path, capfd, kind):
    """That the test above cannot pass by accident, and that everything is as it was behind it."""
    (tmp_path / "a.tif").write_bytes(NOISY[kind])
    with decoders_silenced(), decoders_silenced():
        pass
    with warnings.catch_warnings(record=True) as seen, contextlib.suppress(BadPictureError):
        warnings.simplefilter("always")
        logging.getLogger("PIL").addHandler(handler := logging.StreamHandler())
        try:
            read_picture(tmp_path / "a.tif", MAX_PIXELS)
        finally:
            logging.getLogger("PIL").removeHandler(handler)
    assert seen or capfd.readouterr().err


def seeds():
    """Yields small files of every kind that is read, with metadata."""
    exif = Image.Exif()
    exif[0x0112] = 6
    image, deep = Image.fromarray(RGB), RGB.astype(np.uint16) * 200
    extras = {"exif": exif, "icc_profile": bytes(80)}
    for kind, mode, settings in (
        ("PNG", "RGB", extras),
        ("PNG", "RGBA", {}),
        ("PNG", "P", {"transparency": 3}),
        ("JPEG", "RGB", extras),
        ("JPEG", "CMYK", {"progressive": True}),
        ("MPO", "RGB", {"save_all": True, "append_images": [image]}),
        ("TIFF", "RGB", {"exif": exif}),
        ("TIFF", "1", {"compression": "group4"}),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}),
        ("TIFF", "RGB", {"compression": "jpeg"}),
        ("TIFF", "L", {"big_tiff": True}),
        ("BMP", "RGB", {}),
        ("GIF", "P", {"save_all": True, "append_images": [Image.fromarray(255 - RGB)]}),
        ("PPM", "RGB", {}),
        ("WEBP", "RGB", extras),
        ("WEBP", "RGBA", {"lossless": True}),
    ):
        buffer = io.BytesIO()
        image.convert(mode).save(buffer, kind, **settings)
        yield buffer.getvalue()
    yield png(deep, 2)
    yield png(deep[..., :1], 0)
    for order in "<>":
        yield tiff(deep, order)
        yield tiff(deep[..., :1], order, compressed=True, tags={262: 0, 281: 4095})
    yield tiff(deep[..., :1] % 4096, bits=12)
    yield tiff(deep[..., :1].astype(np.float32), tags={339: 3})
    yield b"P5 16 12 4095\n" + deep[..., 0].astype(">u2").tobytes()
    yield b"Pf 2 1 -1.0\n" + bytes(8)


def mutate(content, rng):
    """Returns a file with a few bytes changed, half of the time near its beginning, and sometimes cut off."""
    content = np.frombuffer(content, np.uint8).copy()
    end = len(content) if rng.random() < 0.5 else min(len(content), 120)
    at = rng.integers(0, end, rng.choice([1, 2, 4, 8]))
    content[at] = np.where(rng.random(len(at)) < 0.5, rng.integers(0, 256, len(at)), rng.choice([0, 1, 127, 255]))
    return content[: rng.integers(1, len(content)) if rng.random() < 0.1 else None].tobytes()


def test_damage_of_any_kind_is_a_bad_picture_or_harmless(tmp_path, capfd):
    rng = np.random.default_rng(0)
    files, refused = list(seeds()), 0
    for content in files:
        (tmp_path / "a.png").write_bytes(content)
        read_picture(tmp_path / "a.png", MAX_PIXELS, (0, 65535))
    with decoders_silenced():
        for number in range(10 * len(files)):
            (tmp_path / "a.png").write_bytes(mutate(files[number % len(files)], rng))
            try:
                picture = read_picture(tmp_path / "a.png", MAX_PIXELS, (0, 65535) if number % 2 else None)
            except BadPictureError:
                refused += 1
            else:
                assert decode(picture.encoded).shape == (picture.height, picture.width, 3)
    assert refused > len(files)
    assert capfd.readouterr() == ("", "")
