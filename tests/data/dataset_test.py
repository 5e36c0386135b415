import dataclasses
import hashlib

import numpy as np
import pytest

from tests.conftest import make_dataset


@pytest.fixture
def parcels():
    """Three samples of two images each, in the order of their second view, then their first."""
    return make_dataset(
        np.zeros((6, 1, 1, 3)),
        ids=np.array(["a", "b", "c"]),
        labels=np.array([0, 1, 0]),
        digests=np.array([["1", "2"], ["3", "4"], ["5", "6"]]),
        groups=np.array(["a", "b", "c"]),
        sample_of_image=np.array([2, 0, 1, 2, 0, 1]),
        views=("top", "side"),
        view_of_image=np.array([1, 1, 1, 0, 0, 0]),
    )


def test_images_of_samples_are_in_ascending_order(parcels):
    assert parcels.images_of(np.array([2, 0])).tolist() == [0, 1, 3, 4]
    assert parcels.images_of(np.array([], int)).tolist() == []


def test_images_have_the_labels_of_their_samples(parcels):
    assert parcels.labels_of(np.array([0, 2, 5])).tolist() == [0, 1, 1]


def test_the_identity_is_a_digest_of_what_the_samples_are(parcels):
    columns = [["normal", "anomalous"], [0, 1, 0], [], ["a", "b", "c"], [["1", "2"], ["3", "4"], ["5", "6"]]]
    sha256 = hashlib.sha256(repr(columns).encode()).hexdigest()
    assert parcels.identity() == {"name": "image_folder", "synthetic": True, "num_samples": 3, "sha256": sha256}


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": ("normal", "odd")},
        {"labels": np.array([0, 1, 1])},
        {"official_split": np.array(["train", "test", "test"])},
        {"ids": np.array(["a", "b", "d"])},
        {"digests": np.array([["1", "2"], ["3", "4"], ["5", "7"]])},
    ],
)
def test_other_samples_are_another_data_set(parcels, changes):
    other = dataclasses.replace(parcels, samples=dataclasses.replace(parcels.samples, **changes))
    assert other.identity() != parcels.identity()


def test_groups_and_intensity_do_not_change_the_identity(parcels):
    samples = dataclasses.replace(parcels.samples, groups=np.array(["a", "a", "a"]))
    other = dataclasses.replace(parcels, samples=samples, intensity={"range": (0, 4095)})
    assert other.identity() == parcels.identity()
