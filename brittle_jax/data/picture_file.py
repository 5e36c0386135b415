"""Picture files of all kinds: read correctly, or refused with the reason."""

import contextlib
import ctypes
import dataclasses
import io
import logging
import pathlib
import stat
import threading
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import Image

from brittle_jax.data.picture_metadata import turn_of, without_metadata
from brittle_jax.data.picture_samples import (
    NOT_SUPPORTED,
    BadPictureError,
    black_is_zero,
    load,
    read_samples,
    tiff_tags,
)
from brittle_jax.data.preprocess import encode_png

_READ = frozenset((".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm"))
_HEIC = frozenset((".heic", ".heif", ".hif", ".avif"))
_RAW = frozenset(  # what cameras write besides JPEG
    ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .iiq .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf .rw2 .rwl .sr2 .srf "
    ".srw .x3f".split()
)
SUFFIXES = _READ | _HEIC | _RAW  # of pictures, whether they are read or refused with the reason
CANNOT_BE_READ = "cannot be read"  # how the reason begins if the file system is to blame, not the file

# Recognised by content, not by name. None of them can run code.
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM")
# Formats and modes that can stay as they are. MPO: JPEGs of phones, followed by more.
_PLAIN = {("PNG", "RGB"), ("PNG", "L"), ("JPEG", "RGB"), ("JPEG", "L"), ("MPO", "RGB")}
_FTYP_BRANDS = {b"crx ": "raw photograph (CR3)", b"avif": "AVIF", b"avis": "AVIF"} | dict.fromkeys(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"mif2", b"msf1"), "HEIC"
)
_MOST_BYTES_PER_PIXEL, _BYTES_BESIDE_PIXELS = 8, 2**20  # four channels of 16 bits; headers, colour profiles


@dataclasses.dataclass(frozen=True)
class Picture:
    """What a file holds.

    Attributes:
        encoded: PNG or JPEG of 8 bits, grey or RGB, upright.
        height: of the upright picture, in pixels.
        width: of the upright picture, in pixels.
        bits: depth that the file declares: 12, 16, 32, ...; 8 if it is no more.
        low: the smallest value before conversion to 8 bits, not counting alpha.
        high: the largest.
        scale: the values that become 0 and 255. The first is the larger one if the file says that white is zero.
    """

    encoded: bytes
    height: int
    width: int
    bits: int
    low: float
    high: float
    scale: tuple[float, float]


def read_picture(file: pathlib.Path, max_pixels: int, intensity_range: tuple[float, float] | None = None) -> Picture:
    """Reads a picture file.

    PNG and JPEG of 8 bits, grey or RGB, stay as they are, except for what PNG holds besides the pixels. All others
    become PNG: values of more than 8 bits are scaled to 8, transparent pixels are laid over white, palettes and CMYK
    become RGB, the EXIF orientation is applied, and only the first of several frames is read. An alpha channel of zeros
    is ignored, and so is broken metadata.

    Args:
        max_pixels: a file whose header gives more pixels, width times height, is refused before anything is decoded.
        intensity_range: the values that become black and white in pictures of more than 8 bits, of signed integers and
            of real numbers. None: what the file declares by its bit depth, a TIFF's MaxSampleValue (281) of 2^k - 1, or
            a PPM's maximum; signed and real pictures declare nothing, and are refused.

    Raises:
        BadPictureError: if the file is missing, unreadable, empty, not a picture, cut off, too large, of an unsupported
            kind or of unknown scale.
    """
    with _refusals():
        decoded = _decode(file, max_pixels, intensity_range)
        encoded = decoded.plain or encode_png(np.asarray(decoded.image))
        width, height = decoded.image.size
        return Picture(encoded, height, width, decoded.bits, decoded.low, decoded.high, decoded.scale)


def read_pixels(
    file: pathlib.Path, max_pixels: int, intensity_range: tuple[float, float] | None = None
) -> tuple[np.ndarray, int]:
    """Returns the pixels [H, W, 3] uint8 that `read_picture` encodes, without encoding them, and the file's bit depth.

    Arguments and errors are those of `read_picture`.
    """
    with _refusals():
        decoded = _decode(file, max_pixels, intensity_range)
        return np.asarray(decoded.image.convert("RGB")), decoded.bits


@dataclasses.dataclass(frozen=True)
class _Decoded:
    """A picture of 8 bits, upright, and its file's content if that can stay as it is; the others as in `Picture`."""

    image: Image.Image
    plain: bytes | None
    bits: int
    low: float
    high: float
    scale: tuple[float, float]


def _decode(file: pathlib.Path, max_pixels: int, intensity_range: tuple[float, float] | None) -> _Decoded:
    content = _content(file, max_pixels)
    pixels, white_is_zero = black_is_zero(without_metadata(content))
    image = _open(pixels, file.suffix.lower(), max_pixels)
    samples = read_samples(pixels, image)
    if samples is None:
        return _of_bytes(image, pixels, content)
    scale = intensity_range or samples.scale
    if scale is None:
        raise BadPictureError(f"its pixels {samples.unknown}: set data.intensity_range")
    black, white = map(float, reversed(scale) if white_is_zero else scale)
    low, high = float(samples.values.min()), float(samples.values.max())
    rgb = np.broadcast_to(samples.to_8_bits((black, white)), (*samples.values.shape[:2], 3))
    upright = _upright(Image.fromarray(rgb), turn_of(image, content))
    return _Decoded(upright, None, samples.bits, low, high, (black, white))


def read_encoded(file: pathlib.Path, max_pixels: int) -> bytes:
    """Returns the `encoded` of `read_picture`."""
    return read_picture(file, max_pixels).encoded


