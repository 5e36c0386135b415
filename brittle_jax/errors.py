"""Errors that are not bugs in this program: user mistakes, and data that cannot give an answer."""

import pathlib


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
