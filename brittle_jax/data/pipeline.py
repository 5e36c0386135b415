"""From an image set to batches: Grain reads, shuffles and prefetches; batches are NumPy arrays."""

import dataclasses
from collections.abc import Iterator

import grain
import numpy as np

from brittle_jax.data.image_set import ImageSet
from brittle_jax.parallel import padded_batches

# Decoding releases the interpreter lock, so a few threads keep up with the devices of one machine.
_READ = grain.ReadOptions(num_threads=4, prefetch_buffer_size=8)


_EPOCHS_WITHOUT_END = 2**31


@dataclasses.dataclass(frozen=True)
class _Examples:
    """Random access to the chosen images of a set, as Grain wants it."""

    images: ImageSet
    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> dict[str, np.ndarray]:
        image = int(self.indices[position])
        return {
            "image": self.images.read_image(image),
            "label": self.images.labels[self.images.sample_of_image[image]].astype(np.int32),
            "position": np.int32(position),
        }


def training_batches(
    images: ImageSet, indices: np.ndarray, batch_size: int, seed: int
) -> Iterator[dict[str, np.ndarray]]:
    """Yields full batches without end: successive permutations of the images, joined.

    Args:
        indices: [M], the images to train on.
        batch_size: N, over all devices.
        seed: of the permutations; the one of each epoch differs.

    Yields:
        `image` [N, H, W, 3] uint8, `label` [N] int32, `position` [N] int32 into `indices`, and `epoch` [N]
        int32, how often the image came before.
    """
    # Not `repeat(None)`: its length, the largest integer there is, overflows in batches of one.
    examples = grain.MapDataset.source(_Examples(images, indices)).shuffle(seed).repeat(_EPOCHS_WITHOUT_END)
    examples = examples.map_with_index(lambda index, example: {**example, "epoch": np.int32(index // len(indices))})
    yield from examples.batch(batch_size).to_iter_dataset(_READ)


def evaluation_batches(images: ImageSet, indices: np.ndarray, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
    """Yields every image once, in order; the last batch is filled up, and `mask` [N] tells which images count."""
    examples = grain.MapDataset.source(_Examples(images, indices))
    batches = examples.batch(batch_size, drop_remainder=False).to_iter_dataset(_READ)
    yield from padded_batches(batches, batch_size)
