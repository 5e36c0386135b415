"""From encoded bytes to the uint8 array that a network sees, by one path for every image; and back to bytes."""

import base64
import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    import jax  # pages show pictures without it

# On a page, pictures with sides up to the first are kept as they are; those beyond the second are made smaller.
_SMALL_PIXELS, _LARGEST_SHOWN_PIXELS = 96, 320


def decode(encoded: bytes, side_pixels: int | None = None) -> np.ndarray:
    """Decodes a PNG or JPEG to [H, W, 3] uint8; grey images get three equal channels.

    Args:
        side_pixels: resize to [side_pixels, side_pixels, 3], bilinear and antialiased; None: keep the size.
    """
    with Image.open(io.BytesIO(encoded), formats=("PNG", "JPEG")) as image:
        if image.mode != "RGB":
            image = image.convert("RGB")
        if side_pixels is not None and image.size != (side_pixels, side_pixels):
            image = image.resize((side_pixels, side_pixels), Image.Resampling.BILINEAR)
        return np.asarray(image)


def encode_png(image: np.ndarray) -> bytes:
    """Encodes [H, W, 1 or 3] uint8 as PNG, favouring speed over size."""
    buffer = io.BytesIO()
    Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def data_uri(picture: np.ndarray) -> str:
    """Returns [H, W, 3] uint8 as a data URI: small pictures losslessly, larger ones as a JPEG of a few KB."""
    image, buffer = Image.fromarray(picture), io.BytesIO()
    if max(image.size) <= _SMALL_PIXELS:
        kind = "png"
        image.save(buffer, "PNG", optimize=True)
    else:
        kind = "jpeg"
        image.thumbnail((_LARGEST_SHOWN_PIXELS, _LARGEST_SHOWN_PIXELS))
        image.save(buffer, "JPEG", quality=80, optimize=True)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def to_unit_range(images: "jax.Array") -> "jax.Array":
    """Maps uint8 pixels to float32 in [0, 1], the scale of every network and gradient. Runs on the device."""
    return images.astype(np.float32) / 255
