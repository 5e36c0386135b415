import copy
import dataclasses

import numpy as np
import pytest

from brittle_jax import checkpoint
from brittle_jax.auxiliary import TASKS
from brittle_jax.auxiliary.autoencoder import Reconstruction
from brittle_jax.data.catalogue import CATALOGUE
from brittle_jax.data.one_class import configurations
from brittle_jax.errors import UserError
from brittle_jax.models.network import ARCHITECTURES
from brittle_jax.run.settings import splitting_of
from brittle_jax.teachers.store import key_of
from tests.conftest import make_dataset
from tests.small_runs import read_row
from tests.small_teachers import assert_equal, kind_of, obtain_teacher


def own_images(labels, **changes):
    return make_dataset(np.zeros((len(labels), 1, 1, 3)), labels=np.asarray(labels), **changes)


def pictures_of(name, splits=("train", "test"), count=4):
    """Returns as many pictures of each class in each split of a data set."""
    classes = CATALOGUE[name].classes
    official = np.repeat(splits, count * len(classes))
    labels = np.arange(len(official)) % len(classes)
    return own_images(labels, name=name, classes=classes, official_split=official)


def configuration_of(config, kind, dataset):
    """Returns the first configuration that settings ask for."""
    splitting = splitting_of(config, learns_anomalies=kind.learns_anomalies)
    return configurations(dataset, config.data.configurations, splitting)[0]


@pytest.fixture
def folder_config(cifar10_config):
    """A supervised teacher of one's own images."""
    cifar10_config.data.name, cifar10_config.data.configurations = "image_folder", "all"
    cifar10_config.teacher.task = "baseline"
    return cifar10_config


# What it learns from.


@pytest.mark.parametrize("name", ["unimodal/airplane", "multimodal/airplane"])
@pytest.mark.parametrize("task", ["rotnet", "autoencoder", "denoising", "simclr"])
def test_self_supervised_teachers_learn_from_normal_images_alone(config, tmp_path, task, name):
    config.data.configurations, config.teacher.task, config.teacher.data = name, task, "cifar10"
    dataset, kind = pictures_of("cifar10"), kind_of(config, tmp_path)
    configuration = configuration_of(config, kind, dataset)
    lesson = kind.lesson(dataset, configuration)
    samples = dataset.samples
    is_airplane = samples.labels == samples.classes.index("airplane")
    is_normal = is_airplane if name.startswith("unimodal") else ~is_airplane
    assert len(lesson.train) and set(lesson.train) <= set(configuration.train)
    assert len(lesson.held_out) and (samples.official_split[lesson.held_out] == "test").all()
    assert is_normal[lesson.train].all() and is_normal[lesson.held_out].all()
    assert not kind.is_shared and not kind.learns_anomalies


@pytest.mark.parametrize(("task", "data"), [("baseline", "cifar10"), ("classification", "fashion_mnist")])
def test_supervised_teachers_learn_from_the_whole_training_split(config, tmp_path, task, data):
    config.teacher.task, config.teacher.data = task, data
    config.pretrain.max_train_samples = config.pretrain.max_test_samples = 0
    lessons, kind = pictures_of(data), kind_of(config, tmp_path)
    lesson = kind.lesson(lessons, None)
    assert lesson.train.tolist() == list(range(40))
    assert lesson.held_out.tolist() == list(range(40, 80))
    assert kind.is_shared and kind.learns_anomalies == (task == "baseline")


@pytest.mark.parametrize(
    ("task", "learned"), [("rotnet", {"train", "unlabelled"}), ("simclr", {"train", "unlabelled"})]
)
def test_unlabelled_images_train_the_tasks_that_need_no_labels(config, tmp_path, task, learned):
    config.teacher.data = "stl10"
    config.pretrain.max_train_samples = config.pretrain.max_test_samples = 0
    lessons = pictures_of("stl10", splits=("train", "test", "unlabelled"))
    roles = lessons.samples.official_split
    for name, expected in ((task, learned), ("classification", {"train"})):
        config.teacher.task = name
        kind = kind_of(config, tmp_path)
        lesson = kind.lesson(lessons, None)
        assert lesson.train.tolist() == np.flatnonzero(np.isin(roles, list(expected))).tolist()
        assert set(roles[lesson.held_out]) == {"test"}
        assert kind.is_shared


def test_a_lesson_can_be_limited(config, tmp_path):
    config.pretrain.max_train_samples, config.pretrain.max_test_samples = 5, 3
    lesson = kind_of(config, tmp_path).lesson(pictures_of("fashion_mnist"), None)
    assert (len(set(lesson.train)), len(set(lesson.held_out))) == (5, 3)
    assert lesson.train.max() < 40 <= lesson.held_out.min()


