"""When does brittleness agree with AUROC? Students of several teachers, measured on the way, and rules to stop them.

    python -m benchmarks.courses --data=DIR --out=DIR [--leaves=DIR]

Each student is measured after some of its updates, at two learning rates. A stopping rule picks one point of each
teacher's course; the table gives Spearman's correlation of brittleness with KD AUROC over the teachers at these points.
The rules were written down before the first run, in docs/measurements.md. Finished runs are not run again.
"""

import argparse
import dataclasses
import itertools
import pathlib
from collections.abc import Iterator
from typing import Any

import ml_collections
import numpy as np
from scipy import stats

from benchmarks.movement import narrow_row

TEACHERS = {  # name of a row, its kind of teacher, and what that learns from
    "cifar10_random": ("random", ""),
    "cifar10_cifar_rotnet": ("rotnet", "cifar10"),
    "cifar10_cifar_autoencoder": ("autoencoder", "cifar10"),
    "cifar10_fmnist_rotnet": ("rotnet", "fashion_mnist"),
    "cifar10_fmnist_classification": ("classification", "fashion_mnist"),
    "cifar10_baseline": ("baseline", "cifar10"),
}
SUPERVISED = "cifar10_baseline"
OWN_TEACHERS = ("random", "rotnet", "autoencoder", "denoising")
POINTS, RATES = (50, 100, 200, 400, 790, 1580, 3160), (2.8e-5, 2.8e-4)
RATIOS, MOVEMENTS = (2.0, 1.0, 0.8, 0.6), (0.5, 1.6, 3.0)


@dataclasses.dataclass(frozen=True)
class Course:
    """What was measured of a student: [P] each, after as many updates as `update_steps` says."""

    update_steps: np.ndarray
    movement: np.ndarray
    error_ratio: np.ndarray
    kd_auroc: np.ndarray
    brittleness: np.ndarray

    def at(self, quantity: str, value: float) -> tuple[float, float]:
        """Returns brittleness and KD AUROC where a quantity first reaches a value, linear in its logarithm; or NaN."""
        reached = np.log(getattr(self, quantity) / value)
        sign = 1 if quantity == "error_ratio" else -1  # the error falls, the others rise
        after = np.flatnonzero(sign * reached <= 1e-9)
        if not len(after) or after[0] == 0 and abs(reached[0]) > 1e-9:
            return np.nan, np.nan
        last = after[0]
        first = max(last - 1, 0)
        share = 1.0 if last == first else reached[first] / (reached[first] - reached[last])
        return tuple(
            float(values[first] + share * (values[last] - values[first]))
            for values in (self.brittleness, self.kd_auroc)
        )


def settings(row: str, normal: str, rate: float, data: str) -> ml_collections.ConfigDict:
    """Returns the settings of a student on CIFAR-10."""
    task, lessons = TEACHERS[row]
    config = narrow_row(row, task, lessons, normal, data)
    if (task, lessons) != ("rotnet", "cifar10"):
        config.pretrain.max_train_samples, config.pretrain.max_test_samples = 10_000, 2_000
    return _on_the_way(config, rate)


def settings_of_leaves(teacher: str, rate: float, leaves: str, data: str) -> ml_collections.ConfigDict:
    """Returns the settings of a student on a folder of leaves."""
    from brittle_jax.recipes import image_folder_row

    config = image_folder_row(teacher)
    config.data.path, config.data.dir = leaves, data
    config.data.calibration_fraction = 0.0  # as when the rules were written
    return _on_the_way(config, rate)


def _on_the_way(config: ml_collections.ConfigDict, rate: float) -> ml_collections.ConfigDict:
    config.distill.update_steps, config.distill.batch_size = POINTS[-1], 16
    config.distill.learning_rate, config.distill.keep_movement = rate, False
    config.distill.measure_at, config.distill.measure_samples = ",".join(map(str, POINTS)), 1000
    return config


