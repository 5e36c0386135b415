"""Runs one row of the paper: obtains its teacher, distils students, scores the test images, measures brittleness.

    python -m brittle_jax.main --config=configs/xray_rotnet.py:smoke

If the run is already finished, the same command says so; if it was interrupted, the same command continues it. SIGTERM
and Ctrl-C stop it where nothing is lost, with exit code 75.
"""

import math
import os
import pathlib
import sys

from absl import flags

from brittle_jax import command_line, console
from brittle_jax.errors import UserError
from brittle_jax.run import holding


def define_flags(flag_values: flags.FlagValues) -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string(
        "workdir",
        None,
        "folder for the results (default: runs/ROW, or runs/ROW-WORD if there is a word)",
        flag_values=flag_values,
    )
    flags.DEFINE_bool(
        "overwrite", False, "delete the earlier run in the workdir and start over", flag_values=flag_values
    )
    flags.DEFINE_bool(
        "estimate",
        False,
        "estimate the time, memory and disk space that the run needs, without training anything",
        flag_values=flag_values,
    )
    flags.DEFINE_bool(
        "wait",
        True,
        "wait for a teacher that another run is training; with --nowait exit at once, with code "
        f"{command_line.EXIT_BUSY}",
        flag_values=flag_values,
    )
    flags.DEFINE_float(
        "minutes_between_saves",
        5.0,
        "how often unfinished work is saved: a kill costs at most that much of it",
        lower_bound=0.0,
        flag_values=flag_values,
    )


def main(arguments: command_line.Arguments) -> None:
    """Runs the experiment that the command line describes."""
    config, minutes = arguments.config, arguments.flags["minutes_between_saves"]
    if not math.isfinite(minutes):
        raise UserError(f"--minutes_between_saves={minutes} is not a number of minutes: give one, such as 5")
    workdir = os.path.expanduser(arguments.flags["workdir"] or command_line.default_workdir(config))
    if not arguments.flags["estimate"]:
        holding.check_free(pathlib.Path(workdir))
    # These imports take seconds, so they wait until the run is known to be possible.
    from brittle_jax import runtime

    runtime.set_up()  # before the others: it also quiets what libraries log when they are imported
    from brittle_jax.run import repeats

    if arguments.flags["estimate"]:
        from brittle_jax.run import estimate

        console.say(estimate.table(estimate.estimate(config, workdir)))
        return
    results = repeats.run(
        config,
        workdir,
        recipe=arguments.recipe,
        overwrite=arguments.flags["overwrite"],
        seconds_between_saves=60 * minutes,
        wait=arguments.flags["wait"],
    )
    if results["skipped_inputs"]:
        sys.exit(command_line.EXIT_SKIPPED_INPUTS)


if __name__ == "__main__":
    command_line.run(main, define_flags)