def test_calibration_samples_are_not_learned(folder_config, tmp_path):
    folder_config.teacher.task, folder_config.data.calibration_fraction = "rotnet", 0.25
    dataset, kind = own_images([0] * 20 + [1]), kind_of(folder_config, tmp_path)
    configuration = configuration_of(folder_config, kind, dataset)
    lesson = kind.lesson(dataset, configuration)
    assert len(configuration.calibration) == 4 and len(lesson.train) == 12
    assert set(lesson.train).isdisjoint(configuration.calibration)


def test_calibration_takes_nothing_from_another_data_set(folder_config, tmp_path):
    folder_config.data.calibration_fraction = 0.5
    folder_config.teacher.task, folder_config.teacher.data = "rotnet", "fashion_mnist"
    lessons = own_images([0] * 9 + [1], name="fashion_mnist", official_split=np.repeat(["train", "test"], [9, 1]))
    assert len(kind_of(folder_config, tmp_path).lesson(lessons, None).train) == 9


DATASETS = {
    "cifar10": ("unimodal/airplane,multimodal/airplane", {"official_split": np.repeat(["train", "test"], 50)}, 10),
    "cats_vs_dogs": ("all", {}, 2),
    "plant_pathology": ("all", {}, 3),
    "xray": ("all", {}, 2),
    "image_folder": ("all", {}, 2),
}


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.parametrize("task", ["baseline", "rotnet"])
def test_nothing_that_is_tested_is_learned_from(folder_config, tmp_path, name, task):
    requested, fields, num_classes = DATASETS[name]
    config = folder_config
    config.data.name, config.data.configurations, config.data.calibration_fraction = name, requested, 0.2
    config.teacher.task = task
    classes = CATALOGUE[name].classes[:num_classes]
    dataset = own_images(np.arange(100) % num_classes, name=name, classes=classes, **fields)
    kind = kind_of(config, tmp_path)
    splitting = splitting_of(config, learns_anomalies=kind.learns_anomalies)
    for configuration in configurations(dataset, requested, splitting):
        learned = set(kind.lesson(dataset, configuration).train) | set(configuration.train)
        tested, calibrated = set(configuration.test), set(configuration.calibration)
        assert learned and tested and calibrated
        assert learned.isdisjoint(tested) and learned.isdisjoint(calibrated) and tested.isdisjoint(calibrated)


# What it refuses.


def test_the_baseline_needs_anomalies_to_learn_from_and_to_be_tested_on(folder_config, tmp_path):
    message = "baseline has no two classes of image_folder to learn from: give more anomalous samples, or another "
    with pytest.raises(UserError, match=f"{message}data.baseline_fraction, or choose another teacher.task$"):
        kind_of(folder_config, tmp_path).check_dataset(own_images([0] * 10))
    dataset, kind = own_images([0] * 10 + [1] * 4), kind_of(folder_config, tmp_path)
    kind.check_dataset(dataset)
    assert configuration_of(folder_config, kind, dataset).test_labels.tolist() == [0, 0, 1, 1]
    folder_config.data.baseline_fraction = 0.9
    with pytest.raises(UserError, match="baseline has no two classes of image_folder to be tested on: give more"):
        kind_of(folder_config, tmp_path).check_dataset(dataset)


def test_the_baseline_needs_both_kinds_in_a_given_split(folder_config, tmp_path):
    dataset = own_images([0, 0, 0, 1], official_split=np.array(["train", "train", "test", "test"]))
    with pytest.raises(UserError, match="learn from: mark some of both kinds as train in the given split, or choose"):
        kind_of(folder_config, tmp_path).check_dataset(dataset)


def test_self_supervised_teachers_need_no_anomalies(folder_config, tmp_path):
    folder_config.teacher.task = "rotnet"
    kind_of(folder_config, tmp_path).check_dataset(own_images([0] * 10))


