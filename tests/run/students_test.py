"""How students train, and what is measured of them on the way."""

import dataclasses

import numpy as np
import pytest

from brittle_jax.errors import UserError
from brittle_jax.recipes import densenet_row, small_resnet_row
from brittle_jax.run import estimate, experiment, students
from brittle_jax.student import movement
from tests.small_runs import read, read_row, shrink


@pytest.fixture
def row_of(tmp_path, data_dir, one_device):
    def build(config, recipe=None):
        config.data.dir, config.data.stand_in = data_dir, True
        row, (configuration, *_) = read_row(config, tmp_path, one_device)
        return dataclasses.replace(row, recipe=recipe), configuration

    return build


def cifar10_random(word=None):
    config = small_resnet_row("cifar10_random", word, data="cifar10", teacher="random")
    config.data.configurations = "unimodal/airplane"
    return config


def test_the_full_recipe_has_the_papers_rate(row_of):
    config = cifar10_random()
    config.distill.update_steps, config.distill.keep_movement = 1580, True
    budget = students.budget_of(*row_of(config, config))
    assert (budget.update_steps, budget.learning_rate) == (1580, 1e-5)
    assert budget.movement == budget.recipe_movement == movement(small_resnet(), 1580, 1e-5)


def small_resnet(name="small_resnet"):
    config = cifar10_random()
    config.network.name = name
    return students.NetworkSettings(**config.network)


@pytest.mark.parametrize("group, images", [("unimodal", 5_000), ("multimodal", 45_000)])
def test_a_smaller_run_moves_as_far_as_the_recipe(row_of, group, images):
    config = cifar10_random("smoke")
    config.data.configurations, config.distill.keep_movement = f"{group}/airplane", True
    budget = students.budget_of(*row_of(config, cifar10_random()))
    recipe_steps = 20 * -(-images // 64)
    assert budget.update_steps == 90
    assert budget.recipe_movement == pytest.approx(movement(small_resnet(), recipe_steps, 1e-5))
    assert budget.movement == pytest.approx(budget.recipe_movement)
    # The tiny network is an eighth as wide. Only its first layer has as many inputs to a weight.
    assert budget.learning_rate == pytest.approx(1e-5 * recipe_steps / 90 * 8**0.5, rel=0.06)


def test_a_recipe_with_fewer_images_counts_those(row_of):
    config, recipe = cifar10_random("smoke"), cifar10_random()
    recipe.data.max_train_samples = 640
    budget = students.budget_of(*row_of(config, recipe))
    assert budget.recipe_movement == pytest.approx(movement(small_resnet(), 200, 1e-5))


def test_the_rate_that_is_set_counts_unless_the_movement_does(row_of):
    config = cifar10_random("smoke")
    budget = students.budget_of(*row_of(config, cifar10_random()))
    assert budget.learning_rate == config.distill.learning_rate == 1e-2
    assert budget.movement == movement(small_resnet("small_resnet_tiny"), 90, 1e-2) > 10 * budget.recipe_movement


def test_fewer_parcels_stand_for_all(row_of):
    config = densenet_row("xray_random", "smoke", data="xray", teacher="random")
    config.data.parcels.num_normal, config.data.parcels.num_threat = 10, 2
    config.data.max_train_samples = 4
    row, configuration = row_of(config, densenet_row("xray_random", None, data="xray", teacher="random"))
    per_parcel = len(row.dataset.images_of(configuration.train)) / 4
    budget = students.budget_of(row, configuration)
    recipe_steps = 20 * np.ceil(round(4000 * per_parcel) / 64)
    full = students.NetworkSettings(**row.recipe.network)
    assert budget.recipe_movement == pytest.approx(movement(full, recipe_steps, 1e-5))


@pytest.fixture
def config(cifar10_config):
    return shrink(cifar10_config)


@pytest.mark.usefixtures("empty_page")
def test_measuring_on_the_way_changes_nothing_else(tmp_path, config):
    experiment.run(config, tmp_path / "plain")
    config.distill.measure_at = "4, 1,2"
    experiment.run(config, tmp_path / "measured")
    plain, measured = (read(tmp_path / name, "results.json")["configurations"][0] for name in ("plain", "measured"))
    course = measured["distillation"].pop("course")
    assert plain["distillation"].pop("course") == []
    assert plain == measured
    assert [point["update_steps"] for point in course] == [1, 2, 4]
    assert [point["movement"] for point in course] == pytest.approx(
        [measured["distillation"]["movement"] * share for share in (0.25, 0.5, 1)]
    )
    # At the end the samples are all there are, so the last point is the result.
    assert course[-1]["kd_auroc"] == measured["auroc"]["kd"]
    assert course[-1]["brittleness"] == pytest.approx(measured["brittleness"], rel=1e-6)
    assert course[-1]["error_ratio"] == pytest.approx(measured["distillation"]["error_ratio"], rel=1e-6)
    assert course[0]["brittleness"] != course[1]["brittleness"] != course[2]["brittleness"]


def test_few_samples_are_measured_if_few_are_asked_for(tmp_path, config, one_device):
    config.distill.measure_samples = 3
    row, (configuration, *_) = read_row(config, tmp_path, one_device)
    made = experiment.make_detector(row, configuration)
    scored = []
    loop_run = row.loop.run

    def run(work, until=None):
        scored.append((work.kind, work.num_units))
        return loop_run(work, until)

    row.loop.run = run
    students.measure(row, configuration, made.detector, made.representations)
    assert dict(scored)["scores"] == 6 and dict(scored)["input gradients"] == 3


def test_a_point_after_the_end_is_refused_before_anything_is_trained(tmp_path, config):
    config.distill.measure_at = "2,5"
    with pytest.raises(UserError, match="the student of unimodal/airplane makes 4 updates: give no more than that"):
        experiment.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_estimate_counts_each_update_once(tmp_path, config):
    config.distill.measure_at = "1,3"
    stages = estimate.estimate(config, tmp_path / "run", least_seconds=0.0).stages
    counts = {(stage.stage, stage.unit): stage.count for stage in stages}
    assert counts["distill", "update"] == 4
