import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import covariance as sklearn_covariance

from brittle_jax.errors import DegenerateDataError
from brittle_jax.evaluate import detectors
from brittle_jax.evaluate.moments import covariance_of, empty_moments, moments_of, update_moments
from brittle_jax.models.network import ARCHITECTURES, Network, init_variables
from tests.evaluate.moments_test import correlated_vectors, in_batches

IMAGES = np.random.default_rng(0).uniform(size=(12, 32, 32, 3)).astype(np.float32)


def network(seed, features=16):
    module = ARCHITECTURES["small_resnet_tiny"].with_output(features)
    return Network(module, init_variables(module, seed, (32, 32, 3)))


@jax.jit
def outputs_of(network, images):
    return network(images)


def mahalanobis(vectors, gaussian):
    identity = jax.tree_util.Partial(lambda x: x)
    return np.asarray(detectors.mahalanobis_score(identity, gaussian, vectors))


def vectors_of_rank(rank, count, features, *, mean=0.0, variance_range=1.0, seed=0):
    """Draws float32 vectors as a linear head gives them, of fewer pooled features; `mean` is in deviations."""
    rng = np.random.default_rng(seed)
    scale = np.geomspace(1, variance_range**-0.5, features)
    head = (rng.normal(size=(rank, features)) / rank**0.5 * scale).astype(np.float32)
    return (rng.normal(size=(count, rank)) + mean * rng.normal(size=rank)).astype(np.float32) @ head


def pseudo_inverse_scores(vectors, rank, test):
    """Returns Mahalanobis distances in float64, by the pseudo-inverse of a covariance of known rank."""
    deviations = vectors - vectors.mean(axis=0, dtype=np.float64)
    _, singular_values, directions = np.linalg.svd(deviations, full_matrices=False)
    whitened = (test - vectors.mean(axis=0, dtype=np.float64)) @ directions[:rank].T / singular_values[:rank]
    return np.square(whitened).sum(axis=-1) * (len(vectors) - 1)


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


SUMS = {"in memory": moments_of, "in batches": lambda vectors: in_batches(vectors, full=True, batch_size=50)}


