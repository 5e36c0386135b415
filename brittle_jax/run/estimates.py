"""What a whole batch would take: an estimate of each row, in a process of its own, so that memory is its own too."""

import concurrent.futures
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool

from brittle_jax import console, runtime
from brittle_jax.errors import UserError
from brittle_jax.run import workdir
from brittle_jax.run.estimate import Estimate, estimate
from brittle_jax.run.job import Job, teachers_first, train_their_teacher


def lines(jobs: Sequence[Job]) -> Iterator[str]:
    """Yields a line for each job, as soon as it is known, and at last the total.

    A teacher that several rows share is trained by the first of them, so it counts once. What fails is named.
    """
    width = max(len(job.name) for job in jobs)
    yield f"{'row':<{width}}  {'time':>12}  {'memory MiB':>10}  {'disk MiB':>10}  {'while it runs':>13}"
    known: list[tuple[float, Estimate]] = []
    num_failed = 0
    trains = train_their_teacher(jobs)
    for job in teachers_first(jobs):
        if workdir.is_finished(job.folder):
            yield f"{job.name:<{width}}  finished before"
            continue
        try:
            each = _estimate(job)
        except UserError as error:
            num_failed += 1
            yield f"{job.name:<{width}}  cannot be estimated: {error}"
            continue
        seconds = sum(stage.seconds for stage in each.stages if trains[job.name] or stage.stage != "pretrain")
        known.append((seconds, each))
        yield _line(f"{job.name:<{width}}", seconds, each.memory_mib, each.disk_mib, each.temporary_disk_mib)
    if known:
        seconds = sum(seconds for seconds, _ in known)
        memory_mib = max(each.memory_mib for _, each in known)
        disk_mib = sum(each.disk_mib for _, each in known)
        temporary_mib = max(each.temporary_disk_mib for _, each in known)
        yield _line(f"{'in all':<{width}}", seconds, memory_mib, disk_mib, temporary_mib)
    if num_failed:
        yield f"without {console.count(num_failed, 'row')} that cannot be estimated"


def _line(title: str, seconds: float, memory_mib: float, disk_mib: float, temporary_mib: float) -> str:
    return (
        f"{title}  {console.duration(seconds):>12}  {memory_mib:>10,.0f}  {disk_mib:>10,.1f}  {temporary_mib:>13,.1f}"
    )


def _estimate(job: Job) -> Estimate:
    """Estimates a job in a new process.

    Raises:
        UserError: for a setting or data set that cannot be used, or if the process is killed.
    """
    if job.config is None:
        raise UserError(job.mistake)
    spawn = multiprocessing.get_context("spawn")
    try:
        with concurrent.futures.ProcessPoolExecutor(max_workers=1, mp_context=spawn) as pool:
            return pool.submit(_in_this_process, job).result()
    except BrokenProcessPool as error:
        raise UserError("its process was killed, perhaps for want of memory") from error


def _in_this_process(job: Job) -> Estimate:
    runtime.set_up()
    with console.silenced():
        return estimate(job.config, str(job.folder))
