"""X-ray data sets as files: your own parcels, DvXray and COMPASS-XP, recognised by what their folder holds."""

import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from brittle_jax.data.catalogue import CATALOGUE
from brittle_jax.data.datasets.listing import (
    Entry,
    Listing,
    announce,
    as_text,
    find_files,
    find_pictures,
    id_of,
    links_to_folder,
    subfolders,
    warn_of_left_out,
)
from brittle_jax.data.datasets.tables import check_unique, read_table
from brittle_jax.errors import UserError
from brittle_jax.text import split_list

_CLASSES = CATALOGUE["xray"].classes
_DVXRAY_VIEWS = ("OL", "SD")  # in file names; the boxes are `ol_bb` and `sd_bb`
_NO_BOX = (0, 0, 0, 0)
_IS_DANGEROUS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def list_xray(folder: pathlib.Path, view_suffixes: str, compass_kind: str) -> Listing:
    """Lists the scans of a folder, and says which kind of set it is and how many scans of each class it holds.

    Args:
        folder: with `soc/` and `threat/` (your own parcels), the files of DvXray, or those of COMPASS-XP.
        view_suffixes: of your own parcels: how the file names of each view end, comma-separated; empty if there is only
            one view, whose names may end in any way.
        compass_kind: of COMPASS-XP: which of its kinds of image.

    Raises:
        UserError: if there is no such folder, its kind is unknown, or a link in it leads elsewhere.
        OSError: if a folder cannot be listed; its `filename` is that folder.
    """
    if not folder.is_dir():
        raise UserError(f"data.path={as_text(folder)}: no such folder")
    listing, layout = _list_known(folder, view_suffixes, compass_kind)
    announce(listing, layout)
    return listing


def _list_known(folder: pathlib.Path, view_suffixes: str, compass_kind: str) -> tuple[Listing, str]:
    """Returns what a folder holds, and which kind of set it is."""
    if folder / "soc" in subfolders(folder):
        return _list_parcels(folder, split_list(view_suffixes) if view_suffixes.strip() else [""]), "soc/ and threat/"
    for root in (folder, folder / "COMPASS-XP"):
        if (root / "meta.txt").is_file():
            return _list_compass(root, compass_kind), f"COMPASS-XP, {compass_kind}"
    files = sorted(find_files(folder, folder))
    _refuse_links(files, folder)
    if entries := list(_dvxray_entries(folder, files)):
        _warn_of_unlisted(folder, files, entries)
        return Listing("dvxray", folder, _CLASSES, _DVXRAY_VIEWS, tuple(entries)), "DvXray"
    raise UserError(
        f"data.path={as_text(folder)} holds none of: soc/ and threat/ (your own parcels), NAME_OL.png beside NAME.json "
        "(DvXray), meta.txt (COMPASS-XP)"
    )


def _refuse_links(files: Sequence[pathlib.Path], folder: pathlib.Path) -> None:
    """Raises UserError if links to folders are among the files: they lead elsewhere."""
    for link in filter(links_to_folder, files):
        where = f"a link that leads out of {as_text(folder)}" if link.exists() else "a link to nowhere"
        raise UserError(f"{as_text(link)} is {where}: put a folder of pictures there instead, or remove it")


def _list_parcels(folder: pathlib.Path, suffixes: Sequence[str]) -> Listing:
    """Lists `soc/` and `threat/`, in which the files of a parcel share their name up to the view's suffix."""
    views = tuple(suffix.strip("_-. ") or suffix for suffix in suffixes)
    if not views or len(set(views)) < len(views):
        raise UserError(
            f"data.view_suffixes={','.join(suffixes)!r}: say how the file names of each view end, such as "
            "_top,_side, or leave it empty if there is only one view"
        )
    parcels: dict[tuple[str, str], dict[str, pathlib.Path]] = {}
    for label in _CLASSES:
        files = find_pictures(folder / label, folder) if folder / label in subfolders(folder) else []
        _refuse_links(files, folder)
        for file in files:
            suffix = next((suffix for suffix in suffixes if file.stem.endswith(suffix)), None)
            if suffix is None:
                raise UserError(
                    f"{as_text(file)}: its name, without the extension, ends in none of {', '.join(suffixes)}: set "
                    "data.view_suffixes to how the file names of each view end, or leave it empty if there is one view"
                )
            parcel = id_of(file.with_name(file.stem.removesuffix(suffix)), folder)
            if parcels.setdefault((label, parcel), {}).setdefault(suffix, file) is not file:
                raise UserError(f"{as_text(file)}: a second file for the same view of the same parcel: remove one")
    if not any(label == "soc" for label, _ in parcels):
        raise UserError(f"data.path={as_text(folder)} has no pictures in {as_text(folder / 'soc')}")
    entries = [Entry(parcel, label, tuple(map(files.get, suffixes))) for (label, parcel), files in parcels.items()]
    return Listing("xray", folder, _CLASSES, views, tuple(entries))


