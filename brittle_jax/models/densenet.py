"""DenseNet (Huang et al., 2017, https://arxiv.org/abs/1608.06993), with the layers of torchvision's."""

import functools
from collections.abc import Iterator, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from brittle_jax.models.layers import INITIALISERS, batch_norm, conv
from brittle_jax.models.trunk import Trunk


class DenseNet(Trunk):
    """Trunk of a DenseNet: [N, H, W, C] to pooled features [N, F]. H and W are at least 32.

    The defaults are those of DenseNet-161: 2208 features, 26,472,000 parameters.

    A level is all that a block has joined, as it enters the batch norm that follows.

    Attributes:
        initialiser: how kernels are drawn, a key of `layers.INITIALISERS`.
    """

    growth: int = 48
    block_sizes: Sequence[int] = (6, 12, 36, 24)
    initial_features: int = 96
    bottleneck_factor: int = 4
    batch_norm_momentum: float = 0.9
    initialiser: str = "he_normal"

    @property
    def level_names(self) -> tuple[str, ...]:
        """See `Trunk`."""
        return tuple(f"block{number}" for number in range(1, len(self.block_sizes) + 1))

    def stages(self, x: jax.Array, train: bool) -> Iterator[jax.Array]:
        """See `Trunk`."""
        new_conv = functools.partial(conv, kernel_init=INITIALISERS[self.initialiser])
        norm_relu = functools.partial(self._norm_relu, train=train)
        x = new_conv(self.initial_features, (7, 7), strides=2, padding=3, name="conv0")(x)
        x = nn.max_pool(norm_relu(x, "norm0"), (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for i, num_layers in enumerate(self.block_sizes, 1):
            for j in range(1, num_layers + 1):
                layer = f"denseblock{i}_denselayer{j}"
                y = norm_relu(x, f"{layer}_norm1")
                y = new_conv(self.bottleneck_factor * self.growth, (1, 1), name=f"{layer}_conv1")(y)
                y = norm_relu(y, f"{layer}_norm2")
                y = new_conv(self.growth, (3, 3), padding=1, name=f"{layer}_conv2")(y)
                x = jnp.concatenate([x, y], axis=-1)
            yield x
            if i < len(self.block_sizes):
                x = norm_relu(x, f"transition{i}_norm")
                # Torchvision averages after the convolution: the same result, from four times as many multiplications.
                x = nn.avg_pool(x, (2, 2), strides=(2, 2))
                x = new_conv(x.shape[-1] // 2, (1, 1), name=f"transition{i}_conv")(x)

    def pool(self, x: jax.Array, train: bool) -> jax.Array:
        """See `Trunk`."""
        return self.average(self._norm_relu(x, "norm5", train=train))

    def _norm_relu(self, x: jax.Array, name: str, *, train: bool) -> jax.Array:
        return nn.relu(batch_norm(train, self.batch_norm_momentum, name)(x))
