"""What a whole batch would take: an estimate of each row, in a process of its own, so that memory is its own too."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection

from brittle_jax import console, interrupt, runtime
from brittle_jax.errors import UserError
from brittle_jax.run import workdir
from brittle_jax.run.estimate import Estimate, estimate
from brittle_jax.run.job import Job, shared_teacher, teachers_first

_SECONDS_TO_END = 10  # of a process that has sent its answer


def estimate_apart(job: Job) -> Estimate:
    """Estimates a job in a new process.

    Raises:
        UserError: for a setting or data set that cannot be used, or if the process is killed.
    """
    if job.config is None:
        raise UserError(job.mistake)
    spawn = multiprocessing.get_context("spawn")
    receiver, sender = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_send_estimate, args=(job, sender))
    process.start()
    sender.close()  # this process's own copy, so that the end of the other process is the end of the pipe
    try:
        answer = receiver.recv()
        process.join(_SECONDS_TO_END)  # so that it frees what the system would otherwise report as leaked
    except EOFError:
        process.join()
        raise UserError(f"its process ended with exit code {process.exitcode}, perhaps for want of memory") from None
    finally:
        process.kill()  # if it is still there: this process is stopped
        process.join()
    if isinstance(answer, str):
        raise UserError(answer)
    return answer


def _send_estimate(job: Job, sender: Connection) -> None:
    interrupt.ignore()  # who has started this process ends it
    runtime.set_up()
    try:
        with console.silenced():
            answer = estimate(job.config, str(job.folder))
    except UserError as error:
        answer = " ".join(str(error).split())
    sender.send(answer)


def lines(jobs: Sequence[Job], estimate_of: Callable[[Job], Estimate] = estimate_apart) -> Iterator[str]:
    """Yields a line for each job, as soon as it is known, and at last the total.

    A teacher that several rows share is trained by the first of them, so its time counts once. What fails is named.
    """
    width = max(len(job.name) for job in jobs)
    yield f"{'row':<{width}}  {'time':>12}  {'memory MiB':>10}  {'disk MiB':>10}  {'temporary MiB':>13}"
    known: list[tuple[float, Estimate]] = []
    teachers = []
    num_failed = 0
    for job in teachers_first(jobs):
        if workdir.is_finished(job.folder):
            yield f"{job.name:<{width}}  finished before"
            continue
        try:
            each = estimate_of(job)
        except UserError as error:
            num_failed += 1
            yield f"{job.name:<{width}}  cannot be estimated: {error}"
            continue
        seconds, teacher = each.seconds, shared_teacher(job)
        if teacher in teachers:
            seconds -= sum(stage.seconds for stage in each.stages if stage.stage == "pretrain")
        teachers += [] if teacher is None else [teacher]
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