def _dvxray_entries(folder: pathlib.Path, files: Sequence[pathlib.Path]) -> Iterator[Entry]:
    """Lists `NAME.json` beside `NAME_OL.png` and `NAME_SD.png`, in one folder or in several."""
    for file in (file for file in files if file.suffix == ".json"):
        pictures = [file.with_name(f"{file.stem}_{view}.png") for view in _DVXRAY_VIEWS]
        if not any(picture.exists() for picture in pictures):
            continue
        objects = _objects_of(file)
        yield Entry(
            id_of(file.with_suffix(""), folder),
            "threat" if objects else "soc",
            tuple(picture if picture.exists() else None for picture in pictures),
            boxes=tuple((as_text(str(thing["label"])), _boxes_of(file, thing)) for thing in objects),
        )


def _warn_of_unlisted(folder: pathlib.Path, files: Sequence[pathlib.Path], entries: Sequence[Entry]) -> None:
    """Says how many scans of DvXray have no annotation, so that nobody knows whether they are threats."""
    listed = {file for entry in entries for file in entry.files}
    scans = {file for view in _DVXRAY_VIEWS for file in files if file.name.endswith(f"_{view}.png")}
    warn_of_left_out(folder, sorted(scans - listed), folder, "picture without NAME.json", "pictures without NAME.json")


def _objects_of(file: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the prohibited things of a scan; none if it is clean, when `objects` is the text "None"."""
    try:
        objects = json.loads(file.read_text(encoding="utf-8"))["objects"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{file} is not an annotation of DvXray ({type(error).__name__}: {error})") from error
    if objects in ("None", None):
        return []
    if not isinstance(objects, list) or not all(isinstance(thing, dict) and "label" in thing for thing in objects):
        raise UserError(f"{file} is not an annotation of DvXray: its objects are {str(objects)[:60]!r}")
    return objects


def _boxes_of(file: pathlib.Path, thing: dict[str, Any]) -> tuple[tuple[int, int, int, int], ...]:
    """Returns a thing's box in each view; zeros if the annotators gave none ("difficult")."""
    return tuple(_box(file, thing.get(f"{view.lower()}_bb")) for view in _DVXRAY_VIEWS)


def _box(file: pathlib.Path, corners: Any) -> tuple[int, int, int, int]:
    """Turns two corners, x and y each, in either order, into top, left, bottom, right."""
    if corners in (None, "difficult", "None"):
        return _NO_BOX
    try:
        values = json.loads(corners) if isinstance(corners, str) else corners
        x0, y0, x1, y1 = np.array([round(float(value)) for value in values], np.int32).tolist()
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise UserError(f"{file} is not an annotation of DvXray: a box is {str(corners)[:60]!r}") from error
    return min(y0, y1), min(x0, x1), max(y0, y1), max(x0, x1)


def _list_compass(folder: pathlib.Path, kind: str) -> Listing:
    """Lists the images of one kind by `meta.txt`. All scans of one object are a group."""
    table = folder / "meta.txt"
    rows = read_table(table, ("basename", "dangerous", "instance"))
    check_unique(table, ((number, row["basename"]) for number, row in rows))
    kinds = [each.name for each in subfolders(folder)]
    if kind not in kinds:
        raise UserError(f"data.compass_kind={kind!r}: {folder} has {', '.join(kinds) or 'no folders'}")
    pictures = find_pictures(folder / kind, folder)
    _refuse_links(pictures, folder)
    files = {file.stem: file for file in pictures}
    entries = []
    for number, row in rows:
        if row["dangerous"].lower() not in _IS_DANGEROUS:
            raise UserError(f"{table}, line {number}: dangerous is {row['dangerous']!r}, not True or False")
        label = _CLASSES[_IS_DANGEROUS[row["dangerous"].lower()]]
        entries.append(Entry(row["basename"], label, (files.get(row["basename"]),), group=row["instance"]))
    return Listing("compass_xp", folder, _CLASSES, ("",), tuple(entries))
