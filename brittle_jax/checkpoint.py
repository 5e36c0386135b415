"""Networks and states of trainings on disk, with digests of all their files: the only module that knows Orbax."""

import errno
import json
import math
import os
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import flax.serialization
import jax
import numpy as np
import orbax.checkpoint as ocp

from brittle_jax import console, files, interrupt
from brittle_jax.background import Background
from brittle_jax.errors import DamagedError

_VARIABLES = "variables"
DESCRIPTION, _MADE_FROM = "network.json", "made_from.json"
_EARLIER_DESCRIPTION = "description.json"  # of versions that kept no digests
_MOST_OVERHEAD_BYTES = 2**20  # of Orbax's own files beside the weights
_MOST_INFLATION = 1000  # of weights by decompression; matrices of few directions are nearly all zeros
_NUM_KEPT = 2  # states of a training: if the newest is damaged, there is the one before


def save(
    folder: pathlib.Path, variables: dict[str, Any], description: Mapping[str, Any], made_from: Mapping[str, Any]
) -> None:
    """Writes a network's weights, and what is known about them, to a folder of their own.

    The manifest, which lists the digests of all files, is written last: where it is, the network is whole.

    Args:
        description: what is known about the network, ready for JSON.
        made_from: the settings and images that it depends on, ready for JSON.

    Raises:
        UserError: if the folder cannot be written.
        OSError: if the disk is full; then nothing is written.
    """
    with interrupt.deferred(), files.explaining_write_errors(folder):
        files.drop(folder)  # what an interrupted run left, or a damaged network
        folder.mkdir(parents=True)
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(variables))
        # Orbax would report a full disk with pages of tracebacks.
        if shutil.disk_usage(folder).free < size + _MOST_OVERHEAD_BYTES:
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


@interrupt.deferred()  # Orbax would leave event loops behind, which complain when they are collected
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
        _check_bytes(folder, like)
        with ocp.StandardCheckpointer() as checkpointer:
            _check_arrays(checkpointer.metadata(folder.resolve() / _VARIABLES).item_metadata.tree, like)
            variables = checkpointer.restore(folder.resolve() / _VARIABLES, like)
        name = _EARLIER_DESCRIPTION if is_unverified(folder) else DESCRIPTION
        return variables, json.loads(files.read_text(folder / name))
    except (MemoryError, jax.errors.JaxRuntimeError):  # no damage
        raise
    except Exception as error:  # of Orbax, of what it reads with, of JSON: there is no common class
        reason = " ".join(str(error).split())[:120]
        raise DamagedError(folder, f"or of another network; {type(error).__name__}: {reason}") from error


def _check_bytes(folder: pathlib.Path, like: Any) -> None:
    """Raises ValueError where arrays would take far more memory than their files can hold."""
    on_disk = sum(file.lstat().st_size for file in folder.rglob("*"))
    in_memory = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(like))
    if in_memory > _MOST_INFLATION * on_disk + _MOST_OVERHEAD_BYTES:
        raise ValueError(f"{on_disk:,} bytes on disk cannot be {in_memory:,} bytes of weights")


def _check_arrays(found: Any, like: Any) -> None:
    """Raises ValueError where arrays on disk differ in shape from those that are wanted, or have larger chunks.

    Only their headers are read. What others have made may say anything, and a chunk is unpacked as a whole.
    """
    found = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(found)}
    for path, wanted in jax.tree_util.tree_leaves_with_path(like):
        name = jax.tree_util.keystr(path)
        array = found.get(name)
        if array is None or getattr(array, "shape", None) is None:
            continue  # Orbax says what is missing
        if tuple(array.shape) != tuple(wanted.shape):
            raise ValueError(f"{name} has the shape {tuple(array.shape)}, not {tuple(wanted.shape)}")
        chunk = array.storage.chunk_shape if array.storage is not None else None
        if chunk is not None and math.prod(chunk) > max(math.prod(array.shape), 1):
            raise ValueError(f"{name} has chunks of {tuple(chunk)}, more than its shape {tuple(array.shape)}")


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


class Steps:
    """States of a training that goes on, each in a folder named after its step; the last two are kept.

    States are any pytrees that `flax.serialization` knows.
    """

    def __init__(self, folder: pathlib.Path, made_from: Mapping[str, Any], background: Background):
        """Writes nothing yet.

        Args:
            made_from: what the training depends on, ready for JSON. States of another training are never restored.
            background: what writes the states.
        """
        self._folder, self._background = folder, background
        self._made_from = json.loads(files.to_json(made_from))  # as it is read back
        self._damaged: set[pathlib.Path] = set()

    def newest(self, like: Any) -> tuple[Any, dict[str, Any]] | None:
        """Returns the newest state that is sound, on the host, and its description; None if there is none.

        Those that are damaged are warned of, by name.

        Args:
            like: has the structure, shapes and types of the state.
        """
        for folder in reversed(self._folders()):
            try:
                check(folder)
                if made_from(folder) != self._made_from:
                    continue
                leaves, description = restore(folder, flax.serialization.to_state_dict(like), verify=False)
            except DamagedError as error:
                console.warn(f"{folder} is damaged ({error.reason}): the training goes on from an earlier state")
                self._damaged.add(folder)
                continue
            return flax.serialization.from_state_dict(like, leaves), description
        return None

    def save(self, step: int, state: Any, description: Mapping[str, Any]) -> None:
        """Starts to write the state after `step` steps. It is copied first: its arrays may be used up at once.

        Args:
            description: what else there is to know, ready for JSON.

        Raises:
            OSError: if the state before could not be written, because the disk is full.
        """
        leaves = flax.serialization.to_state_dict(jax.tree.map(np.array, state))
        folder = self._folder / f"{step:012d}"

        def write() -> None:
            # Others were cut off in writing, or are damaged: the training would have gone on from a later one.
            self._keep_only([each for each in self._folders() if each < folder and each not in self._damaged])
            save(folder, leaves, description, self._made_from)
            self._keep_only(self._folders()[-_NUM_KEPT:])

        self._background.start(write)

    def _folders(self) -> list[pathlib.Path]:
        """Returns the folders of whole states, the oldest first; one that was cut off in writing has no manifest."""
        return sorted(each for each in self._entries() if os.path.lexists(each / files.MANIFEST))

    def _keep_only(self, folders: Sequence[pathlib.Path]) -> None:
        for other in set(self._entries()).difference(folders):
            files.drop(other)

    def _entries(self) -> list[pathlib.Path]:
        return list(self._folder.iterdir()) if self._folder.is_dir() else []
