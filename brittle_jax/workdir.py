"""The folder of a run: new, unfinished, finished, or somebody else's."""

import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import filelock
import ml_collections

from brittle_jax.config import flatten
from brittle_jax.errors import UserError
from brittle_jax.results import write_json

# The images may have moved, and a row may have been given another name, without it being another run.
_NOT_COMPARED = {"data.dir", "teacher.store", "row", "word"}
# What a run writes: nothing else is ever deleted.
_FILES = ("results.json", "splits.json", "metrics.jsonl", "stages.json", "config.json")
_FOLDERS = ("scores", "checkpoints", "tensorboard", "examples", "report")


def is_finished(folder: pathlib.Path) -> bool:
    """Returns whether the run in a folder has its results."""
    return (folder / "results.json").is_file()


def check(folder: pathlib.Path, config: ml_collections.ConfigDict, *, overwrite: bool) -> None:
    """Raises UserError where a folder cannot be this run's, or cannot be written; changes nothing.

    It can be where it does not exist yet, is empty, or holds a run with the same settings; with `overwrite`,
    where it holds any run.
    """
    with _reporting_os_errors(folder):
        existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
        if not existing.is_dir():
            raise UserError(f"--workdir={folder}: {existing} is a file, name a folder")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise UserError(f"--workdir={folder} cannot be written: no permission in {existing}")
        if not folder.exists() or {entry.name for entry in folder.iterdir()} <= {".lock"}:
            return
        theirs = _read_config(folder, flatten(config))
    if overwrite:
        return
    for name, ours in flatten(config).items():
        if name not in _NOT_COMPARED and theirs[name] != ours:
            raise UserError(
                f"--workdir={folder} belongs to a run with {name}={theirs[name]!r}, not {ours!r}: "
                "name another --workdir, or start anew with --overwrite"
            )


@contextlib.contextmanager
def opened(
    folder: pathlib.Path, config: ml_collections.ConfigDict, splits: dict[str, Any], *, overwrite: bool
) -> Iterator[None]:
    """Holds a checked folder for one run, with config.json and splits.json in it.

    Args:
        splits: which images these are, and which of them train and test.
        overwrite: drop what an earlier run left there.

    Raises:
        UserError: where another process holds it, it cannot be written, or the run in it began with other images.
    """
    with _reporting_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise UserError(f"--workdir={folder} is in use by another process: wait for it, or name another") from None
    try:
        with _reporting_os_errors(folder):
            if overwrite:
                _drop_run(folder)
            elif (folder / "splits.json").is_file() and json.loads((folder / "splits.json").read_text()) != splits:
                raise UserError(
                    f"--workdir={folder} belongs to a run on other images than --config.data.dir or .path has: "
                    "name another --workdir, or start anew with --overwrite"
                )
            write_json(folder / "config.json", flatten(config))
            write_json(folder / "splits.json", splits, indent=None)
        yield
    finally:
        lock.release()


def _drop_run(folder: pathlib.Path) -> None:
    for name in _FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in _FILES:
        (folder / name).unlink(missing_ok=True)


def _read_config(folder: pathlib.Path, like: dict[str, object]) -> dict[str, object]:
    """Reads config.json, and makes sure that it is one of ours: it has all of our fields."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        content = json.loads((folder / "config.json").read_text())
        if isinstance(content, dict) and like.keys() <= content.keys():
            return content
    raise UserError(f"--workdir={folder} is not empty, and has no config.json of a run of this version: name another")


@contextlib.contextmanager
def _reporting_os_errors(folder: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a file of the run is damaged
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--workdir={str(folder)[:200]} cannot be used: {reason}") from error
