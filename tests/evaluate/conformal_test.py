import pathlib
from fractions import Fraction
from math import comb

import numpy as np
import pytest
from scipy import stats

from brittle_jax.errors import DegenerateDataError, UserError
from brittle_jax.evaluate import conformal

LUCK = 1e-6  # the probability that a correct program fails a test of random draws


def normal(count, seed=0, *, ties=False):
    scores = np.random.default_rng(seed).normal(size=count)
    return np.round(scores, 1) if ties else scores


def likely_counts(num_draws, probability):
    """Returns the lowest and highest count of an event that are not as unlikely as LUCK."""
    return stats.binom.ppf(LUCK / 2, num_draws, probability), stats.binom.isf(LUCK / 2, num_draws, probability)


# p-values


def test_p_values_by_hand():
    found = conformal.p_values(np.array([3.0, 1.0, 2.0]), np.array([0.0, 1.0, 1.5, 3.0, 3.5]))
    np.testing.assert_array_equal(found, [4 / 4, 4 / 4, 3 / 4, 2 / 4, 1 / 4])


@pytest.mark.parametrize("ties", [False, True])
def test_p_values_equal_those_of_crepes(ties, crepes):
    calibration, scores = normal(137, ties=ties), normal(200, 1, ties=ties)
    assert np.isin(scores, calibration).any() == ties
    expected = crepes.ConformalClassifier().fit(calibration).predict_p(scores, smoothing=False)
    np.testing.assert_array_equal(conformal.p_values(calibration, scores), expected)


def test_the_flagged_images_are_those_that_crepes_keeps_out_of_its_prediction_set(crepes):
    calibration, scores = normal(137, ties=True), normal(200, 1, ties=True) + 1
    conforms = (
        crepes.ConformalClassifier().fit(calibration).predict_set(scores[:, None], confidence=0.9, smoothing=False)
    )
    flagged = scores > conformal.threshold(calibration, 0.1)
    assert 20 < flagged.sum() < 180
    np.testing.assert_array_equal(flagged, conforms[:, 0] == 0)


def test_equal_scores_are_never_unusual():
    np.testing.assert_array_equal(conformal.p_values(np.ones(99), np.ones(5)), np.ones(5))


def test_infinite_scores_have_their_place():
    found = conformal.p_values(np.array([0.0, np.inf]), np.array([-np.inf, np.inf]))
    np.testing.assert_array_equal(found, [1, 2 / 3])


def test_without_calibration_scores_nothing_is_unusual():
    np.testing.assert_array_equal(conformal.p_values(np.empty(0), np.arange(3.0)), np.ones(3))


def test_the_order_of_calibration_scores_does_not_matter():
    calibration, scores = normal(99, ties=True), normal(50, 1, ties=True)
    shuffled = np.random.default_rng(2).permutation(calibration)
    np.testing.assert_array_equal(conformal.p_values(shuffled, scores), conformal.p_values(calibration, scores))
    assert conformal.threshold(shuffled, 0.07) == conformal.threshold(calibration, 0.07)
    assert conformal.exchangeability(shuffled, scores) == conformal.exchangeability(calibration, scores)


@pytest.mark.parametrize(
    "function",
    [
        lambda scores: conformal.p_values(scores, np.zeros(1)),
        lambda scores: conformal.p_values(np.zeros(1), scores),
        lambda scores: conformal.threshold(scores, 0.5),
        lambda scores: conformal.group_scores(scores, np.arange(3)),
        lambda scores: conformal.exchangeability(scores, np.zeros(1)),
        lambda scores: conformal.exchangeability(np.zeros(1), scores),
    ],
)
def test_a_score_that_is_not_a_number_is_refused(function):
    with pytest.raises(DegenerateDataError, match="^1 of 3 scores are not numbers$"):
        function(np.array([0.0, np.nan, 1.0]))


# Thresholds


