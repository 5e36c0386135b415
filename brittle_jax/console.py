"""What a person at the terminal sees while waiting."""

import contextlib
import contextvars
import io
import sys
import time
from collections.abc import Iterator
from typing import TextIO

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 20.0
_output: contextvars.ContextVar[TextIO | None] = contextvars.ContextVar("output", default=None)


def say(message: str) -> None:
    """Prints a line to standard output at once."""
    print(message, file=_output.get(), flush=True)


@contextlib.contextmanager
def libraries_silenced() -> Iterator[None]:
    """Drops what others print to standard output, and keeps what `say` does."""
    token = _output.set(sys.stdout)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        _output.reset(token)


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Drops what `say` says, and with it the lines of `track`; its bar still shows on a terminal."""
    token = _output.set(io.StringIO())
    try:
        yield
    finally:
        _output.reset(token)


def warn(message: str) -> None:
    """Prints a warning to standard error, so that it is seen where output goes to a file."""
    print(f"warning: {message}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def track(what: str, total: int, unit: str = "image") -> Iterator["Progress"]:
    """Shows rate and time left: a bar on a terminal, elsewhere a line now and then and one at the end."""
    bar = tqdm(
        desc=f"  {what}",
        total=total,
        unit=f" {unit}s",
        leave=False,
        dynamic_ncols=True,
        disable=not sys.stderr.isatty(),
    )
    progress = Progress(what, total, unit, bar)
    with bar:
        yield progress
    progress.summarise()


class Progress:
    """Counts what is done."""

    def __init__(self, what: str, total: int, unit: str, bar: tqdm):
        self._what, self._total, self._unit, self._bar = what, total, unit, bar
        self._start = self._last_line = time.monotonic()
        self._done = 0

    def update(self, count: int, note: str = "") -> None:
        """Adds `count` to what is done; `note`, such as the loss, is shown beside it."""
        self._done += count
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(count)
        now = time.monotonic()
        if self._bar.disable and now - self._last_line > _SECONDS_BETWEEN_LINES:
            self._last_line = now
            rate = self._done / (now - self._start)
            left = duration((self._total - self._done) / rate)
            say(f"  {self._what}: {self._done}/{self._total}, {rate:.3g} {self._unit}s/s, {left} left {note}".rstrip())

    def summarise(self) -> None:
        """Says how much was done and how fast."""
        seconds = time.monotonic() - self._start
        rate = self._done / max(seconds, 1e-9)
        units = self._unit + "s" * (self._done != 1)
        say(f"  {self._what}: {self._done} {units} in {duration(seconds)} ({rate:.3g} {self._unit}s/s)")


def duration(seconds: float) -> str:
    """Formats seconds as `8.3 s`, `4 min 05 s` or `2 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"
