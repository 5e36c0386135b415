"""Brittleness of a teacher, as its distilled student shows it on normal images (Eq. 2)."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from brittle_jax.errors import DegenerateDataError
from brittle_jax.evaluate.moments import Moments, covariance_of, empty_moments, merge_moments, moments_of
from brittle_jax.precision import in_float32
from brittle_jax.rows import Rows

NetworkFunction = Callable[[jax.Array], jax.Array]


def brittleness(gradient_norm: float, error_trace: float) -> float:
    """Mean input-gradient norm over the spread of the errors: E‖∂L/∂x‖₂ / tr(Σ) (Eq. 2).

    Args:
        gradient_norm: mean over the normal training images of `input_gradient_norms`.
        error_trace: trace of the covariance of f(x) - h(x) over the same images, ddof 1.

    Raises:
        DegenerateDataError: if the errors do not vary.
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
    return gradient_norms_and_errors(student, teacher, images, path=path)[0]


@functools.partial(jax.jit, static_argnames="path")
@in_float32
def gradient_norms_and_errors(
    student: NetworkFunction, teacher: NetworkFunction, images: jax.Array, *, path: str = "student"
) -> tuple[jax.Array, jax.Array]:
    """Returns each image's share in both terms of Eq. 2: `input_gradient_norms` [N] and errors f(x) - h(x) [N, F]."""

    def summed_loss(images):
        teacher_output = teacher(images)
        if path == "student":
            teacher_output = jax.lax.stop_gradient(teacher_output)
        elif path != "both":
            raise ValueError(f"path is 'student' or 'both', not {path!r}")
        errors = student(images) - teacher_output
        return jnp.square(errors).mean(axis=-1).sum(), errors

    # In evaluation mode no image's loss depends on another image. So the gradient of the sum holds every image's own
    # gradient, for a single backward pass.
    gradients, errors = jax.grad(summed_loss, has_aux=True)(images)
    return jnp.sqrt(jnp.square(gradients).sum(axis=(1, 2, 3))), errors


class BrittlenessTerms(NamedTuple):
    """Both terms of Equation 2 over any number of images.

    Attributes:
        gradient_norms: moments of the norms, 1 feature.
        errors: moments of f(x) - h(x), F features.
    """

    gradient_norms: Moments
    errors: Moments

    @property
    def gradient_norm(self) -> float:
        """Mean norm of the input gradients."""
        return float(self.gradient_norms.mean[0])

    @property
    def error_trace(self) -> float:
        """Trace of the covariance of the errors."""
        return float(np.sum(covariance_of(self.errors)))


def empty_terms(num_features: int) -> BrittlenessTerms:
    """Returns the terms of no images."""
    return BrittlenessTerms(empty_moments(1, full=False), empty_moments(num_features, full=False))


def terms_of(norms: ArrayLike, errors: Rows) -> BrittlenessTerms:
    """Folds the rows of images, norms [N] and errors [N, F], into both terms of Equation 2, in float64 on the host."""
    indices = np.arange(len(norms))
    norms = np.asarray(norms).reshape(-1, 1)
    return BrittlenessTerms(moments_of(norms, full=False), moments_of(errors, indices, full=False))


def update_terms(
    terms: BrittlenessTerms,
    student: NetworkFunction,
    teacher: NetworkFunction,
    images: jax.Array,
    mask: ArrayLike | None = None,
    *,
    path: str = "student",
) -> BrittlenessTerms:
    """Adds images [N, H, W, C] float32 in [0, 1] to the terms; images whose `mask` [N] is false do not count."""
    norms, errors = map(np.asarray, gradient_norms_and_errors(student, teacher, images, path=path))
    if mask is not None:
        norms, errors = norms[np.asarray(mask)], errors[np.asarray(mask)]
    added = terms_of(norms, errors)
    return BrittlenessTerms(
        merge_moments(terms.gradient_norms, added.gradient_norms), merge_moments(terms.errors, added.errors)
    )
