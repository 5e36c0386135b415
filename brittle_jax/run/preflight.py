"""What the rows of a batch lack, looked at before any of them starts; nothing is prepared, downloaded or written."""

import collections
import contextlib
import dataclasses
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping, Sequence

import ml_collections

from brittle_jax import console
from brittle_jax.config import completed, seeds_of
from brittle_jax.data import one_class
from brittle_jax.data.catalogue import CATALOGUE
from brittle_jax.data.datasets.loading import check_available
from brittle_jax.devices import DeviceGroup
from brittle_jax.errors import UserError
from brittle_jax.run import disk, experiment, settings, workdir
from brittle_jax.run.job import Job


@dataclasses.dataclass
class Findings:
    """What is known of a row before it starts: what it lacks, and what it will download."""

    lacks: list[str] = dataclasses.field(default_factory=list)
    downloads: list[str] = dataclasses.field(default_factory=list)


def look_at(jobs: Sequence[Job], devices: DeviceGroup) -> dict[str, Findings]:
    """Returns what each job lacks, by its name: usable settings, data sets, weights, a folder, disk space."""
    with console.silenced():
        found = {job.name: _look_at(job, devices) for job in jobs}
    too_large, kept_mib, most_mib, free_mib = [], 0.0, 0.0, _free_mib(jobs[0].folder)
    for job in jobs:
        if not found[job.name].lacks and not workdir.is_finished(job.folder):
            row_mib, temporary_mib = _disk_mib(job.config, job.folder)
            kept_mib += row_mib
            most_mib = max(most_mib, kept_mib + temporary_mib)
            if kept_mib + temporary_mib > free_mib:
                too_large.append(job.name)
    for name in too_large:
        found[name].lacks.append(f"disk space: networks take {most_mib:,.1f} MiB, but only {free_mib:,.1f} are free")
    return found


def _look_at(job: Job, devices: DeviceGroup) -> Findings:
    if job.config is None:
        return Findings([job.mistake])
    config, found = completed(job.config), Findings()

    @contextlib.contextmanager
    def noting() -> Iterator[None]:
        try:
            yield
        except UserError as error:
            found.lacks.append(" ".join(str(error).split()))

    with noting():
        workdir.check(job.folder, config, overwrite=False)
    if workdir.is_finished(job.folder):  # which needs nothing more
        return found
    with noting():
        experiment.check_settings(config, job.folder, devices, store_is_read_only=True)
    lessons = "" if config.teacher.from_run else config.teacher.data
    for name in filter(None, dict.fromkeys((config.data.name, lessons))):
        with noting():
            download = check_available(name, settings.data_of(config, name))
            found.downloads += [download] if download else []
    found.lacks = list(dict.fromkeys(found.lacks))
    return found


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
    runs = [workdir.folder_of_seed(folder, seed) for seed in seeds_of(config)] or [folder]
    written = (file for run in runs for file in (run / "checkpoints").rglob("*") if file.is_file())
    written_mib = sum(file.stat().st_size for file in written) / 2**20
    return max(len(runs) * kept_mib - written_mib, 0.0), disk.bytes_of_states(network, image_shape) / 2**20


def _free_mib(folder: pathlib.Path) -> float:
    existing = next(parent for parent in folder.absolute().parents if os.path.isdir(parent))
    return shutil.disk_usage(existing).free / 2**20


def table(found: Mapping[str, Findings]) -> str:
    """Returns findings as people read them: a line for each row, then each thing that rows lack or download, once."""
    rows_of: dict[str, int] = collections.Counter(
        text for each in found.values() for text in (*each.lacks, *each.downloads)
    )
    numbers = {text: f"[{number}]" for number, text in enumerate(rows_of, 1)}
    width = max(map(len, found))
    lines = [f"{'row':<{width}}  state"]
    for name, each in found.items():
        title, texts = ("not ready", each.lacks) if each.lacks else ("ready, but first", each.downloads)
        state = f"{title}: {' '.join(numbers[text] for text in texts)}" if texts else "ready"
        lines.append(f"{name:<{width}}  {state}")
    notes = [f"{numbers[text]} {text} ({console.count(count, 'row')})" for text, count in rows_of.items()]
    num_lacking = sum(bool(each.lacks) for each in found.values())
    verdict = (
        f"{num_lacking} of {console.count(len(found), 'row')} cannot run yet"
        if num_lacking
        else "no row lacks anything"
    )
    where = ["docs/data-sets.md says where to get data sets"] if "is not prepared in" in "".join(notes) else []
    return "\n".join([*lines, "", *notes, verdict, *where])
