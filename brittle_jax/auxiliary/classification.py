"""Classification into the labelled classes, by cross-entropy (Sec. A.1)."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from brittle_jax.auxiliary.augmentation import Augmentation
from brittle_jax.models.network import Architecture


@dataclasses.dataclass(frozen=True)
class Classification:
    """Predicts an image's label; see `AuxiliaryTask`."""

    num_classes: int
    augmentation: Augmentation
    version: int = 1
    views_per_image: int = 1
    keeps_head: bool = False
    needs_labels: bool = True
    learns_anomalies: bool = False
    least_batch_size: int = 1
    reconstructs: bool = False
    held_out_metric: str = "accuracy"

    def build_module(
        self, architecture: Architecture, output_features: int, image_shape: tuple[int, int, int]
    ) -> nn.Module:
        """Returns the network with a head for the classes."""
        del output_features, image_shape
        return architecture.with_classifier(self.num_classes)

    def prepare(self, images: jax.Array, labels: jax.Array, keys: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """Returns the images, augmented where keys are given, and their labels."""
        return images if keys is None else self.augmentation(keys, images), labels

    def losses(self, outputs: jax.Array, targets: jax.Array) -> jax.Array:
        """Returns the cross-entropy of each input in nats."""
        return optax.softmax_cross_entropy_with_integer_labels(outputs, targets)

    def metrics(self, outputs: jax.Array, targets: jax.Array) -> dict[str, jax.Array]:
        """Returns whether the largest output is the target's."""
        return {"accuracy": jnp.argmax(outputs, axis=-1) == targets}
