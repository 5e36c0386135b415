"""Candidates for a teacher: each is distilled alike on the same normal pictures, and measured without an anomaly."""

import contextlib
import dataclasses
import itertools
import math
import pathlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from brittle_jax import console, files
from brittle_jax.apply.loaded import LoadedDetector, load_detector
from brittle_jax.config import completed
from brittle_jax.data import synthetic_anomalies
from brittle_jax.data.picture_file import read_pixels
from brittle_jax.data.picture_samples import BadPictureError
from brittle_jax.devices import DeviceGroup
from brittle_jax.errors import UserError
from brittle_jax.evaluate.selection import Trial
from brittle_jax.loop import Loop
from brittle_jax.results import DETECTORS
from brittle_jax.run import experiment, settings
from brittle_jax.seeding import derive_seed
from brittle_jax.student import num_updates

TRAIN_FRACTION, CALIBRATION_FRACTION = 0.7, 0.2  # of the pictures; of those that train
_POINTS = 6  # at which a student is measured: after all its updates, half of them, a quarter, ...
_KNOW_ROTATIONS = ("rotnet",)  # kinds of teacher whose own task they are


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A teacher to choose.

    Attributes:
        name: of it, and of its run's folder.
        config: the settings of its run.
        is_reference: it is measured, but never chosen.
        command: that trains it alone, on all of the pictures that a run trains on.
    """

    name: str
    config: ml_collections.ConfigDict
    is_reference: bool = False
    command: str = ""

    @property
    def group(self) -> str:
        """What must be equal for brittleness to be comparable: networks, outputs and coordinates, in words."""
        network, distill = self.config.network, self.config.distill
        side = self.config.data.image_size_pixels
        parts = [network.name, f"levels {network.levels}" if network.levels else f"{network.output_features} outputs"]
        parts += [
            f"student {network.student}" if network.student else "",
            f"{side} pixels",
            f"{distill.targets} targets",
        ]
        return ", ".join(part for part in parts if part)


@dataclasses.dataclass(frozen=True)
class HeldBack:
    """Normal pictures that no detector has seen, by what they are for.

    Attributes:
        selection: files that become synthetic anomalies.
        test: files that only real anomalies are compared with.
        train: some of the files that the students have learned from.
    """

    selection: tuple[pathlib.Path, ...]
    test: tuple[pathlib.Path, ...]
    train: tuple[pathlib.Path, ...]


def prepare(candidates: Sequence[Candidate], pictures: pathlib.Path, seed: int, devices: DeviceGroup) -> int:
    """Completes the settings of all candidates: the pictures, how they are split, and where students are measured.

    Returns:
        How many pictures are held back to choose by.

    Raises:
        UserError: if the pictures, or the settings of any candidate, cannot be used.
    """
    for candidate in candidates:
        data = candidate.config.data
        data.path, candidate.config.seed = str(pictures), seed
        data.train_fraction, data.calibration_fraction = TRAIN_FRACTION, CALIBRATION_FRACTION
        experiment.check_settings(completed(candidate.config), pathlib.Path("."), devices, store_is_read_only=True)
    num_train, num_test = _split_sizes(candidates[0], devices)
    for candidate in candidates:
        distill = candidate.config.distill
        steps = num_updates(
            num_train,
            batch_size=distill.batch_size,
            num_epochs=distill.num_epochs,
            update_steps=distill.update_steps,
        )
        points = sorted({max(1, steps >> halvings) for halvings in range(_POINTS)})
        distill.measure_at = ",".join(map(str, points))
    return num_for_selection(num_test)


def _split_sizes(candidate: Candidate, devices: DeviceGroup) -> tuple[int, int]:
    """Returns how many pictures students learn from, and how many are left for selection and test."""
    config = completed(candidate.config)
    kind = experiment.check_settings(config, pathlib.Path("."), devices, store_is_read_only=True)
    with console.silenced():
        row = experiment.read_row(config, kind, Loop(devices, config.evaluate.batch_size), contextlib.nullcontext)
    (configuration,) = experiment.configurations_of(row)
    return len(configuration.train), len(configuration.test)


def num_for_selection(num_test: int) -> int:
    """Returns how many of a run's test pictures are for selection: half of them, rounded up."""
    return (num_test + 1) // 2


def run(candidate: Candidate, folder: pathlib.Path, devices: DeviceGroup) -> dict[str, Any]:
    """Trains a candidate's student, or finds it finished; returns the content of results.json."""
    return experiment.run(candidate.config, str(folder), devices=devices)


def run_more_students(
    candidate: Candidate, folder: pathlib.Path, num_students: int, devices: DeviceGroup
) -> list[float]:
    """Distils further students of a candidate's teacher, each with its own draw; returns their brittleness."""
    found = []
    for number in range(1, num_students):
        config = candidate.config.copy_and_resolve_references()
        config.distill.seed = config.seed + number
        content = experiment.run(config, f"{folder}-student-{number}", devices=devices)
        found.append(content["configurations"][0]["brittleness"])
    return found


