"""The report: what is computed from the runs, and the files that it becomes."""

import dataclasses
import os
import pathlib
import urllib.parse
from collections.abc import Sequence
from typing import Any, NamedTuple

from brittle_jax import console, files
from brittle_jax.report import page
from brittle_jax.report.figures import to_svg, write_pictures
from brittle_jax.report.paper import beyond, beyond_runs, beyond_samples, formats
from brittle_jax.report.paper.beyond import ESTIMATE_TITLES, Section, SectionTable, estimate_texts
from brittle_jax.report.paper.collection import Collection, Run
from brittle_jax.report.paper.layout import DATA_SETS, QUANTITIES, SETTINGS, Teacher, teachers
from brittle_jax.report.paper.measured import Line, cohorts_of, lines_of, numbers_of, readings_of
from brittle_jax.report.paper.plots import scatter, scatters
from brittle_jax.report.paper.scatter import ScatterFigure, scatter_figures
from brittle_jax.report.paper.tables import Table, cell_texts, number_text, tables

_FORMATS = {"csv": formats.to_csv, "md": formats.to_markdown, "tex": formats.to_latex}


@dataclasses.dataclass(frozen=True)
class Report:
    """All that a report shows.

    Attributes:
        problems: files of runs that could not be read, each with the reason.
    """

    lines: list[Line]
    tables: list[Table]
    figures: list[ScatterFigure]
    sections: list[Section]
    problems: dict[str, str]


def make(runs: Sequence[Run], *, has_runs: bool) -> Report:
    """Returns the report of runs; without any, that of the published numbers alone."""
    lines = lines_of(runs)
    cohorts = cohorts_of(lines)
    problems: dict[str, str] = {}
    return Report(
        lines,
        tables(lines),
        scatter_figures(cohorts, has_runs=has_runs),
        [
            *beyond.sections(cohorts),
            *beyond_runs.sections(cohorts, problems),
            beyond_samples.differences(cohorts, problems),
        ],
        problems,
    )


def write(collection: Collection, out: pathlib.Path, *, has_runs: bool) -> tuple[pathlib.Path, dict[str, str]]:
    """Writes a report; returns where its page is, and the files of runs that could not be read, with the reason.

    Raises:
        UserError: if it cannot be written.
    """
    report = make(collection.runs, has_runs=has_runs)
    for table in report.tables:
        for ending, convert in _FORMATS.items():
            files.write_text(out / "tables" / f"table-{table.number}.{ending}", convert(table))
    _write_pictures(report, out / "figures")
    files.write_json(out / "report.json", as_json(report, collection))
    return write_page(report, collection, out, has_runs=has_runs), report.problems


def _write_pictures(report: Report, folder: pathlib.Path) -> None:
    with console.track("pictures", len(report.figures) + len(report.sections), unit="figure") as progress:
        for figure in report.figures:
            picture = scatters([*figure.panels, *figure.apart], 2, f"Figure {figure.number}.")
            write_pictures(picture, folder / f"figure-{figure.number}")
            progress.update(1)
        for section in report.sections:
            for number, plot in enumerate(section.plots, 1):
                suffix = f"-{number}" if len(section.plots) > 1 else ""
                write_pictures(plot, folder / f"{section.name}{suffix}")
            progress.update(1)


def write_page(report: Report, collection: Collection, out: pathlib.Path, *, has_runs: bool) -> pathlib.Path:
    """Writes the page of a report, and returns where it is."""
    path = out / "index.html"
    text = _page(report, collection, out, has_runs=has_runs)
    files.write_text(path, text.encode(errors="backslashreplace").decode())  # a path may have bytes that are no text
    return path


def as_json(report: Report, collection: Collection) -> dict[str, Any]:
    """Returns the numbers of a report, for further computation: AUROC in percent, as in its tables."""
    return {
        "format_version": 1,
        "runs": [run.name for run in collection.runs],
        "left_out": collection.left_out | report.problems,
        "tables": {
            table.number: [
                {
                    "row": line.row,
                    "version": line.version,
                    "marks": line.marks,
                    "runs": line.runs,
                    **{name: cell._asdict() for name, cell in line.cells.items()},
                }
                for line in table.lines
            ]
            for table in report.tables
        },
        "figures": {
            figure.number: [
                {
                    "setting": line.setting,
                    "source": line.source,
                    "teachers": line.teachers,
                    "count": line.correlation.count,
                    "pearson": line.correlation.pearson._asdict(),
                    "spearman": line.correlation.spearman._asdict(),
                }
                for line in figure.lines
            ]
            for figure in report.figures
        },
        "sections": {
            section.name: {
                "missing": section.missing,
                "notes": section.notes,
                "table": section.table._asdict() if section.table else None,
            }
            for section in report.sections
        },
    }


