import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from brittle_jax.data.picture_file import BadPictureError, read_picture
from brittle_jax.data.preprocess import decode
from tests.data.made_pictures import png, png_chunk, tiff

MAX_PIXELS = 10_000
RNG = np.random.default_rng(0)
RAMP = np.tile(np.linspace(0, 4095, 256).astype(np.uint16), (3, 1))[..., None]
DEEP = RNG.integers(0, 65536, (7, 9, 1), np.uint16)
COLOURS = RNG.integers(0, 65536, (7, 9, 3), np.uint16)
SIGNED, REAL = {339: 2}, {339: 3}
WHITE_IS_ZERO = {262: 0}


def read(tmp_path, content, intensity_range=None, name="a.tif"):
    """Returns what `read_picture` gives, and its pixels: [H, W] where they are grey."""
    (tmp_path / name).write_bytes(content)
    picture = read_picture(tmp_path / name, MAX_PIXELS, intensity_range)
    pixels = decode(picture.encoded)
    assert pixels.shape == (picture.height, picture.width, 3)
    return picture, pixels[..., 0] if (pixels == pixels[..., :1]).all() else pixels


def facts(picture):
    return picture.bits, picture.low, picture.high, picture.scale


def rounded(values, low, high):
    return np.round(np.clip((values.astype(float) - low) / (high - low), 0, 1) * 255)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("compressed", [False, True])
def test_white_is_zero_is_applied_at_16_bits(tmp_path, order, compressed):
    picture, pixels = read(tmp_path, tiff(DEEP, order, compressed, tags=WHITE_IS_ZERO))
    np.testing.assert_array_equal(pixels, 255 - rounded(DEEP[..., 0], 0, 65535))
    assert facts(picture) == (16, DEEP.min(), DEEP.max(), (65535, 0))


def test_white_is_zero_is_applied_at_every_depth_and_kind(tmp_path):
    expected = 255 - rounded(RAMP[..., 0], 0, 4095)
    for content in (
        tiff(RAMP, bits=12, tags=WHITE_IS_ZERO),
        tiff(RAMP, tags=WHITE_IS_ZERO | {281: 4095}),
    ):
        picture, pixels = read(tmp_path, content)
        np.testing.assert_array_equal(pixels, expected)
        assert facts(picture) == (12, 0, 4095, (4095, 0))
    for content in (
        tiff(RAMP, tags=WHITE_IS_ZERO),
        tiff(RAMP.astype(np.int16), tags=WHITE_IS_ZERO | SIGNED),
        tiff(RAMP.astype(np.float32), tags=WHITE_IS_ZERO | REAL),
    ):
        np.testing.assert_array_equal(read(tmp_path, content, (0, 4095))[1], expected)
    eight = RNG.integers(0, 256, (7, 9, 1), np.uint8)
    np.testing.assert_array_equal(read(tmp_path, tiff(eight, tags=WHITE_IS_ZERO))[1], 255 - eight[..., 0])


@pytest.mark.parametrize("compressed", [False, True])
def test_a_tiff_of_12_bits_has_all_greys(tmp_path, compressed):
    picture, pixels = read(tmp_path, tiff(RAMP, compressed=compressed, bits=12))
    np.testing.assert_array_equal(pixels, np.tile(np.arange(256), (3, 1)))
    assert facts(picture) == (12, 0, 4095, (0, 4095))


@pytest.mark.parametrize(
    ("max_sample", "bits"), [(4095, 12), (16383, 14), (65535, 16), (4000, 16), (255, 16), (511, 16), (None, 16)]
)
def test_max_sample_value_declares_a_depth_if_it_can(tmp_path, max_sample, bits):
    # Neither a statistic, nor a depth of 8 bits, nor one that the samples exceed (511) does.
    picture, pixels = read(tmp_path, tiff(RAMP, tags={281: max_sample} if max_sample else {}))
    np.testing.assert_array_equal(pixels, rounded(RAMP[..., 0], 0, 2**bits - 1))
    assert facts(picture) == (bits, 0, 4095, (0, 2**bits - 1))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(tiff(RAMP), id="TIFF of 16 bits"),
        pytest.param(tiff(RAMP, bits=12), id="TIFF of 12 bits"),
        pytest.param(tiff(RAMP.astype(np.uint32)), id="TIFF of 32 bits"),
        pytest.param(tiff(np.repeat(RAMP, 3, axis=-1)), id="TIFF in colour"),
        pytest.param(png(RAMP, 0), id="PNG"),
        pytest.param(png(np.repeat(RAMP, 3, axis=-1), 2), id="PNG in colour"),
        pytest.param(b"P5 256 3 4095\n" + RAMP.astype(">u2").tobytes(), id="PGM of 4095"),
        pytest.param(b"P5 256 3 65535\n" + RAMP.astype(">u2").tobytes(), id="PGM of 65535"),
        pytest.param(b"P6 256 3 65535\n" + np.repeat(RAMP, 3, axis=-1).astype(">u2").tobytes(), id="PPM"),
        pytest.param(b"P2 256 3 4095\n" + b" ".join(b"%d" % value for value in RAMP.ravel()), id="PGM as text"),
    ],
)
def test_the_intensity_range_applies_to_every_file(tmp_path, content):
    picture, pixels = read(tmp_path, content, (1000, 3000))
    np.testing.assert_array_equal(pixels, rounded(RAMP[..., 0], 1000, 3000))
    assert facts(picture)[1:] == (0, 4095, (1000, 3000))


