"""What every auxiliary task offers."""

from typing import Protocol

import flax.linen as nn
import jax

from brittle_jax.models.network import Architecture


class AuxiliaryTask(Protocol):
    """A task that a teacher is pre-trained on; hashable, so that equal tasks share a compilation."""

    version: int
    """Of the recipe: raised when the same settings no longer give the same teacher."""

    views_per_image: int
    """How many inputs each image becomes."""

    keeps_head: bool
    """Whether the teacher's output is the trained head's, as a bottleneck's, and not that of a random head."""

    needs_labels: bool
    """Whether it cannot learn from images without a label."""

    learns_anomalies: bool
    """Whether it learns the anomaly-detection data itself, labelled anomalies included (Sec. 3.3)."""

    least_batch_size: int
    """How many inputs a batch must have at least."""

    reconstructs: bool
    """Whether its outputs are images: it needs an architecture with a decoder."""

    held_out_metric: str | None
    """Which of `metrics` tells how well held-out images are mastered; None: none does."""

    def build_module(
        self, architecture: Architecture, output_features: int, image_shape: tuple[int, int, int]
    ) -> nn.Module:
        """Returns what is trained: a module with a `trunk`, and a `head` if that is kept."""

    def prepare(self, images: jax.Array, labels: jax.Array, keys: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """Turns images [N, H, W, C] in [0, 1] and their labels [N] into inputs [V·N, H, W, C] and targets [V·N, ...].

        Inputs are ordered view by view. `keys` [N] are random keys, one an image; None: no augmentation.
        """

    def losses(self, outputs: jax.Array, targets: jax.Array) -> jax.Array:
        """Returns each input's loss: [V·N, ...], [V·N, ...] to [V·N]; it may look at other devices' outputs."""

    def metrics(self, outputs: jax.Array, targets: jax.Array) -> dict[str, jax.Array]:
        """Returns what is reported beside the loss, by name, [V·N] each."""
