"""Runs one row of the paper: obtains its teacher, distils students, scores the test images, measures brittleness.

    python -m brittle_jax.main --config=configs/xray_rotnet.py:smoke

The same command on a finished workdir says so; on an unfinished one it goes on.
"""

import sys

from absl import flags

from brittle_jax import command_line, console
from brittle_jax.run import estimate, experiment


def define_flags(flag_values: flags.FlagValues) -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string(
        "workdir",
        None,
        "folder of the results (default: runs/ROW, with a word runs/ROW-WORD)",
        flag_values=flag_values,
    )
    flags.DEFINE_bool("overwrite", False, "start anew: drop what is in the workdir", flag_values=flag_values)
    flags.DEFINE_bool(
        "estimate", False, "tell what the run would take here, and train nothing", flag_values=flag_values
    )


def main(arguments: command_line.Arguments) -> None:
    """Runs the experiment that the command line describes."""
    config = arguments.config
    workdir = arguments.flags["workdir"] or command_line.default_workdir(config)
    if arguments.flags["estimate"]:
        console.say(estimate.table(estimate.estimate(config, workdir)))
        return
    overwrite = arguments.flags["overwrite"]
    results = experiment.run(config, workdir, recipe=arguments.recipe, overwrite=overwrite)
    if results["skipped_inputs"]:
        sys.exit(command_line.EXIT_SKIPPED_INPUTS)


if __name__ == "__main__":
    command_line.run(main, define_flags)
