"""Teachers that take a moment to train: what the tests of teachers share."""

import jax
import numpy as np

from brittle_jax.config import completed, flatten
from brittle_jax.files import write_json
from brittle_jax.run import settings, workdir
from tests.small_runs import read_row


def learn_fashion(config):
    """Lets the teacher classify a few pictures of Fashion-MNIST."""
    config.data.configurations, config.data.max_train_samples = "unimodal", 16
    config.teacher.task, config.teacher.data = "classification", "fashion_mnist"
    config.pretrain.num_epochs, config.pretrain.batch_size = 1.0, 16
    config.pretrain.max_train_samples, config.pretrain.max_test_samples = 32, 16
    return config


def kind_of(config, folder):
    """Returns the kind of teacher that settings describe."""
    return settings.teacher_of(completed(config), folder)


def obtain_teacher(config, folder, devices, which=0):
    """Returns the teacher of one configuration of a row, and what is known about it."""
    row, configurations = read_row(config, folder, devices)
    return row.obtain_teacher(configurations[which])


def finish(folder, config, dataset, **results):
    """Makes a folder, which may have a teacher already, that of a finished run on a data set."""
    write_json(folder / "config.json", flatten(config))
    write_json(folder / "splits.json", {"images": dataset.identity()})
    workdir.finish(folder, {"format_version": 1, "row": config.row, "configurations": [], **results})


def assert_equal(actual, expected):
    """Compares two trees of arrays bit for bit."""
    for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(one, other)
