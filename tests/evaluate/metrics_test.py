import numpy as np
import pytest
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score, roc_curve

from brittle_jax.errors import DegenerateDataError
from brittle_jax.evaluate import metrics


def sample(count, seed=0, ties=False):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % 3 == 0).astype(int)
    scores = rng.normal(size=count) + labels
    return labels, np.round(scores) if ties else scores


@pytest.mark.parametrize("ties", [False, True])
def test_auroc_equals_scikit_learn_and_the_share_of_ordered_pairs(ties):
    labels, scores = sample(200, ties=ties)
    normal, anomalous = scores[labels == 0], scores[labels == 1]
    pairs = (anomalous[:, None] > normal).mean() + 0.5 * (anomalous[:, None] == normal).mean()
    auroc = metrics.separation(labels, scores)["auroc"]
    assert auroc == pytest.approx(pairs)
    assert auroc == pytest.approx(roc_auc_score(labels, scores))


def test_metrics_by_hand():
    labels = np.array([0, 0, 0, 0, 1, 1])
    scores = np.array([0.1, 0.2, 0.3, 0.9, 0.8, 1.0])
    separation = metrics.separation(labels, scores)
    assert separation["auroc"] == pytest.approx(7 / 8)
    assert separation["average_precision"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert separation["fpr_at_95_tpr"] == pytest.approx(1 / 4)


def test_auroc_below_one_half_is_not_flipped():
    labels, scores = sample(100)
    assert metrics.separation(labels, -scores)["auroc"] == pytest.approx(1 - roc_auc_score(labels, scores))


def test_one_class_is_refused():
    with pytest.raises(DegenerateDataError, match="both normal and anomalous"):
        metrics.separation(np.zeros(3), np.arange(3.0))


@pytest.mark.parametrize("ties", [False, True])
def test_interval_equals_a_bootstrap_with_scipy(ties):
    labels, scores = sample(300, ties=ties)
    interval = metrics.auroc_interval(labels, scores, num_samples=2000, seed=0)
    rng = np.random.default_rng(7)
    classes = scores[labels == 0], scores[labels == 1]
    draws = [[rng.choice(each, len(each)) for each in classes] for _ in range(2000)]
    normal, anomalous = (np.stack(each) for each in zip(*draws, strict=True))
    # The Mann-Whitney statistic counts the pairs in order, ties by half: AUROC is its share of all pairs.
    ordered = mannwhitneyu(anomalous, normal, axis=1, method="asymptotic").statistic
    areas = ordered / (normal.shape[1] * anomalous.shape[1])
    np.testing.assert_allclose(interval, np.percentile(areas, [2.5, 97.5]), atol=0.006)


def test_interval_of_perfect_scores_is_a_point():
    labels = np.repeat([0, 1], 10)
    assert metrics.auroc_interval(labels, labels.astype(float), num_samples=50, seed=0) == (1.0, 1.0)


def test_false_positive_rate_counts_every_tie():
    # Twenty ranks, each of one normal and one anomalous sample: 19 of 20 anomalous ones cost 19 of 20 normal ones.
    ranks = np.repeat(np.arange(20.0), 2)
    assert metrics.separation(np.tile([0, 1], 20), ranks)["fpr_at_95_tpr"] == pytest.approx(0.95)


@pytest.mark.parametrize("ties", [False, True])
def test_the_roc_band_holds_scikit_learns_curve(ties):
    labels, scores = sample(150, ties=ties)
    band = metrics.roc_band(labels, scores, num_samples=200, seed=0)
    false_positives, true_positives, _ = roc_curve(labels, scores, drop_intermediate=False)
    for rate, reached in zip(band["false_positive_rate"], band["true_positive_rate"], strict=True):
        # The highest point of the line through scikit-learn's vertices at this rate.
        after = np.searchsorted(false_positives, rate + 1e-9)
        if after == len(false_positives) or abs(false_positives[after - 1] - rate) < 1e-9:
            expected = true_positives[after - 1]
        else:
            share = (rate - false_positives[after - 1]) / (false_positives[after] - false_positives[after - 1])
            expected = true_positives[after - 1] + share * (true_positives[after] - true_positives[after - 1])
        assert reached == pytest.approx(expected)
    assert (band["low"] <= band["true_positive_rate"]).all() and (band["true_positive_rate"] <= band["high"]).all()


def test_the_roc_band_by_hand():
    labels = np.array([0, 0, 1, 1, 1])
    scores = np.array([1.0, 3.0, 0.0, 2.0, 4.0])
    band = metrics.roc_band(labels, scores, num_samples=10, seed=0)
    expected = {0.0: 1 / 3, 0.49: 1 / 3, 0.5: 2 / 3, 0.99: 2 / 3, 1.0: 1.0}
    for rate, reached in expected.items():
        assert band["true_positive_rate"][round(100 * rate)] == pytest.approx(reached)


def test_scores_that_are_all_equal_give_the_diagonal():
    band = metrics.roc_band(np.array([0, 0, 1]), np.ones(3), num_samples=10, seed=0)
    for name in ("true_positive_rate", "low", "high"):
        np.testing.assert_allclose(band[name], band["false_positive_rate"])


def test_the_roc_band_is_as_wide_as_a_binomial_share():
    # Anomalous scores far apart from normal ones on one side: the share found at the threshold is a binomial's.
    rng = np.random.default_rng(0)
    scores = np.concatenate([np.zeros(50), np.where(np.arange(400) < 240, 1.0, -1.0) + rng.uniform(0, 0.1, 400)])
    band = metrics.roc_band(np.repeat([0, 1], [50, 400]), scores, num_samples=4000, seed=0)
    deviation = np.sqrt(0.6 * 0.4 / 400)
    np.testing.assert_allclose(
        [band["low"][0], band["high"][0]], [0.6 - 1.96 * deviation, 0.6 + 1.96 * deviation], atol=0.005
    )
