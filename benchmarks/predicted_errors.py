"""What can a student add to full Mahalanobis? Distances in the covariance of its own errors, without the leaves.

    python -m benchmarks.predicted_errors --data=DIR [--leaves=DIR]

In whitened coordinates a student that predicts the mean is full Mahalanobis. One that predicts more can weigh each
direction by what is left of it: five students, each trained on four fifths of the normal images, give errors on the
fifth that they have not seen, and the covariance of these errors takes the place of the teacher's. The rules were
written down before the first run, in docs/measurements.md.
"""

import argparse
import itertools
import pathlib
from collections.abc import Iterator

import numpy as np
from PIL import Image
from sklearn.covariance import ledoit_wolf

from benchmarks.own_images import (
    BATCH_SIZE,
    LARGE,
    NUM_TEST,
    NUM_TRAIN,
    RATE,
    TASKS,
    KnownRows,
    Task,
    features_of,
    fit,
    read_task,
    rows_of,
)
from brittle_jax.data.images import Images
from brittle_jax.devices import DeviceGroup
from brittle_jax.evaluate.coordinates import in_coordinates
from brittle_jax.evaluate.metrics import separation
from brittle_jax.inference import outputs
from brittle_jax.loop import Loop
from brittle_jax.models.network import Network, NetworkSettings
from brittle_jax.student import distillation, num_updates

LEVELS, SIDE, FOLDS = "stage2,stage3,stage5,stage7", 96, 5  # the first defaults of image_folder
EPOCHS = (1, 2, 5)
SCORES = ("full", "errors", "halved", "weighted", "kd")


def read_leaves(folder: pathlib.Path) -> Task:
    """Returns apple leaves as a task: healthy ones to learn, healthy and scabbed ones to test on."""
    rng = np.random.default_rng(0)
    chosen = []
    for name, count in (("normal", NUM_TRAIN + NUM_TEST), ("scab", NUM_TEST)):
        files = sorted((folder / name).iterdir())
        chosen += [files[index] for index in rng.permutation(len(files))[:count]]
    resized = [Image.open(file).convert("RGB").resize((LARGE, LARGE), Image.Resampling.BILINEAR) for file in chosen]
    return Task("leaves", np.stack([np.asarray(picture) for picture in resized]))


