import dataclasses

import numpy as np
import pytest

from brittle_jax.data import one_class
from brittle_jax.data.datasets.loading import load
from brittle_jax.data.datasets.stand_in import FORMATS
from brittle_jax.errors import UserError
from brittle_jax.recipes import image_folder_row
from tests.conftest import make_image_set


@pytest.fixture
def cifar10(cifar10_config):
    cifar10_config.data.configurations = "all"
    cifar10_config.data.max_train_samples = cifar10_config.data.max_test_samples = 0
    return load("cifar10", cifar10_config), cifar10_config


def test_cifar10_has_ten_unimodal_and_ten_multimodal_configurations(cifar10):
    images, config = cifar10
    configurations = {entry.name: entry for entry in one_class.configurations(images, config)}
    assert len(configurations) == 20
    assert [entry.group for entry in configurations.values()] == ["unimodal"] * 10 + ["multimodal"] * 10
    bird = images.classes.index("bird")
    unimodal, multimodal = configurations["unimodal/bird"], configurations["multimodal/bird"]
    assert set(images.labels[unimodal.train]) == {bird}
    assert set(images.labels[multimodal.train]) == set(range(10)) - {bird}
    for entry, normal_is_bird in ((unimodal, True), (multimodal, False)):
        is_bird = images.labels[entry.test] == bird
        np.testing.assert_array_equal(entry.test_labels == 0, is_bird == normal_is_bird)
        assert (images.official_split[entry.train] == "train").all()
        assert (images.official_split[entry.test] == "test").all()
        assert len(entry.test) == (images.official_split == "test").sum()


def test_some_configurations_can_be_chosen(cifar10):
    images, config = cifar10
    config.data.configurations = "multimodal/cat, unimodal/airplane"
    names = [entry.name for entry in one_class.configurations(images, config)]
    assert names == ["unimodal/airplane", "multimodal/cat"]
    config.data.configurations = "unimodal"
    assert len(one_class.configurations(images, config)) == 10


@pytest.mark.parametrize(
    ("requested", "message"),
    [
        ("unimodal/aeroplane", "did you mean unimodal/airplane"),
        ("soc", "there are multimodal"),
        (",", "is empty"),
    ],
)
def test_unknown_configurations_are_refused(cifar10, requested, message):
    images, config = cifar10
    config.data.configurations = requested
    with pytest.raises(UserError, match=message):
        one_class.configurations(images, config)


def test_limits_keep_that_many_of_each(cifar10):
    images, config = cifar10
    config.data.max_train_samples, config.data.max_test_samples = 7, 5
    for entry in one_class.configurations(images, config):
        assert len(entry.train) == len(set(entry.train)) == 7
        assert np.bincount(entry.test_labels).tolist() == [5, 5]


def test_parcels_are_split_by_parcel_and_all_threats_test(xray_config):
    images = load("xray", xray_config)
    (soc,) = one_class.configurations(images, xray_config)
    assert len(soc.train) == 16
    assert np.bincount(soc.test_labels).tolist() == [4, 6]
    assert not set(soc.train) & set(soc.test)
    assert (images.labels[soc.train] == 0).all()
    # All patches of both views of a parcel are on one side.
    train_images, test_images = images.images_of(soc.train), images.images_of(soc.test)
    assert len(train_images) + len(test_images) == len(images.sample_of_image)
    assert not set(train_images) & set(test_images)
    assert set(images.view_of_image[train_images]) == {0, 1}


@pytest.mark.parametrize(
    ("task", "num_threat", "share", "message"),
    [
        ("rotnet", 0, 0.5, "num_threat=0 leaves no threats to test on"),
        ("rotnet", 1, 0.5, None),
        ("baseline", 0, 0.5, "num_threat=0 leaves no threats to test on"),
        ("baseline", 1, 0.9, "num_threat=1 leaves no threats to test on"),
        ("baseline", 1, 0.1, "fraction=0.1 is 0, leaves the supervised baseline no threats to learn from"),
        ("baseline", 6, 0.05, "fraction=0.05 is 0, leaves the supervised baseline no threats to learn from"),
        ("baseline", 2, 0.5, None),
    ],
)
def test_threats_are_needed_to_test_and_for_the_baseline_to_learn(xray_config, task, num_threat, share, message):
    xray_config.teacher.task, xray_config.data.parcels.num_threat = task, num_threat
    xray_config.data.baseline_fraction = share
    if message is None:
        one_class.check_parcels(xray_config)
    else:
        with pytest.raises(UserError, match=message):
            one_class.check_parcels(xray_config)


