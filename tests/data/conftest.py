"""A folder of your own images, and the settings to load it and the made-up data sets."""

import pytest

from brittle_jax.data.settings import DataSettings
from tests.data.folders import save
from tests.data.settings import make_settings


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
def settings(folder, tmp_path) -> DataSettings:
    return make_settings(tmp_path / "data", path=str(folder))


@pytest.fixture
def made_up(data_dir) -> DataSettings:
    """Settings of the synthetic data sets, which are prepared once for all tests."""
    return make_settings(data_dir)
