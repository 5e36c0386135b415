"""Images as networks see them, read one at a time: what the pipeline reads."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

_REMEMBERED_BYTES = 2**28  # CIFAR-10 takes 184 million


@dataclasses.dataclass(frozen=True)
class Images:
    """N images of one size.

    Attributes:
        count: N.
        shape: (H, W, 3).
        read: index of an image to [H, W, 3] uint8, which must not be written to.
    """

    count: int
    shape: tuple[int, int, int]
    read: Callable[[int], np.ndarray]

    def __len__(self) -> int:
        return self.count

    @property
    def cached_bytes(self) -> int:
        """Memory that `cached` takes: 0 where there are too many images to keep."""
        size = self.count * math.prod(self.shape)
        return size if size <= _REMEMBERED_BYTES else 0

    def cached(self) -> "Images":
        """Returns the same images, each decoded once if all of them fit into 256 MiB; else unchanged."""
        if not self.cached_bytes:
            return self
        decoded = np.empty((self.count, *self.shape), np.uint8)  # untouched memory takes no room
        is_valid = np.zeros(self.count, bool)

        def read(index: int) -> np.ndarray:
            if not is_valid[index]:
                decoded[index] = self.read(index)
                is_valid[index] = True
            return decoded[index]

        return dataclasses.replace(self, read=read)
