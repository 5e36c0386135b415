"""Figures 3 to 6 of the paper, as data: panels of ours and of the published numbers, and their correlations."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from brittle_jax.evaluate.statistics import Correlation, correlation
from brittle_jax.report.paper.layout import FIGURES, SETTINGS, Teachers, published
from brittle_jax.report.paper.measured import Cohort
from brittle_jax.report.paper.plots import Panel

PUBLISHED = "published"
_FEWEST_CORRELATED = 3


class CorrelationLine(NamedTuple):
    """Correlations of a figure's two quantities in one setting.

    Attributes:
        source: "published", or what the runs have in common.
        teachers: "all", or "without baseline".
    """

    setting: str
    source: str
    teachers: str
    correlation: Correlation


class ScatterFigure(NamedTuple):
    """A figure of the paper.

    Attributes:
        panels: of each setting the published one, then ours over the same classes.
        apart: ours over fewer classes, which do not stand beside published means.
        lines: correlations, also of settings that the paper averages over.
    """

    number: int
    caption: str
    panels: list[Panel]
    apart: list[Panel]
    lines: list[CorrelationLine]


def scatter_figures(cohorts: Mapping[str, Sequence[Cohort]], *, has_runs: bool) -> list[ScatterFigure]:
    """Returns all figures.

    Args:
        cohorts: by data set. The first one that has a setting is drawn; correlations are given of all.
        has_runs: whether ours stand beside the published ones at all.
    """
    ours = {setting: measured(cohorts, setting) for setting in SETTINGS}
    return [_figure(number, ours, has_runs) for number in FIGURES]


def _figure(number: int, found: Mapping[str, Sequence[tuple[Cohort, Teachers]]], has_runs: bool) -> ScatterFigure:
    layout = FIGURES[number]
    panels, apart, lines = [], [], []
    for setting in SETTINGS:
        if number == 4 and setting not in layout.settings:
            continue
        known, ours = published(setting), found[setting]
        lines += _lines(setting, PUBLISHED, known, layout.x)
        for cohort, teachers in ours:
            if len(teachers.rows) >= _FEWEST_CORRELATED:
                lines += _lines(setting, cohort.title, teachers, layout.x)
        cohort, teachers = ours[0] if ours else (None, None)
        is_complete = cohort is not None and not classes_mark(cohort, setting)
        # What the paper draws as an average alone is shown where we have only a part of it.
        has_average = any(
            SETTINGS[each].dataset == SETTINGS[setting].dataset and found[each] for each in layout.settings
        )
        if setting in layout.settings or (is_complete and not has_average):
            panels.append(_panel(f"{SETTINGS[setting].title}, published", known, layout.x, is_published=True))
            if has_runs:
                panel = _our_panel(setting, cohort, teachers if is_complete else None, layout.x)
                panels.append(panel if cohort is None else panel._replace(why_empty="fewer classes: see below"))
        if cohort is not None and not is_complete and (setting in layout.settings or not has_average):
            apart.append(_our_panel(setting, cohort, teachers, layout.x))
    return ScatterFigure(number, layout.caption, panels, apart, lines)


def _our_panel(setting: str, cohort: Cohort | None, teachers: Teachers | None, x: str) -> Panel:
    marks = [] if teachers is None else [cohort_mark(cohort), classes_mark(cohort, setting)]
    title = ", ".join([f"{SETTINGS[setting].title}, ours", *filter(None, marks)])
    return _panel(title, teachers, x, is_published=False)


def measured(cohorts: Mapping[str, Sequence[Cohort]], setting: str) -> list[tuple[Cohort, Teachers]]:
    """Returns the cohorts that have a setting, with their teachers there."""
    found = [(cohort, cohort.teachers(setting)) for cohort in cohorts.get(SETTINGS[setting].dataset, ())]
    return [(cohort, teachers) for cohort, teachers in found if teachers.rows]


def cohort_mark(cohort: Cohort) -> str:
    """Returns how the runs of a cohort differ from the paper's, in a word or two."""
    run = cohort.first.first
    kind = "synthetic" if run.synthetic else "own images" if run.is_own_data else ""
    return kind or ("" if cohort.is_of_recipe else "reduced")


def classes_mark(cohort: Cohort, setting: str) -> str:
    """Returns over how many configurations its means are, if not over all."""
    names = cohort.configurations(setting)
    expected = SETTINGS[setting].num_configurations
    return "" if len(names) == expected else f"{len(names)} of {expected} classes"


def _panel(title: str, teachers: Teachers | None, x: str, *, is_published: bool) -> Panel:
    found = None if teachers is None else correlation(teachers.columns, x, "kd", num_resamples=0)
    return Panel(title, teachers, x, "kd", found, is_published)


def _lines(setting: str, source: str, teachers: Teachers, x: str) -> list[CorrelationLine]:
    lines = [CorrelationLine(setting, source, "all", correlation(teachers.columns, x, "kd"))]
    others = teachers.without("baseline")
    if len(others.rows) < len(teachers.rows):
        lines.append(CorrelationLine(setting, source, "without baseline", correlation(others.columns, x, "kd")))
    return lines
