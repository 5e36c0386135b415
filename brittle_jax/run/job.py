"""The rows of a batch, and the order in which they run."""

import dataclasses
import pathlib
from collections.abc import Sequence

import ml_collections

from brittle_jax.config import completed
from brittle_jax.errors import UserError
from brittle_jax.run import settings
from brittle_jax.teachers.pretrained import Pretrained


@dataclasses.dataclass(frozen=True)
class Job:
    """A row that a batch runs.

    Attributes:
        name: of the row, with its word: `xray_rotnet:smoke`.
        folder: of its results.
        config: its settings; None where they cannot be used.
        mistake: why they cannot be used.
    """

    name: str
    folder: pathlib.Path
    config: ml_collections.ConfigDict | None
    mistake: str = ""


def teachers_first(jobs: Sequence[Job]) -> list[Job]:
    """Returns jobs in the order in which they run: first one for each teacher, then those that share one of these.

    Workers that begin at the same time then train different teachers.
    """
    seen: list[Pretrained] = []
    first, others = [], []
    for job in jobs:
        teacher = shared_teacher(job)
        (others if teacher in seen else first).append(job)
        seen += [] if teacher is None else [teacher]
    return first + others


def shared_teacher(job: Job) -> Pretrained | None:
    """Returns a teacher that other jobs may have, too; None where there is none, or the settings cannot be used.

    Two jobs have the same teacher if these are equal. The store files a teacher under its data, too; but a batch reads
    the same data for all rows, so it is enough to compare settings.
    """
    try:
        teacher = settings.teacher_of(completed(job.config), job.folder) if job.config is not None else None
    except UserError:
        return None
    return teacher if isinstance(teacher, Pretrained) and teacher.is_shared else None
