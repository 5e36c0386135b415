import dataclasses

import numpy as np
import pytest

from brittle_jax.data.catalogue import CATALOGUE
from brittle_jax.data.one_class import configurations
from brittle_jax.data.splits import (
    Lesson,
    Splitting,
    anomalies_can_train,
    identical_across_splits,
    labelled_lesson,
    limited_lesson,
    roles,
)
from tests.conftest import make_dataset

SPLITTING = Splitting(seed=0, train_fraction=0.8)
SUPERVISED = dataclasses.replace(SPLITTING, anomalous_fraction=0.5)


def own_images(labels, **changes):
    return make_dataset(np.zeros((len(labels), 1, 1, 3)), labels=np.asarray(labels), **changes)


def count(assigned, is_member):
    """Returns how many members each role has."""
    return {role: int(number) for role, number in zip(*np.unique(assigned[is_member], return_counts=True), strict=True)}


def test_a_share_of_every_class_trains():
    labels = np.repeat([0, 1], [10, 30])
    assigned = roles(own_images(labels, name="cats_vs_dogs", classes=("cat", "dog")), SPLITTING)
    assert count(assigned, labels == 0) == {"train": 8, "test": 2}
    assert count(assigned, labels == 1) == {"train": 24, "test": 6}


def test_as_many_diseased_leaves_test_as_healthy_ones_evenly_of_each_disease():
    labels = np.repeat([0, 1, 2, 3], [50, 3, 20, 20])
    dataset = own_images(labels, name="plant_pathology", classes=CATALOGUE["plant_pathology"].classes)
    assigned = roles(dataset, SPLITTING)
    assert count(assigned, labels == 0) == {"train": 40, "test": 10}
    assert [count(assigned, labels == label).get("test", 0) for label in (1, 2, 3)] == [3, 3, 3]


def test_the_data_sets_own_split_decides():
    own = np.array(["train", "test", "unlabelled", "calibration"])
    dataset = own_images([0, 1, -1, 0], name="stl10", official_split=own)
    assert roles(dataset, SPLITTING).tolist() == own.tolist()


def test_a_share_of_each_class_calibrates():
    labels = np.repeat([0, 1], [40, 20])
    dataset = own_images(labels, name="cats_vs_dogs", classes=("cat", "dog"))
    assigned = roles(dataset, dataclasses.replace(SPLITTING, calibration_fraction=0.25))
    assert count(assigned, labels == 0) == {"train": 24, "calibration": 8, "test": 8}
    assert count(assigned, labels == 1) == {"train": 12, "calibration": 4, "test": 4}


def test_parcels_are_split_by_parcel_and_all_threats_test():
    parcels = np.arange(26)
    dataset = make_dataset(
        np.zeros((26 * 4, 1, 1, 3)),  # two patches of both views of each parcel
        name="xray",
        classes=("soc", "threat"),
        ids=parcels.astype(str),
        labels=parcels // 20,
        groups=parcels.astype(str),
        digests=parcels.astype(str)[:, None],
        views=("top", "side"),
        sample_of_image=parcels.repeat(4),
        view_of_image=np.tile([0, 0, 1, 1], 26),
    )
    (soc,) = configurations(dataset, "all", SPLITTING)
    assert len(soc.train) == 16
    assert np.bincount(soc.test_labels).tolist() == [4, 6]
    assert not set(soc.train) & set(soc.test)
    assert (dataset.samples.labels[soc.train] == 0).all()
    # All patches of both views of a parcel are on one side.
    train_images, test_images = dataset.images_of(soc.train), dataset.images_of(soc.test)
    assert len(train_images) + len(test_images) == len(dataset.images)
    assert not set(train_images) & set(test_images)
    assert set(dataset.view_of_image[train_images]) == {0, 1}


def test_the_split_depends_on_the_seed_alone():
    dataset = own_images([0] * 20)
    first, again, other = (roles(dataset, dataclasses.replace(SPLITTING, seed=seed)) for seed in (0, 0, 1))
    assert first.tolist() == again.tolist() != other.tolist()


def test_the_split_does_not_depend_on_the_order_of_the_files():
    dataset = own_images([0] * 20)
    samples = dataset.samples
    reverse = dataclasses.replace(samples, ids=samples.ids[::-1], groups=samples.groups[::-1])
    chosen = [
        set(each.ids[roles(dataclasses.replace(dataset, samples=each), SPLITTING) == "train"])
        for each in (samples, reverse)
    ]
    assert chosen[0] == chosen[1]


def test_samples_of_one_group_are_never_split_apart():
    groups = np.repeat(np.arange(8).astype(str), 5)
    is_train = roles(own_images([0] * 40, groups=groups), SPLITTING) == "train"
    assert not set(groups[is_train]) & set(groups[~is_train])
    assert is_train.sum() in (30, 35)


@pytest.mark.parametrize("splitting", [SPLITTING, SUPERVISED])
def test_groups_with_both_kinds_test_as_a_whole(splitting):
    groups = np.array([f"object {number // 2}" for number in range(20)])
    dataset = own_images([0] * 13 + [1] * 7, groups=groups)  # object 6 has one of each
    for seed in range(5):
        assigned = roles(dataset, dataclasses.replace(splitting, seed=seed))
        assert assigned[12] == assigned[13] == "test"
        assert (assigned[14:] == "train").sum() == (4 if splitting.anomalous_fraction else 0)