def _page(report: Report, collection: Collection, out: pathlib.Path, *, has_runs: bool) -> str:
    return page.render(
        "paper/index.html",
        has_runs=has_runs,
        num_runs=len(collection.runs),
        left_out=collection.left_out | report.problems,
        versions=_versions(report.lines),
        tables=[_shown_table(table, out) for table in report.tables],
        figures=[_shown_figure(figure) for figure in report.figures],
        sections=[{"section": each, "plots": [to_svg(plot) for plot in each.plots]} for each in report.sections],
        rows=_shown_rows(report.lines, out),
        others=[_link(run, out) for run in collection.runs if not run.is_of_paper],
        not_run=_not_run(report.lines),
    )


class _Link(NamedTuple):
    name: str
    address: str | None  # None where the run has no page
    about: str


def _link(run: Run, out: pathlib.Path) -> _Link:
    address = None
    if run.page.is_file():
        address = urllib.parse.quote(os.path.relpath(run.page, out).replace(os.sep, "/"))
    seeds = ", ".join(f"{what} {seed}" for what, seed in run.seeds)
    return _Link(run.name, address, f"seeds: {seeds}; finished {run.finished_at}")


class _ShownCell(NamedTuple):
    ours: str
    published: str
    difference: str
    is_best: bool
    is_published_best: bool
    sort: float | str


def _shown_table(table: Table, out: pathlib.Path) -> dict[str, Any]:
    lines = []
    for line in table.lines:
        texts, cells = cell_texts(table, line), []
        for name in table.quantities:
            cell = line.cells[name]
            value = cell.published if line.line is None else cell.ours
            cells.append(
                _ShownCell(**texts[name], is_best=cell.is_best, is_published_best=cell.is_published_best, sort=value)
            )
        links = [] if line.line is None else [_link(run, out) for run in line.line.runs]
        lines.append({"line": line, "cells": cells, "links": links})
    titles = [QUANTITIES[name].title for name in table.quantities]
    return {"table": table, "titles": titles, "lines": lines}


def _shown_figure(figure: ScatterFigure) -> dict[str, Any]:
    rows = [
        [SETTINGS[line.setting].title, line.source, line.teachers, *estimate_texts(line.correlation)]
        for line in figure.lines
    ]
    panels, apart = (
        [to_svg(scatter(panel, f"Figure {figure.number}.")) for panel in each] for each in (figure.panels, figure.apart)
    )
    return {
        "figure": figure,
        "plots": panels,
        "apart": apart,
        "table": SectionTable(["setting", "source", "teachers", *ESTIMATE_TITLES], rows),
    }


def _versions(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Returns, for each data set, the readings that its versions share, and those in which they differ."""
    shown = []
    for dataset, title in DATA_SETS.items():
        found = {line.version: readings_of(line.first) for line in lines if line.first.dataset == dataset}
        letters = sorted(found)
        names = list(dict.fromkeys(name for letter in letters for name in found[letter]))
        table = [[name, *(found[letter].get(name, "-") for letter in letters)] for name in names]
        if found:
            shown.append(
                {
                    "title": title,
                    "letters": letters,
                    "differing": [row for row in table if len(set(row[1:])) > 1],
                    "shared": [row[:2] for row in table if len(set(row[1:])) == 1],
                }
            )
    return shown


def _shown_rows(lines: Sequence[Line], out: pathlib.Path) -> list[dict[str, Any]]:
    shown = []
    for dataset, title in DATA_SETS.items():
        for row, teacher in teachers(dataset).items():
            if of_row := [_shown_line(line, out) for line in lines if line.row == row]:
                shown.append({"row": row, "title": f"{title}, {teacher.title}", "lines": of_row})
    return shown


def _shown_line(line: Line, out: pathlib.Path) -> dict[str, Any]:
    configurations = []
    for name in line.first.entries:
        of_seeds = [numbers_of(entries[name]) for entries in line.by_seed.values() if name in entries]
        numbers = {each: sum(seed[each] for seed in of_seeds) / len(of_seeds) for each in of_seeds[0]}
        decimals = {"brittleness": 5, "error_ratio": 3}
        names = ("kd", "mse", "mahalanobis_diag", "mahalanobis_full", "brittleness", "error_ratio")
        configurations.append([name, *(number_text(numbers[each], decimals.get(each, 2)) for each in names)])
    of_teacher = {
        name: line.first.measurement[name]
        for name in ("random_batch_norm", "augmentation")
        if line.first.measurement.get(name) is not None
    }
    return {
        "line": line,
        "num_seeds": len(line.by_seed),
        "links": [_link(run, out) for run in line.runs],
        "configurations": configurations,
        "readings": of_teacher,
        "settings": line.first.reduced,
    }


def _not_run(lines: Sequence[Line]) -> dict[str, list[tuple[str, Teacher]]]:
    """Returns the rows of each data set that have no run."""
    run = {line.row for line in lines}
    left = {
        title: [(row, teacher) for row, teacher in teachers(dataset).items() if row not in run]
        for dataset, title in DATA_SETS.items()
    }
    return {title: rows for title, rows in left.items() if rows}
