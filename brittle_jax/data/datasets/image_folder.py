"""Your own images: a folder `normal` beside folders of anomalies, a table, or a published layout."""

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
    folders_called_normal,
    id_of,
    is_called_normal,
    mask_of,
    shorten,
    subfolders,
    warn_of_kinds,
    warn_of_left_out,
    without_masks,
)
from brittle_jax.data.datasets.tables import check_unique, normalize, read_table
from brittle_jax.data.picture_file import SUFFIXES
from brittle_jax.errors import UserError

HOW_TO_NAME = "data.path is empty: name the folder that holds your pictures"
_FEW_NORMAL = 20
_DEEPEST_PART = 3  # VISA/candle/Data/Images/Normal is the deepest folder of any published layout


def list_pictures(path: pathlib.Path) -> Listing:
    """Lists the pictures of a folder or a table, and says which layout it has and how many pictures of each kind.

    Args:
        path: one of: a folder with `normal` and any number of folders of anomalies, which may have subfolders; one
            object of a published set (see `inspection_sets`); a table (see `read_table`) with the columns `path`
            (relative to the table's folder), `label` (`normal`, or the kind of anomaly) and optionally `split`
            (`train`, `calibration` or `test`, in upper or lower case).

    Raises:
        UserError: if there is no such folder or file, it holds no normal pictures, or the name of a folder beside
            `normal` says that it does.
        OSError: if a folder cannot be listed; its `filename` is that folder.
    """
    if not path.is_dir() and not path.is_file():
        raise UserError(f"data.path={as_text(path)}: no such folder or file")
    name, layout, entries = _entries_of(path)
    classes = (NORMAL, *sorted({entry.label for entry in entries} - {NORMAL}))
    normal = [entry for entry in entries if entry.label == NORMAL]
    if not normal:
        raise UserError(f"data.path={as_text(path)} {_why_none_normal(path, name, classes[1:])}")
    listing = Listing(name, path if path.is_dir() else path.parent, classes, ("",), tuple(entries))
    announce(listing, layout)
    warn_of_kinds(as_text(path), classes[1:])
    num_normal = sum(not listing.has_refused_link(entry) for entry in normal)
    if num_normal < _FEW_NORMAL:
        many = console.count(num_normal, "normal picture")
        console.warn(f"{as_text(path)}: {many}, fewer than {_FEW_NORMAL}: too few to learn what is normal")
    _warn_of_untested(path, entries)
    return listing


def _entries_of(path: pathlib.Path) -> tuple[str, str, list[Entry]]:
    """Returns the name of the layout, its description, and the samples."""
    if path.is_file():
        return "image_folder", "from a table", _of_table(path)
    if _has_normal(path):
        return "image_folder", f"in a folder {NORMAL} and in one for each kind of anomaly", _of_folder(path)
    if layout := inspection_sets.layout_of(path):
        return layout, inspection_sets.LAYOUTS[layout], inspection_sets.list_object(path, layout)
    raise UserError(f"data.path={as_text(path)} {_why_unknown(path)}")


def _why_none_normal(path: pathlib.Path, layout: str, kinds: Sequence[str]) -> str:
    if path.is_file():
        return f"has no line whose label is {NORMAL}: its labels are {shorten(kinds)}"
    if layout == "image_folder":
        return f"has no pictures in {NORMAL}/: put the normal ones there"
    return f"has no normal pictures ({inspection_sets.LAYOUTS[layout]})"


def _has_normal(folder: pathlib.Path) -> bool:
    """Returns whether a folder has a subfolder of exactly that name, even if the file system ignores case."""
    return any(each.name == NORMAL for each in subfolders(folder))


