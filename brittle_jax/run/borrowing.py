"""Whether another run's teacher can be used here."""

import pathlib

import ml_collections

from brittle_jax import console, files
from brittle_jax.config import TASKS_WITHOUT_DATA, flatten, parcels_version
from brittle_jax.data.dataset import Dataset
from brittle_jax.errors import UserError
from brittle_jax.run import workdir


def check(config: ml_collections.ConfigDict) -> tuple[pathlib.Path, bool]:
    """Returns the folder that `teacher.from_run` names, and whether that run was on synthetic data.

    A teacher that learned from the anomaly-detection data must come from the same split of them, and so from a run of
    the same `seed`: it has learned from what trained there, which must not be tested on here. See `check_same_images`,
    too. The seed of the teacher's own draws may be any, unless `teacher.seed` asks for one.

    Raises:
        UserError: if that is no finished run, is damaged, or has another teacher.
    """
    run, field = _named(config)
    if not workdir.is_finished(run):
        raise UserError(f"{field} is not the folder of a finished run")
    of_the_teacher = ("config.json", "splits.json", "results.json", "manifest.json")
    damage = {
        name: what
        for name, what in workdir.damage(run).items()
        if name in of_the_teacher or (name.startswith("checkpoints/") and "/teacher/" in name)
    }
    if damage:
        raise UserError(
            f"{field} has changed since it was finished: {workdir.describe_damage(damage)}; restore these files from a "
            "copy, or run that run's own command again, which makes them anew"
        )
    if workdir.is_unverified(run):
        console.warn(f"{run} is unverified: a version that kept no digests of its files wrote it")
    lent, wanted = {"network.levels": "", **files.read_json(run / "config.json")}, flatten(config)
    if lent.get("seeds"):
        raise UserError(f"{field} repeats a row over several seeds: name the run of one of them, a folder in it")
    if 0 <= config.teacher.seed != (its_seed := teacher_seed(config)):
        raise UserError(f"{field} has a teacher of seed {its_seed}, not {config.teacher.seed}: set teacher.seed=-1")
    names = ["teacher.task", "teacher.data", "data.image_size_pixels"]
    names += ["network.name", "network.output_features", "network.levels"]
    names += ["teacher.random_batch_norm"] if config.teacher.task in TASKS_WITHOUT_DATA else []
    names += [name for name in wanted if name.startswith("data.patches.")]
    if config.teacher.data == config.data.name:
        names += ["seed", "data.train_fraction", "data.calibration_fraction", "data.baseline_fraction"]
        names += [name for name in wanted if name.startswith("data.parcels.")]
    for name in names:
        if lent.get(name) != wanted[name]:
            raise UserError(f"{field} has {name}={lent.get(name)!r}, not {wanted[name]!r}: set {name}")
    version, lent_version = parcels_version(config), lent.get("data.parcels.version")
    if version and config.teacher.data == config.data.name and lent_version != version:
        theirs, ours = map(workdir.describe_parcels, (lent_version, version))
        raise UserError(f"{field} is on {theirs}, not on {ours}: train a teacher here")
    return run, bool(files.read_json(run / "results.json").get("synthetic_data"))


def teacher_seed(config: ml_collections.ConfigDict) -> int:
    """Returns the seed that the teacher of `teacher.from_run` was made with."""
    lent = files.read_json(_named(config)[0] / "results.json")
    return lent["seeds"]["teacher"] if "seeds" in lent else lent["seed"]


def check_same_images(config: ml_collections.ConfigDict, dataset: Dataset) -> None:
    """Raises UserError if the teacher of `teacher.from_run` learned from another state of the data tested here."""
    if not config.teacher.from_run or config.teacher.data != config.data.name:
        return
    run, field = _named(config)
    if files.read_json(run / "splits.json")["images"] != dataset.identity():
        raise UserError(
            f"{field} is on other images than data.path or data.dir has: its teacher may have learned from what is "
            "tested here; name the same images, or train a teacher here"
        )


def _named(config: ml_collections.ConfigDict) -> tuple[pathlib.Path, str]:
    """Returns the folder that `teacher.from_run` names, and what messages call it."""
    run = pathlib.Path(config.teacher.from_run).expanduser()
    return run, f"teacher.from_run={run}"
