"""Pictures of one's own: a folder `normal` beside folders of anomalies, a table, or a layout that is published."""

import collections
import os
import pathlib
from collections.abc import Sequence

from brittle_jax import console
from brittle_jax.data.datasets import inspection_sets
from brittle_jax.data.datasets.listing import (
    NORMAL,
    SPLITS,
    Entry,
    Listing,
    announce,
    as_text,
    find_pictures,
    id_of,
    subfolders,
)
from brittle_jax.data.datasets.tables import read_table
from brittle_jax.data.picture_file import SUFFIXES
from brittle_jax.errors import UserError

HOW_TO_NAME = "--config.data.path is empty: name the folder that has your pictures"
_CALLED_NORMAL = (
    "good",
    "normal",
    "normals",
    "ok",
)  # as normal pictures and their folders are often called, in any case
_MASKS = "ground_truth"  # folders of masks, as they are often called
_FEW_NORMAL = 20
_MOST_NAMED = 20  # folders in a message


def list_pictures(path: pathlib.Path) -> Listing:
    """Lists the pictures of a folder or a table, and says which layout it has and how many there are of each kind.

    Args:
        path: a folder, in it `normal` and any number of folders of anomalies, which may hold folders again; or one
            object of a published set (see `inspection_sets`); or a table (see `read_table`) with the columns `path`
            (below the file's own folder), `label` (`normal`, or the kind of anomaly) and, if splits are to be given,
            `split` (`train`, `calibration` or `test`).

    Raises:
        UserError: where there is no such folder or file, it holds no normal pictures, or folders beside `normal` say
            that they do.
        OSError: where a folder cannot be listed; its `filename` is that folder.
    """
    if not path.is_dir() and not path.is_file():
        raise UserError(f"--config.data.path={as_text(path)}: no such folder or file")
    name, layout, entries = _entries_of(path)
    classes = (NORMAL, *sorted({entry.label for entry in entries} - {NORMAL}))
    num_normal = sum(entry.label == NORMAL for entry in entries)
    if not num_normal:
        held = _some(classes[1:]) or "none"
        raise UserError(
            f"--config.data.path={as_text(path)} has no pictures of the class {NORMAL}, those it has: {held}"
        )
    listing = Listing(name, path if path.is_dir() else path.parent, classes, ("",), tuple(entries))
    announce(listing, layout)
    if num_normal < _FEW_NORMAL:
        many = console.count(num_normal, "normal picture")
        console.warn(f"{as_text(path)}: {many}, fewer than {_FEW_NORMAL}: too few to learn what is normal")
    _warn_of_untested(path, entries)
    return listing


def _entries_of(path: pathlib.Path) -> tuple[str, str, list[Entry]]:
    """Returns the name of the layout, what it is, and the samples."""
    if path.is_file():
        return "image_folder", "by a table", _of_table(path)
    if _has_normal(path):
        return "image_folder", f"{NORMAL} beside kinds of anomalies", _of_folder(path)
    if layout := inspection_sets.layout_of(path):
        return layout, inspection_sets.LAYOUTS[layout], inspection_sets.list_object(path, layout)
    raise UserError(f"--config.data.path={as_text(path)} {_why_unknown(path)}")


def _has_normal(folder: pathlib.Path) -> bool:
    """Returns whether a folder has one of exactly that name, also where the file system ignores the case."""
    return any(each.name == NORMAL for each in subfolders(folder))


def _why_unknown(folder: pathlib.Path) -> str:
    """Returns what a folder of no known layout holds, and what to do."""
    if objects := inspection_sets.objects_below(folder):
        names = [os.path.relpath(each, folder) for each in objects]
        return f"holds {_some(names)}: name one of them, such as --config.data.path={as_text(objects[0])}"
    parent = pathlib.Path(os.path.abspath(folder)).parent
    if layout := inspection_sets.layout_of(parent):
        return f"is a part of {as_text(parent)}, {inspection_sets.LAYOUTS[layout]}: name that folder"
    names = [each.name for each in subfolders(folder)]
    if {"OK", "NG"} <= set(names):
        return (
            f"has no folder {NORMAL}, but OK and NG, as Real-IAD has them: put {as_text(folder.absolute().name)}.json "
            f"beside it, or rename OK to {NORMAL} and move the kinds in NG beside it"
        )
    called_normal = [name for name in names if name.lower() in _CALLED_NORMAL]
    if len(called_normal) == 1:
        return f"has no folder {NORMAL}, but {as_text(called_normal[0])}: rename it to {NORMAL}"
    num_loose = sum(_is_picture(name) for name in os.listdir(folder))
    held = [_some(names)] if names else []
    held += [f"{console.count(num_loose, 'picture')} in no folder"] if num_loose else []
    return (
        f"has no folder {NORMAL} (it holds {' and '.join(held) or 'no folders and no pictures'}): put the normal "
        "pictures into it, and anomalies, if there are any, into folders beside it; or name a CSV table with the "
        "columns path, label and split, or one object in the layout of MVTec AD (train/good, test/good, test/KIND)"
    )


