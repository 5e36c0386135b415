"""Puts all finished runs below a folder beside the paper: its tables and figures, and what follows from them.

    python -m brittle_jax.report --runs=DIR --out=DIR
    python -m brittle_jax.report --published --out=DIR

The second form shows the published numbers alone. Open index.html in the folder of --out, which also gets the tables as
CSV, Markdown and LaTeX and the figures as SVG and PNG. Exit code 3 means that some runs, each named, were left out.
"""

import pathlib
import sys

from absl import flags

from brittle_jax import command_line, console
from brittle_jax.errors import UserError

_MOST_NAMED = 5


def define_flags(flag_values: flags.FlagValues) -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string("runs", None, "folder of finished runs, however deep they are in it", flag_values=flag_values)
    flags.DEFINE_bool("published", False, "show the published numbers alone", flag_values=flag_values)
    flags.DEFINE_string(
        "out", None, "folder to write to; what it has of an earlier report is replaced", flag_values=flag_values
    )


def main(arguments: command_line.Arguments) -> None:
    """Writes the report that the command line describes."""
    runs, out = arguments.flags["runs"], arguments.flags["out"]
    if not out:
        raise UserError("--out is missing: name a folder for the report, such as --out=report")
    if bool(runs) == arguments.flags["published"]:
        raise UserError("give either --runs=DIR, a folder of finished runs, or --published")
    # These imports take seconds, so they wait until the command is known to be right.
    from brittle_jax.report.paper.collection import Collection

    folder = pathlib.Path(out).expanduser()
    collection = _collected(pathlib.Path(runs).expanduser()) if runs else Collection([], {})
    for run in collection.runs:
        if folder.resolve().is_relative_to(run.folder.resolve()):
            raise UserError(
                f"--out={folder} is inside the run {run.folder}, which has a page of its own: name another folder"
            )
    from brittle_jax.report.paper import report

    path, problems = report.write(collection, folder, has_runs=bool(runs))
    for name, reason in problems.items():
        console.warn(f"{name} is left out: {reason}")
    num_rows = len({run.row for run in collection.runs})
    found = f"{console.count(len(collection.runs), 'run')} of {console.count(num_rows, 'row')}" if runs else "published"
    console.say(f"{found}: see {path}")
    if collection.left_out or problems:
        sys.exit(command_line.EXIT_SKIPPED_INPUTS)


def _collected(folder: pathlib.Path):
    """Returns the finished runs below a folder, after naming what is left out."""
    if not folder.is_dir():
        raise UserError(f"--runs={folder}: no such folder")
    from brittle_jax.report.paper.collection import collect

    collection = collect(folder)
    if not collection.runs:
        names = [f"{name} ({reason})" for name, reason in collection.left_out.items()]
        more = f", and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        there = f"; left out: {', '.join(names[:_MOST_NAMED])}{more}" if names else ""
        raise UserError(f"--runs={folder}: no finished run below it{there}")
    for name, reason in collection.left_out.items():
        console.warn(f"{name} is left out: {reason}")
    return collection


if __name__ == "__main__":
    command_line.run(main, define_flags, needs_config=False, goes_on=False)
