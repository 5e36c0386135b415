"""Prediction of rotations (Gidaris et al., 2018, https://arxiv.org/abs/1803.07728), by cross-entropy (Sec. A.1)."""

import dataclasses

import jax
import jax.numpy as jnp

from brittle_jax.auxiliary.classification import Classification


@dataclasses.dataclass(frozen=True)
class RotNet(Classification):
    """Predicts by which multiple of 90° an image was turned; every image appears in all four rotations.

    See `AuxiliaryTask`. Images are square. Mirroring is left out, whatever the augmentation says.
    """

    num_classes: int = dataclasses.field(default=4, init=False)
    views_per_image: int = 4
    needs_labels: bool = False

    def prepare(self, images: jax.Array, labels: jax.Array, keys: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """Returns all four rotations, counter-clockwise as `numpy.rot90`, and which one each is."""
        del labels
        if keys is not None:
            images = dataclasses.replace(self.augmentation, flip=False)(keys, images)
        rotated = [jnp.rot90(images, turns, axes=(1, 2)) for turns in range(4)]
        return jnp.concatenate(rotated), jnp.repeat(jnp.arange(4), len(images))
