"""Attacks on an anomaly score: small changes of an image that raise the score, or lower it (projected gradient).

Every function takes any score: a pytree that maps images [N, H, W, C] float32 in [0, 1] to scores [N], each from its
image alone, such as `jax.tree_util.Partial(detectors.distillation_score, student, teacher)` or `DetectorScore`.
Attacked images stay in [0, 1]. What comes out for an image does not depend on the others in its batch.

Source: Madry et al., *Towards deep learning models resistant to adversarial attacks* (2018).
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from brittle_jax.models.convolution import default_platform
from brittle_jax.precision import in_float32

NORMS = ("l2", "linf")

ScoreFunction = Callable[[jax.Array], jax.Array]

_RELATIVE_STEP = 2.5  # a step is this share of the radius over the number of steps, as in Madry et al.
_ROUNDING = 1e-5  # a score counts as past the threshold only by more than another program's rounding
_LARGEST_OVER_SMALLEST = 1000.0  # radii that the bisection looks at


class DetectorScore(flax.struct.PyTreeNode):
    """One score of a detector that has several.

    Attributes:
        detector: maps images [N, H, W, C] to scores [N] by name, such as an `apply.detector.Detector`.
        name: which score.
    """

    detector: Any
    name: str = flax.struct.field(pytree_node=False)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Returns the scores [N] of images [N, H, W, C] in [0, 1]."""
        return self.detector(images)[self.name]


class Perturbed(NamedTuple):
    """Attacked images.

    Attributes:
        images: [N, H, W, C] in [0, 1].
        scores: [N], of these images.
    """

    images: jax.Array
    scores: jax.Array


class Smallest(NamedTuple):
    """The smallest perturbations that an attack found.

    Attributes:
        images: [N, H, W, C] in [0, 1], past the threshold where `distances` is finite; elsewhere as they were.
        distances: [N], norms of the perturbations: 0 where the image is past the threshold by itself, infinite where
            nothing was found.
    """

    images: jax.Array
    distances: jax.Array


class _Ball(NamedTuple):
    """Where an attack may go, and in which direction: [N, H, W, C], and [N, 1, 1, 1] each."""

    centre: jax.Array
    radius: jax.Array
    direction: jax.Array
    step: jax.Array


class _Path(NamedTuple):
    """Where an attack stands, and the best that it has seen: [N, H, W, C], the same, [N]."""

    images: jax.Array
    best: jax.Array
    best_scores: jax.Array


class _Search(NamedTuple):
    """Where a bisection stands: what it has found, the radii [N] between which it looks, and the one to try next."""

    found: Smallest
    low: jax.Array
    high: jax.Array
    radius: jax.Array


def perturb(
    score: ScoreFunction,
    images: ArrayLike,
    epsilon: ArrayLike,
    direction: ArrayLike = 1.0,
    *,
    norm: str = "l2",
    num_steps: int = 20,
    step_size: ArrayLike | None = None,
    keys: jax.Array | None = None,
    in_one_program: bool | None = None,
) -> Perturbed:
    """Changes images by at most a distance, so that their scores rise or fall as far as the attack can push them.

    Each step follows the gradient (L2) or its sign (L∞), then returns to the ball and to [0, 1]. The best of all images
    on the way is returned, so no score gets worse than the image's own. Another `epsilon` or `num_steps` compiles
    nothing.

    Args:
        images: [N, H, W, C] float32 in [0, 1].
        epsilon: radius of the ball in L2 norm, or in L∞ norm; a number, or [N], one for each image.
        direction: 1 raises the score, -1 lowers it; a number, or [N].
        norm: one of `NORMS`.
        step_size: a number, or [N]; None: 2.5 · epsilon / num_steps.
        keys: [N], keys of `jax.random`, one for each image, by which its start is drawn within the ball; None: each
            attack starts at its image. A random start helps where the gradient is 0.
        in_one_program: run all steps in one compiled loop; None: unless on a CPU, where XLA runs convolutions within
            a loop at a fifth of their speed.

    Returns:
        The images, and their scores.
    """
    if norm not in NORMS:
        raise ValueError(f"norm is one of {', '.join(NORMS)}, not {norm!r}")
    images = jnp.asarray(images)
    if step_size is None:
        step_size = _RELATIVE_STEP / num_steps * jnp.asarray(epsilon)
    ball = _ball(images, epsilon, direction, step_size)
    path = _Path(images, images, scores_of(score, images))
    if keys is not None:
        path = path._replace(images=_random_start(ball, keys, norm=norm))
    if in_one_program is None:
        in_one_program = default_platform() != "cpu"
    if in_one_program:
        path = _all_steps(score, ball, path, num_steps, norm=norm)
    else:
        for _ in range(num_steps):
            path = _one_step(score, ball, path, norm=norm)
    path = _keep_best(ball, path, scores_of(score, path.images))
    return Perturbed(path.best, path.best_scores)


