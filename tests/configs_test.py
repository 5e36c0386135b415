import csv
import dataclasses
import functools
import pathlib
import re

import jax
import numpy as np
import pytest

from brittle_jax import command_line, config, published, recipes
from brittle_jax.auxiliary import TASKS, build_task
from brittle_jax.errors import UserError
from brittle_jax.main import define_flags
from brittle_jax.models import lite_weights
from brittle_jax.models.densenet import DenseNet
from brittle_jax.models.network import ARCHITECTURES, init_variables
from brittle_jax.run import record
from brittle_jax.student import num_updates
from brittle_jax.teachers.pretraining import Recipe
from brittle_jax.train.optimizers import adam
from brittle_jax.train.steps import create_state, distill_step, pretrain_step

FILES = sorted(command_line.packaged_configs().glob("*.py"))
ROWS = [file.stem for file in FILES if file.stem != "image_folder"]  # of the paper


def load(row, word=""):
    return command_line.parse(["main", f"--config={row}{word}"], define_flags)


def test_these_rows_are_there():
    with open(pathlib.Path(published.__file__).parent / "published.csv", newline="", encoding="utf-8") as file:
        assert ROWS == sorted({line["row"] for line in csv.DictReader(file)})
    assert len(ROWS) == 36


def test_every_teacher_that_is_named_exists():
    assert config.AUXILIARY_TASKS == tuple(TASKS)


def test_the_list_of_rows_has_every_file_once():
    text = (command_line.packaged_configs() / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `(\w+)\.py` \|", text, flags=re.MULTILINE)) == ROWS


@pytest.mark.parametrize("row", [*ROWS, "image_folder"])
@pytest.mark.parametrize("word", ["", ":smoke"])
def test_a_row_loads_with_every_field_of_the_base_and_no_other(row, word):
    loaded = load(row, word).config
    assert loaded.row == row
    assert config.flatten(loaded).keys() == config.flatten(config.get_base_config()).keys()


@pytest.mark.parametrize(
    ("row", "network"),
    [
        ("xray_random", "small_resnet_tiny"),
        ("xray_rotnet", "small_resnet_tiny"),
        ("xray_baseline", "small_resnet_tiny"),
        ("xray_imagenet", "efficientnet_lite0"),
    ],
)
def test_parcels_have_a_budget_for_a_cpu_that_is_reduced_against_the_recipe(row, network):
    loaded = load(row, ":cpu")
    assert command_line.default_workdir(loaded.config) == str(pathlib.Path("runs", f"{row}-cpu"))
    actual, recipe = config.flatten(loaded.config), config.flatten(loaded.recipe)
    changed = {name for name in actual if actual[name] != recipe[name]}
    assert {"network.name", "data.parcels.num_normal", "distill.num_epochs", "pretrain.num_epochs"} <= changed
    assert (recipe["network.name"], actual["network.name"]) == ("densenet161", network)
    assert actual["data.stand_in"] == recipe["data.stand_in"]
    assert ("teacher.task" in changed) == (row == "xray_imagenet")


@pytest.mark.parametrize("row", ROWS)
def test_a_row_documents_its_published_numbers_and_its_command(row):
    text = pathlib.Path(command_line.packaged_configs() / f"{row}.py").read_text(encoding="utf-8")
    assert f"--config=configs/{row}.py" in text
    for group in published.published_row(row)["groups"].values():
        for name in ("kd", "mse", "mahalanobis_diag", "mahalanobis_full"):
            assert f"{100 * group['auroc'][name]:.2f}" in text


_traced = {}  # what several rows share, the student above all, is traced once


@functools.cache
def count_features(module, side):
    """Traces a network and returns how many features it has."""
    images = np.zeros((4, side, side, 3), np.uint8)
    return jax.eval_shape(lambda: module.init_with_output(jax.random.key(0), images))[0].shape[1]


def with_short_blocks(architecture):
    """Returns the architecture; a DenseNet with blocks of one layer, since tracing all layers of one takes seconds."""
    if not isinstance(architecture.trunk, DenseNet):
        return architecture
    return dataclasses.replace(architecture, trunk=architecture.trunk.clone(block_sizes=(1, 1, 1, 1)))


def trace_training(devices, step, module, optimizer, batch, *static):
    """Traces one update and returns the shapes of its metrics; nothing is computed."""
    shape = batch["image"].shape[1:]
    key = step, module, optimizer.tx, type(optimizer.learning_rate), static, shape
    if key not in _traced:
        before = jax.eval_shape(lambda: create_state(init_variables(module, 0, shape), optimizer, 0))
        after, metrics = jax.eval_shape(devices.train_step(step, module, optimizer.tx, *static), before, batch)
        assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), after) == jax.tree.map(
            lambda leaf: (leaf.shape, leaf.dtype), before
        )
        _traced[key] = metrics
    return _traced[key]


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("word", ["", ":smoke"])
def test_a_row_traces_its_training(row, word, one_device):
    loaded = load(row, word).config
    side = loaded.data.patches.size_pixels if loaded.data.name == "xray" else loaded.data.image_size_pixels
    images = np.zeros((4, side, side, 3), np.uint8)
    architecture = ARCHITECTURES[loaded.network.name]
    student = architecture.with_output(loaded.network.output_features)
    assert count_features(student, side) == (loaded.network.output_features or {"": 2208, ":smoke": 32}[word])
    # That trace has every layer of the trunk.
    architecture = with_short_blocks(architecture)
    student = architecture.with_output(loaded.network.output_features)
    targets = np.zeros((4, count_features(student, side)), np.float32)
    metrics = trace_training(one_device, distill_step, student, adam(1e-5), {"image": images, "target": targets})
    assert metrics["loss"].shape == ()
    if loaded.teacher.task in TASKS:
        recipe = Recipe(**loaded.pretrain)
        task = build_task(loaded.teacher.task, recipe, 10)
        module = task.build_module(architecture, loaded.network.output_features, images.shape[1:])
        optimizer = recipe.build_optimizer(100, task)
        batch = {"image": images} | {name: np.zeros(4, np.int32) for name in ("label", "position", "epoch")}
        metrics = trace_training(one_device, pretrain_step, module, optimizer, batch, task)
        assert {"loss", task.held_out_metric} - {None} <= metrics.keys()


