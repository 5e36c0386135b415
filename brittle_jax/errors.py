"""Errors that are not bugs of this program: mistakes of the person at the keyboard, and data that say nothing."""


class UserError(Exception):
    """A mistake in usage, configuration or input: one line that says what, where, and how to mend it.

    The commands print it without a traceback and exit with 2.
    """


class DegenerateDataError(ValueError):
    """Numbers that do not vary, or are too few, where their spread is asked for."""
