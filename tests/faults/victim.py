"""A small run on made-up pictures that tells what it is doing, so that the storm can kill it there.

    python -m tests.faults.victim WORKDIR DATA PIPE [--mini] [--unverified]

It writes a line to the file descriptor PIPE at the beginning of each stage, compilation and save. `--mini` takes a
network that compiles in a moment.
"""

import functools
import os
import sys

import jax

from brittle_jax import checkpoint, files, runtime
from brittle_jax.journal import Journal
from brittle_jax.models.network import ARCHITECTURES
from brittle_jax.recipes import small_resnet_row
from brittle_jax.report import page
from brittle_jax.run import experiment, workdir
from brittle_jax.run.stages import Stages
from tests.mini_network import MINI
from tests.small_runs import shrink

STAGES = ["data", "pretrain", "represent", "distill", "probe", "score", "brittleness", "metrics", "examples", "page"]
MOMENTS = [*STAGES, "compile", "save"]


def small_config(data_dir: str, network: str):
    """Returns the settings of the run: two configurations, which share a teacher that is pre-trained."""
    config = shrink(
        small_resnet_row("cifar10_rotnet", "smoke", data="cifar10", teacher="rotnet", teacher_data="fashion_mnist")
    )
    config.data.dir, config.network.name = data_dir, network
    config.data.configurations = "unimodal/airplane,multimodal/airplane"
    config.data.max_train_samples, config.data.max_test_samples, config.data.calibration_fraction = 60, 24, 0.2
    config.pretrain.max_train_samples, config.pretrain.num_epochs = 32, 2.0
    config.distill.update_steps = 12
    return config.lock()


def announcing(name, function, tell):
    """Returns a function that tells its name before it is called."""

    @functools.wraps(function)
    def announced(*arguments, **named):
        tell(name)
        return function(*arguments, **named)

    return announced


def announce(tell):
    """Makes stages, compilations and saves tell when they begin."""
    measured = Stages.measured
    Stages.measured = lambda self, stage: (tell(stage), measured(self, stage))[1]
    experiment.page.write_page = announcing("page", page.write_page, tell)
    workdir.finish = announcing("save", workdir.finish, tell)
    checkpoint.save = announcing("save", checkpoint.save, tell)
    Journal.save = announcing("save", Journal.save, tell)

    def on_event(event, **others):
        if event == "/jax/compilation_cache/compile_requests_use_cache":
            tell("compile")

    jax.monitoring.register_event_listener(on_event)


def believe_everything():
    """Switches the comparison with digests off: with it off the storm must find differences."""
    checkpoint.check = lambda folder: None
    files.changes_of = lambda folder, digests: {}


def main(folder, data_dir, pipe, *options):
    announce(lambda name: os.write(int(pipe), f"{name}\n".encode()))
    if "--unverified" in options:
        believe_everything()
    ARCHITECTURES["mini"] = MINI
    network = "mini" if "--mini" in options else "small_resnet_tiny"
    runtime.set_up()
    experiment.run(small_config(data_dir, network), folder, seconds_between_saves=0.2)


if __name__ == "__main__":
    main(*sys.argv[1:])
