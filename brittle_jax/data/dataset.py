"""A data set: labelled samples, and the images that networks see of them."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from brittle_jax.data.images import Images
from brittle_jax.data.samples import Samples


@dataclasses.dataclass(frozen=True, eq=False)  # arrays have no single truth value
class Dataset:
    """S samples, each of one or more images, N images in all.

    A sample is what is split, scored and reported: a picture or a parcel. An image is what a network sees: the picture,
    or one patch of one view of the parcel. A sample's score is the largest of its images' scores.

    Attributes:
        name: such as "cifar10".
        synthetic: whether the images are made up.
        samples: what is split, labelled and grouped.
        images: what the pipeline reads.
        sample_of_image: [N] int, index of each image's sample.
        views: names of the views of a sample; a single empty name if there is only one view.
        view_of_image: [N] int, index into `views`.
        read_view: indices of a sample and a view to the whole picture, [height, width, 3] uint8, for people to look at.
        box_of_image: [N, 4] int, the part of its view that each image shows: top, left, bottom, right in pixels, which
            may lie outside a picture that is too small; None if every image shows its whole view.
        skipped: samples left out because they cannot be read: id and reason.
        intensity: of picture files, what their values were before conversion to 8 bits, ready for JSON: `bits`, the
            number of pictures by bit depth; `lowest` and `highest` of all values; `range`, the values that became black
            and white in pictures of more than 8 bits, None if the files say. None for other data sets.
        files: [S, V, 5], of the picture file of each view: height and width in pixels, bit depth, smallest and largest
            value. None for other data sets.
        anomaly_boxes: [B, 6] int, where anomalies are known to be: sample, view, top, left, bottom, right in pixels of
            that view; None if the data set marks none.
        mask_files: by sample, a picture file of the size of the sample's picture; where it is not 0, the picture is
            anomalous.
    """

    name: str
    synthetic: bool
    samples: Samples
    images: Images
    sample_of_image: np.ndarray
    views: Sequence[str]
    view_of_image: np.ndarray
    read_view: Callable[[int, int], np.ndarray]
    box_of_image: np.ndarray | None
    skipped: Sequence[tuple[str, str]]
    intensity: Mapping[str, Any] | None
    files: np.ndarray | None = None
    anomaly_boxes: np.ndarray | None = None
    mask_files: Mapping[int, pathlib.Path] = dataclasses.field(default_factory=dict)

    def identity(self) -> dict[str, str | bool | int]:
        """Returns what distinguishes this data set from others of the same name, such as a synthetic stand-in."""
        samples = self.samples
        splits = [] if samples.official_split is None else samples.official_split.tolist()
        columns = [
            list(samples.classes),
            samples.labels.tolist(),
            splits,
            samples.ids.tolist(),
            samples.digests.tolist(),
        ]
        digest = hashlib.sha256(repr(columns).encode()).hexdigest()
        return {"name": self.name, "synthetic": self.synthetic, "num_samples": len(samples), "sha256": digest}

    def images_of(self, samples: np.ndarray) -> np.ndarray:
        """Returns the indices of the images of the given samples, in ascending order."""
        return np.flatnonzero(np.isin(self.sample_of_image, samples))

    def labels_of(self, images: np.ndarray) -> np.ndarray:
        """Returns the labels [M] of images [M]: those of their samples."""
        return self.samples.labels[self.sample_of_image[images]]
