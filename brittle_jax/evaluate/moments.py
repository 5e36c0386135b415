"""Mean and covariance of any number of vectors, block by block, on the host.

Each block is centred by its own mean and merged into the total: naive sums of squares would cancel where the mean is
large against the spread. The merge is that of Chan, Golub and LeVeque (1979). Products within a block are float32, what
adds blocks up is float64: the Mahalanobis distance multiplies rounding by the condition number of the covariance.
"""

from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from brittle_jax.errors import DegenerateDataError
from brittle_jax.rows import Rows

_BLOCK_SIZE = 4096  # vectors that are multiplied together
_LONGEST_SUM = 1024  # products that are added one after the other in float32, at most
_UNIT = float(np.finfo(np.float32).eps) / 2  # relative rounding of a float32, at most


class Moments(NamedTuple):
    """Mean and scatter of vectors of F features, float64.

    Attributes:
        count: how many vectors.
        mean: [F].
        scatter: [F] or [F, F], sum of squares, or of outer products, of deviations from the mean.
    """

    count: int
    mean: np.ndarray
    scatter: np.ndarray


def empty_moments(num_features: int, *, full: bool) -> Moments:
    """Returns the moments of no vectors: with a full scatter matrix [F, F], or with its diagonal [F] alone."""
    return Moments(0, np.zeros(num_features), np.zeros((num_features,) * (2 if full else 1)))


def update_moments(moments: Moments, vectors: ArrayLike, mask: ArrayLike | None = None) -> Moments:
    """Adds vectors [N, F] to the moments; vectors whose `mask` [N] is false do not count."""
    block = np.asarray(vectors)
    if mask is not None:
        block = block[np.asarray(mask)]
    if not len(block):
        return moments
    is_full = moments.scatter.ndim == 2
    each = np.full(len(block), 1 / len(block), block.dtype)
    rounded_mean = each @ block
    deviations = block - rounded_mean
    # NumPy's product of a matrix with its own transpose takes half of the operations.
    scatter = deviations.T @ deviations if is_full else np.square(deviations, dtype=np.float64).sum(axis=0)
    # The mean of the deviations is not quite 0; subtracting it matters where the mean is large against the spread.
    correction = (each @ deviations).astype(np.float64)
    scatter = scatter - len(block) * (np.outer(correction, correction) if is_full else np.square(correction))
    return merge_moments(moments, Moments(len(block), rounded_mean + correction, scatter))


def moments_of(vectors: Rows, indices: np.ndarray | None = None, *, full: bool = True) -> Moments:
    """Returns the moments of vectors [N, F], or of those at `indices` [M], which rows in a file need."""
    moments = empty_moments(vectors.shape[1], full=full)
    count = len(vectors) if indices is None else len(indices)
    for start in range(0, count, _BLOCK_SIZE):  # so that no more than a block is copied
        chosen = slice(start, start + _BLOCK_SIZE)
        moments = update_moments(moments, vectors[chosen if indices is None else indices[chosen]])
    return moments


def merge_moments(a: Moments, b: Moments) -> Moments:
    """Returns the moments of the vectors of both."""
    total = a.count + b.count
    if not total:
        return a
    delta = b.mean - a.mean
    outer = np.outer(delta, delta) if a.scatter.ndim == 2 else np.square(delta)
    return Moments(total, a.mean + delta * (b.count / total), a.scatter + b.scatter + a.count * b.count / total * outer)


def covariance_of(moments: Moments) -> np.ndarray:
    """Returns the covariance [F, F], or the variances [F], float64, with ddof 1.

    Raises:
        DegenerateDataError: for fewer than two vectors.
    """
    if moments.count < 2:
        raise DegenerateDataError(f"a covariance needs at least 2 vectors, not {moments.count}")
    return moments.scatter / (moments.count - 1)


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
    of_features = (16 * _UNIT) ** 2 * (np.square(moments.mean) + variance)
    deviation = np.sqrt(np.where(variance > 0, variance, 1))
    squared_correlations = np.square(covariance / deviation / deviation[:, None]).sum(axis=0).max()
    in_a_row = min(moments.count, _LONGEST_SUM)
    squared_norm = in_a_row / moments.count * (in_a_row / 3 * squared_correlations + len(variance) / 2)
    return of_features, of_features + 1.25 * _UNIT * squared_norm**0.5 * variance
