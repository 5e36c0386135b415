"""Runs that take seconds: what the tests of whole experiments share."""

import contextlib
import dataclasses
import json

from brittle_jax.config import completed
from brittle_jax.data.datasets.loading import load
from brittle_jax.loop import Loop
from brittle_jax.run import experiment, settings


def read(folder, name):
    """Returns the content of a JSON file of a run."""
    return json.loads((folder / name).read_text())


def shrink(config):
    """Makes a run a matter of seconds: every stage runs, nothing is learned."""
    config.data.configurations = "unimodal/airplane" if config.data.name == "cifar10" else "all"
    config.data.max_train_samples, config.data.max_test_samples = 16, 8
    config.pretrain.num_epochs, config.pretrain.max_train_samples, config.pretrain.max_test_samples = (
        1.0,
        16,
        8,
    )
    config.pretrain.batch_size = config.distill.batch_size = config.evaluate.batch_size = 16
    config.distill.update_steps = 4
    config.evaluate.bootstrap_samples = 20
    return config


def without_times(results):
    """Returns the content of results.json that two runs of the same settings share."""
    of_the_moment = ("seconds", "peak_memory_mib", "peak_device_memory_mib", "finished_at")
    return {key: value for key, value in results.items() if key not in of_the_moment}


def read_row(config, folder, devices):
    """Returns the row that settings describe, its networks kept in a folder, and its configurations."""
    config = completed(config)
    kind = experiment.check_settings(config, folder, devices)
    row = experiment.read_row(config, kind, Loop(devices, config.evaluate.batch_size), contextlib.nullcontext)
    configurations = experiment.configurations_of(row)
    row = dataclasses.replace(row, configurations=configurations)
    return row.kept_in(folder, {}, Loop(devices, config.evaluate.batch_size)), configurations


def dataset_of(config):
    """Returns the anomaly-detection data that a run with these settings reads."""
    return load(config.data.name, settings.data_of(config, config.data.name))
