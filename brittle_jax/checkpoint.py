"""Finished networks on disk, with digests of all their files: the only module that knows Orbax."""

import errno
import json
import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp

from brittle_jax import console, files
from brittle_jax.errors import DamagedError

_VARIABLES = "variables"
DESCRIPTION, _MADE_FROM = "network.json", "made_from.json"
_EARLIER_DESCRIPTION = "description.json"  # of versions that kept no digests
_MOST_OVERHEAD_BYTES = 2**20  # of Orbax's own files beside the weights


def save(
    folder: pathlib.Path, variables: dict[str, Any], description: Mapping[str, Any], made_from: Mapping[str, Any]
) -> None:
    """Writes a network's weights, and what is known about them, to a folder of their own.

    The manifest, which lists the digests of all files, is written last: where it is, the network is whole.

    Args:
        description: what is known about the network, ready for JSON.
        made_from: the settings and images that it depends on, ready for JSON.

    Raises:
        OSError: where the disk is full, and nothing is written.
    """
    files.drop(folder)  # what an interrupted run left, or a damaged network
    folder.mkdir(parents=True)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(variables))
    if shutil.disk_usage(folder).free < size + _MOST_OVERHEAD_BYTES:  # Orbax would report it with pages of tracebacks
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder.resolve() / _VARIABLES, jax.device_get(variables))
    files.write_json(folder / DESCRIPTION, description)
    files.write_json(folder / _MADE_FROM, made_from)
    files.write_manifest(folder, files.digests_of(folder))


def exists(folder: pathlib.Path) -> bool:
    """Returns whether a folder holds a whole network, damaged or not."""
    return os.path.lexists(folder / files.MANIFEST) or is_unverified(folder)


def is_unverified(folder: pathlib.Path) -> bool:
    """Returns whether a folder holds a network of a version that kept no digests."""
    return (folder / _EARLIER_DESCRIPTION).is_file() and not any(
        os.path.lexists(folder / name) for name in (files.MANIFEST, _MADE_FROM, DESCRIPTION)
    )


def check(folder: pathlib.Path) -> None:
    """Raises DamagedError where a network's files are not as they were written; a network without digests passes."""
    if folder.is_symlink():
        raise DamagedError(folder, "a link")
    if is_unverified(folder):
        return
    changes = files.changes_since_manifest(folder)
    if changes:
        name, change = next(iter(changes.items()))
        others = f", and {len(changes) - 1} more" if len(changes) > 1 else ""
        raise DamagedError(folder, f"{name}: {change}{others}")


def restore(
    folder: pathlib.Path, like: Mapping[str, Any], *, verify: bool = True
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads weights and description back.

    Args:
        like: has the shapes and types of the weights.
        verify: compare all files with their digests first. Orbax itself restores most flipped bits without a word.

    Raises:
        DamagedError: where the files have changed, or are of another network.
    """
    if verify:
        check(folder)
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), like)
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            variables = checkpointer.restore(folder.resolve() / _VARIABLES, like)
        name = _EARLIER_DESCRIPTION if is_unverified(folder) else DESCRIPTION
        return variables, json.loads(files.read_text(folder / name))
    except Exception as error:  # of Orbax, of what it reads with, of JSON: there is no common class
        reason = " ".join(str(error).split())[:120]
        raise DamagedError(folder, f"or of another network; {type(error).__name__}: {reason}") from error


def recover(folder: pathlib.Path, like: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Reads a network as `restore` does; None where there is none, or a damaged one, which is to be made anew.

    A damaged network is warned of, by name.
    """
    if not exists(folder):
        if (folder / DESCRIPTION).exists():
            console.warn(f"{folder} has no {files.MANIFEST}: it was never finished, or is damaged, and is made anew")
        return None
    if is_unverified(folder):
        console.warn(f"{folder} is unverified: it was saved by a version that kept no digests")
    try:
        return restore(folder, like)
    except DamagedError as error:
        console.warn(f"{folder} is damaged ({error.reason}): it is made anew")
        return None


def made_from(folder: pathlib.Path) -> dict[str, Any] | None:
    """Returns the settings and images that a network was made from; None where that is not known, or damaged."""
    return files.read_json(folder / _MADE_FROM) if files.is_as_listed(folder, _MADE_FROM) else None


def find_networks(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the folders of all networks below a folder, sorted."""
    found = {file.parent for name in (files.MANIFEST, _EARLIER_DESCRIPTION) for file in folder.rglob(name)}
    return sorted(each for each in found if exists(each))
