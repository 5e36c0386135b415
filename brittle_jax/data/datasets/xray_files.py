"""X-ray sets as files: parcels of one's own, DvXray and COMPASS-XP, told apart by what their folder holds."""

import ast
import csv
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from brittle_jax.config import split_list
from brittle_jax.data.datasets.picture_files import Entry, Listing, find_pictures, id_of
from brittle_jax.data.datasets.xray_parcels import CLASSES
from brittle_jax.errors import UserError

_DVXRAY_VIEWS = ("OL", "SD")  # as its files are named; the boxes are `ol_bb` and `sd_bb`
_NO_BOX = (0, 0, 0, 0)


def list_xray(folder: pathlib.Path, view_suffixes: str, compass_kind: str) -> Listing:
    """Lists the scans of a folder.

    Args:
        folder: with `soc/` and `threat/` (parcels of one's own), the files of DvXray, or those of COMPASS-XP.
        view_suffixes: of one's own parcels: how the names of the files of each view end, comma-separated.
        compass_kind: of COMPASS-XP: which of its kinds of image.

    Raises:
        UserError: where there is no such folder, or it is of neither kind.
    """
    if not folder.is_dir():
        raise UserError(f"--config.data.path={folder}: no such folder")
    if (folder / "soc").is_dir():
        return _list_parcels(folder, split_list(view_suffixes))
    for root in (folder, folder / "COMPASS-XP"):
        if (root / "meta.txt").is_file():
            return _list_compass(root, compass_kind)
    if entries := list(_dvxray_entries(folder)):
        return Listing("dvxray", folder, CLASSES, _DVXRAY_VIEWS, tuple(entries))
    raise UserError(
        f"--config.data.path={folder} has no scans that are known: folders soc/ and threat/ (parcels of one's own), "
        "NAME_OL.png beside NAME.json (DvXray), or meta.txt (COMPASS-XP)"
    )


def _list_parcels(folder: pathlib.Path, suffixes: Sequence[str]) -> Listing:
    """Lists `soc/` and `threat/`, where the files of a parcel's views share their name up to the view's suffix."""
    if not suffixes:
        raise UserError("--config.data.view_suffixes is empty: say how the names of each view end, such as _top,_side")
    entries = []
    for label in CLASSES:
        parcels: dict[str, dict[str, pathlib.Path]] = {}
        for file in find_pictures(folder / label):
            suffix = next((suffix for suffix in suffixes if file.stem.endswith(suffix)), None)
            if suffix is None:
                raise UserError(
                    f"{file} ends in none of {', '.join(suffixes)}: set --config.data.view_suffixes to how the names "
                    "of each view end"
                )
            parcels.setdefault(id_of(file.with_name(file.stem.removesuffix(suffix)), folder), {})[suffix] = file
        entries += [Entry(name, label, tuple(map(files.get, suffixes))) for name, files in sorted(parcels.items())]
    if not any(entry.label == "soc" for entry in entries):
        raise UserError(f"--config.data.path={folder} has no pictures in {folder / 'soc'}")
    return Listing(
        "xray", folder, CLASSES, tuple(suffix.strip("_-. ") or suffix for suffix in suffixes), tuple(entries)
    )


def _dvxray_entries(folder: pathlib.Path) -> Iterator[Entry]:
    """Lists `NAME.json` beside `NAME_OL.png` and `NAME_SD.png`, in one folder or in several."""
    for file in sorted(folder.rglob("*.json")):
        pictures = [file.with_name(f"{file.stem}_{view}.png") for view in _DVXRAY_VIEWS]
        if not any(picture.exists() for picture in pictures):
            continue
        objects = _objects_of(file)
        yield Entry(
            id_of(file.with_suffix(""), folder),
            "threat" if objects else "soc",
            tuple(picture if picture.exists() else None for picture in pictures),
            boxes=tuple((str(thing["label"]), _boxes_of(file, thing)) for thing in objects),
        )


def _objects_of(file: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the prohibited things of a scan, none where it is clean: `objects` is then the text "None"."""
    try:
        objects = json.loads(file.read_text(encoding="utf-8"))["objects"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is not an annotation of DvXray ({type(error).__name__}: {error})") from error
    if objects in ("None", None):
        return []
    if not isinstance(objects, list) or not all(isinstance(thing, dict) and "label" in thing for thing in objects):
        raise UserError(f"{file} is not an annotation of DvXray: its objects are {str(objects)[:60]!r}")
    return objects


def _boxes_of(file: pathlib.Path, thing: dict[str, Any]) -> tuple[tuple[int, int, int, int], ...]:
    """Returns a thing's box in each view; where the annotators gave none ("difficult"), zeros."""
    return tuple(_box(file, thing.get(f"{view.lower()}_bb")) for view in _DVXRAY_VIEWS)


def _box(file: pathlib.Path, corners: Any) -> tuple[int, int, int, int]:
    """Turns two corners, x and y each, in either order, into top, left, bottom, right."""
    if isinstance(corners, str) and corners.startswith(("[", "(")):
        corners = ast.literal_eval(corners)
    if corners is None or isinstance(corners, str):
        return _NO_BOX
    try:
        x0, y0, x1, y1 = (round(float(value)) for value in corners)
    except (TypeError, ValueError) as error:
        raise UserError(f"{file} is not an annotation of DvXray: a box is {corners!r}") from error
    return min(y0, y1), min(x0, x1), max(y0, y1), max(x0, x1)


def _list_compass(folder: pathlib.Path, kind: str) -> Listing:
    """Lists the images of one kind, by `meta.txt`; all scans of one object are one group."""
    with open(folder / "meta.txt", newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    missing = {"basename", "dangerous", "instance"} - set(rows[0] if rows else ())
    if missing:
        raise UserError(f"{folder / 'meta.txt'} has no lines, or no column {', '.join(sorted(missing))}")
    if not (folder / kind).is_dir():
        kinds = sorted(each.name for each in folder.iterdir() if each.is_dir())
        raise UserError(f"--config.data.compass_kind={kind!r}: {folder} has {', '.join(kinds) or 'no folders'}")
    files = {file.stem: file for file in find_pictures(folder / kind)}
    entries = tuple(
        Entry(
            row["basename"],
            "threat" if row["dangerous"].strip().lower() in ("true", "1", "yes") else "soc",
            (files.get(row["basename"]),),
            group=row["instance"],
        )
        for row in rows
    )
    return Listing("compass_xp", folder, CLASSES, ("",), entries)
