"""The optimisers of students and teachers. The direction of a step is compiled in, its length is data.

So one program serves trainings of any rate and length. Equal settings return the same transformation object: compiled
steps, which are looked up by its identity, are found again.
"""

import functools
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax


class ConstantRate(flax.struct.PyTreeNode):
    """A learning rate that stays as it is.

    Attributes:
        value: [] float32.
    """

    value: jax.Array

    def at(self, step: jax.Array) -> jax.Array:
        """Returns the rate [] of an update, counted from 0."""
        del step
        return self.value


class TriangularRate(flax.struct.PyTreeNode):
    """A learning rate that rises linearly from 0 to its peak, and falls linearly to 0 at the end.

    Attributes:
        peak: [] float32.
        peak_step: [] int32, how many updates come before the one at the peak.
        num_steps: [] int32, of the whole training.
    """

    peak: jax.Array
    peak_step: jax.Array
    num_steps: jax.Array

    def at(self, step: jax.Array) -> jax.Array:
        """Returns the rate [] of an update, counted from 0."""
        rising = (step + 1) / (self.peak_step + 1)  # 0 would lie before the first update, which would be lost there
        falling = (self.num_steps - step) / (self.num_steps - self.peak_step)
        return self.peak * jnp.minimum(rising, falling)


class Optimizer(NamedTuple):
    """How weights change: by the rate times the direction, downwards.

    Attributes:
        tx: gradients to directions.
        learning_rate: of each update.
    """

    tx: optax.GradientTransformation
    learning_rate: ConstantRate | TriangularRate


def sgd(peak_learning_rate: float, peak_step: int, num_steps: int, momentum: float, weight_decay: float) -> Optimizer:
    """Returns SGD with Nesterov momentum, whose rate rises linearly from 0 and falls linearly to 0.

    The weight decay is added to the gradient, of every parameter, as in cifar10-fast.
    """
    rate = TriangularRate(np.float32(peak_learning_rate), np.int32(peak_step), np.int32(num_steps))
    return Optimizer(_momentum(momentum, weight_decay), rate)


def adam(learning_rate: float) -> Optimizer:
    """Returns Adam at a constant rate."""
    return Optimizer(_adam(), ConstantRate(np.float32(learning_rate)))


@functools.cache
def _momentum(momentum: float, weight_decay: float) -> optax.GradientTransformation:
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.trace(momentum, nesterov=True))


@functools.cache
def _adam() -> optax.GradientTransformation:
    return optax.scale_by_adam()
