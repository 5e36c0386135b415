"""Random images and networks, so that benchmarks need no data set."""

import numpy as np
from brittle_jax.data.image_set import ImageSet

from brittle_jax.models.network import ARCHITECTURES, Network, init_variables


def pictures(count: int, side: int) -> np.ndarray:
    """Returns random images [count, side, side, 3] uint8."""
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)


def image_set(images: np.ndarray) -> ImageSet:
    """Returns images [N, H, W, 3] as a set of N normal samples."""
    count = len(images)
    return ImageSet(
        name="made up",
        classes=("normal",),
        synthetic=True,
        ids=np.arange(count).astype(str),
        labels=np.zeros(count, int),
        official_split=None,
        groups=np.arange(count).astype(str),
        digests=np.arange(count).astype(str)[:, None],
        skipped=(),
        sample_of_image=np.arange(count),
        views=("",),
        view_of_image=np.zeros(count, int),
        read_image=lambda index: images[index],
        image_shape=images.shape[1:],
        read_view=lambda sample, view: images[sample],
        box_of_image=None,
    )


def network(name: str, features: int, side: int, seed: int = 0) -> Network:
    """Returns a network with random weights."""
    module = ARCHITECTURES[name].with_output(features)
    return Network(module, init_variables(module, seed, (side, side, 3)))