def held_back(run: pathlib.Path, pictures: pathlib.Path, *, most: int, seed: int) -> HeldBack:
    """Returns which normal pictures are left after a run: half of its test pictures for selection, half for the test.

    Args:
        most: pictures for each purpose.
    """
    (split,) = files.read_json(run / "splits.json")["configurations"].values()
    rng = np.random.default_rng(derive_seed(seed, "selection"))
    test = [pictures / split["test"][index] for index in rng.permutation(len(split["test"]))]
    train = [pictures / split["train"][index] for index in rng.permutation(len(split["train"]))]
    half = num_for_selection(len(test))
    return HeldBack(*(tuple(sorted(part[:most])) for part in (test[:half], test[half:], train)))


def measure(
    candidate: Candidate, folder: pathlib.Path, content: Mapping[str, Any], kept: HeldBack, seed: int, seconds: float
) -> tuple[dict[str, Any], dict[str, Trial]]:
    """Measures a candidate without any real anomaly.

    Args:
        folder: of its run.
        content: of its results.json.
        seconds: that the run has taken.

    Returns:
        What was measured, ready for JSON; and how each of its detectors does against synthetic anomalies, by name.
    """
    began = time.monotonic()
    loaded = load_detector(folder)
    (entry,) = content["configurations"]
    normal = score_files(loaded, kept.selection)
    anomalous = {kind: score_files(loaded, kept.selection, _maker(kind, seed)) for kind in synthetic_anomalies.KINDS}
    rotated = score_files(loaded, kept.selection, _turned)
    learned = score_files(loaded, kept.train)
    trials = {
        name: Trial(normal[name], {kind: scores[name] for kind, scores in anomalous.items()}) for name in DETECTORS
    }
    knows_rotations = candidate.config.teacher.task in _KNOW_ROTATIONS
    measured = {
        "name": candidate.name,
        "run": str(folder),
        "command": candidate.command,
        "is_reference": candidate.is_reference,
        "num_skipped": len(content["skipped_inputs"]),
        "group": candidate.group,
        "brittleness": entry["brittleness"],
        "brittleness_interval": entry["brittleness_interval"],
        "gradient_norm": entry["gradient_norm"],
        "error_trace": entry["error_trace"],
        "error_ratio": entry["distillation"]["error_ratio"],
        "course": entry["distillation"]["course"],
        "synthetic": {name: trial.auroc() for name, trial in trials.items()},
        "rotations": None
        if knows_rotations
        else {name: Trial(normal[name], {"": rotated[name]}).auroc()[""] for name in DETECTORS},
        "spread": {name: float(normal[name].std() / normal[name].mean()) for name in DETECTORS},
        "gap": {name: float(normal[name].mean() / learned[name].mean()) for name in DETECTORS},
        "seconds": seconds + time.monotonic() - began,
    }
    return measured, trials


def check_anomalies(anomalies: Mapping[str, Sequence[pathlib.Path]], config: ml_collections.ConfigDict) -> None:
    """Raises UserError for the first file of anomalies that cannot be read.

    Args:
        anomalies: files of each kind.
        config: of any candidate; it says how pictures are read.
    """
    intensity_range = settings.preprocessing_of(config).intensity_range
    for path in itertools.chain(*anomalies.values()):
        try:
            read_pixels(path, config.data.max_image_pixels, intensity_range)
        except BadPictureError as error:
            raise UserError(f"the anomaly {path} cannot be used ({error}): repair or remove it") from None


def against_anomalies(
    folder: pathlib.Path, kept: HeldBack, anomalies: Mapping[str, Sequence[pathlib.Path]]
) -> dict[str, dict[str, float]]:
    """Returns the AUROC of each detector for each kind of real anomalies, against the test pictures.

    Args:
        folder: of a candidate's run.
        anomalies: files of each kind.
    """
    loaded = load_detector(folder)
    normal = score_files(loaded, kept.test)
    found: dict[str, dict[str, float]] = {name: {} for name in DETECTORS}
    for kind, paths in anomalies.items():
        scores = score_files(loaded, paths)
        for name in DETECTORS:
            found[name][kind] = Trial(normal[name], {kind: scores[name]}).auroc()[kind]
    return found


def score_files(
    loaded: LoadedDetector,
    paths: Iterable[pathlib.Path],
    change: Callable[[np.ndarray, str], np.ndarray] = lambda picture, name: picture,
) -> dict[str, np.ndarray]:
    """Returns the four scores [N] of picture files, each changed first; one picture at a time is in memory.

    Args:
        change: from a picture [H, W, 3] uint8 and its file's name to what is scored.
    """
    intensity_range = loaded.detector.preprocessing.intensity_range

    def pictures() -> Iterator[np.ndarray]:
        for path in paths:
            picture, _ = read_pixels(path, loaded.max_image_pixels, intensity_range)
            yield change(picture, path.name)

    return loaded.score(pictures())


def common_error_ratio(measured: Sequence[Mapping[str, Any]]) -> float | None:
    """Returns the lowest error ratio that all students reach; None where one of them has no course."""
    lowest = [
        min((point["error_ratio"] or math.inf for point in each["course"]), default=math.inf) for each in measured
    ]
    return None if not lowest or math.inf in lowest else max(lowest)


def _maker(kind: str, seed: int) -> Callable[[np.ndarray, str], np.ndarray]:
    return lambda picture, name: synthetic_anomalies.make(picture, kind, seed=seed, name=name)


def _turned(picture: np.ndarray, name: str) -> np.ndarray:
    """Turns a picture by 90, 180 or 270 degrees, which of them its name decides."""
    return np.ascontiguousarray(np.rot90(picture, 1 + derive_seed(0, "turn", name) % 3))
