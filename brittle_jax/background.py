"""One job at a time beside the computation: what is kept is written while the next steps are under way."""

import concurrent.futures
from collections.abc import Callable
from types import TracebackType


class Background:
    """A thread for jobs that are done one after the other. As a context, it ends when the job under way has ended."""

    def __init__(self, check: Callable[[], None] = lambda: None):
        """`check` is called at the start of each job, and may raise an error."""
        self._check = check
        self._executor = concurrent.futures.ThreadPoolExecutor(1, "background")
        self._under_way: concurrent.futures.Future[None] | None = None

    def start(self, job: Callable[[], None]) -> None:
        """Starts a job, after the one before has ended; raises what that one raised."""
        self.wait()
        self._check()
        self._under_way = self._executor.submit(job)

    def wait(self) -> None:
        """Waits for the job under way, and raises what it raised."""
        job, self._under_way = self._under_way, None
        if job is not None:
            job.result()

    def __enter__(self) -> "Background":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        try:
            if error is None:
                self.wait()
        finally:
            self._executor.shutdown(wait=True)
