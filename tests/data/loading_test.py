import io
import sys
from dataclasses import replace

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from brittle_jax.data import preprocess
from brittle_jax.data.datasets.loading import load
from brittle_jax.data.datasets.xray_parcels import XrayParcels, make_example, parcels_config
from brittle_jax.data.settings import ParcelSettings
from brittle_jax.errors import UserError
from tests.conftest import REAL_DATA
from tests.data.settings import make_settings


def test_stand_ins_have_the_format_of_the_originals(made_up):
    dataset = load("cifar10", made_up)
    assert dataset.synthetic
    assert dataset.samples.classes == tuple("airplane automobile bird cat deer dog frog horse ship truck".split())
    assert dataset.images.read(0).shape == dataset.images.shape == (32, 32, 3)
    assert len(set(dataset.samples.ids)) == len(dataset.samples.ids)


def test_fashion_mnist_becomes_32_pixels_and_three_equal_channels(made_up):
    image = load("fashion_mnist", made_up).images.read(3)
    assert image.shape == (32, 32, 3)
    assert (image == image[..., :1]).all()
    assert image.std() > 0


def test_parcels_are_read_as_patches_of_two_views(made_up):
    dataset = load("xray", made_up)
    assert dataset.synthetic
    assert len(dataset.samples.ids) == 26
    assert dataset.images.read(0).shape == (64, 64, 3)
    for parcel in range(26):
        assert set(dataset.view_of_image[dataset.sample_of_image == parcel]) == {0, 1}
    assert (np.bincount(dataset.samples.labels) == [20, 6]).all()


def test_an_example_is_the_same_from_the_same_seed():
    first, again, other = (make_example("threat", index, 64, 0) for index in (0, 0, 1))
    assert first["top"] == again["top"] != other["top"]
    assert {(entry["part"], entry["view"]) for entry in first["parts"]} == {
        (part, view) for part in ("slide", "barrel", "frame", "magazine") for view in ("top", "side")
    }


def test_parcels_in_many_splits_stay_in_order(tmp_path):
    parcels = ParcelSettings(num_normal=5, num_threat=2, side_pixels=32, seed=0)
    builder = XrayParcels(data_dir=tmp_path, config=parcels_config(parcels, split_bytes=3 * 3 * 32**2))
    builder.download_and_prepare(file_format="array_record")
    assert len(list(tmp_path.rglob("*.array_record*"))) == 3  # of three parcels, but for the last
    dataset = load("xray", make_settings(tmp_path, parcels=parcels))
    expected = [f"soc_{number:05d}" for number in range(5)] + [f"threat_{number:05d}" for number in range(2)]
    assert dataset.samples.ids.tolist() == expected


def test_examples_are_stored_as_they_are_made(made_up):
    load("xray", made_up)
    builder = XrayParcels(data_dir=made_up.dir, config=parcels_config(made_up.parcels))
    stored = builder.as_data_source("all", decoders={"top": tfds.decode.SkipDecoding()})
    made = make_example("threat", 5, made_up.parcels.side_pixels, made_up.parcels.seed)
    last = stored[len(stored) - 1]
    assert last["id"].decode() == made["id"] == "threat_00005"
    assert last["top"] == made["top"]
    np.testing.assert_array_equal(last["parts"]["box"], [entry["box"] for entry in made["parts"]])
    assert len(stored[0]["parts"]["box"]) == 0


def test_a_missing_folder_is_refused(made_up):
    made_up = replace(made_up, stand_in=False)
    made_up = replace(made_up, dir="/nonexistent")
    with pytest.raises(UserError, match="data.dir=/nonexistent: no such folder"):
        load("cifar10", made_up)


def test_a_missing_data_set_says_how_to_get_it(made_up, tmp_path):
    made_up = replace(made_up, stand_in=False)
    made_up = replace(made_up, dir=str(tmp_path))
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


def test_a_folder_that_cannot_be_written_is_refused(made_up, tmp_path):
    (tmp_path / "file").write_text("")
    made_up = replace(made_up, dir=str(tmp_path / "file"))
    with pytest.raises(UserError, match="cannot be written"):
        load("xray", made_up)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_decoding_gives_three_channels_unchanged(mode):
    shape = (5, 7) if mode == "L" else (5, 7, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    expected = pixels if mode == "RGB" else np.repeat(pixels[..., None], 3, axis=-1)
    np.testing.assert_array_equal(preprocess.decode(buffer.getvalue()), expected)


@pytest.mark.parametrize(("shape", "side"), [((96, 96), 32), ((120, 160), 64), ((40, 30), 64), ((256, 171), 224)])
def test_resizing_is_bilinear_and_antialiased(torch, shape, side):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    planes = torch.from_numpy(image.transpose(2, 0, 1)[None].astype(np.float32))
    expected = torch.nn.functional.interpolate(planes, (side, side), mode="bilinear", antialias=True)
    difference = preprocess.decode(preprocess.encode_png(image), side) - expected[0].numpy().transpose(1, 2, 0)
    assert np.abs(difference).max() < 1.1  # Pillow rounds twice, once for each axis


def test_unit_range_ends_at_0_and_1():
    pixels = np.array([0, 51, 255], np.uint8)
    np.testing.assert_allclose(preprocess.to_unit_range(pixels), [0, 0.2, 1], rtol=1e-6)


@pytest.mark.realdata
def test_the_real_data_sets_are_read_without_tensorflow(made_up, real_tfds):
    assert REAL_DATA.is_dir()
    made_up = replace(made_up, dir=real_tfds)
    dataset = load("cifar10", made_up)
    assert not dataset.synthetic
    assert np.bincount(dataset.samples.labels[dataset.samples.official_split == "train"]).tolist() == [5000] * 10
    assert np.bincount(dataset.samples.labels[dataset.samples.official_split == "test"]).tolist() == [1000] * 10
    assert "tensorflow" not in sys.modules