def test_the_intensity_range_leaves_pictures_of_8_bits_alone(tmp_path):
    values = RNG.integers(0, 256, (7, 9, 1), np.uint8)
    for content in (png(values, 0), tiff(values), b"P5 9 7 255\n" + values.tobytes()):
        picture, pixels = read(tmp_path, content, (0, 4095))
        np.testing.assert_array_equal(pixels, values[..., 0])
        assert facts(picture) == (8, values.min(), values.max(), (0, 255))


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("compressed", [False, True])
def test_signed_samples_need_a_range(tmp_path, dtype, order, compressed):
    values = RNG.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, (7, 9, 1), dtype, endpoint=True)
    content = tiff(values, order, compressed, tags=SIGNED)
    bits = np.iinfo(dtype).bits
    with pytest.raises(
        BadPictureError, match=f"signed integers of {bits} bits, of no known scale: set data.intensity_range$"
    ):
        read(tmp_path, content)
    picture, pixels = read(tmp_path, content, (-100, 100))
    np.testing.assert_array_equal(pixels, rounded(values[..., 0], -100, 100))
    assert facts(picture) == (bits, values.min(), values.max(), (-100, 100))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("compressed", [False, True])
def test_real_numbers_need_a_range(tmp_path, order, compressed):
    values = RNG.normal(size=(7, 9, 1)).astype(np.float32)
    content = tiff(values, order, compressed, tags=REAL)
    with pytest.raises(
        BadPictureError, match="^its pixels are real numbers, of no known scale: set data.intensity_range$"
    ):
        read(tmp_path, content)
    picture, pixels = read(tmp_path, content, (-1.5, 1))
    np.testing.assert_array_equal(pixels, rounded(values[..., 0], -1.5, 1))
    assert facts(picture) == (32, values.min(), values.max(), (-1.5, 1))
    values[3, 3] = np.nan
    with pytest.raises(BadPictureError, match="some of its pixels are not finite"):
        read(tmp_path, tiff(values, order, compressed, tags=REAL), (-1.5, 1))


def test_a_portable_float_map_needs_a_range(tmp_path):
    content = b"Pf 2 1 -1.0\n" + np.float32([0.5, 1]).tobytes()
    with pytest.raises(BadPictureError, match="real numbers, of no known scale"):
        read(tmp_path, content)
    np.testing.assert_array_equal(read(tmp_path, content, (0, 1))[1], [[128, 255]])


def test_32_bit_integers_count_as_16_bit_if_they_fit(tmp_path):
    np.testing.assert_array_equal(read(tmp_path, tiff(DEEP.astype(np.uint32)))[1], rounded(DEEP[..., 0], 0, 65535))
    large = DEEP.astype(np.uint32) << 16
    with pytest.raises(BadPictureError, match="more than 16 bits: set data.intensity_range"):
        read(tmp_path, tiff(large))
    picture, pixels = read(tmp_path, tiff(large), (0, 2**32 - 1))
    np.testing.assert_array_equal(pixels, rounded(large[..., 0], 0, 2**32 - 1))
    assert facts(picture) == (32, large.min(), large.max(), (0, 2**32 - 1))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("compressed", [False, True])
def test_colours_of_16_bits_in_tiff(tmp_path, order, compressed):
    picture, pixels = read(tmp_path, tiff(COLOURS, order, compressed))
    np.testing.assert_array_equal(pixels, rounded(COLOURS, 0, 65535))
    assert facts(picture) == (16, COLOURS.min(), COLOURS.max(), (0, 65535))
    rgba = np.concatenate([COLOURS, DEEP], axis=-1)
    opacity = DEEP / 65535
    expected = np.round(255 + (COLOURS / 257 - 255) * opacity)
    for extra in (2, 1):  # alpha beside the colours, or multiplied into them
        stored = rgba if extra == 2 else np.concatenate([np.round(COLOURS * opacity).astype(np.uint16), DEEP], axis=-1)
        _, pixels = read(tmp_path, tiff(stored, order, compressed, tags={338: extra}))
        np.testing.assert_allclose(pixels, expected, atol=0 if extra == 2 else 1)
    np.testing.assert_array_equal(
        read(tmp_path, tiff(rgba, order, compressed, tags={338: 0}))[1], rounded(COLOURS, 0, 65535)
    )


def test_colours_of_a_declared_depth(tmp_path):
    colours = COLOURS % 4096
    picture, pixels = read(tmp_path, tiff(colours, tags={281: (3, struct.pack("<HHH", 4095, 4095, 4095))}))
    np.testing.assert_array_equal(pixels, rounded(colours, 0, 4095))
    assert facts(picture) == (12, colours.min(), colours.max(), (0, 4095))


