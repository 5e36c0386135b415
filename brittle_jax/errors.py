"""The one exception for mistakes of the person at the keyboard."""


class UserError(Exception):
    """A mistake in usage, configuration or input: one line that says what, where, and how to mend it.

    The commands print it without a traceback and exit with 2.
    """