def courses(arguments: argparse.Namespace) -> Iterator[tuple[str, float, str, Course]]:
    """Runs everything; yields the set of images, the rate, the teacher, and the course of its student."""
    from brittle_jax.run import experiment

    sets = {normal: TEACHERS for normal in arguments.classes.split(",") if normal}
    if arguments.leaves:
        sets["leaves"] = OWN_TEACHERS
    for (name, teachers), rate in itertools.product(sets.items(), RATES):
        for teacher in teachers:
            if name == "leaves":
                config = settings_of_leaves(teacher, rate, arguments.leaves, str(arguments.out / "data"))
            else:
                config = settings(teacher, name, rate, arguments.data)
            content = experiment.run(config, arguments.out / f"course-{teacher}-{name}-{rate:g}")
            yield name, rate, teacher, _course(content["configurations"][0]["distillation"]["course"])


def _course(points: list[dict[str, Any]]) -> Course:
    fields = [field.name for field in dataclasses.fields(Course)]
    return Course(**{name: np.array([point[name] for point in points]) for name in fields})


def agreement(courses: dict[str, Course], quantity: str, value: float) -> str:
    """Returns Spearman's correlation over the teachers but the supervised one, stopped where a quantity has a value."""
    pairs = [course.at(quantity, value) for teacher, course in courses.items() if teacher != SUPERVISED]
    brittleness, auroc = np.array([pair for pair in pairs if not np.isnan(pair).any()]).reshape(-1, 2).T
    if len(brittleness) < 3:
        return f"{len(brittleness)} teachers"
    resampled = []
    rng = np.random.default_rng(0)
    for chosen in rng.integers(0, len(brittleness), (1000, len(brittleness))):
        if len(np.unique(chosen)) > 2:
            resampled.append(stats.spearmanr(brittleness[chosen], auroc[chosen]).statistic)
    low, high = np.nanquantile(resampled, [0.025, 0.975])
    rho = stats.spearmanr(brittleness, auroc).statistic
    return f"{rho:.2f} [{low:.2f}, {high:.2f}], {len(brittleness)} teachers"


def main() -> None:
    """Runs all students, and prints their courses and what each rule gives."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="tfds data_dir that holds cifar10 and fashion_mnist")
    parser.add_argument("--out", required=True, type=pathlib.Path, help="folder of the runs")
    parser.add_argument("--classes", default="automobile,deer", help="that are normal in turn")
    parser.add_argument("--leaves", help="folder of leaves, in folders normal and scab")
    arguments = parser.parse_args()
    from brittle_jax import runtime

    runtime.set_up()
    found: dict[tuple[str, float], dict[str, Course]] = {}
    for name, rate, teacher, course in courses(arguments):
        found.setdefault((name, rate), {})[teacher] = course
    print("\n| images | rate | teacher | updates | error / mean predictor's | KD AUROC | brittleness |")
    print("|---|---|---|---|---|---|---|")
    for (name, rate), by_teacher in found.items():
        for teacher, course in by_teacher.items():
            columns = [
                ", ".join(f"{value:.{digits}f}" for value in values)
                for values, digits in ((course.error_ratio, 2), (100 * course.kd_auroc, 1), (course.brittleness, 4))
            ]
            steps = ", ".join(map(str, course.update_steps))
            print(f"| {name} | {rate:g} | {teacher} | {steps} | {' | '.join(columns)} |")
    print("\n| images | rate | stopped at | Spearman of brittleness and KD AUROC |")
    print("|---|---|---|---|")
    for (name, rate), by_teacher in found.items():
        rules = [("update_steps", points, "{:g} updates") for points in POINTS]
        rules += [("error_ratio", ratio, "error ratio {:g}") for ratio in RATIOS]
        rules += [("movement", movement, "movement {:.2g}") for movement in MOVEMENTS]
        for quantity, value, label in rules:
            print(f"| {name} | {rate:g} | {label.format(value)} | {agreement(by_teacher, quantity, value)} |")


if __name__ == "__main__":
    main()
