"""Lists the commands: `python -m brittle_jax`."""

COMMANDS = {
    "python -m brittle_jax.main --config=configs/ROW.py[:smoke] [--workdir=DIR] [--overwrite]": (
        "run one row of the paper, from its teacher to its results"
    ),
}

if __name__ == "__main__":
    for command, purpose in COMMANDS.items():
        print(f"{command}\n    {purpose}")
