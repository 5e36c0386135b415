"""Statistics over teachers: correlations, the cost of a choice, shares of variance, spectra.

Each is a function of plain arrays. Several quantities of the same teachers are given by name, as
`{"kd": [T], "brittleness": [T]}`; what is not known of a teacher is NaN, and that teacher is left out.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

Columns = Mapping[str, np.ndarray]

NUM_RESAMPLES = 4000
_FEWEST_FOR_INTERVAL = 5  # resamples of fewer teachers are mostly the same few points
_FEWEST_FOR_CORRELATION = 3
_FEWEST_FOR_PARTIAL = 5  # of three, what is left always lies on a line
_ROUNDING = 1e-9


class Estimate(NamedTuple):
    """A correlation; what cannot be computed is None.

    Attributes:
        value: in [-1, 1].
        p_value: two-sided, of a permutation test.
        interval: 95%, percentiles of a bootstrap over teachers.
    """

    value: float | None
    p_value: float | None
    interval: tuple[float, float] | None


class Correlation(NamedTuple):
    """How two quantities of the same teachers go together; `count` is the number of teachers."""

    count: int
    pearson: Estimate
    spearman: Estimate


def correlation(columns: Columns, x: str, y: str, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> Correlation:
    """Returns Pearson's and Spearman's correlation of two columns over teachers.

    Args:
        columns: [T] each.
        x, y: names of two columns.
        num_resamples: of permutations and of bootstrap samples. With few teachers all permutations are taken. 0:
            neither p-value nor interval.
        seed: of both.
    """
    known = _known(columns, (x, y))
    measures = (_pearson, _spearman)
    return Correlation(known.shape[1], *(_estimate(known, measure, num_resamples, seed) for measure in measures))


def partial_correlation(
    columns: Columns, x: str, y: str, given: str, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Correlation:
    """Returns the correlations of what is left of two columns when a third one is accounted for, linearly.

    Spearman's is that of the ranks. With fewer than five teachers too little is left. There is no permutation test: to
    shuffle `x` would break its tie to `given`, too.

    Args:
        columns, x, y, num_resamples, seed: as in `correlation`.
        given: name of the third column.
    """
    known = _known(columns, (x, y, given))
    if known.shape[1] < _FEWEST_FOR_PARTIAL:
        return Correlation(known.shape[1], Estimate(None, None, None), Estimate(None, None, None))
    measures = (_partial, lambda values: _partial(rankdata(values, axis=-1)))
    return Correlation(
        known.shape[1],
        *(_estimate(known, measure, num_resamples, seed, is_permutable=False) for measure in measures),
    )


def _known(columns: Columns, names: Sequence[str]) -> np.ndarray:
    """Returns the named columns [Q, T] of the teachers of which all of them are known."""
    values = np.stack([np.asarray(columns[name], float) for name in names])
    return values[:, np.isfinite(values).all(axis=0)]


def _estimate(
    values: np.ndarray,
    measure: Callable[[np.ndarray], np.ndarray],
    num_resamples: int,
    seed: int,
    *,
    is_permutable: bool = True,
) -> Estimate:
    """Estimates a measure, from [Q, ..., T] to [...], of columns [Q, T]."""
    count = values.shape[1]
    if count < _FEWEST_FOR_CORRELATION or not np.isfinite(value := float(measure(values))):
        return Estimate(None, None, None)
    if not num_resamples:
        return Estimate(value, None, None)
    rng = np.random.default_rng(seed)
    p_value = _permutation_p_value(values, value, measure, num_resamples, rng) if is_permutable else None
    interval = None
    if count >= _FEWEST_FOR_INTERVAL:
        resampled = measure(values[:, rng.integers(count, size=(num_resamples, count))])
        resampled = resampled[np.isfinite(resampled)]  # one that drew the same teacher throughout has none
        interval = tuple(float(end) for end in np.percentile(resampled, [2.5, 97.5])) if len(resampled) else None
    return Estimate(value, p_value, interval)


def _permutation_p_value(
    values: np.ndarray,
    value: float,
    measure: Callable[[np.ndarray], np.ndarray],
    num_resamples: int,
    rng: np.random.Generator,
) -> float:
    x, y = values
    if is_exact := math.factorial(len(x)) <= num_resamples:
        permuted = x[np.array(list(itertools.permutations(range(len(x)))))]
    else:
        permuted = rng.permuted(np.tile(x, (num_resamples, 1)), axis=1)
    reached = np.abs(measure(np.stack([permuted, np.broadcast_to(y, permuted.shape)]))) >= abs(value) - _ROUNDING
    # Drawn permutations lack the observed order, which is one of them (Phipson and Smyth 2010).
    return float(reached.mean() if is_exact else (1 + reached.sum()) / (1 + len(reached)))


def _pearson(values: np.ndarray) -> np.ndarray:
    x, y = values - values.mean(axis=-1, keepdims=True)
    scale = np.sqrt((x**2).sum(axis=-1) * (y**2).sum(axis=-1))
    is_constant = scale <= _ROUNDING * np.abs(values).max() ** 2
    return np.where(is_constant, np.nan, (x * y).sum(axis=-1) / np.where(is_constant, 1, scale))


def _spearman(values: np.ndarray) -> np.ndarray:
    return _pearson(rankdata(values, axis=-1))


def _partial(values: np.ndarray) -> np.ndarray:
    x, y, given = values
    xy, xz, yz = (_pearson(np.stack(pair)) for pair in ((x, y), (x, given), (y, given)))
    left = (1 - xz**2) * (1 - yz**2)
    return np.where(left > _ROUNDING, (xy - xz * yz) / np.sqrt(np.maximum(left, _ROUNDING)), np.nan)


class Regret(NamedTuple):
    """What it costs to choose one of several teachers by a criterion, in units of the target.

    Attributes:
        of_all: the best teacher's target less that of the chosen one.
        leaving_one_out: [T], the same among all teachers but one, for each teacher in turn.
    """

    of_all: float
    leaving_one_out: np.ndarray

    @property
    def expected(self) -> float:
        """The mean over the pools that leave one teacher out."""
        return float(np.mean(self.leaving_one_out))


def regrets(columns: Columns, target: str, criteria: Sequence[str]) -> dict[str, Regret]:
    """Returns the cost of choosing the teacher with the highest value of each criterion, and of choosing `at random`.

    Of teachers with equal values each is chosen equally often; so is every teacher at random.

    Args:
        columns: [T] each, T >= 2.
        target: the column to be high, such as AUROC.
        criteria: names of columns to choose by. A teacher that lacks one is left out for all of them.
    """
    values, *by = _known(columns, (target, *criteria))
    by = {**dict(zip(criteria, by, strict=True)), "at random": np.zeros_like(values)}
    count = len(values)
    others = [np.delete(np.arange(count), left_out) for left_out in range(count)]
    return {
        name: Regret(_regret(values, criterion), np.array([_regret(values[pool], criterion[pool]) for pool in others]))
        for name, criterion in by.items()
    }


def _regret(target: np.ndarray, criterion: np.ndarray) -> float:
    return float(target.max() - target[criterion == criterion.max()].mean())


def variance_shares(values: np.ndarray, factors: Sequence[str]) -> dict[str, float]:
    """Returns the share of each factor's main effect in the sum of squares, and that of `interactions and rest`.

    Args:
        values: one axis for each factor, without gaps: every combination has been measured.
        factors: names of the axes. A factor of one level is left out.

    Returns:
        Shares that add up to 1; empty where all values are the same.
    """
    deviations = values - values.mean()
    total = (deviations**2).sum()
    if total <= _ROUNDING * np.abs(values).max() ** 2:
        return {}
    shares = {}
    for axis, name in enumerate(factors):
        if values.shape[axis] == 1:
            continue
        others = tuple(other for other in range(values.ndim) if other != axis)
        effect = deviations.mean(axis=others)
        shares[name] = float((effect**2).sum() * values.size / len(effect) / total)
    return shares | {"interactions and rest": max(0.0, 1 - sum(shares.values()))}


def value_at(levels: np.ndarray, values: np.ndarray, level: float) -> float | None:
    """Returns a quantity where its falling level first reaches a given one, as a straight line in the log of the level.

    Args:
        levels: [P] > 0, in the order in which they were reached, such as error ratios of a student in training.
        values: [P], the quantity at each.

    Returns:
        None where the level is never crossed.
    """
    logs, goal = np.log(levels), math.log(level)
    if abs(logs[0] - goal) < _ROUNDING:
        return float(values[0])
    for point in range(1, len(logs)):
        before, after = logs[point - 1] - goal, logs[point] - goal
        if before >= 0 >= after - _ROUNDING and before > after:
            weight = before / (before - after)
            return float(values[point - 1] + weight * (values[point] - values[point - 1]))
    return None


class Directions(NamedTuple):
    """The principal directions of errors, the widest first.

    Attributes:
        mean: [F], of the errors.
        shares: [F], in their variance.
        vectors: [F, F], a direction in each column.
    """

    mean: np.ndarray
    shares: np.ndarray
    vectors: np.ndarray


def principal_directions(errors: np.ndarray) -> Directions:
    """Returns the principal directions of errors [K, F], K > 1."""
    errors = np.asarray(errors, float)
    variances, vectors = np.linalg.eigh(np.cov(errors, rowvar=False).reshape(errors.shape[1], -1))
    variances = np.maximum(variances[::-1], 0)
    return Directions(errors.mean(axis=0), variances / variances.sum(), vectors[:, ::-1])


def effective_dimensions(variances: ArrayLike) -> float:
    """Returns over how many dimensions a variance is spread: (Σv)² / Σv², from 1 to F, for variances or shares [F]."""
    variances = np.asarray(variances, np.float64)
    return float(np.square(variances.sum()) / np.square(variances).sum())


def tight_share(directions: Directions, errors: np.ndarray, fraction: float = 0.5) -> float:
    """Returns the share of squared errors that lies along tight directions, those of the smallest variance.

    Errors are counted from the mean of those that the directions are of.

    Args:
        directions: of K > F errors.
        errors: [M, F].
        fraction: of the F directions, in (0, 1].
    """
    along = (((np.asarray(errors, float) - directions.mean) @ directions.vectors) ** 2).sum(axis=0)
    return float(along[-max(1, round(fraction * len(along))) :].sum() / along.sum())
