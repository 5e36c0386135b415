"""What follows from the numbers of the tables beyond the paper: sections, each with what it can and cannot show."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from brittle_jax.evaluate.statistics import (
    Correlation,
    Estimate,
    correlation,
    partial_correlation,
    regrets,
    variance_shares,
)
from brittle_jax.published import DETECTORS
from brittle_jax.report.figures import Plot
from brittle_jax.report.paper.layout import SETTINGS, SINGLE_SETTINGS, Teachers, published, task_of, teacher_of
from brittle_jax.report.paper.measured import Cohort, numbers_of
from brittle_jax.report.paper.plots import Bar, Panel, dots, scatter, stacks
from brittle_jax.report.paper.scatter import classes_mark, cohort_mark, measured

CRITERIA = {"brittleness": "brittleness", "probe_accuracy": "classification accuracy", "at random": "at random"}
_CLASSIFIERS = ("baseline", "class")
_FEWEST = 3  # teachers, for a correlation
ANY_ROW = "any rows of one data set would give it, for example launch/all_rows.sh cifar10"

Cohorts = Mapping[str, Sequence[Cohort]]


class SectionTable(NamedTuple):
    """A table of a section, as text."""

    titles: list[str]
    rows: list[list[str]]

    @property
    def num_text(self) -> int:
        """How many of the first columns have text: cells that are neither a number nor missing."""
        is_text = [not all(re.match(r"[-+<]?\d|-$", cell) for cell in cells) for cells in zip(*self.rows, strict=True)]
        return [*is_text, False].index(False)


class Section(NamedTuple):
    """A question that the paper leaves open.

    Attributes:
        name: of its files and its place on the page.
        shows, cannot: a sentence each.
        plots: empty where data are missing.
        missing: what would give the data, empty where there are some.
        notes: what was left out, and why.
    """

    name: str
    title: str
    shows: str
    cannot: str
    plots: list[Plot]
    table: SectionTable | None
    missing: str = ""
    notes: tuple[str, ...] = ()


class Source(NamedTuple):
    """Numbers of teachers in a setting: published ones, or those of a cohort."""

    setting: str
    label: str
    teachers: Teachers
    cohort: Cohort | None


def sources(cohorts: Cohorts, settings: Sequence[str] = SINGLE_SETTINGS) -> Iterator[Source]:
    """Yields the published numbers of each setting, then ours: of the first cohort that has it."""
    for setting in settings:
        yield Source(setting, f"{SETTINGS[setting].title}, published", published(setting), None)
        yield from measured_sources(cohorts, [setting])


def measured_sources(cohorts: Cohorts, settings: Sequence[str] = SINGLE_SETTINGS) -> Iterator[Source]:
    """Yields our numbers of each setting; those on real images come first, and are drawn where one source is."""
    found = [(setting, *each) for setting in settings for each in measured(cohorts, setting)[:1]]
    for setting, cohort, teachers in sorted(found, key=lambda each: each[1].first.first.synthetic):
        marks = filter(None, [cohort_mark(cohort), classes_mark(cohort, setting)])
        yield Source(setting, ", ".join([SETTINGS[setting].title, "ours", *marks]), teachers, cohort)


def sections(cohorts: Cohorts) -> list[Section]:
    """Returns the sections that need no more than the numbers of the tables."""
    return [choice(cohorts), cat_and_dog(cohorts), terms(cohorts), beyond_the_probe(cohorts), variance(cohorts)]


def pools(teachers: Teachers) -> dict[str, Teachers]:
    """Returns pools of candidates: the supervised baseline, which has seen anomalies, is in none."""
    own = [teacher_of(row).is_own for row in teachers.rows]
    is_random = [task_of(row) == "random" for row in teachers.rows]
    return {
        "all but the baseline": teachers.without("baseline"),
        "all but baseline and random": teachers.without("baseline", "random"),
        "random and own data": teachers.only([a or b for a, b in zip(own, is_random, strict=True)]),
        "own data": teachers.only(own),
    }


def choice(cohorts: Cohorts) -> Section:
    """Compares what it costs to choose a teacher by brittleness, by probe accuracy and at random."""
    rows, drawn = [], {}
    for source in sources(cohorts):
        for name, pool in pools(source.teachers).items():
            known = np.isfinite([pool.columns[each] for each in ("kd", "brittleness", "probe_accuracy")]).all(axis=0)
            if known.sum() < 2:
                continue
            found = regrets(pool.columns, "kd", ("brittleness", "probe_accuracy"))
            row = [source.label, name, str(known.sum())]
            for criterion in CRITERIA:
                each = found[criterion]
                low, high = each.leaving_one_out.min(), each.leaving_one_out.max()
                row += [f"{each.of_all:.2f}", f"{each.expected:.2f} ({low:.2f} to {high:.2f})"]
            rows.append(row)
            if name in ("all but the baseline", "random and own data") and known.sum() > 2:
                drawn[f"{source.label}: {name}"] = {
                    title: Bar(
                        found[criterion].expected,
                        found[criterion].leaving_one_out.min(),
                        found[criterion].leaving_one_out.max(),
                    )
                    for criterion, title in CRITERIA.items()
                }
    titles = ["setting", "candidates", "number"]
    titles += [f"{by}: {what}" for by in CRITERIA.values() for what in ("cost", "one left out")]
    plot = dots(
        drawn,
        "KD AUROC lost, points",
        "Expected regret of choosing a teacher by brittleness, by classification accuracy and at random.",
    )
    return Section(
        "choice",
        "What does it cost to choose a teacher without anomalies?",
        "The KD AUROC of the best candidate less that of the one chosen, as the mean and range over the pools that "
        "leave one teacher out: the cost depends on the candidates more than on the criterion.",
        "It cannot tell how a criterion does on other data sets: each pool is one draw of a few teachers, and the "
        "pools of a setting share them.",
        [plot],
        SectionTable(titles, rows),
    )


def cat_and_dog(cohorts: Cohorts) -> Section:
    """Shows that cat and dog, each the other's anomaly, are not two independent tests."""
    rows, plots, missing = [], [], ""
    pairs = [("published", published("cat"), published("dog"), None)]
    cats, dogs = measured(cohorts, "cat"), measured(cohorts, "dog")
    pairs += [
        (", ".join(filter(None, ["ours", cohort_mark(cohort)])), cat, dog, cohort)
        for (cohort, cat), (_, dog) in zip(cats[:1], dogs[:1], strict=False)
        if cat.rows == dog.rows
    ]
    if len(pairs) == 1:
        missing = "Ours: not run; the rows cats_vs_dogs_* would give it."
    for label, cat, dog, cohort in pairs:
        left = cat.without(*_CLASSIFIERS), dog.without(*_CLASSIFIERS)
        both = Teachers(left[0].rows, {"kd_cat": left[0].columns["kd"], "kd_dog": left[1].columns["kd"]})
        found = correlation(both.columns, "kd_cat", "kd_dog")
        for name, each in zip(("cat", "dog"), left, strict=True):
            brittle = correlation(each.columns, "brittleness", "kd")
            rows.append([label, f"brittleness and KD on {name}", *estimate_texts(brittle)])
        rows.append([label, "KD on cat and KD on dog", *estimate_texts(found)])
        if len(both.rows) >= 2:
            plots.append(
                scatter(Panel(f"Cats vs. Dogs, {label}", both, "kd_cat", "kd_dog", found, is_published=cohort is None))
            )
    return Section(
        "cat-and-dog",
        "Are cat and dog two independent tests?",
        "Among the published teachers that learn without class labels, KD AUROC rises with brittleness on dog and "
        "falls on cat, and the higher it is on one, the lower it is on the other.",
        "Both use the same images with the roles exchanged, so a score that is higher on dogs for reasons of its own "
        "gains on cat what it loses on dog: the two cannot confirm each other, and their mean hides it.",
        plots,
        SectionTable(["source", "of", *ESTIMATE_TITLES], rows),
        missing,
    )


