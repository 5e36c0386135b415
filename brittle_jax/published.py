"""The published numbers of the paper's appendix tables, as data."""

import csv
import functools
import importlib.resources
from typing import Any

DETECTORS = ("kd", "mse", "mahalanobis_diag", "mahalanobis_full")


def published_row(row: str) -> dict[str, Any] | None:
    """Returns the published numbers of a row, or None where the paper has none (Tables 6 to 11).

    AUROC and accuracy are fractions in [0, 1], as in results.json: `{"table": "8, 9", "probe_accuracy": 0.37,
    "groups": {"unimodal": {"auroc": {"kd": 0.85, ...}, "brittleness": 0.046}, ...}}`.
    """
    lines = [line for line in _lines() if line["row"] == row]
    if not lines:
        return None
    groups = {
        line["configuration"]: {
            "auroc": {detector: _fraction(line[detector]) for detector in DETECTORS},
            "brittleness": float(line["brittleness"]),
        }
        for line in lines
    }
    tables = sorted({int(line["table"]) for line in lines})
    return {
        "table": ", ".join(map(str, tables)),
        "probe_accuracy": _fraction(lines[0]["probe_accuracy"]),
        "groups": groups,
    }


def rows_and_teachers(dataset: str) -> dict[str, str]:
    """Returns the rows of a data set in the paper's order, each with its teacher, such as "stl class"."""
    return {line["row"]: line["teacher"] for line in _lines() if line["dataset"] == dataset}


@functools.cache
def _lines() -> list[dict[str, str]]:
    text = (importlib.resources.files("brittle_jax") / "published.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _fraction(percent: str) -> float:
    # Rounded, so that 85.35 percent reads 0.8535 and not 0.8534999999999999.
    return round(float(percent) / 100, 6)