def cross_fitted_errors(task: Task, rows: np.ndarray, epochs: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns errors [600, F] of training images by students that have not seen them, and [5, 300, F] of test images.

    Errors are in standardised coordinates of the teacher's outputs.
    """
    pictures = task.at(SIDE)
    images = Images(len(pictures), pictures.shape[1:], lambda index: pictures[index])
    network = NetworkSettings("efficientnet_lite0", 0, levels=LEVELS, student="small_convnet")
    coordinates, loop = fit(rows).coordinates("standardised"), Loop(DeviceGroup(), 50)
    targets = np.asarray(in_coordinates(coordinates, rows))
    fold_of = np.random.default_rng(0).permutation(NUM_TRAIN) % FOLDS
    test = np.arange(NUM_TRAIN, NUM_TRAIN + 2 * NUM_TEST)
    own, of_test = np.empty_like(targets[:NUM_TRAIN]), []
    for fold in range(FOLDS):
        learned = np.flatnonzero(fold_of != fold)
        work = distillation(
            network.student_module,
            images,
            learned,
            KnownRows(rows),
            name=f"{task.name} {fold}",
            seed=fold,
            num_updates=num_updates(len(learned), batch_size=BATCH_SIZE, num_epochs=epochs),
            batch_size=BATCH_SIZE,
            learning_rate=RATE,
            training_dtype="float32",
            devices=loop.devices,
            coordinates=coordinates,
        )
        student = Network(network.student_module, loop.run(work).variables)
        held_back = np.flatnonzero(fold_of == fold)
        own[held_back] = outputs(student, images, held_back, loop, "held back") - targets[held_back]
        of_test.append(outputs(student, images, test, loop, "tested") - targets[test])
    return own, np.stack(of_test)


def distances(rows: np.ndarray, fitted_to: np.ndarray) -> np.ndarray:
    """Returns squared Mahalanobis distances of rows [..., F] from 0, by the Ledoit-Wolf covariance of others [N, F]."""
    covariance, _ = ledoit_wolf(fitted_to, assume_centered=True)
    return np.einsum("...f,fg,...g->...", rows, np.linalg.inv(covariance), rows)


def scores_of(rows: np.ndarray, own: np.ndarray, of_test: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the scores [300] of test images, by `SCORES`.

    Args:
        rows: [900, F], the teacher's outputs in standardised coordinates, which have mean 0 over training images.
        own: [600, F], errors of training images.
        of_test: [5, 300, F], errors of test images.
    """
    train, test = rows[:NUM_TRAIN], rows[NUM_TRAIN:]
    covariance, _ = ledoit_wolf(train, assume_centered=True)
    values, directions = np.linalg.eigh(covariance)
    whitening = directions / np.sqrt(values)
    left = np.square(own @ whitening).mean(axis=0) / np.square(train @ whitening).mean(
        axis=0
    )  # [F], 1: nothing learned
    return {
        "full": distances(test, train),
        "errors": distances(of_test, own).mean(axis=0),
        "halved": distances((of_test - test) / 2, (own - train) / 2).mean(axis=0),  # h / 2 - f, of h - f and f
        "weighted": (np.square(of_test @ whitening) / left).sum(axis=-1).mean(axis=0),
        "kd": np.square(of_test).sum(axis=-1).mean(axis=0),
    }


def asked_tasks(description: str | None) -> Iterator[Task]:
    """Reads the command line; returns the six tasks, and the leaves if named, each read when its turn comes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="tfds data_dir that holds cifar10 and fashion_mnist")
    parser.add_argument("--leaves", type=pathlib.Path, help="folder of leaves, in folders normal and scab")
    arguments = parser.parse_args()
    leaves = [arguments.leaves] if arguments.leaves else []
    return itertools.chain((read_task(name, arguments.data) for name in TASKS), map(read_leaves, leaves))


def mean_and_interval(gains: np.ndarray) -> tuple[float, float, float]:
    """Returns the mean of gains [T] over tasks, and its 95% bootstrap interval."""
    resampled = np.random.default_rng(0).integers(0, len(gains), (10_000, len(gains)))
    return float(gains.mean()), *np.quantile(gains[resampled].mean(axis=1), [0.025, 0.975]).tolist()


def main() -> None:
    """Prints a line for each task, and what is gained in the mean."""
    tasks = asked_tasks(__doc__)
    print("| task | epochs | variance left, standardised | directions with less left |", end=" ")
    print("full | errors | halved | weighted | KD |\n|---|---|---|---|---|---|---|---|---|", flush=True)
    gains = {epochs: [] for epochs in EPOCHS}
    for task in tasks:
        rows = rows_of(features_of(task.at(SIDE)), LEVELS)
        standardised = np.asarray(in_coordinates(fit(rows).coordinates("standardised"), rows))
        for epochs in EPOCHS:
            own, of_test = cross_fitted_errors(task, rows, epochs)
            scores = scores_of(standardised, own, of_test)
            auroc = {name: 100 * separation(task.labels, scores[name])["auroc"] for name in SCORES}
            left = np.square(own).mean(axis=0) / np.square(standardised[:NUM_TRAIN]).mean(axis=0)
            cells = " | ".join(f"{value:.1f}" for value in auroc.values())
            less = f"{(left < 1).sum()} of {len(left)}"
            print(f"| {task.name} | {epochs} | {left.mean():.2f} | {less} | {cells} |", flush=True)
            if task.name in TASKS:
                gains[epochs].append([auroc[name] - auroc["full"] for name in SCORES[1:4]])
    for epochs, name in itertools.product(EPOCHS, SCORES[1:4]):
        mean, low, high = mean_and_interval(np.array(gains[epochs])[:, SCORES.index(name) - 1])
        print(f"{name}, {epochs} epochs: {mean:+.1f} points [{low:+.1f}, {high:+.1f}] beside full Mahalanobis")


if __name__ == "__main__":
    main()
