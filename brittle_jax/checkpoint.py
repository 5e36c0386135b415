"""Weights of finished networks on disk: the only module that knows Orbax."""

import errno
import json
import os
import pathlib
import shutil
from typing import Any

import jax
import orbax.checkpoint as ocp

from brittle_jax.errors import UserError

_DESCRIPTION = "description.json"  # written last: where it is, the weights are whole
_MOST_OVERHEAD_BYTES = 2**20  # of Orbax's own files beside the weights


def save(folder: pathlib.Path, variables: dict[str, Any], description: dict[str, Any]) -> None:
    """Writes a network's weights, and what is known about them, to a folder of their own.

    Raises:
        OSError: where the disk is full, and nothing is written.
    """
    shutil.rmtree(folder, ignore_errors=True)  # what an interrupted run left
    folder.mkdir(parents=True)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(variables))
    if shutil.disk_usage(folder).free < size + _MOST_OVERHEAD_BYTES:  # which Orbax would tell by pages of tracebacks
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder.resolve() / "variables", jax.device_get(variables))
    partial = folder / f"{_DESCRIPTION}.partial"
    partial.write_text(json.dumps(description))
    partial.rename(folder / _DESCRIPTION)


def exists(folder: pathlib.Path) -> bool:
    """Returns whether a folder holds a whole network."""
    return (folder / _DESCRIPTION).is_file()


def restore(folder: pathlib.Path, like: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads weights and description back; `like` has the shapes and types of the weights.

    Raises:
        UserError: where the files are damaged, or of another network.
    """
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), like)
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            variables = checkpointer.restore(folder.resolve() / "variables", like)
        return variables, json.loads((folder / _DESCRIPTION).read_text())
    except Exception as error:  # of Orbax, of what it reads with, of JSON: there is no common class
        reason = " ".join(str(error).split())[:120]
        raise UserError(
            f"{folder} is damaged, or of another network: delete it and run again ({type(error).__name__}: {reason})"
        ) from error
