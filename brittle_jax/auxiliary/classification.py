"""Classification into the labelled classes, by cross-entropy (Sec. A.1)."""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from brittle_jax.auxiliary.augmentation import Augmentation


@dataclasses.dataclass(frozen=True)
class Classification:
    """Predicts an image's label; see `AuxiliaryTask`."""

    num_outputs: int
    augmentation: Augmentation
    views_per_image: int = 1

    def prepare(self, images: jax.Array, labels: jax.Array, keys: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """Returns the images, augmented where keys are given, and their labels."""
        return images if keys is None else self.augmentation(keys, images), labels

    def losses(self, outputs: jax.Array, targets: jax.Array) -> jax.Array:
        """Returns the cross-entropy of each input in nats."""
        return optax.softmax_cross_entropy_with_integer_labels(outputs, targets)

    def is_correct(self, outputs: jax.Array, targets: jax.Array) -> jax.Array:
        """Returns whether the largest output is the target's."""
        return jnp.argmax(outputs, axis=-1) == targets
