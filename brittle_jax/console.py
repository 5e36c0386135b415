"""What a person at the terminal sees: lines, warnings, progress."""

import contextlib
import contextvars
import io
import sys
import time
from collections.abc import Callable, Iterator
from typing import TextIO

from tqdm import tqdm

_output: contextvars.ContextVar[TextIO | None] = contextvars.ContextVar("output", default=None)
_warnings: contextvars.ContextVar[TextIO | None] = contextvars.ContextVar("warnings", default=None)
_reword: contextvars.ContextVar[Callable[[str], str]] = contextvars.ContextVar("reword", default=lambda text: text)


def say(message: str) -> None:
    """Prints a line to standard output at once."""
    print(message, file=_output.get(), flush=True)


@contextlib.contextmanager
def libraries_silenced() -> Iterator[None]:
    """Drops what other code prints to standard output; `say` still prints."""
    token = _output.set(sys.stdout)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        _output.reset(token)


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Drops what `say` and `warn` print, and the lines of `track`; a progress bar still shows on a terminal."""
    tokens = _output.set(io.StringIO()), _warnings.set(io.StringIO())
    try:
        yield
    finally:
        _output.reset(tokens[0])
        _warnings.reset(tokens[1])


@contextlib.contextmanager
def rewording(reword: Callable[[str], str]) -> Iterator[None]:
    """Passes each warning through `reword`: a command, unlike the library, speaks of its flags."""
    token = _reword.set(reword)
    try:
        yield
    finally:
        _reword.reset(token)


def warn(message: str) -> None:
    """Prints a warning to standard error, where it is seen even if standard output goes to a file."""
    print(f"warning: {_reword.get()(message)}", file=_warnings.get() or sys.stderr, flush=True)


@contextlib.contextmanager
def track(
    what: str, total: int, unit: str = "image", *, done: int = 0, seconds_between_lines: float = 20.0
) -> Iterator["Progress"]:
    """Shows the rate and the time left: as a bar on a terminal, elsewhere as occasional lines and one at the end.

    Args:
        done: how much of the total was done before; it does not count in the rate.
    """
    bar = tqdm(
        desc=f"  {what}",
        initial=done,
        total=total,
        unit=f" {unit}s",
        leave=False,
        dynamic_ncols=True,
        disable=not sys.stderr.isatty(),
    )
    progress = Progress(what, total, unit, bar, done, seconds_between_lines)
    with bar:
        yield progress
    progress.summarise()


class Progress:
    """Counts what is done.

    The rate and the time left are measured from the second update on, because the first one includes compilation.
    """

    def __init__(self, what: str, total: int, unit: str, bar: tqdm, done_before: int, seconds_between_lines: float):
        self._what, self._total, self._unit, self._bar = what, total, unit, bar
        self._done_before, self._seconds_between_lines = done_before, seconds_between_lines
        self._start = self._last_line = time.monotonic()
        self._done = 0  # since then
        self._first_done, self._first_end = 0, self._start

    def update(self, count: int, note: str = "") -> None:
        """Adds `count` to what is done; `note`, such as the loss, appears beside it."""
        self._done += count
        now = time.monotonic()
        self._bar.set_postfix_str(note, refresh=False)
        if not self._first_done:
            self._first_done, self._first_end = self._done, now
            self._bar.n = self._bar.initial = self._bar.last_print_n = self._done_before + self._done
            self._bar.unpause()  # restarts its clock
            return
        self._bar.update(count)
        if self._bar.disable and now - self._last_line > self._seconds_between_lines:
            self._last_line = now
            done = self._done_before + self._done
            left = duration((self._total - done) / self._rate(now))
            say(f"  {self._what}: {done}/{self._total}, {self._shown_rate(now)}, {left} left {note}".rstrip())

    def _rate(self, now: float) -> float:
        """Returns units per second, without the first update if there are others."""
        done, since = self._done - self._first_done, self._first_end
        if not done:
            done, since = self._done, self._start
        return done / max(now - since, 1e-9)

    def _shown_rate(self, now: float) -> str:
        return f"{self._rate(now):.3g} {self._unit}s/s"

    def summarise(self) -> None:
        """Prints how much was done and how fast."""
        now = time.monotonic()
        done, seconds = count(self._done, self._unit), duration(now - self._start)
        say(f"  {self._what}: {done} in {seconds} ({self._shown_rate(now)})")


def count(number: int, what: str) -> str:
    """Returns `1 image`, `2 images`, `1,200 images`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Formats seconds as `8.3 s`, `4 min 05 s` or `2 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"
