"""Picture files as people have them: read right whatever their kind, or refused with the reason."""

import contextlib
import dataclasses
import pathlib
import stat
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageOps

from brittle_jax.data.preprocess import decode, encode_png

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm"))
# By what a file holds, not by its name, and none that can run code.
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM")
_PLAIN = {
    ("PNG", "RGB"),
    ("PNG", "L"),
    ("JPEG", "RGB"),
    ("JPEG", "L"),
    ("MPO", "RGB"),
}  # MPO: JPEGs of phones, with more behind
_ORIENTATION, _UPRIGHT = 0x0112, 1  # EXIF tag
_MOST_BYTES_PER_PIXEL, _BYTES_BESIDE_PIXELS = 8, 2**20  # four channels of 16 bits; headers, colour profiles
NOT_SUPPORTED = "which is not supported"  # how the reason ends where another program can convert the file
CANNOT_BE_READ = "cannot be read"  # how the reason begins where the file system is to blame, not the file


class BadPictureError(Exception):
    """A file that cannot be read as a picture; says why in a few words."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """What a file holds.

    Attributes:
        encoded: PNG or JPEG of 8 bits, grey or RGB, upright.
        height: upright, in pixels.
        width: upright, in pixels.
        bits: of each sample, as the file declares them; 8 where it has fewer.
        low: the smallest value of its samples, before they are scaled to 8 bits.
        high: the largest.
        scale: the values that become 0 and 255.
    """

    encoded: bytes
    height: int
    width: int
    bits: int
    low: float
    high: float
    scale: tuple[float, float]


def read_picture(file: pathlib.Path, max_pixels: int, intensity_range: tuple[float, float] | None = None) -> Picture:
    """Reads a picture file."""
    encoded = read_encoded(file, max_pixels)
    image = decode(encoded)
    return Picture(encoded, *image.shape[:2], 8, float(image.min()), float(image.max()), (0.0, 255.0))


@contextlib.contextmanager
def decoders_silenced() -> Iterator[None]:
    """Keeps the decoders' warnings from the terminal: to be held around all reading, in whatever thread it is done."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def read_encoded(file: pathlib.Path, max_pixels: int) -> bytes:
    """Reads a picture file as PNG or JPEG of 8 bits, grey or RGB, upright.

    Files that are such already come back byte for byte. Pixels of 16 bits are scaled to 8, transparent ones lie over
    white, palettes and CMYK become RGB, EXIF's orientation is applied, of several frames the first is taken.

    Args:
        max_pixels: width times height beyond which a file is refused, from its header, before anything is decoded.

    Raises:
        BadPictureError: where the file is not there or not readable, empty, not a picture, cut off or too large.
    """
    with _opened(file, max_pixels) as image:
        image.load()  # all of it: a file that was cut off fails here
        return file.read_bytes() if _is_plain(image) else encode_png(_to_rgb(image))


def size_of_encoded(file: pathlib.Path, max_pixels: int) -> int:
    """Returns how many bytes `read_encoded` gives at most, from the file's header; 0 where it will refuse the file."""
    try:
        with _opened(file, max_pixels) as image:
            return file.stat().st_size if _is_plain(image) else 3 * image.width * image.height + _BYTES_BESIDE_PIXELS
    except BadPictureError:
        return 0


@contextlib.contextmanager
def _opened(file: pathlib.Path, max_pixels: int) -> Iterator[Image.Image]:
    """Opens a picture, of which only the header is read yet; whatever fails inside is a BadPictureError."""
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait for ever
            raise BadPictureError("not a regular file")
        if not status.st_size:
            raise BadPictureError("empty file")
        if status.st_size > _MOST_BYTES_PER_PIXEL * max_pixels + _BYTES_BESIDE_PIXELS:
            raise BadPictureError(f"{status.st_size} bytes, more than a picture of data.max_image_pixels has")
        with open(file, "rb") as content, Image.open(content, formats=_FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise BadPictureError(f"{image.width} x {image.height} pixels, more than data.max_image_pixels")
            yield image
    except BadPictureError:
        raise
    except Image.UnidentifiedImageError as error:
        raise BadPictureError("not a picture") from error
    except Image.DecompressionBombError as error:
        raise BadPictureError("too many pixels, a decompression bomb") from error
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        if isinstance(error, OSError) and error.errno is not None:
            raise BadPictureError(f"{CANNOT_BE_READ}: {error.strerror}") from error
        raise BadPictureError(f"damaged: {' '.join(str(error).split())[:80]}") from error


def _is_plain(image: Image.Image) -> bool:
    """Returns whether a file can stay as it is."""
    is_upright = image.getexif().get(_ORIENTATION, _UPRIGHT) == _UPRIGHT
    return (image.format, image.mode) in _PLAIN and is_upright and not image.has_transparency_data


def _to_rgb(image: Image.Image) -> np.ndarray:
    """Returns [H, W, 3] uint8."""
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise BadPictureError("its pixels are real numbers, of no known scale")
    if image.mode.startswith("I"):  # 16 bits, which Pillow may hold in 32
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise BadPictureError("its pixels have more than 16 bits")
        values = np.where(values == image.info.get("transparency", -1), 65535, values)  # one grey value, in PNG
        return np.repeat(((values * 255 + 32767) // 65535).astype(np.uint8)[..., None], 3, axis=-1)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))
