"""The door of the config: from its fields to what everything below takes by name."""

import dataclasses
import pathlib

import ml_collections

from brittle_jax.apply.preprocessing import Preprocessing
from brittle_jax.config import TASKS_WITHOUT_DATA, parcels_version, parse_range
from brittle_jax.data.catalogue import CATALOGUE
from brittle_jax.data.patches import PatchSettings
from brittle_jax.data.settings import DataSettings, ParcelSettings
from brittle_jax.data.splits import Splitting
from brittle_jax.errors import UserError
from brittle_jax.models.network import NetworkSettings
from brittle_jax.run import borrowing
from brittle_jax.teachers.borrowed import Borrowed
from brittle_jax.teachers.kind import Kind
from brittle_jax.teachers.pretrained import Pretrained
from brittle_jax.teachers.pretraining import Recipe
from brittle_jax.teachers.published import PackagedWeights, Published, Weights
from brittle_jax.teachers.random import Random
from brittle_jax.teachers.store import TeacherStore


def network_of(config: ml_collections.ConfigDict) -> NetworkSettings:
    """Returns the networks that teacher and student are."""
    return NetworkSettings(**config.network)


def data_of(config: ml_collections.ConfigDict, name: str) -> DataSettings:
    """Returns where a data set lies, and how it is read; `data.path` is that of the anomaly-detection data alone."""
    fields = {field.name: config.data[field.name] for field in dataclasses.fields(DataSettings)}
    return DataSettings(
        **fields
        | {
            "path": config.data.path if name == config.data.name else "",
            "intensity_range": parse_range(config.data.intensity_range),
            "patches": patches_of(config),
            "parcels": ParcelSettings(**config.data.parcels),
        }
    )


def patches_of(config: ml_collections.ConfigDict) -> PatchSettings:
    """Returns how parcels are cut; scans of your own have no inset, since nobody knows where their walls are."""
    patches = PatchSettings(**config.data.patches)
    return dataclasses.replace(patches, inset_pixels=0) if config.data.path else patches


def preprocessing_of(config: ml_collections.ConfigDict) -> Preprocessing:
    """Returns how pictures become images."""
    patches = patches_of(config) if CATALOGUE[config.data.name].is_parcels else None
    side = config.data.image_size_pixels if patches is None else patches.size_pixels
    return Preprocessing(side, patches, parse_range(config.data.intensity_range))


def splitting_of(config: ml_collections.ConfigDict, *, learns_anomalies: bool) -> Splitting:
    """Returns how the anomaly-detection data are split; a supervised learner may see a share of the anomalies."""
    data = config.data
    anomalous_fraction = data.baseline_fraction if learns_anomalies else 0.0
    return Splitting(config.seed, data.train_fraction, data.calibration_fraction, anomalous_fraction)


def teacher_seed(config: ml_collections.ConfigDict) -> int:
    """Returns the seed of the teacher's draws: of a random teacher, of a head, and of all that pre-training draws."""
    return config.seed if config.teacher.seed < 0 else config.teacher.seed


def student_seed(config: ml_collections.ConfigDict) -> int:
    """Returns the seed of the student's draws: its weights, and the order of its batches."""
    return config.seed if config.distill.seed < 0 else config.distill.seed


def for_seed(config: ml_collections.ConfigDict, seed: int, run: pathlib.Path) -> ml_collections.ConfigDict:
    """Returns the settings of one of the runs that repeat a row.

    Args:
        config: the settings of the row, with `seeds`.
        seed: one of them.
        run: folder of the repeated row; the runs of all seeds share the store of teachers beside it.
    """
    config = config.copy_and_resolve_references()
    config.seed, config.seeds, config.teacher.store = seed, "", str(_store_folder(config, run))
    return config


def random_teacher(config: ml_collections.ConfigDict) -> Random:
    """Returns a teacher that is drawn at random."""
    return Random(teacher_seed(config), config.teacher.random_batch_norm, config.teacher.batch_norm_batch_size)


