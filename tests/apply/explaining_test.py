"""Heat maps of picture files: their names, and their size."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from brittle_jax import load_detector
from brittle_jax.apply import explaining
from brittle_jax.apply.sample_files import SampleFile, list_samples, read_samples


def samples_of(*files, group=""):
    return [SampleFile(file, (("", pathlib.Path(file)),), group) for file in files]


def names_of(samples):
    return list(explaining.names_of(samples).values())


def test_names_are_those_of_folder_and_stem(tmp_path):
    for name in ("scab/1.jpg", "scab/deep/1.png", "2.a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert names_of(list_samples([str(tmp_path)])) == ["2.a", "scab/1", "scab/deep/1"]


def test_names_keep_their_extensions_where_stems_are_equal():
    assert names_of(samples_of("a/1.jpg", "a/1.png", "a/2.png")) == ["1.jpg", "1.png", "2.png"]
    assert names_of(samples_of("a/B.jpg", "a/b.png")) == ["B.jpg", "b.png"]


def test_names_tell_files_of_several_folders_apart():
    samples = samples_of("all/a/1.png") + samples_of("all/b/1.png") + samples_of("all/b/c/2.png", group="c")
    assert names_of(samples) == ["a/1.png", "b/1.png", "b/c/2.png"]


def test_a_file_that_is_named_twice_has_one_name():
    assert names_of(samples_of("a/1.png", "a/1.png")) == ["1"]


def test_views_have_the_names_of_their_files():
    views = (("top", pathlib.Path("7_top.png")), ("side", pathlib.Path("7_side.png")), ("front", None))
    assert names_of([SampleFile("7", views, "soc")]) == ["soc/7_top", "soc/7_side"]


def test_no_name_leads_out_of_the_folder():
    assert names_of(samples_of("..\\1.png", "b\udcff.png")) == [".._1", "b_xff"]


@pytest.fixture
def loaded(small_own_run):
    return load_detector(small_own_run[0])


def write(loaded, file, folder, before_writing=lambda: None):
    """Writes the heat maps of a picture file; returns what went wrong."""
    samples = list_samples([str(file)])
    maps = explaining.HeatMaps(loaded, samples, folder, "kd")
    read = list(read_samples(samples, loaded.detector.preprocessing, 10**7, most_ahead=1))
    before_writing()
    return maps.write(read), maps.num_samples


def test_a_heat_map_has_the_size_of_its_picture_up_to_a_limit(loaded, tmp_path):
    for size, shown in {(1024, 5): (1024, 5), (30, 2048): (15, 1024)}.items():
        Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8)).save(tmp_path / "1.png")
        assert write(loaded, tmp_path / "1.png", tmp_path / "maps") == ({}, 1)
        for kind in ("overlays", "masks"):
            with Image.open(tmp_path / "maps" / kind / "1.png") as image:
                assert image.size == shown


def test_a_picture_that_vanishes_after_it_was_scored_is_named(loaded, tmp_path):
    file = tmp_path / "1.png"
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(file)
    errors, num_samples = write(loaded, file, tmp_path / "maps", file.unlink)
    assert list(errors) == [str(file)] and errors[str(file)].startswith("no heat map: ") and num_samples == 0
    assert not list((tmp_path / "maps").rglob("*.png*"))
