"""PNG and TIFF files with what Pillow does not write: any chunk, any tag."""

import struct
import zlib

import numpy as np


def png_chunk(kind, content, checksum=None):
    checksum = zlib.crc32(kind + content) if checksum is None else checksum
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png(values, colour_type, before=b"", after=b""):
    """Returns [H, W, C] uint8 or uint16 as PNG, its rows filtered in turns, with chunks around the pixels."""
    height, width, channels = values.shape
    size = values.dtype.itemsize
    rows = np.frombuffer(values.astype(f">u{size}").tobytes(), np.uint8).reshape(height, -1).astype(int)
    left = np.pad(rows, ((0, 0), (channels * size, 0)))[:, : rows.shape[1]]
    above = np.pad(rows, ((1, 0), (0, 0)))[:height]
    filtered = [rows, rows - left, rows - above]
    content = b"".join(
        bytes([row % 3]) + (filtered[row % 3][row] % 256).astype(np.uint8).tobytes() for row in range(height)
    )
    header = struct.pack(">IIBBBBB", width, height, 8 * size, colour_type, 0, 0, 0)
    chunks = (png_chunk(b"IHDR", header), before, png_chunk(b"IDAT", zlib.compress(content)), after)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + png_chunk(b"IEND", b"")


def tiff(values, order="<", compressed=False, bits=None, tags=()):
    """Returns [H, W, C] as TIFF, grey with BlackIsZero or RGB.

    Args:
        order: of the bytes, "<" or ">".
        compressed: by Deflate.
        bits: of each sample; 12 are packed.
        tags: more of them, or others, as number to (type, bytes).
    """
    height, width, channels = values.shape
    bits = bits or 8 * values.dtype.itemsize
    if bits == 12:
        each_bit = (values.reshape(height, -1, 1) >> np.arange(11, -1, -1)) & 1
        content = np.packbits(each_bit.astype(np.uint8).reshape(height, -1), axis=-1).tobytes()
    else:
        content = values.astype(values.dtype.newbyteorder(order)).tobytes()
    content = zlib.compress(content) if compressed else content

    def short(*numbers):
        return 3, struct.pack(f"{order}{len(numbers)}H", *numbers)

    all_tags = {
        256: short(width),
        257: short(height),
        258: short(*[bits] * channels),
        259: short(8 if compressed else 1),
        262: short(2 if channels > 1 else 1),
        273: (4, struct.pack(f"{order}I", 8)),
        277: short(channels),
        278: short(height),
        279: (4, struct.pack(f"{order}I", len(content))),
    } | {number: short(value) if isinstance(value, int) else value for number, value in dict(tags).items()}
    body = content + bytes(len(content) % 2)
    entries = b""
    for number, (kind, value) in sorted(all_tags.items()):
        count = len(value) // {1: 1, 2: 1, 3: 2, 4: 4, 7: 1}[kind]
        if len(value) > 4:
            body, value = body + value + bytes(len(value) % 2), struct.pack(f"{order}I", 8 + len(body))
        entries += struct.pack(f"{order}HHI", number, kind, count) + value.ljust(4, b"\0")
    begin = struct.pack(f"{order}HI", 42, 8 + len(body))
    return {"<": b"II", ">": b"MM"}[order] + begin + body + struct.pack(f"{order}H", len(all_tags)) + entries + bytes(4)
