import numpy as np
import pytest

from brittle_jax.data import pipeline
from tests.conftest import make_dataset

PICTURES = np.random.default_rng(0).integers(0, 256, (40, 4, 4, 3), np.uint8)
LABELS = np.arange(40) % 7
INDICES = np.arange(10, 40)


@pytest.fixture
def images():
    return make_dataset(PICTURES).images


def take(reader, count, first=0):
    return [reader(number) for number in range(first, first + count)]


def test_training_batches_are_full_permutations_joined(images):
    batches = take(pipeline.training_reader(images, INDICES, 8, seed=0), 15)
    assert all(len(batch["image"]) == 8 for batch in batches)
    positions = np.concatenate([batch["position"] for batch in batches])
    epochs = np.concatenate([batch["epoch"] for batch in batches])
    for epoch in range(4):
        assert sorted(positions[30 * epoch : 30 * epoch + 30]) == list(range(30))
        assert (epochs[30 * epoch : 30 * epoch + 30] == epoch).all()
    assert not np.array_equal(positions[:30], positions[30:60])


def test_training_batches_hold_the_images_that_their_positions_name(images):
    for batch in take(pipeline.training_reader(images, INDICES, 8, seed=0, labels=LABELS[INDICES]), 2):
        np.testing.assert_array_equal(batch["image"], PICTURES[INDICES[batch["position"]]])
        np.testing.assert_array_equal(batch["label"], LABELS[INDICES[batch["position"]]])


def test_labels_are_0_unless_given(images):
    assert pipeline.training_reader(images, INDICES, 8, seed=0)(0)["label"].tolist() == [0] * 8


def test_training_batches_depend_on_the_seed_alone(images):
    first, again, other = (take(pipeline.training_reader(images, INDICES, 8, seed), 4) for seed in (0, 0, 1))
    for one, two, three in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(one["image"], two["image"])
        assert not np.array_equal(one["position"], three["position"])


@pytest.mark.parametrize("start", [3, 4, 11])  # in the first epoch, over its end, later
def test_a_reader_can_begin_at_any_batch(images, start):
    whole = take(pipeline.training_reader(images, INDICES, 8, seed=0), 14)
    for expected, actual in zip(
        whole[start:], take(pipeline.training_reader(images, INDICES, 8, seed=0), 14 - start, start), strict=True
    ):
        for key in ("image", "label", "position", "epoch"):
            np.testing.assert_array_equal(actual[key], expected[key])


def test_batches_asked_for_out_of_order_are_right(images):
    reader = pipeline.training_reader(images, INDICES, 8, seed=0)
    expected = {number: pipeline.training_reader(images, INDICES, 8, seed=0)(number) for number in (0, 2, 5)}
    for number in (5, 0, 0, 2, 5):
        np.testing.assert_array_equal(reader(number)["image"], expected[number]["image"])


def test_the_training_order_is_what_training_reads(images):
    order, reader = pipeline.training_order(30, 8, seed=0), pipeline.training_reader(images, INDICES, 8, seed=0)
    for number in (0, 3, 100):
        positions, epochs = order(number)
        assert positions.tolist() == reader(number)["position"].tolist()
        assert epochs.tolist() == reader(number)["epoch"].tolist()


def test_fewer_images_than_a_batch_still_fill_it(images):
    batch = pipeline.training_reader(images, np.arange(3), 8, seed=0)(0)
    assert np.bincount(batch["position"]).min() >= 2
    assert batch["epoch"].tolist() == [0] * 3 + [1] * 3 + [2] * 2


def test_evaluation_drops_nothing_and_masks_the_filling(images):
    indices = np.arange(20, 33)
    batches = take(pipeline.evaluation_reader(images, indices, 8, LABELS[indices]), 2)
    assert [len(batch["image"]) for batch in batches] == [8, 8]
    for key, expected in (("position", np.arange(13)), ("image", PICTURES[indices]), ("label", LABELS[indices])):
        np.testing.assert_array_equal(np.concatenate([batch[key][batch["mask"]] for batch in batches]), expected)
    assert batches[1]["mask"].tolist() == [True] * 5 + [False] * 3
    assert not batches[1]["image"][5:].any()


def test_padding_leaves_what_is_there():
    batch = pipeline.padded({"a": np.ones((2, 3), np.float32), "b": np.array([4, 5])}, 4)
    np.testing.assert_array_equal(batch["a"], [[1] * 3] * 2 + [[0] * 3] * 2)
    assert batch["b"].tolist() == [4, 5, 0, 0] and batch["mask"].tolist() == [True, True, False, False]
    assert batch["a"].dtype == np.float32 and batch["b"].dtype == int
