"""What of a level's activations should full Mahalanobis know: averages, deviations or extremes? Without the leaves.

    python -m benchmarks.pooling --data=DIR [--leaves=DIR] [--tasks=first|fresh|last] [--sides=96,128]

The rules were written down before each run, in docs/measurements.md.
"""

import argparse
import functools
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.own_images import NUM_TRAIN, TASKS, fit, read_task, teacher_of
from benchmarks.predicted_errors import mean_and_interval, read_leaves
from brittle_jax.evaluate.metrics import separation
from brittle_jax.models.efficientnet import EfficientNetLite
from brittle_jax.models.network import trunk_of

_CLASSES = {  # data set and class
    "first": (("cifar10", "ship"), ("cifar10", "frog"), ("fashion_mnist", "Sneaker"), ("fashion_mnist", "Coat")),
    "fresh": (
        *(("cifar10", name) for name in ("airplane", "cat", "horse", "truck")),
        *(("fashion_mnist", name) for name in ("Trouser", "Dress", "Ankle boot")),
    ),
    "last": (
        *(("cifar10", name) for name in ("bird", "dog")),
        *(("fashion_mnist", name) for name in ("Pullover", "Sandal", "Shirt")),
    ),
}
_NO_DEFECTS = ("frog", "coat")  # among the first tasks, these classes come without
KINDS = {"averages": jnp.mean, "deviations": jnp.std, "maxima": jnp.max, "minima": jnp.min}


def _beside_early_extremes(averages: str) -> dict[str, str]:
    return {"averages": averages, "maxima": "123", "minima": "123"}


WAYS = {  # stages by kind
    "first": {
        "averages of 2, 3, 5, 7": {"averages": "2357"},
        "and deviations": {"averages": "2357", "deviations": "2357"},
        "and maxima": {"averages": "2357", "maxima": "2357"},
    },
    "fresh": {
        "averages of 2, 3, 5, 7": {"averages": "2357"},
        "extremes of 1, 2, 3; averages of 5, 6": _beside_early_extremes("56"),
        "of 5, 7": _beside_early_extremes("57"),
        "of 5, 6, 7": _beside_early_extremes("567"),
    },
    "last": {
        "averages of 2, 3, 5, 7": {"averages": "2357"},
        "and extremes of 1, 2": {"averages": "2357", "maxima": "12", "minima": "12"},
    },
}


def tasks_of(group: str) -> dict[str, tuple[str, str, bool]]:
    """Returns the twelve first tasks, the fourteen fresh or the ten last ones, as `own_images.TASKS`."""
    tasks = dict(TASKS) if group == "first" else {}
    for has_defects in (False, True):
        for data, name in _CLASSES[group]:
            if not (group == "first" and has_defects and name.lower() in _NO_DEFECTS):
                tasks[f"{name.lower()}{'-defects' if has_defects else ''}"] = (data, name, has_defects)
    return tasks


class EveryKind(EfficientNetLite):
    """Every kind of every stage over the picture, from one pass."""

    @nn.compact
    def __call__(self, images: jax.Array) -> dict[str, jax.Array]:
        """Maps images [N, H, W, 3] in [0, 1] to features [N, F], by kind and stage, such as "maxima 2"."""
        stages = zip(self.level_names, self.stages(2 * images - 1, False), strict=True)
        return {
            f"{kind} {name.removeprefix('stage')}": reduce(activations, axis=(1, 2))
            for name, activations in stages
            for kind, reduce in KINDS.items()
        }


@functools.cache
def _pooled() -> jax.stages.Wrapped:
    return jax.jit(functools.partial(EveryKind().apply, trunk_of(teacher_of("final").variables)))


def pooled_features(pictures: np.ndarray) -> dict[str, np.ndarray]:
    """Returns features [900, F] by kind and stage."""
    batches = [_pooled()(pictures[start : start + 30] / np.float32(255)) for start in range(0, len(pictures), 30)]
    return {name: np.concatenate([np.asarray(batch[name]) for batch in batches]) for name in batches[0]}


def auroc_of(features: dict[str, np.ndarray], labels: np.ndarray, way: dict[str, str], scaled: bool) -> float:
    """Returns the AUROC of full Mahalanobis in percent."""
    rows = np.concatenate([features[f"{kind} {stage}"] for kind, stages in way.items() for stage in stages], axis=1)
    if scaled:
        deviation = rows[:NUM_TRAIN].std(axis=0)
        rows = rows / np.where(deviation > 0, deviation, 1)
    gaussian = fit(rows)
    scores = np.square((rows[NUM_TRAIN:] - np.asarray(gaussian.mean)) @ np.asarray(gaussian.whitening)).sum(axis=1)
    return 100 * separation(labels, scores)["auroc"]


def compare(group: str, data: str, side: int, leaves: pathlib.Path | None) -> None:
    """Prints a line for each task, the means, and what is gained beside the first way."""
    ways = {name: (way, False) for name, way in WAYS[group].items()}
    if group == "first":
        ways |= {f"{name}, scaled": (way, True) for name, way in WAYS[group].items()}
    print(f"\n{side} pixels\n\n| task | {' | '.join(ways)} |\n|{'---|' * (len(ways) + 1)}", flush=True)
    TASKS.update(tasks_of(group))
    found = {}
    for name in [*tasks_of(group), *(["leaves"] if leaves else [])]:
        task = read_leaves(leaves) if name == "leaves" else read_task(name, data)
        features = pooled_features(task.at(side))
        found[name] = np.array([auroc_of(features, task.labels, *way) for way in ways.values()])
        print(f"| {name} | {' | '.join(f'{value:.1f}' for value in found[name])} |", flush=True)
    found.pop("leaves", None)
    values, has_defects = np.stack([*found.values()]), np.array(["defects" in name for name in found])
    for label, chosen in (("all", has_defects >= 0), ("without defects", ~has_defects), ("defects", has_defects)):
        print(f"| mean, {label} | {' | '.join(f'{value:.2f}' for value in values[chosen].mean(axis=0))} |")
    for name, gains in zip([*ways][1:], (values[:, 1:] - values[:, :1]).T, strict=True):
        mean, low, high = mean_and_interval(gains)
        print(f"{name}: {mean:+.2f} points [{low:+.2f}, {high:+.2f}]", flush=True)


def main() -> None:
    """Prints a table for each side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="tfds data_dir that holds cifar10 and fashion_mnist")
    parser.add_argument("--leaves", type=pathlib.Path, help="folder of leaves, in folders normal and scab")
    parser.add_argument("--tasks", choices=[*WAYS], default="first")
    parser.add_argument("--sides", default="96")
    arguments = parser.parse_args()
    for side in map(int, arguments.sides.split(",")):
        compare(arguments.tasks, arguments.data, side, arguments.leaves)


if __name__ == "__main__":
    main()
