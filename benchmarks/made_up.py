"""Random images and networks, so that benchmarks need no data set."""

import numpy as np

from brittle_jax.data.images import Images
from brittle_jax.models.network import ARCHITECTURES, Network, init_variables


def pictures(count: int, side: int) -> np.ndarray:
    """Returns random images [count, side, side, 3] uint8."""
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)


def images_of(pictures: np.ndarray) -> Images:
    """Returns pictures [N, H, W, 3] as images."""
    return Images(len(pictures), pictures.shape[1:], lambda index: pictures[index])


def network(name: str, features: int, side: int, seed: int = 0) -> Network:
    """Returns a network with random weights."""
    module = ARCHITECTURES[name].with_output(features)
    return Network(module, init_variables(module, seed, (side, side, 3)))
