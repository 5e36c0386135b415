"""Lists the commands: `python -m brittle_jax`."""

import sys

COMMANDS = {
    "python -m brittle_jax.main --config=configs/ROW.py[:smoke] [--workdir=DIR] [--overwrite] [--estimate]": (
        "run one row of the paper, from its teacher to its results"
    ),
}
_HELP = {"--help", "-h", "help"}

if __name__ == "__main__":
    arguments = sys.argv[1:]
    if set(arguments) - _HELP:
        meant = f"python -m brittle_jax.main {' '.join(arguments)}"
        print(
            f"error: python -m brittle_jax runs nothing, it lists the commands: did you mean {meant}", file=sys.stderr
        )
        sys.exit(2)  # bad usage, as in command_line.py, which takes seconds to import
    for command, purpose in COMMANDS.items():
        print(f"{command}\n    {purpose}")
