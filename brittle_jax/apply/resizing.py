"""Pillow's bilinear resizing in JAX, bit for bit, so that an exported program can resize pictures by itself.

Pillow resizes along one axis, rounds to 8 bits, then resizes along the other. Each new pixel is a weighted mean of old
ones: a triangle of their distances, as wide as two old or two new pixels, whichever is more. Weights are rounded to 22
binary digits. All this is exact in integers, so it does not depend on the device.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

LARGEST_REDUCTION = 250  # old pixels for a new one; beyond, a float32 would not hold the sums below exactly

_WEIGHT_BITS = 22
_DIGIT_BITS = 7  # a digit of a weight and a pixel are exact in any type that a device multiplies matrices in


@functools.cache
def tall_is_vertical_first() -> bool:
    """Returns whether the installed Pillow, as from version 13, resizes vertically first where that shrinks more."""
    tall = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 16), np.uint8))
    in_one, in_two = (tall.resize((8, size), Image.Resampling.BILINEAR) for size in (8, 64))
    return in_one.tobytes() != in_two.resize((8, 8), Image.Resampling.BILINEAR).tobytes()


def resize(picture: jax.Array, size: jax.Array, side: int, *, tall_vertical_first: bool) -> jax.Array:
    """Resizes one picture to a square as `PIL.Image.resize` does with `BILINEAR`.

    Args:
        picture: [H, W, 3] uint8; what lies outside of `size` does not matter. H and W may be symbolic.
        size: [2] int32, height and width of the picture, at most `LARGEST_REDUCTION` times `side`.
        side: of the square in pixels.
        tall_vertical_first: as `tall_is_vertical_first` returns.

    Returns:
        [side, side, 3] uint8.
    """
    height, width = size
    across = functools.partial(_resize_axis, axis=1, length=width, side=side)
    down = functools.partial(_resize_axis, axis=0, length=height, side=side)
    if not tall_vertical_first:
        return down(across(picture))
    is_tall = (height > side) & (height - side > 2 * (width - side))
    return jax.lax.cond(is_tall, lambda each: across(down(each)), lambda each: down(across(each)), picture)


def _resize_axis(pixels: jax.Array, *, axis: int, length: jax.Array, side: int) -> jax.Array:
    """Resizes [H, W, 3] uint8 along one axis, of which the first `length` pixels count, to `side` pixels."""
    weights = _weights(pixels.shape[axis], length, side)
    mask = (1 << _DIGIT_BITS) - 1
    digits = jnp.stack([weights >> 2 * _DIGIT_BITS, weights >> _DIGIT_BITS & mask, weights & mask])
    subscripts = ("hwc,khs->kswc", "hwc,kws->khsc")[axis]
    sums = jnp.einsum(subscripts, pixels.astype(jnp.float32), digits.astype(jnp.float32)).astype(jnp.int32)
    total = (sums[0] << 2 * _DIGIT_BITS) + (sums[1] << _DIGIT_BITS) + sums[2]
    rounded = (total + (1 << (_WEIGHT_BITS - 1))) >> _WEIGHT_BITS
    return jnp.clip(rounded, 0, 255).astype(jnp.uint8)


def _weights(size: int, length: jax.Array, side: int) -> jax.Array:
    """Returns the weights [size, side] int32 of old pixels in new ones, times 2 ** 22; each column adds up to that."""
    old, new = (2 * jnp.arange(each, dtype=jnp.int32) + 1 for each in (size, side))  # centres, in half pixels
    distances = jnp.abs(old[:, None] * side - new[None] * length)  # times 2 · side
    shares = jnp.maximum(2 * jnp.maximum(length, side) - distances, 0)
    shares = jnp.where(old[:, None] < 2 * length, shares, 0)
    total = shares.sum(axis=0, keepdims=True)

    def next_digit(_: int, quotient_and_rest: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        """One step of a long division by `total`, which 32 bits do not hold at once."""
        quotient, rest = quotient_and_rest
        digit = (2 * rest >= total).astype(jnp.int32)
        return 2 * quotient + digit, 2 * rest - digit * total

    quotient, rest = jax.lax.fori_loop(0, _WEIGHT_BITS, next_digit, (jnp.zeros_like(shares), shares))
    return quotient + (2 * rest >= total)
