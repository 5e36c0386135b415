"""Layers that both networks share."""

import functools
import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from brittle_jax.devices import BATCH_AXIS
from brittle_jax.models.convolution import conv_general_dilated


def kernel_init(key: jax.Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """Draws a kernel [..., C, F] as PyTorch does by default, uniform in ±1/√fan_in: of all but the last dimension."""
    bound = math.prod(shape[:-1]) ** -0.5
    # In a row: the same numbers as a draw of that shape gives, which takes a CPU 20 times as long to compile.
    in_a_row = jax.random.uniform(key, (math.prod(shape),), dtype, -bound, bound)
    return in_a_row.reshape(shape)


def he_normal_init(key: jax.Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """Draws a kernel [..., C, F] as `torch.nn.init.kaiming_normal_`: normal, untruncated, of variance 2 / fan_in."""
    in_a_row = jax.random.normal(key, (math.prod(shape),), dtype)
    return (in_a_row * (2 / math.prod(shape[:-1])) ** 0.5).reshape(shape)


INITIALISERS = {"uniform": kernel_init, "he_normal": he_normal_init}  # by the name that a trunk's `initialiser` gives

conv = functools.partial(nn.Conv, use_bias=False, kernel_init=kernel_init, conv_general_dilated=conv_general_dilated)


class BatchNorm(nn.Module):
    """Batch norm over all but the last dimension, as `flax.linen.BatchNorm`, which is slower on a CPU.

    Every value is multiplied and added to once, by numbers of its channel. So the gradient needs the inputs alone,
    which are in memory anyway; where the mean is subtracted first, the centred values are kept too.

    Attributes:
        use_running_average: as in evaluation; or the batch's own statistics, which go into the averages.
        momentum: weight of the old running average at each step.
        axis_name: of the devices over which statistics are averaged; None: this one's alone.
    """

    use_running_average: bool
    momentum: float
    axis_name: str | None = None
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1:]
        average_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        average_variance = self.variable("batch_stats", "var", jnp.ones, channels)
        scale = self.param("scale", nn.initializers.ones_init(), channels)
        bias = self.param("bias", nn.initializers.zeros_init(), channels)
        mean, variance = average_mean.value, average_variance.value
        if not self.use_running_average:
            mean, variance = self._statistics(x.astype(mean.dtype))
            if not self.is_initializing():
                for average, new in ((average_mean, mean), (average_variance, variance)):
                    average.value = self.momentum * average.value + (1 - self.momentum) * new
        factor = scale * jax.lax.rsqrt(variance + self.epsilon)
        summand = bias - mean * factor
        factor, summand = (jnp.expand_dims(each, range(x.ndim - 1)) for each in (factor, summand))
        return (x * factor + summand).astype(x.dtype)

    def _statistics(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns mean and variance [C] (ddof 0) of a batch [..., C], over all devices."""
        dimensions = tuple(range(x.ndim - 1))
        moments = x.mean(dimensions), jnp.square(x).mean(dimensions)
        if self.axis_name is not None and not self.is_initializing():
            moments = jax.lax.pmean(moments, self.axis_name)
        mean, mean_of_squares = moments
        return mean, jnp.maximum(mean_of_squares - jnp.square(mean), 0)


def batch_norm(train: bool, momentum: float, name: str | None = None) -> BatchNorm:
    """Returns a batch norm that, in training, averages its statistics over the devices (axis BATCH_AXIS).

    Args:
        momentum: weight of the old running average at each step; 0 keeps the last batch's statistics alone.
    """
    return BatchNorm(not train, momentum, BATCH_AXIS if train else None, name=name)


# Pooling is written out: on a CPU the gradients of `nn.max_pool` and `nn.avg_pool` take several times as long. Of equal
# values the first one in its window gets the gradient, as there: a flat background is full of them.


def max_pool_2x2(x: jax.Array) -> jax.Array:
    """Maximum of each 2×2 window of [N, H, W, C], H and W even: [N, H / 2, W / 2, C]."""
    return _max_of_pairs(_max_of_pairs(x, axis=2), axis=1)


def max_pool_3x3(x: jax.Array) -> jax.Array:
    """Maximum of each 3×3 window of [N, H, W, C] at stride 2, the border padded with one pixel below all values."""
    return _max_of_threes(_max_of_threes(x, axis=2), axis=1)


def max_pool_all(x: jax.Array) -> jax.Array:
    """Maximum over all pixels of [N, H, W, C]: [N, C]."""
    n, height, width, channels = x.shape
    pixels = x.reshape(n, height * width, channels)
    while pixels.shape[1] > 1:
        odd = pixels[:, pixels.shape[1] // 2 * 2 :]
        pixels = jnp.concatenate([_max_of_pairs(pixels, axis=1), odd], axis=1)
    return pixels[:, 0]


def _max_of_pairs(x: jax.Array, axis: int) -> jax.Array:
    even = x.shape[axis] // 2 * 2
    return _larger(*(jax.lax.slice_in_dim(x, start, even, 2, axis) for start in range(2)))


def _max_of_threes(x: jax.Array, axis: int) -> jax.Array:
    border = [(1, 1) if each == axis else (0, 0) for each in range(x.ndim)]
    padded = jnp.pad(x, border, constant_values=-jnp.inf)
    end = padded.shape[axis] - 2  # windows begin before it
    first, second, third = (jax.lax.slice_in_dim(padded, start, start + end, 2, axis) for start in range(3))
    return _larger(_larger(first, second), third)


def _larger(first: jax.Array, second: jax.Array) -> jax.Array:
    return jnp.where((first >= second) | jnp.isnan(first), first, second)


def average_pool_2x2(x: jax.Array) -> jax.Array:
    """Mean of each 2×2 window of [N, H, W, C]; of odd sizes the last row, or column, does not count."""
    n, height, width, channels = x.shape
    rows, columns = height // 2, width // 2
    return x[:, : 2 * rows, : 2 * columns].reshape(n, rows, 2, columns, 2, channels).mean(axis=(2, 4))


class LinearHead(nn.Module):
    """Linear layer on pooled features: [N, F] to [N, features], times `scale`; drawn as PyTorch does by default.

    Attributes:
        zero_bias: the bias begins at 0, as that of torchvision's DenseNet.
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
    """Two linear layers with a ReLU between: [N, F] to [N, features]; the hidden layer is as wide as the input."""

    features: int

    @nn.compact
    def __call__(self, pooled: jax.Array) -> jax.Array:
        hidden = nn.relu(LinearHead(pooled.shape[-1], use_bias=True, name="hidden")(pooled))
        return LinearHead(self.features, name="output")(hidden)
