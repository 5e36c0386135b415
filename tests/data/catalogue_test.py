import subprocess
import sys

import pytest

from brittle_jax.data.catalogue import CATALOGUE


@pytest.mark.parametrize("name", CATALOGUE)
def test_entries_make_sense(name):
    entry = CATALOGUE[name]
    assert len(set(entry.classes)) == len(entry.classes) >= 2
    assert entry.split in ("official", "classes", "normal", "leaves")
    assert not entry.normal or entry.normal in entry.classes
    assert bool(entry.normal) == (entry.split in ("normal", "leaves"))
    assert entry.detects_anomalies or not (entry.normal or entry.has_multimodal or entry.is_files)
    if entry.stand_in is not None:
        assert len(entry.stand_in.shape) == 3 and "train" in entry.stand_in.splits
        # A split of its own is a split that the stand-in has too.
        assert (len(entry.stand_in.splits) > 1) == (entry.split == "official")


def test_only_the_embedded_parcels_need_no_stand_in():
    assert [name for name, entry in CATALOGUE.items() if entry.stand_in is None] == ["xray"]


def test_what_is_known_without_reading_needs_no_heavy_library():
    modules = ("catalogue", "dataset", "images", "one_class", "patches", "samples", "settings", "splits")
    heavy = {"jax", "PIL", "tensorflow_datasets", "ml_collections", "grain", "joblib", "scipy"}
    imports = ", ".join(f"brittle_jax.data.{module}" for module in modules)
    code = f"import sys, {imports}; print(*sorted({heavy!r} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


def test_pictures_are_decoded_without_jax():
    code = "import sys, brittle_jax.data.preprocess, brittle_jax.data.picture_file; print('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
