"""Prepared pictures: in one file, with what is known about their originals, and checked for damage."""

import contextlib
import os
import pathlib
import resource
import tempfile
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from brittle_jax.data.datasets.image_folder import list_pictures
from brittle_jax.data.datasets.loading import load
from brittle_jax.data.datasets.picture_files import PictureFiles, picture_files_config
from brittle_jax.data.pipeline import evaluation_reader
from brittle_jax.errors import UserError
from tests.data.settings import make_settings

SEED = 7
_NOBODY = 65534


@pytest.fixture
def settings(tmp_path, save):
    for number in range(4):
        save(f"normal/{number}.png", np.full((20, 30, 3), 40 * number, np.uint8))
    return make_settings(tmp_path / "data", path=str(tmp_path / "own"))


@pytest.fixture
def save(tmp_path):
    """Saves an array as a picture below the folder."""

    def save(name, values):
        file = tmp_path / "own" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(file)

    return save


def stored(tmp_path):
    return [file for file in (tmp_path / "data").rglob("*.array_record*")]


def test_pictures_of_any_size_are_stored_in_one_file(settings, tmp_path, save):
    for number in range(3):  # of ten megapixels each, flat, so that they are quickly made
        Image.new("P", (3000, 3400), number).save(tmp_path / "own" / "normal" / f"large{number}.png", compress_level=1)
    dataset = load("image_folder", settings)
    assert len(stored(tmp_path)) == 1
    assert dataset.samples.ids.tolist() == sorted(dataset.samples.ids) and len(dataset.samples.ids) == 7
    assert [dataset.read_view(sample, 0).shape[0] for sample in range(7)] == [20] * 4 + [3400] * 3
    assert [dataset.read_view(sample, 0)[0, 0, 0] for sample in range(4)] == [0, 40, 80, 120]


def test_more_pictures_than_are_read_together_keep_their_order(settings, save):
    for number in range(1100):
        save(f"many/{number:04d}.png", np.full((9, 9, 3), number % 256, np.uint8))
    dataset = load("image_folder", settings)
    many = [index for index, sample in enumerate(dataset.samples.ids) if sample.startswith("many")]
    assert [int(dataset.read_view(index, 0)[0, 0, 0]) for index in many] == [number % 256 for number in range(1100)]


def test_depth_and_range_are_recorded_for_the_run(settings, save):
    assert load("image_folder", settings).intensity == {"bits": {"8": 4}, "lowest": 0, "highest": 120, "range": None}
    save("normal/deep.png", np.array([[100, 50_000]], np.uint16).repeat(9, axis=0).repeat(9, axis=1))
    intensity = load("image_folder", settings).intensity
    assert intensity == {"bits": {"8": 4, "16": 1}, "lowest": 0, "highest": 50_000, "range": None}


def test_the_intensity_range_does_not_change_the_identity(settings):
    dataset = load("image_folder", settings)
    assert "intensity" not in str(dataset.identity())


RAMP = np.tile(np.linspace(0, 4095, 256).astype(np.uint16), (9, 1))


