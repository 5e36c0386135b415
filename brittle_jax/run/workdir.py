"""The folder of a run: new, unfinished, finished, or another run's."""

import contextlib
import os
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import ml_collections

from brittle_jax import checkpoint, console, files, interrupt
from brittle_jax.config import flatten, get_base_config, parcels_version
from brittle_jax.errors import DISK_FULL, DamagedError, UserError
from brittle_jax.models.network import ARCHITECTURES
from brittle_jax.run import holding

# The images may have moved, and a row may have been given another name, without it being another run: splits.json has
# the digests of the images.
_NOT_COMPARED = {"data.dir", "data.path", "teacher.store", "row", "word"}
# What a run writes: nothing else is ever deleted.
_FILES = (files.MANIFEST, "results.json", "splits.json", "metrics.jsonl", "stages.json", "config.json")
_PROGRESS = "progress"  # what an unfinished run needs to continue
_LATER = "recalibration"  # what `brittle_jax.score --recalibrate` adds to a finished run
_FOLDERS = (
    "scores",
    "calibration",
    "heat_maps",
    "brittleness",
    "checkpoints",
    "tensorboard",
    "examples",
    "report",
    _PROGRESS,
    _LATER,
)
# What the manifest of a finished run lists besides results.json. The page has a manifest of its own.
_LISTED = set(_FILES + _FOLDERS) - {files.MANIFEST, "results.json", "report", _PROGRESS, _LATER}
_NOT_MADE_AGAIN = ("metrics.jsonl", "tensorboard")  # written by trainings, which are not made again for them
# What a run may leave that is killed before it has written config.json.
_BEFORE_CONFIG = {holding.LOCK, holding.HOLDER, f"{holding.HOLDER}.partial", "config.json.partial"}
# By these keys a file is known to be a run's.
_KEYS = {
    "config.json": {"row", "seed", "data.name", "teacher.task", "network.name"},
    "results.json": {"format_version", "row", "configurations"},
    "splits.json": {"images"},
    files.MANIFEST: {"format_version", "sha256"},
}
_EARLIER_INITIALISER = "uniform"  # of all architectures
_PARCELS_VERSION = "data.parcels.version"  # no setting, but what the embedded parcels of a run depend on, too
_ANOTHER = "name another --workdir, or start anew with --overwrite"


def is_finished(folder: pathlib.Path) -> bool:
    """Returns whether the run in a folder has ended, be its files sound or not: see `damage`."""
    return any(os.path.lexists(folder / name) for name in ("results.json", files.MANIFEST))


def finish(folder: pathlib.Path, content: Mapping[str, Any]) -> None:
    """Finishes a run: writes the manifest of its files, then results.json, and deletes what it needed to continue."""
    text = files.to_json({**content, "manifest": files.MANIFEST})
    digests = files.digests_of(folder, only=_LISTED)
    with interrupt.deferred():  # between the two the run would look damaged
        files.write_manifest(folder, {**digests, "results.json": files.sha256_of_text(text)})
        files.write_text(folder / "results.json", text)
    drop_progress(folder)


def drop_progress(folder: pathlib.Path) -> None:
    """Deletes what a finished run no longer needs; a warning says if that fails."""
    try:
        files.drop(folder / _PROGRESS)
    except OSError as error:  # the results are safe
        console.warn(f"{folder / _PROGRESS} is no longer needed, but cannot be deleted ({error.strerror}): delete it")


def is_unverified(folder: pathlib.Path) -> bool:
    """Returns whether the run in a folder is of a version that wrote no manifest."""
    if os.path.lexists(folder / files.MANIFEST):
        return False
    results = _read(folder, "results.json")
    return results is not None and "manifest" not in results


def damage(folder: pathlib.Path) -> dict[str, str]:
    """Returns what is wrong with the files of a finished run, such as "missing" or "changed", by their path in it.

    Of a run without a manifest, only files that cannot be read are known to be damaged.
    """
    if not os.path.lexists(folder / files.MANIFEST):
        names = [name for name in _KEYS if name != files.MANIFEST and _read(folder, name) is None]
        if "results.json" not in names and not is_unverified(folder):
            names.append(files.MANIFEST)
        return dict.fromkeys(names, "missing, or not as a run writes it")
    try:
        return files.changes_since_manifest(folder)
    except DamagedError as error:
        return {files.MANIFEST: error.reason}


