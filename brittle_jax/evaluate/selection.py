"""Choosing among teachers and detectors, with no anomaly or with synthetic ones: rules, and what a wrong choice costs.

Plain functions of arrays by name; which runs they come from does not matter here.
"""

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

_RESAMPLES = 1000
_LEVEL = 0.95


@dataclasses.dataclass(frozen=True)
class Trial:
    """How a detector scores some normal pictures, and the same pictures with anomalies of several kinds.

    Attributes:
        normal: scores [N] of the pictures as they are.
        anomalous: scores [N] of the pictures with an anomaly, by kind.
    """

    normal: np.ndarray
    anomalous: Mapping[str, np.ndarray]

    def auroc(self) -> dict[str, float]:
        """Returns the AUROC of each kind against the normal pictures."""
        return {kind: float(_above(scores, self.normal).mean()) for kind, scores in self.anomalous.items()}


@dataclasses.dataclass(frozen=True)
class Standing:
    """How one of several detectors does against synthetic anomalies.

    Attributes:
        name: the detector's.
        auroc: mean over the kinds.
        interval: 95% bootstrap interval of that, over pictures.
        behind: how far it is behind the best, in AUROC; 0 for the best.
        behind_interval: of that, on the same resampled pictures.
    """

    name: str
    auroc: float
    interval: tuple[float, float]
    behind: float
    behind_interval: tuple[float, float]

    @property
    def is_too_close(self) -> bool:
        """Whether it may be as good as the best: the interval of the difference holds 0."""
        return self.behind_interval[0] <= 0


def rank_by_synthetic(trials: Mapping[str, Trial], *, seed: int = 0) -> list[Standing]:
    """Ranks detectors by their mean AUROC against synthetic anomalies, the best first.

    A resample draws pictures, each with its anomalies, and the same ones for all detectors, so that differences are
    paired.

    Args:
        trials: by name of the detector, of the same N pictures and the same kinds.
    """
    num_pictures = {len(trial.normal) for trial in trials.values()}
    if len(num_pictures) != 1:
        raise ValueError(f"detectors were tried on {sorted(num_pictures)} pictures: the same ones for all are needed")
    (size,) = num_pictures
    weights = np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), _RESAMPLES) / size
    means = {name: np.mean(list(trial.auroc().values())) for name, trial in trials.items()}
    resampled = {name: _resampled_mean(trial, weights) for name, trial in trials.items()}
    best = max(means, key=means.get)
    return [
        Standing(
            name,
            float(means[name]),
            _interval(resampled[name]),
            float(means[best] - means[name]),
            _interval(resampled[best] - resampled[name]),
        )
        for name in sorted(means, key=means.get, reverse=True)
    ]


def regret(rule: Mapping[str, float], auroc: Mapping[str, float], candidates: Iterable[str] | None = None) -> float:
    """Returns what following a rule costs: the best candidate's AUROC less that of the one with the largest value.

    Args:
        rule: what the rule goes by, such as brittleness, by candidate.
        auroc: by candidate.
        candidates: to choose from; None: all that the rule knows.
    """
    candidates = list(rule if candidates is None else candidates)
    chosen = max(candidates, key=lambda name: rule[name])
    return max(auroc[name] for name in candidates) - auroc[chosen]


def expected_regret_at_random(auroc: Mapping[str, float], candidates: Iterable[str] | None = None) -> float:
    """Returns what choosing at random costs on average: the best candidate's AUROC less the mean."""
    values = [auroc[name] for name in (auroc if candidates is None else candidates)]
    return float(max(values) - np.mean(values))


def at_error_ratio(error_ratios: np.ndarray, values: np.ndarray, ratio: float) -> float | None:
    """Returns a quantity where a student's error first falls to a ratio, interpolated in the ratio's logarithm.

    Args:
        error_ratios: [P], the student's error over the mean predictor's, along distillation.
        values: [P], such as brittleness, at the same points.
        ratio: at which to compare students.

    Returns:
        None where the ratio is not reached, or was passed before the first point.
    """
    error_ratios, values = np.asarray(error_ratios, float), np.asarray(values, float)
    reached = np.flatnonzero(error_ratios <= ratio * (1 + 1e-9))
    if not len(reached) or (reached[0] == 0 and error_ratios[0] < ratio * (1 - 1e-9)):
        return None
    after = reached[0]
    if after == 0:
        return float(values[0])
    high, low = np.log(error_ratios[after - 1]), np.log(error_ratios[after])
    share = (high - np.log(ratio)) / (high - low)
    return float(values[after - 1] + share * (values[after] - values[after - 1]))


def _above(anomalous: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Returns [N, N]: whether an anomalous score is above a normal one; one half for equal ones."""
    difference = np.asarray(anomalous)[:, None] - np.asarray(normal)[None]
    return (difference > 0) + 0.5 * (difference == 0)


def _resampled_mean(trial: Trial, weights: np.ndarray) -> np.ndarray:
    """Returns the mean AUROC [B] over kinds, for resamples given as weights [B, N] of pictures."""
    above = np.mean([_above(scores, trial.normal) for scores in trial.anomalous.values()], axis=0)
    return np.einsum("bi,bi->b", weights @ above, weights)


def _interval(resampled: np.ndarray) -> tuple[float, float]:
    tail = 50 * (1 - _LEVEL)
    low, high = np.percentile(resampled, [tail, 100 - tail])
    return float(low), float(high)
