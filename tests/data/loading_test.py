import sys
from dataclasses import replace

import numpy as np
import pytest

from brittle_jax.data.datasets.loading import load
from tests.conftest import REAL_DATA


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


@pytest.mark.realdata
def test_the_real_data_sets_are_read_without_tensorflow(made_up, real_tfds):
    assert REAL_DATA.is_dir()
    made_up = replace(made_up, dir=real_tfds)
    dataset = load("cifar10", made_up)
    assert not dataset.synthetic
    assert np.bincount(dataset.samples.labels[dataset.samples.official_split == "train"]).tolist() == [5000] * 10
    assert np.bincount(dataset.samples.labels[dataset.samples.official_split == "test"]).tolist() == [1000] * 10
    assert "tensorflow" not in sys.modules
