"""Does it help full Mahalanobis to learn mirrored images, too? Without the leaves.

    python -m benchmarks.mirrored --data=DIR [--leaves=DIR]

The Gaussian of the first default, four levels, has 496 features and a few hundred images. Mirroring doubles these. The
rules were written down before the first run, in docs/measurements.md.
"""

import numpy as np

from benchmarks.own_images import NUM_TRAIN, TASKS, features_of, rows_of
from benchmarks.predicted_errors import LEVELS, SIDE, asked_tasks, distances, mean_and_interval
from brittle_jax.evaluate.metrics import separation

WAYS = ("as they are", "mirrored ones learned", "both averaged")


def scores_of(rows: np.ndarray, mirrored: np.ndarray) -> dict[str, np.ndarray]:
    """Returns full Mahalanobis [N - 600] of test images, by `WAYS`.

    Args:
        rows, mirrored: [N, F], features of all images, and of their mirror images; 600 are learned.
    """
    both, mean = np.concatenate([rows[:NUM_TRAIN], mirrored[:NUM_TRAIN]]), (rows + mirrored) / 2
    fitted = {WAYS[0]: (rows, rows[:NUM_TRAIN]), WAYS[1]: (rows, both), WAYS[2]: (mean, mean[:NUM_TRAIN])}
    return {
        way: distances(tested[NUM_TRAIN:] - learned.mean(axis=0), learned - learned.mean(axis=0))
        for way, (tested, learned) in fitted.items()
    }


def main() -> None:
    """Prints a line for each task, and what is gained in the mean."""
    tasks = asked_tasks(__doc__)
    print(f"| task | {' | '.join(WAYS)} |\n|---|---|---|---|", flush=True)
    gains = []
    for task in tasks:
        pictures = task.at(SIDE)
        rows, mirrored = (rows_of(features_of(each), LEVELS) for each in (pictures, pictures[:, :, ::-1]))
        auroc = {
            way: 100 * separation(task.labels, scores)["auroc"] for way, scores in scores_of(rows, mirrored).items()
        }
        print(f"| {task.name} | {' | '.join(f'{value:.1f}' for value in auroc.values())} |", flush=True)
        if task.name in TASKS:
            gains.append([auroc[way] - auroc[WAYS[0]] for way in WAYS[1:]])
    for way, values in zip(WAYS[1:], np.transpose(gains), strict=True):
        mean, low, high = mean_and_interval(values)
        print(f"{way}: {mean:+.2f} points [{low:+.2f}, {high:+.2f}]")


if __name__ == "__main__":
    main()
