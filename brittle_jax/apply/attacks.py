"""Attacks on a score of a detector, image by image."""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from brittle_jax.data.images import Images
from brittle_jax.data.preprocess import to_unit_range
from brittle_jax.evaluate import attacks
from brittle_jax.evaluate.attacks import ScoreFunction
from brittle_jax.inference import pass_over
from brittle_jax.loop import Loop


@dataclasses.dataclass(frozen=True)
class AttackedScores:
    """What attacks make of images: normal ones are attacked upwards, anomalous ones downwards.

    Attributes:
        scores: [M, 1 + E] float32, of the images as they are, then after attacks of each radius, which never undo what
            a smaller radius reached.
        distances: [M] float32, norms of the smallest perturbations that take scores past the threshold: 0 where they
            are past it already, infinite where the largest radius does not do it.
        slopes: [M] float32, see `evaluate.attacks.slopes`.
    """

    scores: np.ndarray
    distances: np.ndarray
    slopes: np.ndarray


def attack(
    score: ScoreFunction,
    images: Images,
    indices: np.ndarray,
    labels: np.ndarray,
    loop: Loop,
    *,
    threshold: float,
    epsilons: Sequence[float],
    norm: str,
    num_steps: int,
) -> AttackedScores:
    """Attacks images [M] at each of E radii, then looks for the smallest one that takes scores past the threshold.

    Args:
        labels: [M], 0 normal, 1 anomalous.
        epsilons: radii, in ascending order; the last is the largest that is tried for `distances`.
        norm, num_steps: as in `evaluate.attacks.perturb`.
    """
    scores = np.empty((len(indices), 1 + len(epsilons)), np.float32)
    distances, slopes = np.empty(len(indices), np.float32), np.empty(len(indices), np.float32)

    def take(chosen: slice, rows: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
        for all_rows, of_batch in zip((scores, distances, slopes), rows, strict=True):
            all_rows[chosen] = of_batch[: chosen.stop - chosen.start]

    model = {"score": score, "threshold": jnp.float32(threshold), "epsilons": jnp.asarray(epsilons, jnp.float32)}
    pass_over(
        images,
        indices,
        _rows_of_batch,
        model,
        loop,
        f"{norm} attacks",
        take,
        static=(norm, num_steps),
        labels=labels,
        compiles_itself=True,
    )
    upwards = np.where(labels == 0, 1, -1)[:, None]
    scores = upwards * np.maximum.accumulate(upwards * scores, axis=1)
    return AttackedScores(scores, distances, slopes)


def _rows_of_batch(norm, num_steps, model, batch):
    score, epsilons = model["score"], model["epsilons"]
    images = to_unit_range(jnp.asarray(batch["image"]))
    direction = jnp.where(jnp.asarray(batch["label"]) == 0, 1.0, -1.0)
    scores, slopes = attacks.slopes(score, images, direction, norm=norm)
    attacked = [
        attacks.perturb(score, images, epsilon, direction, norm=norm, num_steps=num_steps).scores
        for epsilon in epsilons
    ]
    smallest = attacks.smallest_perturbation(
        score, images, model["threshold"], direction, largest=epsilons[-1], norm=norm, num_steps=num_steps
    )
    return jnp.stack([scores, *attacked], axis=1), smallest.distances, slopes
