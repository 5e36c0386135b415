import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from brittle_jax.data.picture_file import BadPictureError, decoders_silenced, read_encoded
from brittle_jax.data.picture_metadata import jpeg_pixels, png_pixels, without_metadata
from brittle_jax.data.preprocess import decode
from tests.data.made_pictures import png, png_chunk, tiff

MAX_PIXELS = 1_000_000
UPRIGHT = np.repeat(np.tile(np.linspace(0, 255, 16).astype(np.uint8), (8, 1))[..., None], 3, axis=-1)
TURNED = np.rot90(UPRIGHT, -1)  # as orientation 6 asks for
EXIF_6 = b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"
XMP_6 = b'<x tiff:Orientation="6"/>'
LARGE = bytes(2_000_000)
PLAIN = png(UPRIGHT, 2)


def read(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    with decoders_silenced():
        return decode(read_encoded(tmp_path / "a", MAX_PIXELS))


def itxt(keyword, text):
    return png_chunk(b"iTXt", keyword + b"\0\1\0\0\0" + zlib.compress(text))


def ztxt(keyword, text):
    return png_chunk(b"zTXt", keyword + b"\0\0" + zlib.compress(text))


CHUNKS = {
    "large XMP": itxt(b"XML:com.adobe.xmp", LARGE),
    "large text": ztxt(b"Comment", LARGE),
    "more text than Pillow takes in all": ztxt(b"Comment", LARGE[:1_000_000]) * 70,
    "large profile": png_chunk(b"iCCP", b"icc\0\0" + zlib.compress(LARGE)),
    "text with a wrong checksum": png_chunk(b"tEXt", b"a\0b", checksum=1),
    "text that is not compressed": png_chunk(b"zTXt", b"a\0\0text"),
    "text of no known compression": png_chunk(b"zTXt", b"a\0\7text"),
    "text without a keyword": png_chunk(b"iTXt", b"a"),
    "profile of no known compression": png_chunk(b"iCCP", b"a\0\7text"),
    "profile that ends": png_chunk(b"iCCP", b"a"),
    "size that ends": png_chunk(b"pHYs", b"a"),
    "colours that end": png_chunk(b"cHRM", b"a"),
    "animation that ends": png_chunk(b"acTL", b"") + png_chunk(b"fcTL", b"a"),
    "EXIF without a header": png_chunk(b"eXIf", bytes([0, 8, 0, 2, 1, 0x12, 0, 3])),
    "EXIF with a wrong checksum": png_chunk(b"eXIf", EXIF_6, checksum=1),
    "EXIF as text that is no hexadecimal": ztxt(b"Raw profile type exif", b"\nexif\n 4\nzz"),
}


@pytest.mark.parametrize("kind", CHUNKS)
def test_what_png_holds_besides_its_pixels_is_neither_read_nor_stored(tmp_path, kind):
    for content in (png(UPRIGHT, 2, before=CHUNKS[kind]), png(UPRIGHT, 2, after=CHUNKS[kind])):
        (tmp_path / "a.png").write_bytes(content)
        assert read_encoded(tmp_path / "a.png", MAX_PIXELS) == PLAIN


def test_the_chunks_that_carry_pixels_stay():
    palette = png_chunk(b"PLTE", bytes(6)) + png_chunk(b"tRNS", b"\0")
    content = png(UPRIGHT[..., :1] % 2, 3, before=palette)
    assert png_pixels(content) is content
    assert png_pixels(png(UPRIGHT[..., :1] % 2, 3, before=CHUNKS["large text"] + palette)) == content


@pytest.mark.parametrize("length", [*range(60), len(PLAIN) - 13, len(PLAIN) - 1])
def test_chunks_that_do_not_join_come_back_unchanged(length):
    assert without_metadata(PLAIN[:length]) == PLAIN[:length]


def test_damaged_pixels_are_still_damage(tmp_path):
    for content in (PLAIN[:-30], PLAIN.replace(b"IHDR", b"IHDr"), png(UPRIGHT, 2, before=CHUNKS["large text"])[:-30]):
        with pytest.raises(BadPictureError, match="damaged|not a picture"):
            read(tmp_path, content)


def hexadecimal(exif):
    exif = b"Exif\0\0" + exif
    return b"\nexif\n%8d\n%s\n" % (len(exif), exif.hex().encode())


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param(png_chunk(b"eXIf", EXIF_6), id="EXIF"),
        pytest.param(ztxt(b"Raw profile type exif", hexadecimal(EXIF_6)), id="EXIF as text"),
        pytest.param(itxt(b"XML:com.adobe.xmp", XMP_6), id="XMP"),
        pytest.param(png_chunk(b"eXIf", EXIF_6) + CHUNKS["large XMP"], id="EXIF beside what cannot be read"),
    ],
)
def test_the_orientation_of_png_is_applied_wherever_it_is_stored(tmp_path, chunks):
    np.testing.assert_array_equal(read(tmp_path, png(UPRIGHT, 2, before=chunks)), TURNED)
    np.testing.assert_array_equal(read(tmp_path, png(UPRIGHT, 2, after=chunks)), TURNED)


