"""What the trunks share: stages that follow one another, and levels, which are stages that make the representation."""

from collections.abc import Iterator, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

PLACES = "intermediates"  # the collection of what is pooled; nothing is noted down unless it is asked for


class Trunk(nn.Module):
    """A trunk in stages: images [N, H, W, C] to pooled features [N, F].

    A subclass gives `level_names`, the names of its stages in their order; `stages`; and `pool`, which pools by
    `average` or `maximum`.
    """

    def stages(self, x: jax.Array, train: bool) -> Iterator[jax.Array]:
        """Runs the stages one after the other, and yields the activations [N, H', W', C'] of each."""
        raise NotImplementedError

    def pool(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps the activations of the last stage to the pooled features [N, F]."""
        raise NotImplementedError

    def average(self, x: jax.Array) -> jax.Array:
        """Averages activations [N, H, W, C] over the picture, to [N, C], and notes them down for heat maps."""
        self.sow(PLACES, "pooled", x)
        return x.mean(axis=(1, 2))

    def maximum(self, x: jax.Array) -> jax.Array:
        """Takes the maximum of activations [N, H, W, C] over the picture, to [N, C].

        For heat maps it is an average, too: of activations that are 0 but at the place of the maximum.
        """
        if self.is_mutable_collection(PLACES) and not self.is_initializing():
            flat = x.reshape(len(x), -1, x.shape[-1])
            is_largest = jax.nn.one_hot(flat.argmax(axis=1), flat.shape[1], axis=1, dtype=x.dtype)
            self.sow(PLACES, "pooled", (flat * is_largest * flat.shape[1]).reshape(x.shape))
        return nn.max_pool(x, x.shape[1:3])[:, 0, 0]

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False, levels: Sequence[str] = ()) -> jax.Array:
        """Maps images to pooled features; with levels, to the averages of these stages over the picture, joined.

        Stages after the last level are not run, neither forwards nor in training, so their weights and statistics stay
        as they are. Only `init` runs everything: the parameters are the same whatever the levels, so the weights of a
        whole network can be loaded.

        Args:
            levels: names of stages, each once; they are joined in the order of the network.

        Returns:
            [N, F]; with levels F is the sum of their channels.
        """
        averages = []
        for name, activations in zip(self.level_names, self.stages(x, train), strict=True):
            if name in levels:
                averages.append(self.average(activations))
                if len(averages) == len(levels) and not self.is_initializing():
                    break
        else:
            pooled = self.pool(activations, train)
        return jnp.concatenate(averages, axis=-1) if levels else pooled
