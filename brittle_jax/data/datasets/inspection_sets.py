"""Industrial anomaly data sets as published, with their own splits.

MVTec AD (Bergmann et al., https://doi.org/10.1109/CVPR.2019.00982) and MVTec LOCO AD
(https://doi.org/10.1007/s11263-022-01578-9), VisA (Zou et al., https://arxiv.org/abs/2207.14315) and Real-IAD
(Wang et al., https://arxiv.org/abs/2403.12580). Masks are read of MVTec AD alone.
"""

import json
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from brittle_jax import console
from brittle_jax.data.datasets.listing import (
    NORMAL,
    Entry,
    as_text,
    find_pictures,
    folders_called_normal,
    id_of,
    is_called_normal,
    mask_of,
    shorten,
    subfolders,
    without_masks,
)
from brittle_jax.data.datasets.tables import check_unique, normalize, read_table
from brittle_jax.errors import UserError

LAYOUTS = {
    "mvtec_ad": "in the layout of MVTec AD",
    "visa": "in the layout of VisA, split by its 1cls.csv",
    "real_iad": "in the layout of Real-IAD, split by its JSON",
}
_MVTEC_SPLITS = {"train": "train", "validation": "calibration", "test": "test"}
_MVTEC_NORMAL = "good"
_VISA_IMAGES = pathlib.Path("Data", "Images")
_VISA_LABELS = {"normal": NORMAL, "anomaly": "anomaly"}
_PUBLISHED_SPLITS = ("train", "test")
_OBJECT_OF_REAL_IAD = re.compile(r"S\d+")


def layout_of(folder: pathlib.Path) -> str:
    """Returns the key of LAYOUTS by which a folder holds one object; empty if there is none."""
    folder = _absolute(folder)
    if os.path.isdir(folder / "train" / _MVTEC_NORMAL):
        return "mvtec_ad"
    if os.path.isdir(folder / "Data") and os.path.isfile(_visa_table(folder)):
        return "visa"
    if any(os.path.isdir(folder / kinds) for kinds in ("OK", "NG")) and _real_iad_json(folder):
        return "real_iad"
    return ""


def _absolute(folder: pathlib.Path) -> pathlib.Path:
    """Returns the absolute path of a folder, which has its name and shows what lies beside it."""
    return pathlib.Path(os.path.abspath(folder))


