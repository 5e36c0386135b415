"""Makes the pictures of the README: `python docs/make_pictures.py`."""

import pathlib

import numpy as np
from PIL import Image

from brittle_jax.data.parcels.packing import pack
from brittle_jax.data.parcels.scanner import scan

_PER_CLASS = 4
_SIDE_PIXELS = 230
_GAP_PIXELS = 10


def parcels() -> Image.Image:
    """Returns a sheet of parcels, the top view above the side view: a row of normal ones, a row of threats."""
    rows = [
        [_both_views(np.random.default_rng([0, int(is_threat), index]), is_threat) for index in range(_PER_CLASS)]
        for is_threat in (False, True)
    ]
    width = max(parcel.shape[1] for row in rows for parcel in row) + _GAP_PIXELS
    heights = [max(parcel.shape[0] for parcel in row) + _GAP_PIXELS for row in rows]
    sheet = np.full((sum(heights), width * _PER_CLASS, 3), 255, np.uint8)
    for row, top in zip(rows, np.cumsum([0, *heights]), strict=False):
        for column, parcel in enumerate(row):
            left = column * width
            sheet[top : top + parcel.shape[0], left : left + parcel.shape[1]] = parcel
    return Image.fromarray(sheet)


def _both_views(rng: np.random.Generator, is_threat: bool) -> np.ndarray:
    scans = scan(rng, pack(rng, is_threat=is_threat), side_pixels=_SIDE_PIXELS)
    views = [view.image for view in scans.values()]
    width = max(view.shape[1] for view in views)
    return np.concatenate([np.pad(view, ((0, 0), (0, width - view.shape[1]), (0, 0)), mode="edge") for view in views])


if __name__ == "__main__":
    folder = pathlib.Path(__file__).parent
    parcels().save(folder / "parcels.jpg", quality=85, optimize=True)
