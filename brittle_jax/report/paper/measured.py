"""Finished runs as lines of tables: what belongs together is averaged, what was measured otherwise is kept apart."""

import dataclasses
import json
import math
import string
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from brittle_jax.published import DETECTORS
from brittle_jax.report.paper.collection import Run
from brittle_jax.report.paper.layout import SETTINGS, Teachers, configurations_of_part, teachers

# Readings that differ from teacher to teacher in one and the same version: of how it was pre-trained or drawn.
_READINGS_OF_TEACHERS = {"augmentation", "random_batch_norm"}
# Readings that do not change the numbers of a table; how far a student moves is told from the run itself.
_NOT_COMPARED = {"measure_samples", "movement", "auroc_interval"}
_SETTINGS_OF_TEACHERS = ("pretrain.", "teacher.")  # that differ from row to row
_SAME_MOVEMENT = 0.02
NUMBERS = (
    "probe_accuracy",
    *DETECTORS,
    "brittleness",
    "gradient_norm",
    "error_trace",
    "inverse_trace",
    "error_ratio",
)


class Numbers(NamedTuple):
    """The numbers of a line in a setting, by name, as `numbers_of` has them.

    Attributes:
        means: over configurations, parts and seeds; NaN where something is not known.
        sds: over seeds, ddof 1; empty with one seed.
        configurations: that were averaged.
        is_complete: whether these are all configurations that the paper averages.
    """

    means: dict[str, float]
    sds: dict[str, float]
    configurations: tuple[str, ...]
    is_complete: bool


@dataclasses.dataclass(frozen=True)
class Line:
    """Runs of one row that were measured in the same way: over several seeds, or over other configurations each.

    Attributes:
        runs: one or more.
        version: a letter; lines of a data set with the same letter have the same readings.
    """

    runs: tuple[Run, ...]
    version: str = ""

    @property
    def first(self) -> Run:
        """A run, for what all of them share."""
        return self.runs[0]

    @property
    def row(self) -> str:
        """The row."""
        return self.first.row

    @property
    def by_seed(self) -> dict[tuple, dict[str, Mapping[str, Any]]]:
        """The entries of configurations by name, by seed."""
        seeds: dict[tuple, dict[str, Mapping[str, Any]]] = {}
        for run in self.runs:
            seeds.setdefault(run.seeds, {}).update(run.entries)
        return seeds

    @property
    def configurations(self) -> set[str]:
        """Names of the configurations that every seed has."""
        return set.intersection(*(set(entries) for entries in self.by_seed.values()))

    @property
    def marks(self) -> list[str]:
        """What keeps its numbers from being compared with published ones."""
        areas = sorted({setting.partition(".")[0] for setting in self.first.reduced})
        return [
            *(["synthetic"] if self.first.synthetic else []),
            *(["own images"] if self.first.is_own_data else []),
            *([f"reduced: {', '.join(areas)}"] if areas else []),
        ]

    def numbers(self, setting: str, only: Collection[str] | None = None) -> Numbers | None:
        """Returns its numbers in a setting; None where it lacks a part of it.

        Args:
            only: names of the configurations to average; None: all.
        """
        parts, of_part = SETTINGS[setting].parts, SETTINGS[setting].part_of
        names = sorted(self.configurations if only is None else self.configurations & set(only))
        members = {part: [name for name in names if of_part(name) == part] for part in parts}
        if self.first.dataset != SETTINGS[setting].dataset or not all(members.values()):
            return None
        by_seed = [
            {
                name: float(np.mean([np.mean([each[name] for each in part]) for part in numbers.values()]))
                for name in NUMBERS
            }
            for entries in self.by_seed.values()
            for numbers in [{part: [numbers_of(entries[name]) for name in members[part]] for part in parts}]
        ]
        return Numbers(
            means={name: float(np.mean([seed[name] for seed in by_seed])) for name in NUMBERS},
            sds={name: float(np.std([seed[name] for seed in by_seed], ddof=1)) for name in NUMBERS}
            if len(by_seed) > 1
            else {},
            configurations=tuple(name for part in parts for name in members[part]),
            is_complete=all(len(members[part]) == configurations_of_part(part) for part in parts),
        )


def numbers_of(entry: Mapping[str, Any]) -> dict[str, float]:
    """Returns the numbers of a configuration's entry by name: AUROC and accuracy in percent, NaN where unknown."""
    probe, distillation = entry.get("probe") or {}, entry.get("distillation") or {}
    trace, loss, mean_loss = entry.get("error_trace"), *(distillation.get(n) for n in ("loss", "mean_predictor_loss"))
    numbers = {name: _percent(entry["auroc"][name]) for name in DETECTORS}
    return numbers | {
        "probe_accuracy": _percent(probe.get("accuracy")),
        "brittleness": _number(entry["brittleness"]),
        "gradient_norm": _number(entry.get("gradient_norm")),
        "error_trace": _number(trace),
        "inverse_trace": 1 / trace if trace else math.nan,
        "error_ratio": loss / mean_loss if loss is not None and mean_loss else math.nan,
    }


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _percent(value: float | None) -> float:
    return 100 * _number(value)


