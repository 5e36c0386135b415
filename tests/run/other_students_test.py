"""Whole runs whose student is another network than the teacher, or learns in other coordinates."""

import csv
import dataclasses

import numpy as np
import pytest

from brittle_jax.apply import detector as detector_lib
from brittle_jax.errors import UserError
from brittle_jax.models.convnet import SmallConvNet
from brittle_jax.models.network import ARCHITECTURES, check_network, init_variables
from brittle_jax.run import disk, estimate, experiment, settings
from brittle_jax.student import movement
from tests.mini_network import MINI
from tests.small_runs import dataset_of, shrink, without_times

NAME = "unimodal/airplane"


@pytest.fixture
def config(cifar10_config, monkeypatch):
    """A student of a few convolutions, in whitened coordinates."""
    monkeypatch.setitem(ARCHITECTURES, "student", dataclasses.replace(MINI, trunk=SmallConvNet(widths=(4,) * 5)))
    config = shrink(cifar10_config)
    config.network.student, config.distill.targets = "student", "whitened"
    config.network.output_features, config.evaluate.covariance = 6, "ledoit_wolf"
    return config


def scores_of(run):
    with open(run / "scores" / f"{NAME}.csv", newline="", encoding="utf-8") as file:
        return {line["id"]: line for line in csv.DictReader(file)}


@pytest.mark.parametrize("path", ["student", pytest.param("both", marks=pytest.mark.long)])
def test_a_run_and_its_detector_agree(tmp_path, config, path):
    config.evaluate.gradient_path = path
    content = experiment.run(config, tmp_path / "run")
    (entry,) = content["configurations"]
    assert content["measurement"]["student"] == "student" and content["measurement"]["targets"] == "whitened"
    assert content["measurement"]["initialiser"].endswith(
        " (the student: convolutions He normal, of variance 2/fan_in, heads uniform in +-1/sqrt(fan_in)), "
        "student and teacher drawn apart"
    )
    lines = scores_of(tmp_path / "run")
    normal = [line for line in lines.values() if line["label"] == "0"]
    losses = [np.mean([float(line[name]) for line in normal]) / 6 for name in ("kd", "mahalanobis_full")]
    assert entry["distillation"]["loss"] == pytest.approx(losses[0], rel=1e-5)
    assert entry["distillation"]["mean_predictor_loss"] == pytest.approx(losses[1], rel=1e-5)
    network = settings.network_of(config)
    assert entry["distillation"]["movement"] == pytest.approx(movement(network, 4, config.distill.learning_rate))

    detector = detector_lib.load(tmp_path / "run", NAME)
    assert (detector.network, detector.targets) == (network, "whitened")
    assert isinstance(detector.student.module.trunk, SmallConvNet)
    dataset = dataset_of(config)
    indices = [int(np.flatnonzero(dataset.samples.ids == each)[0]) for each in lines]
    images = np.stack([dataset.images.read(index) for index in indices]) / np.float32(255)
    scores = detector(images)
    for name, values in scores.items():
        np.testing.assert_allclose(values, [float(line[name]) for line in lines.values()], rtol=1e-4)
    np.testing.assert_allclose(np.square(detector.errors(images)).sum(axis=1), scores["kd"], rtol=1e-5)

    kept = np.load(tmp_path / "run" / "brittleness" / f"{NAME}.npz")
    learned = np.stack([dataset.images.read(index) for index in kept["error_image"]]) / np.float32(255)
    np.testing.assert_allclose(kept["error"], detector.errors(learned), rtol=1e-3, atol=1e-4)


def test_a_student_that_was_saved_is_read_back(tmp_path, config, capsys):
    first = experiment.run(config, tmp_path / "run")
    for name in ("results.json", "manifest.json"):
        (tmp_path / "run" / name).unlink()
    (tmp_path / "run" / "scores" / f"{NAME}.csv").unlink()
    again = experiment.run(config, tmp_path / "run")
    assert "student: finished before, read back" in capsys.readouterr().out
    assert without_times(again) == without_times(first)


def test_disk_space_counts_each_network_as_it_is(config):
    network, shape = settings.network_of(config), (32, 32, 3)

    def kept(network, num_configurations):
        numbers = {"num_references": 0, "num_trained": 1, "teacher_is_shared": True}
        return disk.kept(network, shape, num_configurations=num_configurations, **numbers)

    sizes = [
        sum(leaf.nbytes for kind in init_variables(module, 0, shape).values() for leaf in _leaves(kind)) / 2**20
        for module in (network.module, network.student_module)
    ]
    count, mib = kept(network, 3)
    assert count == 1 + 1 + 3
    assert mib == pytest.approx(2 * sizes[0] + 3 * (sizes[1] + 4 * 6**2 / 2**20))
    assert disk.bytes_of_states(network, shape) == pytest.approx(6 * max(sizes) * 2**20)


def _leaves(tree):
    return [tree] if not isinstance(tree, dict) else [leaf for each in tree.values() for leaf in _leaves(each)]


def test_an_estimate_knows_the_student(tmp_path, config):
    found = estimate.estimate(config, tmp_path / "run", least_seconds=0.0)
    assert found.num_networks == 2
    assert {stage.stage: stage.count for stage in found.stages if stage.unit == "update"} == {"distill": 4}


def test_the_student_is_no_part_of_the_teacher(tmp_path, config):
    config.teacher.task, config.teacher.data = "rotnet", "cifar10"
    kinds = []
    for student in ("", "student"):
        config.network.student = student
        kinds.append(settings.teacher_of(config, tmp_path / "run"))
    assert kinds[0] == kinds[1]


def test_a_student_of_no_name_is_one_line(config):
    config.network.student = "small_convent"
    with pytest.raises(UserError) as raised:
        check_network(settings.network_of(config))
    message = str(raised.value)
    assert message.startswith("network.student='small_convent' is not one of 'small_resnet', ")
    assert "(did you mean small_convnet" in message and "\n" not in message
