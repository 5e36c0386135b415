import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brittle_jax.evaluate import brittleness, detectors
from brittle_jax.evaluate.coordinates import Target, in_coordinates
from brittle_jax.evaluate.detectors import fit_gaussian
from tests.evaluate.moments_test import correlated_vectors, in_batches

VECTORS = correlated_vectors(400, 6, 2.0)
NEW = correlated_vectors(9, 6, 2.0, seed=1)
GAUSSIAN = fit_gaussian(in_batches(VECTORS, full=True))
MEAN_PREDICTORS = {"raw": ("mse", 6), "standardised": ("mahalanobis_diag", 1), "whitened": ("mahalanobis_full", 1)}


def mean_of(targets, gaussian):
    return gaussian.mean if targets == "raw" else jnp.zeros_like(gaussian.mean)


@pytest.mark.parametrize("targets", MEAN_PREDICTORS)
def test_a_student_that_predicts_the_mean_is_another_detector(targets):
    student = jnp.broadcast_to(mean_of(targets, GAUSSIAN), NEW.shape)
    scores = detectors.scores_of_outputs(student, NEW, GAUSSIAN, GAUSSIAN.coordinates(targets))
    name, factor = MEAN_PREDICTORS[targets]
    np.testing.assert_allclose(scores["kd"], factor * scores[name], rtol=1e-5)


@pytest.mark.parametrize("targets", ["standardised", "whitened"])
def test_normal_outputs_have_mean_0_and_variance_1(targets):
    mapped = np.asarray(GAUSSIAN.coordinates(targets)(VECTORS))
    np.testing.assert_allclose(mapped.mean(axis=0), 0, atol=1e-5)
    covariance = np.cov(mapped, rowvar=False)
    np.testing.assert_allclose(np.diagonal(covariance), 1, rtol=1e-4)
    correlation = np.abs(covariance - np.eye(6)).max()
    assert correlation < 1e-4 if targets == "whitened" else correlation > 0.1


def test_targets_of_no_name_are_refused():
    with pytest.raises(ValueError, match="'sharpened' is not one of raw, standardised, whitened"):
        GAUSSIAN.coordinates("sharpened")


def test_raw_outputs_are_left_as_they_are():
    assert GAUSSIAN.coordinates("raw") is None
    assert in_coordinates(None, NEW) is NEW


@pytest.mark.parametrize("targets", ["standardised", "whitened"])
def test_a_feature_that_does_not_vary_is_left_out(targets):
    vectors, new = VECTORS.copy(), NEW.copy()
    vectors[:, 2] = 5
    coordinates = fit_gaussian(in_batches(vectors, full=True)).coordinates(targets)
    new[:, 2] = np.arange(9) * 1000
    mapped = np.asarray(coordinates(new))
    assert np.isfinite(mapped).all()
    new[:, 2] = 5
    np.testing.assert_allclose(mapped, coordinates(new), rtol=1e-5)
    assert (~mapped.any(axis=0)).sum() == 1


@pytest.mark.parametrize("path", ["student", "both"])
def test_equation_2_is_taken_in_the_coordinates(path):
    rng = np.random.default_rng(0)
    images = rng.uniform(size=(5, 2, 2, 3)).astype(np.float32)
    weights = [rng.normal(size=(12, 6)).astype(np.float32) for _ in range(2)]
    student, teacher = (jax.tree_util.Partial(lambda w, x: x.reshape(len(x), -1) @ w, each) for each in weights)
    coordinates = GAUSSIAN.coordinates("whitened")
    norms, errors = brittleness.gradient_norms_and_errors(student, Target(teacher, coordinates), images, path=path)
    flat, mean, whitening = images.reshape(5, -1), np.asarray(GAUSSIAN.mean), np.asarray(GAUSSIAN.whitening)
    expected = flat @ weights[0] - (flat @ weights[1] - mean) @ whitening
    np.testing.assert_allclose(errors, expected, rtol=1e-3, atol=1e-4)
    slope = weights[0] - (weights[1] @ whitening if path == "both" else 0)
    np.testing.assert_allclose(norms, np.linalg.norm(2 / 6 * expected @ slope.T, axis=1), rtol=1e-3)
