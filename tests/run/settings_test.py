import pytest

from brittle_jax.errors import UserError
from brittle_jax.run import settings
from brittle_jax.teachers.borrowed import Borrowed
from brittle_jax.teachers.pretrained import Pretrained
from brittle_jax.teachers.published import Published
from brittle_jax.teachers.random import Random
from tests.small_teachers import kind_of


@pytest.mark.parametrize(
    ("task", "num_threat", "share", "message"),
    [
        ("rotnet", 0, 0.5, "^data.parcels.num_threat=0 leaves no threats to test on: give more$"),
        ("rotnet", 1, 0.5, None),
        ("baseline", 0, 0.5, "num_threat=0 leaves no threats to test on"),
        ("baseline", 1, 0.9, "num_threat=1 leaves no threats to test on"),
        ("baseline", 1, 0.1, "fraction=0.1 is 0, leaves the supervised baseline no threats to learn from"),
        ("baseline", 6, 0.05, "fraction=0.05 is 0, leaves the supervised baseline no threats to learn from"),
        ("baseline", 2, 0.5, None),
    ],
)
def test_threats_are_needed_to_test_and_for_the_baseline_to_learn(
    xray_config, tmp_path, task, num_threat, share, message
):
    xray_config.teacher.task, xray_config.data.parcels.num_threat = task, num_threat
    xray_config.data.baseline_fraction = share
    learns_anomalies = kind_of(xray_config, tmp_path).learns_anomalies
    if message is None:
        settings.check_parcels(xray_config, learns_anomalies=learns_anomalies)
    else:
        with pytest.raises(UserError, match=message):
            settings.check_parcels(xray_config, learns_anomalies=learns_anomalies)
    xray_config.data.path = "somewhere"  # the user's own parcels are counted when they are read
    settings.check_parcels(xray_config, learns_anomalies=learns_anomalies)


@pytest.mark.parametrize(
    ("task", "kind"),
    [
        ("random", Random),
        ("imagenet", Published),
        ("imagenet_lite", Published),
        ("rotnet", Pretrained),
        ("baseline", Pretrained),
    ],
)
def test_every_teacher_is_of_one_kind(cifar10_config, tmp_path, task, kind):
    cifar10_config.teacher.task = task
    made = kind_of(cifar10_config, tmp_path)
    assert isinstance(made, kind)
    assert made.dataset == ("cifar10" if kind is Pretrained else "")
    assert made.learns_anomalies == (task == "baseline")


def test_another_runs_teacher_is_what_it_is_there(cifar10_config, tmp_path, monkeypatch):
    monkeypatch.setattr("brittle_jax.run.borrowing.check", lambda config: (tmp_path / "lender", True))
    cifar10_config.teacher.task, cifar10_config.teacher.from_run = "rotnet", "lender"
    kind = kind_of(cifar10_config, tmp_path)
    assert isinstance(kind, Borrowed) and isinstance(kind.lender, Pretrained)
    assert (kind.run, kind.is_synthetic, kind.dataset) == (tmp_path / "lender", True, "")


def test_a_file_of_weights_is_refused_where_a_package_has_them(cifar10_config, tmp_path):
    cifar10_config.teacher.task, cifar10_config.teacher.weights = "imagenet_lite", "densenet.pth"
    with pytest.raises(UserError, match="^teacher.weights='densenet.pth': the teacher imagenet_lite takes its weights"):
        kind_of(cifar10_config, tmp_path)
    cifar10_config.teacher.task = "random"  # settings of a batch are those of all its rows
    kind_of(cifar10_config, tmp_path)


def test_networks_have_the_seed_of_the_run_unless_they_have_their_own(cifar10_config, tmp_path):
    cifar10_config.seed = 4
    assert settings.teacher_seed(cifar10_config) == settings.student_seed(cifar10_config) == 4
    assert kind_of(cifar10_config, tmp_path).seed == settings.random_teacher(cifar10_config).seed == 4
    cifar10_config.teacher.seed, cifar10_config.distill.seed = 0, 6
    assert (settings.teacher_seed(cifar10_config), settings.student_seed(cifar10_config)) == (0, 6)
    assert kind_of(cifar10_config, tmp_path).seed == settings.random_teacher(cifar10_config).seed == 0
    cifar10_config.teacher.task = "rotnet"
    kind = kind_of(cifar10_config, tmp_path)
    assert (kind.seed, kind.splitting.seed) == (0, 4)
    assert settings.splitting_of(cifar10_config, learns_anomalies=False).seed == 4


