"""What the paper's tables and figures show: settings, teachers, quantities, and the published numbers of each."""

import functools
from typing import NamedTuple

import numpy as np

from brittle_jax.published import DETECTORS, published_row, rows_and_teachers

_WORDS = {
    "class": "Class.",
    "rotnet": "RotNet",
    "ae": "AE",
    "dae": "DAE",
    "simclr": "SimCLR",
    "stl": "STL",
    "cifar": "CIFAR",
    "fmnist": "FMNIST",
    "cvd": "CvD",
    "plantvillage": "Plant Village",
    "imagenet": "ImageNet",
    "plant": "Plant Path.",
    "x-ray": "X-ray",
}
_OWN_DATA = {"cats_vs_dogs": "cvd", "cifar10": "cifar", "plant_pathology": "plant", "xray": "x-ray"}


class Quantity(NamedTuple):
    """A column of the tables: how it is called, and with how many decimals it is written."""

    title: str
    decimals: int
    is_percent: bool


QUANTITIES = {
    "probe_accuracy": Quantity("Classification Acc.", 2, True),
    "kd": Quantity("Knowledge Distillation", 2, True),
    "mse": Quantity("MSE", 2, True),
    "mahalanobis_diag": Quantity("Mahalanobis (Diagonal)", 2, True),
    "mahalanobis_full": Quantity("Mahalanobis (Full)", 2, True),
    "brittleness": Quantity("Avg L2 Norm", 5, False),
}


class Setting(NamedTuple):
    """What a table is about: a data set, and which of its configurations are averaged.

    Attributes:
        parts: each is a configuration, or a group of them. Configurations of a part are averaged, then the parts.
    """

    title: str
    dataset: str
    parts: tuple[str, ...]

    @property
    def num_configurations(self) -> int:
        """How many configurations the paper averages."""
        return sum(map(configurations_of_part, self.parts))

    def part_of(self, configuration: str) -> str | None:
        """Returns the part to which a configuration belongs; None if to none of them."""
        return next((part for part in self.parts if configuration in (part, f"{part}/{_last(configuration)}")), None)


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def configurations_of_part(part: str) -> int:
    """Returns how many configurations the paper averages in a part of a setting."""
    return 10 if part in ("unimodal", "multimodal") else 1


SETTINGS = {
    "cats_vs_dogs": Setting("Cats vs. Dogs", "cats_vs_dogs", ("cat", "dog")),
    "cifar10": Setting("CIFAR-10", "cifar10", ("unimodal", "multimodal")),
    "plant": Setting("Plant Pathology", "plant_pathology", ("healthy",)),
    "xray": Setting("X-ray", "xray", ("soc",)),
    "cat": Setting("cat", "cats_vs_dogs", ("cat",)),
    "dog": Setting("dog", "cats_vs_dogs", ("dog",)),
    "unimodal": Setting("CIFAR-10 unimodal", "cifar10", ("unimodal",)),
    "multimodal": Setting("CIFAR-10 multimodal", "cifar10", ("multimodal",)),
}
DATA_SETS = {
    "cats_vs_dogs": "Cats vs. Dogs",
    "cifar10": "CIFAR-10",
    "plant_pathology": "Plant Pathology",
    "xray": "X-ray",
}
SINGLE_SETTINGS = ("cat", "dog", "unimodal", "multimodal", "plant", "xray")  # that average nothing but classes


class TableLayout(NamedTuple):
    """A table of the paper."""

    caption: str
    setting: str
    quantities: tuple[str, ...]


_MAIN = ("probe_accuracy", "kd", "mahalanobis_full")
_COMPLETE = tuple(QUANTITIES)
TABLES = {
    2: TableLayout("Cats vs. Dogs, averaged over the two classes", "cats_vs_dogs", _MAIN),
    3: TableLayout("CIFAR-10, averaged over unimodal and multimodal configurations", "cifar10", _MAIN),
    4: TableLayout("Plant Pathology", "plant", _MAIN),
    5: TableLayout("X-ray", "xray", _MAIN),
    6: TableLayout("Cats vs. Dogs, cat is normal", "cat", _COMPLETE),
    7: TableLayout("Cats vs. Dogs, dog is normal", "dog", _COMPLETE),
    8: TableLayout("CIFAR-10, unimodal, averaged over classes", "unimodal", _COMPLETE[1:]),
    9: TableLayout("CIFAR-10, multimodal, averaged over classes", "multimodal", _COMPLETE[1:]),
    10: TableLayout("Plant Pathology, all detectors", "plant", _COMPLETE),
    11: TableLayout("X-ray, all detectors", "xray", _COMPLETE),
}


