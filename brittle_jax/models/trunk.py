"""What the trunks share: stages that follow one another, and levels, which are stages that make the representation."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

PLACES = "intermediates"  # the collection of what is pooled; nothing is noted down unless it is asked for
EXTREMES = ":extremes"  # after a stage's name: its largest and smallest activations, in place of its averages


class Pooled(NamedTuple):
    """What is pooled over the picture, place by place: pooled features [N, C] are the average of their product.

    Attributes:
        activations: [N, H, W, C].
        weights: [N, H, W, C] or [1, 1, 1, 1], of average 1: all at one place for a maximum.
    """

    activations: jax.Array
    weights: jax.Array


class Trunk(nn.Module):
    """A trunk in stages: images [N, H, W, C] to pooled features [N, F].

    A subclass gives `level_names`, the names of its stages in their order; `stages`; and `pool`, which pools by
    `average`, `maximum` or `minimum`.
    """

    def stages(self, x: jax.Array, train: bool) -> Iterator[jax.Array]:
        """Runs the stages one after the other, and yields the activations [N, H', W', C'] of each."""
        raise NotImplementedError

    def pool(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps the activations of the last stage to the pooled features [N, F]."""
        raise NotImplementedError

    def average(self, x: jax.Array) -> jax.Array:
        """Averages activations [N, H, W, C] over the picture, to [N, C], and notes them down for heat maps."""
        self.sow(PLACES, "pooled", Pooled(x, jnp.ones((1, 1, 1, 1), x.dtype)))
        return x.mean(axis=(1, 2))

    def maximum(self, x: jax.Array, sign: int = 1) -> jax.Array:
        """Takes the maximum of activations [N, H, W, C] over the picture, to [N, C]; with sign -1, the minimum.

        For heat maps it is an average, too: of activations that count at the place of the maximum alone, or of the
        first one if there are several.
        """
        if self.is_mutable_collection(PLACES) and not self.is_initializing():
            flat = sign * x.reshape(len(x), -1, x.shape[-1])
            is_largest = jax.nn.one_hot(flat.argmax(axis=1), flat.shape[1], axis=1, dtype=x.dtype)
            self.sow(PLACES, "pooled", Pooled(x, is_largest.reshape(x.shape) * flat.shape[1]))
        return sign * nn.max_pool(sign * x, x.shape[1:3])[:, 0, 0]

    def minimum(self, x: jax.Array) -> jax.Array:
        """Takes the minimum of activations, as `maximum`."""
        return self.maximum(x, sign=-1)

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False, levels: Sequence[str] = ()) -> jax.Array:
        """Maps images to pooled features; with levels, to what these stages give over the picture, joined.

        Stages after the last level are not run, neither forwards nor in training, so their weights and statistics stay
        as they are. Only `init` runs everything: the parameters are the same whatever the levels, so the weights of a
        whole network can be loaded.

        Args:
            levels: names of stages, each once. A plain name takes the averages of a stage; with `EXTREMES` appended,
                it takes the largest and then the smallest activations. They are joined in the order of the network.

        Returns:
            [N, F]; with levels F is the sum of their channels, which count twice for extremes.
        """
        joined, left = [], set(levels)
        for name, activations in zip(self.level_names, self.stages(x, train), strict=True):
            ways = {name: (self.average,), name + EXTREMES: (self.maximum, self.minimum)}
            joined += [pool(activations) for level, pools in ways.items() if level in left for pool in pools]
            left -= set(ways)
            if levels and not left and not self.is_initializing():
                break
        else:
            pooled = self.pool(activations, train)
        return jnp.concatenate(joined, axis=-1) if levels else pooled
