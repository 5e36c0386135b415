"""Mean and covariance of any number of vectors, in one pass: batch by batch on the device, or of an array or a file.

Each batch is centred by its own mean and merged into the total: naive sums of squares would cancel where the mean is
large against the spread. The merge is that of Chan, Golub and LeVeque (1979). On the device all is float32, relative to
a fixed shift (the first batch's mean), and the scatter is summed with Kahan's compensation: the Mahalanobis distance
multiplies its rounding by the condition number of the covariance.
"""

import functools
import operator

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from brittle_jax.errors import DegenerateDataError
from brittle_jax.evaluate.rows import RowFile
from brittle_jax.precision import in_float32

_BLOCK_SIZE = 4096  # vectors that are multiplied together, in `moments_of`
_LONGEST_SUM = 1024  # products that are added one after the other in float32, at most
_UNIT = float(np.finfo(np.float32).eps) / 2  # a float32 is off by at most this share of itself


class Moments(flax.struct.PyTreeNode):
    """Running mean and scatter of vectors of F features.

    Attributes:
        count: [], how many vectors.
        shift: [F], subtracted from every vector.
        mean: [F], mean of the shifted vectors.
        scatter: [F] or [F, F], sum of squares, or of outer products, of deviations from the mean.
        remainder: like the scatter, what rounding has kept out of it so far.
    """

    count: jax.Array
    shift: jax.Array
    mean: jax.Array
    scatter: jax.Array
    remainder: jax.Array


def empty_moments(num_features: int, *, full: bool) -> Moments:
    """Returns the moments of no vectors: with a full scatter matrix [F, F], or with its diagonal [F] alone."""
    vector = np.zeros(num_features, np.float32)
    scatter = np.zeros((num_features, num_features), np.float32) if full else vector
    return Moments(count=np.float32(0), shift=vector, mean=vector, scatter=scatter, remainder=scatter)


@jax.jit
@in_float32
def update_moments(moments: Moments, vectors: jax.Array, mask: jax.Array | None = None) -> Moments:
    """Adds vectors [N, F] to the moments; where `mask` [N] is false, the vector does not count."""
    mask = jnp.ones(len(vectors), bool) if mask is None else mask
    weights = mask.astype(vectors.dtype)[:, None]
    count = weights.sum()
    # Dividing by at least 1 leaves a batch that is all padding without effect.
    batch_mean = (weights * vectors).sum(axis=0) / jnp.maximum(count, 1)
    shift = jnp.where(moments.count == 0, batch_mean, moments.shift)
    deviations = weights * (vectors - batch_mean[None])
    # The mean of the rounded deviations is not quite 0; taking it off again matters where mean/std is large.
    correction = deviations.sum(axis=0) / jnp.maximum(count, 1)
    deviations = weights * (deviations - correction[None])
    total = moments.count + count
    delta = (batch_mean - shift) + correction - moments.mean
    between = moments.count * count / jnp.maximum(total, 1)
    if moments.scatter.ndim == 2:
        within = deviations.T @ deviations
        across = jnp.outer(delta, delta)
    else:
        within, across = jnp.square(deviations).sum(axis=0), jnp.square(delta)
    increment = within + between * across + moments.remainder
    scatter = moments.scatter + increment
    remainder = increment - (scatter - moments.scatter)
    return Moments(total, shift, moments.mean + delta * count / jnp.maximum(total, 1), scatter, remainder)


def moments_of(vectors: np.ndarray | RowFile, indices: np.ndarray | None = None) -> Moments:
    """Returns the moments, with the full scatter, of vectors [N, F]; of those at `indices` [M], which a file needs.

    On the host: products and means of a block in float32, what adds them up in float64. NumPy's product of a matrix
    with its own transpose takes half of the operations (benchmarks/NOTES.md).
    """
    count, features = len(vectors) if indices is None else len(indices), vectors.shape[1]
    mean, scatter = np.zeros(features), np.zeros((features, features))
    for start in range(0, count, _BLOCK_SIZE):  # so that no more than a block is copied
        chosen = slice(start, start + _BLOCK_SIZE)
        block = vectors[chosen if indices is None else indices[chosen]]
        each = np.full(len(block), 1 / len(block), block.dtype)
        rounded_mean = each @ block
        deviations = block - rounded_mean
        scatter += deviations.T @ deviations
        # The mean of the deviations is not quite 0; taking it off again matters where mean/std is large.
        correction = (each @ deviations).astype(np.float64)
        scatter -= len(block) * np.outer(correction, correction)
        delta = rounded_mean + correction - mean
        scatter += start * len(block) / (start + len(block)) * np.outer(delta, delta)
        mean += delta * (len(block) / (start + len(block)))
    return Moments(np.float64(count), np.zeros(features), mean, scatter, np.zeros_like(scatter))


