"""Which samples train, calibrate and test; and which labelled samples a supervised learner may see."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from brittle_jax.data.catalogue import CATALOGUE
from brittle_jax.data.dataset import Dataset
from brittle_jax.data.samples import Samples, limit
from brittle_jax.seeding import derive_seed


@dataclasses.dataclass(frozen=True)
class Splitting:
    """How the samples of a data set are split.

    Attributes:
        seed: of the draws.
        train_fraction: of the samples, of each class, that train; if the data set has no split of its own.
        calibration_fraction: of the training samples of each class that are set aside, for thresholds.
        anomalous_fraction: of the anomalous samples that train the supervised baseline, if all of them test otherwise.
    """

    seed: int
    train_fraction: float
    calibration_fraction: float = 0.0
    anomalous_fraction: float = 0.0


@dataclasses.dataclass(frozen=True, eq=False)  # arrays have no single truth value
class Lesson:
    """What a teacher, or a probe of it, learns from.

    Attributes:
        dataset: with the labels that are learned.
        train: indices of the samples to learn from.
        held_out: indices of the samples that its accuracy is measured on.
    """

    dataset: Dataset
    train: np.ndarray
    held_out: np.ndarray


def roles(dataset: Dataset, splitting: Splitting) -> np.ndarray:
    """Returns what each sample is for: [S], "train", "calibration", "test" or "unlabelled".

    The data set's own split decides, or a draw if it has none. A share of the training samples of each class is then
    set aside for calibration.
    """
    samples = dataset.samples
    if samples.official_split is not None:
        result = samples.official_split.astype("U11")
    else:
        result = np.full(len(samples), "test", "U11")
        draw_split = _SPLITS.get(CATALOGUE[dataset.name].split, _split_every_class)
        for purpose, members, count in draw_split(samples, splitting, CATALOGUE[dataset.name].normal):
            result[_draw(samples, members, count, derive_seed(splitting.seed, purpose))] = "train"
    for label, name in enumerate(samples.classes if splitting.calibration_fraction else ()):
        members = (result == "train") & (samples.labels == label)
        count = round(splitting.calibration_fraction * members.sum())
        result[_draw(samples, members, count, derive_seed(splitting.seed, f"calibration {name}"))] = "calibration"
    return result


def anomalies_can_train(dataset: Dataset) -> bool:
    """Returns whether the supervised baseline takes its anomalous training samples from those that test otherwise."""
    return CATALOGUE[dataset.name].split == "normal" and dataset.samples.official_split is None


def labelled_lesson(
    dataset: Dataset, splitting: Splitting, purpose: str, *, max_train_samples: int, max_test_samples: int
) -> Lesson:
    """Returns the labelled training and test samples: by class, or as normal and anomalous if one class is normal.

    Args:
        splitting: with the share of anomalous samples that a supervised learner sees.
        purpose: keys the draw of at most `max_train_samples` and `max_test_samples` (0: all).
    """
    assigned = roles(dataset, splitting)
    normal = CATALOGUE[dataset.name].normal
    if normal:  # and many kinds of anomalies
        samples = dataset.samples
        is_anomalous = samples.labels != samples.classes.index(normal)
        samples = dataclasses.replace(samples, labels=is_anomalous.astype(int), classes=(normal, "anomalous"))
        dataset = dataclasses.replace(dataset, samples=samples)
    train, held_out = np.flatnonzero(assigned == "train"), np.flatnonzero(assigned == "test")
    return limited_lesson(
        Lesson(dataset, train, held_out), splitting.seed, purpose, max_train_samples, max_test_samples
    )


def limited_lesson(lesson: Lesson, seed: int, purpose: str, max_train_samples: int, max_test_samples: int) -> Lesson:
    """Draws at most so many (0: all) of a lesson's samples; `seed` and `purpose` key the draw."""
    rng = np.random.default_rng(derive_seed(seed, purpose))
    train, held_out = limit(lesson.train, max_train_samples, rng), limit(lesson.held_out, max_test_samples, rng)
    return Lesson(lesson.dataset, train, held_out)


def identical_across_splits(dataset: Dataset, splitting: Splitting) -> list[list[str]]:
    """Returns ids of samples on different sides of the split that share a picture, in pairs, the tested one last.

    The whole data set counts, whichever configurations run. What the supervised baseline learns from counts as
    training.
    """
    side = {"train": 0, "unlabelled": 0, "calibration": 1, "test": 2}
    sides = np.array([side[role] for role in roles(dataset, splitting)])
    samples = dataset.samples
    first_with: dict[str, int] = {}
    pairs = []
    for sample in np.argsort(sides, kind="stable"):
        for digest in set(samples.digests[sample].tolist()):
            first = first_with.setdefault(digest, sample)
            if sides[first] != sides[sample]:
                pairs.append([str(samples.ids[first]), str(samples.ids[sample])])
    return sorted(pairs)


def _draw(samples: Samples, members: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Draws whole groups of samples until there are `count`; the order of the samples does not matter.

    Args:
        members: [S] bool, the samples to draw from.

    Returns:
        [S] bool.
    """
    groups, group_of_member = np.unique(samples.groups[members], return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(groups))
    sizes = np.bincount(group_of_member, minlength=len(groups))[order]
    is_chosen = np.zeros(len(groups), bool)
    is_chosen[order[np.cumsum(sizes) - sizes < count]] = True
    drawn = np.zeros(len(samples), bool)
    drawn[np.flatnonzero(members)[is_chosen[group_of_member]]] = True
    return drawn


_Draws = Iterator[tuple[str, np.ndarray, int]]  # purpose, members [S] bool, how many of them


def _split_every_class(samples: Samples, splitting: Splitting, normal: str) -> _Draws:
    """Draws the same share of each class."""
    del normal
    for label, name in enumerate(samples.classes):
        members = samples.labels == label
        yield f"split {name}", members, round(splitting.train_fraction * members.sum())


def _split_leaves(samples: Samples, splitting: Splitting, normal: str) -> _Draws:
    """Draws a share of the healthy leaves. As many diseased leaves test as healthy ones, evenly of each disease."""
    healthy = samples.classes.index(normal)
    num_healthy = np.sum(samples.labels == healthy)
    num_train = round(splitting.train_fraction * num_healthy)
    yield f"split {normal}", samples.labels == healthy, num_train
    diseases = [label for label in range(len(samples.classes)) if label != healthy]
    for place, label in enumerate(diseases):
        members = samples.labels == label
        num_test = len(range(place, num_healthy - num_train, len(diseases)))
        yield f"split {samples.classes[label]}", members, max(members.sum() - num_test, 0)


def _split_normal(samples: Samples, splitting: Splitting, normal: str) -> _Draws:
    """Draws a share of the normal samples. All others test, except those that the supervised baseline learns from.

    Groups that have both kinds test as a whole.
    """
    is_normal = samples.labels == samples.classes.index(normal)
    is_mixed = np.isin(samples.groups, np.intersect1d(samples.groups[is_normal], samples.groups[~is_normal]))
    yield "split", is_normal & ~is_mixed, round(splitting.train_fraction * is_normal.sum())
    if splitting.anomalous_fraction:
        yield "baseline split", ~is_normal & ~is_mixed, round(splitting.anomalous_fraction * np.sum(~is_normal))


_SPLITS = {"leaves": _split_leaves, "normal": _split_normal}