def describe_damage(damage: Mapping[str, str], most: int = 5) -> str:
    """Returns `damage` as text for a message."""
    shown = [f"{name} ({what})" for name, what in list(damage.items())[:most]]
    return ", ".join([*shown, *([f"and {len(damage) - most} more"] if len(damage) > most else [])])


def not_made_again(damage: Mapping[str, str]) -> list[str]:
    """Returns which damaged files of a finished run it cannot make again."""
    return sorted({name.split("/")[0] for name in damage} & set(_NOT_MADE_AGAIN))


def names_same_folder(folder: pathlib.Path, config: ml_collections.ConfigDict) -> bool:
    """Returns whether `data.path` is that of the run in a folder, however it is spelled.

    Where it is not, it may still hold the same images: splits.json tells.
    """
    recorded, requested = (_read(folder, "config.json") or {}).get("data.path", ""), config.data.path
    return recorded == requested or bool(recorded and requested and _real(recorded) == _real(requested))


def _real(path: str) -> str:
    return os.path.realpath(os.path.expanduser(path))


def _read(folder: pathlib.Path, name: str) -> dict[str, Any] | None:
    """Reads one of a run's files; None where it is missing, damaged, or not a run's."""
    try:
        content = files.read_json(folder / name)
    except DamagedError:
        return None
    return content if isinstance(content, dict) and _KEYS[name] <= content.keys() else None


def check(folder: pathlib.Path, config: ml_collections.ConfigDict, *, overwrite: bool, advice: str = _ANOTHER) -> None:
    """Raises UserError where a folder cannot be this run's, or cannot be written; changes nothing.

    It can be where it does not exist yet, is empty, or holds a run with the same settings; with `overwrite`,
    where it holds any run. `advice` tells the user what to do where it holds a run with other settings.
    """
    with _reporting_os_errors(folder):
        existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
        if not existing.is_dir():
            raise UserError(f"--workdir={folder}: {existing} is a file, name a folder")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise UserError(f"--workdir={folder} cannot be written: no permission in {existing}")
        if not folder.exists() or {entry.name for entry in folder.iterdir()} <= _BEFORE_CONFIG:
            return
        written = _read(folder, "config.json")
        if written is None and all(_read(folder, name) is None for name in _KEYS):
            raise UserError(f"--workdir={folder} is not empty, and has no config.json of a run: name another")
        own = [*_FILES, *_FOLDERS, *(each.name for each in _folders_of_seeds(folder))]
        if links := [name for name in own if (folder / name).is_symlink()]:
            raise UserError(
                f"--workdir={folder}: {links[0]} is a link, but a run keeps its files in its own folder: put what it "
                "leads to in its place"
            )
    if overwrite:
        return
    # What the networks say is safe from damage; config.json tells where there are none yet.
    recorded = next((origin["settings"] for origin in _origins(folder)), written)
    if recorded is not None and (difference := _difference(recorded, _settings(config))) is not None:
        raise UserError(f"--workdir={folder} belongs to a run with {difference}: {advice}")
    if written is None or _difference(written, _settings(config)) is not None:
        console.warn(f"{folder / 'config.json'} is missing or damaged: it is written again")


def _origins(folder: pathlib.Path) -> list[dict[str, Any]]:
    """Returns what the networks in a run's folder were made from, as far as that is known and undamaged."""
    found = map(checkpoint.made_from, checkpoint.find_networks(folder / "checkpoints"))
    return [origin for origin in found if origin is not None]


