"""Tables of the paper as CSV, Markdown and LaTeX."""

import csv
import io

from brittle_jax.report.paper.layout import QUANTITIES
from brittle_jax.report.paper.tables import Table, TableLine, cell_texts

_LATEX = {"\\": r"\textbackslash{}", **{letter: f"\\{letter}" for letter in "&%$#_{}"}, "~": r"\textasciitilde{}"}
_LATEX |= {"^": r"\textasciicircum{}", "±": r"$\pm$"}


def to_csv(table: Table) -> str:
    """Returns a line for each measurement; numbers are not rounded, AUROC and accuracy in percent, empty: none."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    columns = [f"{name}{suffix}" for name in table.quantities for suffix in ("", "_sd", "_published", "_difference")]
    writer.writerow(["row", "teacher", "status", "version", "marks", "seeds", "runs", *columns])
    for line in table.lines:
        cells = [line.cells[name] for name in table.quantities]
        numbers = [value for cell in cells for value in (cell.ours, cell.sd, cell.published, cell.difference)]
        writer.writerow(
            [
                line.row,
                line.teacher,
                "published" if line.line is None else "measured",
                line.version,
                "; ".join(line.marks),
                line.seeds or "",
                "; ".join(line.runs),
                *("" if value is None else f"{value:.10g}" for value in numbers),
            ]
        )
    return file.getvalue()


def to_markdown(table: Table) -> str:
    """Returns the caption, the table and what a reader must know; three lines for each measurement."""
    titles = ["Teacher", "", *(QUANTITIES[name].title for name in table.quantities), "version", "marks", "runs"]
    lines = [_markdown(titles), _markdown(["---"] * len(titles))]
    for line in table.lines:
        for source in _sources(line):
            cells = [_bold(line, name, source, text, "**", "**") for name, text in _texts(table, line, source)]
            lines.append(_markdown([line.teacher, source, *cells, *_description(line, source)]))
    return "\n".join([f"Table {table.number}: {table.caption}.", "", *lines, "", *_remarks(table)]) + "\n"


def to_latex(table: Table) -> str:
    """Returns a table environment that needs no package."""
    titles = ["Teacher", "", *(QUANTITIES[name].title for name in table.quantities), "version", "marks"]
    lines = []
    for line in table.lines:
        for source in _sources(line):
            cells = [
                _bold(line, name, source, text, r"\textbf{", "}") for name, text in _latex_texts(table, line, source)
            ]
            escaped = [_escaped(text) for text in (line.teacher, source)]
            lines.append(_latex([*escaped, *cells, *map(_escaped, _description(line, source)[:2])]))
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_escaped(' '.join([f'{table.caption}.', *_remarks(table)]))}}}",
            rf"\label{{tab:{table.number}}}",
            rf"\begin{{tabular}}{{ll{'r' * len(table.quantities)}ll}}",
            r"\hline",
            _latex(map(_escaped, titles)),
            r"\hline",
            *lines,
            r"\hline",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _sources(line: TableLine) -> list[str]:
    """Returns what there is of a line."""
    cells = line.cells.values()
    there = {
        "ours": line.line is not None,
        "published": any(cell.published is not None for cell in cells),
        "difference": any(cell.difference is not None for cell in cells),
    }
    return [source for source, is_there in there.items() if is_there]


def _texts(table: Table, line: TableLine, source: str) -> list[tuple[str, str]]:
    return [(name, texts[source]) for name, texts in cell_texts(table, line).items()]


def _latex_texts(table: Table, line: TableLine, source: str) -> list[tuple[str, str]]:
    return [(name, _escaped(text)) for name, text in _texts(table, line, source)]


def _bold(line: TableLine, name: str, source: str, text: str, before: str, after: str) -> str:
    cell = line.cells[name]
    is_best = {"ours": cell.is_best, "published": cell.is_published_best, "difference": False}[source]
    return f"{before}{text}{after}" if is_best else text


def _description(line: TableLine, source: str) -> list[str]:
    """Returns version, marks and runs, which stand on the first line of a measurement."""
    if source != _sources(line)[0]:
        return ["", "", ""]
    return [line.version, "; ".join(line.marks), "; ".join(line.runs)]


def _remarks(table: Table) -> list[str]:
    notes = [f"{line.teacher}: {note}." for line in table.lines for note in line.notes]
    return [*table.remarks, *dict.fromkeys(notes)]


def _markdown(cells) -> str:
    return f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def _latex(cells) -> str:
    return f"{' & '.join(cells)} \\\\"


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)
