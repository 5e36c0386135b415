"""Layers that the networks share."""

import functools
import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from brittle_jax.devices import BATCH_AXIS
from brittle_jax.models.convolution import conv_general_dilated


def kernel_init(key: jax.Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """Draws a kernel [..., C, F] uniformly in ±1/√fan_in, PyTorch's default; fan_in counts all but the last axis."""
    bound = math.prod(shape[:-1]) ** -0.5
    # A flat draw gives the same numbers, but compiles 20 times as fast on a CPU.
    flat = jax.random.uniform(key, (math.prod(shape),), dtype, -bound, bound)
    return flat.reshape(shape)


def he_normal_init(key: jax.Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """Draws a kernel [..., C, F] from a normal distribution of variance 2 / fan_in, `torch.nn.init.kaiming_normal_`."""
    flat = jax.random.normal(key, (math.prod(shape),), dtype)
    return (flat * (2 / math.prod(shape[:-1])) ** 0.5).reshape(shape)


def he_normal_fan_out_init(key: jax.Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """Draws a kernel [height, width, C, F] from a normal distribution of variance 2 / fan_out, as EfficientNets do."""
    flat = jax.random.normal(key, (math.prod(shape),), dtype)
    return (flat * (2 / _fan_out(shape)) ** 0.5).reshape(shape)


def _fan_out(shape: Sequence[int]) -> int:
    """Returns height · width · F; height · width where C is 1: in a depthwise kernel each input has one output."""
    *spatial, channels, features = shape
    return math.prod(spatial) * (features if channels > 1 else 1)


# Values of a trunk's `initialiser`.
INITIALISERS = {"uniform": kernel_init, "he_normal": he_normal_init, "he_normal_fan_out": he_normal_fan_out_init}


def deviation_of_draw(initialiser: str, shape: Sequence[int]) -> float:
    """Returns the standard deviation of the weights that an initialiser draws for a kernel [..., C, F]."""
    fan_in = math.prod(shape[:-1])
    variances = {"uniform": 1 / (3 * fan_in), "he_normal": 2 / fan_in, "he_normal_fan_out": 2 / _fan_out(shape)}
    return variances[initialiser] ** 0.5


conv = functools.partial(nn.Conv, use_bias=False, kernel_init=kernel_init, conv_general_dilated=conv_general_dilated)


def batch_norm(train: bool, momentum: float, name: str | None = None, epsilon: float = 1e-5) -> nn.BatchNorm:
    """Returns a batch norm. In training it averages its statistics over all devices (axis BATCH_AXIS).

    Args:
        train: normalise by the statistics of the batch, and update the running averages.
        momentum: weight of the old running average at each step; with 0 the last batch's statistics are the average.
        epsilon: added to the variance.
    """
    axis_name = BATCH_AXIS if train else None
    return nn.BatchNorm(not train, momentum=momentum, epsilon=epsilon, axis_name=axis_name, name=name)


def max_pool_2x2(x: jax.Array) -> jax.Array:
    """Maximum of each 2×2 window of [N, H, W, C], H and W even: [N, H / 2, W / 2, C].

    Of equal values the first gets the gradient, as in `nn.max_pool`, which takes a CPU three to four times as long.
    """
    return _max_of_pairs(_max_of_pairs(x, axis=2), axis=1)


def _max_of_pairs(x: jax.Array, axis: int) -> jax.Array:
    first, second = (jax.lax.slice_in_dim(x, start, None, 2, axis) for start in range(2))
    return jnp.where((first >= second) | jnp.isnan(first), first, second)


class LinearHead(nn.Module):
    """Linear layer on pooled features, [N, F] to [N, features], times `scale`, with PyTorch's default initialisation.

    Attributes:
        zero_bias: initialise the bias with 0, as torchvision's DenseNet does.
    """

    features: int
    use_bias: bool = False
    scale: float = 1.0
    zero_bias: bool = False

    @nn.compact
    def __call__(self, pooled: jax.Array) -> jax.Array:
        def uniform_bias_init(key, shape, dtype):
            bound = pooled.shape[-1] ** -0.5
            return jax.random.uniform(key, shape, dtype, -bound, bound)

        bias_init = nn.initializers.zeros if self.zero_bias else uniform_bias_init
        dense = nn.Dense(
            self.features, use_bias=self.use_bias, kernel_init=kernel_init, bias_init=bias_init, name="linear"
        )
        return dense(pooled) * self.scale


class ProjectionHead(nn.Module):
    """Two linear layers with a ReLU between, [N, F] to [N, features]. The hidden layer is as wide as the input."""

    features: int

    @nn.compact
    def __call__(self, pooled: jax.Array) -> jax.Array:
        hidden = nn.relu(LinearHead(pooled.shape[-1], use_bias=True, name="hidden")(pooled))
        return LinearHead(self.features, name="output")(hidden)
