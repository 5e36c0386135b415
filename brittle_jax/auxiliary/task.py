"""What every auxiliary task offers."""

from typing import Protocol

import jax


class AuxiliaryTask(Protocol):
    """A task that a teacher is pre-trained on; hashable, so that equal tasks share a compilation."""

    num_outputs: int
    """Features of the head that the task puts on the trunk."""

    views_per_image: int
    """How many inputs each image becomes."""

    def prepare(self, images: jax.Array, labels: jax.Array, keys: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """Turns images [N, H, W, C] in [0, 1] and their labels [N] into inputs [V·N, H, W, C] and targets [V·N].

        Inputs are ordered view by view. `keys` [N] are random keys, one an image; None: no augmentation.
        """

    def losses(self, outputs: jax.Array, targets: jax.Array) -> jax.Array:
        """Returns each input's loss: [V·N, num_outputs], [V·N] to [V·N]."""

    def is_correct(self, outputs: jax.Array, targets: jax.Array) -> jax.Array:
        """Returns whether each input was predicted right: [V·N, num_outputs], [V·N] to [V·N] bool."""
