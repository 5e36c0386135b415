"""Tables 2 to 11 of the paper, as data: ours, the published numbers, and the difference of each."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from brittle_jax.report.paper.layout import QUANTITIES, SETTINGS, TABLES, published, teachers
from brittle_jax.report.paper.measured import Line, Numbers, differences

_COMPARED = ("kd", "mse", "mahalanobis_diag", "mahalanobis_full")  # of which the best is in bold


class Cell(NamedTuple):
    """A quantity of a teacher: numbers in the units of the table, None where there is none.

    Attributes:
        sd: over seeds.
        difference: ours less published; None where the two do not measure the same.
        is_best, is_published_best: the highest AUROC of its line, ours and published.
    """

    ours: float | None
    sd: float | None
    published: float | None
    difference: float | None
    is_best: bool
    is_published_best: bool


@dataclasses.dataclass(frozen=True)
class TableLine:
    """A teacher in a table: one measurement of ours beside the published numbers, or these alone.

    Attributes:
        cells: by quantity.
        line: our measurement; None where the published numbers stand alone.
        marks: such as "not run", "synthetic", "reduced: distill", "3 of 10 classes: cat, dog, frog".
        seeds: how many of them are averaged.
        notes: sentences.
    """

    row: str
    teacher: str
    cells: Mapping[str, Cell]
    line: Line | None
    marks: Sequence[str]
    seeds: int
    notes: Sequence[str]

    @property
    def version(self) -> str:
        """The letter of its measurement; "" where there is none."""
        return "" if self.line is None else self.line.version

    @property
    def runs(self) -> list[str]:
        """Names of its runs."""
        return [] if self.line is None else [run.name for run in self.line.runs]


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of the paper.

    Attributes:
        quantities: names of its columns.
        remarks: what a reader must know before comparing its lines.
    """

    number: int
    caption: str
    setting: str
    quantities: tuple[str, ...]
    lines: list[TableLine]
    remarks: list[str]


def tables(lines: Sequence[Line]) -> list[Table]:
    """Returns all tables; without lines, the published numbers alone."""
    return [table(number, lines) for number in TABLES]


def table(number: int, lines: Sequence[Line]) -> Table:
    """Returns one table of the paper: at least a line for each of its rows, in its order.

    Published means stand beside ours only over the same classes. Where we have fewer they get a line of their own.
    """
    caption, setting, quantities = TABLES[number]
    made: list[TableLine] = []
    for row, teacher in teachers(SETTINGS[setting].dataset).items():
        ours = [line for line in lines if line.row == row and line.numbers(setting) is not None]
        notes = _notes_on_several(ours)
        of_row = [_measured_line(row, teacher.title, quantities, setting, line, notes) for line in ours]
        if not any(cell.published is not None for line in of_row for cell in line.cells.values()):
            of_row.append(_published_line(row, teacher.title, quantities, setting, is_run=bool(ours)))
        made += of_row
    remarks = _warnings(made)
    if len(SETTINGS[setting].parts) > 1:
        remarks.append(
            "Published means are those of the paper's longer tables; it prints some of them 0.01 higher or lower."
        )
    return Table(number, caption, setting, quantities, made, remarks)


def _measured_line(
    row: str, teacher: str, quantities: Sequence[str], setting: str, line: Line, notes: Sequence[str]
) -> TableLine:
    numbers = line.numbers(setting)
    reference = _published(row, quantities, setting) if numbers.is_complete else {}
    # Made-up images or the user's own have nothing in common with the published ones but their row.
    is_comparable = numbers.is_complete and not (line.first.synthetic or line.first.is_own_data)
    best, published_best = _best(numbers.means, quantities), _best(reference, quantities)
    cells = {}
    for name in quantities:
        ours, published_value = _known(numbers.means[name]), reference.get(name)
        cells[name] = Cell(
            ours=ours,
            sd=_known(numbers.sds.get(name)),
            published=published_value,
            difference=ours - published_value if is_comparable and ours is not None else None,
            is_best=name in best,
            is_published_best=name in published_best,
        )
    marks = [*line.marks, *_partial(numbers, setting)]
    return TableLine(row, teacher, cells, line, marks, len(line.by_seed), [*notes, *_notes(line)])


