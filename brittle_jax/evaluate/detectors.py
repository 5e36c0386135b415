"""The four anomaly detectors, as jitted functions of networks and images; higher scores are more anomalous.

A network is anything that `jax.jit` accepts as an argument and that maps images [N, H, W, C] float32 in [0, 1]
to representations [N, F] in evaluation mode: a `models.network.Network`, or
`jax.tree_util.Partial(apply_function, weights)`.
"""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from brittle_jax.errors import DegenerateDataError
from brittle_jax.evaluate.coordinates import TARGETS, Coordinates, NetworkFunction, in_coordinates
from brittle_jax.evaluate.moments import Moments, covariance_of, rounding_of
from brittle_jax.precision import in_float32


class Gaussian(flax.struct.PyTreeNode):
    """What the detectors on the representation know of normal images.

    Attributes:
        mean: [F], of the teacher's representations.
        variance: [F], of each feature; infinite where it never varies, or by rounding alone.
        whitening: [F, F], maps deviations from the mean to uncorrelated coordinates of variance 1; columns of
            directions that the pseudo-inverse leaves out are 0.
    """

    mean: jax.Array
    variance: jax.Array
    whitening: jax.Array

    @property
    def rank(self) -> int:
        """How many directions the full covariance counts."""
        return int(np.asarray(self.whitening).any(axis=0).sum())

    def coordinates(self, targets: str) -> Coordinates | None:
        """Returns the coordinates in which a student learns.

        Args:
            targets: "raw": the teacher's outputs as they are, so None; "standardised": each feature centred and divided
                by its deviation; "whitened": uncorrelated and of variance 1. Features and directions that the Gaussian
                leaves out are 0.

        Raises:
            ValueError: for anything else.
        """
        if targets not in TARGETS:
            raise ValueError(f"{targets!r} is not one of {', '.join(TARGETS)}")
        if targets == "raw":
            return None
        return Coordinates(self.mean, self.whitening if targets == "whitened" else 1 / jnp.sqrt(self.variance))


def fit_gaussian(moments: Moments, *, covariance: str = "empirical", shrinkage: float = 0.0) -> Gaussian:
    """Fits a Gaussian to normal representations, in float64 on the host (Sec. 3.3).

    Directions and features in which normal images do not vary, but for rounding, are left out: those whose variance
    is no larger than `moments.rounding_of` allows rounding to make.

    Args:
        moments: of the teacher's representations, with the full scatter matrix.
        covariance: "empirical": as measured, by the pseudo-inverse where there are no more images than features;
            "ridge": the diagonal raised by `shrinkage` times the mean variance; "ledoit_wolf": the convex combination
            (1 - shrinkage) · covariance + shrinkage · mean variance · identity, with the shrinkage that
            `sklearn.covariance.ledoit_wolf_shrinkage` estimates.
        shrinkage: see above.

    Raises:
        DegenerateDataError: for fewer than two images, or where all representations are equal, but for rounding.
    """
    matrix = covariance_of(moments)
    rounding_of_features, rounding_share = rounding_of(moments)
    is_constant = np.diagonal(matrix) <= rounding_of_features  # and what it seems to share with others is rounding
    matrix[is_constant], matrix[:, is_constant] = 0, 0
    variance = np.diagonal(matrix).copy()
    identity = np.eye(len(matrix)) * variance.mean()
    if covariance == "ridge":
        matrix = matrix + shrinkage * identity
    elif covariance == "ledoit_wolf":
        matrix = (1 - shrinkage) * matrix + shrinkage * identity
    eigenvalues, eigenvectors = np.linalg.eigh(matrix)
    # Of the sums, and of `eigh` itself, for which `np.linalg.matrix_rank` allows as much.
    rounding_here = np.finfo(np.float64).eps * len(matrix) * eigenvalues[-1]
    kept = eigenvalues > np.square(eigenvectors).T @ rounding_share + rounding_here
    # Besides, n images span n - 1 dimensions.
    dimensions = len(matrix) if covariance != "empirical" else min(len(matrix), int(moments.count) - 1)
    kept &= np.arange(len(matrix)) >= len(matrix) - dimensions
    if not kept.any():
        raise DegenerateDataError(
            "all representations of the normal images are equal, so they tell nothing: either the teacher has "
            "collapsed (lower pretrain.peak_learning_rate), or the images are all the same"
        )
    whitening = np.where(kept, eigenvectors / np.sqrt(np.where(kept, eigenvalues, 1)), 0)
    # A feature that never varies cannot be scaled by its variance; it is left out, as the pseudo-inverse does.
    return Gaussian(
        mean=jnp.asarray(moments.mean, jnp.float32),
        variance=jnp.asarray(np.where(is_constant, np.inf, variance), jnp.float32),
        whitening=jnp.asarray(whitening, jnp.float32),
    )


