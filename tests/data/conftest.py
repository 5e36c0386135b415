"""A folder of pictures of one's own, and the settings of a run on it."""

import pytest

from brittle_jax.recipes import image_folder_row
from tests.data.folders import save


@pytest.fixture
def folder(tmp_path):
    """Six normal pictures, and three anomalies of two kinds."""
    for number in range(6):
        save(tmp_path / "own" / "normal" / f"{number}.png", 10 * number)
    save(tmp_path / "own" / "scratch" / "0.jpg", 200)
    save(tmp_path / "own" / "dent" / "deep" / "1.bmp", 210)
    save(tmp_path / "own" / "dent" / "2.tif", 220)
    return tmp_path / "own"


@pytest.fixture
def config(folder, tmp_path):
    config = image_folder_row("smoke")
    config.data.dir, config.data.path = str(tmp_path / "data"), str(folder)
    return config
