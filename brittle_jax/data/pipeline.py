"""From an image set to batches: Grain reads ahead, several batches at once; batches are NumPy arrays."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator

import grain
import numpy as np

from brittle_jax.data.image_set import ImageSet
from brittle_jax.parallel import padded_batches

# Decoding releases the interpreter lock, so a few threads keep up with the devices of one machine.
_READ = grain.ReadOptions(num_threads=4, prefetch_buffer_size=8)

_BATCHES_WITHOUT_END = 2**31


@dataclasses.dataclass(frozen=True)
class _Batches:
    """Random access to whole batches, as Grain wants it.

    Not to single images, which Grain could batch too: on small images its steps in Python took longer than reading.

    Attributes:
        images: to read.
        indices: [M], the images that count.
        length: how many batches there are.
        places: number of a batch to where in `indices` its images stand, [N], and how often each came before, [N].
    """

    images: ImageSet
    indices: np.ndarray
    length: int
    places: Callable[[int], tuple[np.ndarray, np.ndarray]]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> dict[str, np.ndarray]:
        positions, epochs = self.places(int(number))
        chosen = self.indices[positions]
        return {
            "image": np.stack([self.images.read_image(int(image)) for image in chosen]),
            "label": self.images.labels[self.images.sample_of_image[chosen]].astype(np.int32),
            "position": positions.astype(np.int32),
            "epoch": epochs.astype(np.int32),
        }

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return iter(grain.MapDataset.source(self).to_iter_dataset(_READ))


def training_order(num_images: int, batch_size: int, seed: int) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    """Returns the order of training: successive permutations of M images, joined.

    Args:
        batch_size: N, over all devices.
        seed: of the permutations; the one of each epoch differs.

    Returns:
        Number of a batch to positions of its images among the M, [N], and how often each came before, [N].
    """

    @functools.lru_cache(maxsize=4)
    def permutation(epoch: int) -> np.ndarray:
        return np.random.default_rng([seed, epoch]).permutation(num_images)

    def places(number: int) -> tuple[np.ndarray, np.ndarray]:
        epochs, within = np.divmod(number * batch_size + np.arange(batch_size), num_images)
        positions = np.empty(batch_size, int)
        for epoch in np.unique(epochs).tolist():
            positions[epochs == epoch] = permutation(epoch)[within[epochs == epoch]]
        return positions, epochs

    return places


def training_batches(
    images: ImageSet, indices: np.ndarray, batch_size: int, seed: int
) -> Iterator[dict[str, np.ndarray]]:
    """Yields full batches without end, in the order that `training_order` has.

    Args:
        indices: [M], the images to train on.

    Yields:
        `image` [N, H, W, 3] uint8, `label` [N] int32, `position` [N] int32 into `indices`, and `epoch` [N]
        int32, how often the image came before.
    """
    places = training_order(len(indices), batch_size, seed)
    yield from _Batches(images, indices, _BATCHES_WITHOUT_END, places)


def evaluation_batches(images: ImageSet, indices: np.ndarray, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
    """Yields every image once, in order; the last batch is filled up, and `mask` [N] tells which images count."""

    def places(number: int) -> tuple[np.ndarray, np.ndarray]:
        positions = np.arange(number * batch_size, min((number + 1) * batch_size, len(indices)))
        return positions, np.zeros(len(positions))

    yield from padded_batches(_Batches(images, indices, math.ceil(len(indices) / batch_size), places), batch_size)
