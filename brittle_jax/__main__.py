"""Lists the commands: `python -m brittle_jax`."""

import sys

from brittle_jax.command_line import EXIT_USER_ERROR

COMMANDS = {
    "python -m brittle_jax.main --config=configs/ROW.py[:smoke] [--workdir=DIR] [--overwrite] [--estimate]": (
        "run one row of the paper, from its teacher to its results"
    ),
    "python -m brittle_jax.score --run=DIR --images=DIR --out=FILE.csv": (
        "score image files with the detector of a finished run, or calibrate it on new normal images"
    ),
    "python -m brittle_jax.choose --images=DIR --out=DIR": (
        "choose a teacher and a detector for your normal images, without anomalies"
    ),
    "python -m brittle_jax.batch list|check|estimate|summary [ROW ...] [--runs=DIR]": (
        "look at many rows at once; launch/all_rows.sh runs them"
    ),
    "python -m brittle_jax.report --runs=DIR|--published --out=DIR": (
        "put finished runs beside the paper's tables and figures"
    ),
    "python -m brittle_jax.export --run=DIR --out=FILE | verify FILE": (
        "export a run's detector as one file that JAX runs by itself; check such a file"
    ),
}
_HELP = {"--help", "-h", "help"}

if __name__ == "__main__":
    arguments = sys.argv[1:]
    if set(arguments) - _HELP:
        intended = f"python -m brittle_jax.main {' '.join(arguments)}"
        print(f"error: python -m brittle_jax only lists the commands: did you mean {intended}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    for command, purpose in COMMANDS.items():
        print(f"{command}\n    {purpose}")
