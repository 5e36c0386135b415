"""Pictures whose samples are not plain bytes but more than 8 bits, signed integers or real numbers: values and scale.

Pillow reads 16-bit colour in PNG and TIFF as 8 bits, and ignores most tags by which a TIFF file says what its numbers
mean (TIFF 6.0, Adobe 1992, sections 8 and 19). This module reads both.
"""

import contextlib
import dataclasses
import io
import struct
import sys

import numpy as np
from PIL import Image

_BITS, _COMPRESSION, _PHOTOMETRIC, _MAX_SAMPLE, _PLANAR, _FORMAT = 258, 259, 262, 281, 284, 339  # TIFF tags
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _SEPARATE_PLANES, _SIGNED, _REAL = 0, 1, 2, 2, 3  # and some of their values
_LITTLE_ENDIAN = sys.byteorder == "little"
_OTHER_BYTE = {"B": "L", "L": "B", "N": "B" if _LITTLE_ENDIAN else "L"}  # of 16 bits, by Pillow's names of layouts
# libtiff swaps the bytes itself, which Pillow allows for in unsigned samples only.
_AFTER_LIBTIFF = {"I;16BS": "I;16NS", "I;32BS": "I;32NS", "F;32BF": "F;32NF"}

NOT_SUPPORTED = "which is not supported"  # how the reason ends if another program can convert the file


class BadPictureError(Exception):
    """A file cannot be read as a picture; the message says why in a few words."""


@dataclasses.dataclass(frozen=True)
class Samples:
    """The samples of a picture as its file has them, upright or not.

    Attributes:
        values: [H, W, 1 or 3], integers or real numbers.
        bits: depth that the file declares.
        scale: the values of black and white that the file declares; None if they are unknown.
        unknown: why they are unknown.
        alpha: [H, W, 1], from 0, transparent, to 1; None if all is opaque.
    """

    values: np.ndarray
    bits: int
    scale: tuple[float, float] | None
    unknown: str = ""
    alpha: np.ndarray | None = None

    def to_8_bits(self, scale: tuple[float, float]) -> np.ndarray:
        """Returns [H, W, 1 or 3] uint8, with transparent pixels over white.

        Args:
            scale: the values that become 0 and 255, in either order. Values beyond them are clipped.
        """
        black, white = scale
        result = np.empty(self.values.shape, np.uint8)
        for row, values in enumerate(self.values):  # line by line: all real numbers at once would fill the memory
            grey = np.clip((values.astype(np.float64) - black) * (255 / (white - black)), 0, 255)
            if self.alpha is not None:
                grey = 255 + (grey - 255) * self.alpha[row]
            result[row] = np.rint(grey)
        return result


def read_samples(content: bytes, image: Image.Image) -> Samples | None:
    """Returns the samples of a picture; None if they are unsigned and of 8 bits or fewer, which Pillow reads.

    16-bit CMYK is also left to Pillow, which keeps the upper 8 bits.

    Args:
        content: of the file, after `black_is_zero`.
        image: the same, opened by Pillow but not loaded.

    Raises:
        BadPictureError: for a layout that Pillow would read wrongly.
    """
    readers = {"PNG": _of_png, "TIFF": _of_tiff, "PPM": _of_ppm}
    samples = readers[image.format](content, image) if image.format in readers else None
    if samples is not None and samples.values.dtype.kind == "f" and not np.isfinite(samples.values).all():
        raise BadPictureError("some of its pixels are not finite")
    return samples


