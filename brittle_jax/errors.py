"""Errors that are not bugs of this program: mistakes of the person at the keyboard, and data that say nothing."""

import pathlib


class UserError(Exception):
    """A mistake in usage, configuration or input: one line that says what, where, and how to mend it.

    The commands print it without a traceback and exit with 2.
    """


class DegenerateDataError(ValueError):
    """Numbers that do not vary, or are too few, where their spread is asked for."""


class DivergedError(UserError):
    """A training whose loss, or weights, are no longer finite numbers."""

    def __init__(self, what: str, rate_setting: str):
        super().__init__(f"{what}: lower {rate_setting}")


MISSING = "missing"


class DamagedError(UserError):
    """A file that this project wrote is missing, or not as it was written.

    Attributes:
        path: of the file, or of the folder that is one thing, such as a network.
        reason: what is wrong with it; MISSING where it is not there.
    """

    def __init__(self, path: pathlib.Path, reason: str):
        self.path, self.reason = path, reason
        state = reason if reason == MISSING else f"damaged ({reason})"
        super().__init__(f"{path} is {state}: restore it from a copy, or run the command that wrote it again")