@contextlib.contextmanager
def decoders_silenced() -> Iterator[None]:
    """Keeps off the terminal what the decoders print besides raising errors. Hold it around all reading.

    It works for all threads until the last holder leaves, and may be held several times at once. Warnings and messages
    of other libraries are left alone.
    """
    with _Silence.lock:
        _Silence.holders += 1
        if _Silence.holders == 1:
            _Silence.ends.enter_context(_pillow_silenced())
            _Silence.ends.enter_context(_libtiff_silenced())
    try:
        yield
    finally:
        with _Silence.lock:
            _Silence.holders -= 1
            if not _Silence.holders:
                _Silence.ends.close()


class _Silence:
    """What all holders of `decoders_silenced` share, because warning filters belong to the whole process."""

    lock = threading.Lock()
    holders = 0
    ends = contextlib.ExitStack()


@contextlib.contextmanager
def _pillow_silenced() -> Iterator[None]:
    logger = logging.getLogger("PIL")
    level = logger.level
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            logger.setLevel(level)


@contextlib.contextmanager
def _libtiff_silenced() -> Iterator[None]:
    """Removes the handlers by which the libtiff inside Pillow writes to the terminal, if they can be reached."""
    with contextlib.ExitStack() as stack:
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            with contextlib.suppress(OSError, AttributeError):  # linked in another way, so it writes
                set_handler = ctypes.CDLL(Image.core.__file__)[name]
                set_handler.restype, set_handler.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
                stack.callback(set_handler, set_handler(None))
        yield


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Turns every error inside into a BadPictureError."""
    try:
        yield
    except BadPictureError:
        raise
    except Image.DecompressionBombError as error:
        raise BadPictureError("too many pixels, a decompression bomb") from error
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        if isinstance(error, OSError) and error.errno is not None:
            raise BadPictureError(f"{CANNOT_BE_READ}: {error.strerror}") from error
        raise BadPictureError(f"damaged: {' '.join(str(error).split())[:80]}") from error


def _content(file: pathlib.Path, max_pixels: int) -> bytes:
    status = file.stat()
    if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait forever
        raise BadPictureError("not a regular file")
    if not status.st_size:
        raise BadPictureError("empty file")
    if status.st_size > _MOST_BYTES_PER_PIXEL * max_pixels + _BYTES_BESIDE_PIXELS:
        raise BadPictureError(f"{status.st_size} bytes, more than a picture of data.max_image_pixels has")
    return file.read_bytes()


def _open(content: bytes, suffix: str, max_pixels: int) -> Image.Image:
    """Opens a picture, reading only its header."""
    if kind := _unsupported_kind(content, suffix):
        raise BadPictureError(f"{kind}, {NOT_SUPPORTED}")
    try:
        image = Image.open(io.BytesIO(content), formats=_FORMATS)
    except (Image.UnidentifiedImageError, KeyError) as error:  # the latter for a compression unknown to Pillow
        raise BadPictureError(_why_unknown(content)) from error
    if image.width * image.height > max_pixels:
        raise BadPictureError(f"{image.width} x {image.height} pixels, more than data.max_image_pixels")
    return image


def _unsupported_kind(content: bytes, suffix: str) -> str:
    """Returns the kind of a picture that no decoder here reads; empty for all other files."""
    if content[4:8] == b"ftyp":  # its brands follow, four letters each
        brands = content[8 : max(12, min(int.from_bytes(content[:4]), 256))]
        for brand, kind in _FTYP_BRANDS.items():
            if brand in brands:
                return kind
    if suffix in _RAW and not content.startswith((b"\xff\xd8", b"\x89PNG")):  # many are TIFF with a small preview
        return f"raw photograph ({suffix[1:].upper()})"
    return ""


def _why_unknown(content: bytes) -> str:
    value_of = {tag: value for tag, (value, _) in tiff_tags(content).items()}
    if not {256, 257}.issubset(value_of):  # width and height
        return "not a picture"
    names = {"Compression": 259, "PhotometricInterpretation": 262, "SampleFormat": 339}
    values = ", ".join(f"{name} {value_of.get(tag, 1)}" for name, tag in names.items())
    return f"TIFF of {value_of.get(258, 1)} bits ({values}), {NOT_SUPPORTED}"


def _of_bytes(image: Image.Image, pixels: bytes, content: bytes) -> _Decoded:
    """Returns a picture that Pillow decodes to 8-bit values."""
    load(image)
    turn = turn_of(image, content)
    plain = pixels if _is_plain(image, turn) else None
    image = image if plain else to_rgb(image)
    extrema = np.ravel(image.getextrema())
    return _Decoded(_upright(image, turn), plain, 8, float(extrema.min()), float(extrema.max()), (0.0, 255.0))


def _is_plain(image: Image.Image, turn: Image.Transpose | None) -> bool:
    """Returns whether a file can stay as it is."""
    return (image.format, image.mode) in _PLAIN and turn is None and not image.has_transparency_data


def to_rgb(image: Image.Image) -> Image.Image:
    """Returns a picture of 8 bits as RGB: transparent pixels over white; an alpha of zeros everywhere is ignored."""
    if image.has_transparency_data:
        image = image.convert("LA" if image.mode == "La" else "RGBA").convert("RGBA")
        if image.getchannel("A").getextrema()[1] > 0:  # an alpha channel of zeros is one that nobody filled
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _upright(image: Image.Image, turn: Image.Transpose | None) -> Image.Image:
    return image if turn is None else image.transpose(turn)
