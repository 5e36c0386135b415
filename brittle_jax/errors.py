"""Errors that are not bugs in this program: user mistakes, and data that cannot give an answer."""

import errno
import os
import pathlib

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)  # of an OSError


class UserError(Exception):
    """A mistake in usage, configuration or input. Its message is one line: what is wrong, where, and how to fix it.

    Commands print the message without a traceback and exit with code 2. A message names settings by their dotted
    names, such as `distill.learning_rate`; the command line turns these into flags.
    """


class DegenerateDataError(ValueError):
    """Numbers that do not vary, or are too few, where their spread is needed."""


class DivergedError(UserError):
    """A training whose loss, or weights, are no longer finite numbers."""

    def __init__(self, what: str, rate_setting: str):
        super().__init__(f"{what}: lower {rate_setting}")


class BusyError(UserError):
    """Something that this run needs is in use by another run; the same command works once that has ended."""


class OutOfMemoryError(UserError):
    """A work that does not fit in the memory of the machine, or of its accelerator."""

    def __init__(self, what: str, size_setting: str):
        super().__init__(f"{what}: out of memory; lower {size_setting}")


class Interrupted(BaseException):
    """A signal has asked the program to stop. Like KeyboardInterrupt it is no Exception, so that nothing swallows it.

    Attributes:
        signal_name: such as SIGTERM.
        where: what is kept of the work that was interrupted; empty if it is done again from its beginning.
    """

    def __init__(self, signal_name: str, where: str = ""):
        self.signal_name, self.where = signal_name, where
        super().__init__(f"{signal_name}{f'; {where}' if where else ''}")


def says_disk_full(error: BaseException) -> bool:
    """Returns whether an error comes from a full disk or quota; Orbax only mentions it in its message."""
    if getattr(error, "errno", None) in DISK_FULL or any(os.strerror(number) in str(error) for number in DISK_FULL):
        return True
    return error.__context__ is not None and says_disk_full(error.__context__)


MISSING = "missing"


class DamagedError(UserError):
    """A file that this project wrote is missing or has changed.

    Attributes:
        path: the file, or the folder of what is stored as one, such as a network.
        reason: what is wrong with it; MISSING if it does not exist.
    """

    def __init__(self, path: pathlib.Path, reason: str):
        self.path, self.reason = path, reason
        state = reason if reason == MISSING else f"damaged ({reason})"
        super().__init__(f"{path} is {state}: restore it from a copy, or run the command that wrote it again")
