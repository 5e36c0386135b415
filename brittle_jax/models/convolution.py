"""Convolution by matrix products, which a CPU is fast at; with kernels larger than 1×1 it is XLA's own elsewhere."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from brittle_jax.models import winograd

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_FEW_CHANNELS = 16  # with so few, the pixels under all places of a kernel together make one matrix product
_LEAST_FEATURES = 32  # with fewer out, XLA's own gradient with respect to the kernel is the faster one
# With fewer, channels in times channels out, Winograd's transforms cost about what they save. Backward they save less
# with few channels on either side: the 78 layers of DenseNet-161 that would gain, from 192 to 48, took six minutes to
# compile instead of two.
_LEAST_CHANNEL_PAIRS, _LEAST_CHANNELS_BACKWARD = 8192, 64
# With fewer tiles, transforming the kernel costs nearly what the products save (all of DenseNet-161's together gain 8%
# of a forward pass of two images), and each layer that goes Winograd's way adds one to three megabytes to the program.
_LEAST_TILES = 128

Strides = tuple[int, int]
Padding = tuple[tuple[int, int], tuple[int, int]]


def conv_general_dilated(
    images: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    **others: Any,
) -> jax.Array:
    """Convolves images [N, H, W, C] with a kernel [height, width, C, F]; to be given to `flax.linen.Conv`.

    Result and gradients are those of `jax.lax.conv_general_dilated`, up to rounding. On a CPU, XLA's own convolution
    stays behind its matrix products, with respect to the kernel by a factor of up to 50 (benchmarks/NOTES.md). So a
    kernel of 1×1 is a matrix product, on every device; on a CPU a kernel of 3×3 between many channels, on enough
    pixels, goes `winograd`'s way, and the gradient of any other kernel, unless there are few channels out, is a matrix
    product for each place.

    Args:
        others: of `jax.lax.conv_general_dilated`; with dilation, groups or a precision the convolution is XLA's own.
    """
    if not _is_basic(**others):
        return jax.lax.conv_general_dilated(images, kernel, strides, padding, **others)
    strides = tuple(strides)
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(images.shape[1:3], kernel.shape[:2], strides, padding)
    padding = tuple((low, high) for low, high in padding)
    if not all(isinstance(size, int) for size in images.shape):  # exported for any number of images
        return _plain(images, kernel, strides, padding)
    # Rules for gradients are traced where gradients are asked for; what is in force here goes there with them.
    precision = jax.config.jax_default_matmul_precision
    if kernel.shape[:2] == strides == (1, 1) and padding == ((0, 0), (0, 0)):
        pixels = _convolve_1x1(images.reshape(-1, kernel.shape[2]), kernel[0, 0], precision)
        return pixels.reshape(*images.shape[:3], kernel.shape[3])
    return _convolve(images, kernel, strides, padding, precision)


def _is_basic(
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: jax.lax.ConvDimensionNumbers | None = None,
    feature_group_count: int = 1,
    precision: Any = None,
    **others: Any,
) -> bool:
    """Returns whether nothing is asked for but size, strides and padding, in the layout that flax uses."""
    layout = jax.lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))
    dilated = {*(lhs_dilation or ()), *(rhs_dilation or ())} - {1}
    return (
        not dilated
        and dimension_numbers in (layout, None)
        and feature_group_count == 1
        and not precision
        and not any(others.values())
    )


# By itself JAX transposes the gradient, not the pixels, which XLA then computes twice on a CPU.
@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve_1x1(pixels: jax.Array, kernel: jax.Array, precision: str | None) -> jax.Array:
    with jax.default_matmul_precision(precision):
        return pixels @ kernel


def _forward_1x1(pixels, kernel, precision):
    return _convolve_1x1(pixels, kernel, precision), (pixels, kernel)


def _backward_1x1(precision, saved, gradient):
    pixels, kernel = saved
    with jax.default_matmul_precision(precision):
        return gradient @ kernel.T, pixels.T @ gradient


_convolve_1x1.defvjp(_forward_1x1, _backward_1x1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _convolve(
    images: jax.Array, kernel: jax.Array, strides: Strides, padding: Padding, precision: str | None
) -> jax.Array:
    plain = functools.partial(_plain, strides=strides, padding=padding)
    suits = _suits_winograd(images, kernel, strides, padding)
    with jax.default_matmul_precision(precision):
        return jax.lax.platform_dependent(images, kernel, cpu=winograd.convolve if suits else plain, default=plain)


def _forward(images, kernel, strides, padding, precision):
    return _convolve(images, kernel, strides, padding, precision), (images, kernel)


def _backward(strides, padding, precision, saved, gradient):
    def plain(images, kernel, gradient):
        return jax.vjp(functools.partial(_plain, strides=strides, padding=padding), images, kernel)[1](gradient)

    def by_winograd(images, kernel, gradient):
        return winograd.image_gradient(gradient, kernel), winograd.kernel_gradient(images, gradient)

    def by_products(images, kernel, gradient):
        image_gradient, _ = plain(images, kernel, gradient)  # XLA drops the other one, which nothing asks for
        return image_gradient, _kernel_gradient(images, gradient, kernel.shape, strides, padding)

    suits = _suits_winograd(*saved, strides, padding) and min(saved[1].shape[2:]) >= _LEAST_CHANNELS_BACKWARD
    on_cpu = by_winograd if suits else by_products
    if saved[1].shape[-1] < _LEAST_FEATURES:
        on_cpu = plain
    with jax.default_matmul_precision(precision):
        return jax.lax.platform_dependent(*saved, gradient, cpu=on_cpu, default=plain)


_convolve.defvjp(_forward, _backward)


def _suits_winograd(images: jax.Array, kernel: jax.Array, strides: Strides, padding: Padding) -> bool:
    keeps_size = strides == (1, 1) and padding == ((1, 1), (1, 1))
    is_large = math.prod(kernel.shape[2:]) >= _LEAST_CHANNEL_PAIRS and winograd.num_tiles(images) >= _LEAST_TILES
    is_exact = images.dtype.itemsize >= 4  # the transforms would add to the rounding of 16 bits
    return kernel.shape[:2] == (3, 3) and keeps_size and is_large and is_exact


def _plain(images: jax.Array, kernel: jax.Array, strides: Strides, padding: Padding) -> jax.Array:
    return jax.lax.conv_general_dilated(images, kernel, strides, padding, dimension_numbers=_LAYOUT)


def _kernel_gradient(
    images: jax.Array, gradient: jax.Array, shape: tuple[int, ...], strides: Strides, padding: Padding
) -> jax.Array:
    """Returns the gradient of `_plain` with respect to a kernel of a shape [height, width, C, F]."""
    height, width, channels, features = shape
    if strides == (1, 1) and features < channels:
        # Images and gradient change parts, so that it is the narrower of them that each place of the kernel copies.
        turned = tuple((size - 1 - low, size - 1 - high) for size, (low, high) in zip(shape, padding, strict=False))
        result = _kernel_gradient(gradient, images, (height, width, features, channels), strides, turned)
        return result[::-1, ::-1].swapaxes(2, 3)
    borders = [(0, 0, 0), *((low, high, 0) for low, high in padding), (0, 0, 0)]  # one below 0 cuts off
    padded = jax.lax.pad(images, jnp.zeros((), images.dtype), borders)
    spans = [max((size - 1) * stride + 1, 0) for size, stride in zip(gradient.shape[1:3], strides, strict=True)]
    flat = gradient.reshape(-1, features)

    def under(place: jax.Array) -> jax.Array:
        """Returns the pixels that a place of the kernel meets: [N * rows * columns, C]."""
        corner = (0, place // width, place % width, 0)
        window = jax.lax.dynamic_slice(padded, corner, (len(images), *spans, channels))
        return window[:, :: strides[0], :: strides[1]].reshape(-1, channels)

    places = jnp.arange(height * width)
    if channels <= _FEW_CHANNELS:
        products = jnp.concatenate([under(place) for place in places], axis=-1).T @ flat
    else:  # one place after the other: together they would take nine times the memory, and XLA pad nine times
        products = jax.lax.map(lambda place: under(place).T @ flat, places)
    return products.reshape(shape)
