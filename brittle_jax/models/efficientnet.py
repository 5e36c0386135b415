"""EfficientNet-Lite0 (Tan and Le, 2019, https://arxiv.org/abs/1905.11946; Lite: Liu, 2020), as TensorFlow has it.

It is an EfficientNet-B0 for phones: without squeeze-and-excitation, and with ReLU6 in place of swish.
"""

import functools
from collections.abc import Iterator, Sequence

import flax.linen as nn
import jax

from brittle_jax.models.layers import INITIALISERS, batch_norm, conv
from brittle_jax.models.trunk import Trunk

# Of each stage: kernel size, stride, and how many times as wide as its input a block is inside.
_STAGES = ((3, 1, 1), (3, 2, 6), (5, 2, 6), (3, 2, 6), (5, 1, 6), (5, 2, 6), (3, 1, 6))


class EfficientNetLite(Trunk):
    """Trunk of an EfficientNet-Lite: [N, H, W, C] to pooled features [N, head_features], for images of any size.

    The defaults are those of EfficientNet-Lite0: 1,280 features, 3,371,008 parameters. Padding is TensorFlow's 'SAME'.
    There is neither dropout nor stochastic depth.

    A level is what the last block of a stage gives: a linear projection, to which no activation function was applied.
    """

    stem_features: int = 32
    widths: Sequence[int] = (16, 24, 40, 80, 112, 192, 320)
    repeats: Sequence[int] = (1, 2, 2, 3, 3, 4, 1)
    head_features: int = 1280
    batch_norm_momentum: float = 0.9
    initialiser = "he_normal_fan_out"  # see layers.INITIALISERS; not a field, because this network has no other
    level_names = tuple(f"stage{number}" for number in range(1, len(_STAGES) + 1))

    def stages(self, x: jax.Array, train: bool) -> Iterator[jax.Array]:
        """See `Trunk`."""
        layer = functools.partial(self._conv_norm, train=train)
        x = nn.relu6(layer(x, "stem", self.stem_features, kernel=3, stride=2))
        block = 0
        for (kernel, stride, expansion), width, count in zip(_STAGES, self.widths, self.repeats, strict=True):
            for repeat in range(count):
                name, inputs = f"block{block}", x
                if expansion > 1:
                    x = nn.relu6(layer(x, f"{name}_expand", expansion * x.shape[-1]))
                channels = x.shape[-1]
                stride_here = stride if repeat == 0 else 1
                x = nn.relu6(layer(x, f"{name}_depthwise", channels, kernel, stride_here, groups=channels))
                x = layer(x, f"{name}_project", width)
                if stride_here == 1 and width == inputs.shape[-1]:
                    x = x + inputs
                block += 1
            yield x

    def pool(self, x: jax.Array, train: bool) -> jax.Array:
        """See `Trunk`."""
        return self.average(nn.relu6(self._conv_norm(x, "head", self.head_features, train=train)))

    def _conv_norm(
        self, x: jax.Array, name: str, features: int, kernel: int = 1, stride: int = 1, groups: int = 1, *, train: bool
    ) -> jax.Array:
        init = INITIALISERS[self.initialiser]
        options = {"strides": stride, "padding": "SAME", "feature_group_count": groups, "kernel_init": init}
        x = conv(features, (kernel, kernel), name=f"{name}_conv", **options)(x)
        return batch_norm(train, self.batch_norm_momentum, f"{name}_norm", epsilon=1e-3)(x)