def test_the_split_depends_on_the_seed_alone(xray_config):
    images = load("xray", xray_config)
    first, again = (one_class.configurations(images, xray_config)[0] for _ in range(2))
    np.testing.assert_array_equal(first.train, again.train)
    xray_config.seed = 1
    (other,) = one_class.configurations(images, xray_config)
    assert set(first.train) != set(other.train)


def test_an_empty_class_is_refused(cifar10_config):
    cifar10_config.data.configurations = "all"
    images = make_image_set(np.zeros((9, 1, 1, 3)), name="cats_vs_dogs", classes=("cat", "dog"))
    with pytest.raises(UserError, match="cat of cats_vs_dogs has no anomalous test samples"):
        one_class.configurations(images, cifar10_config)


@pytest.mark.parametrize("name", ["unimodal/airplane", "multimodal/airplane"])
def test_plan_lesson_shows_self_supervised_teachers_normal_images_alone(cifar10_config, name):
    images = load("cifar10", cifar10_config)
    cifar10_config.data.configurations = name
    cifar10_config.teacher.task, cifar10_config.teacher.data = "rotnet", "cifar10"
    (configuration,) = one_class.configurations(images, cifar10_config)
    lesson = one_class.plan_lesson(cifar10_config, images, configuration)
    is_airplane = images.labels == images.classes.index("airplane")
    is_normal = is_airplane if name.startswith("unimodal") else ~is_airplane
    assert set(lesson.train) <= set(configuration.train)
    assert is_normal[lesson.train].all() and is_normal[lesson.held_out].all()
    assert not set(lesson.train) & set(lesson.held_out)
    assert not one_class.teacher_is_shared(cifar10_config)


@pytest.mark.parametrize(("task", "data"), [("baseline", "cifar10"), ("classification", "fashion_mnist")])
def test_plan_lesson_shows_supervised_teachers_the_whole_training_split(cifar10_config, task, data):
    cifar10_config.teacher.task, cifar10_config.teacher.data = task, data
    cifar10_config.pretrain.max_train_samples = cifar10_config.pretrain.max_test_samples = 0
    auxiliary = load(data, cifar10_config)
    lesson = one_class.plan_lesson(cifar10_config, auxiliary, None)
    np.testing.assert_array_equal(lesson.train, np.flatnonzero(auxiliary.official_split == "train"))
    np.testing.assert_array_equal(lesson.held_out, np.flatnonzero(auxiliary.official_split == "test"))
    assert one_class.teacher_is_shared(cifar10_config)


def test_the_baseline_learns_from_half_of_the_threats_and_is_tested_on_the_other(xray_config):
    images = load("xray", xray_config)
    (usual,) = one_class.configurations(images, xray_config)
    xray_config.teacher.task = "baseline"
    (configuration,) = one_class.configurations(images, xray_config)
    lesson = one_class.plan_lesson(xray_config, images, configuration)
    np.testing.assert_array_equal(configuration.train, usual.train)  # the student never sees a threat
    assert np.bincount(configuration.test_labels).tolist() == [4, 3]
    assert np.bincount(images.labels[lesson.train]).tolist() == [16, 3]
    assert not set(lesson.train) & set(configuration.test)
    assert set(configuration.test) <= set(usual.test)


def test_random_reference_is_for_rows_whose_test_is_smaller(xray_config):
    parcels = make_image_set(np.zeros((2, 1, 1, 3)), name="xray")
    assert one_class.random_reference(parcels, xray_config) is None
    xray_config.teacher.task = "baseline"
    reference = one_class.random_reference(parcels, xray_config)
    assert (reference.teacher.task, reference.teacher.data) == ("random", "")
    assert xray_config.teacher.task == "baseline"
    assert one_class.random_reference(dataclasses.replace(parcels, name="cifar10"), xray_config) is None
    with_splits = dataclasses.replace(parcels, official_split=np.array(["train", "test"]))
    assert one_class.random_reference(with_splits, xray_config) is None


def test_the_random_reference_is_never_another_runs_teacher(xray_config):
    parcels = make_image_set(np.zeros((2, 1, 1, 3)), name="xray")
    xray_config.teacher.task, xray_config.teacher.from_run = "baseline", "somewhere"
    reference = one_class.random_reference(parcels, xray_config)
    assert (reference.teacher.task, reference.teacher.data, reference.teacher.from_run) == ("random", "", "")


