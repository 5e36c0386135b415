"""Statistics over teachers, against SciPy and against numbers worked out by hand."""

import numpy as np
import pytest
from scipy import stats

from brittle_jax.evaluate.statistics import (
    correlation,
    effective_dimensions,
    partial_correlation,
    principal_directions,
    regrets,
    tight_share,
    value_at,
    variance_shares,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=12)
Y = X + RNG.normal(size=12)
Z = X - RNG.normal(size=12)


def test_correlations_are_those_of_scipy():
    found = correlation({"x": X, "y": Y}, "x", "y")
    assert found.count == 12
    assert found.pearson.value == pytest.approx(stats.pearsonr(X, Y).statistic)
    assert found.spearman.value == pytest.approx(stats.spearmanr(X, Y).statistic)
    assert found.pearson.p_value == pytest.approx(stats.pearsonr(X, Y).pvalue, rel=0.2)
    low, high = found.pearson.interval
    assert low < found.pearson.value < high


def test_ties_share_their_rank():
    x, y = np.array([1.0, 2, 2, 3, 5]), np.array([2.0, 2, 1, 4, 4])
    assert correlation({"x": x, "y": y}, "x", "y").spearman.value == pytest.approx(stats.spearmanr(x, y).statistic)


def test_with_few_teachers_all_permutations_are_taken():
    x = np.arange(4.0)
    # Of the 24 orders only the one and its reverse reach 1.
    assert correlation({"x": x, "y": x}, "x", "y").spearman.p_value == pytest.approx(2 / 24)
    expected = stats.permutation_test(
        (X[:6],),
        lambda x: abs(stats.pearsonr(x, Y[:6]).statistic),
        permutation_type="pairings",
        n_resamples=np.inf,
        alternative="greater",
    )
    assert correlation({"x": X[:6], "y": Y[:6]}, "x", "y").pearson.p_value == pytest.approx(expected.pvalue)


def test_a_bootstrap_interval_is_that_of_scipy():
    columns = {"x": X, "y": Y}
    found = correlation(columns, "x", "y", num_resamples=8000).pearson.interval
    expected = stats.bootstrap(
        (X, Y), lambda x, y: stats.pearsonr(x, y).statistic, paired=True, method="percentile", rng=1, n_resamples=2000
    ).confidence_interval
    assert found == pytest.approx((expected.low, expected.high), abs=0.06)
    assert correlation(columns, "x", "y", num_resamples=0).pearson.interval is None


@pytest.mark.parametrize("x", [[1.0, 2.0], [1.0, 1.0, 1.0], [np.nan, 1.0, 2.0]])
def test_what_cannot_be_computed_is_none(x):
    found = correlation({"x": np.array(x), "y": np.arange(float(len(x)))}, "x", "y")
    assert found.pearson == found.spearman == (None, None, None)


def test_teachers_of_which_something_is_unknown_are_left_out():
    with_gap = correlation({"x": np.append(X, np.nan), "y": np.append(Y, 7)}, "x", "y")
    assert with_gap == correlation({"x": X, "y": Y}, "x", "y")


def test_a_partial_correlation_is_that_of_the_residuals():
    def residuals(values):
        return values - np.polyval(np.polyfit(Z, values, 1), Z)

    found = partial_correlation({"x": X, "y": Y, "z": Z}, "x", "y", "z")
    assert found.pearson.value == pytest.approx(np.corrcoef(residuals(X), residuals(Y))[0, 1])
    assert found.pearson.p_value is None
    three = {"x": X[:3], "y": Y[:3], "z": Z[:3]}
    assert partial_correlation(three, "x", "y", "z").pearson.value is None


def test_regrets_by_hand():
    columns = {"kd": np.array([60.0, 90, 70]), "brittleness": np.array([3.0, 2, 1]), "probe": np.array([1.0, 1, 0])}
    found = regrets(columns, "kd", ("brittleness", "probe"))
    assert found["brittleness"].of_all == 30
    np.testing.assert_allclose(found["brittleness"].leaving_one_out, [0, 10, 30])
    assert found["brittleness"].expected == pytest.approx(40 / 3)
    assert found["probe"].of_all == 15  # the first two are chosen equally often
    assert found["at random"].of_all == pytest.approx(90 - 220 / 3)
    np.testing.assert_allclose(found["at random"].leaving_one_out, [10, 5, 15])


def test_variance_shares_of_a_sum_of_effects():
    teacher, detector = np.array([-3.0, 0, 3]), np.array([-1.0, 1])
    shares = variance_shares(
        (teacher[:, None] + detector)[..., None] + np.zeros((3, 2, 1)), ("teacher", "detector", "seed")
    )
    assert shares == pytest.approx({"teacher": 6 / 7, "detector": 1 / 7, "interactions and rest": 0})
    interaction = np.array([[1.0, -1], [-1, 1]])
    assert variance_shares(interaction, ("a", "b"))["interactions and rest"] == pytest.approx(1)
    assert variance_shares(np.ones((2, 2)), ("a", "b")) == {}


def test_a_value_at_a_level_lies_on_the_line_in_the_logarithm():
    levels, values = np.array([4.0, 1.0, 0.25]), np.array([10.0, 20.0, 40.0])
    assert value_at(levels, values, 2) == pytest.approx(15)
    assert value_at(levels, values, 4) == 10
    assert value_at(levels, values, 0.25) == pytest.approx(40)
    assert value_at(levels, values, 8) is None and value_at(levels, values, 0.1) is None


def test_the_spectrum_of_errors_with_known_variances():
    directions = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    # Plus and minus each axis: variances in the ratio 9 to 4 to 1.
    errors = np.concatenate([sign * np.diag([3.0, 2, 1]) @ directions for sign in (1, -1)]) + 5
    shares = principal_directions(errors).shares
    np.testing.assert_allclose(shares, np.array([9, 4, 1]) / 14)
    assert effective_dimensions(shares) == pytest.approx(14**2 / (81 + 16 + 1))
    assert effective_dimensions(np.full(4, 0.25)) == pytest.approx(4)
    assert effective_dimensions([2.0, 2.0, 2.0, 0.0]) == pytest.approx(3)
    assert effective_dimensions([5.0, 0.0, 0.0, 0.0]) == pytest.approx(1)
    along_tight, along_wide = errors.mean(axis=0) + directions[2:] * 7, errors.mean(axis=0) + directions[:1] * 7
    assert tight_share(principal_directions(errors), along_tight, 1 / 3) == pytest.approx(1)
    assert tight_share(principal_directions(errors), along_wide, 1 / 3) == pytest.approx(0)
    assert tight_share(principal_directions(errors), errors, 1 / 3) == pytest.approx(1 / 14)
