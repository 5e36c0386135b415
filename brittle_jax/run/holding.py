"""Holds a run's folder for one process: keeps other runs out, and notices when the folder vanishes."""

import contextlib
import datetime
import os
import pathlib
import socket
from collections.abc import Iterator

import filelock

from brittle_jax import files
from brittle_jax.errors import BusyError, DamagedError, UserError

LOCK = ".lock"
HOLDER = ".holder.json"  # not in the lock file: who tries to acquire that may truncate it


class Held:
    """A folder that this process holds."""

    def __init__(self, folder: pathlib.Path):
        self._folder = folder
        self._status, self._lock_status = os.stat(folder), os.stat(folder / LOCK)

    def check(self) -> None:
        """Raises UserError if the folder is no longer the one that this process holds, or cannot be reached.

        To be called before writing: `files.replacing` would make the folder again.
        """
        try:
            if self.is_in_place():
                return
            is_only_lock_lost = _is_same(self._folder, self._status)
        except OSError as error:
            raise UserError(
                f"--workdir={self._folder} can no longer be reached ({error.strerror}): restore access to it, then run "
                "the same command again"
            ) from error
        if is_only_lock_lost:
            raise UserError(
                f"--workdir={self._folder}: its file {LOCK}, which keeps other runs out, was deleted while this run "
                "was writing there: run the same command again"
            )
        raise UserError(
            f"--workdir={self._folder} was moved or deleted while this run was writing to it: move it back and run the "
            "same command again"
        )

    def is_in_place(self) -> bool:
        """Returns whether the lock file at the folder's path is the one that this process holds."""
        return _is_same(self._folder / LOCK, self._lock_status)


def _is_same(path: pathlib.Path, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path), status)
    except (FileNotFoundError, NotADirectoryError):
        return False


def check_free(folder: pathlib.Path) -> None:
    """Raises BusyError if another process holds a folder, which need not exist. What it cannot tell, `hold` will."""
    if not all(os.path.exists(folder / name) for name in (LOCK, HOLDER)):
        return
    lock = filelock.FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise _busy(folder) from None
    except OSError:
        return
    lock.release()


@contextlib.contextmanager
def hold(folder: pathlib.Path) -> Iterator[Held]:
    """Holds an existing folder while the block runs.

    Raises:
        BusyError: if another process holds it, which the message names.
        UserError: if it cannot be written.
        OSError: if it cannot be locked, or the disk is full.
    """
    lock = filelock.FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise _busy(folder) from None
    try:
        held = Held(folder)
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        files.write_json(folder / HOLDER, {"process": os.getpid(), "host": socket.gethostname(), "since": now})
        try:
            yield held
        finally:
            with contextlib.suppress(OSError):  # of a folder that has vanished
                if held.is_in_place():  # else the file may be another run's
                    files.drop(folder / HOLDER)
    finally:
        with contextlib.suppress(OSError):  # of a file system that has gone: it frees the lock with the process
            lock.release()


def _busy(folder: pathlib.Path) -> BusyError:
    return BusyError(f"--workdir={folder} is in use by {_holder(folder)}: wait for it, or name another")


def _holder(folder: pathlib.Path) -> str:
    """Returns who holds a folder, as text; the time is that of the reader's time zone."""
    try:
        holder = files.read_json(folder / HOLDER)
        process, host = int(holder["process"]), str(holder["host"])
        since = datetime.datetime.fromisoformat(holder["since"]).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (DamagedError, LookupError, TypeError, ValueError, OverflowError):
        return "another process"
    return f"process {process} on {host}, since {since}" if host.isprintable() else "another process"
