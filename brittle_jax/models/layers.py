"""Layers that both networks share."""

import functools
import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from brittle_jax.models.convolution import conv_general_dilated
from brittle_jax.parallel import BATCH_AXIS


def kernel_init(key: jax.Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """Draws a kernel [..., C, F] as PyTorch does by default, uniform in ±1/√fan_in: of all but the last dimension."""
    bound = math.prod(shape[:-1]) ** -0.5
    # In a row: the same numbers as a draw of that shape gives, which takes a CPU 20 times as long to compile.
    in_a_row = jax.random.uniform(key, (math.prod(shape),), dtype, -bound, bound)
    return in_a_row.reshape(shape)


conv = functools.partial(nn.Conv, use_bias=False, kernel_init=kernel_init, conv_general_dilated=conv_general_dilated)


def batch_norm(train: bool, momentum: float, name: str | None = None) -> nn.BatchNorm:
    """Returns a batch norm that, in training, averages its statistics over the devices (axis BATCH_AXIS).

    Args:
        momentum: weight of the old running average at each step; 0 keeps the last batch's statistics alone.
    """
    axis_name = BATCH_AXIS if train else None
    return nn.BatchNorm(use_running_average=not train, momentum=momentum, epsilon=1e-5, axis_name=axis_name, name=name)


class LinearHead(nn.Module):
    """Linear layer on pooled features: [N, F] to [N, features], times `scale`."""

    features: int
    use_bias: bool = False
    scale: float = 1.0

    @nn.compact
    def __call__(self, pooled: jax.Array) -> jax.Array:
        def bias_init(key, shape, dtype):
            bound = pooled.shape[-1] ** -0.5
            return jax.random.uniform(key, shape, dtype, -bound, bound)

        dense = nn.Dense(
            self.features, use_bias=self.use_bias, kernel_init=kernel_init, bias_init=bias_init, name="linear"
        )
        return dense(pooled) * self.scale


class ProjectionHead(nn.Module):
    """Two linear layers with a ReLU between: [N, F] to [N, features]; the hidden layer is as wide as the input."""

    features: int

    @nn.compact
    def __call__(self, pooled: jax.Array) -> jax.Array:
        hidden = nn.relu(LinearHead(pooled.shape[-1], use_bias=True, name="hidden")(pooled))
        return LinearHead(self.features, name="output")(hidden)
