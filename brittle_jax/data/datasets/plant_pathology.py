"""Plant Pathology 2020 (Thapa et al., https://arxiv.org/abs/2004.11958): apple leaves, healthy and diseased."""

import pathlib

from brittle_jax.data.catalogue import CATALOGUE
from brittle_jax.data.datasets.listing import Entry, Listing, announce
from brittle_jax.data.datasets.tables import check_unique, read_table
from brittle_jax.errors import UserError

CLASSES = CATALOGUE["plant_pathology"].classes  # which are columns of train.csv
FOLDER = "downloads/manual/plant_pathology"  # below the tfds data_dir


def how_to_get(folder: pathlib.Path) -> str:
    """Returns what to do if the files are missing."""
    return (
        "plant_pathology is missing: download the competition plant-pathology-2020-fgvc7 from Kaggle and unpack "
        f"train.csv and images/ into {folder}, or elsewhere and name that folder with data.path"
    )


def list_leaves(folder: pathlib.Path) -> Listing:
    """Lists the labelled photographs of `train.csv` and `images/`, as Kaggle has them, and says how many there are.

    Raises:
        UserError: if the table is missing or is another one.
    """
    table = folder / "train.csv"
    if not table.is_file():
        raise UserError(f"{folder} has no train.csv: {how_to_get(folder)}")
    rows = read_table(table, ("image_id", *CLASSES))
    check_unique(table, ((number, row["image_id"]) for number, row in rows))
    entries = []
    for number, row in rows:
        marked = [name for name in CLASSES if row[name] in ("1", "1.0")]
        if len(marked) != 1:
            raise UserError(f"{table}, line {number}: one of {', '.join(CLASSES)} must be 1, {len(marked)} are")
        entries.append(Entry(row["image_id"], marked[0], (folder / "images" / f"{row['image_id']}.jpg",)))
    listing = Listing("plant_pathology", folder, CLASSES, ("",), tuple(entries))
    announce(listing, "Plant Pathology 2020 as Kaggle has it")
    return listing
