"""Ranks detectors by synthetic anomalies, from plain arrays of scores by name."""

import dataclasses
from collections.abc import Mapping

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
