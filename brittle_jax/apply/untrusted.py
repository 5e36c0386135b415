"""Checks of a run's folder that others may have made, before anything in it is read.

Networks are arrays and JSON, so loading them runs no code. What is left are links that lead elsewhere, and files that
are, or claim to be, larger than any run's.
"""

import contextlib
import os
import pathlib
from collections.abc import Iterator

from brittle_jax import checkpoint, files
from brittle_jax.errors import DamagedError

_MOST_JSON_BYTES = 2**24  # of a network's description or manifest
_MOST_FILES = 10_000  # of a network


def check_inside(folder: pathlib.Path, run: pathlib.Path) -> None:
    """Raises DamagedError unless a folder lies below the run's without a link on the way; it need not exist.

    The run's own folder may be a link: whoever names it knows it.
    """
    if ".." in folder.parts[len(run.parts) :] or not folder.is_relative_to(run) or folder == run:
        raise DamagedError(folder, f"outside of {run}")
    for part in (folder, *folder.parents):
        if part == run:
            return
        if part.is_symlink():
            raise DamagedError(part, "a link")


def check_network(folder: pathlib.Path) -> None:
    """Raises DamagedError where a network's folder holds a link, or files that are no network's."""
    num_files = 0
    for parent, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = pathlib.Path(parent, name)
            if path.is_symlink():
                raise DamagedError(path, "a link")
            num_files += 1
        if num_files > _MOST_FILES:
            raise DamagedError(folder, f"more than {_MOST_FILES:,} files")
    for name in (files.MANIFEST, checkpoint.DESCRIPTION):
        if (folder / name).exists():
            files.check_regular(folder / name, _MOST_JSON_BYTES)


@contextlib.contextmanager
def as_damage(file: pathlib.Path) -> Iterator[None]:
    """Turns what goes wrong when the content of a file is used into a DamagedError."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())[:120]
        raise DamagedError(file, f"not as it was written, {type(error).__name__}: {reason}") from error