@pytest.mark.parametrize(
    ("rate", "num_calibration", "expected"),
    [
        (0.05, 19, 1),
        (0.01, 99, 1),
        (0.05, 39, 2),
        (0.05, 38, 1),
        (0.1, 99, 10),
        (0.29, 99, 29),
        (0.5, 1, 1),
        (0.9, 9, 9),
    ],
)
def test_ranks_by_hand(rate, num_calibration, expected):
    assert conformal.rank(num_calibration, rate) == expected


@pytest.mark.parametrize("num_digits", [1, 2, 3, 4])
def test_ranks_are_exact_for_every_decimal_rate(num_digits):
    scale = 10**num_digits
    for numerator in range(1, scale):
        rate = float(f"{numerator}e-{num_digits}")
        needed = -(-scale // numerator) - 1
        assert conformal.num_needed(rate) == needed
        for num_calibration in {needed, 99, 999, 9_999} - set(range(needed)):
            assert conformal.rank(num_calibration, rate) == numerator * (num_calibration + 1) // scale


@pytest.mark.parametrize("rate", [Fraction(1, 20), "0.05", np.float64(0.05), np.float32(0.05), 5e-2])
def test_a_rate_may_be_any_kind_of_number(rate):
    assert (conformal.num_needed(rate), conformal.rank(19, rate)) == (19, 1)


def test_the_threshold_by_hand():
    calibration = np.arange(39.0)
    assert conformal.threshold(calibration, 0.025) == 38  # rank 1: above all of them
    assert conformal.threshold(calibration, 0.05) == 37
    assert conformal.threshold(calibration, 0.0749) == 37
    assert conformal.threshold(calibration, 0.075) == 36


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("ties", [False, True])
def test_scores_above_the_threshold_are_those_with_a_p_value_of_at_most_the_rate(ties, dtype):
    calibration, scores = normal(99, ties=ties).astype(dtype), normal(300, 1, ties=ties).astype(dtype)
    scores = np.append(scores, calibration)
    found = conformal.p_values(calibration, scores)
    for percent in range(1, 100):
        rate = percent / 100
        np.testing.assert_array_equal(scores > conformal.threshold(calibration, rate), found <= rate)


def test_a_higher_rate_never_raises_the_threshold():
    calibration = normal(150, ties=True)
    for confidence in (None, 0.95):
        thresholds = [conformal.threshold(calibration, rate / 200, confidence=confidence) for rate in range(5, 200)]
        assert np.all(np.diff(thresholds) <= 0) and len(set(thresholds)) > 20


@pytest.mark.parametrize(("rate", "needed"), [(0.05, 19), (0.01, 99), (0.03, 33), (0.001, 999), (0.5, 1), (0.9, 1)])
def test_too_few_calibration_images_are_refused_with_the_number_needed(rate, needed):
    assert conformal.num_needed(rate) == needed
    assert conformal.threshold(np.arange(float(needed)), rate) == needed - 1
    message = (
        rf"^a false-alarm rate of {rate} needs {needed} calibration images \(images of one group count once\), "
        f"not {needed - 1}: calibrate on more .brittle_jax.score --recalibrate=DIR., or ask for a higher rate$"
    )
    with pytest.raises(DegenerateDataError, match=message):
        conformal.threshold(np.arange(needed - 1.0), rate)


@pytest.mark.parametrize("rate", [0, 1, -0.1, 5, np.nan, np.inf])
def test_a_rate_or_confidence_outside_0_and_1_is_refused(rate):
    with pytest.raises(UserError, match=f"^a false-alarm rate of {rate} is not between 0 and 1$"):
        conformal.threshold(np.arange(99.0), rate)
    with pytest.raises(UserError, match="false-alarm rate"):
        conformal.num_needed(rate)
    with pytest.raises(UserError, match=f"^a confidence of {rate} is not between 0 and 1$"):
        conformal.rank(99, 0.1, confidence=rate)
    with pytest.raises(UserError, match="confidence"):
        conformal.rate_bound(99, 0.1, confidence=rate)


# What the guarantee means


def flagged_uniform_scores(num_draws, num_calibration, rate, **settings):
    """Returns the false-alarm rates [num_draws] of thresholds that were drawn, for scores uniform in [0, 1]."""
    rng = np.random.default_rng(0)
    draws = rng.random((num_draws, num_calibration))
    return np.array([1 - conformal.threshold(scores, rate, **settings) for scores in draws])


@pytest.mark.parametrize(("num_calibration", "rate", "highest"), [(19, 0.05, 1), (99, 0.05, 5), (50, 0.1, 5)])
def test_false_alarms_over_many_draws_are_exactly_as_promised(num_calibration, rate, highest):
    num_draws = 20_000
    rng = np.random.default_rng(1)
    draws = rng.normal(size=(num_draws, num_calibration + 1))
    alarms = sum(draw[-1] > conformal.threshold(draw[:-1], rate) for draw in draws)
    low, high = likely_counts(num_draws, highest / (num_calibration + 1))
    assert low <= alarms <= high


def test_false_alarms_over_many_draws_are_fewer_where_scores_tie():
    num_draws = 5_000
    draws = np.random.default_rng(1).integers(0, 5, (num_draws, 40)).astype(float)
    alarms = sum(draw[-1] > conformal.threshold(draw[:-1], 0.3) for draw in draws)
    assert likely_counts(num_draws, 0.1)[0] < alarms <= likely_counts(num_draws, 0.3)[1]


@pytest.mark.parametrize(("num_calibration", "rate"), [(19, 0.05), (99, 0.05), (150, 0.1)])
def test_the_rate_of_one_draw_has_the_beta_distribution_and_keeps_its_bound(num_calibration, rate):
    rates = flagged_uniform_scores(4_000, num_calibration, rate)
    highest = conformal.rank(num_calibration, rate)
    assert stats.kstest(rates, stats.beta(highest, num_calibration + 1 - highest).cdf).pvalue > LUCK
    for confidence in (0.8, 0.95):
        bound = conformal.rate_bound(num_calibration, rate, confidence=confidence)
        low, high = likely_counts(len(rates), confidence)
        assert low <= np.sum(rates <= bound) <= high


@pytest.mark.parametrize(("num_calibration", "rate"), [(19, 0.05), (99, 0.01), (59, Fraction(1, 60))])
def test_the_bound_by_hand(num_calibration, rate):
    # The highest of C scores is exceeded at a rate above r with probability (1 - r) ** C.
    assert conformal.rank(num_calibration, rate) == 1
    assert conformal.rate_bound(num_calibration, rate) == pytest.approx(1 - 0.05 ** (1 / num_calibration))


# Wilks' table for 95% of a population with 95% confidence: 59, 93, 124, ... samples for the highest, second, ...
@pytest.mark.parametrize(("highest", "num_calibration"), [(1, 59), (2, 93), (3, 124), (4, 153), (5, 181)])
def test_conditional_ranks_are_those_of_wilks(highest, num_calibration):
    assert conformal.rank(num_calibration, 0.05, confidence=0.95) == highest
    if highest > 1:
        assert conformal.rank(num_calibration - 1, 0.05, confidence=0.95) == highest - 1


# The last three are confidences that 4, 2 and 2 images give exactly: rounding must not ask for one more.
@pytest.mark.parametrize(
    ("rate", "confidence"),
    [
        *((rate, confidence) for rate in (0.01, 0.05, 0.25, 0.5, 0.9) for confidence in (0.5, 0.75, 0.9, 0.95, 0.999)),
        *((0.6, 0.9744), (0.7, 0.91), (0.95, 0.9975)),
    ],
)
def test_conditional_ranks_are_the_largest_that_keep_the_confidence(rate, confidence):
    needed = conformal.num_needed(rate, confidence=confidence)
    chance, doubt = Fraction(str(rate)), 1 - Fraction(str(confidence))
    assert (1 - chance) ** needed <= doubt < (1 - chance) ** (needed - 1)
    if needed > 1:
        with pytest.raises(DegenerateDataError, match=f"with confidence {confidence} needs {needed} calibration"):
            conformal.rank(needed - 1, rate, confidence=confidence)
    for num_calibration in (needed, needed + 30):
        found = conformal.rank(num_calibration, rate, confidence=confidence)
        # The rate of rank k is too high where fewer than k of the calibration scores are in the top share `chance`.
        terms = [
            comb(num_calibration, above) * chance**above * (1 - chance) ** (num_calibration - above)
            for above in range(found + 1)
        ]
        assert sum(terms[:found]) <= doubt < sum(terms)


def test_conditional_thresholds_of_few_draws_exceed_the_rate():
    rates = flagged_uniform_scores(4_000, 120, 0.05, confidence=0.9)
    exceeding = stats.beta.sf(0.05, 3, 118)  # rank 3; 4 would be too many
    assert conformal.rank(120, 0.05, confidence=0.9) == 3 and exceeding < 0.1 < stats.beta.sf(0.05, 4, 117)
    low, high = likely_counts(len(rates), exceeding)
    assert low <= np.sum(rates > 0.05) <= high


def test_the_table_of_the_documentation_is_right():
    page = pathlib.Path(__file__).parent.parent.parent / "docs" / "thresholds.md"
    lines = [line.split(" | ") for line in page.read_text(encoding="utf-8").splitlines() if line[:3] in ("| 1", "| 5")]
    assert len(lines) == 7
    for asked, count, *written in lines:
        rate, count = float(asked.strip("| %")) / 100, int(count)
        possible = count >= conformal.num_needed(rate, confidence=0.95)
        assert [each.strip(" |") for each in written] == [
            str(conformal.rank(count, rate)),
            f"{conformal.rank(count, rate) / (count + 1):.1%}",
            f"{conformal.rate_bound(count, rate):.1%}",
            str(conformal.rank(count, rate, confidence=0.95)) if possible else "not possible",
        ]


def test_training_scores_would_flag_far_too_many():
    rng = np.random.default_rng(0)

    def distances(fitted, vectors):
        centred = vectors - fitted.mean(axis=0)
        return np.einsum("ni,ij,nj->n", centred, np.linalg.inv(np.cov(fitted.T)), centred)

    rates = []
    for _ in range(20):
        normal, new = rng.normal(size=(300, 50)), rng.normal(size=(5000, 50))
        held_back = conformal.threshold(distances(normal[:200], normal[200:]), 0.05)
        trained_on = conformal.threshold(distances(normal, normal), 0.05)
        rates.append([np.mean(distances(normal[:200], new) > held_back), np.mean(distances(normal, new) > trained_on)])
    assert np.mean(rates, axis=0) == pytest.approx([0.052, 0.336], abs=0.015)


# Groups


def test_a_group_counts_once_with_its_largest_score():
    scores = np.array([1.0, 5.0, -2.0, 3.0, -1.0])
    np.testing.assert_array_equal(conformal.group_scores(scores, np.array(["b", "a", "c", "b", "c"])), [5, 3, -1])
    np.testing.assert_array_equal(conformal.group_scores(scores, np.array([7, 7, 7, 7, 7])), [5])
    np.testing.assert_array_equal(conformal.group_scores(scores, np.arange(5)), scores)
    assert len(conformal.group_scores(np.empty(0), np.empty(0))) == 0


def test_groups_are_judged_alike_in_any_order():
    scores, groups = normal(60), np.arange(60) % 7
    order = np.random.default_rng(3).permutation(60)
    expected = conformal.group_scores(scores, groups)
    np.testing.assert_array_equal(conformal.group_scores(scores[order], groups[order]), expected)


def test_groups_keep_the_rate_by_group_where_single_images_do_not():
    num_draws, groups = 4_000, np.repeat(np.arange(19), 10)
    rng = np.random.default_rng(4)
    objects = rng.normal(size=(num_draws, 20, 1)) + rng.normal(size=(num_draws, 20, 10))
    any_by_group = one_by_group = any_by_image = 0
    for draw in objects:
        calibration, new = draw[:19].ravel(), draw[19]
        by_group = conformal.threshold(conformal.group_scores(calibration, groups), 0.05)
        any_by_group += new.max() > by_group
        one_by_group += new[0] > by_group
        any_by_image += new.max() > conformal.threshold(calibration, 0.05)
    low, high = likely_counts(num_draws, 0.05)
    assert low <= any_by_group <= high < any_by_image
    assert one_by_group < low


# Exchangeability


def rejections(num_draws, draw, level=0.05):
    """Returns how often the test finds a p-value of at most a level, where `draw` returns both sides."""
    rng = np.random.default_rng(5)
    return sum(conformal.exchangeability(*draw(rng)) <= level for _ in range(num_draws))


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng: (rng.normal(size=19), rng.normal(size=400)),
        lambda rng: (rng.normal(size=100), rng.normal(size=20)),
        lambda rng: (rng.exponential(size=100), rng.exponential(size=1000)),
        lambda rng: (np.round(rng.normal(size=100)), np.round(rng.normal(size=100))),
        lambda rng: (rng.integers(0, 2, 50), rng.integers(0, 2, 200)),
        lambda rng: (rng.normal(size=100), rng.normal(size=200) + 5 * (rng.random(200) < 0.4)),
    ],
    ids=["few", "short", "skewed", "rounded", "binary", "two fifths anomalous"],
)
def test_exchangeable_images_rarely_set_the_test_off(draw):
    assert rejections(500, draw) <= likely_counts(500, 0.05)[1]


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng: (rng.normal(size=100), rng.normal(size=100) + 1.5),
        lambda rng: (rng.normal(size=100), rng.normal(size=1000) + 1.2),
        lambda rng: (rng.normal(size=100), rng.normal(size=100) - 1.5),
        lambda rng: (rng.normal(size=50), 4 * rng.normal(size=200)),
        lambda rng: (np.round(rng.normal(size=100)), np.round(rng.normal(size=100)) + 2),
        lambda rng: (rng.normal(size=19), rng.normal(size=30) + 50),
    ],
    ids=["up", "slightly up, many", "down", "wider", "rounded", "far up, few"],
)
def test_other_images_set_the_test_off(draw):
    assert rejections(50, draw) >= 45


def test_how_many_anomalies_are_expected_is_the_callers_choice():
    calibration = normal(200)
    scores = np.append(normal(100, 1), np.full(100, 9.0))
    assert conformal.exchangeability(calibration, scores) > 0.05
    assert conformal.exchangeability(calibration, scores, anomalous_share=0.1) < 0.001


def test_a_side_that_is_empty_or_all_alike_sets_nothing_off():
    assert conformal.exchangeability(np.empty(0), np.arange(3.0)) == 1
    assert conformal.exchangeability(np.arange(3.0), np.empty(0)) == 1
    assert conformal.exchangeability(np.ones(50), np.ones(50)) == 1
    assert conformal.exchangeability(np.repeat([0.0, 1.0], 50), np.repeat([0.0, 1.0], 50)) > 0.5


def test_the_test_by_hand():
    # No score is below the median, the second of three: of the 8 normal images at least, which are exchangeable with
    # the three, all lie above it with probability E[(1 - Beta(2, 2)) ** 8] = 6 * B(2, 10) = 6 / 110.
    assert conformal.exchangeability(np.arange(3.0), np.full(16, 9.0)) == pytest.approx(2 * 6 / 110)
