"""Tables that come with data sets, checked before they are believed."""

import csv
import pathlib
from collections.abc import Sequence

from brittle_jax.errors import UserError


def read_table(file: pathlib.Path, columns: Sequence[str], delimiter: str = ",") -> list[tuple[int, dict[str, str]]]:
    """Reads a table in UTF-8 whose first line names its columns.

    Returns:
        Each line's number in the file, and its fields by column, without spaces around them.

    Raises:
        UserError: where the file cannot be read, lacks a column, or a line lacks a field.
    """
    try:
        with open(file, newline="", encoding="utf-8-sig") as content:
            reader = csv.DictReader(content, delimiter=delimiter)
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{file} cannot be read as a table: {error}") from error
    missing = set(columns) - set(rows[0][1] if rows else ())
    if missing:
        raise UserError(f"{file} has no column {' and no '.join(sorted(missing))}, or no lines")
    for number, row in rows:
        lacking = [column for column in columns if not (row[column] or "").strip()]
        if lacking:
            raise UserError(f"{file}, line {number}: no {' and no '.join(lacking)}")
    return [(number, {name: (value or "").strip() for name, value in row.items() if name}) for number, row in rows]
