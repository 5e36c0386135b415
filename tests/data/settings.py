"""Settings by which the tests load data sets."""

from brittle_jax.data.patches import PatchSettings
from brittle_jax.data.settings import DataSettings, ParcelSettings


def make_settings(folder, **changes):
    """Returns settings of a smoke run with a few small parcels.

    Args:
        folder: where prepared data sets are kept.
        changes: fields that differ, by name.
    """
    fields = {
        "dir": str(folder),
        "path": "",
        "view_suffixes": "_top,_side",
        "compass_kind": "Colour",
        "on_bad_image": "fail",
        "max_image_pixels": 100_000_000,
        "intensity_range": None,
        "stand_in": True,
        "image_size_pixels": 32,
        "patches": PatchSettings(size_pixels=64, max_stride_pixels=32, air_level=0.92, margin_pixels=8),
        "parcels": ParcelSettings(num_normal=20, num_threat=6, side_pixels=96, seed=0),
    }
    return DataSettings(**fields | changes)