def lines_of(runs: Iterable[Run]) -> list[Line]:
    """Returns the lines of runs, those of a data set in the paper's order of rows.

    Runs of a row that have the same settings and readings are pooled: over other configurations with the same seeds,
    then over other seeds of the same configurations. Of two runs of the same configuration and seed each is a line.
    """
    by_key: dict[str, list[tuple[Run, ...]]] = {}
    for run in runs:
        by_key.setdefault(_key(run), []).append((run,))
    lines = []
    for singles in by_key.values():
        of_a_seed = _pooled(singles, lambda a, b: _seeds(a) == _seeds(b) and not _names(a) & _names(b))
        pooled = _pooled(of_a_seed, lambda a, b: _names(a) == _names(b) and not _seeds(a) & _seeds(b))
        lines += [Line(members) for members in pooled]
    versions = _versions(line.first for line in lines)
    lines = [dataclasses.replace(line, version=versions[_version_key(line.first)]) for line in lines]
    lines.sort(key=lambda line: line.first.finished_at, reverse=True)  # of equal ones the latest comes first
    return sorted(lines, key=_place)


def _pooled(
    groups: Sequence[tuple[Run, ...]], belong: Callable[[tuple[Run, ...], tuple[Run, ...]], bool]
) -> list[tuple[Run, ...]]:
    """Joins each group to the first earlier one that it belongs to."""
    joined: list[tuple[Run, ...]] = []
    for group in groups:
        place = next((number for number, other in enumerate(joined) if belong(other, group)), None)
        if place is None:
            joined.append(group)
        else:
            joined[place] += group
    return joined


def _seeds(runs: Sequence[Run]) -> set[tuple]:
    return {run.seeds for run in runs}


def _names(runs: Sequence[Run]) -> set[str]:
    return {name for run in runs for name in run.entries}


def _place(line: Line) -> tuple:
    rows = list(teachers(line.first.dataset)) if line.first.is_of_paper else []
    position = rows.index(line.row) if line.row in rows else len(rows)
    return line.first.dataset, position, line.row, _rank(line)


def _rank(line: Line) -> tuple:
    """Returns what sorts the lines of a row: the one that is nearest to the recipe and has most in it comes first."""
    run = line.first
    return run.synthetic, run.is_own_data, len(run.reduced), -len(line.configurations), -len(line.by_seed)


def _key(run: Run) -> str:
    return json.dumps(
        [
            *(run.row, run.synthetic, run.is_own_data and run.data_path),
            *(run.reduced, _known(run.measurement), movement_of(run)),
        ],
        sort_keys=True,
        default=str,
    )


def readings_of(run: Run) -> dict[str, str]:
    """Returns the readings that make a run's version, by name: those that its teacher alone has are not among them."""
    left_out = _READINGS_OF_TEACHERS | _NOT_COMPARED
    readings = {name: str(value) for name, value in _known(run.measurement).items() if name not in left_out}
    return dict(sorted(readings.items())) | {"movement": movement_of(run)}


