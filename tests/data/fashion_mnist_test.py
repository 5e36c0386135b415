import gzip
import struct

import numpy as np
import pytest
import tensorflow_datasets as tfds

from brittle_jax.data.datasets import fashion_mnist
from brittle_jax.data.datasets.loading import load
from brittle_jax.errors import UserError
from tests.data.settings import make_settings


def write(folder, images, labels, split, level=9):
    """Writes a split in the published format: gzip of IDX, whose header has a magic number and the sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    start = {"train": "train", "test": "t10k"}[split]
    contents = {
        "images-idx3": struct.pack(">4I", 2051, len(images), 28, 28) + images.tobytes(),
        "labels-idx1": struct.pack(">2I", 2049, len(labels)) + labels.tobytes(),
    }
    for kind, content in contents.items():
        (folder / f"{start}-{kind}-ubyte.gz").write_bytes(gzip.compress(content, level))


@pytest.fixture
def settings(tmp_path):
    return make_settings(tmp_path, stand_in=False, image_size_pixels=28)


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Forty made-up images in place of the published ones, and their digests in place of the real ones."""
    rng = np.random.default_rng(0)
    sets = {}
    for split, count in (("train", 30), ("test", 10)):
        images, labels = rng.integers(0, 256, (count, 28, 28, 1), np.uint8), np.arange(count, dtype=np.uint8) % 10
        sets[split] = images, labels
        write(tmp_path / fashion_mnist.FOLDER, images, labels, split)
        monkeypatch.setitem(fashion_mnist.CONTENT_DIGESTS, split, fashion_mnist.content_digest(images, labels))
    return sets


def test_the_four_files_are_prepared_without_tensorflow(made, settings):
    dataset = load("fashion_mnist", settings)
    assert dataset.synthetic is False
    assert dataset.samples.official_split.tolist() == ["train"] * 30 + ["test"] * 10
    pixels, labels = (np.concatenate(parts) for parts in zip(made["train"], made["test"], strict=True))
    assert dataset.samples.labels.tolist() == labels.tolist()
    for index in (0, 29, 30, 39):
        np.testing.assert_array_equal(dataset.images.read(index), np.repeat(pixels[index], 3, axis=-1))


def test_files_compressed_otherwise_are_the_same(made, settings, tmp_path):
    write(tmp_path / fashion_mnist.FOLDER, *made["train"], "train", level=1)
    assert len(load("fashion_mnist", settings).samples.ids) == 40


def test_other_content_is_refused(made, settings, tmp_path):
    images, labels = made["test"]
    write(tmp_path / fashion_mnist.FOLDER, images, labels[::-1].copy(), "test")
    with pytest.raises(UserError, match="t10k-.* do not hold Fashion-MNIST's test images"):
        load("fashion_mnist", settings)


def test_a_file_that_was_cut_off_is_refused(made, settings, tmp_path):
    file = tmp_path / fashion_mnist.FOLDER / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match="train-images-idx3-ubyte.gz cannot be read"):
        load("fashion_mnist", settings)


def test_a_missing_file_leaves_the_stock_builder(made, settings, tmp_path):
    (tmp_path / fashion_mnist.FOLDER / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(UserError, match="fashion_mnist is not in"):
        load("fashion_mnist", settings)


@pytest.mark.realdata
def test_the_published_images_have_the_expected_digests(real_tfds):
    for split in ("train", "test"):
        source = tfds.data_source("fashion_mnist", split=split, data_dir=real_tfds, download=False)
        examples = source.__getitems__(range(len(source)))
        images = np.stack([example["image"] for example in examples])
        labels = np.array([example["label"] for example in examples], np.uint8)
        assert fashion_mnist.content_digest(images, labels) == fashion_mnist.CONTENT_DIGESTS[split]


def test_a_damaged_description_is_named(made, settings, tmp_path):
    load("fashion_mnist", settings)
    (file,) = tmp_path.rglob("fashion_mnist_files/**/dataset_info.json")
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(UserError, match="fashion_mnist_files in .* is damaged: delete .*, and the next run makes it"):
        load("fashion_mnist", settings)
