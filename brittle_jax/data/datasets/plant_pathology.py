"""Plant Pathology 2020 (Thapa et al., https://arxiv.org/abs/2004.11958): apple leaves, healthy and diseased."""

import csv
import pathlib

from brittle_jax.data.datasets.picture_files import Entry, Listing
from brittle_jax.errors import UserError

CLASSES = ("healthy", "multiple_diseases", "rust", "scab")  # columns of train.csv
FOLDER = "downloads/manual/plant_pathology"  # below the tfds data_dir


def how_to_get(folder: pathlib.Path) -> str:
    """Returns what to do where the files are not there."""
    return (
        "plant_pathology is not there: download the competition plant-pathology-2020-fgvc7 from Kaggle, unpack "
        f"train.csv and images/ into {folder}, or elsewhere and name that folder with --config.data.path"
    )


def list_leaves(folder: pathlib.Path) -> Listing:
    """Lists the labelled photographs of `train.csv` and `images/`, as Kaggle has them.

    Raises:
        UserError: where the table is not there, or is another one.
    """
    table = folder / "train.csv"
    if not table.is_file():
        raise UserError(f"{folder} has no train.csv: {how_to_get(folder)}")
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    missing = {"image_id", *CLASSES} - set(rows[0] if rows else ())
    if missing:
        raise UserError(f"{table} has no lines, or no column {', '.join(sorted(missing))}: it is not Plant Pathology's")
    return Listing("plant_pathology", folder, CLASSES, ("",), tuple(_entry(folder, row) for row in rows))


def _entry(folder: pathlib.Path, row: dict[str, str]) -> Entry:
    label = max(CLASSES, key=lambda column: float(row[column]))
    return Entry(row["image_id"], label, (folder / "images" / f"{row['image_id']}.jpg",))
