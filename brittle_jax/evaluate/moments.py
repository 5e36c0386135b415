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
