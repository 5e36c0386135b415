"""What the rows of a batch lack, looked at before any of them starts; nothing is prepared, downloaded or written."""

import os
import pathlib
import shutil
from collections.abc import Callable, Sequence

import ml_collections

from brittle_jax import console
from brittle_jax.config import completed
from brittle_jax.data import one_class
from brittle_jax.data.catalogue import CATALOGUE
from brittle_jax.data.datasets.loading import check_available
from brittle_jax.devices import DeviceGroup
from brittle_jax.errors import UserError
from brittle_jax.run import disk, experiment, settings, workdir
from brittle_jax.run.job import Job


def lacks(jobs: Sequence[Job], devices: DeviceGroup) -> dict[str, list[str]]:
    """Returns what each job lacks, by its name: usable settings, data sets, weights, a folder, disk space."""
    with console.silenced():
        found = {job.name: _lacks(job, devices) for job in jobs}
    needed_mib = 0.0
    for job in jobs:
        if not found[job.name] and not workdir.is_finished(job.folder):
            kept_mib, temporary_mib = _disk_mib(job.config, job.folder)
            needed_mib += kept_mib
            free_mib = _free_mib(job.folder)
            if needed_mib + temporary_mib > free_mib:
                found[job.name].append(
                    f"disk space: up to this row, networks take {needed_mib + temporary_mib:,.1f} MiB, "
                    f"{free_mib:,.1f} are free"
                )
    return found


def _lacks(job: Job, devices: DeviceGroup) -> list[str]:
    if job.config is None:
        return [job.mistake]
    config = completed(job.config)
    checks: list[Callable[[], object]] = [lambda: workdir.check(job.folder, config, overwrite=False)]
    if not workdir.is_finished(job.folder):  # which needs nothing more
        checks.append(lambda: experiment.check_settings(config, job.folder, devices, store_is_read_only=True))
        lessons = "" if config.teacher.from_run else config.teacher.data
        for name in filter(None, dict.fromkeys((config.data.name, lessons))):
            checks.append(lambda name=name: check_available(name, settings.data_of(config, name)))
    found = []
    for check in checks:
        try:
            check()
        except UserError as error:
            found.append(" ".join(str(error).split()))
    return list(dict.fromkeys(found))


def _disk_mib(config: ml_collections.ConfigDict, folder: pathlib.Path) -> tuple[float, float]:
    """Returns what a row has yet to write that is kept, and what it writes besides while it runs."""
    config = completed(config)
    kind = settings.teacher_of(config, folder, store_is_read_only=True)
    network, image_shape = settings.network_of(config), settings.preprocessing_of(config).image_shape
    data = CATALOGUE[config.data.name]
    count = len(one_class.choose(config.data.configurations, config.data.name, data.classes))
    _, kept_mib = disk.kept(
        network,
        image_shape,
        num_configurations=count,
        num_references=count if kind.learns_anomalies and data.split == "normal" else 0,
        num_trained=(1 if kind.is_shared else count) if kind.dataset and not config.teacher.from_run else 0,
        teacher_is_shared=kind.is_shared,
    )
    written_mib = sum(file.stat().st_size for file in (folder / "checkpoints").rglob("*") if file.is_file()) / 2**20
    return max(kept_mib - written_mib, 0.0), disk.bytes_of_states(network, image_shape) / 2**20


def _free_mib(folder: pathlib.Path) -> float:
    existing = next(parent for parent in folder.absolute().parents if os.path.isdir(parent))
    return shutil.disk_usage(existing).free / 2**20


def table(found: dict[str, list[str]]) -> str:
    """Returns what jobs lack as people read it: one line for each."""
    width = max(map(len, found))
    num_lacking = sum(map(bool, found.values()))
    lines = [f"{name:<{width}}  {'; '.join(each) or 'ready'}" for name, each in found.items()]
    verdict = f"{num_lacking} of {console.count(len(found), 'row')} cannot run yet"
    if not num_lacking:
        verdict = "nothing is missing"
    where = ["docs/data-sets.md says where to get data sets"] if "is not prepared in" in "".join(lines) else []
    return "\n".join([f"{'row':<{width}}  lacks", *lines, verdict, *where])