def merge_moments(a: Moments, b: Moments) -> Moments:
    """Merges two totals, on the host, in float64."""
    a, b = (jax.tree.map(lambda x: np.asarray(x, np.float64), moments) for moments in (a, b))
    if a.count == 0:
        return b
    total = a.count + b.count
    delta = (b.shift - a.shift) + b.mean - a.mean
    outer = np.outer(delta, delta) if a.scatter.ndim == 2 else delta**2
    scatter = a.scatter + b.scatter + a.remainder + b.remainder + outer * (a.count * b.count / total)
    return Moments(total, a.shift, a.mean + delta * (b.count / total), scatter, np.zeros_like(scatter))


def merge_device_moments(moments: Moments) -> Moments:
    """Merges totals that several devices kept, stacked along a leading axis."""
    stacked = jax.tree.map(np.asarray, moments)
    totals = [jax.tree.map(operator.itemgetter(device), stacked) for device in range(len(stacked.count))]
    return functools.reduce(merge_moments, totals, empty_moments_like(totals[0]))


def empty_moments_like(moments: Moments) -> Moments:
    """Returns the moments of no vectors, in the shapes of the given ones."""
    return jax.tree.map(np.zeros_like, moments)


def mean_of(moments: Moments) -> np.ndarray:
    """Returns the mean [F], float64."""
    return np.asarray(moments.shift, np.float64) + np.asarray(moments.mean, np.float64)


def covariance_of(moments: Moments) -> np.ndarray:
    """Returns the covariance [F, F], or the variances [F], float64, with ddof 1.

    Raises:
        DegenerateDataError: for fewer than two vectors.
    """
    count = float(moments.count)
    if count < 2:
        raise DegenerateDataError(f"a covariance needs at least 2 vectors, not {count:.0f}")
    scatter = np.asarray(moments.scatter, np.float64) + np.asarray(moments.remainder, np.float64)
    return scatter / (count - 1)


def rounding_of(moments: Moments) -> tuple[np.ndarray, np.ndarray]:
    """Returns how much variance rounding alone may make, float64: in each feature [F], and its share of directions [F].

    In the direction of a unit eigenvector v of the covariance that is `v**2 @ share`, the sum of two parts, in which
    u = 2^-24 is the unit roundoff of float32:

    - Vectors come in float32, each from products of some hundred terms: a feature is off by up to 16 u of its root
      mean square, so a variance of (16 u)² · mean square may be rounding. That is the first result.
    - An addition is off by 0.42 u of its result (root mean square), so k products that are added in a row leave entry
      (i, j) of the covariance off by 0.42 u √(k r² / 3 + 1 / 2) of √(var_i var_j), where r is the correlation: with it
      partial sums grow as the number of terms, by chance as its root. Blocks are added exactly enough, so n vectors
      divide the square of that by n / k. Errors are independent, so the matrix of them has a norm of at most twice
      its largest row's (Bandeira and van Handel, 2016, https://arxiv.org/abs/1408.6185), in units of the variances:
      the second part is at most 0.84 u √(k / n · (k / 3 · max_i Σ_j r_ij² + F / 2)) · v² @ variance.

    A margin of 1.5 makes 1.25 of 0.84. k is 1024 at most: BLAS adds fewer in a row, and a batch should have no more.
    What rounding made where there is no variance, at most half of this, is in BUILD_NOTES.md.

    Args:
        moments: with the full scatter, of float32 vectors.

    Raises:
        DegenerateDataError: for fewer than two vectors.
    """
    covariance = covariance_of(moments)
    variance = np.diagonal(covariance)
    of_features = (16 * _UNIT) ** 2 * (np.square(mean_of(moments)) + variance)
    deviation = np.sqrt(np.where(variance > 0, variance, 1))
    squared_correlations = np.square(covariance / deviation / deviation[:, None]).sum(axis=0).max()
    in_a_row = min(float(moments.count), _LONGEST_SUM)
    squared_norm = in_a_row / float(moments.count) * (in_a_row / 3 * squared_correlations + len(variance) / 2)
    return of_features, of_features + 1.25 * _UNIT * squared_norm**0.5 * variance
