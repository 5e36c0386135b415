"""Convolution that is as fast on a CPU as its matrix products are; on other devices it is XLA's own."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from brittle_jax.models import winograd

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_FEW_CHANNELS = 16  # with so few, the pixels under all places of a kernel together make one matrix product
# With fewer, channels in times channels out, Winograd's transforms cost about what they save. Backward they save less
# with few channels on either side: the 78 layers of DenseNet-161 that would gain, from 192 to 48, took six minutes to
# compile instead of two.
_LEAST_CHANNEL_PAIRS, _LEAST_CHANNELS_BACKWARD = 8192, 64

Strides = tuple[int, int]
Padding = tuple[tuple[int, int], tuple[int, int]]


def conv_general_dilated(
    images: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Sequence[tuple[int, int]], **unused: Any
) -> jax.Array:
    """Convolves images [N, H, W, C] with a kernel [height, width, C, F]; to be given to `flax.linen.Conv`.

    Result and gradients are those of `jax.lax.conv_general_dilated`, up to rounding. On a CPU, XLA's own convolution
    stays behind its matrix products, with respect to the kernel by a factor of up to 50 (benchmarks/NOTES.md). So a
    kernel of 1×1 is a matrix product, everywhere; on a CPU a kernel of 3×3 between many channels goes `winograd`'s way,
    and the gradient of any other kernel is a matrix product for each of its places.

    Args:
        unused: what flax passes beside these; nothing is dilated or grouped.
    """
    del unused
    strides, padding = tuple(strides), tuple((low, high) for low, high in padding)
    if kernel.shape[:2] == strides == (1, 1):
        return images @ kernel[0, 0]
    return _convolve(images, kernel, strides, padding)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(images: jax.Array, kernel: jax.Array, strides: Strides, padding: Padding) -> jax.Array:
    plain = functools.partial(_plain, strides=strides, padding=padding)
    suits = _suits_winograd(kernel, strides, padding)
    return jax.lax.platform_dependent(images, kernel, cpu=winograd.convolve if suits else plain, default=plain)


def _forward(images, kernel, strides, padding):
    return _convolve(images, kernel, strides, padding), (images, kernel)


def _backward(strides, padding, saved, gradient):
    def plain(images, kernel, gradient):
        return jax.vjp(functools.partial(_plain, strides=strides, padding=padding), images, kernel)[1](gradient)

    def by_winograd(images, kernel, gradient):
        image_gradient = winograd.convolve(gradient, kernel[::-1, ::-1].swapaxes(2, 3))
        return image_gradient, winograd.kernel_gradient(images, gradient)

    def by_products(images, kernel, gradient):
        image_gradient, _ = plain(images, kernel, gradient)  # XLA drops the other one, which nothing asks for
        return image_gradient, _kernel_gradient(images, gradient, kernel.shape, strides, padding)

    kernel = saved[1]
    suits = _suits_winograd(kernel, strides, padding) and min(kernel.shape[2:]) >= _LEAST_CHANNELS_BACKWARD
    on_cpu = by_winograd if suits else by_products
    return jax.lax.platform_dependent(*saved, gradient, cpu=on_cpu, default=plain)


_convolve.defvjp(_forward, _backward)


def _suits_winograd(kernel: jax.Array, strides: Strides, padding: Padding) -> bool:
    keeps_size = strides == (1, 1) and padding == ((1, 1), (1, 1))
    return kernel.shape[:2] == (3, 3) and keeps_size and math.prod(kernel.shape[2:]) >= _LEAST_CHANNEL_PAIRS


def _plain(images: jax.Array, kernel: jax.Array, strides: Strides, padding: Padding) -> jax.Array:
    return jax.lax.conv_general_dilated(images, kernel, strides, padding, dimension_numbers=_LAYOUT)


def _kernel_gradient(
    images: jax.Array, gradient: jax.Array, shape: tuple[int, ...], strides: Strides, padding: Padding
) -> jax.Array:
    """Returns the gradient of `_plain` with respect to a kernel of a shape [height, width, C, F]."""
    padded = jnp.pad(images, ((0, 0), *padding, (0, 0)))
    spans = [(size - 1) * stride + 1 for size, stride in zip(gradient.shape[1:3], strides, strict=True)]
    flat = gradient.reshape(-1, shape[-1])
    # Pixels that a place of the kernel meets, for each place: [N * rows * columns, C].
    places = [
        padded[:, row : row + spans[0] : strides[0], column : column + spans[1] : strides[1]].reshape(-1, shape[2])
        for row in range(shape[0])
        for column in range(shape[1])
    ]
    if shape[2] <= _FEW_CHANNELS:
        places = [jnp.concatenate(places, axis=-1)]
    return jnp.stack([place.T @ flat for place in places]).reshape(shape)
