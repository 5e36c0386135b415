import numpy as np
import pytest

from brittle_jax.data import one_class
from brittle_jax.data.catalogue import CATALOGUE
from brittle_jax.data.one_class import configurations
from brittle_jax.data.splits import Splitting
from brittle_jax.errors import UserError
from tests.conftest import make_dataset

SPLITTING = Splitting(seed=0, train_fraction=0.8)


@pytest.fixture
def cifar10():
    """Seven training and five test pictures of each class, the classes in turn."""
    splits = np.repeat(["train", "test"], [70, 50])
    labels, classes = np.arange(120) % 10, CATALOGUE["cifar10"].classes
    return make_dataset(np.zeros((120, 1, 1, 3)), name="cifar10", classes=classes, labels=labels, official_split=splits)


def own_images(labels, **changes):
    return make_dataset(np.zeros((len(labels), 1, 1, 3)), labels=np.asarray(labels), **changes)


def test_cifar10_has_ten_unimodal_and_ten_multimodal_configurations(cifar10):
    by_name = {entry.name: entry for entry in configurations(cifar10, "all", SPLITTING)}
    assert len(by_name) == 20
    assert [entry.group for entry in by_name.values()] == ["unimodal"] * 10 + ["multimodal"] * 10
    samples = cifar10.samples
    bird = samples.classes.index("bird")
    unimodal, multimodal = by_name["unimodal/bird"], by_name["multimodal/bird"]
    assert set(samples.labels[unimodal.train]) == {bird}
    assert set(samples.labels[multimodal.train]) == set(range(10)) - {bird}
    for entry, normal_is_bird in ((unimodal, True), (multimodal, False)):
        is_bird = samples.labels[entry.test] == bird
        np.testing.assert_array_equal(entry.test_labels == 0, is_bird == normal_is_bird)
        assert (samples.official_split[entry.train] == "train").all()
        assert sorted(entry.test) == list(range(70, 120))


def test_configurations_can_be_chosen_by_name_and_by_group(cifar10):
    names = [entry.name for entry in configurations(cifar10, "multimodal/cat, unimodal/airplane", SPLITTING)]
    assert names == ["unimodal/airplane", "multimodal/cat"]
    assert len(configurations(cifar10, "unimodal", SPLITTING)) == 10


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cats_vs_dogs", {"cat": [0], "dog": [1]}),
        ("plant_pathology", {"healthy": [0]}),
        ("xray", {"soc": [0]}),
        ("image_folder", {"normal": [0]}),
    ],
)
def test_each_data_set_has_its_normal_classes(name, expected):
    assert one_class.choose("all", name, CATALOGUE[name].classes) == expected


@pytest.mark.parametrize(
    ("requested", "message"),
    [
        ("unimodal/aeroplane", "did you mean unimodal/airplane"),
        ("soc", "there are multimodal"),
        (",", "^data.configurations is empty: name some, or all$"),
    ],
)
def test_unknown_configurations_are_refused(cifar10, requested, message):
    with pytest.raises(UserError, match=message):
        configurations(cifar10, requested, SPLITTING)


def test_limits_keep_that_many_of_each(cifar10):
    for entry in configurations(cifar10, "all", SPLITTING, max_train_samples=3, max_test_samples=2):
        assert len(entry.train) == len(set(entry.train)) == 3
        assert np.bincount(entry.test_labels).tolist() == [2, 2]


def test_an_empty_class_is_refused():
    cats = own_images([0] * 9, name="cats_vs_dogs", classes=("cat", "dog"))
    with pytest.raises(UserError, match="cat of cats_vs_dogs has no anomalous test samples"):
        configurations(cats, "all", SPLITTING)


def test_one_normal_training_sample_is_too_few():
    with pytest.raises(UserError, match="normal of image_folder has 1 normal training sample: give at least 2"):
        configurations(own_images([0, 0]), "all", Splitting(seed=0, train_fraction=0.5))


def test_own_images_are_split_by_share_and_all_anomalies_test():
    (configuration,) = configurations(own_images([0] * 20 + [1, 2, 2]), "all", SPLITTING)
    assert (len(configuration.train), len(configuration.calibration)) == (16, 0)
    assert configuration.test_labels.tolist() == [0] * 4 + [1] * 3


@pytest.mark.parametrize(("name", "classes"), [("image_folder", ("normal",)), ("xray", ("soc", "threat"))])
def test_without_anomalies_normal_samples_alone_test(name, classes):
    (configuration,) = configurations(own_images([0] * 10, name=name, classes=classes), "all", SPLITTING)
    assert configuration.test_labels.tolist() == [0, 0]


def test_calibration_samples_neither_train_nor_test():
    splitting = Splitting(seed=0, train_fraction=0.8, calibration_fraction=0.25)
    (configuration,) = configurations(own_images([0] * 20 + [1]), "all", splitting)
    parts = [configuration.train, configuration.calibration, configuration.test]
    assert [len(part) for part in parts] == [12, 4, 5]
    assert sorted(np.concatenate(parts)) == list(range(21))


@pytest.mark.parametrize(
    ("splits", "labels", "calibration", "message"),
    [
        ("train train test", [0, 0, 1], 0, "no normal test samples: the given split has none, mark some as test$"),
        ("test test train", [0, 0, 1], 0, "training samples: the given split has none, mark some as train$"),
        ("train train test", [0, 0, 0], 1, "training samples: a smaller data.calibration_fraction leaves some$"),
    ],
)
def test_a_given_split_that_lacks_normal_samples_is_named(splits, labels, calibration, message):
    dataset = own_images(labels, official_split=np.array(splits.split()))
    with pytest.raises(UserError, match=message):
        configurations(dataset, "all", Splitting(seed=0, train_fraction=0.8, calibration_fraction=calibration))


def test_a_draw_that_leaves_no_normal_samples_names_the_fractions():
    with pytest.raises(UserError, match="no normal test samples: give more, or see data.train_fraction and"):
        configurations(own_images([0] * 4), "all", Splitting(seed=0, train_fraction=1.0))


def test_a_split_of_your_own_is_kept():
    splits = np.array(["train", "train", "calibration", "test", "train", "test"])
    (configuration,) = configurations(own_images([0, 0, 0, 0, 1, 1], official_split=splits), "all", SPLITTING)
    assert configuration.train.tolist() == [0, 1]
    assert configuration.calibration.tolist() == [2]
    assert configuration.test.tolist() == [3, 5]
