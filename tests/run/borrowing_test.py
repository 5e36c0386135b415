import dataclasses

import numpy as np
import pytest

from brittle_jax import checkpoint, files
from brittle_jax.config import flatten
from brittle_jax.data import parcels
from brittle_jax.errors import UserError
from brittle_jax.models.network import init_variables
from brittle_jax.run import borrowing, workdir
from tests.conftest import make_dataset
from tests.damage import NUM_FLIPS, flipped_bit
from tests.mini_network import MINI
from tests.small_teachers import finish, learn_fashion

DATASET = make_dataset(np.zeros((2, 1, 1, 3)))


@pytest.fixture
def config(cifar10_config):
    return learn_fashion(cifar10_config)


def lend(config, folder, **results):
    """Makes a finished run of the settings, and lets them borrow its teacher."""
    finish(folder, config, DATASET, **results)
    config.teacher.from_run = str(folder)
    return folder


@pytest.mark.parametrize("is_synthetic", [False, True])
def test_a_run_with_the_same_teacher_lends_it(config, tmp_path, is_synthetic):
    lender = lend(config, tmp_path / "lender", synthetic_data=is_synthetic)
    config.seed = config.distill.seed = 5  # the teacher has seen nothing of what is tested here
    assert borrowing.check(config) == (lender, is_synthetic)


@pytest.mark.parametrize(
    ("field", "value"), [("seed", 1), ("data.train_fraction", 0.5), ("data.image_size_pixels", 40)]
)
def test_a_teacher_that_may_have_seen_what_is_tested_is_refused(config, tmp_path, field, value):
    config.teacher.task, config.teacher.data = "rotnet", "cifar10"
    lend(config, tmp_path / "lender")
    borrowing.check(config)
    config.update_from_flattened_dict({field: value})
    with pytest.raises(UserError, match=f"^teacher.from_run=.* has {field}=.*, not {value}: set {field}$"):
        borrowing.check(config)


def test_a_teacher_that_learned_on_parcels_of_another_version_is_refused(xray_config, tmp_path):
    lender = lend(xray_config, tmp_path / "lender")

    def record(**version):
        files.write_json(lender / "config.json", {**flatten(xray_config), **version})
        workdir.finish(lender, files.read_json(lender / "results.json"))

    key, ours = "data.parcels.version", f"embedded parcels of version {parcels.VERSION}"
    record(**{key: parcels.VERSION})
    borrowing.check(xray_config)
    for version, theirs in (
        ({key: "3.0.0"}, "embedded parcels of version 3.0.0"),
        ({}, "earlier embedded parcels, or other images"),  # which runs did not record
    ):
        record(**version)
        with pytest.raises(UserError, match=f" is on {theirs}, not on {ours}: train a teacher here$"):
            borrowing.check(xray_config)


def test_a_teacher_of_another_seed_is_refused_where_one_is_asked_for(config, tmp_path):
    config.teacher.task, config.teacher.data = "rotnet", "cifar10"
    config.teacher.seed = 3
    lend(config, tmp_path / "lender", seed=0, seeds={"splits": 0, "teacher": 3, "student": 0})
    for seed in (3, -1):  # the split is the same, whoever drew the teacher
        config.teacher.seed = seed
        borrowing.check(config)
        assert borrowing.teacher_seed(config) == 3
    config.teacher.seed = 0
    with pytest.raises(UserError, match="has a teacher of seed 3, not 0: set teacher.seed=-1$"):
        borrowing.check(config)


def test_a_row_of_several_seeds_is_refused(config, tmp_path):
    config.seeds = "0,1"
    lend(config, tmp_path / "lender")
    config.seeds = ""
    with pytest.raises(
        UserError, match="^teacher.from_run=.*/lender repeats a row over several seeds: name the run of"
    ):
        borrowing.check(config)


def test_another_teacher_is_refused(config, tmp_path):
    lend(config, tmp_path / "lender")
    config.teacher.task = "rotnet"
    with pytest.raises(UserError, match="has teacher.task='classification', not 'rotnet': set teacher.task$"):
        borrowing.check(config)


def test_a_random_teacher_of_another_batch_norm_is_refused(config, tmp_path):
    lend(config, tmp_path / "pretrained")
    config.teacher.random_batch_norm = "initial"
    borrowing.check(config)  # which says nothing of a teacher that is trained
    config.teacher.task, config.teacher.data = "random", ""
    lend(config, tmp_path / "random")
    config.teacher.random_batch_norm = "normal_images"
    with pytest.raises(UserError, match="has teacher.random_batch_norm='initial', not 'normal_images'"):
        borrowing.check(config)


def test_a_teacher_of_other_levels_is_refused(config, tmp_path):
    lend(config, tmp_path / "lender")
    older = flatten(config)
    del older["network.levels"]
    files.write_json(tmp_path / "lender" / "config.json", older)
    workdir.finish(tmp_path / "lender", files.read_json(tmp_path / "lender" / "results.json"))
    borrowing.check(config)
    config.network.levels = "layer1"
    with pytest.raises(UserError, match="has network.levels='', not 'layer1': set network.levels$"):
        borrowing.check(config)


def test_a_folder_without_a_finished_run_is_refused(config, tmp_path):
    config.teacher.from_run = str(tmp_path / "lender")
    with pytest.raises(UserError, match="^teacher.from_run=.*/lender is not the folder of a finished run$"):
        borrowing.check(config)


def test_a_damaged_teacher_is_refused_with_what_helps(config, tmp_path):
    run = tmp_path / "lender"
    folder = run / "checkpoints" / "teacher"
    checkpoint.save(folder, init_variables(MINI.with_output(8), 0, (16, 16, 3)), {}, made_from={})
    lend(config, run)
    borrowing.check(config)
    for number in range(NUM_FLIPS):
        with flipped_bit(folder, number) as file:
            name = f"checkpoints/teacher/{file.relative_to(folder)}"
            message = (
                f"has changed since it was finished: {name} .changed.; restore .* or run that run's own command again"
            )
            with pytest.raises(UserError, match=message):
                borrowing.check(config)
    for name in ("config.json", "splits.json", "results.json", "manifest.json"):
        sound = (run / name).read_bytes()
        (run / name).write_bytes(sound[:-5])
        with pytest.raises(UserError, match=f"has changed since it was finished: {name}"):
            borrowing.check(config)
        (run / name).write_bytes(sound)
    borrowing.check(config)


def test_a_teacher_of_the_same_images_under_another_path_is_taken(config, tmp_path):
    config.teacher.task, config.teacher.data = "rotnet", "cifar10"
    lend(config, tmp_path / "lender")
    config.data.path = "elsewhere"
    borrowing.check_same_images(config, DATASET)
    samples = dataclasses.replace(DATASET.samples, digests=np.char.add(DATASET.samples.digests, "x"))
    other = dataclasses.replace(DATASET, samples=samples)
    with pytest.raises(UserError, match="^teacher.from_run=.* is on other images than data.path or data.dir has"):
        borrowing.check_same_images(config, other)
    config.teacher.data = "fashion_mnist"
    borrowing.check_same_images(config, other)  # it has learned from nothing that is tested here