def _why_unknown(folder: pathlib.Path) -> str:
    """Returns what a folder of unknown layout holds, and what to do about it."""
    if objects := inspection_sets.objects_below(folder):
        names = [os.path.relpath(each, folder) for each in objects]
        return f"holds {shorten(names)}: name one of them, such as data.path={as_text(objects[0])}"
    if part := _why_a_part(pathlib.Path(os.path.abspath(folder))):
        return part
    if missing := inspection_sets.what_is_missing(folder):
        return missing
    names = [each.name for each in subfolders(folder)]
    called_normal = [name for name in names if is_called_normal(name)]
    if len(called_normal) == 1:
        return f"has a folder {as_text(called_normal[0])} but no {NORMAL}: rename it to {NORMAL}"
    num_loose = sum(_is_picture(name) for name in os.listdir(folder))
    held = [shorten(names)] if names else []
    held += [f"{console.count(num_loose, 'picture')} in no folder"] if num_loose else []
    return (
        f"has no folder {NORMAL} (it holds {' and '.join(held) or 'no folders and no pictures'}): put the normal "
        "pictures into one, and any anomalies into folders beside it; or name a CSV table with the columns path, label "
        "and split, or one object in the layout of MVTec AD (train/good, test/good, test/KIND)"
    )


def _why_a_part(folder: pathlib.Path) -> str:
    """Returns what a folder is a part of and what to do about it; empty if that is not known.

    Args:
        folder: as an absolute path.
    """
    for above in folder.parents[:_DEEPEST_PART]:
        if layout := inspection_sets.layout_of(above):
            return f"is part of {as_text(above)}, {inspection_sets.LAYOUTS[layout]}: name that folder"
    if not is_called_normal(folder.name):
        return ""
    rename = "" if folder.name == NORMAL else f", and rename {as_text(folder.name)} to {NORMAL}"
    return f"is the folder of normal pictures itself: name its parent, {as_text(folder.parent)}{rename}"


def _is_picture(name: str) -> bool:
    return not name.startswith(".") and pathlib.Path(name).suffix.lower() in SUFFIXES


def _of_folder(folder: pathlib.Path) -> list[Entry]:
    beside = [folder / name for name in os.listdir(folder) if _is_picture(name)]
    warn_of_left_out(folder, beside, folder, "picture that is in no folder", "pictures that are in no folder")
    files = without_masks([file for kind in subfolders(folder) for file in find_pictures(kind, folder)], folder)
    files_of_kinds = [(file.relative_to(folder).parts[0], file) for file in files]
    if called_normal := folders_called_normal((file for kind, file in files_of_kinds if kind != NORMAL), folder):
        raise UserError(
            f"data.path={as_text(folder)}: pictures in {shorten(called_normal)}, beside {NORMAL}, would count "
            f"as anomalies, though the name says otherwise: move them into {NORMAL}, or give your own split in a CSV "
            "table with the columns path, label and split"
        )
    return [
        Entry(id_of(file, folder), as_text(kind), (file,), mask=mask_of(file, folder, folder))
        for kind, file in files_of_kinds
    ]


def _of_table(file: pathlib.Path) -> list[Entry]:
    if _is_picture(file.name):
        raise UserError(f"data.path={as_text(file)} is a picture: name the folder that holds it")
    rows = read_table(file, ("path", "label"))
    has_splits = any(row.get("split") for _, row in rows)
    entries = []
    for number, row in rows:
        where = f"{as_text(file)}, line {number}:"
        label, given = row["label"], row.get("split", "")
        if is_called_normal(label) and label != NORMAL:
            raise UserError(f"{where} label is {label!r}: write {NORMAL!r}")
        if has_splits and given.lower() not in SPLITS:
            raise UserError(
                f"{where} split is {given!r}, not one of {', '.join(SPLITS)}: give every line a split, or none"
            )
        path = normalize(row["path"], file.parent)
        entries.append(Entry(as_text(path), label, (file.parent / path,), split=given.lower()))
    check_unique(file, zip((number for number, _ in rows), (entry.id for entry in entries), strict=True))
    return entries


def _warn_of_untested(path: pathlib.Path, entries: Sequence[Entry]) -> None:
    """Says which anomalies the given split keeps out of the test."""
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
