"""Weights of finished networks on disk: the only module that knows Orbax."""

import json
import pathlib
import shutil
from typing import Any

import jax
import orbax.checkpoint as ocp

from brittle_jax.errors import UserError

_DESCRIPTION = "description.json"  # written last: where it is, the weights are whole


def save(folder: pathlib.Path, variables: dict[str, Any], description: dict[str, Any]) -> None:
    """Writes a network's weights, and what is known about them, to a folder of their own."""
    shutil.rmtree(folder, ignore_errors=True)  # what an interrupted run left
    folder.mkdir(parents=True)
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
