"""The folder of a run: new, unfinished, finished, or somebody else's."""

import json
import pathlib
import shutil

import ml_collections

from brittle_jax.config import flatten
from brittle_jax.errors import UserError
from brittle_jax.results import write_json

# The images may have moved, and a row may have been given another name, without it being another run.
_NOT_COMPARED = {"data.dir", "row", "word"}


def is_finished(folder: pathlib.Path) -> bool:
    """Returns whether the run in a folder has its results."""
    return (folder / "results.json").is_file()


def check(folder: pathlib.Path, config: ml_collections.ConfigDict) -> None:
    """Raises UserError where a folder cannot be this run's: another config's, or not a run's at all."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--workdir={folder} is a file: name a folder")
    if not folder.exists() or not any(folder.iterdir()):
        return
    theirs = _read_config(folder)
    ours = flatten(config)
    for name in ours:
        if name not in _NOT_COMPARED and (name not in theirs or theirs[name] != ours[name]):
            raise UserError(
                f"--workdir={folder} belongs to a run with {name}={theirs.get(name)!r}, not {ours[name]!r}: "
                "name another --workdir, or start anew with --overwrite"
            )


def prepare(folder: pathlib.Path, config: ml_collections.ConfigDict, *, overwrite: bool) -> None:
    """Makes the folder, with config.json in it; with `overwrite`, drops what an earlier run left there.

    Raises:
        UserError: where it cannot be written, or where what is there is not a run's.
    """
    try:
        if overwrite and folder.is_dir() and any(folder.iterdir()):
            _read_config(folder)  # raises where it is not a run's folder: nothing else is ever deleted
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "config.json", flatten(config))
    except OSError as error:
        raise UserError(f"--workdir={folder} cannot be written: {error.strerror}") from error


def _read_config(folder: pathlib.Path) -> dict[str, object]:
    try:
        return json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        raise UserError(
            f"--workdir={folder} is not empty, and has no config.json of a run: name another folder"
        ) from None
