import copy
import dataclasses
import json
import threading

import jax
import numpy as np
import pytest

from brittle_jax import checkpoint
from brittle_jax.auxiliary import build_task
from brittle_jax.config import flatten
from brittle_jax.data import one_class
from brittle_jax.data.datasets.loading import load
from brittle_jax.errors import UserError
from brittle_jax.files import write_json
from brittle_jax.loop import MetricLog
from brittle_jax.models.network import ARCHITECTURES
from brittle_jax.run import workdir
from brittle_jax.teachers import store
from brittle_jax.train import teacher as teacher_lib
from tests.damage import NUM_FLIPS, flip_bit, flipped_bit


@pytest.fixture
def config(cifar10_config):
    config = cifar10_config
    config.data.configurations = "unimodal"
    config.data.max_train_samples = 16
    config.teacher.task, config.teacher.data = "classification", "fashion_mnist"
    config.pretrain.num_epochs, config.pretrain.batch_size = 1.0, 16
    config.pretrain.max_train_samples, config.pretrain.max_test_samples = 32, 16
    return config


@pytest.fixture
def trained(monkeypatch):
    """Records each training of a trunk, by its seed name."""
    calls = []
    original = teacher_lib.prepare_pretraining

    def recording(*arguments, **settings):
        calls.append(settings["seed_name"])
        return original(*arguments, **settings)

    monkeypatch.setattr(teacher_lib, "prepare_pretraining", recording)
    return calls


def obtain(config, run, devices, which=0):
    images = load(config.data.name, config)
    auxiliary = load(config.teacher.data, config) if config.teacher.data else None
    configuration = one_class.configurations(images, config)[which]
    run.mkdir(parents=True, exist_ok=True)
    log = MetricLog(run)
    try:
        return teacher_lib.obtain_teacher(
            config, images, auxiliary, configuration, run, made_from={}, devices=devices, log=log
        )
    finally:
        log.close()


def assert_equal(one, other):
    for ours, theirs in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_rows_that_name_the_same_teacher_share_it(config, tmp_path, one_device, trained, capsys):
    first, description = obtain(config, tmp_path / "a", one_device)
    again, same = obtain(config, tmp_path / "b", one_device)
    assert len(trained) == 1
    assert "trained before, read from" in capsys.readouterr().out
    assert_equal(first.variables, again.variables)
    assert description == same
    (folder,) = [path for path in (tmp_path / "teachers").iterdir() if path.is_dir()]
    assert folder.name == description["key"]
    assert json.loads((folder / "made_from.json").read_text())["task"] == "classification"


def test_the_store_can_be_elsewhere(config, tmp_path, one_device, trained):
    config.teacher.store = str(tmp_path / "shared" / "teachers")
    for name in ("x/a", "y/b"):
        obtain(config, tmp_path / name, one_device)
    assert len(trained) == 1
    (tmp_path / "file").write_text("")
    config.teacher.store = str(tmp_path / "file" / "teachers")
    with pytest.raises(UserError, match="--config.teacher.store=.* cannot be written"):
        obtain(config, tmp_path / "c", one_device)


