import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import covariance as sklearn_covariance

from brittle_jax.errors import DegenerateDataError
from brittle_jax.evaluate import detectors
from brittle_jax.evaluate.moments import empty_moments, update_moments
from brittle_jax.models.network import ARCHITECTURES, Network, init_variables
from tests.evaluate.moments_test import correlated_vectors, in_batches

IMAGES = np.random.default_rng(0).uniform(size=(12, 32, 32, 3)).astype(np.float32)


def network(seed, features=16):
    module = ARCHITECTURES["small_resnet_tiny"].with_output(features)
    return Network(module, init_variables(module, seed, (32, 32, 3)))


def mahalanobis(vectors, gaussian):
    identity = jax.tree_util.Partial(lambda x: x)
    return np.asarray(detectors.mahalanobis_score(identity, gaussian, vectors))


def test_distillation_score_sums_the_squared_errors():
    student = jax.tree_util.Partial(lambda x: x.reshape(len(x), -1)[:, :2])
    teacher = jax.tree_util.Partial(lambda x: x.reshape(len(x), -1)[:, :2] + jnp.array([[3.0, 4.0]]))
    np.testing.assert_allclose(detectors.distillation_score(student, teacher, IMAGES), np.full(12, 25.0), rtol=1e-5)


def test_mse_and_diagonal_scores_by_hand():
    identity = jax.tree_util.Partial(lambda x: x)
    vectors, mean, variance = (
        jnp.array([[1.0, 2.0], [3.0, -2.0]]),
        jnp.array([1.0, 0.0]),
        jnp.array([4.0, 2.0]),
    )
    np.testing.assert_allclose(detectors.mse_score(identity, mean, vectors), [2.0, 4.0])
    scores = detectors.diagonal_mahalanobis_score(identity, mean, variance, vectors)
    np.testing.assert_allclose(scores, [2.0, 3.0])


@pytest.mark.parametrize("mean", [0.0, 1000.0])
def test_mahalanobis_equals_scikit_learn(mean):
    vectors, test = correlated_vectors(4000, 12, mean), correlated_vectors(100, 12, mean, seed=1)
    reference = sklearn_covariance.EmpiricalCovariance().fit(vectors.astype(np.float64))
    # scikit-learn divides by n, we by n - 1.
    expected = reference.mahalanobis(test.astype(np.float64)) * (len(vectors) - 1) / len(vectors)
    gaussian = detectors.fit_gaussian(in_batches(vectors, full=True))
    assert gaussian.rank == 12
    # At 1000 the mean that scores subtract, itself a float32, is rounded by up to 3e-5.
    tolerance = 1e-4 if mean == 0 else 5e-3
    np.testing.assert_allclose(mahalanobis(test, gaussian), expected, rtol=tolerance)


def test_mahalanobis_of_fewer_images_than_features_uses_the_pseudo_inverse():
    vectors, test = correlated_vectors(30, 50), correlated_vectors(20, 50, seed=1)
    reference = sklearn_covariance.EmpiricalCovariance().fit(vectors.astype(np.float64))
    expected = reference.mahalanobis(test.astype(np.float64)) * 29 / 30
    gaussian = detectors.fit_gaussian(in_batches(vectors, full=True))
    assert gaussian.rank == 29
    np.testing.assert_allclose(mahalanobis(test, gaussian), expected, rtol=1e-4)


@pytest.mark.parametrize(("condition_number", "tolerance"), [(1e5, 1e-4), (1e6, 1e-3)])
def test_no_direction_is_dropped_where_there_are_images_enough(condition_number, tolerance):
    rng = np.random.default_rng(0)
    rotation, _ = np.linalg.qr(rng.normal(size=(64, 64)))
    spread = np.sqrt(np.geomspace(1, 1 / condition_number, 64))
    vectors, test = ((rng.normal(size=(count, 64)) * spread @ rotation).astype(np.float32) for count in (3000, 50))
    reference = sklearn_covariance.EmpiricalCovariance().fit(vectors.astype(np.float64))
    expected = reference.mahalanobis(test.astype(np.float64)) * (len(vectors) - 1) / len(vectors)
    gaussian = detectors.fit_gaussian(in_batches(vectors, full=True))
    assert gaussian.rank == 64
    np.testing.assert_allclose(mahalanobis(test, gaussian), expected, rtol=tolerance)


