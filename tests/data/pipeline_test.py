import itertools

import numpy as np
import pytest

from brittle_jax.data import image_set, pipeline
from brittle_jax.data.datasets.loading import load
from tests.conftest import make_image_set


@pytest.fixture
def images(cifar10_config):
    return load("cifar10", cifar10_config)


def take(images, indices, batch_size, seed, count):
    return list(itertools.islice(pipeline.training_batches(images, indices, batch_size, seed), count))


def test_training_batches_are_full_permutations_joined(images):
    indices = np.arange(100, 130)
    batches = take(images, indices, 8, 0, 15)
    assert all(len(batch["image"]) == 8 for batch in batches)
    positions = np.concatenate([batch["position"] for batch in batches])
    epochs = np.concatenate([batch["epoch"] for batch in batches])
    for epoch in range(4):
        assert sorted(positions[30 * epoch : 30 * epoch + 30]) == list(range(30))
        assert (epochs[30 * epoch : 30 * epoch + 30] == epoch).all()
    assert not np.array_equal(positions[:30], positions[30:60])


def test_training_batches_hold_the_images_that_their_positions_name(images):
    indices = np.arange(100, 130)
    for batch in take(images, indices, 8, 0, 2):
        for image, label, position in zip(batch["image"], batch["label"], batch["position"], strict=True):
            np.testing.assert_array_equal(image, images.read_image(indices[position]))
            assert label == images.labels[indices[position]]


def test_training_batches_depend_on_the_seed_alone(images):
    first, again, other = (take(images, np.arange(30), 8, seed, 4) for seed in (0, 0, 1))
    for one, two, three in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(one["image"], two["image"])
        assert not np.array_equal(one["position"], three["position"])


def test_fewer_images_than_a_batch_still_fill_it(images):
    (batch,) = take(images, np.arange(3), 8, 0, 1)
    assert np.bincount(batch["position"]).min() >= 2


def test_evaluation_drops_nothing_and_masks_the_filling(images):
    indices = np.arange(50, 63)
    batches = list(pipeline.evaluation_batches(images, indices, 8))
    assert [len(batch["image"]) for batch in batches] == [8, 8]
    positions = np.concatenate([batch["position"][batch["mask"]] for batch in batches])
    np.testing.assert_array_equal(positions, np.arange(13))
    np.testing.assert_array_equal(batches[1]["image"][4], images.read_image(62))
    assert not batches[1]["image"][5:].any()


@pytest.mark.parametrize("limit", [0, 2**28])
def test_images_are_decoded_once_where_all_fit(monkeypatch, limit):
    monkeypatch.setattr(image_set, "_REMEMBERED_BYTES", limit)
    read, pictures = [], np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), np.uint8)

    def read_image(index):
        read.append(index)
        return pictures[index]

    images = make_image_set(pictures, read_image=image_set.remembered(read_image, 6, (4, 4, 3)))
    for batch in take(images, np.arange(6), 4, 0, 9):
        np.testing.assert_array_equal(batch["image"], pictures[batch["position"]])
    assert (len(read) <= 8) == (limit > 0)  # two threads may decode one image at the same time
