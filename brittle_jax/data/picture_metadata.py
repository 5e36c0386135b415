"""What a picture file holds besides its pixels: its orientation, and much that must not spoil a sound picture."""

import contextlib
import io
import struct
import zlib

from PIL import Image

_PNG_BEGINS = b"\x89PNG\r\n\x1a\n"
_PNG_PIXELS = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"))
_PNG_EXIF, _PNG_TEXTS = b"eXIf", (b"tEXt", b"zTXt", b"iTXt")
_PNG_TELLS_ORIENTATION = (_PNG_EXIF, b"Raw profile type exif", b"XML:com.adobe.xmp")
# Segments of JPEG: marker, how the content begins, and its least length.
_JPEG_LEAST = ((0xE0, b"JFIF", 7), (0xE2, b"ICC_PROFILE\0", 14), (0xEE, b"Adobe", 7))
_ORIENTATION = 0x0112  # EXIF tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def without_metadata(content: bytes) -> bytes:
    """Returns a file without the metadata that could keep Pillow from reading it; unchanged if there is none."""
    return jpeg_pixels(png_pixels(content))


def png_pixels(content: bytes, *beside: bytes) -> bytes:
    """Returns a PNG file without the chunks that carry no pixels, such as text and colour profiles, sound or not.

    Of an animation the first picture stays. The file comes back unchanged if there is nothing to leave out, its chunks
    do not join, or it is no PNG.

    Args:
        beside: kinds of chunks to keep too, if their checksums are right.
    """
    if not content.startswith(_PNG_BEGINS):
        return content
    kept, start, kind = [_PNG_BEGINS], len(_PNG_BEGINS), b""
    while kind != b"IEND":
        if start + 12 > len(content):
            return content
        length, kind = struct.unpack_from(">I4s", content, start)
        chunk = content[start : start + 12 + length]
        start += len(chunk)
        if kind in _PNG_PIXELS or (kind in beside and zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:])):
            kept.append(chunk)
    return content if sum(map(len, kept)) == len(content) else b"".join(kept)


def jpeg_pixels(content: bytes) -> bytes:
    """Returns a JPEG file without segments that are too short for what they claim to be, which Pillow trips over.

    All other files come back unchanged.
    """
    if not content.startswith(b"\xff\xd8"):
        return content
    kept, start = [content[:2]], 2
    while content[start : start + 1] == b"\xff" and content[start + 1 : start + 2] not in (b"\xda", b"\xff", b""):
        end = start + 2 + int.from_bytes(content[start + 2 : start + 4])
        if end > len(content):
            return content
        segment, start = content[start:end], end
        marker, body = segment[1], segment[4:]
        if not any(marker == of and body.startswith(name) and len(body) < least for of, name, least in _JPEG_LEAST):
            kept.append(segment)
    kept.append(content[start:])
    return content if sum(map(len, kept)) == len(content) else b"".join(kept)


def turn_of(image: Image.Image, content: bytes) -> Image.Transpose | None:
    """Returns what turns a picture upright, according to EXIF or XMP; None if it is upright, or they cannot be read.

    Args:
        image: the loaded picture; of a PNG, without its metadata.
        content: of the whole file.
    """
    if image.format == "TIFF":  # Pillow has turned it
        return None
    if image.format != "PNG":
        return _turn(image)
    # Pillow also looks for EXIF as text, and for XMP.
    if any(words in content for words in _PNG_TELLS_ORIENTATION):
        for beside in ((_PNG_EXIF, *_PNG_TEXTS), (_PNG_EXIF,)):  # texts may be unreadable
            candidate = png_pixels(content, *beside)
            with contextlib.suppress(Exception), Image.open(io.BytesIO(candidate), formats=("PNG",)) as whole:
                whole.load()
                return _turn(whole)
    return None


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION))
    except Exception:  # struct.error, SyntaxError, ValueError, ...: broken metadata, while the pixels are sound
        return None
