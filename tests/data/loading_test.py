import io
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from brittle_jax.data import preprocess
from brittle_jax.data.datasets import xray_parcels
from brittle_jax.data.datasets.loading import load
from brittle_jax.data.datasets.xray_parcels import XrayParcels, make_example, parcels_config
from brittle_jax.errors import UserError
from tests.conftest import REAL_DATA


def test_stand_ins_have_the_format_of_the_originals(cifar10_config):
    dataset = load("cifar10", cifar10_config)
    assert dataset.synthetic
    assert dataset.samples.classes == tuple("airplane automobile bird cat deer dog frog horse ship truck".split())
    assert dataset.images.read(0).shape == dataset.images.shape == (32, 32, 3)
    assert len(set(dataset.samples.ids)) == len(dataset.samples.ids)


def test_fashion_mnist_becomes_32_pixels_and_three_equal_channels(cifar10_config):
    image = load("fashion_mnist", cifar10_config).images.read(3)
    assert image.shape == (32, 32, 3)
    assert (image == image[..., :1]).all()
    assert image.std() > 0


def test_parcels_are_read_as_patches_of_two_views(xray_config):
    dataset = load("xray", xray_config)
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


def test_parcels_in_many_splits_stay_in_order(xray_config, tmp_path, monkeypatch):
    monkeypatch.setattr(xray_parcels, "_SPLIT_BYTES", 10 * 3 * 96**2)  # ten parcels each
    xray_config.data.dir = str(tmp_path)
    dataset = load("xray", xray_config)
    assert len(list(tmp_path.rglob("*.array_record*"))) == 3
    expected = [f"soc_{number:05d}" for number in range(20)] + [f"threat_{number:05d}" for number in range(6)]
    assert dataset.samples.ids.tolist() == expected


def test_examples_are_stored_as_they_are_made(xray_config):
    load("xray", xray_config)
    builder = XrayParcels(data_dir=xray_config.data.dir, config=parcels_config(**xray_config.data.parcels))
    stored = builder.as_data_source("all", decoders={"top": tfds.decode.SkipDecoding()})
    made = make_example("threat", 5, xray_config.data.parcels.side_pixels, xray_config.data.parcels.seed)
    last = stored[len(stored) - 1]
    assert last["id"].decode() == made["id"] == "threat_00005"
    assert last["top"] == made["top"]
    np.testing.assert_array_equal(last["parts"]["box"], [entry["box"] for entry in made["parts"]])
    assert len(stored[0]["parts"]["box"]) == 0


def test_a_missing_folder_is_refused(cifar10_config):
    cifar10_config.data.stand_in = False
    cifar10_config.data.dir = "/nonexistent"
    with pytest.raises(UserError, match="--config.data.dir=/nonexistent: no such folder"):
        load("cifar10", cifar10_config)


def test_a_missing_data_set_says_how_to_get_it(cifar10_config, tmp_path):
    cifar10_config.data.stand_in = False
    cifar10_config.data.dir = str(tmp_path)
    with pytest.raises(UserError, match=r"cifar10 is not in .*tfds build cifar10 --file_format=array_record"):
        load("cifar10", cifar10_config)


def test_a_data_set_that_only_tensorflow_reads_is_refused(cifar10_config, tmp_path):
    builder = tfds.builder("cifar10", data_dir=tmp_path)
    folder = tmp_path / "cifar10" / str(builder.version)
    folder.mkdir(parents=True)
    builder.info.set_file_format("tfrecord")
    builder.info.write_to_directory(folder)
    cifar10_config.data.dir = str(tmp_path)
    with pytest.raises(UserError, match="in the format tfrecord, which only TensorFlow reads"):
        load("cifar10", cifar10_config)


def test_a_folder_that_cannot_be_written_is_refused(xray_config, tmp_path):
    (tmp_path / "file").write_text("")
    xray_config.data.dir = str(tmp_path / "file")
    with pytest.raises(UserError, match="cannot be written"):
        load("xray", xray_config)


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
def test_the_real_data_sets_are_read_without_tensorflow(cifar10_config, real_tfds):
    assert REAL_DATA.is_dir()
    cifar10_config.data.dir = real_tfds
    dataset = load("cifar10", cifar10_config)
    assert not dataset.synthetic
    assert np.bincount(dataset.samples.labels[dataset.samples.official_split == "train"]).tolist() == [5000] * 10
    assert np.bincount(dataset.samples.labels[dataset.samples.official_split == "test"]).tolist() == [1000] * 10
    assert "tensorflow" not in sys.modules
