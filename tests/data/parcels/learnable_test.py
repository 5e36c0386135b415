"""The embedded parcels hold what they should: a teacher can find the pistols, and knows up from down.

Half an hour on two CPU cores, so not part of the default run: `python -m pytest -m slow -s`.
"""

import dataclasses

import pytest
from brittle_jax.teachers.teacher import obtain_teacher

from brittle_jax.data import one_class
from brittle_jax.data.datasets.loading import load
from brittle_jax.data.splits import Splitting
from brittle_jax.devices import DeviceGroup
from brittle_jax.loop import MetricLog
from brittle_jax.recipes import densenet_row

pytestmark = pytest.mark.slow


def budget(task, data_dir):
    """Returns settings for a CPU: small parcels, one patch a view, a small network."""
    config = densenet_row(f"xray_{task}", None, data="xray", teacher=task, teacher_data="xray")
    config.data.dir = data_dir
    config.data.parcels.side_pixels, config.data.patches.size_pixels, config.data.patches.margin_pixels = 96, 112, 2
    config.network.name, config.network.output_features = "small_resnet_tiny", 128
    config.pretrain.peak_learning_rate = 0.1
    return config


def teacher_of(config, folder):
    dataset = load("xray", config)
    splitting = Splitting(config.seed, config.data.train_fraction)
    if config.teacher.task == "baseline":
        splitting = dataclasses.replace(splitting, anomalous_fraction=config.data.baseline_fraction)
    (configuration,) = one_class.configurations(dataset, "all", splitting)
    log = MetricLog(folder)
    devices = DeviceGroup(DeviceGroup().devices[:1])  # the four of the other tests share the same cores
    _, description = obtain_teacher(config, dataset, dataset, configuration, folder / "run", devices=devices, log=log)
    log.close()
    return description


def test_a_supervised_classifier_finds_the_pistols(tmp_path):
    config = budget("baseline", str(tmp_path / "data"))
    config.data.parcels.num_normal = config.data.parcels.num_threat = 2000
    config.data.train_fraction = config.data.baseline_fraction = 0.85
    config.pretrain.flip, config.pretrain.crop_padding_pixels = True, 6
    config.pretrain.num_epochs, config.pretrain.warmup_epochs = 10.0, 2.0
    description = teacher_of(config, tmp_path)
    assert description["num_held_out_samples"] == 600
    assert description["held_out_auroc"] >= 0.85


def test_rotations_can_be_told_apart(tmp_path):
    config = budget("rotnet", str(tmp_path / "data"))
    config.data.parcels.num_normal, config.data.parcels.num_threat = 1000, 1
    config.pretrain.num_epochs, config.pretrain.warmup_epochs = 3.0, 1.0
    assert teacher_of(config, tmp_path)["held_out_accuracy"] >= 0.5  # chance: 0.25