def smallest_perturbation(
    score: ScoreFunction,
    images: ArrayLike,
    threshold: ArrayLike,
    direction: ArrayLike = 1.0,
    *,
    largest: float,
    norm: str = "l2",
    num_steps: int = 20,
    num_bisections: int = 8,
    keys: jax.Array | None = None,
) -> Smallest:
    """Finds, for each image, the smallest perturbation that takes its score past a threshold.

    The radius is bisected on a logarithmic scale, from `largest` down to a thousandth of it: 8 bisections narrow it
    to 3%. Only a perturbation whose own score is past the threshold counts, so each distance is an upper bound.

    Args:
        threshold: a score; past it is above for direction 1, at or below for direction -1.
        largest: radius that is tried first.
        images, direction, norm, num_steps, keys: as in `perturb`.
    """
    images = jnp.asarray(images)
    search = _begin(images, scores_of(score, images), threshold, direction, largest)
    for _ in range(num_bisections + 1):
        tried = perturb(score, images, search.radius, direction, norm=norm, num_steps=num_steps, keys=keys)
        search = _narrowed(search, images, tried, threshold, direction, norm=norm)
    return search.found


@functools.partial(jax.jit, static_argnames="norm")
@in_float32
def slopes(
    score: ScoreFunction, images: jax.Array, direction: ArrayLike = 1.0, *, norm: str = "l2"
) -> tuple[jax.Array, jax.Array]:
    """Returns the scores [N] of images, and how fast an attack can change each of them at first, [N].

    To first order, a perturbation of norm epsilon changes a score by at most epsilon times the dual norm of its
    gradient: L2 for L2, L1 for L∞. Pixels at 0 or 1 that the attack would push out of [0, 1] do not count.

    Args:
        images, direction, norm: as in `perturb`.
    """
    scores, gradients = _scores_and_gradients(score, images)
    free = _free_part(gradients, images, _for_each(direction, images))
    axes = (1, 2, 3)
    return scores, jnp.sqrt(jnp.square(free).sum(axes)) if norm == "l2" else jnp.abs(free).sum(axes)


@jax.jit
@in_float32
def scores_of(score: ScoreFunction, images: jax.Array) -> jax.Array:
    """Returns the scores [N] of images [N, H, W, C]."""
    return score(images)


def norms_of(differences: jax.Array, norm: str) -> jax.Array:
    """Returns the L2 or L∞ norms [N] of differences [N, H, W, C]."""
    axes = (1, 2, 3)
    return jnp.sqrt(jnp.square(differences).sum(axes)) if norm == "l2" else jnp.abs(differences).max(axes)


@functools.partial(jax.jit, static_argnames="norm")
@in_float32
def _one_step(score: ScoreFunction, ball: _Ball, path: _Path, *, norm: str) -> _Path:
    return _advanced(score, ball, path, norm)


@functools.partial(jax.jit, static_argnames="norm")
@in_float32
def _all_steps(score: ScoreFunction, ball: _Ball, path: _Path, num_steps: int, *, norm: str) -> _Path:
    return jax.lax.fori_loop(0, num_steps, lambda _, path: _advanced(score, ball, path, norm), path)


def _advanced(score: ScoreFunction, ball: _Ball, path: _Path, norm: str) -> _Path:
    scores, gradients = _scores_and_gradients(score, path.images)
    path = _keep_best(ball, path, scores)
    gradients = _free_part(gradients, path.images, ball.direction)
    if norm == "l2":
        lengths = _for_each(norms_of(gradients, norm), gradients)
        steps = gradients / jnp.where(lengths > 0, lengths, 1)
    else:
        steps = jnp.sign(gradients)
    return path._replace(images=_projected(ball, path.images + ball.direction * ball.step * steps, norm))