def test_the_runs_of_all_seeds_share_a_store(cifar10_config, tmp_path):
    cifar10_config.seeds, cifar10_config.teacher.task = "1,2", "rotnet"
    one = settings.for_seed(cifar10_config, 2, tmp_path / "run")
    assert (one.seed, one.seeds, cifar10_config.seeds) == (2, "", "1,2")
    assert kind_of(one, tmp_path / "run" / "seed-2").store.folder == tmp_path / "teachers"
    cifar10_config.teacher.store = str(tmp_path / "there")
    one = settings.for_seed(cifar10_config, 2, tmp_path / "run")
    assert kind_of(one, tmp_path / "run" / "seed-2").store.folder == tmp_path / "there"


def test_teachers_are_stored_beside_the_run_unless_the_settings_say_otherwise(cifar10_config, tmp_path):
    cifar10_config.teacher.task = "rotnet"
    assert kind_of(cifar10_config, tmp_path / "run").store.folder == tmp_path / "teachers"
    cifar10_config.teacher.store = str(tmp_path / "there")
    assert kind_of(cifar10_config, tmp_path / "run").store.folder == tmp_path / "there"


NO_DATA = {
    "teacher.data": (
        "fashion_mnist",
        "^teacher.data='fashion_mnist': the teacher {} has no data set: set teacher.data= .empty.$",
    ),
    "pretrain.from_weights": (
        True,
        "^pretrain.from_weights: the teacher {} is not pre-trained here: leave it False$",
    ),
}


@pytest.mark.parametrize("field", NO_DATA)
@pytest.mark.parametrize("task", ["random", "imagenet", "imagenet_lite"])
def test_teachers_that_learn_nothing_have_no_data_and_no_training(cifar10_config, tmp_path, task, field):
    value, message = NO_DATA[field]
    cifar10_config.teacher.task = task
    cifar10_config.update_from_flattened_dict({field: value})
    with pytest.raises(UserError, match=message.format(task)):
        kind_of(cifar10_config, tmp_path)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("cifar10", "image_folder", "'image_folder': your own images can only teach a run on themselves$"),
        ("cifar10", "xray", "'xray' does not go with data.name='cifar10'$"),
        ("xray", "cifar10", "'cifar10' does not go with data.name='xray'$"),
        ("image_folder", "image_folder", None),
        ("image_folder", "cifar10", None),
        ("xray", "", None),
    ],
)
def test_own_images_and_parcels_teach_on_themselves_alone(cifar10_config, tmp_path, name, data, message):
    cifar10_config.data.name, cifar10_config.teacher.task, cifar10_config.teacher.data = name, "rotnet", data
    if message is None:
        assert kind_of(cifar10_config, tmp_path).dataset == (data or name)
    else:
        with pytest.raises(UserError, match=f"^teacher.data={message}"):
            kind_of(cifar10_config, tmp_path)


@pytest.mark.parametrize(
    ("task", "data", "message"),
    [
        ("baseline", "fashion_mnist", "^teacher.data='fashion_mnist': the supervised baseline learns the anomaly-"),
        ("classification", "cifar10", "^teacher.task='classification' on the anomaly-detection data itself would see"),
    ],
)
@pytest.mark.parametrize("lender", ["", "lender"])
def test_a_teacher_sees_the_labels_of_what_is_tested_as_the_baseline_alone(
    cifar10_config, tmp_path, monkeypatch, task, data, message, lender
):
    monkeypatch.setattr("brittle_jax.run.borrowing.check", lambda config: (tmp_path, False))
    cifar10_config.teacher.task, cifar10_config.teacher.data = task, data
    cifar10_config.teacher.from_run = lender
    with pytest.raises(UserError, match=message):
        kind_of(cifar10_config, tmp_path)


def test_only_the_embedded_parcels_have_an_inset(xray_config):
    assert settings.preprocessing_of(xray_config).patches.inset_pixels == 15
    xray_config.data.path = "scans"
    assert settings.preprocessing_of(xray_config).patches.inset_pixels == 0
    assert settings.data_of(xray_config, "xray").patches.inset_pixels == 0
