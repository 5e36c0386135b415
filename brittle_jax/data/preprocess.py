"""From encoded bytes to the uint8 array that a network sees, one path for every image; and back to bytes."""

import io

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image


def decode(encoded: bytes) -> np.ndarray:
    """Decodes a PNG or JPEG to [H, W, 3] uint8; grey images get three equal channels."""
    with Image.open(io.BytesIO(encoded), formats=("PNG", "JPEG")) as image:
        return np.asarray(image.convert("RGB"))


def encode_png(image: np.ndarray) -> bytes:
    """Encodes [H, W, 1 or 3] uint8 as PNG, fast rather than small."""
    buffer = io.BytesIO()
    Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def resize(image: np.ndarray, side_pixels: int) -> np.ndarray:
    """Resizes [H, W, 3] uint8 to [side_pixels, side_pixels, 3], bilinear and antialiased."""
    if image.shape[:2] == (side_pixels, side_pixels):
        return image
    resized = Image.fromarray(image).resize((side_pixels, side_pixels), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def to_unit_range(images: jax.Array) -> jax.Array:
    """Maps uint8 pixels to float32 in [0, 1], the scale of every network and gradient; on the device."""
    return images.astype(jnp.float32) / 255
