"""Paired comparisons of AUROC, against scikit-learn, DeLong's variance and numbers worked out by hand."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from brittle_jax.evaluate.comparisons import bootstrap_aurocs, difference, holm

LABELS = np.repeat([0, 1], [80, 60])


def made_scores(seed=0):
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=140)
    return {"a": np.round(shared + LABELS, 1), "b": shared + 0.5 * LABELS + 0.3 * rng.normal(size=140)}


def test_the_first_is_the_auroc_itself_with_ties():
    for name, resampled in bootstrap_aurocs(LABELS, made_scores(), num_samples=3, seed=0).items():
        assert resampled.shape == (4,)
        assert resampled[0] == pytest.approx(roc_auc_score(LABELS, made_scores()[name]))


def test_every_resample_is_the_auroc_of_resampled_samples():
    scores = made_scores()["a"]
    resampled = bootstrap_aurocs(LABELS, {"a": scores}, num_samples=5, seed=3)["a"]
    rng = np.random.default_rng(3)
    normal, anomalous = (rng.integers(count, size=(5, count)) for count in (80, 60))
    expected = [
        roc_auc_score(LABELS, np.concatenate([scores[:80][first], scores[80:][second]]))
        for first, second in zip(normal, anomalous, strict=True)
    ]
    np.testing.assert_allclose(resampled[1:], expected, rtol=1e-6)


def test_the_deviation_of_a_difference_is_that_of_delong():
    scores = made_scores()
    placements = []
    for values in scores.values():
        above = (values[80:, None] > values[:80]) + 0.5 * (values[80:, None] == values[:80])
        placements.append((above.mean(axis=0), above.mean(axis=1)))
    (normal_a, anomalous_a), (normal_b, anomalous_b) = placements
    variance = np.var(normal_a - normal_b, ddof=1) / 80 + np.var(anomalous_a - anomalous_b, ddof=1) / 60
    resampled = bootstrap_aurocs(LABELS, scores, num_samples=3000, seed=0)
    assert np.std((resampled["a"] - resampled["b"])[1:]) == pytest.approx(np.sqrt(variance), rel=0.08)


def test_a_difference_has_its_interval_and_p_value():
    second = np.full(2001, 0.5)
    first = second + np.append(0.2, np.random.default_rng(0).normal(0.2, 0.1, 2000))
    found = difference(first, second)
    assert found.value == pytest.approx(0.2)
    assert found.interval == pytest.approx((0.004, 0.396), abs=0.02)
    assert found.p_value == pytest.approx(0.0455, abs=0.01)  # two deviations
    assert difference(second, second).p_value == 1
    assert difference(second + 0.1, second).p_value == 0


def resampled_differences(values, deviation):
    """Returns AUROCs of seeds whose differences to 0.5 have some values, and resamples that deviate alike."""
    noise = deviation * np.random.default_rng(0).standard_normal(4000)
    return 0.5 + np.array(values)[:, None] + np.append(0, noise - noise.mean())


def test_seeds_that_agree_leave_the_variance_of_test_samples():
    found = difference(resampled_differences([0.2, 0.2, 0.2], 0.1), np.full((3, 4001), 0.5))
    assert (found.value, found.num_seeds) == (pytest.approx(0.2), 3)
    assert found.interval == pytest.approx((0.2 - 0.196, 0.2 + 0.196), abs=0.01)
    assert found.p_value == pytest.approx(0.0455, abs=0.01)


def test_seeds_that_alone_vary_are_those_of_a_paired_t_test():
    values = [0.1, 0.2, 0.4]
    found = difference(resampled_differences(values, 0), np.full((3, 4001), 0.5))
    expected = stats.ttest_1samp(values, 0)
    assert found.value == pytest.approx(0.7 / 3)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval()))


def test_both_parts_of_the_variance_add_up():
    found = difference(resampled_differences([0.1, 0.3], 0.1), np.full((2, 4001), 0.5))
    # Each part has a variance of 0.01: 1 * 2² degrees of freedom, and a deviation of 0.1 √2.
    assert found.p_value == pytest.approx(2 * stats.t.sf(0.2 / 0.02**0.5, 4), abs=0.005)
    assert found.interval[1] - found.value == pytest.approx(0.02**0.5 * stats.t.ppf(0.975, 4), rel=0.02)


def test_holm_by_hand():
    # 3 * 0.01, then 2 * 0.02 and 0.03, which may not be below the one before.
    assert holm({"c": 0.03, "a": 0.01, "b": 0.02}) == pytest.approx({"c": 0.04, "a": 0.03, "b": 0.04})
    assert holm({"a": 0.6, "b": 0.9}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}
