"""Pictures of one's own: a folder `normal` beside folders of anomalies, or a table of paths and labels."""

import csv
import os
import pathlib

from brittle_jax.data.datasets.picture_files import Entry, Listing, find_pictures, id_of
from brittle_jax.errors import UserError

NORMAL = "normal"
_SPLITS = ("train", "calibration", "test")


def list_pictures(path: pathlib.Path) -> Listing:
    """Lists the pictures of a folder or a CSV file.

    Args:
        path: a folder, in it `normal` and any number of folders of anomalies, which may hold folders again; or a CSV
            file with the columns `path` (from the file's own folder), `label` (`normal`, or the kind of anomaly) and,
            if splits are to be given, `split` (`train`, `calibration` or `test`).

    Raises:
        UserError: where there is no such folder or file, or it holds no normal pictures.
    """
    if not path.exists():
        raise UserError(f"--config.data.path={path}: no such folder or file")
    entries = _of_folder(path) if path.is_dir() else _of_table(path)
    classes = (NORMAL, *sorted({entry.label for entry in entries} - {NORMAL}))
    if not any(entry.label == NORMAL for entry in entries):
        raise UserError(f"--config.data.path={path} has no pictures of the class {NORMAL}")
    return Listing("image_folder", path if path.is_dir() else path.parent, classes, ("",), tuple(entries))


def _of_folder(folder: pathlib.Path) -> list[Entry]:
    if not (folder / NORMAL).is_dir():
        raise UserError(
            f"--config.data.path={folder} has no folder {NORMAL}: put the normal pictures into {folder / NORMAL}, "
            "anomalies, if there are any, into folders beside it"
        )
    kinds = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    return [Entry(id_of(file, folder), kind, (file,)) for kind in kinds for file in find_pictures(folder / kind)]


def _of_table(file: pathlib.Path) -> list[Entry]:
    try:
        with open(file, newline="", encoding="utf-8-sig") as content:
            rows = list(csv.DictReader(content))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"--config.data.path={file} cannot be read as a CSV file: {error}") from error
    missing = {"path", "label"} - set(rows[0] if rows else ())
    if missing:
        raise UserError(f"--config.data.path={file} has no column {' and no '.join(sorted(missing))}, or no lines")
    has_splits = any(row.get("split") for row in rows)
    entries, seen = [], set()
    for number, row in enumerate(rows, 2):
        path, label, split = row["path"], row["label"], row.get("split") or ""
        where = f"--config.data.path={file}, line {number}:"
        if not path or not label:
            raise UserError(f"{where} path and label are both needed")
        if path in seen:
            raise UserError(f"{where} {path!r} is there twice")
        if has_splits and split not in _SPLITS:
            raise UserError(f"{where} split is {split!r}, not one of {', '.join(_SPLITS)}; give all lines one, or none")
        seen.add(path)
        entries.append(Entry(path, label, (file.parent / path,), split=split))
    return entries
