"""How the rows of a batch have ended: read, without JAX, from results.json and from what `launch/all_rows.sh` left."""

import pathlib
from collections.abc import Mapping
from typing import Any

from brittle_jax import console, files
from brittle_jax.command_line import EXIT_BUSY, EXIT_INTERRUPTED
from brittle_jax.errors import BusyError, DamagedError
from brittle_jax.run import holding

_TITLES = ("row", "state", "KD AUROC", "brittleness", "time", "page")


def table(folders: Mapping[str, pathlib.Path]) -> str:
    """Returns a line for each row: state, KD AUROC in percent and brittleness (means over configurations), time, page.

    Args:
        folders: of the rows' runs, by name. Beside each, `FOLDER.exit` may have the exit code of its last attempt, and
            `FOLDER.log` what it printed.
    """
    lines = [_TITLES, *(_line(name, folder) for name, folder in folders.items())]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    states = [line[1] for line in lines[1:]]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    failures = [
        f"{name}: {_last_line(_beside(folder, '.log'))} ({_beside(folder, '.log')})"
        for (name, folder), state in zip(folders.items(), states, strict=True)
        if state == "failed"
    ]
    return "\n".join([*text, counts, *failures])


def _line(name: str, folder: pathlib.Path) -> tuple[str, ...]:
    try:
        results = files.read_json(folder / "results.json")
        entries = results["configurations"]
        kd = _mean([entry["auroc"]["kd"] for entry in entries])
        brittleness = _mean([entry["brittleness"] for entry in entries])
        seconds = console.duration(sum(results["seconds"].values()))
    except (DamagedError, LookupError, TypeError, AttributeError):
        return name, _state(folder), "-", "-", "-", "-"
    state = "finished"
    if "runs" in results:
        state += f", {console.count(len(results['runs']), 'seed')}"
    if results.get("skipped_inputs"):
        state += f" without {console.count(len(results['skipped_inputs']), 'image')}"
    auroc = "-" if kd is None else f"{100 * kd:.2f}"
    shown = "-" if brittleness is None else f"{brittleness:.5f}"
    return name, state, auroc, shown, seconds, str(folder / "report" / "index.html")


def _mean(values: list[Any]) -> float | None:
    return sum(values) / len(values) if values and None not in values else None


def _state(folder: pathlib.Path) -> str:
    """Returns the state of a row that is not finished."""
    try:
        holding.check_free(folder)
    except BusyError:
        return "running"
    code = _last_exit_code(folder)
    if code is None:
        return "stopped" if (folder / "config.json").exists() else "not run"
    return {EXIT_INTERRUPTED: "stopped", EXIT_BUSY: "left for later"}.get(code, "failed")


def _last_exit_code(folder: pathlib.Path) -> int | None:
    try:
        return int(_beside(folder, ".exit").read_text(encoding="utf-8").split()[0])
    except (OSError, ValueError, IndexError):
        return None


def _last_line(log: pathlib.Path) -> str:
    """Returns the last line of a log that is not empty, where a run says why it failed."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "no log"
    return next((line.strip() for line in reversed(lines) if line.strip()), "an empty log")


def _beside(folder: pathlib.Path, suffix: str) -> pathlib.Path:
    return folder.with_name(folder.name + suffix)
