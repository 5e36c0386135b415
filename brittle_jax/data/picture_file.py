"""Picture files as people have them: read right whatever their kind, or refused with the reason."""

import io
import pathlib

import numpy as np
from PIL import Image, ImageOps

from brittle_jax.data.preprocess import encode_png

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm"))
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


class BadPictureError(Exception):
    """A file that cannot be read as a picture; says why in a few words."""


def read_encoded(file: pathlib.Path, max_pixels: int) -> bytes:
    """Reads a picture file as PNG or JPEG of 8 bits, grey or RGB, upright.

    Files that are such already come back byte for byte. Pixels of 16 bits are scaled to 8, transparent ones lie over
    white, palettes and CMYK become RGB, EXIF's orientation is applied, of several frames the first is taken.

    Args:
        max_pixels: width times height beyond which a file is refused, from its header, before anything is decoded.

    Raises:
        BadPictureError: where the file is not there or not readable, empty, not a picture, cut off or too large.
    """
    try:
        encoded = file.read_bytes()
    except OSError as error:
        raise BadPictureError(f"cannot be read: {error.strerror}") from error
    if not encoded:
        raise BadPictureError("empty file")
    try:
        with Image.open(io.BytesIO(encoded), formats=_FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise BadPictureError(f"{image.width} x {image.height} pixels, more than data.max_image_pixels")
            image.load()  # all of it: a file that was cut off fails here
            upright = image.getexif().get(_ORIENTATION, _UPRIGHT) == _UPRIGHT
            if (image.format, image.mode) in _PLAIN and upright and not image.has_transparency_data:
                return encoded
            return encode_png(_to_rgb(image))
    except BadPictureError:
        raise
    except Image.UnidentifiedImageError as error:
        raise BadPictureError("not a picture") from error
    except Image.DecompressionBombError as error:
        raise BadPictureError("too many pixels, a decompression bomb") from error
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        raise BadPictureError(f"damaged: {' '.join(str(error).split())[:80]}") from error


def _to_rgb(image: Image.Image) -> np.ndarray:
    """Returns [H, W, 3] uint8."""
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise BadPictureError("its pixels are real numbers, of no known scale")
    if image.mode.startswith("I"):  # 16 bits, which Pillow may hold in 32
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise BadPictureError("its pixels have more than 16 bits")
        return np.repeat(((values * 255 + 32767) // 65535).astype(np.uint8)[..., None], 3, axis=-1)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))
