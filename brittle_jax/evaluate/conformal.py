"""Split-conformal p-values and thresholds: how unusual a score is, judged by normal images that were held back.

A detector is trained on some normal images and scores others, the *calibration* images. If these are exchangeable with
a new normal image (the order in which they came tells nothing), the rank of the new score among theirs is uniform.
That alone bounds the rate of false alarms, whatever the detector and its scores. Scores of training images would not
do: the detector has fitted them, so they are lower than those of any new image.

Sources: Vovk, Gammerman and Shafer, *Algorithmic Learning in a Random World* (2005); Laxhammar and Falkman, *Conformal
prediction for distribution-independent anomaly detection* (2010); Vovk, *Conditional validity of inductive conformal
predictors* (2012); Bates et al., *Testing for outliers with conformal p-values* (2023).
"""

import math
from fractions import Fraction

import numpy as np
from scipy import stats

from brittle_jax.errors import DegenerateDataError, UserError

_ROUNDING = 1e-12  # tolerance where a confidence is met exactly, but for floating point


def p_values(calibration_scores: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Returns how unusual each score is: the share of calibration scores, and itself, that are at least as high.

    For a new normal image, P(p-value <= t) <= t. A tie counts as higher, so that equal scores cause no false alarms.

    Args:
        calibration_scores: [C], of normal images that the detector was not trained on; higher is more anomalous.
        scores: [N], by the same detector and of the same precision: rounding one side, but not the other, breaks ties.

    Returns:
        [N], from 1 / (C + 1), the most anomalous, to 1.

    Raises:
        DegenerateDataError: if a score is not a number.
    """
    calibration_scores, scores = _numbers(calibration_scores), _numbers(scores)
    num_lower = np.searchsorted(np.sort(calibration_scores), scores, side="left")
    return (1 + len(calibration_scores) - num_lower) / (len(calibration_scores) + 1)


def threshold(calibration_scores: np.ndarray, false_alarm_rate: float, *, confidence: float | None = None) -> float:
    """Returns the score above which an image is flagged, at a rate of false alarms.

    `scores > threshold` flags the images whose p-value is at most the rate. The comparison is strict, and the threshold
    is one of the calibration scores, so that it survives any way of storing it. Over random calibration images, a new
    normal image is flagged with probability `rank / (C + 1)`, at most the rate; less where scores tie.

    Args:
        calibration_scores: [C], as in `p_values`.
        false_alarm_rate, confidence: as in `rank`.

    Raises:
        DegenerateDataError: for too few calibration scores, or if one is not a number.
        UserError: as `rank`.
    """
    descending = np.sort(_numbers(calibration_scores))[::-1]
    return float(descending[rank(len(descending), false_alarm_rate, confidence=confidence) - 1])


def rank(num_calibration: int, false_alarm_rate: float, *, confidence: float | None = None) -> int:
    """Returns which calibration score is the threshold: 1 for the highest, 2 for the next, and so on.

    Args:
        num_calibration: C; a group counts once (see `group_scores`).
        false_alarm_rate: taken for the decimal that it prints as, so that 0.05 is one in twenty and not a little more
            or less. A `Fraction`, `Decimal` or text works too.
        confidence: None bounds the rate on average over draws of calibration images: rank k = floor(rate * (C + 1)).
            A number bounds it, with this probability, for the draw at hand: the largest k for which the rate, of
            distribution Beta(k, C + 1 - k), is low enough.

    Raises:
        DegenerateDataError: for fewer calibration images than `num_needed`.
        UserError: if a rate or confidence is not between 0 and 1.
    """
    rate = _fraction("false-alarm rate", false_alarm_rate)
    if confidence is None:
        found = math.floor(rate * (num_calibration + 1))
    else:
        ranks = np.arange(1, num_calibration + 1)
        probabilities = stats.beta.cdf(float(rate), ranks, num_calibration + 1 - ranks)  # fall with the rank
        found = int(np.sum(probabilities >= float(_fraction("confidence", confidence)) - _ROUNDING))
    if found == 0:
        certainty = "" if confidence is None else f" with confidence {confidence}"
        raise DegenerateDataError(
            f"a false-alarm rate of {false_alarm_rate}{certainty} needs "
            f"{num_needed(false_alarm_rate, confidence=confidence)} calibration images (images of one group count "
            f"once), not {num_calibration}: calibrate on more (brittle_jax.score --recalibrate=DIR), or ask for a "
            "higher rate"
        )
    return found


def num_needed(false_alarm_rate: float, *, confidence: float | None = None) -> int:
    """Returns the fewest calibration images that allow a rate: 19 for 5%, 99 for 1%; 59 and 299 with confidence 95%.

    Args:
        false_alarm_rate, confidence: as in `rank`.

    Raises:
        UserError: as `rank`.
    """
    rate = _fraction("false-alarm rate", false_alarm_rate)
    if confidence is None:
        return math.ceil(1 / rate) - 1
    # The highest of C scores is exceeded at a rate above the asked one with probability (1 - rate) ** C.
    doubt = float(1 - _fraction("confidence", confidence))
    return math.ceil(math.log(doubt) / math.log1p(-float(rate)) * (1 - _ROUNDING))


def rate_bound(num_calibration: int, false_alarm_rate: float, *, confidence: float = 0.95) -> float:
    """Returns an upper bound of the false-alarm rate that the calibration images at hand lead to.

    The rate of `threshold` holds on average over draws of calibration images. Once these are drawn, the actual rate is
    fixed but unknown: over draws it is distributed as Beta(k, C + 1 - k), k being `rank`. The bound is a quantile of
    that. It needs calibration images that are independent, not only exchangeable. Ties only lower the rate.

    Args:
        num_calibration, false_alarm_rate: as in `rank`, without confidence.
        confidence: probability that the actual rate is at most the bound.

    Raises:
        DegenerateDataError, UserError: as `rank`.
    """
    highest = rank(num_calibration, false_alarm_rate)
    quantile = float(_fraction("confidence", confidence))
    return float(stats.beta.ppf(quantile, highest, num_calibration + 1 - highest))


def group_scores(scores: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Returns the largest score of each group, to calibrate on groups of images that resemble each other.

    Images of one object, of one burst, or duplicates, are not exchangeable with an image of a new object: ten of one
    object tell little more than one does. Groups may be exchangeable where images are not, so each counts once. With
    its largest score, the guarantee holds by group: a new normal group has *any* image flagged at no more than the
    rate, if its images are as many as those of the calibration groups are. It also holds for one image drawn from
    a new normal group, whose score is at most the group's largest. It does not hold for the share of all images that
    are flagged: if a large group is odd, all of its images may be flagged at once.

    Args:
        scores: [N].
        groups: [N], names or numbers; images of equal ones are one group.

    Returns:
        [G], in the order of `np.unique(groups)`.

    Raises:
        DegenerateDataError: if a score is not a number.
    """
    names, group_of_score = np.unique(groups, return_inverse=True)
    largest = np.full(len(names), -np.inf)
    np.maximum.at(largest, group_of_score, _numbers(scores))
    return largest


def exchangeability(calibration_scores: np.ndarray, scores: np.ndarray, *, anomalous_share: float = 0.5) -> float:
    """Returns the p-value of a test of whether the images that are scored look like the calibration images.

    A small one (below 0.01, say) means that the guarantee of `threshold` is void: the camera, the light or the product
    has changed, or more images are anomalous than assumed. Scores cannot tell which.

    Anomalies must not set the test off. They are expected among the high scores, so it looks below the calibration
    scores' median only, at two things (anomalies that a weak detector scores down there do count):

    - How many scores are there? If all but a share of the images are normal, about half of these are, and the number
      has a beta-binomial distribution; fewer are suspicious. This notices a large shift up.
    - How do they lie there? Given the median, calibration scores below it and scores of normal images below it follow
      one distribution. A two-sided Mann-Whitney test compares them; this notices smaller shifts, up or down.

    The smaller of both p-values is doubled (Bonferroni). Both tests know that there are few calibration scores. A test
    of whether conformal p-values are uniform, such as Kolmogorov and Smirnov's, does not: the p-values share their
    calibration scores, so it rejects nearly always where images are many and calibration scores few.

    Both tests remain valid with ties, which make them cautious. They take images as independent: pass `group_scores`
    of both sides where there are groups.

    Args:
        calibration_scores: [C], as in `p_values`.
        scores: [N], of the images that are scored, normal or not.
        anomalous_share: the largest share of them that may be anomalous.

    Returns:
        From 0 to 1; 1 where either side is empty.

    Raises:
        DegenerateDataError: if a score is not a number.
    """
    calibration_scores, scores = _numbers(calibration_scores), _numbers(scores)
    num_calibration, middle = len(calibration_scores), (len(calibration_scores) + 1) // 2
    if num_calibration == 0 or len(scores) == 0:
        return 1.0
    median = np.sort(calibration_scores)[middle - 1]
    num_normal = math.ceil((1 - anomalous_share) * len(scores))
    by_count = stats.betabinom.cdf(np.sum(scores <= median), num_normal, middle, num_calibration + 1 - middle)
    by_place = _rank_test(calibration_scores[calibration_scores < median], scores[scores < median])
    return min(1.0, 2 * float(min(by_count, by_place)))


def _rank_test(first: np.ndarray, second: np.ndarray) -> float:
    """Returns the p-value of a two-sided Mann-Whitney test; 1 where nothing can be compared."""
    if len(first) == 0 or len(second) == 0 or len(np.unique([*first, *second])) == 1:
        return 1.0
    # The exact distribution knows no ties and is slow; for few scores the normal one is cautious.
    return float(stats.mannwhitneyu(first, second, method="asymptotic").pvalue)


def _numbers(scores: np.ndarray) -> np.ndarray:
    """Returns scores as float64, which holds those of lower precision exactly."""
    scores = np.asarray(scores, np.float64)
    if np.isnan(scores).any():
        raise DegenerateDataError(f"{np.isnan(scores).sum()} of {len(scores)} scores are not numbers")
    return scores


def _fraction(name: str, value: float) -> Fraction:
    """Returns a number between 0 and 1 as the exact fraction that its decimal text says."""
    if not 0 < float(value) < 1:
        raise UserError(f"a {name} of {value} is not between 0 and 1")
    return Fraction(str(value))
