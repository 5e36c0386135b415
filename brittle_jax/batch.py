"""Looks at many rows at once, for launch/all_rows.sh, which runs them.

    python -m brittle_jax.batch check [ROW[:smoke] ...] [--runs=DIR] [-- --config.FIELD=VALUE ...]

The first word says what to do:

    list      prints the rows in the order in which they run: of rows that share a teacher, one comes first
    check     names all that the rows lack (settings, data sets, weights, disk space), in one table; exits with 2 if
              one lacks something. --list_to=FILE writes that list to a file, with a mark after each such row
    estimate  estimates what each row would take, and all of them together; trains nothing
    summary   prints how each row has ended, and where its page is

The others name rows, or groups of rows: all, cifar10, cats_vs_dogs, plant_pathology, xray. Without any, all 36 rows of
the paper are meant. Settings hold for each row.
"""

import pathlib
import sys
from collections.abc import Sequence

import ml_collections
from absl import flags

from brittle_jax import command_line, console, files
from brittle_jax.errors import UserError
from brittle_jax.text import nearest

_OWN_IMAGES = "image_folder"  # the config that is no row of the paper


def define_flags(flag_values: flags.FlagValues) -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string("runs", "runs", "folder of the rows' folders", flag_values=flag_values)
    flags.DEFINE_string("list_to", None, "file to which check writes the list of rows", flag_values=flag_values)
    flags.DEFINE_float("minutes_between_saves", 5.0, "as of brittle_jax.main", lower_bound=0.0, flag_values=flag_values)


def main(arguments: command_line.Arguments) -> None:
    """Does what the first word says with the rows that the others name."""
    what, *words = arguments.words or ("",)
    if what not in _ACTIONS:
        raise UserError(f"{what!r} is not one of {', '.join(_ACTIONS)}{nearest(what, list(_ACTIONS))}")
    _ACTIONS[what](rows_of(words), pathlib.Path(arguments.flags["runs"]).expanduser(), arguments)


def rows_of(words: Sequence[str]) -> list[str]:
    """Returns the rows that words name, each with its word, such as `xray_rotnet:smoke`; no word means all.

    Raises:
        UserError: if there is no such row or group.
    """
    data_sets = {
        file.stem: command_line.configure(file.stem, ())[1].data.name
        for file in sorted(command_line.packaged_configs().glob("*.py"))
    }
    papers = [row for row in data_sets if row != _OWN_IMAGES]
    groups = {"all": papers} | {row: [row] for row in data_sets}
    for row in papers:
        groups.setdefault(data_sets[row], []).append(row)
    rows = []
    for text in words or ("all",):
        name, colon, word = text.partition(":")
        if name not in groups:
            known = [each for each in groups if each not in data_sets]
            hint = nearest(name, list(groups)) or f" (groups are {', '.join(known)}; configs/README.md lists the rows)"
            raise UserError(f"{text!r} is neither a row nor a group of rows{hint}")
        rows += [f"{row}{colon}{word}" for row in groups[name]]
    return list(dict.fromkeys(rows))


def _folders_of(rows: Sequence[str], runs: pathlib.Path) -> dict[str, pathlib.Path]:
    """Returns the folder of each row, named as `brittle_jax.main` does."""
    return {row: runs / row.replace(":", "-") for row in rows}


def _jobs(rows: Sequence[str], runs: pathlib.Path, overrides: Sequence[str]) -> list:
    from brittle_jax import runtime

    runtime.quiet_libraries()
    from brittle_jax.run.job import Job

    def settings_of(row: str) -> tuple[ml_collections.ConfigDict | None, str]:
        try:
            return command_line.configure(row, overrides)[1], ""
        except UserError as error:
            return None, str(error)

    return [Job(row, folder, *settings_of(row)) for row, folder in _folders_of(rows, runs).items()]


def _list(rows: Sequence[str], runs: pathlib.Path, arguments: command_line.Arguments) -> None:
    jobs = _jobs(rows, runs, arguments.overrides)
    from brittle_jax.run.job import teachers_first

    for job in teachers_first(jobs):
        console.say(job.name)


def _check(rows: Sequence[str], runs: pathlib.Path, arguments: command_line.Arguments) -> None:
    jobs = _jobs(rows, runs, arguments.overrides)
    from brittle_jax.devices import DeviceGroup
    from brittle_jax.run import preflight
    from brittle_jax.run.job import teachers_first

    found = preflight.look_at(jobs, DeviceGroup())
    console.say(command_line.fields_as_flags(preflight.table(found)))
    if arguments.flags["list_to"]:
        lines = [f"{job.name}{' lacks' if found[job.name].lacks else ''}\n" for job in teachers_first(jobs)]
        files.write_text(pathlib.Path(arguments.flags["list_to"]), "".join(lines))
    if any(each.lacks for each in found.values()):
        sys.exit(command_line.EXIT_USER_ERROR)


def _estimate(rows: Sequence[str], runs: pathlib.Path, arguments: command_line.Arguments) -> None:
    jobs = _jobs(rows, runs, arguments.overrides)
    from brittle_jax.run import estimates

    for line in estimates.lines(jobs):
        console.say(command_line.fields_as_flags(line))


def _summary(rows: Sequence[str], runs: pathlib.Path, arguments: command_line.Arguments) -> None:
    del arguments
    from brittle_jax.run import summary

    console.say(summary.table(_folders_of(rows, runs)))


_ACTIONS = {"list": _list, "check": _check, "estimate": _estimate, "summary": _summary}


if __name__ == "__main__":
    command_line.run(main, define_flags, needs_config=False, takes_rows=True)
