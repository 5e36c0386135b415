"""What results.json says of a run besides its numbers: settings, readings, splits, environment."""

import datetime
import importlib.metadata
import platform
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections

from brittle_jax.config import flatten, get_base_config, parcels_version
from brittle_jax.data.one_class import Configuration
from brittle_jax.data.splits import identical_across_splits
from brittle_jax.devices import DeviceGroup
from brittle_jax.evaluate.measurement_card import MeasurementCard
from brittle_jax.models.trunk import EXTREMES
from brittle_jax.run import borrowing, settings
from brittle_jax.run.row import Row
from brittle_jax.text import split_list

# Fields that do not change what is measured, or that name the run.
_NOT_OF_THE_RECIPE = {
    "row",
    "word",
    "seed",
    "seeds",
    "teacher.seed",
    "distill.seed",
    "data.dir",
    "data.path",
    "data.stand_in",
    "data.on_bad_image",
    "data.intensity_range",
    "teacher.weights",
    "teacher.store",
    "evaluate.keep_errors_mib",
    "evaluate.dimension_images",
    "distill.measure_at",
    "distill.measure_samples",
    *(f"attack.{name}" for name in get_base_config().attack),
}


def changed_fields(config: ml_collections.ConfigDict, recipe: ml_collections.ConfigDict) -> dict[str, list[Any]]:
    """Returns the fields in which a run leaves its row's recipe: `{"distill.num_epochs": [20, 2]}`."""
    used, published = flatten(config), flatten(recipe)
    return {
        name: [published[name], used[name]]
        for name in published
        if name not in _NOT_OF_THE_RECIPE and used[name] != published[name]
    }


def seeds(config: ml_collections.ConfigDict) -> dict[str, int]:
    """Returns the seeds that a run uses: that of the splits also draws subsets, the probe and the bootstrap."""
    borrows = config.teacher.from_run
    return {
        "splits": config.seed,
        "teacher": borrowing.teacher_seed(config) if borrows else settings.teacher_seed(config),
        "student": settings.student_seed(config),
    }


def splits(row: Row, configurations: Sequence[Configuration]) -> dict[str, Any]:
    """Returns which images a run is on, and the ids of the samples that train, calibrate and test, by configuration."""
    dataset = row.dataset
    splitting = settings.splitting_of(row.config, learns_anomalies=row.kind.learns_anomalies)
    return {
        "images": dataset.identity(),
        "auxiliary": None if row.lessons is None else row.lessons.identity(),
        "configurations": {
            configuration.name: {
                "train": dataset.samples.ids[configuration.train].tolist(),
                "calibration": dataset.samples.ids[configuration.calibration].tolist(),
                "test": dataset.samples.ids[configuration.test].tolist(),
            }
            for configuration in configurations
        },
        "identical_across_splits": identical_across_splits(dataset, splitting),
    }


def measurement_card(
    row: Row, configuration: Configuration, *, num_features: int, movement: float, error_ratio: float | None
) -> MeasurementCard:
    """Returns how the brittleness of a configuration's teacher was measured."""
    readings, train = measurement(row), row.dataset.images_of(configuration.train)
    data = row.dataset.identity()
    return MeasurementCard(
        network=row.network.name,
        student=row.network.student or row.network.name,
        output_dimension=num_features,
        gradient_path=row.config.evaluate.gradient_path,
        batch_norm=readings["batch_norm"],
        pixel_scale=readings["pixel_scale"],
        targets=row.config.distill.targets,
        pictures=f"{data['name']} {configuration.name}, {len(train)} images, {data['sha256'][:8]}",
        movement=movement,
        error_ratio=error_ratio,
    )


def measurement(row: Row) -> dict[str, Any]:
    """Returns the reading taken of each point that the paper leaves open; BUILD_NOTES.md gives the reasons."""
    config = row.config
    network = row.network
    initialiser = network.architecture.initialiser
    if network.student:
        initialiser += f" (the student: {network.student_architecture.initialiser})"
    features = _features_of(config.network.levels)
    parcels = parcels_version(config)
    return {
        "parcels": f"embedded, version {parcels}" if parcels else None,
        "pixel_scale": "[0, 1], normalised inside the network",
        "kd_score": "sum over features of (h - f)^2 (Eq. 1)",
        "loss": "mean over features of (f - h)^2",
        "gradient_path": config.evaluate.gradient_path,
        "brittleness_numerator": "mean of per-image L2 norms, evaluation mode",
        "brittleness_denominator": "sum of per-feature variances of f - h, ddof 1",
        "batch_norm": "teacher: running averages; student: batch statistics over all devices in training, running "
        "averages in scoring",
        "initialiser": f"{initialiser}, student and teacher drawn apart",
        "student": config.network.student or None,
        "targets": config.distill.targets,
        "epoch": "as many full batches as hold all images, cut from permutations joined",
        "covariance": config.evaluate.covariance,
        "ridge": config.evaluate.ridge if config.evaluate.covariance == "ridge" else None,
        "random_batch_norm": None,
        "augmentation": None,
        "movement": "of the row's recipe" if config.distill.keep_movement else "by the learning rate that is set",
        "measure_samples": config.distill.measure_samples if config.distill.measure_at else None,
        **row.kind.readings,
        "levels": config.network.levels or None,
        "output_features": config.network.output_features or features,
        "probe": f"logistic regression on standardised {features} (autoencoders: codes), L-BFGS, C = "
        f"{config.probe.inverse_penalty:g}; labels as the supervised baseline's",
        "sample_score": "maximum over the sample's images",
        "auroc_interval": "95% bootstrap over test samples, normal and anomalous resampled apart",
    }


def environment(devices: DeviceGroup) -> dict[str, Any]:
    """Returns what a result may depend on beside its settings: versions, devices, precision."""
    packages = ("brittle-jax", "jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn", "pillow", "grain")
    return {
        "python": platform.python_version(),
        **{package: importlib.metadata.version(package) for package in packages},
        "devices": devices.kinds,
        # Of training; what is measured has its products in float32.
        "matmul_precision": jax.config.jax_default_matmul_precision,
        "platform": f"{platform.system()} {platform.machine()}",
    }


def now() -> str:
    """Returns the time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _features_of(levels: str) -> str:
    """Returns in words what a network takes of its activations."""
    kinds = {"extremes" if level.endswith(EXTREMES) else "averages" for level in split_list(levels)}
    return f"{' and '.join(sorted(kinds))} of levels" if kinds else "pooled features"
