"""A plain convolutional network: a small student for a large teacher."""

from collections.abc import Iterator, Sequence

import flax.linen as nn
import jax

from brittle_jax.models.layers import INITIALISERS, batch_norm, conv
from brittle_jax.models.trunk import Trunk


class SmallConvNet(Trunk):
    """Trunk of 3×3 convolutions: [N, H, W, C] to pooled features [N, widths[-1]], for images of any size.

    Each convolution is followed by batch norm and ReLU, and all but the last halve the image. The default widths give
    980,000 parameters.
    """

    widths: Sequence[int] = (32, 64, 128, 256, 256)
    batch_norm_momentum: float = 0.9
    initialiser = "he_normal"  # see layers.INITIALISERS; not a field, because this network has no other
    level_names = ("conv1", "conv2", "conv3", "conv4", "conv5")

    def stages(self, x: jax.Array, train: bool) -> Iterator[jax.Array]:
        """See `Trunk`."""
        for name, width in zip(self.level_names, self.widths, strict=True):
            stride = 1 if name == self.level_names[-1] else 2
            init = INITIALISERS[self.initialiser]
            x = conv(width, (3, 3), strides=stride, padding=1, kernel_init=init, name=name)(x)
            x = nn.relu(batch_norm(train, self.batch_norm_momentum, f"{name}_norm")(x))
            yield x

    def pool(self, x: jax.Array, train: bool) -> jax.Array:
        """See `Trunk`."""
        return self.average(x)
