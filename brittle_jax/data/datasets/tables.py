"""Tables that come with data sets, checked before use."""

import codecs
import csv
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence

from brittle_jax.data.datasets.listing import as_text
from brittle_jax.errors import UserError

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "|"}
_MOST_SHOWN = 200  # characters of a header


def read_table(file: pathlib.Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Reads a table whose first line names its columns, in upper or lower case.

    Commas, semicolons, tabs or | separate the columns. The text is UTF-8, or UTF-16 with a byte order mark.

    Args:
        columns: that every line must fill, in lower case.

    Returns:
        Each line's number in the file, and its fields by lower-case column, without surrounding spaces. Empty lines are
        left out.

    Raises:
        UserError: if the file cannot be read or lacks a column, or a line lacks a field or has too many.
    """
    name = as_text(file)
    try:
        with open(file, newline="", encoding=_encoding_of(file)) as content:
            separator = _separator_of(name, content.readline(), columns)
            content.seek(0)
            lines = csv.reader(content, delimiter=separator, skipinitialspace=separator != "\t")
            rows = list(_rows_of(name, lines, columns))
    except UnicodeError as error:
        reason = getattr(error, "reason", error)
        raise UserError(f"{name} is not a table in UTF-8 or UTF-16: save it as CSV in UTF-8 ({reason})") from error
    except (OSError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{name} cannot be read as a table: {reason}") from error
    if not rows:
        raise UserError(f"{name} has a header but no lines below it")
    return rows


def check_unique(table: pathlib.Path, ids: Iterable[tuple[int, str]]) -> None:
    """Checks that no two lines of a table name the same sample.

    Args:
        ids: the number of each line, and the id of its sample.

    Raises:
        UserError: at the first line with the id of an earlier one.
    """
    first: dict[str, int] = {}
    for number, name in ids:
        if number != first.setdefault(name, number):
            raise UserError(f"{as_text(table)}: lines {first[name]} and {number} both name {name!r}: remove one")


def normalize(path: str, folder: pathlib.Path) -> str:
    """Returns a path that a table gives, relative to a folder, in this system's form.

    Backslashes separate folders, as on Windows, unless a file has them in its name.
    """
    if "\\" in path and not os.path.lexists(folder / path):
        path = path.replace("\\", "/")
    return os.path.normpath(path)


def _encoding_of(file: pathlib.Path) -> str:
    with open(file, "rb") as content:
        begin = content.read(2)
    return "utf-16" if begin in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def _separator_of(name: str, header: str, columns: Sequence[str]) -> str:
    """Returns what separates the columns of a header, which must have the given ones."""
    if not header.strip():
        raise UserError(
            f"{name} is empty" if not header else f"{name}: its first line is empty, but must name the columns"
        )
    for separator in _SEPARATORS:
        if set(columns) <= set(_fields(header, separator)):
            return separator
    likely = max(_SEPARATORS, key=header.count)
    missing = sorted(set(columns) - set(_fields(header, likely)))
    seems = f"columns separated by {_SEPARATORS[likely]}" if likely in header else "a single column"
    shown = header.strip()[:_MOST_SHOWN]
    raise UserError(f"{name} has no column {_either(missing)}: its header is {shown!r} ({seems})")


def _either(names: Sequence[str]) -> str:
    """Returns `a`, `a or b`, `a, b or c`."""
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _fields(header: str, separator: str) -> list[str]:
    row = next(csv.reader([header], delimiter=separator, skipinitialspace=True), [])
    return [field.strip().lower() for field in row]


def _rows_of(name: str, lines: Iterator[list[str]], columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    header = [field.strip().lower() for field in next(lines)]
    named = [field for field in header if field]
    if twice := sorted({field for field in named if named.count(field) > 1}):
        raise UserError(
            f"{name}: its header names {' and '.join(twice)} more than once: rename or remove the duplicates"
        )
    for fields in lines:
        fields = [field.strip() for field in fields]
        if not any(fields):
            continue
        where = f"{name}, line {lines.line_num}:"
        if any(fields[len(header) :]):
            raise UserError(
                f"{where} {len(fields)} fields, but {len(header)} columns: quote fields that contain separators"
            )
        row = {column: field for column, field in zip(header, fields + [""] * len(header), strict=False) if column}
        if lacking := [column for column in columns if not row[column]]:
            raise UserError(f"{where} no {_either(lacking)}")
        yield lines.line_num, row
