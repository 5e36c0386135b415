"""A network that compiles in a moment, for tests of all that is around a network; its results mean nothing."""

import math

import flax.linen as nn

from brittle_jax.models.layers import batch_norm, conv, kernel_init
from brittle_jax.models.network import Architecture


class MiniTrunk(nn.Module):
    """Convolution, batch norm, ReLU, mean: [N, H, W, C] to [N, 8]."""

    batch_norm_momentum: float = 0.9

    @nn.compact
    def __call__(self, x, train=False):
        x = conv(8, (3, 3), strides=2, padding=1, name="conv")(x)
        return nn.relu(batch_norm(train, self.batch_norm_momentum, "norm")(x)).mean(axis=(1, 2))


class MiniDecoder(nn.Module):
    """Codes [N, F] to images [N, *image_shape]: one linear layer, with batch norm."""

    image_shape: tuple[int, int, int]
    batch_norm_momentum: float = 0.9

    @nn.compact
    def __call__(self, codes, train=False):
        x = nn.Dense(math.prod(self.image_shape), kernel_init=kernel_init, name="linear")(codes)
        return batch_norm(train, self.batch_norm_momentum, "norm")(x.reshape(-1, *self.image_shape))


MINI = Architecture(
    MiniTrunk(),
    classifier_bias=True,
    classifier_scale=1.0,
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
    decoder=MiniDecoder,
)