def test_a_supervised_learner_sees_half_of_the_anomalies_and_is_tested_on_the_others():
    dataset = own_images([0] * 20 + [1] * 6, name="xray", classes=("soc", "threat"))
    (usual,), (configuration,) = (configurations(dataset, "all", each) for each in (SPLITTING, SUPERVISED))
    lesson = labelled_lesson(dataset, SUPERVISED, "lesson", max_train_samples=0, max_test_samples=0)
    np.testing.assert_array_equal(configuration.train, usual.train)  # the student never sees a threat
    assert np.bincount(configuration.test_labels).tolist() == [4, 3]
    assert np.bincount(lesson.dataset.samples.labels[lesson.train]).tolist() == [16, 3]
    assert not set(lesson.train) & set(configuration.test)
    assert set(configuration.test) <= set(usual.test)


def test_kinds_of_anomaly_are_one_class_to_a_supervised_learner():
    dataset = own_images([0] * 10 + [1, 1, 2, 2], classes=("normal", "dent", "scratch"))
    lesson = labelled_lesson(dataset, SUPERVISED, "lesson", max_train_samples=0, max_test_samples=0)
    assert lesson.dataset.samples.classes == ("normal", "anomalous")
    assert lesson.dataset.samples.labels.tolist() == [0] * 10 + [1] * 4
    assert dataset.samples.labels.tolist() == [0] * 10 + [1, 1, 2, 2]


def test_classes_that_are_normal_in_turn_keep_their_labels():
    splits = np.repeat(["train", "test"], [20, 10])
    dataset = own_images(
        np.arange(30) % 10, name="cifar10", classes=CATALOGUE["cifar10"].classes, official_split=splits
    )
    lesson = labelled_lesson(dataset, SPLITTING, "probe", max_train_samples=0, max_test_samples=0)
    assert lesson.dataset is dataset
    assert (lesson.train.tolist(), lesson.held_out.tolist()) == (list(range(20)), list(range(20, 30)))


def test_lessons_can_be_limited():
    lesson = Lesson(own_images([0] * 30), np.arange(20), np.arange(20, 30))
    few, again, other = (limited_lesson(lesson, 0, purpose, 5, 3) for purpose in ("a", "a", "b"))
    assert set(few.train) < set(lesson.train) and set(few.held_out) < set(lesson.held_out)
    assert (len(few.train), len(few.held_out)) == (5, 3)
    assert few.train.tolist() == again.train.tolist() != other.train.tolist()
    whole = limited_lesson(lesson, 0, "a", 0, 0)
    assert (whole.train.tolist(), whole.held_out.tolist()) == (list(range(20)), list(range(20, 30)))


DATASETS = {
    "cifar10": {"labels": np.arange(100) % 10, "official_split": np.repeat(["train", "test"], 50)},
    "cats_vs_dogs": {"labels": np.arange(100) % 2},
    "plant_pathology": {"labels": np.arange(100) // 40},
    "xray": {"labels": np.arange(100) // 60},
    "image_folder": {"labels": np.arange(100) // 60},
}


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.parametrize("anomalous_fraction", [0.0, 0.5])
def test_nothing_that_is_tested_is_learned_from(name, anomalous_fraction):
    dataset = own_images(name=name, classes=CATALOGUE[name].classes, **DATASETS[name])
    splitting = Splitting(0, 0.8, calibration_fraction=0.2, anomalous_fraction=anomalous_fraction)
    learned = set()
    if anomalous_fraction:
        learned |= set(labelled_lesson(dataset, splitting, "a", max_train_samples=0, max_test_samples=0).train)
    for configuration in configurations(dataset, "all", splitting):
        tested, calibrated = set(configuration.test), set(configuration.calibration)
        trained = learned | set(configuration.train)
        assert trained and tested and calibrated
        assert trained.isdisjoint(tested) and trained.isdisjoint(calibrated) and tested.isdisjoint(calibrated)


def test_anomalies_can_train_only_where_they_would_test_otherwise():
    can_train = {
        name: anomalies_can_train(own_images([0, 1], name=name, classes=entry.classes))
        for name, entry in CATALOGUE.items()
    }
    assert {name for name, can in can_train.items() if can} == {"xray", "image_folder"}
    assert not anomalies_can_train(own_images([0, 1], official_split=np.array(["train", "test"])))


def test_the_same_image_on_two_sides_of_a_split_is_found():
    splits = np.array(["train"] * 3 + ["calibration"] + ["test"] * 4)
    dataset = own_images([0] * 7 + [1], official_split=splits)
    assert identical_across_splits(dataset, SPLITTING) == []
    digests = np.array(["a", "b", "a", "b", "b", "c", "c", "a"])[:, None]
    dataset = own_images([0] * 7 + [1], official_split=splits, digests=digests)
    # Twins on one side do not count; an anomalous sample with the image of a normal one does.
    assert identical_across_splits(dataset, SPLITTING) == [["0", "7"], ["1", "3"], ["1", "4"]]


def test_one_identical_view_is_enough():
    splits = np.array(["train", "test", "test"])
    digests = np.array([["a", "b"], ["c", "d"], ["e", "a"]])
    dataset = own_images([0] * 3, official_split=splits, digests=digests)
    assert identical_across_splits(dataset, SPLITTING) == [["0", "2"]]


def test_what_a_supervised_learner_sees_counts_as_training():
    dataset = own_images([0] * 4 + [1] * 4, digests=np.array(["a", "b", "c", "d", "x", "x", "x", "x"])[:, None])
    assert len(identical_across_splits(dataset, SUPERVISED)) == 2
    assert identical_across_splits(dataset, SPLITTING) == []