def _published_line(row: str, teacher: str, quantities: Sequence[str], setting: str, *, is_run: bool) -> TableLine:
    reference = _published(row, quantities, setting)
    best = _best(reference, quantities)
    cells = {name: Cell(None, None, reference[name], None, False, name in best) for name in quantities}
    mark = f"published, {SETTINGS[setting].num_configurations} classes" if is_run else "not run"
    return TableLine(row, teacher, cells, None, [mark], 0, [])


def _published(row: str, quantities: Sequence[str], setting: str) -> dict[str, float]:
    known = published(setting)
    return {name: float(known.columns[name][known.rows.index(row)]) for name in quantities}


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def _best(numbers: Mapping[str, float], quantities: Sequence[str]) -> set[str]:
    """Returns the detectors of the highest AUROC, as it is printed."""
    values = {name: round(numbers[name], 2) for name in quantities if name in _COMPARED and name in numbers}
    known = {name: value for name, value in values.items() if not math.isnan(value)}
    return {name for name, value in known.items() if value == max(known.values())}


def _partial(numbers: Numbers, setting: str) -> list[str]:
    if numbers.is_complete:
        return []
    has_parts = len(SETTINGS[setting].parts) > 1  # which have classes of the same names
    classes = [name.replace("/", " ") if has_parts else name.rpartition("/")[2] for name in numbers.configurations]
    return [f"{len(classes)} of {SETTINGS[setting].num_configurations} classes: {', '.join(classes)}"]


def _notes(line: Line) -> list[str]:
    notes = []
    if skipped := sum(run.num_skipped for run in line.runs):
        notes.append(f"{skipped} images could not be read")
    for run in line.runs:
        for name, entry in run.random_on_same_test.items():
            kd = entry["auroc"]["kd"]
            if kd is not None:
                notes.append(f"a random teacher on the same test ({name}): KD {number_text(100 * kd, 2)}")
    return notes


def _notes_on_several(ours: Sequence[Line]) -> list[str]:
    """Returns what tells several measurements of one row apart."""
    if len(ours) < 2:
        return []
    found = differences([line.first for line in ours])
    differing = [f"{name}: {' | '.join(values)}" for name, values in found.items()]
    return [f"{len(ours)} measurements of this row, which differ in {'; '.join(differing) or 'nothing recorded'}"]


def _warnings(lines: Sequence[TableLine]) -> list[str]:
    measured = [line for line in lines if line.line is not None]
    warnings = []
    if len(versions := sorted({line.version for line in measured})) > 1:
        warnings.append(
            f"Lines of versions {', '.join(versions)} were measured differently: compare only lines of one version."
        )
    if len({tuple(line.line.marks) for line in measured}) > 1:
        warnings.append("Some lines are synthetic or reduced in another way than others: compare lines of equal marks.")
    if len({tuple(mark for mark in line.marks if " classes: " in mark) for line in measured}) > 1:
        warnings.append("Lines average different classes: they, too, cannot be compared with each other.")
    return warnings


def number_text(value: float | None, decimals: int, *, sign: bool = False) -> str:
    """Returns a number as text; "-" where there is none."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value:{'+' if sign else ''}.{decimals}f}"


def cell_texts(table: Table, line: TableLine) -> dict[str, dict[str, str]]:
    """Returns the cells of a line as text, by quantity: `ours` (with its deviation), `published`, `difference`."""
    texts = {}
    for name in table.quantities:
        cell, decimals = line.cells[name], QUANTITIES[name].decimals
        deviation = "" if cell.sd is None else f" ± {number_text(cell.sd, decimals)}"
        texts[name] = {
            "ours": number_text(cell.ours, decimals) + deviation,
            "published": published_text(table, name, cell.published),
            "difference": number_text(cell.difference, decimals, sign=True),
        }
    return texts


def published_text(table: Table, quantity: str, value: float | None) -> str:
    """Returns a published number with the decimals that the paper gives it."""
    is_small = SETTINGS[table.setting].dataset in ("cats_vs_dogs", "cifar10")
    return number_text(value, 3 if quantity == "brittleness" and is_small else QUANTITIES[quantity].decimals)