class FigureLayout(NamedTuple):
    """A scatter plot of the paper: a quantity against KD AUROC."""

    caption: str
    x: str
    settings: tuple[str, ...]


_DATA_SETS = ("cats_vs_dogs", "cifar10", "plant", "xray")
FIGURES = {
    3: FigureLayout("Mahalanobis AUROC against KD AUROC", "mahalanobis_full", _DATA_SETS),
    4: FigureLayout(
        "Mahalanobis AUROC against KD AUROC, CIFAR-10 unimodal and multimodal",
        "mahalanobis_full",
        ("unimodal", "multimodal"),
    ),
    5: FigureLayout("Classification accuracy against KD AUROC", "probe_accuracy", _DATA_SETS),
    6: FigureLayout("Brittleness (average L2 gradient norm) against KD AUROC", "brittleness", _DATA_SETS),
}


class Teacher(NamedTuple):
    """The teacher of a row.

    Attributes:
        title: as the paper writes it.
        task: "baseline", "random", "class", "rotnet", "ae", "dae" or "simclr".
        is_own: whether it learns from the images of the anomaly-detection data alone, without labels.
    """

    title: str
    task: str
    is_own: bool


@functools.cache
def teachers(dataset: str) -> dict[str, Teacher]:
    """Returns the teachers of a data set by row, in the paper's order."""
    found = {}
    for row, name in rows_and_teachers(dataset).items():
        source, _, task = name.rpartition(" ")
        title = " ".join(_WORDS[word] for word in name.split()) if source else name.capitalize()
        found[row] = Teacher(title, task, is_own=source == _OWN_DATA[dataset])
    return found


class Teachers(NamedTuple):
    """What is known of the teachers of a setting, by quantity; NaN where something is not.

    Attributes:
        rows: T rows of the paper.
        columns: [T] each; AUROC and accuracy in percent.
    """

    rows: list[str]
    columns: dict[str, np.ndarray]

    def without(self, *tasks: str) -> "Teachers":
        """Returns the teachers that were not trained on any of some tasks."""
        return self.only([task_of(row) not in tasks for row in self.rows])

    def only(self, kept: list[bool]) -> "Teachers":
        """Returns some of the teachers."""
        mask = np.array(kept, bool)
        rows = [row for row, keeps in zip(self.rows, kept, strict=True) if keeps]
        return Teachers(rows, {name: values[mask] for name, values in self.columns.items()})


def teacher_of(row: str) -> Teacher:
    """Returns the teacher of a row of the paper."""
    return next(found[row] for found in map(teachers, _OWN_DATA) if row in found)


def is_paper_row(row: str) -> bool:
    """Returns whether the paper has a row of this name."""
    return any(row in teachers(dataset) for dataset in _OWN_DATA)


def task_of(row: str) -> str:
    """Returns the task of the teacher of a row."""
    return teacher_of(row).task


@functools.cache
def published(setting: str) -> Teachers:
    """Returns the published numbers of a setting; where it averages two parts, their means, as in Tables 2 and 3."""
    dataset, parts = SETTINGS[setting].dataset, SETTINGS[setting].parts
    rows = list(teachers(dataset))
    columns: dict[str, list[float]] = {name: [] for name in QUANTITIES}
    for row in rows:
        numbers = published_row(row)
        groups = [numbers["groups"][part] for part in parts]
        columns["probe_accuracy"].append(100 * numbers["probe_accuracy"])
        columns["brittleness"].append(np.mean([group["brittleness"] for group in groups]))
        for detector in DETECTORS:
            columns[detector].append(100 * np.mean([group["auroc"][detector] for group in groups]))
    return Teachers(rows, {name: np.array(values) for name, values in columns.items()})
