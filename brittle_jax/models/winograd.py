"""3×3 convolution by the Winograd algorithm F(2×2, 3×3) of Lavin and Gray (2016, arXiv 1509.09308).

It takes 16 multiplications where the plain convolution takes 36. Rounding errors are of the same size (in 32 bits or
more), because the transforms only add, subtract and halve. Each tile of 4×4 pixels, which overlaps its neighbours by
two pixels, gives 2×2 outputs:

    output = A [ (G kernel Gᵀ) · (B tile Bᵀ) ] Aᵀ,    · element by element, summed over channels

A grid below is a list of lists: for each position in a tile, an array [P, C] of that position in all P tiles.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

_A = ((1, 1, 1, 0), (0, 1, -1, -1))
_B = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
_G = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))

# The arrays of this many tiles stay in a CPU's cache from one transform to the next (benchmarks/NOTES.md).
_TILES_AT_ONCE = 1024

# With fewer channels the transforms cost about as much as they save. With fewer tiles transforming the kernel does, and
# each layer adds one to three megabytes to the program.
_LEAST_CHANNELS, _LEAST_TILES = 64, 128

_Matrix = Sequence[Sequence[float]]
_Grid = list[list[jax.Array]]


def is_suitable(
    images: jax.Array, kernel: jax.Array, strides: tuple[int, int], padding: tuple[tuple[int, int], tuple[int, int]]
) -> bool:
    """Returns whether `convolve` computes this convolution, and is faster than XLA's own on a CPU."""
    is_3x3 = kernel.shape[:2] == (3, 3) and strides == (1, 1) and padding == ((1, 1), (1, 1))
    is_large = min(kernel.shape[2:]) >= _LEAST_CHANNELS and _num_tiles(images) >= _LEAST_TILES
    is_exact = images.dtype.itemsize >= 4  # in 16 bits the transforms would add to the rounding
    return is_3x3 and is_large and is_exact


@jax.jit  # so that equal layers are traced once
def convolve(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves [N, H, W, C] with [3, 3, C, F] at stride 1, padded with one pixel of zeros: [N, H, W, F]."""
    return _multiply(images, _transform_kernel(kernel), kernel.shape[-1], jnp.matmul)


@jax.jit
def image_gradient(gradient: jax.Array, kernel: jax.Array) -> jax.Array:
    """Gradient of `convolve` with respect to the images: [N, H, W, F] to [N, H, W, C].

    It is the convolution with the kernel rotated by 180°. Rotating the kernel swaps the first and the last row and
    column of its transform. So the kernel itself need not be transposed, which takes longer than the products.
    """
    rotated = [[row[index] for index in (3, 1, 2, 0)] for row in _transform_kernel(kernel)]
    rotated = [rotated[index] for index in (3, 1, 2, 0)]

    def product(tile: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.lax.dot_general(tile, kernel, (((1,), (1,)), ((), ())))

    return _multiply(gradient, rotated, kernel.shape[2], product)


def _transform_kernel(kernel: jax.Array) -> _Grid:
    return _sandwich(_G, [[kernel[row, column] for column in range(3)] for row in range(3)])


def _multiply(
    images: jax.Array, transformed: _Grid, features: int, product: Callable[[jax.Array, jax.Array], jax.Array]
) -> jax.Array:
    height, width = images.shape[1:3]

    def outputs(group: jax.Array) -> jax.Array:
        products = _each_position(product, _tiles(group), transformed)
        shape = (len(group), math.ceil(height / 2), math.ceil(width / 2), features)
        corners = [[each.reshape(shape) for each in row] for row in _sandwich(_A, products)]
        rows = [jnp.stack(row, axis=3) for row in corners]
        joined = jnp.stack(rows, axis=2).reshape(len(group), 2 * shape[1], 2 * shape[2], features)
        return joined[:, :height, :width]

    return jax.lax.map(outputs, _in_groups(images)).reshape(*images.shape[:3], features)


@jax.jit
def kernel_gradient(images: jax.Array, gradient: jax.Array) -> jax.Array:
    """Gradient of `convolve` with respect to the kernel: images [N, H, W, C] and [N, H, W, F] to [3, 3, C, F]."""
    channels, features = images.shape[-1], gradient.shape[-1]

    def add(total: _Grid, group: tuple[jax.Array, jax.Array]) -> tuple[_Grid, None]:
        products = _each_position(lambda tile, corner: tile.T @ corner, _tiles(group[0]), _product_gradients(group[1]))
        return _each_position(jnp.add, total, products), None

    zeros = [[jnp.zeros((channels, features), images.dtype) for _ in range(4)] for _ in range(4)]
    total, _ = jax.lax.scan(add, zeros, (_in_groups(images), _in_groups(gradient)))
    return jnp.stack([jnp.stack(row) for row in _sandwich(_transposed(_G), total)])


def _num_tiles(images: jax.Array) -> int:
    count, height, width, _ = images.shape
    return count * math.ceil(height / 2) * math.ceil(width / 2)


def _in_groups(images: jax.Array) -> jax.Array:
    """Splits [N, H, W, C] into groups [N / M, M, H, W, C], where M images have about `_TILES_AT_ONCE` tiles."""
    count = len(images)
    most = max(_TILES_AT_ONCE * count // max(_num_tiles(images), 1), 1)
    together = max(divisor for divisor in range(1, min(most, count) + 1) if count % divisor == 0)
    return images.reshape(count // together, together, *images.shape[1:])


def _tiles(images: jax.Array) -> _Grid:
    """Cuts [N, H, W, C] into overlapping tiles of 4×4 pixels and transforms them."""
    _, height, width, channels = images.shape
    padded = jnp.pad(images, ((0, 0), (1, 1 + height % 2), (1, 1 + width % 2), (0, 0)))
    last_row, last_column = padded.shape[1] - 3, padded.shape[2] - 3
    tiles = [
        [padded[:, row : row + last_row : 2, column : column + last_column : 2] for column in range(4)]
        for row in range(4)
    ]
    return _sandwich(_B, [[tile.reshape(-1, channels) for tile in row] for row in tiles])


def _product_gradients(gradient: jax.Array) -> _Grid:
    """Maps gradients of outputs [N, H, W, F] to gradients of the 16 products that the outputs are sums of."""
    _, height, width, features = gradient.shape
    even = jnp.pad(gradient, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
    corners = [[even[:, row::2, column::2].reshape(-1, features) for column in range(2)] for row in range(2)]
    return _sandwich(_transposed(_A), corners)


def _sandwich(matrix: _Matrix, grid: _Grid) -> _Grid:
    """Returns matrix · grid · matrixᵀ."""
    half = [[_combine(coefficients, column) for column in zip(*grid, strict=True)] for coefficients in matrix]
    return [[_combine(coefficients, row) for coefficients in matrix] for row in half]


def _combine(coefficients: Sequence[float], arrays: Sequence[jax.Array]) -> jax.Array:
    terms = [
        array if factor == 1 else factor * array for factor, array in zip(coefficients, arrays, strict=True) if factor
    ]
    return functools.reduce(jnp.add, terms)


def _each_position(function: Callable[[Any, Any], Any], one: _Grid, other: _Grid) -> _Grid:
    return [list(map(function, *rows)) for rows in zip(one, other, strict=True)]


def _transposed(matrix: _Matrix) -> _Matrix:
    return tuple(zip(*matrix, strict=True))