def terms(cohorts: Cohorts) -> Section:
    """Correlates the numerator of brittleness, and one over its denominator, with KD AUROC."""
    rows, plots = [], []
    for source in measured_sources(cohorts):
        for label, teachers in (("all", source.teachers), ("without baseline", source.teachers.without("baseline"))):
            for name in ("gradient_norm", "inverse_trace", "brittleness"):
                title = {"gradient_norm": "numerator", "inverse_trace": "1 / trace"}.get(name, name)
                rows.append([source.label, label, title, *estimate_texts(correlation(teachers.columns, name, "kd"))])
        if not plots and len(source.teachers.rows) >= _FEWEST:
            plots = [
                scatter(
                    Panel(
                        source.label,
                        source.teachers,
                        name,
                        "kd",
                        correlation(source.teachers.columns, name, "kd", num_resamples=0),
                        is_published=False,
                    )
                )
                for name in ("gradient_norm", "inverse_trace")
            ]
    return Section(
        "terms",
        "Which term of brittleness goes with AUROC?",
        "The mean gradient norm and one over the trace of the error's covariance, each alone against KD AUROC: where "
        "one of them does as well as their product, the other adds nothing.",
        "Both terms depend on the scale of a teacher's outputs, so alone neither can be compared across networks or "
        "output dimensions.",
        plots,
        SectionTable(["setting", "teachers", "term", *ESTIMATE_TITLES], rows) if rows else None,
        "" if rows else f"The paper gives the quotient alone, and there is no run here: {ANY_ROW}.",
    )


