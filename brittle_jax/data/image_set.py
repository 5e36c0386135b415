"""Labelled samples and the images that networks see of them, read one at a time."""

import dataclasses
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

_REMEMBERED_BYTES = 2**28  # CIFAR-10 has 184 million


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """S samples, each of one or more images, N in all.

    A sample is what is split, scored and reported: a picture, or a parcel. An image is what a network sees: the
    picture, or one patch of one view of the parcel. A sample's score is the largest of its images'.

    Attributes:
        name: of the data set.
        classes: names of the labels.
        synthetic: whether the images are made up.
        ids: [S] str, names the samples.
        labels: [S] int, index into `classes`; -1 where there is none.
        official_split: [S] str, "train", "calibration", "test" or "unlabelled"; None where the data set has no split
            of its own.
        groups: [S] str; samples of one group (pictures of one thing) are never split apart.
        digests: [S, V] str, of each view, equal where the stored pictures are.
        skipped: samples that were left out because they cannot be read: id and reason.
        intensity: of picture files, what their samples were before they became 8 bits, ready for JSON: `bits`, how many
            pictures have so many; `lowest` and `highest` of all values; `range`, the values that became black and white
            in pictures of more than 8 bits, None where the files say. None for other data sets.
        sample_of_image: [N] int, index of each image's sample.
        views: names of the views of a sample; one empty name where it has no views.
        view_of_image: [N] int, index into `views`.
        read_image: index of an image to [H, W, 3] uint8, all of one size.
        image_shape: (H, W, 3).
        read_view: indices of a sample and a view to the whole picture, [height, width, 3] uint8, as people look at it.
        box_of_image: [N, 4] int, the part of its view that each image is: top, left, bottom, right in pixels, beyond
            the picture where that is too small; None where every image is its whole view.
    """

    name: str
    classes: Sequence[str]
    synthetic: bool
    ids: np.ndarray
    labels: np.ndarray
    official_split: np.ndarray | None
    groups: np.ndarray
    digests: np.ndarray
    skipped: Sequence[tuple[str, str]]
    intensity: Mapping[str, Any] | None
    sample_of_image: np.ndarray
    views: Sequence[str]
    view_of_image: np.ndarray
    read_image: Callable[[int], np.ndarray]
    image_shape: tuple[int, int, int]
    read_view: Callable[[int, int], np.ndarray]
    box_of_image: np.ndarray | None

    def identity(self) -> dict[str, str | bool | int]:
        """Returns what tells these images from others of the same name: a made-up set from the real one."""
        splits = [] if self.official_split is None else self.official_split.tolist()
        columns = [list(self.classes), self.labels.tolist(), splits, self.ids.tolist(), self.digests.tolist()]
        samples = hashlib.sha256(repr(columns).encode()).hexdigest()
        return {"name": self.name, "synthetic": self.synthetic, "num_samples": len(self.ids), "sha256": samples}

    def images_of(self, samples: np.ndarray) -> np.ndarray:
        """Returns the indices of the images of the given samples, in the order of the images."""
        return np.flatnonzero(np.isin(self.sample_of_image, samples))


def remembered_bytes(num_images: int, image_shape: tuple[int, int, int]) -> int:
    """Returns the memory that decoded images are kept in: 0 where they are too many."""
    size = num_images * math.prod(image_shape)
    return size if size <= _REMEMBERED_BYTES else 0


def remembered(
    read_image: Callable[[int], np.ndarray], num_images: int, image_shape: tuple[int, int, int]
) -> Callable[[int], np.ndarray]:
    """Returns a reader that decodes each image once, where all of them fit into 256 MiB; else the reader as it is.

    What it returns must not be written to.
    """
    if not remembered_bytes(num_images, image_shape):
        return read_image
    images = np.empty((num_images, *image_shape), np.uint8)  # memory that is not written to is not taken
    is_there = np.zeros(num_images, bool)

    def read(index: int) -> np.ndarray:
        if not is_there[index]:
            images[index] = read_image(index)
            is_there[index] = True
        return images[index]

    return read


def limit(samples: np.ndarray, max_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Draws at most `max_samples` (0: all) of the samples, in ascending order."""
    if max_samples and max_samples < len(samples):
        samples = rng.choice(samples, max_samples, replace=False)
    return np.sort(samples)
