"""What the trunks share: stages that follow one another, and levels, which are stages that make the representation."""

from collections.abc import Iterator, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp


class Trunk(nn.Module):
    """A trunk in stages: images [N, H, W, C] to pooled features [N, F].

    A subclass gives `level_names`, the names of its stages in their order; `stages`; and `pool`.
    """

    def stages(self, x: jax.Array, train: bool) -> Iterator[jax.Array]:
        """Runs the stages one after the other, and yields the activations [N, H', W', C'] of each."""
        raise NotImplementedError

    def pool(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps the activations of the last stage to the pooled features [N, F]."""
        raise NotImplementedError

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
                averages.append(activations.mean(axis=(1, 2)))
                if len(averages) == len(levels) and not self.is_initializing():
                    break
        else:
            pooled = self.pool(activations, train)
        return jnp.concatenate(averages, axis=-1) if levels else pooled
