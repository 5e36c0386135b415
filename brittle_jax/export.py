"""Exports the detector of a finished run as one file that JAX runs by itself, without this package.

    python -m brittle_jax.export --run=runs/image_folder --out=leaves.zip
    python -m brittle_jax.export verify leaves.zip

`verify` scores the inputs that the file has, on this machine, and compares with the scores that they must get. Where
this package is not installed, the reader that comes with the file does the same: python exported.py leaves.zip
"""

import pathlib

from absl import flags

from brittle_jax import command_line, console
from brittle_jax.errors import DegenerateDataError, UserError
from brittle_jax.text import split_list


def define_flags(flag_values: flags.FlagValues) -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string("run", None, "folder of the finished run", flag_values=flag_values)
    flags.DEFINE_string("out", None, "file to write", flag_values=flag_values)
    flags.DEFINE_string(
        "configuration", None, "such as unimodal/airplane (default: the only one)", flag_values=flag_values
    )
    flags.DEFINE_string("platforms", "cpu,cuda,tpu", "what the program is for", flag_values=flag_values)
    flags.DEFINE_float(
        "false_alarm_rate",
        None,
        "of the thresholds (default: 0.05 where there are enough calibration pictures)",
        flag_values=flag_values,
    )


def main(arguments: command_line.Arguments) -> None:
    """Exports, or verifies what was exported."""
    if arguments.overrides:
        raise UserError(f"{arguments.overrides[0]}: this command takes no settings")
    if not arguments.words:
        _export(arguments.flags)
    elif len(arguments.words) == 2 and arguments.words[0] == "verify":
        _verify(arguments.words[1])
    else:
        raise UserError(f"{' '.join(arguments.words)!r}: write either verify FILE, or --run=DIR --out=FILE")


def _export(values: dict[str, object]) -> None:
    for name in ("run", "out"):
        if not values[name]:
            raise UserError(f"--{name} is missing: write --run=DIR --out=FILE, or verify FILE")
    from brittle_jax import runtime

    runtime.set_up()
    from brittle_jax.apply.export import export_detector

    try:
        header = export_detector(
            values["run"],
            values["out"],
            values["configuration"],
            platforms=split_list(values["platforms"]),
            false_alarm_rate=values["false_alarm_rate"],
        )
    except DegenerateDataError as error:
        raise UserError(str(error)) from error
    size = pathlib.Path(values["out"]).expanduser().stat().st_size / 2**20
    console.say(f"{values['out']}: {header['configuration']}, {size:.1f} MiB, for {', '.join(header['platforms'])}")
    if header["thresholds"] is None:
        console.say(
            f"without thresholds: {header['num_calibration']} calibration pictures are too few for a false-alarm rate "
            "of 0.05 (python -m brittle_jax.score --run=DIR --recalibrate=DIR adds some)"
        )
    console.say(header["compatibility"])


def _verify(file: str) -> None:
    from brittle_jax import runtime

    runtime.set_up()
    from brittle_jax.apply import exported

    try:
        comparison = exported.load(pathlib.Path(file).expanduser()).verify()
    except exported.ExportedDetectorError as error:
        raise UserError(str(error)) from error
    console.say(f"{file}: {comparison}")
    if not comparison.agrees:
        raise UserError(f"{file}: scores on this machine are not those that were stored: do not use it here")


if __name__ == "__main__":
    command_line.run(main, define_flags, needs_config=False, takes_rows=True, goes_on=False)