def test_planes_of_16_bits(tmp_path):
    reason = "^TIFF of 16 bits with a plane for each colour, not compressed, which is not supported$"
    with pytest.raises(BadPictureError, match=reason):
        read(tmp_path, tiff(COLOURS, tags={284: 2}))
    # Compressed ones keep their upper byte. Planes are strips of their own.
    planes = [zlib.compress(plane.tobytes()) for plane in np.moveaxis(COLOURS, -1, 0)]
    ends = np.cumsum([0] + [len(plane) for plane in planes])
    stored = np.frombuffer(b"".join(planes), np.uint8).reshape(1, -1, 1)
    tags = {
        256: 9,
        257: 7,
        258: (3, struct.pack("<HHH", 16, 16, 16)),
        259: 8,
        262: 2,
        273: (4, struct.pack("<III", *(8 + ends[:3]))),
        277: 3,
        278: 7,
        279: (4, struct.pack("<III", *np.diff(ends))),
        284: 2,
    }
    picture, pixels = read(tmp_path, tiff(stored, tags=tags))
    np.testing.assert_array_equal(pixels, COLOURS >> 8)
    assert picture.bits == 16


def test_colours_of_16_bits_in_png(tmp_path):
    picture, pixels = read(tmp_path, png(COLOURS, 2))
    np.testing.assert_array_equal(pixels, rounded(COLOURS, 0, 65535))
    assert facts(picture) == (16, COLOURS.min(), COLOURS.max(), (0, 65535))
    opacity = DEEP / 65535
    _, pixels = read(tmp_path, png(np.concatenate([COLOURS, DEEP], axis=-1), 6))
    np.testing.assert_array_equal(pixels, np.round(255 + (COLOURS / 257 - 255) * opacity))
    grey = COLOURS[..., :1]
    _, pixels = read(tmp_path, png(np.concatenate([grey, DEEP], axis=-1), 4))
    np.testing.assert_array_equal(pixels, np.round(255 + (grey / 257 - 255) * opacity)[..., 0])


def test_the_transparent_colour_of_16_bits_is_white(tmp_path):
    values = np.tile(np.uint16([[[257, 514, 771]]]), (2, 2, 1))
    values[0, 0, 2] += 1  # differs in the lower byte alone
    key = png_chunk(b"tRNS", struct.pack(">HHH", 257, 514, 771))
    _, pixels = read(tmp_path, png(values, 2, before=key))
    np.testing.assert_array_equal(pixels, [[[1, 2, 3], [255] * 3], [[255] * 3] * 2])


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(png(np.concatenate([COLOURS, 0 * DEEP], axis=-1), 6), id="RGBA"),
        pytest.param(tiff(np.concatenate([COLOURS, 0 * DEEP], axis=-1), tags={338: 2}), id="TIFF"),
    ],
)
def test_16_bit_alpha_of_zeros_is_ignored(tmp_path, content):
    np.testing.assert_array_equal(read(tmp_path, content)[1], rounded(COLOURS, 0, 65535))


def test_a_16_bit_transparent_grey_that_is_everywhere_is_ignored(tmp_path):
    grey = np.full((2, 3, 1), 25_700, np.uint16)
    content = png(grey, 0, before=png_chunk(b"tRNS", struct.pack(">H", 25_700)))
    np.testing.assert_array_equal(read(tmp_path, content)[1], np.full((2, 3), 100))


def test_deep_pictures_are_turned_upright(tmp_path):
    exif = b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"  # of orientation 6
    expected = np.rot90(rounded(COLOURS, 0, 65535), -1)
    np.testing.assert_array_equal(read(tmp_path, png(COLOURS, 2, before=png_chunk(b"eXIf", exif)))[1], expected)
    np.testing.assert_array_equal(read(tmp_path, tiff(COLOURS, tags={274: 6}))[1], expected)
    np.testing.assert_array_equal(read(tmp_path, tiff(COLOURS, compressed=True, tags={274: 6}))[1], expected)


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({258: 14}, r"TIFF of 14 bits \(Compression 1, PhotometricInterpretation 1, SampleFormat 1\), which is not"),
        ({258: 10}, "TIFF of 10 bits"),
        ({339: 4}, "SampleFormat 4"),
        ({259: 34712}, "Compression 34712"),
    ],
)
def test_a_tiff_of_another_layout_is_refused_by_name(tmp_path, tags, reason):
    with pytest.raises(BadPictureError, match=reason):
        read(tmp_path, tiff(DEEP, tags=tags))


def test_16_bit_cmyk_keeps_its_upper_byte(tmp_path):
    magenta = np.zeros((4, 4, 4), np.uint16)
    magenta[..., 1] = 65535
    np.testing.assert_array_equal(read(tmp_path, tiff(magenta, tags={262: 5}))[1], np.full((4, 4, 3), [255, 0, 255]))


def test_big_tiff_where_white_is_zero(tmp_path):
    values = DEEP[..., 0]
    Image.fromarray(values).save(tmp_path / "b.tif", big_tiff=True, tiffinfo={262: 0})
    content = (tmp_path / "b.tif").read_bytes()
    assert content[2] == 43  # BigTIFF
    np.testing.assert_array_equal(read(tmp_path, content)[1], rounded(values, 65535, 0))
