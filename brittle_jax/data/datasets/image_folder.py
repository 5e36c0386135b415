"""Pictures of one's own: a folder `normal` beside folders of anomalies, or a table of paths and labels."""

import os
import pathlib

from brittle_jax import console
from brittle_jax.data.datasets.listing import Entry, Listing, as_text, find_pictures, id_of
from brittle_jax.data.datasets.tables import read_table
from brittle_jax.data.picture_file import SUFFIXES
from brittle_jax.errors import UserError

NORMAL = "normal"
HOW_TO_NAME = "--config.data.path is empty: name the folder that has your pictures"
_SPLITS = ("train", "calibration", "test")


def list_pictures(path: pathlib.Path) -> Listing:
    """Lists the pictures of a folder or a CSV file.

    Args:
        path: a folder, in it `normal` and any number of folders of anomalies, which may hold folders again; or a CSV
            file with the columns `path` (below the file's own folder), `label` (`normal`, or the kind of anomaly) and,
            if splits are to be given, `split` (`train`, `calibration` or `test`).

    Raises:
        UserError: where there is no such folder or file, or it holds no normal pictures.
        OSError: where a folder cannot be listed.
    """
    if not path.exists():
        raise UserError(f"--config.data.path={as_text(path)}: no such folder or file")
    entries = _of_folder(path) if path.is_dir() else _of_table(path)
    classes = (NORMAL, *sorted({entry.label for entry in entries} - {NORMAL}))
    if not any(entry.label == NORMAL for entry in entries):
        raise UserError(f"--config.data.path={as_text(path)} has no pictures of the class {NORMAL}")
    return Listing("image_folder", path if path.is_dir() else path.parent, classes, ("",), tuple(entries))


def _of_folder(folder: pathlib.Path) -> list[Entry]:
    if not (folder / NORMAL).is_dir():
        raise UserError(
            f"--config.data.path={as_text(folder)} has no folder {NORMAL}: put the normal pictures into it, and "
            "anomalies, if there are any, into folders beside it"
        )
    inside = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    beside = [entry.name for entry in inside if pathlib.Path(entry.name).suffix.lower() in SUFFIXES]
    if beside:
        example = as_text(min(beside))
        console.warn(f"{as_text(folder)}: left out, {len(beside)} that lie in no folder, such as {example}")
    kinds = [folder / entry.name for entry in inside if entry.is_dir()]
    files = [(kind, file) for kind in kinds for file in find_pictures(kind, folder)]
    return [Entry(id_of(file, folder), as_text(kind.name), (file,)) for kind, file in files]


def _of_table(file: pathlib.Path) -> list[Entry]:
    rows = read_table(file, ("path", "label"))
    has_splits = any(row.get("split") for _, row in rows)
    entries = []
    for number, row in rows:
        where = f"{as_text(file)}, line {number}:"
        label, split = row["label"], row.get("split", "")
        if label.lower() == NORMAL and label != NORMAL:
            raise UserError(f"{where} label is {label!r}, write {NORMAL!r}")
        if has_splits and split not in _SPLITS:
            raise UserError(f"{where} split is {split!r}, not one of {', '.join(_SPLITS)}; give all lines one, or none")
        path = os.path.normpath(row["path"])
        entries.append(Entry(as_text(path), label, (file.parent / path,), split=split))
    return entries
