"""Whether one detector, or one teacher, tells anomalies better than another on the same test samples."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit  # Student's t: distribution and quantiles


class Difference(NamedTuple):
    """A difference of two AUROCs, as fractions.

    Attributes:
        value: the first less the second, the mean over seeds.
        interval: 95%; of one seed, percentiles of a paired bootstrap over test samples.
        p_value: two-sided: that of the value over its standard deviation, as a normal deviate, or as Student's t of
            several seeds. The share of resamples beyond 0 could not be small enough for a correction for many
            differences.
        num_seeds: S.
    """

    value: float
    interval: tuple[float, float]
    p_value: float
    num_seeds: int = 1


def bootstrap_aurocs(
    labels: np.ndarray, scores: Mapping[str, np.ndarray], *, num_samples: int, seed: int
) -> dict[str, np.ndarray]:
    """Returns the AUROC of each score on the test samples, and then on resamples of them.

    All scores have the same resamples, so that they can be compared in pairs; so have all calls with the same labels
    and seed. Normal and anomalous samples are resampled apart.

    Args:
        labels: [S], 0 normal, 1 anomalous; both must occur.
        scores: [S] each, by name; higher is more anomalous.
        num_samples: B, how many resamples.

    Returns:
        [1 + B] each: the AUROC itself first.
    """
    rng = np.random.default_rng(seed)
    normal_counts, anomalous_counts = (
        _resampling_counts(int((labels == label).sum()), num_samples, rng) for label in (0, 1)
    )
    aurocs = {}
    for name, values in scores.items():
        normal, anomalous = values[labels == 0], values[labels == 1]
        order = np.argsort(normal)
        below = np.zeros((len(normal) + 1, 1 + num_samples), np.float32)  # counts of the normal samples up to each one
        np.cumsum(normal_counts[order], axis=0, out=below[1:])
        ordered = normal[order]
        left, right = (np.searchsorted(ordered, anomalous, side) for side in ("left", "right"))
        pairs = np.einsum("sb,sb->b", anomalous_counts, below[left] + below[right], dtype=float)
        aurocs[name] = pairs / (2 * len(normal) * len(anomalous))  # ties count one half
    return aurocs


def _resampling_counts(count: int, num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Returns how often each of some samples is in each resample: [count, 1 + B], the first column all ones."""
    drawn = rng.integers(count, size=(num_samples, count))
    counts = np.ones((count, 1 + num_samples), np.float32)
    for number, chosen in enumerate(drawn, 1):
        counts[:, number] = np.bincount(chosen, minlength=count)
    return counts


def difference(first: np.ndarray, second: np.ndarray) -> Difference:
    """Compares two AUROCs with the same resamples, as `bootstrap_aurocs` returns them.

    Seeds are the unit above samples. The variance of the mean over S seeds has two parts: that from seed to seed,
    divided by S, and that of the mean when test samples are resampled. Interval and p-value are those of Student's t,
    with the degrees of freedom of Welch and Satterthwaite: close to normal where seeds hardly differ, S - 1 where only
    they do. Drawing seeds with replacement would not do: of two or three seeds there are few draws, and they vary too
    little.

    Args:
        first, second: [1 + B], or [S, 1 + B] of S seeds, paired by seed.
    """
    differences = np.atleast_2d(first) - np.atleast_2d(second)
    of_seeds, resampled = differences[:, 0], differences[:, 1:].mean(axis=0)
    num_seeds, value = len(of_seeds), float(of_seeds.mean())
    variance_of_seeds = float(np.var(of_seeds, ddof=1)) / num_seeds if num_seeds > 1 else 0.0
    variance = variance_of_seeds + float(np.var(resampled, ddof=1))
    if variance == 0:
        return Difference(value, (value, value), 1.0 if value == 0 else 0.0, num_seeds)
    freedom = (num_seeds - 1) * (variance / variance_of_seeds) ** 2 if variance_of_seeds else math.inf
    deviation = math.sqrt(variance)
    p_value = 2 * float(stdtr(freedom, -abs(value) / deviation))
    if num_seeds == 1:
        low, high = np.percentile(resampled, [2.5, 97.5])
    else:
        low, high = value + deviation * stdtrit(freedom, np.array([0.025, 0.975]))
    return Difference(value, (float(low), float(high)), p_value, num_seeds)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Returns p-values corrected for their number (Holm 1979), in the order given; at most 1."""
    corrected, highest = {}, 0.0
    for rank, (name, p_value) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_value))
        corrected[name] = highest
    return {name: corrected[name] for name in p_values}
