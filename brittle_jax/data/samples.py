"""Labelled samples: what is split, scored and reported."""

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)  # arrays have no single truth value
class Samples:
    """S samples: pictures, or parcels.

    Attributes:
        classes: names of the labels.
        ids: [S] str.
        labels: [S] int, index into `classes`; -1 without a label.
        official_split: [S] str, "train", "calibration", "test" or "unlabelled"; None if the data set has no split.
        groups: [S] str; samples of one group, such as pictures of one object, are never split apart.
        digests: [S, V] str, one for each view; equal digests mean equal stored pictures.
    """

    classes: Sequence[str]
    ids: np.ndarray
    labels: np.ndarray
    official_split: np.ndarray | None
    groups: np.ndarray
    digests: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


def limit(samples: np.ndarray, max_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Draws at most `max_samples` (0: all) of the samples, in ascending order."""
    if max_samples and max_samples < len(samples):
        samples = rng.choice(samples, max_samples, replace=False)
    return np.sort(samples)