CHANGES = {
    "seed": ("seed", 1),
    "task": ("teacher.task", "rotnet"),
    "network": ("network.name", "small_resnet"),
    "recipe": ("pretrain.weight_decay", 0.0),
    "images": ("pretrain.max_train_samples", 16),
    "size of the images": ("data.image_size_pixels", 40),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_the_teacher_changes_its_key(config, change):
    def key(config):
        images = load("cifar10", config)
        auxiliary = load(config.teacher.data, config)
        lesson = one_class.plan_lesson(config, auxiliary, one_class.configurations(images, config)[0])
        task = build_task(config.teacher.task, config.pretrain, 10)
        return store.key_of(store.identify(config, task, lesson))

    before = key(config)
    other = copy.deepcopy(config)
    for field, value in (("distill.num_epochs", 1.0), ("evaluate.batch_size", 8), ("row", "mine")):
        other.update_from_flattened_dict({field: value})
    assert key(other) == before
    other.update_from_flattened_dict(dict([CHANGES[change]]))
    assert key(other) != before


def test_a_teacher_that_was_drawn_otherwise_is_another(xray_config, monkeypatch):
    images = load("xray", xray_config)
    lesson = one_class.plan_lesson(xray_config, images, one_class.configurations(images, xray_config)[0])
    task = build_task("rotnet", xray_config.pretrain, 2)
    xray_config.network.name = "densenet_tiny"
    identity = store.identify(xray_config, task, lesson)
    assert "he_normal" in str(identity["network"])
    architecture = ARCHITECTURES["densenet_tiny"]
    uniform = dataclasses.replace(architecture, trunk=architecture.trunk.clone(initialiser="uniform"))
    monkeypatch.setitem(ARCHITECTURES, "densenet_tiny", uniform)
    other = store.identify(xray_config, task, lesson)
    assert store.key_of(other) != store.key_of(identity)


def test_the_resnets_part_of_an_identity_is_that_of_earlier_revisions():
    # The key seeds the training too: another spelling would be another teacher.
    attributes = "SmallResNet(\n    # attributes\n    widths = (8, 16, 32, 64)\n    batch_norm_momentum = 0.9\n)"
    assert repr(ARCHITECTURES["small_resnet_tiny"].trunk) == attributes


@pytest.mark.parametrize("field", ["parcels.side_pixels", "parcels.seed", "patches.max_stride_pixels"])
def test_parcels_that_share_their_ids_do_not_share_a_teacher(xray_config, field):
    images = load("xray", xray_config)
    lesson = one_class.plan_lesson(xray_config, images, one_class.configurations(images, xray_config)[0])
    task = build_task("rotnet", xray_config.pretrain, 2)
    other = copy.deepcopy(xray_config)
    value = xray_config.data
    for part in field.split("."):
        value = value[part]
    other.data.update_from_flattened_dict({field: value + 8})
    keys = {store.key_of(store.identify(each, task, lesson)) for each in (xray_config, other)}
    assert len(keys) == 2


def test_self_supervised_teachers_of_two_configurations_differ(config, tmp_path, one_device, trained):
    config.teacher.task, config.teacher.data = "rotnet", "cifar10"
    keys = {obtain(config, tmp_path / "run", one_device, which)[1]["key"] for which in (0, 1, 0)}
    assert len(keys) == len(trained) == 2


def test_two_runs_at_once_train_it_once(config, tmp_path, one_device, trained, capsys):
    results = {}

    def run(name):
        results[name] = obtain(config, tmp_path / name, one_device)

    threads = [threading.Thread(target=run, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(trained) == 1
    assert_equal(results["a"][0].variables, results["b"][0].variables)


def test_what_a_killed_run_left_in_the_store_is_trained_again(config, tmp_path, one_device, trained):
    _, description = obtain(config, tmp_path / "a", one_device)
    (tmp_path / "teachers" / description["key"] / "manifest.json").unlink()
    obtain(config, tmp_path / "b", one_device)
    assert len(trained) == 2


def test_an_autoencoders_code_is_the_teachers_output(config, tmp_path, one_device):
    config.teacher.task, config.teacher.data = "autoencoder", "cifar10"
    teacher, description = obtain(config, tmp_path / "a", one_device)
    stored, _ = checkpoint.restore(
        tmp_path / "teachers" / description["key"],
        {
            "params": dict(teacher.variables["params"]),
            "batch_stats": {"trunk": teacher.variables["batch_stats"]["trunk"]},
        },
    )
    assert_equal(stored["params"], dict(teacher.variables["params"]))
    assert description["held_out_squared_error"] > 0


def finish(run, config, **results):
    """Makes a finished run of a folder that may have a teacher already."""
    write_json(run / "config.json", flatten(config))
    write_json(run / "splits.json", {"images": load("cifar10", config).identity()})
    workdir.finish(run, {"format_version": 1, "row": config.row, "configurations": [], **results})


def test_another_runs_teacher_can_be_taken(config, tmp_path, one_device, trained):
    theirs, _ = obtain(config, tmp_path / "theirs", one_device)
    finish(tmp_path / "theirs", config)
    config.teacher.from_run = str(tmp_path / "theirs")
    config.seed = 5
    ours, description = obtain(config, tmp_path / "ours", one_device)
    assert_equal(ours.variables, theirs.variables)
    assert description["from_run"] == str(tmp_path / "theirs")
    assert len(trained) == 1


@pytest.mark.parametrize(
    ("field", "value"), [("seed", 1), ("data.train_fraction", 0.5), ("data.image_size_pixels", 40)]
)
def test_a_teacher_that_may_have_seen_what_is_tested_is_refused(config, tmp_path, field, value):
    config.teacher.task, config.teacher.data = "rotnet", "cifar10"
    finish(tmp_path / "theirs", config)
    config.teacher.from_run = str(tmp_path / "theirs")
    teacher_lib.check_another_run(config)
    config.update_from_flattened_dict({field: value})
    with pytest.raises(UserError, match=f"has {field}="):
        teacher_lib.check_another_run(config)


def test_what_was_synthetic_in_another_run_stays_so(config, tmp_path, one_device):
    obtain(config, tmp_path / "theirs", one_device)
    finish(tmp_path / "theirs", config, synthetic_data=True)
    config.teacher.from_run = str(tmp_path / "theirs")
    assert obtain(config, tmp_path / "ours", one_device)[1]["synthetic_data"] is True


def test_a_flipped_bit_in_the_store_is_named_and_the_teacher_trained_again(
    config, tmp_path, one_device, trained, capsys
):
    first, description = obtain(config, tmp_path / "run", one_device)
    folder = tmp_path / "teachers" / description["key"]
    for number in range(NUM_FLIPS // 2):
        file, _ = flip_bit(folder, number)
        again, _ = obtain(config, tmp_path / f"run{number}", one_device)
        assert f"{folder} is damaged ({file.relative_to(folder)}: changed" in capsys.readouterr().err
        assert len(trained) == 2 + number
        assert_equal(again.variables, first.variables)
    obtain(config, tmp_path / "last", one_device)
    assert len(trained) == 1 + NUM_FLIPS // 2


def test_a_flipped_bit_in_the_runs_own_teacher_is_named_and_mended(config, tmp_path, one_device, capsys):
    first, _ = obtain(config, tmp_path / "run", one_device)
    folder = tmp_path / "run" / "checkpoints" / "teacher"
    for number in range(NUM_FLIPS):
        file, _ = flip_bit(folder, number)
        again, _ = obtain(config, tmp_path / "run", one_device)
        assert f"{folder} is damaged ({file.relative_to(folder)}: changed" in capsys.readouterr().err
        assert_equal(again.variables, first.variables)


def test_a_damaged_teacher_of_another_run_is_refused_with_what_helps(config, tmp_path, one_device):
    obtain(config, tmp_path / "theirs", one_device)
    finish(tmp_path / "theirs", config)
    config.teacher.from_run = str(tmp_path / "theirs")
    folder = tmp_path / "theirs" / "checkpoints" / "teacher"
    teacher_lib.check_another_run(config)
    for number in range(NUM_FLIPS):
        with flipped_bit(folder, number) as file:
            name = f"checkpoints/teacher/{file.relative_to(folder)}"
            message = (
                f"has changed since it was finished: {name} .changed.; restore .* or run that run's own command again"
            )
            with pytest.raises(UserError, match=message):
                teacher_lib.check_another_run(config)
            with pytest.raises(UserError, match="its teacher .* is damaged .*; restore"):
                obtain(config, tmp_path / "ours", one_device)
    for name in ("config.json", "splits.json", "results.json", "manifest.json"):
        sound = (tmp_path / "theirs" / name).read_bytes()
        (tmp_path / "theirs" / name).write_bytes(sound[:-5])
        with pytest.raises(UserError, match=f"has changed since it was finished: {name}"):
            teacher_lib.check_another_run(config)
        (tmp_path / "theirs" / name).write_bytes(sound)


def test_a_teacher_of_the_same_images_under_another_path_is_taken(config, tmp_path, one_device):
    config.teacher.task, config.teacher.data = "rotnet", "cifar10"
    finish(tmp_path / "theirs", config)
    config.teacher.from_run = str(tmp_path / "theirs")
    images = load("cifar10", config)
    teacher_lib.check_same_images(config, images)
    others = dataclasses.replace(images, digests=np.char.add(images.digests, "x"))
    with pytest.raises(UserError, match="is on other images than --config.data.path or .dir has"):
        teacher_lib.check_same_images(config, others)


def test_another_network_of_the_same_name_is_another_teacher(config, monkeypatch):
    images = load("cifar10", config)
    lesson = one_class.plan_lesson(config, load("fashion_mnist", config), one_class.configurations(images, config)[0])
    task = build_task("classification", config.pretrain, 10)
    before = store.key_of(store.identify(config, task, lesson))
    monkeypatch.setitem(ARCHITECTURES, "mini", ARCHITECTURES["small_resnet_tiny"])
    assert store.key_of(store.identify(config, task, lesson)) != before


def test_a_run_without_that_teacher_is_refused(config, tmp_path, one_device):
    config.teacher.from_run = str(tmp_path / "theirs")
    with pytest.raises(UserError, match="from_run=.* is not the folder of a finished run"):
        teacher_lib.check_another_run(config)
    config.teacher.from_run = ""
    obtain(config, tmp_path / "theirs", one_device)
    finish(tmp_path / "theirs", config)
    config.teacher.from_run = str(tmp_path / "theirs")
    config.teacher.task = "rotnet"
    with pytest.raises(UserError, match="has teacher.task='classification', not 'rotnet': set --config.teacher.task"):
        teacher_lib.check_another_run(config)
    config.teacher.task = "classification"
    (tmp_path / "theirs" / "checkpoints" / "teacher" / "manifest.json").unlink()
    with pytest.raises(UserError, match="has no teacher for unimodal/airplane"):
        obtain(config, tmp_path / "ours", one_device)


@pytest.fixture
def published(torch, xray_config, tmp_path):
    """A file of weights, named in the settings; the kernel of its first convolution."""
    from tests.models.published_weights_test import draw, save, torchvision_names

    _, _, reference = draw(torch, "densenet_tiny", 64)
    path = save(torch, torchvision_names(reference, "old"), tmp_path / "weights.pth")
    xray_config.network.name = "densenet_tiny"
    xray_config.teacher.weights, xray_config.teacher.weights_sha256 = str(path), ""
    return reference.convs["conv0"].weight.detach().numpy().transpose(2, 3, 1, 0)


def test_published_weights_become_the_trunk(published, xray_config, tmp_path, one_device):
    xray_config.teacher.task, xray_config.teacher.data = "imagenet", ""
    teacher, _ = obtain(xray_config, tmp_path / "run", one_device)
    np.testing.assert_array_equal(teacher.variables["params"]["trunk"]["conv0"]["kernel"], published)
    assert (tmp_path / "run" / "checkpoints" / "teacher").is_dir()


def test_pretraining_can_start_from_published_weights(published, xray_config, tmp_path, one_device):
    xray_config.pretrain.num_epochs, xray_config.pretrain.peak_learning_rate = 0.1, 0.0
    drawn, drawn_description = obtain(xray_config, tmp_path / "drawn", one_device)
    xray_config.pretrain.from_weights = True
    started, description = obtain(xray_config, tmp_path / "started", one_device)
    assert description["key"] != drawn_description["key"]
    np.testing.assert_array_equal(started.variables["params"]["trunk"]["conv0"]["kernel"], published)
    assert np.abs(drawn.variables["params"]["trunk"]["conv0"]["kernel"] - published).max() > 0.01


def test_other_weights_to_start_from_make_another_teacher(config, tmp_path):
    images = load("cifar10", config)
    lesson = one_class.plan_lesson(config, load("fashion_mnist", config), one_class.configurations(images, config)[0])
    task = build_task("classification", config.pretrain, 10)
    config.pretrain.from_weights, config.teacher.weights = True, str(tmp_path / "weights.pth")
    keys = set()
    for content in (b"one", b"other", b"one"):
        (tmp_path / "weights.pth").write_bytes(content)
        keys.add(store.key_of(store.identify(config, task, lesson)))
    assert len(keys) == 2


def test_smoke_without_published_weights_says_that_they_are_drawn(xray_config, tmp_path, one_device, capsys):
    xray_config.teacher.task, xray_config.teacher.data = "imagenet", ""
    _, description = obtain(xray_config, tmp_path / "run", one_device)
    assert description == {"synthetic_weights": True}
    assert "SYNTHETIC WEIGHTS" in capsys.readouterr().out


def test_each_part_of_a_lesson_and_of_the_task_changes_the_key(config):
    images = load("cifar10", config)
    lesson = one_class.plan_lesson(config, load("fashion_mnist", config), one_class.configurations(images, config)[0])
    task = build_task("autoencoder", config.pretrain, 10)
    wider = copy.deepcopy(config)
    wider.network.output_features = 7
    others = [
        (config, task, dataclasses.replace(lesson, train=lesson.train[1:])),
        (config, task, dataclasses.replace(lesson, held_out=lesson.held_out[1:])),
        (config, dataclasses.replace(task, version=task.version + 1), lesson),
        (wider, task, lesson),
    ]
    keys = {store.key_of(store.identify(*each)) for each in [(config, task, lesson), *others]}
    assert len(keys) == 5
    labels = dataclasses.replace(lesson.images, labels=(lesson.images.labels + 1) % 10)
    relabelled = store.identify(config, task, dataclasses.replace(lesson, images=labels))
    assert store.key_of(relabelled) not in keys
