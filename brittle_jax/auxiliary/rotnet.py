"""Prediction of rotations (Gidaris et al., 2018, https://arxiv.org/abs/1803.07728), by cross-entropy (Sec. A.1)."""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from brittle_jax.auxiliary.augmentation import Augmentation


@dataclasses.dataclass(frozen=True)
class RotNet:
    """Predicts by which multiple of 90° an image was turned; every image appears in all four rotations.

    See `AuxiliaryTask`. Images are square. Mirroring is left out, whatever the augmentation says.
    """

    augmentation: Augmentation
    num_outputs: int = 4
    views_per_image: int = 4

    def prepare(self, images: jax.Array, labels: jax.Array, keys: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """Returns all four rotations, counter-clockwise as `numpy.rot90`, and which one each is."""
        del labels
        if keys is not None:
            images = dataclasses.replace(self.augmentation, flip=False)(keys, images)
        rotated = [jnp.rot90(images, turns, axes=(1, 2)) for turns in range(4)]
        return jnp.concatenate(rotated), jnp.repeat(jnp.arange(4), len(images))

    def losses(self, outputs: jax.Array, targets: jax.Array) -> jax.Array:
        """Returns the cross-entropy of each input in nats."""
        return optax.softmax_cross_entropy_with_integer_labels(outputs, targets)

    def is_correct(self, outputs: jax.Array, targets: jax.Array) -> jax.Array:
        """Returns whether the largest output is the target's."""
        return jnp.argmax(outputs, axis=-1) == targets
