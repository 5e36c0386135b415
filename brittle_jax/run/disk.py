"""How much disk space the networks of a row take; known before any data are read."""

import functools
import math

import jax

from brittle_jax.models.network import NetworkSettings, Representation, Variables, init_variables

ImageShape = tuple[int, int, int]


@functools.cache
def num_features(network: NetworkSettings, image_shape: ImageShape) -> int:
    """Returns F, the width of a network's representations."""
    images = jax.ShapeDtypeStruct((1, *image_shape), float)
    return jax.eval_shape(network.module.apply, _shapes(network.module, image_shape), images).shape[-1]


@functools.cache
def network_bytes(module: Representation, image_shape: ImageShape) -> int:
    """Returns what the weights of one network take."""
    leaves = jax.tree.leaves(_shapes(module, image_shape))
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)


def bytes_of_states(network: NetworkSettings, image_shape: ImageShape) -> int:
    """Returns what is kept of a training while it runs: two states, each of weights and two moments."""
    return 2 * 3 * max(network_bytes(module, image_shape) for module in (network.module, network.student_module))


def kept(
    network: NetworkSettings,
    image_shape: ImageShape,
    *,
    num_configurations: int,
    num_references: int,
    num_trained: int,
    teacher_is_shared: bool,
) -> tuple[int, float]:
    """Returns how many networks a row keeps, and what they and their detectors take in MiB.

    Args:
        num_references: of configurations with a random teacher beside the row's own, which is one for each.
        num_trained: of teachers that are trained, and kept in the store too.
        teacher_is_shared: whether all configurations have one teacher.
    """
    num_detectors = num_configurations + num_references
    num_teachers = (1 if teacher_is_shared else num_configurations) + num_references
    num_teachers += num_trained
    teachers = num_teachers * network_bytes(network.module, image_shape)
    students = num_detectors * network_bytes(network.student_module, image_shape)
    gaussians = num_detectors * 4 * num_features(network, image_shape) ** 2
    return num_teachers + num_detectors, (teachers + students + gaussians) / 2**20


def _shapes(module: Representation, image_shape: ImageShape) -> Variables:
    return jax.eval_shape(lambda: init_variables(module, 0, image_shape))