@jax.jit
@in_float32
def distillation_score(student: NetworkFunction, teacher: NetworkFunction, images: jax.Array) -> jax.Array:
    """Anomaly score of knowledge distillation, A(x) = ‖h(x) - f(x)‖² (Eq. 1): images [N, H, W, C] to [N].

    A student of other coordinates is compared with a `coordinates.Target` in place of its teacher.
    """
    return _squared_distance(student(images), teacher(images))


@jax.jit
@in_float32
def mse_score(teacher: NetworkFunction, mean: jax.Array, images: jax.Array) -> jax.Array:
    """Mean over features of the squared deviation from the normal mean [F] (Sec. A.3): images to [N]."""
    return _mean_squared_deviation(teacher(images), mean)


@jax.jit
@in_float32
def diagonal_mahalanobis_score(
    teacher: NetworkFunction, mean: jax.Array, variance: jax.Array, images: jax.Array
) -> jax.Array:
    """Squared Mahalanobis distance with the variances [F] of the features alone (Sec. A.3): images to [N]."""
    return _diagonal_mahalanobis(teacher(images), mean, variance)


@jax.jit
@in_float32
def mahalanobis_score(teacher: NetworkFunction, gaussian: Gaussian, images: jax.Array) -> jax.Array:
    """Squared Mahalanobis distance with the full covariance (Sec. 3.3): images to [N]."""
    return _mahalanobis(teacher(images), gaussian)


@jax.jit
@in_float32
def anomaly_scores(
    student: NetworkFunction,
    teacher: NetworkFunction,
    gaussian: Gaussian,
    images: jax.Array,
    coordinates: Coordinates | None = None,
) -> dict[str, jax.Array]:
    """All four scores [N] from one pass of each network, by the names that results.json uses.

    Args:
        coordinates: in which the student has learned; the other detectors take the teacher's outputs as they are.
    """
    return scores_of_outputs(student(images), teacher(images), gaussian, coordinates)


@jax.jit
@in_float32
def scores_of_outputs(
    student_outputs: jax.Array,
    teacher_outputs: jax.Array,
    gaussian: Gaussian,
    coordinates: Coordinates | None = None,
) -> dict[str, jax.Array]:
    """All four scores [N], as `anomaly_scores`, where the outputs [N, F] of both networks are known."""
    return {
        "kd": _squared_distance(student_outputs, in_coordinates(coordinates, teacher_outputs)),
        "mse": _mean_squared_deviation(teacher_outputs, gaussian.mean),
        "mahalanobis_diag": _diagonal_mahalanobis(teacher_outputs, gaussian.mean, gaussian.variance),
        "mahalanobis_full": _mahalanobis(teacher_outputs, gaussian),
    }


def _squared_distance(student_output: jax.Array, teacher_output: jax.Array) -> jax.Array:
    return jnp.square(teacher_output - student_output).sum(axis=-1)


def _mean_squared_deviation(outputs: jax.Array, mean: jax.Array) -> jax.Array:
    return jnp.square(outputs - mean[None]).mean(axis=-1)


def _diagonal_mahalanobis(outputs: jax.Array, mean: jax.Array, variance: jax.Array) -> jax.Array:
    return (jnp.square(outputs - mean[None]) / variance[None]).sum(axis=-1)


def _mahalanobis(outputs: jax.Array, gaussian: Gaussian) -> jax.Array:
    whitened = (outputs - gaussian.mean[None]) @ gaussian.whitening
    return jnp.square(whitened).sum(axis=-1)
