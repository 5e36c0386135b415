"""How far a student moves decides which detector it is: narrow ResNets on CIFAR-10, at two learning rates.

    python -m benchmarks.movement --data=DIR --out=DIR

Each cell is a run of its own: a teacher, a class that is normal, a seed, and a rate. One rate moves the weights as far
as in the paper's recipe, the other about 36 times as far. The rules by which the outcome is judged were written down
before the first run, in docs/measurements.md. Finished cells are not run again.
"""

import argparse
import itertools
import pathlib
from typing import Any

import ml_collections
import numpy as np

TEACHERS = {  # name of a row, and what its teacher learns from
    "rotnet": ("cifar10_cifar_rotnet", "cifar10"),
    "random": ("cifar10_random", ""),
}
RATES = (2.8e-5, 1e-3)
UPDATES, BATCH_SIZE = 1580, 16


def settings(teacher: str, normal: str, seed: int, rate: float, data: str) -> ml_collections.ConfigDict:
    """Returns the settings of a cell."""
    row, lessons = TEACHERS[teacher]
    config = narrow_row(row, teacher, lessons, normal, data)
    config.seed = seed
    config.distill.update_steps, config.distill.batch_size, config.distill.learning_rate = UPDATES, BATCH_SIZE, rate
    return config


def narrow_row(row: str, teacher: str, lessons: str, normal: str, data: str) -> ml_collections.ConfigDict:
    """Returns the settings of a row of CIFAR-10, with a network of an eighth of the width and a short pre-training.

    Args:
        teacher, lessons: its kind, and the data set that it learns from.
        normal: the class that is normal.
        data: tfds data_dir.
    """
    from brittle_jax.recipes import small_resnet_row

    config = small_resnet_row(row, None, data="cifar10", teacher=teacher, teacher_data=lessons)
    config.data.dir, config.data.configurations = data, f"unimodal/{normal}"
    config.network.name = "small_resnet_tiny"
    if config.pretrain.optimizer == "sgd":
        config.pretrain.num_epochs, config.pretrain.warmup_epochs, config.pretrain.batch_size = 8.0, 2.0, 128
        config.pretrain.peak_learning_rate = 0.1
    config.probe.max_train_samples, config.probe.max_test_samples = 2000, 1000
    return config


def main() -> None:
    """Runs all cells, and prints their table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="tfds data_dir that holds cifar10")
    parser.add_argument("--out", required=True, type=pathlib.Path, help="folder of the runs")
    parser.add_argument("--classes", default="automobile,deer,bird", help="that are normal in turn")
    parser.add_argument("--seeds", default="0,1,2")
    arguments = parser.parse_args()
    from brittle_jax import runtime

    runtime.set_up()
    from brittle_jax.run import experiment

    cells = itertools.product(map(int, arguments.seeds.split(",")), arguments.classes.split(","), TEACHERS, RATES)
    entries: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for seed, normal, teacher, rate in cells:
        folder = arguments.out / f"{teacher}-{normal}-{seed}-{rate:g}"
        content = experiment.run(settings(teacher, normal, seed, rate, arguments.data), folder)
        entries.setdefault((teacher, rate), []).append(content["configurations"][0])
    print("\nmean and standard deviation over classes and seeds\n")
    print("| teacher | rate | cells | KD | MSE | brittleness | student's error over the mean predictor's |")
    print("|---|---|---|---|---|---|---|")
    for (teacher, rate), cell in entries.items():
        columns = [
            [100 * entry["auroc"]["kd"] for entry in cell],
            [100 * entry["auroc"]["mse"] for entry in cell],
            [entry["brittleness"] for entry in cell],
            [entry["distillation"]["loss"] / entry["distillation"]["mean_predictor_loss"] for entry in cell],
        ]
        shown = [f"{np.mean(column):.4g} ± {np.std(column, ddof=1):.2g}" for column in columns]
        print(f"| {teacher} | {rate:g} | {len(cell)} | {' | '.join(shown)} |")
    print("\npaired over cells, mean and 95% bootstrap interval\n")
    near, far = (entries["rotnet", rate] for rate in RATES)
    print("RotNet, KD AUROC at the smaller rate less that at the larger:", interval(_kd(near) - _kd(far)))
    mse = np.array([100 * entry["auroc"]["mse"] for entry in near])
    print("RotNet at the smaller rate, KD less MSE:", interval(_kd(near) - mse))
    for rate in RATES:
        ratios = _brittleness(entries["random", rate]) / _brittleness(entries["rotnet", rate])
        print(f"brittleness of random over RotNet at {rate:g}:", interval(ratios))


def interval(values: np.ndarray) -> str:
    """Returns the mean of values [N], and its interval by bootstrap."""
    drawn = np.random.default_rng(0).choice(values, (10_000, len(values))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{values.mean():.3g} [{low:.3g}, {high:.3g}]"


def _kd(entries: list[dict[str, Any]]) -> np.ndarray:
    return np.array([100 * entry["auroc"]["kd"] for entry in entries])


def _brittleness(entries: list[dict[str, Any]]) -> np.ndarray:
    return np.array([entry["brittleness"] for entry in entries])


if __name__ == "__main__":
    main()
