"""Convolutions that are fast on a CPU. On any other platform they are XLA's own.

All that is here and in `winograd` serves the CPU's speed: XLA's own convolution is slower there than its matrix
products, up to 50 times for the gradient of a kernel (benchmarks/NOTES.md).
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from brittle_jax.models import depthwise, winograd

_LAYOUT = jax.lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))  # NHWC, HWIO, NHWC, as in Flax

_LEAST_FEATURES = 32  # with fewer out, XLA's own gradient of the kernel is the faster one

Strides = tuple[int, int]
Padding = tuple[tuple[int, int], tuple[int, int]]


def default_platform() -> str:
    """Returns the platform that a function is traced for: "cpu", "gpu" or "tpu".

    It is that of `jax.default_device`, or else of the default backend. Nothing else is known when a function is traced,
    so a program that a CPU exports for a GPU has the algorithms of the CPU.
    """
    device = jax.config.jax_default_device
    if device is None:
        return jax.default_backend()
    return getattr(device, "platform", device)


def conv_general_dilated(
    images: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    dimension_numbers: jax.lax.ConvDimensionNumbers | None = None,
    **options: Any,
) -> jax.Array:
    """Convolves images [N, H, W, C] with a kernel [height, width, C, F]; an argument of `flax.linen.Conv`.

    The result and the gradients equal those of `jax.lax.conv_general_dilated` up to rounding. On a CPU they come from
    matrix products: a 1×1 kernel needs only one, 3×3 kernels between many channels take the Winograd algorithm, and the
    gradient of any other kernel is one product per kernel position. A depthwise convolution is a sum of shifted images.
    There only reverse-mode differentiation works, as with any `jax.custom_vjp`; `jax.jvp` needs another platform.

    Args:
        options: of `jax.lax.conv_general_dilated`. A convolution with dilation, other groups or a precision is XLA's
            own.
    """
    dimension_numbers = dimension_numbers or _LAYOUT
    # A symbolic number of images, as in `jax.export`, has no size by which to choose an algorithm.
    has_sizes = all(isinstance(size, int) for size in images.shape)
    if default_platform() != "cpu" or not has_sizes or not _is_basic(images, kernel, dimension_numbers, **options):
        options = {"dimension_numbers": dimension_numbers, **options}
        return jax.lax.conv_general_dilated(images, kernel, strides, padding, **options)
    strides = tuple(strides)
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(images.shape[1:3], kernel.shape[:2], strides, padding)
    padding = tuple((low, high) for low, high in padding)
    # The gradient rule is traced later, outside of the caller's `jax.default_matmul_precision`, so it is passed on.
    return _convolve(images, kernel, strides, padding, jax.config.jax_default_matmul_precision)


def _is_basic(
    images: jax.Array,
    kernel: jax.Array,
    dimension_numbers: jax.lax.ConvDimensionNumbers,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    feature_group_count: int = 1,
    **options: Any,
) -> bool:
    """Returns whether a convolution has Flax's layout, and no options but strides, padding and one group a channel."""
    is_dilated = {*(lhs_dilation or ()), *(rhs_dilation or ())} - {1}
    has_groups = feature_group_count > 1 and not depthwise.is_suitable(images, kernel, feature_group_count)
    return dimension_numbers == _LAYOUT and not is_dilated and not has_groups and not any(options.values())


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _convolve(
    images: jax.Array, kernel: jax.Array, strides: Strides, padding: Padding, precision: str | None
) -> jax.Array:
    with jax.default_matmul_precision(precision):
        if _is_depthwise(images, kernel):
            return depthwise.convolve(images, kernel, strides, padding)
        if _is_pointwise(kernel, strides, padding):
            return images @ kernel[0, 0]
        if winograd.is_suitable(images, kernel, strides, padding):
            return winograd.convolve(images, kernel)
        return _convolve_by_xla(images, kernel, strides, padding)


def _forward(images, kernel, strides, padding, precision):
    return _convolve(images, kernel, strides, padding, precision), (images, kernel)


def _backward(strides, padding, precision, residuals, gradient):
    images, kernel = residuals
    with jax.default_matmul_precision(precision):
        if _is_depthwise(images, kernel):
            image_gradient = depthwise.image_gradient(gradient, kernel, images.shape, strides, padding)
            return image_gradient, _kernel_gradient(images, gradient, kernel.shape, strides, padding)
        if _is_pointwise(kernel, strides, padding):
            # JAX by itself transposes the gradient, not the pixels. XLA then computes the gradient twice on a CPU.
            pixels, flat_gradient = (x.reshape(-1, x.shape[-1]) for x in (images, gradient))
            return gradient @ kernel[0, 0].T, (pixels.T @ flat_gradient).reshape(kernel.shape)
        if winograd.is_suitable(images, kernel, strides, padding):
            return winograd.image_gradient(gradient, kernel), winograd.kernel_gradient(images, gradient)
        if kernel.shape[-1] < _LEAST_FEATURES:
            return jax.vjp(lambda *each: _convolve_by_xla(*each, strides, padding), images, kernel)[1](gradient)
        _, image_vjp = jax.vjp(lambda images: _convolve_by_xla(images, kernel, strides, padding), images)
        return *image_vjp(gradient), _kernel_gradient(images, gradient, kernel.shape, strides, padding)


_convolve.defvjp(_forward, _backward)


def _is_depthwise(images: jax.Array, kernel: jax.Array) -> bool:
    return kernel.shape[2:] == (1, images.shape[-1])  # of one channel, every convolution to one is


def _is_pointwise(kernel: jax.Array, strides: Strides, padding: Padding) -> bool:
    return kernel.shape[:2] == strides == (1, 1) and padding == ((0, 0), (0, 0))


def _convolve_by_xla(images: jax.Array, kernel: jax.Array, strides: Strides, padding: Padding) -> jax.Array:
    return jax.lax.conv_general_dilated(images, kernel, strides, padding, dimension_numbers=_LAYOUT)


def _kernel_gradient(
    images: jax.Array, gradient: jax.Array, shape: tuple[int, ...], strides: Strides, padding: Padding
) -> jax.Array:
    """Returns the gradient of a convolution with respect to its kernel [height, width, C, F]; depthwise: C is 1."""
    height, width, channels, features = shape
    is_depthwise = channels != images.shape[-1]
    borders = [(0, 0, 0), *((low, high, 0) for low, high in padding), (0, 0, 0)]  # negative ones crop
    padded = jax.lax.pad(images, jnp.zeros((), images.dtype), borders)
    spans = [max((size - 1) * stride + 1, 0) for size, stride in zip(gradient.shape[1:3], strides, strict=True)]
    flat_gradient = gradient.reshape(-1, features)

    def product(position: jax.Array) -> jax.Array:
        """Returns the gradient [C, F] of one kernel position, from the pixels that it is multiplied with."""
        corner = (0, position // width, position % width, 0)
        window = jax.lax.dynamic_slice(padded, corner, (len(images), *spans, images.shape[-1]))
        pixels = window[:, :: strides[0], :: strides[1]].reshape(-1, images.shape[-1])
        return (pixels * flat_gradient).sum(axis=0, keepdims=True) if is_depthwise else pixels.T @ flat_gradient

    # One position after the other: all windows at once would take height * width times the memory.
    return jax.lax.map(product, jnp.arange(height * width)).reshape(shape)
