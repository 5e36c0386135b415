"""Brittleness taken apart: its intervals over images, and what each output dimension adds to its two terms (Eq. 2)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from brittle_jax.evaluate.brittleness import NetworkFunction
from brittle_jax.precision import in_float32
from brittle_jax.rows import Rows

_BLOCK = 1024  # images whose errors are read at once


def intervals(
    norms: ArrayLike, errors: Rows, groups: ArrayLike, *, num_samples: int, seed: int, level: float = 0.95
) -> dict[str, tuple[float, float] | None]:
    """Returns bootstrap intervals of brittleness and of its two terms, over the images that it was measured on.

    Images of one group, such as the patches of a parcel, are drawn together. A group's weight in a resample is a
    Poisson variable of mean 1, so that one pass over the errors serves all resamples (Chamandy et al., *Estimating
    uncertainty for massive data streams*, 2012). What another student or teacher would give is not in the interval.

    Args:
        norms: [M], input-gradient norms.
        errors: [M, F], f(x) - h(x).
        groups: [M], names or numbers.
        num_samples: how many resamples.
        level: share of the resamples inside the interval.

    Returns:
        `brittleness_interval`, `gradient_norm_interval`, `error_trace_interval`; None where too few images differ.
    """
    _, group_of_image = np.unique(groups, return_inverse=True)
    weights = np.random.default_rng(seed).poisson(1, (num_samples, group_of_image.max() + 1)).astype(np.uint8)
    count, norm_sum, square_sum = np.zeros(num_samples), np.zeros(num_samples), np.zeros(num_samples)
    error_sum, centre = np.zeros((num_samples, errors.shape[1])), None
    for start in range(0, len(norms), _BLOCK):
        chosen = np.arange(start, min(start + _BLOCK, len(norms)))
        block = errors[chosen].astype(np.float64)
        centre = block.mean(axis=0) if centre is None else centre  # near the mean, so that little cancels
        block -= centre
        of_block = weights[:, group_of_image[chosen]].astype(np.float64)
        count += of_block.sum(axis=1)
        norm_sum += of_block @ np.asarray(norms[chosen], np.float64)
        square_sum += of_block @ np.square(block).sum(axis=1)
        error_sum += of_block @ block
    is_enough = count > 1
    count, norm_sum, square_sum, error_sum = (each[is_enough] for each in (count, norm_sum, square_sum, error_sum))
    gradient_norms = norm_sum / count
    traces = (square_sum - np.square(error_sum).sum(axis=1) / count) / (count - 1)
    is_varied = traces > 0
    drawn = {
        "brittleness": gradient_norms[is_varied] / traces[is_varied],
        "gradient_norm": gradient_norms,
        "error_trace": traces,
    }
    tail = (1 - level) / 2
    quantiles = [tail, 1 - tail]
    return {
        f"{name}_interval": tuple(np.quantile(each, quantiles).tolist()) if len(each) else None
        for name, each in drawn.items()
    }


@functools.partial(jax.jit, static_argnames="path")
@in_float32
def gradient_norm_by_dimension(
    student: NetworkFunction, teacher: NetworkFunction, images: jax.Array, *, path: str = "student"
) -> jax.Array:
    """Returns what each output dimension adds to the norm of each image's input gradient: numerator of Eq. 2.

    The gradient of the loss, the mean over features of (f - h)², is the sum over features of 2/F (f - h) ∂(f - h)/∂x.
    Its norm is its own component along its direction u, so feature i adds 2/F (f - h)_i ∂(f - h)_i/∂u. These terms sum
    to the norm; one that works against the others is negative. All F together cost about three gradients, not F.

    Args:
        student, teacher, images, path: as in `brittleness.input_gradient_norms`.

    Returns:
        [N, F], in loss per unit pixel; 0 where the gradient is 0.
    """

    def errors_of(images: jax.Array) -> jax.Array:
        outputs = teacher(images)
        return student(images) - (jax.lax.stop_gradient(outputs) if path == "student" else outputs)

    errors, pull_back = jax.vjp(errors_of, images)
    factors = 2 / errors.shape[-1] * errors
    (gradients,) = pull_back(factors)
    norms = jnp.sqrt(jnp.square(gradients).sum(axis=(1, 2, 3), keepdims=True))
    directions = gradients / jnp.where(norms > 0, norms, 1)
    # The derivative along a direction, by reverse mode alone, which is all that convolutions on a CPU allow: pulling
    # back is linear, and its own transpose pushes forward.
    _, push_forward = jax.vjp(lambda factors: pull_back(factors)[0], factors)
    (derivatives,) = push_forward(directions)
    return factors * derivatives