def beyond_the_probe(cohorts: Cohorts) -> Section:
    """Correlates brittleness with KD AUROC when probe accuracy is accounted for."""
    rows, drawn = [], {}
    for source in sources(cohorts):
        teachers = source.teachers.without("baseline")
        plain = correlation(teachers.columns, "brittleness", "kd")
        partial = partial_correlation(teachers.columns, "brittleness", "kd", "probe_accuracy")
        rows += [
            [source.label, "brittleness and KD", *estimate_texts(plain)],
            [source.label, "given classification accuracy", *estimate_texts(partial)],
        ]
        bars = {"brittleness and KD": _bar(plain.spearman), "given classification accuracy": _bar(partial.spearman)}
        if known := {name: bar for name, bar in bars.items() if bar is not None}:
            drawn[source.label] = known
    return Section(
        "beyond-the-probe",
        "Does brittleness say more than classification accuracy?",
        "Spearman's correlation of brittleness with KD AUROC over the teachers without the baseline, before and after "
        "the rank of classification accuracy is accounted for.",
        "With three to thirteen teachers the intervals span most of what is possible, and the accuracy needs labelled "
        "anomalies, which brittleness does not.",
        [
            dots(
                drawn,
                "Spearman, with 95% interval over teachers",
                "Correlation of brittleness with KD AUROC, plain and partial.",
            )
        ],
        SectionTable(["setting", "of", *ESTIMATE_TITLES], rows),
    )


def variance(cohorts: Cohorts) -> Section:
    """Splits the variance of AUROC into shares of teacher, detector, class and seed."""
    shares = {}
    for source in sources(cohorts):
        if source.cohort is None:
            teachers = source.teachers.without("baseline")
            values = np.array([teachers.columns[detector] for detector in DETECTORS]).T
            shares[source.label] = variance_shares(values, ("teacher", "detector"))
        elif (values := _crossed(source)) is not None:
            shares[source.label] = variance_shares(values, ("teacher", "detector", "class", "seed"))
    shares = {label: each for label, each in shares.items() if each}
    rest = "interactions and rest"
    names = [*dict.fromkeys(name for each in shares.values() for name in each if name != rest), rest]
    rows = [
        [label, *(f"{100 * each[name]:.1f}" if name in each else "-" for name in names)]
        for label, each in shares.items()
    ]
    return Section(
        "variance",
        "What does AUROC depend on most?",
        "The share of each factor in the variance of AUROC, without the baseline: main effects, and what is left to "
        "their interactions and to chance.",
        "Published numbers have neither classes nor seeds, so what depends on them is hidden in their means; with one "
        "seed, chance counts as interaction.",
        [stacks(shares, names, "share of the variance of AUROC, %", "Shares of the variance of AUROC by factor.")],
        SectionTable(["setting", *(f"{name}, %" for name in names)], rows),
    )


def _crossed(source: Source) -> np.ndarray | None:
    """Returns AUROC by teacher, detector, class and seed, without gaps; None for fewer than two teachers."""
    lines = [line for line in source.cohort.lines_in(source.setting) if task_of(line.row) != "baseline"]
    if len(lines) < 2:
        return None
    names = source.cohort.configurations(source.setting)
    num_seeds = min(len(line.by_seed) for line in lines)
    values = [
        [
            [
                [numbers_of(entries[name])[detector] for entries in itertools.islice(line.by_seed.values(), num_seeds)]
                for name in names
            ]
            for detector in DETECTORS
        ]
        for line in lines
    ]
    return np.array(values) if np.isfinite(values).all() else None


ESTIMATE_TITLES = ["number", "Pearson", "95%", "p", "Spearman", "95%", "p"]


def estimate_texts(found: Correlation) -> list[str]:
    """Returns a correlation as the cells of a table, under `ESTIMATE_TITLES`."""
    return [str(found.count), *_texts(found.pearson), *_texts(found.spearman)]


def _texts(estimate: Estimate) -> list[str]:
    return [
        "-" if estimate.value is None else f"{estimate.value:.3f}",
        "-" if estimate.interval is None else "{:.2f} to {:.2f}".format(*estimate.interval),
        "-" if estimate.p_value is None else f"{estimate.p_value:.4f}",
    ]


def _bar(estimate: Estimate) -> Bar | None:
    if estimate.value is None:
        return None
    return Bar(estimate.value, *(estimate.interval or (None, None)))