def _some(names: Sequence[str]) -> str:
    more = [f"{len(names) - _MOST_NAMED} more"] if len(names) > _MOST_NAMED else []
    return ", ".join([as_text(name) for name in names[:_MOST_NAMED]] + more)


def _is_picture(name: str) -> bool:
    return not name.startswith(".") and pathlib.Path(name).suffix.lower() in SUFFIXES


def _of_folder(folder: pathlib.Path) -> list[Entry]:
    if beside := [name for name in os.listdir(folder) if _is_picture(name)]:
        console.warn(
            f"{as_text(folder)}: left out, {len(beside)} that lie in no folder, such as {as_text(min(beside))}"
        )
    files = [(kind, file) for kind in subfolders(folder) for file in find_pictures(kind, folder)]
    if masks := [file for _, file in files if _is_mask(file.relative_to(folder))]:
        many = console.count(len(masks), "mask")
        console.warn(f"{as_text(folder)}: left out, {many}, such as {id_of(min(masks), folder)}")
    files = [(kind, file) for kind, file in files if not _is_mask(file.relative_to(folder))]
    if called_normal := sorted({_called_normal(file.relative_to(folder)) for _, file in files} - {None}):
        raise UserError(
            f"--config.data.path={as_text(folder)}: pictures in {_some(called_normal)}, beside {NORMAL}, would be "
            f"anomalies, though the name says otherwise: move them into {NORMAL}, or name a CSV table with the columns "
            "path, label and split, which takes a split of your own"
        )
    return [Entry(id_of(file, folder), as_text(kind.name), (file,)) for kind, file in files]


def _is_mask(file: pathlib.Path) -> bool:
    return file.stem.lower().endswith("_mask") or _MASKS in [part.lower() for part in file.parts[:-1]]


def _called_normal(file: pathlib.Path) -> str | None:
    """Returns the folder that says of a picture beside `normal` that it is normal, or None."""
    folders = file.parts[:-1]
    if folders[:1] == (NORMAL,):
        return None
    depth = next((depth for depth, name in enumerate(folders) if name.lower() in _CALLED_NORMAL), None)
    return None if depth is None else os.path.join(*folders[: depth + 1])


def _of_table(file: pathlib.Path) -> list[Entry]:
    if _is_picture(file.name):
        raise UserError(f"--config.data.path={as_text(file)} is a picture: name the folder that holds it")
    rows = read_table(file, ("path", "label"))
    has_splits = any(row.get("split") for _, row in rows)
    entries = []
    for number, row in rows:
        where = f"{as_text(file)}, line {number}:"
        label, split = row["label"], row.get("split", "")
        if label.lower() in _CALLED_NORMAL and label != NORMAL:
            raise UserError(f"{where} label is {label!r}, write {NORMAL!r}")
        if has_splits and split not in SPLITS:
            raise UserError(f"{where} split is {split!r}, not one of {', '.join(SPLITS)}; give all lines one, or none")
        path = os.path.normpath(row["path"])
        entries.append(Entry(as_text(path), label, (file.parent / path,), split=split))
    return entries


def _warn_of_untested(path: pathlib.Path, entries: Sequence[Entry]) -> None:
    """Says which anomalies are no part of the test, because the split that is given says so."""
    uses = {
        "train": "only the linear probe and the supervised baseline learn from them",
        "calibration": "nothing uses them",
    }
    for split, use in uses.items():
        kinds = collections.Counter(entry.label for entry in entries if entry.label != NORMAL and entry.split == split)
        if kinds:
            of_kind = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
            total = console.count(kinds.total(), "anomalous picture")
            console.warn(f"{as_text(path)}: {total} marked {split} ({of_kind}) will not be tested; {use}")