DATASETS = {
    "cifar10": ("unimodal/airplane,multimodal/airplane", {"official_split": np.repeat(["train", "test"], 50)}),
    "cats_vs_dogs": ("all", {"classes": ("cat", "dog"), "labels": np.arange(100) % 2}),
    "plant_pathology": ("all", {"classes": ("healthy", "rust", "scab"), "labels": np.arange(100) // 40}),
    "xray": ("all", {"classes": ("soc", "threat"), "labels": np.arange(100) // 60}),
    "image_folder": ("all", {"labels": np.arange(100) // 60}),
}
CIFAR10 = {"classes": tuple(FORMATS["cifar10"].classes), "labels": np.arange(100) % 10}


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.parametrize("task", ["baseline", "rotnet", "random"])
def test_nothing_that_is_tested_is_learned_from(folder_config, name, task):
    requested, fields = DATASETS[name]
    fields = fields | CIFAR10 if name == "cifar10" else fields
    images = make_image_set(np.zeros((100, 1, 1, 3)), name=name, **fields)
    config = folder_config
    config.data.name, config.data.configurations, config.data.calibration_fraction = name, requested, 0.2
    config.teacher.task, config.teacher.data = task, "" if task == "random" else name
    for configuration in one_class.configurations(images, config):
        tested, calibrated = set(configuration.test), set(configuration.calibration)
        learned = set(configuration.train)
        if task != "random":
            learned |= set(one_class.plan_lesson(config, images, configuration).train)
        assert learned and tested and calibrated
        assert learned.isdisjoint(tested) and learned.isdisjoint(calibrated) and tested.isdisjoint(calibrated)


def folder(labels, **changes):
    return make_image_set(np.zeros((len(labels), 1, 1, 3)), labels=np.asarray(labels), **changes)


@pytest.fixture
def folder_config():
    return image_folder_row("smoke")


def test_own_pictures_are_split_by_share_and_all_anomalies_test(folder_config):
    (configuration,) = one_class.configurations(folder([0] * 20 + [1, 2, 2]), folder_config)
    assert (len(configuration.train), len(configuration.calibration)) == (16, 0)
    assert configuration.test_labels.tolist() == [0] * 4 + [1] * 3


def test_without_anomalies_normal_samples_alone_test(folder_config):
    (configuration,) = one_class.configurations(folder([0] * 10), folder_config)
    assert configuration.test_labels.tolist() == [0, 0]


def test_the_baseline_wants_anomalies_to_learn_from(folder_config):
    folder_config.teacher.task = "baseline"
    with pytest.raises(UserError, match="baseline has no two classes of image_folder to learn from: give more"):
        one_class.configurations(folder([0] * 10), folder_config)
    (configuration,) = one_class.configurations(folder([0] * 10 + [1] * 4), folder_config)
    assert configuration.test_labels.tolist() == [0, 0, 1, 1]
    folder_config.data.baseline_fraction = 0.9
    with pytest.raises(UserError, match="baseline has no two classes of image_folder to be tested on"):
        one_class.configurations(folder([0] * 10 + [1] * 4), folder_config)


def test_calibration_samples_neither_train_nor_test(folder_config):
    folder_config.data.calibration_fraction = 0.25
    (configuration,) = one_class.configurations(folder([0] * 20 + [1]), folder_config)
    parts = [configuration.train, configuration.calibration, configuration.test]
    assert [len(part) for part in parts] == [12, 4, 5]
    assert sorted(np.concatenate(parts)) == list(range(21))
    folder_config.teacher.task = "rotnet"
    lesson = one_class.plan_lesson(folder_config, folder([0] * 20 + [1]), configuration)
    assert not set(lesson.train) & set(configuration.calibration)


@pytest.mark.parametrize(
    ("splits", "labels", "calibration", "message"),
    [
        (
            ["train", "train", "test"],
            [0, 0, 1],
            0,
            "no normal test samples: the split that is given has none, mark some",
        ),
        (
            ["test", "test", "train"],
            [0, 0, 1],
            0,
            "training samples: the split that is given has none, mark some as train$",
        ),
        (
            ["train", "train", "test"],
            [0, 0, 0],
            1,
            "training samples: a smaller --config.data.calibration_fraction leaves",
        ),
    ],
)
def test_a_split_that_is_given_and_lacks_normal_samples_is_named(folder_config, splits, labels, calibration, message):
    folder_config.data.calibration_fraction = calibration
    with pytest.raises(UserError, match=message):
        one_class.configurations(folder(labels, official_split=np.array(splits)), folder_config)


def test_a_draw_that_leaves_no_normal_samples_names_the_fractions(folder_config):
    folder_config.data.train_fraction = 1.0
    with pytest.raises(UserError, match="no normal test samples: give more, or see --config.data.train_fraction and"):
        one_class.configurations(folder([0] * 4), folder_config)


def test_the_baseline_wants_both_kinds_in_a_split_that_is_given(folder_config):
    folder_config.teacher.task = "baseline"
    images = folder([0, 0, 0, 1], official_split=np.array(["train", "train", "test", "test"]))
    with pytest.raises(UserError, match="learn from: mark some of both kinds as train in the split that is given, or"):
        one_class.configurations(images, folder_config)


def test_splits_of_ones_own_are_kept(folder_config):
    splits = np.array(["train", "train", "calibration", "test", "train", "test"])
    (configuration,) = one_class.configurations(folder([0, 0, 0, 0, 1, 1], official_split=splits), folder_config)
    assert configuration.train.tolist() == [0, 1]
    assert configuration.calibration.tolist() == [2]
    assert configuration.test.tolist() == [3, 5]


def test_samples_of_one_group_are_never_split_apart(folder_config):
    groups = np.repeat(np.arange(8).astype(str), 5)
    (configuration,) = one_class.configurations(folder([0] * 40, groups=groups), folder_config)
    assert not set(groups[configuration.train]) & set(groups[configuration.test])
    assert len(configuration.train) in (30, 35)


def test_the_split_does_not_depend_on_the_order_of_the_files(folder_config):
    images = folder([0] * 20)
    reverse = dataclasses.replace(images, ids=images.ids[::-1], groups=images.groups[::-1])
    chosen = [set(each.ids[one_class.configurations(each, folder_config)[0].train]) for each in (images, reverse)]
    assert chosen[0] == chosen[1]


def test_the_same_picture_on_two_sides_of_a_split_is_found(folder_config):
    splits = np.array(["train"] * 3 + ["calibration"] + ["test"] * 4)
    images = folder([0] * 7 + [1], official_split=splits)
    assert one_class.identical_across_splits(images, folder_config) == []
    digests = np.array(["a", "b", "a", "b", "b", "c", "c", "a"])[:, None]
    images = dataclasses.replace(images, digests=digests)
    # Twins on one side do not count; an anomalous sample with the picture of a normal one does.
    assert one_class.identical_across_splits(images, folder_config) == [["0", "7"], ["1", "3"], ["1", "4"]]


def test_one_view_that_is_the_same_is_enough(folder_config):
    splits = np.array(["train", "test", "test"])
    digests = np.array([["a", "b"], ["c", "d"], ["e", "a"]])
    images = folder([0] * 3, official_split=splits, digests=digests)
    assert one_class.identical_across_splits(images, folder_config) == [["0", "2"]]


def test_what_the_baseline_learns_from_counts_as_training(folder_config):
    folder_config.teacher.task = "baseline"
    images = folder([0] * 4 + [1] * 4, digests=np.array(["a", "b", "c", "d", "x", "x", "x", "x"])[:, None])
    assert len(one_class.identical_across_splits(images, folder_config)) == 2
    folder_config.teacher.task = "rotnet"
    assert one_class.identical_across_splits(images, folder_config) == []


def test_groups_with_both_kinds_test_as_a_whole(folder_config):
    groups = np.array([f"object {number // 2}" for number in range(20)])
    images = folder([0] * 13 + [1] * 7, groups=groups)  # object 6 has one of each
    for task in ("random", "baseline"):
        folder_config.teacher.task = task
        for seed in range(5):
            folder_config.seed = seed
            (configuration,) = one_class.configurations(images, folder_config)
            assert 12 in configuration.test
            if task == "baseline":
                assert 13 not in one_class.plan_lesson(folder_config, images, configuration).train


def test_calibration_takes_nothing_from_another_data_set(folder_config):
    folder_config.data.calibration_fraction = 0.5
    folder_config.teacher.task, folder_config.teacher.data = "rotnet", "fashion_mnist"
    auxiliary = folder([0] * 9 + [1], name="fashion_mnist", official_split=np.array(["train"] * 9 + ["test"]))
    configuration = one_class.configurations(folder([0] * 10), folder_config)[0]
    assert len(one_class.plan_lesson(folder_config, auxiliary, configuration).train) == 9