@pytest.mark.parametrize("sums", SUMS)
@pytest.mark.parametrize(("mean", "variance_range"), [(0.0, 1.0), (50.0, 1.0), (0.0, 1e4), (50.0, 1e4), (1e4, 1.0)])
def test_rounding_makes_no_directions(sums, mean, variance_range):
    for features, count in ((32, 400), (128, 200), (128, 1000), (256, 3000)):
        for rank in (1, 3, features // 2):
            vectors = vectors_of_rank(rank, count, features, mean=mean, variance_range=variance_range)
            assert detectors.fit_gaussian(SUMS[sums](vectors)).rank == rank, (features, count)


@pytest.mark.parametrize("sums", SUMS)
def test_a_deviation_in_which_no_normal_image_varies_does_not_count(sums):
    vectors = vectors_of_rank(64, 200, 128, mean=2.0)
    gaussian = detectors.fit_gaussian(SUMS[sums](vectors))
    unseen = np.linalg.svd(vectors - vectors.mean(axis=0, dtype=np.float64))[2][64:67]
    test = (vectors[:3] + 0.1 * unseen).astype(np.float32)
    np.testing.assert_allclose(mahalanobis(test, gaussian), pseudo_inverse_scores(vectors, 64, test), rtol=1e-4)


@pytest.mark.parametrize("sums", SUMS)
@pytest.mark.parametrize("variance_range", [1.0, 1e4])
def test_what_varies_counts_and_is_whitened_as_it_was_summed(sums, variance_range):
    for features, count in ((32, 100), (128, 3000), (256, 1000)):
        vectors = vectors_of_rank(features, count, features, mean=5.0, variance_range=variance_range)
        moments = SUMS[sums](vectors)
        gaussian = detectors.fit_gaussian(moments)
        assert gaussian.rank == features
        eigenvalues, eigenvectors = np.linalg.eigh(covariance_of(moments))
        np.testing.assert_array_equal(gaussian.whitening, np.float32(eigenvectors / np.sqrt(eigenvalues)))
        np.testing.assert_array_equal(gaussian.variance, np.float32(np.diagonal(covariance_of(moments))))


@pytest.mark.parametrize(("covariance", "shrinkage"), [("ridge", 0.01), ("ledoit_wolf", 0.01), ("ridge", 1e-4)])
def test_a_shrunk_covariance_keeps_every_direction(covariance, shrinkage):
    vectors = vectors_of_rank(64, 200, 128, mean=2.0)
    gaussian = detectors.fit_gaussian(moments_of(vectors), covariance=covariance, shrinkage=shrinkage)
    assert gaussian.rank == 128
    matrix = np.cov(vectors.astype(np.float64), rowvar=False)
    target = np.trace(matrix) / 128 * np.eye(128)
    matrix = (1.0 if covariance == "ridge" else 1 - shrinkage) * matrix + shrinkage * target
    deviations = vectors[:20] + np.float32(0.1) - vectors.mean(axis=0, dtype=np.float64)
    expected = np.einsum("ni,ij,nj->n", deviations, np.linalg.inv(matrix), deviations)
    np.testing.assert_allclose(mahalanobis(vectors[:20] + np.float32(0.1), gaussian), expected, rtol=2e-3)


def test_a_real_networks_rank_is_that_of_its_pooled_features():
    teacher = network(1, features=128)  # 64 pooled features
    images = np.random.default_rng(1).uniform(size=(160, 32, 32, 3)).astype(np.float32)
    images *= np.linspace(0, 1, 32, dtype=np.float32)[None, :, None, None]
    outputs = np.asarray(outputs_of(teacher, images))
    for sums in SUMS.values():
        assert detectors.fit_gaussian(sums(outputs)).rank == 64
        assert detectors.fit_gaussian(sums(outputs[:50])).rank == 49


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


@pytest.mark.parametrize("sums", SUMS)
@pytest.mark.parametrize("value", [1e-3, 7.0, 1e6])
def test_a_feature_that_varies_by_rounding_alone_is_left_out(sums, value):
    vectors = correlated_vectors(200, 6, mean=2.0)
    steps = np.random.default_rng(1).integers(-3, 4, size=200)
    vectors[:, 2] = np.float32(value) + steps * np.spacing(np.float32(value))
    vectors[:, 4] *= 1e-3  # small is not constant
    gaussian = detectors.fit_gaussian(SUMS[sums](vectors))
    assert gaussian.rank == 5
    assert np.isinf(gaussian.variance).tolist() == [False, False, True, False, False, False]
    others = np.delete(vectors, 2, axis=1)
    np.testing.assert_allclose(mahalanobis(vectors, gaussian), pseudo_inverse_scores(others, 5, others), rtol=1e-3)


def test_representations_that_are_equal_but_for_rounding_are_refused():
    vectors = np.float32(3) + np.random.default_rng(1).integers(-3, 4, size=(50, 8)) * np.spacing(np.float32(3))
    with pytest.raises(DegenerateDataError, match="all representations of the normal images are equal"):
        detectors.fit_gaussian(moments_of(vectors.astype(np.float32)))


def test_representations_that_are_all_equal_are_refused():
    moments = update_moments(empty_moments(4, full=True), np.ones((10, 4), np.float32))
    with pytest.raises(DegenerateDataError, match="all representations of the normal images are equal"):
        detectors.fit_gaussian(moments)


def test_all_four_together_equal_each_alone():
    student, teacher = network(1), network(2)
    gaussian = detectors.fit_gaussian(in_batches(np.asarray(outputs_of(teacher, IMAGES)), full=True))
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


def test_importing_the_package_needs_no_jax_and_loading_a_detector_no_data_sets():
    code = (
        "import sys, brittle_jax; assert 'jax' not in sys.modules and 'load_detector' in dir(brittle_jax); "
        "brittle_jax.load_detector; "
        "print(sorted({'tensorflow_datasets', 'matplotlib', 'tensorflow'} & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"
