"""The small ResNet of DAWNBench (github.com/davidcpage/cifar10-fast), for 32×32 images."""

from collections.abc import Sequence

import flax.linen as nn
import jax

from brittle_jax.models.layers import batch_norm, conv


class ConvBlock(nn.Module):
    """3×3 convolution, batch norm, ReLU."""

    features: int
    batch_norm_momentum: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = conv(self.features, (3, 3), padding=1)(x)
        return nn.relu(batch_norm(train, self.batch_norm_momentum)(x))


class SmallResNet(nn.Module):
    """Trunk of the small ResNet: [N, H, W, C] to pooled features [N, widths[-1]]; H and W divisible by 8.

    The published widths give 6,568,000 parameters. A residual layer is x + block(block(x)), with no ReLU after
    the addition.
    """

    widths: Sequence[int] = (64, 128, 256, 512)
    batch_norm_momentum: float = 0.9

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        def block(x, features, name):
            return ConvBlock(features, self.batch_norm_momentum, name=name)(x, train)

        x = block(x, self.widths[0], "prep")
        for layer, (features, residual) in enumerate(zip(self.widths[1:], (True, False, True), strict=True), 1):
            x = max_pool_2x2(block(x, features, f"layer{layer}"))
            if residual:
                inner = block(x, features, f"layer{layer}_residual1")
                x = x + block(inner, features, f"layer{layer}_residual2")
        return x.max(axis=(1, 2))  # the 4×4 max-pool of the original, at 32×32


def max_pool_2x2(x: jax.Array) -> jax.Array:
    """Maximum of each 2×2 window of [N, H, W, C], H and W even.

    Written as reshape and max: on a CPU the gradient of `nn.max_pool` (select-and-scatter) takes three times
    as long. They differ only where a window's maximum is tied; there this one shares the gradient.
    """
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).max(axis=(2, 4))
