"""Brittleness of a teacher, as its distilled student shows it on normal images (Eq. 2)."""

import functools
from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from brittle_jax.errors import DegenerateDataError
from brittle_jax.evaluate.moments import Moments, covariance_of, empty_moments, mean_of, update_moments
from brittle_jax.precision import in_float32

NetworkFunction = Callable[[jax.Array], jax.Array]


def brittleness(gradient_norm: float, error_trace: float) -> float:
    """Mean input-gradient norm over the spread of the errors: E‖∂L/∂x‖₂ / tr(Σ) (Eq. 2).

    Args:
        gradient_norm: mean over the normal training images of `input_gradient_norms`.
        error_trace: trace of the covariance of f(x) - h(x) over the same images, ddof 1.

    Raises:
        DegenerateDataError: where the errors do not vary.
    """
    if not error_trace > 0:
        raise DegenerateDataError(f"brittleness needs errors that vary, their covariance has trace {error_trace}")
    return gradient_norm / error_trace


@functools.partial(jax.jit, static_argnames="path")
@in_float32
def input_gradient_norms(
    student: NetworkFunction, teacher: NetworkFunction, images: jax.Array, *, path: str = "student"
) -> jax.Array:
    """L2 norm, for each image, of the gradient of its distillation loss: numerator of Eq. 2.

    The loss L(x) is the mean over features of (f(x) - h(x))².

    Args:
        student, teacher: networks in evaluation mode, see `evaluate.detectors`.
        images: [N, H, W, C] float32 in [0, 1].
        path: "student": the teacher's output is a constant; "both": it depends on the image too.

    Returns:
        [N], in loss per unit pixel.
    """
    return _gradient_norms_and_errors(student, teacher, images, path)[0]


def _gradient_norms_and_errors(student, teacher, images, path):
    def summed_loss(images):
        teacher_output = teacher(images)
        if path == "student":
            teacher_output = jax.lax.stop_gradient(teacher_output)
        elif path != "both":
            raise ValueError(f"path is 'student' or 'both', not {path!r}")
        errors = student(images) - teacher_output
        return jnp.square(errors).mean(axis=-1).sum(), errors

    # In evaluation mode no image's loss depends on another image, so the gradient of the sum holds every
    # image's own gradient, for one backward pass.
    gradients, errors = jax.grad(summed_loss, has_aux=True)(images)
    return jnp.sqrt(jnp.square(gradients).sum(axis=(1, 2, 3))), errors


class BrittlenessTerms(flax.struct.PyTreeNode):
    """Both terms of Equation 2 over any number of images, in one pass.

    Attributes:
        gradient_norms: moments of the norms, 1 feature.
        errors: moments of f(x) - h(x), F features.
    """

    gradient_norms: Moments
    errors: Moments

    @property
    def gradient_norm(self) -> float:
        """Mean norm of the input gradients."""
        return float(mean_of(self.gradient_norms)[0])

    @property
    def error_trace(self) -> float:
        """Trace of the covariance of the errors."""
        return float(np.sum(covariance_of(self.errors)))


def empty_terms(num_features: int) -> BrittlenessTerms:
    """Returns the terms of no images."""
    return BrittlenessTerms(empty_moments(1, full=False), empty_moments(num_features, full=False))


@functools.partial(jax.jit, static_argnames="path")
@in_float32
def update_terms(
    terms: BrittlenessTerms,
    student: NetworkFunction,
    teacher: NetworkFunction,
    images: jax.Array,
    mask: jax.Array | None = None,
    *,
    path: str = "student",
) -> BrittlenessTerms:
    """Adds images [N, H, W, C] float32 in [0, 1] to the terms; those where `mask` [N] is false do not count."""
    norms, errors = _gradient_norms_and_errors(student, teacher, images, path)
    return BrittlenessTerms(
        update_moments(terms.gradient_norms, norms[:, None], mask), update_moments(terms.errors, errors, mask)
    )
