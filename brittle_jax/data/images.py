"""Images as networks see them, read one at a time: what the pipeline reads."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

MOST_CACHED_BYTES = 2**28  # CIFAR-10 takes 184 million


@dataclasses.dataclass(frozen=True, eq=False)  # arrays have no single truth value
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
    def num_bytes(self) -> int:
        """Memory that all images take together."""
        return self.count * math.prod(self.shape)

    @property
    def cached_bytes(self) -> int:
        """Memory that `cached` takes by default: 0 if there are too many images to keep."""
        return self.num_bytes if self.num_bytes <= MOST_CACHED_BYTES else 0

    def cached(self, most_bytes: int = MOST_CACHED_BYTES) -> "Images":
        """Returns the same images, each decoded once if all of them fit into `most_bytes`; else unchanged."""
        if self.num_bytes > most_bytes:
            return self
        decoded = np.empty((self.count, *self.shape), np.uint8)  # untouched memory takes no room
        is_valid = np.zeros(self.count, bool)

        def read(index: int) -> np.ndarray:
            if not is_valid[index]:
                decoded[index] = self.read(index)
                is_valid[index] = True
            return decoded[index]

        return dataclasses.replace(self, read=read)
