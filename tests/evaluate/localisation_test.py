"""Hit rate and pixel AUROC, on cases that are counted by hand."""

import numpy as np
import pytest

from brittle_jax.errors import DegenerateDataError
from brittle_jax.evaluate import localisation
from tests.conftest import make_dataset

PATCH = [0, 0, 100, 100]


@pytest.mark.parametrize(
    ("place", "boxes", "hits"),
    [
        (PATCH, [[10, 10, 20, 20]], True),  # a small object within
        (PATCH, [[10, 95, 20, 105]], True),  # half of it
        (PATCH, [[10, 96, 20, 106]], False),  # less
        (PATCH, [[200, 200, 210, 210], [10, 10, 20, 20]], True),  # one of two
        (PATCH, [[0, 0, 400, 400]], True),  # an object around the patch
        (PATCH, [[0, 100, 100, 200]], False),  # side by side
        ([5, 7], [[5, 7, 6, 8]], True),  # pixels
        ([6, 7], [[5, 7, 6, 8]], False),
        ([5, 8], [[5, 7, 6, 8]], False),
    ],
)
def test_a_place_hits_if_it_shows_half_of_the_smaller_box(place, boxes, hits):
    assert localisation.hit_rate(np.array([place]), [np.array(boxes)]) == hits


def test_the_hit_rate_is_that_of_pictures():
    places = np.array([[5, 5], [50, 50], [9, 9]])
    boxes = [np.array([[0, 0, 10, 10]])] * 3
    assert localisation.hit_rate(places, boxes) == pytest.approx(2 / 3)


@pytest.mark.parametrize("boxes", [[], [np.zeros((0, 4))]])
def test_a_picture_without_a_box_is_refused(boxes):
    with pytest.raises(DegenerateDataError, match="each place needs a box"):
        localisation.hit_rate(np.array([[1, 2]]), boxes)


def test_the_largest_pixel_is_the_middle_of_its_place():
    assert localisation.largest_pixel(np.array([[0, 1], [2, 9], [3, 4]]), (30, 80)) == (15, 60)


def test_pixel_auroc_counts_pairs_of_pixels_over_all_pictures():
    maps = np.array([[[1.0, 4.0], [2.0, 3.0]], [[0.0, 5.0], [2.5, 0.0]]])
    masks = np.array([[[0, 255], [0, 255]], [[0, 0], [0, 0]]])
    # Anomalous 4 and 3; normal 1, 2, 0, 5, 2.5, 0: both are above all but 5.
    assert localisation.pixel_auroc(maps, masks) == pytest.approx(10 / 12)


def test_pixel_auroc_needs_both_kinds_and_equal_shapes():
    with pytest.raises(DegenerateDataError, match="all pixels are of one kind"):
        localisation.pixel_auroc(np.zeros((1, 2, 2)), np.zeros((1, 2, 2)))
    with pytest.raises(DegenerateDataError, match=r"maps of shape \(1, 2, 2\) and masks of shape \(1, 4, 4\)"):
        localisation.pixel_auroc(np.zeros((1, 2, 2)), np.zeros((1, 4, 4)))


def parcels(**changes):
    """Three parcels of two views with two patches each; the place of an anomaly is marked in both views of 0 and 1."""
    marked = [(0, 0, 0, 0, 4, 4), (0, 1, 0, 10, 4, 14), (1, 0, 0, 10, 4, 14), (1, 1, 0, 10, 4, 14), (2, 0, 0, 0, 4, 4)]
    fields = {
        "sample_of_image": np.repeat(np.arange(3), 4),
        "views": ("top", "side"),
        "view_of_image": np.tile([0, 0, 1, 1], 3),
        "box_of_image": np.tile([[0, 0, 10, 10], [0, 10, 10, 20]], (6, 1)),
        "anomaly_boxes": np.array(marked),
        "count": 12,
        "ids": np.array(["a", "b", "c"]),
        "labels": np.ones(3, int),
    }
    return make_dataset(np.zeros((12, 1, 1, 3)), **fields | changes)


def test_hit_rates_are_those_of_deciding_patches_beside_a_random_one():
    # Of parcel 0, the left patch of the top view and the right one of the side show the anomaly; of 1, both right ones.
    kd = np.array([9, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0])
    mse = np.array([0, 0, 0, 9, 0, 9, 0, 0, 0, 0, 0, 0])
    found = localisation.hit_rates(parcels(), np.arange(12), {"kd": kd, "mse": mse}, np.arange(3))
    assert found["num_samples"] == 2  # nobody marked the side view of the third
    assert found["hit_rate"] == {"kd": 0.5, "mse": 1.0}
    assert found["random_hit_rate"] == 0.5
    # Wilson's interval of 1 in 2, in closed form.
    square = 1.959964**2
    half = np.sqrt(square * (0.5 + square / 4)) / (2 + square)
    assert found["hit_rate_interval"]["kd"] == pytest.approx([0.5 - half, 0.5 + half], abs=1e-5)


def test_hit_rates_are_of_the_given_samples_alone():
    scores = {"kd": np.array([9.0, 0, 0, 0])}
    found = localisation.hit_rates(parcels(), np.arange(4), scores, np.array([0]))
    assert found["num_samples"] == 1 and found["hit_rate"] == {"kd": 1.0}


@pytest.mark.parametrize("changes", [{"anomaly_boxes": None}, {"box_of_image": None}])
def test_without_boxes_or_patches_there_are_no_hit_rates(changes):
    assert localisation.hit_rates(parcels(**changes), np.arange(12), {"kd": np.zeros(12)}, np.arange(3)) == {}


def test_parcels_that_nobody_marked_have_no_hit_rates():
    assert localisation.hit_rates(parcels(), np.arange(12), {"kd": np.zeros(12)}, np.array([2])) == {}
