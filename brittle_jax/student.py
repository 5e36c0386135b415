"""The student: it learns the teacher's outputs on normal images, and on nothing else (Sec. 3.2)."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from brittle_jax.data.images import Images
from brittle_jax.devices import DeviceGroup
from brittle_jax.evaluate.coordinates import Coordinates, in_coordinates
from brittle_jax.inference import Representations
from brittle_jax.loop import Work
from brittle_jax.models.layers import deviation_of_draw
from brittle_jax.models.network import NetworkSettings, Representation, computing_in, init_variables
from brittle_jax.seeding import derive_seed
from brittle_jax.train.feed import build_feed
from brittle_jax.train.optimizers import adam
from brittle_jax.train.steps import create_state, distill_step


def num_updates(num_images: int, *, batch_size: int, num_epochs: float, update_steps: int = 0) -> int:
    """Returns how many updates a student gets: `update_steps`, or `num_epochs` of whole batches if that is 0."""
    return update_steps or max(round(num_epochs * math.ceil(num_images / batch_size)), 1)


def movement(network: NetworkSettings, num_updates: int, learning_rate: float) -> float:
    """Returns how far Adam can move a student's weight in a training, in standard deviations of the weight's draw.

    An update of Adam moves a weight by about the learning rate, whatever its gradient. The figure is a mean over all
    weights of convolutions and linear layers, so that the layers that hold most of them decide: in the small ResNet of
    the paper, the two convolutions from 512 to 512 channels have 71% of the weights. The paper's student moves by
    1.65 deviations with 5,000 images. Weights after the last level do not move, and do not count.
    """
    return num_updates * learning_rate * _inverse_deviation(network)


@functools.cache
def _inverse_deviation(network: NetworkSettings) -> float:
    """Returns the mean over a student's weights of one over the standard deviation of their draw."""
    module = network.student_module
    # Kernels have the same shapes for images of any size.
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    # Unlike `init`, a first pass makes only the weights that the outputs depend on.
    first_pass = functools.partial(module.apply, {}, mutable=True)
    _, variables = jax.eval_shape(
        lambda key, images: first_pass(images, rngs={"params": key}), jax.random.key(0), images
    )
    params = variables["params"]
    total = count = 0.0
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if path[-1].key == "kernel":
            is_of_trunk = path[0].key == "trunk"
            # A trunk of your own may not say how it is drawn; heads are always uniform.
            initialiser = getattr(module.trunk, "initialiser", "uniform") if is_of_trunk else "uniform"
            total += leaf.size / deviation_of_draw(initialiser, leaf.shape)
            count += leaf.size
    return total / count


def distillation(
    module: Representation,
    images: Images,
    indices: np.ndarray,
    representations: Representations,
    *,
    name: str,
    seed: int,
    num_updates: int,
    batch_size: int,
    learning_rate: float,
    training_dtype: str,
    devices: DeviceGroup,
    coordinates: Coordinates | None = None,
) -> Work:
    """Returns the training of a student by Adam, without augmentation (Sec. 3.2).

    Args:
        module: what the student is.
        indices: [M], the images to learn from.
        representations: the teacher's outputs.
        name: of the configuration; together with `seed` it keys the student's random draws.
        training_dtype: of the trunk.
        coordinates: of the teacher's outputs, which the student learns; None: the outputs as they are.
    """
    # All at once: in batches of other sizes they would round otherwise, and targets would depend on their order.
    representations.compute(indices)
    optimizer = adam(learning_rate)
    variables = init_variables(module, derive_seed(seed, "student", name, "weights"), images.shape)
    state = create_state(variables, optimizer, seed=0)  # nothing is augmented, so the training draws nothing
    feed = build_feed(
        distill_step,
        (computing_in(module, training_dtype), optimizer.tx),
        images,
        indices,
        batch_size=batch_size,
        seed=derive_seed(seed, "student", name, "order"),
        devices=devices,
        targets=lambda chosen: np.asarray(in_coordinates(coordinates, representations.outputs_of(chosen))),
    )
    return Work(
        kind="distill",
        owner=name,
        feed=feed,
        state=devices.replicate(state),
        num_steps=num_updates,
        num_units=num_updates,
        depends_on=lambda: {"teacher": representations.teacher_sha256, "update_steps": num_updates},
        is_kept_at_end=False,  # a run saves the student at once
        rate_setting="distill.learning_rate",
        size_setting="distill.batch_size",
    )
