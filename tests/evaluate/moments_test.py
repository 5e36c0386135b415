import numpy as np
import pytest

from brittle_jax.errors import DegenerateDataError
from brittle_jax.evaluate.moments import (
    covariance_of,
    empty_moments,
    merge_moments,
    moments_of,
    rounding_of,
    update_moments,
)
from brittle_jax.rows import RowFile


def in_batches(vectors, *, full, batch_size=64):
    moments = empty_moments(vectors.shape[1], full=full)
    for start in range(0, len(vectors), batch_size):
        moments = update_moments(moments, vectors[start : start + batch_size])
    return moments


def correlated_vectors(count, features, mean=0.0, seed=0):
    """Draws vectors of one fixed covariance; another seed gives other vectors of it."""
    mixing = np.random.default_rng(99).normal(size=(features, features))
    rng = np.random.default_rng(seed)
    return (mean + rng.normal(size=(count, features)) @ mixing / features**0.5).astype(np.float32)


@pytest.mark.parametrize("full", [True, False])
def test_moments_equal_numpy(full):
    vectors = correlated_vectors(1000, 20)
    expected = np.cov(vectors.astype(np.float64), rowvar=False, ddof=1)
    moments = in_batches(vectors, full=full)
    np.testing.assert_allclose(moments.mean, vectors.mean(axis=0, dtype=np.float64), atol=1e-6)
    np.testing.assert_allclose(covariance_of(moments), expected if full else np.diag(expected), atol=1e-5)


@pytest.mark.parametrize("features", [64, 65, 150, 600])
def test_the_covariance_of_vectors_in_memory_is_symmetric(features):
    vectors = correlated_vectors(700, features, mean=3.0)
    expected = np.cov(vectors.astype(np.float64), rowvar=False, ddof=1)
    covariance = covariance_of(moments_of(vectors))
    np.testing.assert_array_equal(covariance, covariance.T)
    np.testing.assert_allclose(covariance, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("full", [True, False])
def test_moments_of_rows_in_a_file_equal_those_in_memory(tmp_path, full):
    vectors, indices = correlated_vectors(9000, 4, mean=5.0), np.arange(0, 9000, 2)
    file = RowFile(9000, 4, tmp_path)
    file[np.arange(9000)] = vectors
    for actual, expected in zip(
        moments_of(file, indices, full=full), moments_of(vectors[indices], full=full), strict=True
    ):
        np.testing.assert_array_equal(actual, expected)


def test_moments_of_vectors_in_memory_equal_those_in_batches():
    vectors = correlated_vectors(40_000, 4, mean=5.0)
    whole, batches = moments_of(vectors), in_batches(vectors, full=True)
    assert float(whole.count) == 40_000
    np.testing.assert_allclose(whole.mean, batches.mean, rtol=1e-6)
    np.testing.assert_allclose(covariance_of(whole), covariance_of(batches), rtol=1e-5)


@pytest.mark.parametrize("full", [True, False])
def test_moments_survive_a_mean_a_thousand_times_the_spread(full):
    vectors = correlated_vectors(5000, 10, mean=1000.0)
    expected = np.cov(vectors.astype(np.float64), rowvar=False, ddof=1)
    expected = expected if full else np.diag(expected)
    covariance = covariance_of(in_batches(vectors, full=full))
    assert np.abs(covariance - expected).max() <= 1e-4 * np.abs(expected).max()
    if full:
        in_memory = covariance_of(moments_of(vectors, np.arange(5000)[::-1]))
        assert np.abs(in_memory - expected).max() <= 1e-4 * np.abs(expected).max()
    # Sums of squares in float32, which the shift avoids, lose the covariance altogether.
    naive = np.square(vectors).mean(axis=0) - np.square(vectors.mean(axis=0))
    assert np.abs(naive - vectors.var(axis=0, dtype=np.float64)).max() > 1e-2


def test_masked_vectors_do_not_count():
    vectors = correlated_vectors(50, 8)
    padded = np.concatenate([vectors, np.zeros((14, 8), np.float32)])
    masked = update_moments(empty_moments(8, full=True), padded, np.arange(64) < 50)
    plain = update_moments(empty_moments(8, full=True), vectors)
    assert float(masked.count) == 50
    np.testing.assert_allclose(masked.mean, plain.mean, atol=1e-6)
    np.testing.assert_allclose(covariance_of(masked), covariance_of(plain), atol=1e-6)


def test_a_batch_of_padding_changes_nothing():
    for start in (empty_moments(8, full=True), in_batches(correlated_vectors(50, 8), full=True)):
        after = update_moments(start, np.zeros((4, 8), np.float32), np.zeros(4, bool))
        for before, unchanged in zip(start, after, strict=True):
            np.testing.assert_array_equal(unchanged, before)


def test_merging_parts_equals_the_whole():
    vectors = correlated_vectors(300, 8, mean=10.0)
    parts = [in_batches(vectors[start::3], full=True) for start in range(3)]
    whole = in_batches(vectors, full=True)
    merged = merge_moments(merge_moments(*parts[:2]), parts[2])
    assert merged.count == 300
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-6)
    np.testing.assert_allclose(covariance_of(merged), covariance_of(whole), atol=1e-5)


def test_merging_with_nothing_keeps_the_other():
    moments = in_batches(correlated_vectors(30, 4), full=False)
    nothing = empty_moments(4, full=False)
    for merged in (merge_moments(nothing, moments), merge_moments(moments, nothing)):
        np.testing.assert_allclose(covariance_of(merged), covariance_of(moments))
        np.testing.assert_allclose(merged.mean, moments.mean)


@pytest.mark.parametrize(("repeats", "in_a_row"), [(1, 4), (500, 1024)])
def test_what_rounding_makes_by_hand(repeats, in_a_row):
    # Two uncorrelated features, and a third that is the first but for its scale; every fourth vector is the same.
    vectors = np.tile(np.float32([[1, 1, 2], [1, -1, 2], [-1, 1, -2], [-1, -1, -2]]), (repeats, 1)) + np.float32(5)
    count, unit = 4 * repeats, 2.0**-24
    variance = np.array([1, 1, 4]) * count / (count - 1)
    of_features, share = rounding_of(moments_of(vectors))
    np.testing.assert_allclose(of_features, 256 * unit**2 * (25 + variance), rtol=1e-6)
    squared_norm = in_a_row / count * (in_a_row / 3 * 2 + 3 / 2)
    np.testing.assert_allclose(share - of_features, 1.25 * unit * squared_norm**0.5 * variance, rtol=1e-6)


def test_rounding_takes_constant_features_for_what_they_are():
    vectors = correlated_vectors(100, 4)
    vectors[:, 1] = 0
    of_features, share = rounding_of(moments_of(vectors))
    assert of_features[1] == share[1] == 0
    assert np.isfinite(share).all() and (np.delete(share, 1) > np.delete(of_features, 1)).all()


def test_covariance_of_one_vector_is_refused():
    with pytest.raises(DegenerateDataError, match="at least 2 vectors, not 1"):
        covariance_of(update_moments(empty_moments(4, full=True), np.ones((1, 4), np.float32)))