def test_12_bits_in_16_cause_a_warning_and_are_scaled_on_request(settings, save, capsys):
    for number in range(3):
        save(f"normal/deep{number}.png", RAMP // (number + 1))
    dataset = load("image_folder", settings)
    (warning,) = [line for line in capsys.readouterr().err.splitlines() if "come out nearly all alike" in line]
    assert "16-bit pictures only have values from 0 to 4095 of 65535, so" in warning
    assert warning.endswith("set data.intensity_range=0,4095")
    deep = dataset.samples.ids.tolist().index("normal/deep0.png")
    assert dataset.read_view(deep, 0).max() == 16
    settings = replace(settings, intensity_range=(0.0, 4095.0))
    dataset = load("image_folder", settings)
    assert "bits" not in capsys.readouterr().err.replace("12_bits", "")
    assert [dataset.read_view(deep + number, 0).max() for number in range(3)] == [255, 127, 85]  # one scale for all
    np.testing.assert_array_equal(dataset.read_view(deep, 0)[0, :, 0], np.arange(256))
    assert dataset.intensity["range"] == (0, 4095)
    assert [dataset.read_view(sample, 0)[0, 0, 0] for sample in range(4)] == [0, 40, 80, 120]  # 8 bits stay


def test_values_in_the_middle_of_their_range_suggest_a_range(settings, save, capsys):
    for number in range(4):
        save(f"normal/{number}.png", 30_000 + RAMP)
    load("image_folder", settings)
    assert "set data.intensity_range=30000,34095" in capsys.readouterr().err


def test_a_range_that_clips_values_causes_a_warning(settings, save, capsys):
    save("normal/deep.png", RAMP)
    settings = replace(settings, intensity_range=(0.0, 255.0))
    load("image_folder", settings)
    assert "values from 0 to 4095 are clipped to data.intensity_range=0,255" in capsys.readouterr().err


def test_tiny_pictures_cause_a_warning(settings, save, capsys):
    save("normal/tiny.png", np.zeros((1, 2, 3), np.uint8))
    load("image_folder", settings)
    assert "1 sample of less than 8 x 8 pixels, such as normal/tiny.png (2 x 1)" in capsys.readouterr().err


@pytest.fixture
def noise(settings, save):
    """Settings of a folder of incompressible pictures, so that nearly every stored byte matters."""
    for number in range(4):
        save(f"normal/{number}.png", np.random.default_rng(number).integers(0, 256, (100, 100, 3), np.uint8))
    return settings


def test_a_flipped_bit_is_named_or_changes_nothing(noise, tmp_path):
    dataset = load("image_folder", noise)
    expected = [dataset.read_view(sample, 0) for sample in range(4)]
    (file,) = stored(tmp_path)
    sound = file.read_bytes()
    rng = np.random.default_rng(SEED)
    noticed = 0
    for _ in range(40):
        damaged = bytearray(sound)
        damaged[rng.integers(len(sound))] ^= 1 << int(rng.integers(8))
        file.write_bytes(damaged)
        try:
            again = load("image_folder", noise)
            for sample in range(4):
                np.testing.assert_array_equal(again.read_view(sample, 0), expected[sample])
        except UserError as error:
            assert "picture_files in" in str(error) and "is damaged: delete" in str(error)
            assert "the next run makes it again" in str(error)
            noticed += 1
    assert noticed > 10


def test_damage_after_loading_is_named_too(noise, tmp_path):
    dataset = load("image_folder", noise)
    (file,) = stored(tmp_path)
    content = file.read_bytes()
    middle = len(content) // 2
    file.write_bytes(content[:middle] + bytes(60) + content[middle + 60 :])
    with pytest.raises(UserError, match="is damaged: delete .*picture_files.*, and the next run makes it again"):
        reader = evaluation_reader(dataset.images, np.arange(4), 2)  # as training and evaluation read them
        for number in range(2):
            reader(number)


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json", "label.labels.txt", "manifest.json"])
def test_a_flipped_bit_beside_the_pictures_is_named(settings, tmp_path, name):
    load("image_folder", settings)
    (file,) = [each for each in (tmp_path / "data").rglob(f"*{name}")]
    sound = file.read_bytes()
    rng = np.random.default_rng(SEED)
    for _ in range(10):
        damaged = bytearray(sound)
        damaged[rng.integers(len(sound))] ^= 1 << int(rng.integers(8))
        file.write_bytes(damaged)
        with pytest.raises(
            UserError, match="picture_files in .* is damaged: delete .*, and the next run makes it again"
        ):
            load("image_folder", settings)
    file.write_bytes(sound)
    load("image_folder", settings)


def test_written_pictures_are_not_kept_in_memory(save, tmp_path):
    size = (100, 100, 3)
    for number in range(300):
        save(f"normal/{number}.png", np.random.default_rng(number).integers(0, 256, size, np.uint8))
    settings = picture_files_config(list_pictures(tmp_path / "own"), 10**6, None)
    builder = PictureFiles(data_dir=tmp_path / "data", config=settings)
    tracemalloc.start()
    try:
        builder.download_and_prepare(file_format="array_record")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert builder.info.splits["all"].num_examples == 300
    assert peak < 150 * np.prod(size)  # half of the pictures, which are incompressible


def test_unreadable_files_are_not_called_damaged():
    with tempfile.TemporaryDirectory() as root:  # unlike pytest's own, one that others may enter
        os.chmod(root, 0o755)
        settings = make_settings(root)
        load("image_folder", settings)  # the stand-in for your own images
        (file, *_) = pathlib.Path(root).rglob("*.array_record*")
        file.chmod(0)
        user = os.geteuid()
        try:
            if user == 0:  # who may read everything
                os.seteuid(_NOBODY)
            with pytest.raises(UserError, match="stand_in in .* cannot be read: give yourself permission to read it"):
                load("image_folder", settings)
        finally:
            os.seteuid(user)


def test_too_many_open_files_name_the_limit(made_up):
    load("cifar10", made_up)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as opened:
        opened.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
        with contextlib.suppress(OSError):
            while True:
                opened.enter_context(open(os.devnull, "rb"))
        with pytest.raises(UserError, match="stand_in in .* cannot be read: raise the limit of open files"):
            load("cifar10", made_up)
