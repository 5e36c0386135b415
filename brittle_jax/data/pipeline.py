"""From images to batches of NumPy arrays; Grain reads several batches ahead."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping

import grain
import numpy as np

from brittle_jax.data.images import Images

# Decoding releases the interpreter lock, so a few threads keep up with the devices of one machine.
_READ = grain.ReadOptions(num_threads=4, prefetch_buffer_size=8)

_ENDLESS = 2**31

Batch = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class _Batches:
    """Random access to whole batches from number `start` on, as Grain wants it.

    Grain could batch single images too. On small images its steps in Python took longer than reading them.
    """

    read: Callable[[int], Batch]
    start: int
    length: int

    def __len__(self) -> int:
        return self.length - self.start

    def __getitem__(self, number: int) -> Batch:
        return self.read(self.start + int(number))


class Reader:
    """Gives batches by their number. Those that follow are read ahead; asking out of order is right, but slower.

    A reader holds no position: the caller says which batch.
    """

    def __init__(self, read: Callable[[int], Batch], length: int):
        """Wraps a function from the number of a batch, below `length`, to the batch."""
        self._read, self._length = read, length
        self._ahead: Iterator[Batch] = iter(())
        self._next = -1  # the batch that comes next of those read ahead

    def __call__(self, number: int) -> Batch:
        """Returns batch `number`, counted from 0."""
        if number != self._next:
            batches = _Batches(self._read, number, self._length)
            self._ahead, self._next = iter(grain.MapDataset.source(batches).to_iter_dataset(_READ)), number
        batch = next(self._ahead)
        self._next += 1
        return batch


def training_order(num_images: int, batch_size: int, seed: int) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    """Returns the order of training: successive permutations of M images, joined.

    Args:
        batch_size: N, over all devices.
        seed: of the permutations; each epoch has its own.

    Returns:
        Function from the number of a batch to the positions of its images among the M, [N], and to their epochs, [N]:
        how often each image came before.
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


def training_reader(
    images: Images, indices: np.ndarray, batch_size: int, seed: int, labels: np.ndarray | None = None
) -> Reader:
    """Returns full batches without end, in the order of `training_order`.

    Args:
        indices: [M], the images to train on.
        labels: [M], of these images; None: 0.

    Returns:
        Reader of `image` [N, H, W, 3] uint8, `label` [N] int32, `position` [N] int32 into `indices`, and `epoch` [N]
        int32.
    """
    places = training_order(len(indices), batch_size, seed)

    def read(number: int) -> Batch:
        positions, epochs = places(number)
        return {**_read(images, indices, labels, positions), "epoch": epochs.astype(np.int32)}

    return Reader(read, _ENDLESS)


def evaluation_reader(images: Images, indices: np.ndarray, batch_size: int, labels: np.ndarray | None = None) -> Reader:
    """Returns every image once, in order, in ⌈M / N⌉ batches; zeros fill up the last one.

    Args:
        indices, labels: as in `training_reader`.

    Returns:
        Reader of `image`, `label` and `position` as in `training_reader`, and `mask` [N] bool, false for padding.
    """

    def read(number: int) -> Batch:
        positions = np.arange(number * batch_size, min((number + 1) * batch_size, len(indices)))
        return padded(_read(images, indices, labels, positions), batch_size)

    return Reader(read, math.ceil(len(indices) / batch_size))


def padded(batch: Batch, batch_size: int) -> dict[str, np.ndarray]:
    """Pads a batch with zeros to `batch_size` images, and adds `mask` [N] bool: true for those it had."""
    count = len(next(iter(batch.values())))
    rows = {
        key: np.concatenate([value, np.zeros((batch_size - count, *value.shape[1:]), value.dtype)])
        for key, value in batch.items()
    }
    return {**rows, "mask": np.arange(batch_size) < count}


def _read(images: Images, indices: np.ndarray, labels: np.ndarray | None, positions: np.ndarray) -> Batch:
    return {
        "image": np.stack([images.read(int(index)) for index in indices[positions]]),
        "label": np.zeros(len(positions), np.int32) if labels is None else labels[positions].astype(np.int32),
        "position": positions.astype(np.int32),
    }