def saved(kind, **settings):
    buffer = io.BytesIO()
    Image.fromarray(UPRIGHT).save(buffer, kind, **settings)
    return buffer.getvalue()


def with_exif(kind, exif):
    """Returns the picture as a file with any bytes for its EXIF."""
    if kind == "PNG":
        return png(UPRIGHT, 2, before=png_chunk(b"eXIf", exif))
    return saved(kind, exif=b"Exif\0\0" + exif, **({"lossless": True} if kind == "WEBP" else {"quality": 100}))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize(
    "exif",
    [
        pytest.param(bytes([0, 8, 0, 2, 1, 0x12, 0, 3]), id="no header"),
        pytest.param(b"", id="empty"),
        pytest.param(b"MM\0*\xff\xff\xff\xff", id="leads beyond the end"),
        pytest.param(EXIF_6[:-10], id="cut off"),
        pytest.param(EXIF_6.replace(b"\0\6\0\0", b"\0\x63\0\0"), id="orientation 99"),
        pytest.param(EXIF_6.replace(b"\x12\0\3", b"\x12\0\2"), id="orientation as text"),
    ],
)
def test_broken_exif_counts_as_upright(tmp_path, kind, exif):
    np.testing.assert_allclose(read(tmp_path, with_exif(kind, exif)).astype(int), UPRIGHT, atol=4)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_sound_exif_is_applied_in_every_format(tmp_path, kind):
    np.testing.assert_allclose(read(tmp_path, with_exif(kind, EXIF_6)).astype(int), TURNED, atol=4)


@pytest.mark.parametrize("compressed", [False, True])
def test_broken_metadata_of_tiff_does_not_spoil_its_pixels(tmp_path, compressed):
    np.testing.assert_array_equal(read(tmp_path, tiff(UPRIGHT, compressed=compressed, tags={274: 6})), TURNED)
    nowhere, text, blob = (4, struct.pack("<I", 10**9)), (2, b'tiff:Orientation="6\xff\0'), (7, LARGE)
    broken = ({34665: nowhere}, {34853: nowhere}, {274: 99}, {274: (2, b"6\0")}, {700: text})
    for tags in (*broken, {700: blob}, {34675: blob}, {33723: blob}, {34377: blob}):
        np.testing.assert_array_equal(read(tmp_path, tiff(UPRIGHT, compressed=compressed, tags=tags)), UPRIGHT)


def segment(marker, content):
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content


@pytest.mark.parametrize(
    "segments",
    [
        pytest.param(segment(0xE2, b"ICC_PROFILE\0"), id="profile that ends"),
        pytest.param(segment(0xE2, b"ICC_PROFILE\0\5\3profile"), id="profile without its beginning"),
        pytest.param(segment(0xE0, b"JFIF"), id="JFIF that ends"),
        pytest.param(segment(0xEE, b"Adobe"), id="Adobe's that ends"),
        pytest.param(segment(0xE2, b"MPF\0MM"), id="list of pictures that ends"),
        pytest.param(segment(0xED, b"Photoshop 3.0\x008BIM\4"), id="Photoshop's that ends"),
        pytest.param(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0\xff\xfe"), id="XMP that is no text"),
        pytest.param(segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + LARGE[:65_000]) * 40, id="large XMP"),
        pytest.param(segment(0xFE, LARGE[:65_000]) * 40, id="large comments"),
    ],
)
def test_broken_metadata_of_jpeg_does_not_spoil_its_pixels(tmp_path, segments):
    content = saved("JPEG", quality=100)
    picture = read(tmp_path, content[:2] + segments + content[2:])
    np.testing.assert_array_equal(picture, decode(content))


def test_sound_segments_of_jpeg_stay():
    content = saved("JPEG", exif=b"Exif\0\0" + EXIF_6, icc_profile=bytes(100), comment="text")
    assert jpeg_pixels(content) is content
    assert jpeg_pixels(content[:2] + segment(0xEE, b"Adobe") + content[2:]) == content
    for length in range(len(content)):
        assert jpeg_pixels(content[:length]) == content[:length]


@pytest.mark.parametrize("kind", ["xmp", "icc_profile"])
def test_large_metadata_of_webp_does_not_spoil_its_pixels(tmp_path, kind):
    np.testing.assert_array_equal(read(tmp_path, saved("WEBP", lossless=True, **{kind: LARGE})), UPRIGHT)
