"""Mean and covariance of any number of vectors, in one pass and without holding them.

Each batch is centred by its own mean and merged into the total, relative to a fixed shift (the first batch's
mean), all in float32 on the device: naive sums of squares would cancel where the mean is large against the
spread. The merge is that of Chan, Golub and LeVeque (1979). The scatter is summed with Kahan's compensation:
the Mahalanobis distance multiplies its rounding by the condition number of the covariance.
"""

import functools
import math
import operator

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from brittle_jax.errors import DegenerateDataError

_BLOCK_SIZE = 4096  # vectors that go to the device together, in `moments_of`
_MOST_STRIPS, _LEAST_STRIP_HEIGHT = 8, 64  # more and lower ones save no more time, see benchmarks/NOTES.md


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
        within, across = _scatter(deviations), jnp.outer(delta, delta)
    else:
        within, across = jnp.square(deviations).sum(axis=0), jnp.square(delta)
    increment = within + between * across + moments.remainder
    scatter = moments.scatter + increment
    remainder = increment - (scatter - moments.scatter)
    return Moments(total, shift, moments.mean + delta * count / jnp.maximum(total, 1), scatter, remainder)


def moments_of(vectors: np.ndarray, indices: np.ndarray | None = None) -> Moments:
    """Returns the moments, with the full scatter, of vectors [N, F] in memory, or of those at `indices` [M]."""
    count = len(vectors) if indices is None else len(indices)
    moments = empty_moments(vectors.shape[1], full=True)
    size = min(_BLOCK_SIZE, count)
    for start in range(0, count, size):  # so that no more than a block is copied, or on the device
        block = vectors[slice(start, start + size) if indices is None else indices[start : start + size]]
        mask = None
        if len(block) < size:  # filled up: another number of vectors must not be another shape to compile
            mask = np.arange(size) < len(block)
            block = np.pad(block, ((0, size - len(block)), (0, 0)))
        moments = update_moments(moments, block, mask)
    return moments


def _scatter(deviations: jax.Array) -> jax.Array:
    """Returns the sum over N of outer products of [N, F] with themselves.

    They are symmetric: of each strip of rows only what lies right of the diagonal is multiplied, which takes two
    thirds of the time (F = 2208, CPU).
    """
    features = deviations.shape[1]
    height = max(math.ceil(features / _MOST_STRIPS), _LEAST_STRIP_HEIGHT)
    strips = []
    for first in range(0, features, height):
        rows, columns = deviations[:, first : first + height], deviations[:, first:]
        strip = jnp.matmul(rows.T, columns, precision=jax.lax.Precision.HIGHEST)
        strips.append(jnp.pad(strip, ((0, 0), (first, 0))))
    upper = jnp.triu(jnp.concatenate(strips))
    return upper + jnp.triu(upper, 1).T


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