def _settings(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Returns the settings by name, and what earlier versions had otherwise: initialiser and embedded parcels."""
    architecture = ARCHITECTURES.get(config.network.name)
    initialiser = getattr(architecture.trunk, "initialiser", _EARLIER_INITIALISER) if architecture else ""
    version = parcels_version(config)
    parcels = {} if version is None else {_PARCELS_VERSION: version}
    return {**flatten(config), "network.initialiser": initialiser, **parcels}


def _difference(recorded: Mapping[str, Any], requested: Mapping[str, Any]) -> str | None:
    """Returns the first setting that differs, or other parcels, as text; one that is not recorded had its default."""
    defaults = flatten(get_base_config()) | {"network.initialiser": _EARLIER_INITIALISER}
    for name, value in requested.items():
        if name == _PARCELS_VERSION and recorded.get(name) != value:
            return f"{describe_parcels(recorded.get(name))}, not {describe_parcels(value)}"
        if name not in _NOT_COMPARED and recorded.get(name, defaults.get(name)) != value:
            return f"{name}={recorded.get(name, defaults.get(name))!r}, not {value!r}"
    return None


def describe_parcels(version: str | None) -> str:
    """Returns what a run was on, by the version of its embedded parcels: before 4.0.0, runs did not record that."""
    return f"embedded parcels of version {version}" if version else "earlier embedded parcels, or other images"


def made_from(config: ml_collections.ConfigDict, splits: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what the networks of a run depend on: settings, and a digest of its images and how they are split."""
    settings = {name: value for name, value in _settings(config).items() if name not in _NOT_COMPARED}
    return {"settings": settings, "splits_sha256": files.sha256_of_text(files.to_json(splits))}


def check_splits(folder: pathlib.Path, config: ml_collections.ConfigDict, splits: Mapping[str, Any]) -> None:
    """Raises UserError where the run in a folder began with other images, or split them otherwise.

    Its networks tell what they were made from, and where there are none yet, its splits.json.
    """
    requested, recorded = made_from(config, splits), _read(folder, "splits.json")
    origins = _origins(folder)
    if any(_difference(origin["settings"], requested["settings"]) is not None for origin in origins):
        raise UserError(f"--workdir={folder} has networks of several runs: {_ANOTHER}")
    is_other = any(origin["splits_sha256"] != requested["splits_sha256"] for origin in origins)
    if is_other or (not origins and recorded is not None and recorded != splits):
        was_made_up = (
            recorded is not None and recorded["images"].get("synthetic") and not splits["images"].get("synthetic")
        )
        raise UserError(
            f"--workdir={folder} belongs to a run on {'made-up' if was_made_up else 'other'} images, not on those that "
            f"data.path or data.dir has: {_ANOTHER}"
        )
    if recorded is None or _read(folder, "config.json") is None:
        for network in checkpoint.find_networks(folder / "checkpoints"):
            if checkpoint.is_unverified(network):
                raise UserError(f"{network} cannot be told to be of these settings and images: {_ANOTHER}")


@contextlib.contextmanager
def opened(
    folder: pathlib.Path, config: ml_collections.ConfigDict, splits: dict[str, Any] | None, *, overwrite: bool
) -> Iterator[holding.Held]:
    """Holds a checked folder for one run, with config.json and splits.json in it.

    Args:
        splits: which images these are, and which of them train and test; None for a repeated row, where the run of each
            seed has its own.
        overwrite: delete what an earlier run left there.

    Yields:
        The folder as this process holds it; its `check` tells whether it is still there.

    Raises:
        BusyError: if another process holds it.
        UserError: if it cannot be written, or the run in it began with other images.
        OSError: if the disk is full.
    """
    with contextlib.ExitStack() as stack:
        with _reporting_os_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            held = stack.enter_context(holding.hold(folder))
            if overwrite:
                _drop_run(folder)
            elif splits is not None:
                check_splits(folder, config, splits)
            files.write_json(folder / "config.json", _settings(config))
            if splits is not None:
                files.write_json(folder / "splits.json", splits, indent=None)
        yield held


def folder_of_seed(folder: pathlib.Path, seed: int) -> pathlib.Path:
    """Returns where a repeated row keeps the run of one seed."""
    return folder / f"seed-{seed}"


def _folders_of_seeds(folder: pathlib.Path) -> list[pathlib.Path]:
    return [each for each in folder.glob("seed-*") if re.fullmatch(r"seed-\d+", each.name)]


def _drop_run(folder: pathlib.Path) -> None:
    """Deletes an earlier run, except for config.json: it tells that the folder is a run's until it is replaced.

    Of a repeated row, the runs of all seeds go first, with their config.json.
    """
    for each in _folders_of_seeds(folder):
        if any(_read(each, name) is not None for name in _KEYS):
            with holding.hold(each):
                _drop_run(each)
                files.drop(each / "config.json")
    for name in _FOLDERS + _FILES:
        if name != "config.json" or not (folder / name).is_file():
            files.drop(folder / name)


@contextlib.contextmanager
def _reporting_os_errors(folder: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        if getattr(error, "errno", None) in DISK_FULL:
            raise
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--workdir={str(folder)[:200]} cannot be used: {reason}") from error