def test_mahalanobis_with_ledoit_wolf_equals_scikit_learn():
    vectors, test = correlated_vectors(30, 50), correlated_vectors(20, 50, seed=1)
    reference = sklearn_covariance.LedoitWolf().fit(vectors.astype(np.float64))
    expected = reference.mahalanobis(test.astype(np.float64)) * 29 / 30
    shrinkage = sklearn_covariance.ledoit_wolf_shrinkage(vectors.astype(np.float64))
    gaussian = detectors.fit_gaussian(in_batches(vectors, full=True), covariance="ledoit_wolf", shrinkage=shrinkage)
    np.testing.assert_allclose(mahalanobis(test, gaussian), expected, rtol=1e-4)


def test_ridge_raises_the_diagonal_by_a_share_of_the_mean_variance():
    vectors, test = correlated_vectors(30, 50), correlated_vectors(20, 50, seed=1)
    covariance = np.cov(vectors.astype(np.float64), rowvar=False)
    covariance += 0.01 * np.trace(covariance) / 50 * np.eye(50)
    deviations = test - vectors.mean(axis=0, dtype=np.float64)
    expected = np.einsum("ni,ij,nj->n", deviations, np.linalg.inv(covariance), deviations)
    gaussian = detectors.fit_gaussian(in_batches(vectors, full=True), covariance="ridge", shrinkage=0.01)
    assert gaussian.rank == 50
    np.testing.assert_allclose(mahalanobis(test, gaussian), expected, rtol=1e-4)


def test_a_feature_that_never_varies_is_left_out():
    vectors = correlated_vectors(100, 4)
    vectors[:, 2] = 7.0
    gaussian = detectors.fit_gaussian(in_batches(vectors, full=True))
    assert gaussian.rank == 3
    assert np.isfinite(mahalanobis(vectors, gaussian)).all()
    identity = jax.tree_util.Partial(lambda x: x)
    scores = detectors.diagonal_mahalanobis_score(identity, gaussian.mean, gaussian.variance, vectors)
    assert np.isfinite(scores).all()


def test_representations_that_are_all_equal_are_refused():
    moments = update_moments(empty_moments(4, full=True), np.ones((10, 4), np.float32))
    with pytest.raises(DegenerateDataError, match="all representations of the normal images are equal"):
        detectors.fit_gaussian(moments)


def test_all_four_together_equal_each_alone():
    student, teacher = network(1), network(2)
    gaussian = detectors.fit_gaussian(in_batches(np.asarray(teacher(IMAGES)), full=True))
    together = detectors.anomaly_scores(student, teacher, gaussian, IMAGES)
    alone = {
        "kd": detectors.distillation_score(student, teacher, IMAGES),
        "mse": detectors.mse_score(teacher, gaussian.mean, IMAGES),
        "mahalanobis_diag": detectors.diagonal_mahalanobis_score(teacher, gaussian.mean, gaussian.variance, IMAGES),
        "mahalanobis_full": detectors.mahalanobis_score(teacher, gaussian, IMAGES),
    }
    assert together.keys() == alone.keys()
    for name in alone:
        np.testing.assert_allclose(together[name], alone[name], rtol=1e-3)


def test_scores_of_a_batch_equal_those_of_single_images():
    student, teacher = network(1), network(2)
    together = detectors.distillation_score(student, teacher, IMAGES[:4])
    alone = [detectors.distillation_score(student, teacher, IMAGES[i : i + 1])[0] for i in range(4)]
    np.testing.assert_allclose(together, np.asarray(alone), rtol=1e-5)


def test_importing_the_scoring_functions_is_light():
    code = (
        "import sys, brittle_jax.evaluate.detectors, brittle_jax.evaluate.brittleness; "
        "heavy = {'tensorflow_datasets', 'matplotlib', 'tensorflow', 'grain', 'orbax.checkpoint'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"