@pytest.fixture(params=[True, False], ids=["with the extra", "without it"])
def has_extra(request, monkeypatch):
    """Whether the extra `imagenet` is installed."""
    monkeypatch.setattr(recipes, "lite_is_installed", lambda: request.param)
    return request.param


def test_the_package_is_the_one_that_is_read():
    assert recipes.LITE_PACKAGE == lite_weights.PACKAGE


@pytest.mark.parametrize(("word", "side"), [("", None), (":32", 32), (":96", 96), (":224", 224)])
def test_own_pictures_get_the_teacher_that_is_installed_whatever_their_size(has_extra, word, side):
    arguments = load("image_folder", word)
    settings = arguments.config
    task, network, own_side = ("imagenet_lite", "efficientnet_lite0", 160)
    if not has_extra:
        task, network, own_side = "rotnet", "small_resnet_tiny", 64
    assert (settings.teacher.task, settings.network.name) == (task, network)
    assert settings.data.image_size_pixels == (side or own_side)
    assert record.changed_fields(settings, arguments.recipe) == {}
    assert settings.data.calibration_fraction == 0.2


@pytest.mark.parametrize("word", ["", ":imagenet_lite", ":160", ":160-imagenet_lite"])
def test_the_lite_teacher_gets_what_the_study_chose_however_it_is_named(monkeypatch, word):
    monkeypatch.setattr(recipes, "lite_is_installed", lambda: True)
    settings = load("image_folder", word).config
    network = settings.network
    assert network.levels == "stage1:extremes,stage2,stage2:extremes,stage3,stage5,stage7"
    assert (network.output_features, network.student) == (0, "small_convnet")
    assert (settings.distill.targets, settings.distill.num_epochs) == ("standardised", 5)
    assert (settings.evaluate.covariance, settings.data.image_size_pixels) == ("ledoit_wolf", 160)


@pytest.mark.parametrize("teacher", ["random", "rotnet", "autoencoder", "denoising", "simclr"])
@pytest.mark.parametrize("side", ["", "64-", "96-", "224-"])
def test_a_side_does_not_change_the_network(teacher, side):
    settings = config.flatten(load("image_folder", f":{side}{teacher}").config)
    narrow = config.flatten(load("image_folder", f":{teacher}").config)
    assert settings["network.name"] == "small_resnet_tiny" and settings["network.output_features"] == 128
    changed = {name for name in settings if settings[name] != narrow[name]}
    assert changed <= {"word", "data.image_size_pixels"}


@pytest.mark.parametrize(("word", "side"), [(":imagenet", 224), (":224-imagenet", 224), (":64-imagenet", 64)])
def test_published_weights_of_densenet_get_densenet(word, side):
    settings = load("image_folder", word).config
    assert (settings.network.name, settings.network.output_features) == ("densenet161", 0)
    assert settings.data.image_size_pixels == side