SIDE = "give less than the side of the images, 32$"
MISTAKES = {
    "baseline elsewhere": (
        {"teacher.task": "baseline"},
        "^teacher.data='fashion_mnist': the supervised baseline learns the anomaly-detection data itself: leave "
        "teacher.data empty$",
    ),
    "classification of what is tested": (
        {"teacher.data": "cifar10"},
        "^teacher.task='classification' on the anomaly-detection data itself would see anomalies: use "
        "teacher.task='baseline' for that, or another teacher.data$",
    ),
    "one image to tell apart": (
        {"teacher.task": "simclr", "pretrain.batch_size": 2},
        "^pretrain.batch_size=2: simclr tells images apart: give at least 4$",
    ),
    "denoising without noise": (
        {"teacher.task": "denoising", "pretrain.noise_deviation": 0.0},
        "^pretrain.noise_deviation=0.0: without noise this is an autoencoder: use teacher.task='autoencoder'$",
    ),
    "crop": ({"pretrain.crop_padding_pixels": 32}, f"^pretrain.crop_padding_pixels=32: {SIDE}"),
    "cutout": ({"pretrain.cutout_pixels": 40}, f"^pretrain.cutout_pixels=40: {SIDE}"),
    "uneven batch": ({"pretrain.batch_size": 30}, "pretrain.batch_size=30 cannot be shared evenly by 4 device"),
    "uneven batch of views": (
        {"teacher.task": "rotnet", "pretrain.batch_size": 24},
        "pretrain.batch_size=24 of images in 4 views each cannot be shared evenly by 4 device.*: use 16$",
    ),
    "no decoder": (
        {"teacher.task": "autoencoder", "network.name": "densenet_tiny"},
        "^network.name='densenet_tiny' has no decoder, which this teacher needs",
    ),
    "no bottleneck": (
        {"teacher.task": "autoencoder", "network.output_features": 0},
        "^network.output_features=0: set the width of this teacher's bottleneck$",
    ),
    "weights of another network": (
        {"pretrain.from_weights": True},
        "^network.name='mini': published weights exist for DenseNets only$",
    ),
    "weights that are missing": (
        {"pretrain.from_weights": True, "network.name": "densenet_tiny"},
        "^teacher.weights='': no such file",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_what_cannot_be_trained_is_refused_before_any_data_are_read(config, tmp_path, four_devices, case):
    changes, message = MISTAKES[case]
    kind_of(config, tmp_path).check(four_devices)
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=message):
        kind_of(config, tmp_path).check(four_devices)


# What tells one trunk from another.

CHANGES = {
    "seed": ("seed", 1),
    "its own seed": ("teacher.seed", 1),
    "task": ("teacher.task", "rotnet"),
    "network": ("network.name", "small_resnet"),
    "recipe": ("pretrain.weight_decay", 0.0),
    "images": ("pretrain.max_train_samples", 16),
    "size of the images": ("data.image_size_pixels", 40),
}


def key(config, folder, devices):
    row, chosen = read_row(config, folder, devices)
    return key_of(row.kind.identity(row.kind.lesson(row.lessons, chosen[0])))


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_the_teacher_changes_its_key(config, tmp_path, one_device, change):
    before = key(config, tmp_path, one_device)
    other = copy.deepcopy(config)
    for field, value in (("distill.num_epochs", 1.0), ("distill.seed", 7), ("evaluate.batch_size", 8), ("row", "mine")):
        other.update_from_flattened_dict({field: value})
    assert key(other, tmp_path / "elsewhere", one_device) == before
    other.update_from_flattened_dict(dict([CHANGES[change]]))
    assert key(other, tmp_path, one_device) != before


def test_a_teacher_with_a_seed_of_its_own_is_shared_by_runs_of_all_seeds(config, tmp_path, one_device):
    config.teacher.task, config.teacher.data = "classification", "fashion_mnist"
    config.pretrain.max_train_samples = config.pretrain.max_test_samples = 0  # which are drawn by `seed`
    default = key(config, tmp_path, one_device)
    config.teacher.seed = config.seed
    assert key(config, tmp_path, one_device) == default
    config.seed = 5
    assert key(config, tmp_path, one_device) == default
    config.teacher.seed = -1
    assert key(config, tmp_path, one_device) != default


def test_a_teacher_that_was_drawn_otherwise_is_another(xray_config, tmp_path, monkeypatch):
    xray_config.network.name = "densenet_tiny"
    kind, dataset = kind_of(xray_config, tmp_path), own_images([0] * 10, name="xray", classes=("soc", "threat"))
    lesson = kind.lesson(dataset, configuration_of(xray_config, kind, dataset))
    identity = kind.identity(lesson)
    assert "he_normal" in str(identity["network"])
    architecture = ARCHITECTURES["densenet_tiny"]
    uniform = dataclasses.replace(architecture, trunk=architecture.trunk.clone(initialiser="uniform"))
    monkeypatch.setitem(ARCHITECTURES, "densenet_tiny", uniform)
    assert key_of(kind.identity(lesson)) != key_of(identity)


def test_the_resnets_part_of_an_identity_is_that_of_earlier_revisions():
    # The key seeds the training too: another spelling would be another teacher.
    attributes = "SmallResNet(\n    # attributes\n    widths = (8, 16, 32, 64)\n    batch_norm_momentum = 0.9\n)"
    assert repr(ARCHITECTURES["small_resnet_tiny"].trunk) == attributes


@pytest.mark.parametrize("field", ["parcels.side_pixels", "parcels.seed", "patches.max_stride_pixels"])
def test_parcels_that_share_their_ids_do_not_share_a_teacher(xray_config, tmp_path, field):
    kind, dataset = kind_of(xray_config, tmp_path), own_images([0] * 10, name="xray", classes=("soc", "threat"))
    lesson = kind.lesson(dataset, configuration_of(xray_config, kind, dataset))
    other = copy.deepcopy(xray_config)
    value = xray_config.data
    for part in field.split("."):
        value = value[part]
    other.data.update_from_flattened_dict({field: value + 8})
    keys = {key_of(kind_of(each, tmp_path).identity(lesson)) for each in (xray_config, other)}
    assert len(keys) == 2


def test_another_network_of_the_same_name_is_another_teacher(config, tmp_path, monkeypatch):
    kind = kind_of(config, tmp_path)
    lesson = kind.lesson(pictures_of("fashion_mnist"), None)
    before = key_of(kind.identity(lesson))
    monkeypatch.setitem(ARCHITECTURES, "mini", ARCHITECTURES["small_resnet_tiny"])
    assert key_of(kind.identity(lesson)) != before


def test_other_weights_to_start_from_make_another_teacher(config, tmp_path):
    config.pretrain.from_weights, config.teacher.weights = True, str(tmp_path / "weights.pth")
    kind = kind_of(config, tmp_path)
    lesson = kind.lesson(pictures_of("fashion_mnist"), None)
    keys = set()
    for content in (b"one", b"other", b"one"):
        (tmp_path / "weights.pth").write_bytes(content)
        keys.add(key_of(kind.identity(lesson)))
    assert len(keys) == 2


def test_each_part_of_a_lesson_and_of_the_task_changes_the_key(config, tmp_path, monkeypatch):
    config.teacher.task = "autoencoder"
    kind = kind_of(config, tmp_path)
    lesson = kind.lesson(pictures_of("fashion_mnist"), None)
    wider = copy.deepcopy(config)
    wider.network.output_features = 7
    samples = lesson.dataset.samples
    labels = dataclasses.replace(samples, labels=(samples.labels + 1) % 10)
    relabelled = dataclasses.replace(lesson.dataset, samples=labels)
    keys = {
        key_of(each.identity(learned))
        for each, learned in [
            (kind, lesson),
            (kind, dataclasses.replace(lesson, train=lesson.train[1:])),
            (kind, dataclasses.replace(lesson, held_out=lesson.held_out[1:])),
            (kind, dataclasses.replace(lesson, dataset=relabelled)),
            (kind_of(wider, tmp_path), lesson),
        ]
    }
    newer = Reconstruction(0.0, version=Reconstruction(0.0).version + 1)
    monkeypatch.setitem(TASKS, "autoencoder", lambda recipe, num_classes: newer)
    keys.add(key_of(kind_of(config, tmp_path).identity(lesson)))
    assert len(keys) == 6


# What it is.


def test_self_supervised_teachers_of_two_configurations_differ(config, tmp_path, one_device, trainings):
    config.teacher.task, config.teacher.data = "rotnet", "cifar10"
    keys = {obtain_teacher(config, tmp_path / "run", one_device, which)[1]["key"] for which in (0, 1, 0)}
    assert trainings == ["unimodal/airplane", "unimodal/automobile"]
    assert len(keys) == 2


def test_an_autoencoders_code_is_the_teachers_output(config, tmp_path, one_device):
    config.teacher.task, config.teacher.data = "autoencoder", "cifar10"
    row, (configuration, *_) = read_row(config, tmp_path / "run", one_device)
    teacher, description = row.obtain_teacher(configuration)
    params, trunk_stats = teacher.variables["params"], teacher.variables["batch_stats"]["trunk"]
    stored, _ = checkpoint.restore(
        tmp_path / "teachers" / description["key"],
        {"params": dict(params), "batch_stats": {"trunk": trunk_stats}},
    )
    assert_equal(stored["params"], dict(params))
    assert row.kind.keeps_head and params.keys() == {"trunk", "head"}
    assert description["held_out_squared_error"] > 0
    assert description["reconstructions"].startswith("data:image/")


def test_a_head_that_is_not_kept_stays_as_drawn(config, tmp_path, one_device):
    row, (configuration, *_) = read_row(config, tmp_path / "run", one_device)
    teacher, description = row.obtain_teacher(configuration)
    config.teacher.task, config.teacher.data = "random", ""
    config.teacher.random_batch_norm = "initial"
    drawn, _ = obtain_teacher(config, tmp_path / "random", one_device)
    assert_equal(teacher.variables["params"]["head"], drawn.variables["params"]["head"])
    kernels = [each.variables["params"]["trunk"]["conv"]["kernel"] for each in (teacher, drawn)]
    assert not np.array_equal(*kernels)
    assert (description["num_train_samples"], description["num_held_out_samples"]) == (32, 16)
    assert 0 <= description["held_out_accuracy"] <= 1