def objects_below(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the folders of the objects of a published set, given its root.

    Raises:
        OSError: if a folder cannot be listed; its `filename` is that folder.
    """
    beside = subfolders(folder)
    deeper = [each for sizes in beside if sizes.name.startswith("realiad_") for each in _folders_in(sizes)]
    return [each for each in beside + deeper if layout_of(each)]


def _folders_in(folder: pathlib.Path) -> list[pathlib.Path]:
    return subfolders(folder) if folder.is_dir() else []


def what_is_missing(folder: pathlib.Path) -> str:
    """Returns what a folder that looks like a published set lacks to be read as one; empty if it looks like none.

    Raises:
        OSError: if a folder cannot be listed; its `filename` is that folder.
    """
    folder = _absolute(folder)
    held = [each.name for each in subfolders(folder)]
    called_normal = [each.name for each in _folders_in(folder / "train") if is_called_normal(each.name)]
    if len(called_normal) == 1:
        named = as_text(os.path.join("train", called_normal[0]))
        return f"has {named} but no train/{_MVTEC_NORMAL}, as in MVTec AD: rename it to {_MVTEC_NORMAL}"
    if {"OK", "NG"} <= set(held):
        return (
            f"has OK and NG, as in Real-IAD, but no {NORMAL}: put {as_text(folder.name)}.json beside the folder, or "
            f"rename OK to {NORMAL} and move the kinds in NG beside it"
        )
    for each in (folder, *subfolders(folder)):
        if os.path.isdir(each / _VISA_IMAGES) and not os.path.isfile(_visa_table(each)):
            table = _visa_table(each)
            return (
                f"has {as_text(os.path.relpath(each / _VISA_IMAGES, folder))}, as in VisA, but VisA's split file is "
                f"missing: put {table.name} into {as_text(table.parent)}"
            )
    return ""


def list_object(folder: pathlib.Path, layout: str) -> list[Entry]:
    """Returns the pictures of one object with their published split, labelled `normal` or by the kind of anomaly.

    Args:
        folder: of the object.
        layout: what `layout_of` returns for it.

    Raises:
        UserError: if the file that gives the split is damaged or lacks the object, or the name of a folder of anomalies
            says that it holds normal pictures.
        OSError: if a folder cannot be listed; its `filename` is that folder.
    """
    read = {"mvtec_ad": _mvtec_entries, "visa": _visa_entries, "real_iad": _real_iad_entries}[layout]
    return list(read(_absolute(folder)))


def _mvtec_entries(folder: pathlib.Path) -> list[Entry]:
    """Lists `train/good`, `validation/good` (MVTec LOCO), `test/good` and `test/KIND`."""
    left_out = [each.name for each in subfolders(folder) if each.name not in (*_MVTEC_SPLITS, "ground_truth")]
    if left_out:
        what = "which is not" if len(left_out) == 1 else "which are not"
        console.warn(f"{as_text(folder)}: left out {shorten(left_out)}, {what} part of MVTec AD's layout")
    kinds = [kind for split in _MVTEC_SPLITS for kind in _folders_in(folder / split)]
    files = without_masks([file for kind in kinds for file in find_pictures(kind, folder)], folder)
    placed = [(file, *file.relative_to(folder).parts[:2]) for file in files]
    if called_normal := folders_called_normal((file for file, _, kind in placed if kind != _MVTEC_NORMAL), folder):
        raise UserError(
            f"{as_text(folder)}: pictures in {shorten(called_normal)} would count as anomalies, though the name says "
            f"otherwise: rename that folder to {_MVTEC_NORMAL}, or move the pictures"
        )
    labels = {_MVTEC_NORMAL: NORMAL}
    return [
        Entry(
            id_of(file, folder),
            labels.get(kind, as_text(kind)),
            (file,),
            split=_MVTEC_SPLITS[split],
            mask=mask_of(file, folder / split, folder),
        )
        for file, split, kind in placed
    ]


def _visa_table(folder: pathlib.Path) -> pathlib.Path:
    return folder.parent / "split_csv" / "1cls.csv"


def _visa_entries(folder: pathlib.Path) -> list[Entry]:
    """Lists the lines of an object in `split_csv/1cls.csv`, whose paths start at the folder that holds the objects."""
    table = _visa_table(folder)
    rows = read_table(table, ("object", "split", "label", "image"))
    of_object = [(number, row) for number, row in rows if row["object"] == folder.name]
    if not of_object:
        known = ", ".join(sorted({row["object"] for _, row in rows}))
        raise UserError(f"{as_text(table)} has no object {as_text(folder.name)!r}: it has {known}")
    entries = []
    for number, row in of_object:
        for column, allowed in (("split", _PUBLISHED_SPLITS), ("label", tuple(_VISA_LABELS))):
            if row[column].lower() not in allowed:
                where = f"{as_text(table)}, line {number}:"
                raise UserError(f"{where} {column} is {row[column]!r}, not one of {', '.join(allowed)}")
        file = folder.parent / normalize(row["image"], folder.parent)
        label, split = _VISA_LABELS[row["label"].lower()], row["split"].lower()
        entries.append(Entry(_id_wherever(file, folder), label, (file,), split=split))
    check_unique(table, zip((number for number, _ in of_object), (entry.id for entry in entries), strict=True))
    return entries


def _id_wherever(file: pathlib.Path, folder: pathlib.Path) -> str:
    """Returns the path of a file relative to a folder. It may lead out of the folder; reading will then refuse it."""
    return as_text(os.path.relpath(file, folder))


def _real_iad_json(folder: pathlib.Path) -> pathlib.Path | None:
    """Returns the file that gives an object's split, wherever it was unpacked."""
    around = (folder.parent, folder.parent.parent)
    unpacked = [beside / name for beside in around for name in ("realiad_jsons", "realiad_jsons/realiad_jsons")]
    files = [place / f"{folder.name}.json" for place in (folder, folder.parent, *unpacked)]
    return next((file for file in files if os.path.isfile(file)), None)


def _real_iad_entries(folder: pathlib.Path) -> Iterator[Entry]:
    """Lists `train` and `test` of an object's JSON, in which views that do not show the anomaly are normal."""
    file = _real_iad_json(folder)
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{as_text(file)} is not a split of Real-IAD ({type(error).__name__}: {error})") from error
    normal = _field(file, content, "meta", dict, "the whole file").get("normal_class")
    if not isinstance(normal, str) or not normal:
        raise UserError(f"{as_text(file)}: meta.normal_class is {str(normal)[:60]!r}, not the name of a class")
    prefix = content["meta"].get("prefix", folder.name)
    if pathlib.PurePosixPath(str(prefix)).name != folder.name:
        raise UserError(f"{as_text(file)}: meta.prefix is {str(prefix)[:60]!r}, not the object {folder.name!r}")
    for split in _PUBLISHED_SPLITS:
        for number, item in enumerate(_field(file, content, split, list, "the whole file")):
            where = f"{split}[{number}]"
            kind = _field(file, item, "anomaly_class", str, where)
            path = _field(file, item, "image_path", str, where)
            path = normalize(path, folder)
            thing = pathlib.PurePath(path).parent
            group = thing.as_posix() if _OBJECT_OF_REAL_IAD.fullmatch(thing.name) else ""
            picture = folder / path
            label = NORMAL if kind == normal else kind
            yield Entry(_id_wherever(picture, folder), label, (picture,), split=split, group=group)


def _field(file: pathlib.Path, content: Any, name: str, kind: type, where: str) -> Any:
    """Returns a field of a JSON object.

    Raises:
        UserError: if there is none of that kind, or it is empty text.
    """
    value = content.get(name) if isinstance(content, dict) else None
    if not isinstance(value, kind) or value == "":
        wanted = {dict: "an object", list: "a list", str: "text"}[kind]
        raise UserError(f"{as_text(file)} is not a split of Real-IAD: {where} has no {name} that is {wanted}")
    return value
