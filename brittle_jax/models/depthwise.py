"""Depthwise convolution: each channel with a kernel of its own, as a sum of shifted images.

On a CPU, XLA's grouped convolution takes 15 to 80 times as long as this, and its gradients 16 to 150 times
(benchmarks/NOTES.md).
"""

import functools
import itertools
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp

Strides = tuple[int, int]
Padding = Sequence[tuple[int, int]]


def is_suitable(images: jax.Array, kernel: jax.Array, groups: int) -> bool:
    """Returns whether `convolve` computes this convolution, and as exactly as XLA does."""
    is_depthwise = groups == images.shape[-1] == kernel.shape[-1]
    is_exact = images.dtype.itemsize >= 4  # in 16 bits a sum of so many products would lose digits
    return is_depthwise and is_exact


def convolve(images: jax.Array, kernel: jax.Array, strides: Strides, padding: Padding) -> jax.Array:
    """Convolves [N, H, W, C] with [height, width, 1, C], padded with zeros: [N, H', W', C]."""
    height, width = kernel.shape[:2]
    padded = _pad(images, padding)
    # XLA makes one loop of all these products and sums.
    products = (
        _window(padded, position, (height, width), strides) * kernel[position][None, None]
        for position in itertools.product(range(height), range(width))
    )
    return functools.reduce(operator.add, products)


def image_gradient(
    gradient: jax.Array, kernel: jax.Array, shape: tuple[int, ...], strides: Strides, padding: Padding
) -> jax.Array:
    """Gradient of `convolve` with respect to images of this shape: a convolution with the kernel rotated by 180°."""
    # Zeros between its pixels undo the strides.
    spread = _pad(gradient, ((0, 0), (0, 0)), [stride - 1 for stride in strides])
    borders = [
        (size - 1 - low, side + low - spread_side)
        for size, (low, _), side, spread_side in zip(
            kernel.shape[:2], padding, shape[1:3], spread.shape[1:3], strict=True
        )
    ]
    return convolve(spread, kernel[::-1, ::-1], (1, 1), borders)


def _pad(images: jax.Array, padding: Padding, interior: Sequence[int] = (0, 0)) -> jax.Array:
    borders = [(low, high, between) for (low, high), between in zip(padding, interior, strict=True)]
    return jax.lax.pad(images, jnp.zeros((), images.dtype), [(0, 0, 0), *borders, (0, 0, 0)])  # negative ones crop


def _window(padded: jax.Array, corner: tuple[int, int], size: tuple[int, int], strides: Strides) -> jax.Array:
    """Returns the pixels that the kernel's weight at this corner is multiplied with."""
    rows, columns = (
        slice(start, start + side - extent + 1, stride)
        for start, side, extent, stride in zip(corner, padded.shape[1:3], size, strides, strict=True)
    )
    return padded[:, rows, columns]
