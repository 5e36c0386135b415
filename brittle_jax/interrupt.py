"""SIGTERM and SIGINT (Ctrl-C): requests to stop where everything is kept, and not in the middle of something."""

import contextlib
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from brittle_jax.errors import Interrupted, UserError, says_disk_full

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SECONDS_UNTIL_AGAIN = 0.1


class _Request:
    """What this process has been asked, and whether it has to finish something first."""

    signal_name = ""
    depth = 0  # of `deferred` blocks


_request = _Request()


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Turns both signals into `Interrupted` while the block lasts; the second Ctrl-C ends the process at once.

    It is raised at once, or at the end of a `deferred` block. Where Python drops it, as in a callback of the garbage
    collector, it is raised again a moment later. Libraries may turn it into an error of their own: an error that comes
    of it, or after a signal and is no user's mistake and no full disk, becomes `Interrupted`, too. In a thread other
    than the main one this does nothing: Python delivers signals to the main thread alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _on_signal) for number in _SIGNALS}
    before[signal.SIGALRM] = signal.signal(signal.SIGALRM, _on_alarm)
    hook, sys.unraisablehook = sys.unraisablehook, functools.partial(_on_dropped, sys.unraisablehook)
    try:
        yield
    except Exception as error:
        is_other = says_disk_full(error) or (isinstance(error, UserError) and not _comes_of_interruption(error))
        if is_requested() and not is_other:
            raise Interrupted(_request.signal_name) from error
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)
        _request.signal_name = ""


def ignore() -> None:
    """Makes the process ignore both signals from now on."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Keeps the block from being interrupted: a request that comes meanwhile is answered at its end.

    A long block asks `is_requested` from time to time, and then comes to its end.
    """
    if threading.current_thread() is not threading.main_thread():  # which nothing interrupts
        yield
        return
    _request.depth += 1
    try:
        yield
    finally:
        _request.depth -= 1
    if not _request.depth:
        raise_if_requested()


def is_requested() -> bool:
    """Returns whether a signal has asked this process to stop."""
    return bool(_request.signal_name)


def raise_if_requested(where: str = "") -> None:
    """Raises Interrupted if a signal has asked for it; `where` says what is kept."""
    if is_requested():
        raise Interrupted(_request.signal_name, where)


def _comes_of_interruption(error: BaseException | None) -> bool:
    return isinstance(error, Interrupted) or (error is not None and _comes_of_interruption(error.__context__))


def _on_dropped(hook: Callable[[Any], None], dropped: Any) -> None:
    """Has an interruption that Python drops raised again; `hook` answers for all else."""
    if isinstance(dropped.exc_value, Interrupted):
        signal.setitimer(signal.ITIMER_REAL, _SECONDS_UNTIL_AGAIN)
    else:
        hook(dropped)


def _on_alarm(number: int, frame: Any) -> None:
    del number, frame
    if not _request.depth:
        raise_if_requested()


def _on_signal(number: int, frame: Any) -> None:
    del frame
    # The system's own answer ends the process even in the middle of a compilation, where Python runs no handler.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _request.signal_name = signal.Signals(number).name
    if not _request.depth:
        raise_if_requested()
    # Not `print`: the signal may have come in the middle of one.
    with contextlib.suppress(OSError):  # of `... 2>&1 | tee log`, Ctrl-C ends tee, too
        os.write(2, f"\n{_request.signal_name}: stopping after the step at hand; Ctrl-C stops at once\n".encode())