def test_the_other_teacher_is_named(has_extra):
    hints = {word: recipes.other_teacher(load("image_folder", word).config) for word in ("", ":rotnet", ":smoke")}
    assert hints[":smoke"] is None and recipes.other_teacher(load("cifar10_random").config) is None
    if has_extra:
        assert hints[""].endswith("start with --config=configs/image_folder.py:rotnet.")
        assert hints[":rotnet"].endswith("start with --config=configs/image_folder.py:imagenet_lite.")
    else:
        assert hints[""] == hints[":rotnet"]
        assert "python -m pip install 'brittle-jax[imagenet]'" in hints[""]


def test_a_smoke_run_needs_no_extra(has_extra):
    settings = load("image_folder", ":smoke").config
    assert (settings.teacher.task, settings.network.name) == ("rotnet", "small_resnet_tiny")
    assert settings.data.stand_in and settings.data.calibration_fraction == 0


@pytest.mark.parametrize(
    ("word", "side", "teacher"),
    [(":random", 64, "random"), (":224-imagenet", 224, "imagenet"), (":autoencoder-32", 32, "autoencoder")],
)
def test_own_pictures_get_the_recipe_of_the_teacher_that_is_named(word, side, teacher):
    settings = load("image_folder", word).config
    assert (settings.data.image_size_pixels, settings.teacher.task) == (side, teacher)
    assert settings.pretrain.optimizer == ("adam" if teacher == "autoencoder" else "sgd")
    assert settings.word == word[1:]


@pytest.mark.parametrize("word", [":large", ":7", ":64-128", ":random-simclr", ":64-smoke", ":-"])
def test_a_word_that_says_nothing_is_refused(word):
    with pytest.raises(UserError, match="the word is 'smoke', the side of the images in pixels, a teacher"):
        load("image_folder", word)


@pytest.mark.parametrize(
    ("task", "data"),
    [
        ("rotnet", "image_folder"),
        ("baseline", "image_folder"),
        ("random", ""),
        ("imagenet", ""),
        ("imagenet_lite", ""),
    ],
)
def test_a_teacher_learns_ones_own_data_unless_another_is_named(task, data):
    settings = load("image_folder").config.copy_and_resolve_references()
    settings.teacher.task = task
    assert config.completed(settings).teacher.data == data
    assert settings.teacher.data == ""


def test_published_numbers_are_fractions():
    row = published.published_row("cifar10_cifar_rotnet")
    assert row["groups"]["unimodal"]["auroc"]["kd"] == 0.8535
    assert row["groups"]["multimodal"]["brittleness"] == 0.048
    assert row["probe_accuracy"] == 0.3727
    assert row["table"] == "8, 9"
    assert published.published_row("mine") is None


RECIPES = {  # of protocol: epochs, optimiser, peak rate, inputs a batch, weight decay
    "cifar10_cifar_rotnet": (24, "sgd", 0.4, 512, 5e-4),
    "cifar10_fmnist_classification": (24, "sgd", 0.4, 512, 5e-4),
    "cifar10_cifar_autoencoder": (24, "adam", 1e-3, 128, 5e-4),
    "cats_vs_dogs_stl_denoising": (24, "adam", 1e-3, 128, 5e-4),
    "cifar10_cifar_simclr": (100, "adam", 1e-3, 1024, 5e-4),
    "plant_rotnet": (30, "sgd", 0.0125, 64, 1e-4),
    "xray_baseline": (30, "sgd", 0.0125, 64, 1e-4),
}


@pytest.mark.parametrize("row", RECIPES)
def test_the_full_recipes_are_the_published_ones_or_their_readings(row):
    settings = load(row).config
    pretrain, distill = settings.pretrain, settings.distill
    used = (pretrain.num_epochs, pretrain.optimizer, pretrain.peak_learning_rate, pretrain.batch_size)
    assert (*used, pretrain.weight_decay) == RECIPES[row]
    assert (pretrain.noise_deviation, pretrain.temperature, pretrain.colour_strength) == (0.1, 0.5, 0.5)
    batch_size = 8 if settings.data.name == "plant_pathology" else 64
    used = (distill.num_epochs, distill.update_steps, distill.batch_size, distill.learning_rate)
    assert used == (20, 0, batch_size, 1e-5)
    assert settings.network.output_features == (0 if settings.network.name == "densenet161" else 128)


@pytest.mark.parametrize("row", [row for row in ROWS if row.startswith("plant_")])
def test_students_of_leaves_learn_in_batches_of_8(row):
    distill = load(row).config.distill
    updates = num_updates(
        413, batch_size=distill.batch_size, num_epochs=distill.num_epochs, update_steps=distill.update_steps
    )
    assert (distill.batch_size, updates) == (8, 1040)
    assert load(row, ":smoke").config.distill.batch_size == 32


def test_to_name_the_side_that_is_the_default_changes_nothing():
    named, default = (config.flatten(load("image_folder", word).config) for word in (":64-autoencoder", ":autoencoder"))
    assert {**named, "word": ""} == {**default, "word": ""}
