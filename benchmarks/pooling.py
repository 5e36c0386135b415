"""What of a level's activations should full Mahalanobis know: averages, deviations or maxima? Without the leaves.

    python -m benchmarks.pooling --data=DIR [--leaves=DIR]

The rules were written down before the first run, in docs/measurements.md.
"""

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.own_images import NUM_TRAIN, TASKS, fit, teacher_of
from benchmarks.predicted_errors import LEVELS, SIDE, asked_tasks, mean_and_interval
from brittle_jax.evaluate.metrics import separation
from brittle_jax.models.efficientnet import EfficientNetLite
from brittle_jax.models.network import trunk_of
from brittle_jax.text import split_list

MORE_TASKS = {  # as `own_images.TASKS`
    "ship": ("cifar10", "ship", False),
    "frog": ("cifar10", "frog", False),
    "sneaker": ("fashion_mnist", "Sneaker", False),
    "coat": ("fashion_mnist", "Coat", False),
    "ship-defects": ("cifar10", "ship", True),
    "sneaker-defects": ("fashion_mnist", "Sneaker", True),
}
POOLINGS = {
    "average": ("average",),
    "average and deviation": ("average", "deviation"),
    "average and maximum": ("average", "maximum"),
}
WAYS = tuple(itertools.product(POOLINGS, (False, True)))  # and whether features are scaled


class Pooled(EfficientNetLite):
    """The averages, deviations and maxima of some stages over the picture, from one pass."""

    @nn.compact
    def __call__(self, images: jax.Array) -> dict[str, jax.Array]:
        """Maps images [N, H, W, 3] in [0, 1] to features [N, F] by kind."""
        levels = [
            activations
            for name, activations in zip(self.level_names, self.stages(2 * images - 1, False), strict=True)
            if name in split_list(LEVELS)
        ]
        kinds = {"average": jnp.mean, "deviation": jnp.std, "maximum": jnp.max}
        return {
            kind: jnp.concatenate([reduce(level, axis=(1, 2)) for level in levels], axis=-1)
            for kind, reduce in kinds.items()
        }


def pooled_features(pictures: np.ndarray) -> dict[str, np.ndarray]:
    """Returns features [900, 496] by kind."""
    trunk = trunk_of(teacher_of("final").variables)
    function = jax.jit(functools.partial(Pooled().apply, trunk))
    batches = [function(pictures[start : start + 30] / np.float32(255)) for start in range(0, len(pictures), 30)]
    return {kind: np.concatenate([np.asarray(batch[kind]) for batch in batches]) for kind in batches[0]}


def auroc_of(features: dict[str, np.ndarray], labels: np.ndarray, pooling: str, scaled: bool) -> float:
    """Returns the AUROC of full Mahalanobis in percent."""
    rows = np.concatenate([features[kind] for kind in POOLINGS[pooling]], axis=1)
    if scaled:
        deviation = rows[:NUM_TRAIN].std(axis=0)
        rows = rows / np.where(deviation > 0, deviation, 1)
    gaussian = fit(rows)
    scores = np.square((rows[NUM_TRAIN:] - gaussian.mean) @ np.asarray(gaussian.whitening)).sum(axis=1)
    return 100 * separation(labels, scores)["auroc"]


def main() -> None:
    """Prints a line for each task, and what is gained in the mean."""
    TASKS.update(MORE_TASKS)
    names = [f"{pooling}{', scaled' if scaled else ''}" for pooling, scaled in WAYS]
    print(f"| task | {' | '.join(names)} |\n|{'---|' * (len(WAYS) + 1)}", flush=True)
    gains = []
    for task in asked_tasks(__doc__):
        features = pooled_features(task.at(SIDE))
        aurocs = np.array([auroc_of(features, task.labels, *way) for way in WAYS])
        print(f"| {task.name} | {' | '.join(f'{value:.1f}' for value in aurocs)} |", flush=True)
        if task.name in TASKS:
            gains.append(aurocs[1:] - aurocs[0])
    for name, values in zip(names[1:], np.transpose(gains), strict=True):
        mean, low, high = mean_and_interval(values)
        print(f"{name}: {mean:+.2f} points [{low:+.2f}, {high:+.2f}]")


if __name__ == "__main__":
    main()
