"""The small ResNet of DAWNBench for 32×32 images (github.com/davidcpage/cifar10-fast), and a decoder for it."""

import math
from collections.abc import Iterator, Sequence

import flax.linen as nn
import jax

from brittle_jax.models.layers import batch_norm, conv, kernel_init, max_pool_2x2
from brittle_jax.models.trunk import Trunk


class ConvBlock(nn.Module):
    """3×3 convolution, batch norm, ReLU."""

    features: int
    batch_norm_momentum: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = conv(self.features, (3, 3), padding=1)(x)
        return nn.relu(batch_norm(train, self.batch_norm_momentum)(x))


class SmallResNet(Trunk):
    """Trunk of the small ResNet: [N, H, W, C] to pooled features [N, widths[-1]]. H and W are divisible by 8.

    The published widths give 6,568,000 parameters. A residual layer is x + block(block(x)), without a ReLU after the
    addition.
    """

    widths: Sequence[int] = (64, 128, 256, 512)
    batch_norm_momentum: float = 0.9
    initialiser = "uniform"  # see layers.INITIALISERS; not a field, because this network has no other
    level_names = ("prep", "layer1", "layer2", "layer3")

    def stages(self, x: jax.Array, train: bool) -> Iterator[jax.Array]:
        """See `Trunk`."""

        def block(x, features, name):
            return ConvBlock(features, self.batch_norm_momentum, name=name)(x, train)

        x = block(x, self.widths[0], "prep")
        yield x
        for layer, (features, residual) in enumerate(zip(self.widths[1:], (True, False, True), strict=True), 1):
            x = max_pool_2x2(block(x, features, f"layer{layer}"))
            if residual:
                inner = block(x, features, f"layer{layer}_residual1")
                x = x + block(inner, features, f"layer{layer}_residual2")
            yield x

    def pool(self, x: jax.Array, train: bool) -> jax.Array:
        """See `Trunk`."""
        return self.maximum(x)  # of 4×4 on images of 32×32, as in the original


class SmallResNetDecoder(nn.Module):
    """Mirror image of the small ResNet: codes [N, F] to images [N, *image_shape], of any scale (Sec. 3.2).

    Where the trunk halves the image and widens the features, the decoder doubles the image and narrows them.
    """

    image_shape: tuple[int, int, int]
    widths: Sequence[int] = (64, 128, 256, 512)
    batch_norm_momentum: float = 0.9

    @nn.compact
    def __call__(self, codes: jax.Array, train: bool = False) -> jax.Array:
        def block(x, features, name):
            return ConvBlock(features, self.batch_norm_momentum, name=name)(x, train)

        height, width, channels = self.image_shape
        shape = (height // 8, width // 8, self.widths[-1])
        x = nn.Dense(math.prod(shape), use_bias=False, kernel_init=kernel_init, name="spread")(codes)
        x = nn.relu(batch_norm(train, self.batch_norm_momentum, "spread_norm")(x.reshape(-1, *shape)))
        for layer, residual in ((3, True), (2, False), (1, True)):
            if residual:
                inner = block(x, self.widths[layer], f"layer{layer}_residual1")
                x = x + block(inner, self.widths[layer], f"layer{layer}_residual2")
            x = block(double_2x2(x), self.widths[layer - 1], f"layer{layer}")
        return conv(channels, (3, 3), padding=1, use_bias=True, name="image")(x)


def double_2x2(x: jax.Array) -> jax.Array:
    """Repeats each row and column of [N, H, W, C]: [N, 2H, 2W, C]."""
    return x.repeat(2, axis=1).repeat(2, axis=2)
