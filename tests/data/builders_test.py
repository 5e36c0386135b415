import pathlib
from dataclasses import replace

import pytest
import tensorflow_datasets as tfds

from brittle_jax.data.datasets.loading import load
from brittle_jax.data.datasets.stand_in import StandIn
from brittle_jax.errors import UserError


def test_a_missing_folder_is_refused(made_up):
    made_up = replace(made_up, stand_in=False, dir="/nonexistent")
    with pytest.raises(UserError, match="data.dir=/nonexistent: no such folder"):
        load("cifar10", made_up)


def test_a_missing_data_set_says_how_to_get_it(made_up, tmp_path):
    made_up = replace(made_up, stand_in=False, dir=str(tmp_path))
    with pytest.raises(UserError, match=r"cifar10 is not in .*tfds build cifar10 --file_format=array_record"):
        load("cifar10", made_up)


def test_a_data_set_that_only_tensorflow_reads_is_refused(made_up, tmp_path):
    builder = tfds.builder("cifar10", data_dir=tmp_path)
    folder = tmp_path / "cifar10" / str(builder.version)
    folder.mkdir(parents=True)
    builder.info.set_file_format("tfrecord")
    builder.info.write_to_directory(folder)
    made_up = replace(made_up, dir=str(tmp_path))
    with pytest.raises(UserError, match="in the format tfrecord, which only TensorFlow reads"):
        load("cifar10", made_up)


def test_an_unwritable_folder_is_refused(made_up, tmp_path):
    (tmp_path / "file").write_text("")
    made_up = replace(made_up, dir=str(tmp_path / "file"))
    with pytest.raises(UserError, match="cannot be written"):
        load("xray", made_up)


def test_what_a_killed_preparation_left_is_deleted_by_the_next_one(made_up, tmp_path):
    made_up = replace(made_up, dir=str(tmp_path))
    folder = pathlib.Path(StandIn(data_dir=tmp_path, config="cifar10").data_dir)
    with tfds.core.utils.incomplete_dir(folder) as written:
        left = pathlib.Path(written)
    folder.rmdir()
    left.mkdir()  # as if the process had been killed meanwhile
    another = folder.parent / f"incomplete.ABCDEF_{folder.name}0"  # of another version
    another.mkdir()
    load("cifar10", made_up)
    assert folder.is_dir() and another.is_dir() and not left.exists()