def _free_part(gradients: jax.Array, images: jax.Array, direction: jax.Array) -> jax.Array:
    """Returns the gradients without the pixels at 0 or 1 that a step would push out of [0, 1]."""
    return jnp.where(jnp.where(direction * gradients > 0, images < 1, images > 0), gradients, 0)


def _projected(ball: _Ball, images: jax.Array, norm: str) -> jax.Array:
    """Returns the images brought back to the ball, then to [0, 1], which never leads out of the ball."""
    moved = images - ball.centre
    if norm == "l2":
        lengths = _for_each(norms_of(moved, norm), moved)
        moved = moved * jnp.minimum(1, ball.radius / jnp.where(lengths > 0, lengths, 1))
    else:
        moved = jnp.clip(moved, -ball.radius, ball.radius)
    return jnp.clip(ball.centre + moved, 0, 1)


@jax.jit
def _keep_best(ball: _Ball, path: _Path, scores: jax.Array) -> _Path:
    """Takes the path's images, of these scores, for the best ones where they are better."""
    is_better = _for_each(scores - path.best_scores, path.images) * ball.direction > 0
    best = jnp.where(is_better, path.images, path.best)
    return _Path(path.images, best, jnp.where(is_better.reshape(-1), scores, path.best_scores))


def _scores_and_gradients(score: ScoreFunction, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    def summed(images: jax.Array) -> tuple[jax.Array, jax.Array]:
        scores = score(images)
        return scores.sum(), scores

    # No image's score depends on another image, so the gradient of the sum holds every image's own.
    gradients, scores = jax.grad(summed, has_aux=True)(images)
    return scores, gradients


@functools.partial(jax.jit, static_argnames="norm")
def _random_start(ball: _Ball, keys: jax.Array, *, norm: str) -> jax.Array:
    """Draws a start for each image, uniformly within its ball, then brings it to [0, 1]."""
    shape, dtype = ball.centre.shape[1:], ball.centre.dtype

    def drawn(key: jax.Array) -> jax.Array:
        if norm == "linf":
            return jax.random.uniform(key, shape, dtype, -1, 1)
        return jax.random.ball(key, ball.centre[0].size, dtype=dtype).reshape(shape)

    return _projected(ball, ball.centre + ball.radius * jax.vmap(drawn)(keys), norm)


@jax.jit
def _begin(
    images: jax.Array, scores: jax.Array, threshold: ArrayLike, direction: ArrayLike, largest: ArrayLike
) -> _Search:
    is_past = _is_past(scores, threshold, direction, 0.0)
    distances = jnp.where(is_past, 0.0, jnp.inf).astype(images.dtype)
    high = jnp.full(len(images), largest, images.dtype)
    return _Search(Smallest(images, distances), high / _LARGEST_OVER_SMALLEST, high, high)


@functools.partial(jax.jit, static_argnames="norm")
def _narrowed(
    search: _Search, images: jax.Array, tried: Perturbed, threshold: ArrayLike, direction: ArrayLike, *, norm: str
) -> _Search:
    is_past = _is_past(tried.scores, threshold, direction, _ROUNDING)
    distances = norms_of(tried.images - images, norm)
    is_smaller = is_past & (distances < search.found.distances)
    found = Smallest(
        jnp.where(_for_each(is_smaller, images), tried.images, search.found.images),
        jnp.where(is_smaller, distances, search.found.distances),
    )
    low, high = jnp.where(is_past, search.low, search.radius), jnp.where(is_past, search.radius, search.high)
    return _Search(found, low, high, jnp.sqrt(low * high))


@jax.jit
def _ball(images: jax.Array, epsilon: ArrayLike, direction: ArrayLike, step_size: ArrayLike) -> _Ball:
    return _Ball(images, *(_for_each(each, images).astype(images.dtype) for each in (epsilon, direction, step_size)))


def _is_past(scores: jax.Array, threshold: ArrayLike, direction: ArrayLike, margin: float) -> jax.Array:
    direction = jnp.broadcast_to(jnp.asarray(direction), scores.shape)
    beyond = direction * (scores - threshold) - margin * jnp.abs(jnp.asarray(threshold))
    return (beyond > 0) | (direction < 0) & (beyond == 0)  # a score is flagged above the threshold, not at it


def _for_each(values: ArrayLike, images: jax.Array) -> jax.Array:
    """Returns a number, or [N], as [N, 1, 1, 1]."""
    return jnp.broadcast_to(jnp.asarray(values), len(images)).reshape(-1, 1, 1, 1)