def _known(measurement: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the readings that apply; one that does not is missing, or None in later versions."""
    return {name: value for name, value in measurement.items() if value is not None}


def movement_of(run: Run) -> str:
    """Says how far its students moved, beside those of the row's recipe."""
    ratios = set()
    for entry in run.entries.values():
        distillation = entry.get("distillation") or {}
        if not distillation.get("movement") or not distillation.get("recipe_movement"):
            return "not recorded"
        ratio = distillation["movement"] / distillation["recipe_movement"]
        ratios.add(
            "as far as in" if abs(ratio - 1) < _SAME_MOVEMENT else f"{float(f'{ratio:.2g}'):g} times as far as in"
        )
    return f"{' and '.join(sorted(ratios))} the row's recipe"


def _version_key(run: Run) -> tuple:
    return run.dataset, *readings_of(run).items()


def _versions(runs: Iterable[Run]) -> dict[tuple, str]:
    """Returns the letters of versions: those of each data set begin with A, which most of its runs have."""
    counts: dict[tuple, int] = {}
    for run in runs:
        counts[_version_key(run)] = counts.get(_version_key(run), 0) + 1
    letters: dict[tuple, str] = {}
    for key in sorted(counts, key=lambda key: (-counts[key], key)):
        number = sum(other[0] == key[0] for other in letters)
        letters[key] = string.ascii_uppercase[number % 26] + (str(number // 26) if number >= 26 else "")
    return letters


def differences(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Returns the readings and settings in which runs differ: by name, the value of each run, "-" where it has none."""
    described = [
        {
            **{name: str(value) for name, value in _known(run.measurement).items() if name not in _NOT_COMPARED},
            "movement": movement_of(run),
            **{name: str(value) for name, value in run.reduced.items()},
            **({"images": "synthetic"} if run.synthetic else {}),
        }
        for run in runs
    ]
    names = sorted(set().union(*described))
    table = {name: [each.get(name, "-") for each in described] for name in names}
    return {name: values for name, values in table.items() if len(set(values)) > 1}


@dataclasses.dataclass(frozen=True)
class Cohort:
    """Lines of a data set that may stand in one figure: of the same version, settings and kind of images.

    Attributes:
        lines: one for each row that has any: the nearest to the recipe.
        others: further lines of these rows, which are not in figures.
    """

    lines: tuple[Line, ...]
    others: tuple[Line, ...]

    @property
    def first(self) -> Line:
        """A line, for what all of them share."""
        return self.lines[0]

    @property
    def title(self) -> str:
        """What its lines share, in words."""
        settings = _shared_settings(self.first.first)
        areas = sorted({name.partition(".")[0] for name in settings})
        kind = "synthetic images" if self.first.first.synthetic else ""
        kind = f"own images, {self.first.first.data_path}" if self.first.first.is_own_data else kind
        recipe = f"reduced ({', '.join(areas)})" if areas else "the row's recipe"
        return ", ".join(part for part in (kind, recipe, f"version {self.first.version}") if part)

    @property
    def is_of_recipe(self) -> bool:
        """Whether students are made and measured as in the recipe; the probe is no part of the detectors."""
        return all(name.startswith("probe.") for name in _shared_settings(self.first.first))

    def configurations(self, setting: str) -> list[str]:
        """Returns the configurations of a setting that are averaged: those that all lines have.

        As many lines count as have a part of the setting in common; others are passed over.
        """
        names = [_names_in(line, setting) for line in self._of(setting)]
        return sorted(set.intersection(*names)) if names else []

    def _of(self, setting: str) -> list[Line]:
        """Returns the lines that have a part of a setting in common, or the most of them that do."""
        lines = [line for line in self.lines if line.numbers(setting) is not None]
        lines.sort(key=lambda line: -len(_names_in(line, setting)))
        groups = [_in_common(first, lines, setting) for first in lines]
        kept = max(groups, key=len, default=[])  # of equal ones, the first: that of the most complete line
        return [line for line in self.lines if line in kept]

    def lines_in(self, setting: str) -> list[Line]:
        """Returns the lines that stand in figures of a setting."""
        return self._of(setting)

    def teachers(self, setting: str) -> Teachers:
        """Returns the numbers of its lines in a setting, over the configurations that all of them have."""
        lines, names = self._of(setting), self.configurations(setting)
        numbers = [line.numbers(setting, names) for line in lines]
        columns = {name: np.array([each.means[name] for each in numbers]) for name in NUMBERS}
        return Teachers([line.row for line in lines], columns)


def _in_common(first: Line, lines: Iterable[Line], setting: str) -> list[Line]:
    """Returns a line, and those of the lines that share a part of a setting with it and with each other."""
    kept, shared = [first], _names_in(first, setting)
    for line in lines:
        names = shared & _names_in(line, setting)
        if line is not first and line.numbers(setting, names) is not None:
            kept.append(line)
            shared = names
    return kept


def _names_in(line: Line, setting: str) -> set[str]:
    return {name for name in line.configurations if SETTINGS[setting].part_of(name) is not None}


def _shared_settings(run: Run) -> dict[str, Any]:
    return {name: value for name, value in run.reduced.items() if not name.startswith(_SETTINGS_OF_TEACHERS)}


def cohorts_of(lines: Iterable[Line]) -> dict[str, list[Cohort]]:
    """Returns the cohorts of each data set: real images first, then runs of the recipe, then the ones of most rows."""
    by_key: dict[str, list[Line]] = {}
    for line in lines:
        run = line.first
        if not run.is_of_paper:
            continue
        settings = json.dumps(_shared_settings(run), sort_keys=True, default=str)
        key = json.dumps([run.dataset, line.version, run.synthetic, run.is_own_data and run.data_path, settings])
        by_key.setdefault(key, []).append(line)
    cohorts: dict[str, list[Cohort]] = {}
    for members in by_key.values():
        chosen: dict[str, Line] = {}
        for line in sorted(members, key=_place):
            chosen.setdefault(line.row, line)
        others = tuple(line for line in members if line is not chosen[line.row])
        cohorts.setdefault(members[0].first.dataset, []).append(Cohort(tuple(chosen.values()), others))
    for found in cohorts.values():
        found.sort(key=_importance)
    return cohorts


def _importance(cohort: Cohort) -> tuple:
    run = cohort.first.first
    return run.synthetic, run.is_own_data, not cohort.is_of_recipe, -len(cohort.lines), cohort.first.version