def tiff_tags(content: bytes) -> dict[int, tuple[int, int]]:
    """Returns the integer tags of the first picture of a TIFF file; none for another file.

    Maps the number of each tag to its first value and where that is in the file. Damaged tags are left out: decoding
    the picture will report them.
    """
    if content[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return {}
    order, is_big = ">" if content.startswith(b"M") else "<", b"+" in content[:4]  # BigTIFF
    # Where the file gives the place of its tags; the types of offsets and of the number of tags; the size of a tag, and
    # where in it is its value, or the offset of its values (TIFF 6.0, section 2).
    place, word, count, size, inside = (8, "Q", "Q", 20, 12) if is_big else (4, "I", "H", 12, 8)
    tags = {}
    with contextlib.suppress(struct.error):  # the end of the file
        (begin,) = struct.unpack_from(order + word, content, place)
        (number_of_tags,) = struct.unpack_from(order + count, content, begin)
        begin += struct.calcsize(order + count)
        for tag in range(begin, begin + min(number_of_tags, 65_535) * size, size):
            number, kind, length = struct.unpack_from(f"{order}HH{word}", content, tag)
            letter, at = {3: "H", 4: "I"}.get(kind), tag + inside
            if letter is None:
                continue
            if length * struct.calcsize(order + letter) > struct.calcsize(order + word):
                (at,) = struct.unpack_from(order + word, content, at)
            tags[number] = struct.unpack_from(order + letter, content, at)[0], at
    return tags


def black_is_zero(content: bytes) -> tuple[bytes, bool]:
    """Returns a TIFF file declared so that small values are dark, and whether they were declared bright.

    Pillow knows only some kinds of WhiteIsZero, and honours it up to 8 bits only. Those files are left to it.
    """
    tags = tiff_tags(content)
    photometric, at = tags.get(_PHOTOMETRIC, (None, 0))
    if photometric != _WHITE_IS_ZERO or tags.get(_BITS, (1, 0))[0] <= 8:
        return content, False
    order = ">" if content.startswith(b"M") else "<"
    return content[:at] + struct.pack(order + "H", _BLACK_IS_ZERO) + content[at + 2 :], True


def load(image: Image.Image) -> None:
    """Decodes an opened picture, whatever its metadata. TIFF comes out upright, other formats as stored."""
    if image.format == "TIFF":  # decoding looks at its EXIF again, and then takes what is cached
        with contextlib.suppress(Exception):
            image.getexif()
    image.load()


def _of_png(content: bytes, image: Image.Image) -> Samples | None:
    layout = image.tile[0].args
    if ";16" not in layout:
        return None
    if layout == "I;16B":
        values, alpha = _decode(content, layout)[..., None], None
    elif layout == "LA;16B":  # four bytes, of which Pillow takes two
        values, alpha = np.split(_decode(content, "RGBA").view(">u2"), [1], axis=-1)
    else:
        values, alpha = _colours_of_16_bits(content, layout)
    if "transparency" in image.info:  # the grey value or colour that is transparent
        is_visible = np.any(values != np.array(image.info["transparency"]), axis=-1, keepdims=True)
        alpha = is_visible * np.uint16(65535)
    return Samples(values, 16, (0, 65535), alpha=_opacity(alpha))


def _of_tiff(content: bytes, image: Image.Image) -> Samples | None:
    tags, layout = image.tag_v2, image.tile[0].args[0]
    bits, sample_format = max(tags.get(_BITS, (1,))), max(tags.get(_FORMAT, (1,)))
    is_compressed = tags.get(_COMPRESSION, 1) != 1
    if image.mode == "CMYK" or (bits <= 8 and sample_format != _SIGNED):
        return None
    if image.mode not in ("RGB", "RGBA"):
        values, alpha = _decode(content, _AFTER_LIBTIFF.get(layout, layout) if is_compressed else layout), None
        values = values[..., None]
    elif tags.get(_PLANAR) != _SEPARATE_PLANES:
        values, alpha = _colours_of_16_bits(content, layout)
    elif is_compressed:  # only the upper bytes can be had
        values, alpha, _ = np.split(_decode(content, layout).astype(np.uint16) * 257, [3, 4], axis=-1)
    else:  # Pillow takes the bytes of such a file for whole samples
        raise BadPictureError(f"TIFF of {bits} bits with a plane for each colour, not compressed, {NOT_SUPPORTED}")
    if sample_format == _REAL:
        return Samples(values, bits, None, "are real numbers, of no known scale")
    if sample_format == _SIGNED:
        values = values.view(np.int8) if bits == 8 else values
        return Samples(values, bits, None, f"are signed integers of {bits} bits, of no known scale")
    if bits > 16:
        values = values.view(np.uint32)
        fits = values.max() <= 65535
        return Samples(values, bits, (0, 65535) if fits else None, "have more than 16 bits")
    bits = _declared_bits(bits, int(np.max(tags.get(_MAX_SAMPLE, 0))), values)
    return Samples(values, bits, (0, 2**bits - 1), alpha=_opacity(alpha))


def _declared_bits(bits: int, max_sample: int, values: np.ndarray) -> int:
    """Returns the depth of unsigned samples stored in `bits` bits, which their MaxSampleValue may declare.

    The specification makes that tag a statistic, but cameras of 10 to 14 bits declare their depth with it. So it counts
    if it is 2^k - 1 with 8 < k < 16 and no sample is larger.
    """
    declared = max_sample.bit_length()
    is_depth = 8 < declared < bits and max_sample == 2**declared - 1 and values.max() <= max_sample
    return declared if is_depth else bits


def _of_ppm(content: bytes, image: Image.Image) -> Samples | None:
    tile, bands = image.tile[0], len(image.getbands())
    if image.mode == "F":
        load(image)
        return Samples(np.asarray(image)[..., None], 32, None, "are real numbers, of no known scale")
    maximum = tile.args[1] if isinstance(tile.args, tuple) else 65535 if tile.args == "I;16B" else 255
    if maximum <= 255 or (tile.codec_name == "ppm_plain" and bands == 3):
        return None
    if tile.codec_name == "ppm_plain":  # numbers as text, which Pillow scales to 65535
        load(image)
        values = np.rint(np.asarray(image) * (maximum / 65535)).astype(np.uint16)[..., None]
    else:
        values = np.frombuffer(content, ">u2", image.width * image.height * bands, tile.offset)
        values = values.reshape(image.height, image.width, bands)
    return Samples(values, maximum.bit_length(), (0, maximum))


def _colours_of_16_bits(content: bytes, layout: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns [H, W, 3] uint16 and the alpha channel [H, W, 1], if there is one.

    Pillow keeps the upper byte of each sample. Told the opposite byte order, it keeps the lower one.
    """
    straight = layout.replace("RGBa", "RGBA")
    upper, lower = _decode(content, straight), _decode(content, straight[:-1] + _OTHER_BYTE[straight[-1]])
    values = upper.astype(np.uint16) << 8 | lower
    if values.shape[-1] == 3:
        return values, None
    colours, alpha = values[..., :3], values[..., 3:]
    if layout != straight:  # "RGBa": colours that were multiplied by their alpha
        colours = np.where(alpha > 0, np.minimum(colours * np.float32(65535) / np.maximum(alpha, 1), 65535), colours)
        colours = np.rint(colours).astype(np.uint16)
    return colours, alpha


def _decode(content: bytes, layout: str) -> np.ndarray:
    """Decodes PNG or TIFF with samples in the layout that Pillow calls a "raw mode"."""
    with Image.open(io.BytesIO(content), formats=("PNG", "TIFF")) as image:
        image.tile = [
            tile._replace(args=layout if isinstance(tile.args, str) else (layout, *tile.args[1:]))
            for tile in image.tile
        ]
        load(image)
        return np.asarray(image)


def _opacity(alpha: np.ndarray | None) -> np.ndarray | None:
    """Returns alpha from 0 to 1; None if it is 0 everywhere, which means an unused channel, not an empty picture."""
    return None if alpha is None or not alpha.any() else alpha / np.float32(65535)
