"""The coordinates in which a student learns its teacher's outputs: as they are, standardised or whitened."""

from collections.abc import Callable

import flax.struct
import jax

from brittle_jax.precision import in_float32

NetworkFunction = Callable[[jax.Array], jax.Array]

TARGETS = ("raw", "standardised", "whitened")


class Coordinates(flax.struct.PyTreeNode):
    """An affine map T of a teacher's outputs. None stands for the outputs as they are (`raw`).

    Attributes:
        shift: [F], subtracted first.
        scale: [F], multiplies each feature, or [F, F], mixes them. What is left out is 0 in the new coordinates.
    """

    shift: jax.Array
    scale: jax.Array

    @in_float32
    def __call__(self, outputs: jax.Array) -> jax.Array:
        """Maps outputs [N, F] to coordinates [N, F]."""
        centred = outputs - self.shift[None]
        return centred * self.scale[None] if self.scale.ndim == 1 else centred @ self.scale


def in_coordinates(coordinates: Coordinates | None, outputs: jax.Array) -> jax.Array:
    """Returns T(f(x)) of outputs f(x) [N, F]: these themselves if there are no coordinates."""
    return outputs if coordinates is None else coordinates(outputs)


class Target(flax.struct.PyTreeNode):
    """What a student imitates, as a network: images to T(f(x)) [N, F].

    Attributes:
        teacher: f, any network that `jax.jit` accepts as an argument.
        coordinates: T; None: the teacher's outputs as they are.
    """

    teacher: NetworkFunction
    coordinates: Coordinates | None

    def __call__(self, images: jax.Array) -> jax.Array:
        return in_coordinates(self.coordinates, self.teacher(images))