def teacher_of(
    config: ml_collections.ConfigDict, run: pathlib.Path, *, store_is_read_only: bool = False, wait: bool = True
) -> Kind:
    """Returns the kind of teacher. This is the one place that compares its name with others.

    Args:
        run: folder of the run; teachers are stored beside it unless the config says otherwise.
        store_is_read_only, wait: as in `TeacherStore`.

    Raises:
        UserError: if another run's teacher is asked for, and that run has none that fits.
    """
    teacher = config.teacher
    weights = Weights(teacher.weights, teacher.weights_sha256)
    image_shape = preprocessing_of(config).image_shape
    if teacher.from_run:
        lender, is_synthetic = borrowing.check(config)
        own = config.copy_and_resolve_references()
        own.teacher.from_run = ""
        return Borrowed(lender, is_synthetic, teacher_of(own, run))
    if teacher.task in TASKS_WITHOUT_DATA:
        if teacher.data:
            raise UserError(
                f"teacher.data={teacher.data!r}: the teacher {teacher.task} has no data set: set teacher.data= (empty)"
            )
        if config.pretrain.from_weights:
            raise UserError(
                f"pretrain.from_weights: the teacher {teacher.task} is not pre-trained here: leave it False"
            )
    if teacher.task == "random":
        return random_teacher(config)
    if teacher.task == "imagenet_lite":
        if teacher.weights:
            raise UserError(
                f"teacher.weights={teacher.weights!r}: the teacher imagenet_lite takes its weights from a package: "
                "leave it empty"
            )
        return Published(PackagedWeights(), config.network.name, image_shape, stand_in=None)
    if teacher.task == "imagenet":
        stand_in = None
        if config.data.stand_in:
            stand_in = Random(teacher_seed(config), "normal_images", teacher.batch_norm_batch_size)
        return Published(weights, config.network.name, image_shape, stand_in)
    is_own_data = teacher.data == config.data.name
    if teacher.data == "image_folder" and not is_own_data:
        raise UserError("teacher.data='image_folder': your own images can only teach a run on themselves")
    if CATALOGUE[teacher.data].is_parcels != CATALOGUE[config.data.name].is_parcels:
        raise UserError(f"teacher.data={teacher.data!r} does not go with data.name={config.data.name!r}")
    kind = Pretrained(
        task_name=teacher.task,
        dataset=teacher.data,
        is_own_data=is_own_data,
        recipe=Recipe(**config.pretrain),
        weights=weights,
        network=dataclasses.replace(network_of(config), student=""),  # on which the teacher does not depend
        seed=teacher_seed(config),
        image_shape=image_shape,
        splitting=splitting_of(config, learns_anomalies=True)
        if is_own_data
        else Splitting(config.seed, config.data.train_fraction),
        store=TeacherStore(_store_folder(config, run), store_is_read_only, wait),
        # Parcels of other sizes and seeds have the same ids.
        image_settings=[config.data.parcels.to_dict(), config.data.patches.to_dict()]
        if CATALOGUE[teacher.data].is_parcels
        else None,
    )
    kind.check_data()
    return kind


def _store_folder(config: ml_collections.ConfigDict, run: pathlib.Path) -> pathlib.Path:
    store = config.teacher.store
    return pathlib.Path(store).expanduser() if store else run.absolute().parent / "teachers"


def check_parcels(config: ml_collections.ConfigDict, *, learns_anomalies: bool) -> None:
    """Raises UserError if the settings leave no threats to test on, or the supervised baseline none to learn from.

    For the embedded parcels the settings alone tell, so this comes before any parcel is made.
    """
    if parcels_version(config) is None:
        return
    num_threat, share = config.data.parcels.num_threat, config.data.baseline_fraction
    num_learned = round(share * num_threat) if learns_anomalies else 0
    if num_threat - num_learned < 1:
        raise UserError(f"data.parcels.num_threat={num_threat} leaves no threats to test on: give more")
    if learns_anomalies and not num_learned:
        raise UserError(
            f"data.parcels.num_threat={num_threat}, of which data.baseline_fraction={share} is {num_learned}, leaves "
            "the supervised baseline no threats to learn from: give more"
        )
