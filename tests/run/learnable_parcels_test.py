"""A teacher can learn from the embedded parcels: to find the pistols, and to tell up from down.

This takes half an hour on two CPU cores, so it is not part of the default run: `python -m pytest -m slow -s -n 0`.
"""

import contextlib

import pytest

from brittle_jax.config import completed
from brittle_jax.devices import DeviceGroup
from brittle_jax.loop import Loop
from brittle_jax.recipes import densenet_row
from brittle_jax.run import experiment

pytestmark = pytest.mark.slow


def budget(task, data_dir):
    """Returns settings for a CPU: small parcels, one patch per view, a small network."""
    config = densenet_row(f"xray_{task}", None, data="xray", teacher=task, teacher_data="xray")
    config.data.dir = data_dir
    config.data.parcels.side_pixels, config.data.patches.size_pixels, config.data.patches.margin_pixels = 96, 112, 2
    config.network.name, config.network.output_features = "small_resnet_tiny", 128
    config.pretrain.peak_learning_rate = 0.1
    return config


def description_of_teacher(config, folder):
    config = completed(config)
    devices = DeviceGroup(DeviceGroup().devices[:1])  # the four of the other tests share the same cores
    kind = experiment.check_settings(config, folder / "run", devices)
    loop = Loop(devices, config.evaluate.batch_size)
    row = experiment.read_row(config, kind, loop, lambda name: contextlib.nullcontext())
    (configuration,) = experiment.configurations_of(row)
    return row.obtain_teacher(configuration)[1]


def test_a_supervised_classifier_finds_the_pistols(tmp_path):
    config = budget("baseline", str(tmp_path / "data"))
    config.data.parcels.num_normal = config.data.parcels.num_threat = 2000
    config.data.train_fraction = config.data.baseline_fraction = 0.85
    config.pretrain.flip, config.pretrain.crop_padding_pixels = True, 6
    config.pretrain.num_epochs, config.pretrain.warmup_epochs = 10.0, 2.0
    description = description_of_teacher(config, tmp_path)
    assert description["num_held_out_samples"] == 600
    assert description["held_out_auroc"] >= 0.85


def test_rotations_can_be_told_apart(tmp_path):
    config = budget("rotnet", str(tmp_path / "data"))
    config.data.parcels.num_normal, config.data.parcels.num_threat = 1000, 1
    config.pretrain.num_epochs, config.pretrain.warmup_epochs = 3.0, 1.0
    assert description_of_teacher(config, tmp_path)["held_out_accuracy"] >= 0.5  # chance: 0.25
