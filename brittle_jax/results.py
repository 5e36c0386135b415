"""The schema of results.json, and the files of a run that hold its numbers; written and read without JAX."""

import csv
import io
import json
import math
import pathlib
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from brittle_jax import files
from brittle_jax.errors import DamagedError
from brittle_jax.published import DETECTORS

FORMAT_VERSION = 1


def write_scores(
    path: pathlib.Path, ids: Sequence[str], labels: Sequence[int], scores: Mapping[str, np.ndarray]
) -> None:
    """Writes a line for each test sample: its id, label 0 normal or 1 anomalous, and every detector's score."""
    with files.replacing(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "label", *scores])
        columns = [[repr(float(value)) for value in column] for column in scores.values()]
        writer.writerows(zip(ids, labels, *columns, strict=True))


def summarise(configurations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Averages the configurations of each group: `{"unimodal": {"auroc": {"kd": ...}, "brittleness": ...}}`."""
    summary = {}
    for group in dict.fromkeys(entry["group"] for entry in configurations):
        members = [entry for entry in configurations if entry["group"] == group]
        summary[group] = {
            "num_configurations": len(members),
            "auroc": {name: _mean([entry["auroc"][name] for entry in members]) for name in DETECTORS},
            "brittleness": _mean([entry["brittleness"] for entry in members]),
        }
    return summary


def summarise_probes(configurations: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Averages the probe over configurations, which differ where each has a teacher of its own.

    Returns:
        Means by name, such as `probe_accuracy`, and standard deviations, such as `probe_accuracy_sd`. None where there
        is no probe, or one of the values is not known.
    """
    probes = [entry["probe"] for entry in configurations if entry["probe"] is not None]
    summary = {}
    for name in ("accuracy", "balanced_accuracy", "auroc"):
        values = [probe.get(name) for probe in probes]  # a run that an earlier version began may lack some
        mean = _mean(values)
        summary |= {f"probe_{name}": mean, f"probe_{name}_sd": None if mean is None else float(np.std(values))}
    # That of the test, which all configurations share.
    return summary | {"probe_majority_accuracy": _mean([probe.get("majority_accuracy") for probe in probes])}


def _mean(values: Sequence[float | None]) -> float | None:
    """Returns the mean; None where there are no values, or one of them could not be computed."""
    return float(np.mean(values)) if values and None not in values else None


class Comparison(NamedTuple):
    """One group's numbers beside the published ones, as text: AUROC in percent with two decimals, as in the paper."""

    title: str
    value_title: str  # "ours" beside published numbers, else "value"
    published_title: str  # empty where there is nothing published
    lines: list[tuple[str, str, str, str]]  # detector or "brittleness", measured, published, difference; "-": none
    by_kind: Mapping[str, Mapping[str, Any]]  # of one configuration, see `worst_kinds_first`; empty for a mean


def compare(results: Mapping[str, Any]) -> list[Comparison]:
    """Puts results beside the published numbers: by configuration if the paper has a line for each, else by group."""
    published = {} if results["published"] is None else results["published"]["groups"]
    comparisons = []
    for group, mean in results["summary"].items():
        members = [entry for entry in results["configurations"] if entry["group"] == group]
        if len(members) == 1 or all(entry["name"] in published for entry in members):
            compared = [(entry["name"], entry, published.get(entry["name"])) for entry in members]
        else:
            compared = [(f"{group}, mean of {len(members)}", mean, None)]
        for title, measured, reference in compared:
            heading = "published" if reference is not None else ""
            if reference is None and group in published:
                heading, reference = f"published {group} mean", published[group]
            lines = _lines(measured, reference or {"auroc": {}})
            comparisons.append(
                Comparison(title, "ours" if heading else "value", heading, lines, worst_kinds_first(measured))
            )
    return comparisons


def recommended_detector(entry: Mapping[str, Any]) -> str:
    """Returns the detector that a configuration's entry in results.json recommends; KD where it does not say."""
    recommended = entry.get("recommended")
    name = recommended.get("detector") if isinstance(recommended, Mapping) else None
    return name if name in DETECTORS else "kd"


def worst_kinds_first(entry: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Returns how well each kind of anomaly is told from normal samples, the kind that KD tells least well first.

    Empty where there are fewer than two kinds, and for runs of versions that did not tell kinds apart.
    """
    return dict(sorted(entry.get("by_kind", {}).items(), key=lambda item: item[1]["auroc"]["kd"]))


def _lines(measured: Mapping[str, Any], reference: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    aurocs = [
        _line(name, measured["auroc"][name], reference["auroc"].get(name), decimals=2, factor=100) for name in DETECTORS
    ]
    return [*aurocs, _line("brittleness", measured["brittleness"], reference.get("brittleness"), decimals=5)]


def _line(
    name: str, measured: float | None, reference: float | None, *, decimals: int, factor: int = 1
) -> tuple[str, str, str, str]:
    measured_text, reference_text = (
        "-" if value is None else f"{factor * value:.{decimals}f}" for value in (measured, reference)
    )
    is_complete = measured is not None and reference is not None
    return (
        name,
        measured_text,
        reference_text,
        f"{factor * (measured - reference):+.{decimals}f}" if is_complete else "-",
    )


def table(results: Mapping[str, Any]) -> str:
    """Returns the results, beside the published numbers if there are any, as lines of text; AUROC in percent."""
    lines = []
    for comparison in compare(results):
        width = 28 if comparison.published_title else 0
        lines.append(f"{comparison.title:<28}{comparison.value_title:>10}{comparison.published_title:>{width}}")
        for name, measured, reference, _ in comparison.lines:
            label = f"AUROC {name}" if name in DETECTORS else name
            lines.append(f"  {label:<26}{measured:>10}{reference if width else '':>{width}}")
        lines += _lines_by_kind(comparison.by_kind)
    lines += [line for entry in results["configurations"] for line in _lines_of_places(entry)]
    for reference in results["random_on_same_test"]:
        aurocs = ", ".join(f"{name} {100 * reference['auroc'][name]:.2f}" for name in DETECTORS)
        lines.append(f"  a random teacher on the same test samples: {aurocs}")
    return "\n".join(lines)


def _lines_by_kind(by_kind: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Returns a table of the AUROC of each kind of anomaly and detector; nothing where there are no kinds."""
    labels = {kind: f"{kind} ({separation['num_test']})" for kind, separation in by_kind.items()}
    return _columns("AUROC by kind of anomaly", {labels[kind]: by_kind[kind]["auroc"] for kind in by_kind})


def _columns(title: str, rows: Mapping[str, Mapping[str, float | None]]) -> list[str]:
    """Returns a table of fractions by detector, in percent; nothing without rows."""
    if not rows:
        return []
    width = max(26, len(title), *map(len, rows))
    lines = [f"  {title:<{width}}" + "".join(f"{name:>{len(name) + 4}}" for name in DETECTORS)]
    for label, fractions in rows.items():
        lines.append(
            f"  {label:<{width}}" + "".join(f"{_percent(fractions[name]):>{len(name) + 4}}" for name in DETECTORS)
        )
    return lines


def _lines_of_places(entry: Mapping[str, Any]) -> list[str]:
    """Returns a table of how well a configuration's scores find where anomalies are; nothing where that is unknown."""
    found, rows = entry.get("localisation", {}), {}
    if "hit_rate" in found:
        rows[f"deciding patch hits ({found['num_samples']})"] = found["hit_rate"]
        rows["a random patch would hit"] = dict.fromkeys(DETECTORS, found["random_hit_rate"])
    if "pixel_auroc" in found:
        rows[f"pixel AUROC ({found['num_masks']} masks)"] = found["pixel_auroc"]
    return _columns("where scores come from, %", rows)


class LineOverSeeds(NamedTuple):
    """A number of a group of a repeated row, as text: AUROC and accuracy in percent; "-": none."""

    name: str  # a detector, "brittleness" or "probe accuracy"
    mean: str
    sd_over_seeds: str
    sd_over_configurations: str
    published: str


class GroupOverSeeds(NamedTuple):
    """The numbers of a group of a repeated row."""

    title: str
    published_title: str  # empty where there is nothing published
    lines: list[LineOverSeeds]


def groups_over_seeds(content: Mapping[str, Any]) -> list[GroupOverSeeds]:
    """Returns the numbers of a repeated row beside the published ones; `content` is that of its results.json."""
    published = content["published"] or {"groups": {}, "probe_accuracy": None}
    groups = []
    for group, summary in content["summary"].items():
        names = [entry["name"] for entry in content["configurations"] if entry["group"] == group]
        title, heading = group if len(names) == 1 else f"{group}, mean of {len(names)}", ""
        if len(names) == 1 and names[0] in published["groups"]:
            heading, reference = "published", published["groups"][names[0]]
        elif group in published["groups"]:
            heading, reference = f"published {group} mean", published["groups"][group]
        else:
            reference = {"auroc": {}}
        reference = {**reference, "probe_accuracy": published["probe_accuracy"]}
        numbers = (summary, summary["sd_over_seeds"], summary["sd_over_configurations"], reference)
        columns = [_as_texts(each) for each in numbers]
        lines = [LineOverSeeds(name, *(each[name] for each in columns)) for name in columns[0]]
        groups.append(GroupOverSeeds(title, heading, lines))
    return groups


def _as_texts(numbers: Mapping[str, Any]) -> dict[str, str]:
    brittleness = numbers.get("brittleness")
    return {
        **{name: _percent(numbers["auroc"].get(name)) for name in DETECTORS},
        "brittleness": "-" if brittleness is None else f"{brittleness:.5f}",
        "probe accuracy": _percent(numbers["probe_accuracy"]),
    }


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.2f}"


def table_over_seeds(content: Mapping[str, Any]) -> str:
    """Returns the results of a repeated row as lines of text."""
    lines = []
    for group in groups_over_seeds(content):
        width = 28 if group.published_title else 0
        lines.append(
            f"{group.title:<28}{'mean':>10}{'sd over seeds':>16}{'sd over configurations':>25}"
            f"{group.published_title:>{width}}"
        )
        for line in group.lines:
            label = f"AUROC {line.name}" if line.name in DETECTORS else line.name
            lines.append(
                f"  {label:<26}{line.mean:>10}{line.sd_over_seeds:>16}{line.sd_over_configurations:>25}"
                f"{line.published if width else '':>{width}}"
            )
    return "\n".join(lines)


class SampleScores(NamedTuple):
    """The test samples of a configuration, in the order of scores/CONFIGURATION.csv."""

    ids: list[str]
    labels: np.ndarray  # [S] int, 0 normal, 1 anomalous
    scores: dict[str, np.ndarray]  # [S] each, by detector


def read_scores(path: pathlib.Path) -> SampleScores:
    """Reads what `write_scores` wrote.

    Raises:
        DamagedError: where the file is missing, cannot be read, or does not hold a label and finite scores in each
            line.
    """
    try:
        header, *rows = csv.reader(io.StringIO(files.read_text(path), newline=""), strict=True)
        if not rows or any(len(row) != len(header) for row in rows):
            raise ValueError("no samples, or a line that is longer or shorter than the first")
        ids, labels, *columns = zip(*rows, strict=True)
        scores = {name: np.asarray(column, float) for name, column in zip(header[2:], columns, strict=True)}
        labels = np.asarray(labels, int)
    except (ValueError, csv.Error) as error:
        raise DamagedError(path, str(error)) from error
    if header[:2] != ["id", "label"] or not set(scores) <= set(DETECTORS):
        raise DamagedError(path, f"unknown columns {', '.join(header)}")
    if not np.isin(labels, (0, 1)).all() or not np.isfinite([*scores.values()]).all():
        raise DamagedError(path, "a label that is not 0 or 1, or a score that is not finite")
    return SampleScores(list(ids), labels, scores)


class GradientNorms(NamedTuple):
    """What brittleness/CONFIGURATION.npz has for the page."""

    of_images: np.ndarray  # [M] float64, norm of each training image's input gradient
    by_dimension: np.ndarray | None  # [F], what each output dimension adds to their mean, if it was measured
    error_variance: np.ndarray  # [F], of each output dimension


def read_gradient_norms(path: pathlib.Path) -> GradientNorms:
    """Reads norms of input gradients, image by image and dimension by dimension.

    Raises:
        DamagedError: where the file is missing, cannot be read, or holds no finite norms.
    """
    try:
        with open(path, "rb") as file, np.load(file) as arrays:
            norms = np.asarray(arrays["gradient_norm"], np.float64)
            by_dimension, variance = arrays.get("gradient_norm_by_dimension"), arrays["error_variance"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DamagedError(path, "not the gradient norms of a run") from error
    if norms.ndim != 1 or not len(norms) or not np.isfinite(norms).all():
        raise DamagedError(path, "its gradient norms are not finite numbers")
    return GradientNorms(norms, by_dimension, variance)


def error_ratio(loss: float, mean_predictor_loss: float) -> float | None:
    """Returns a student's error over that of always predicting the teacher's mean; None if that is 0."""
    return loss / mean_predictor_loss if mean_predictor_loss > 0 else None


def how_far_in_words(ratio: float | None) -> str:
    """Says how near a student has come to its teacher.

    Args:
        ratio: as `error_ratio` returns it, on normal test images.
    """
    if ratio is None:
        return "the teacher's outputs do not vary, so there is nothing to learn"
    if ratio >= 1:
        return "it has not learned the teacher: always predicting the teacher's mean is no worse"
    if ratio >= 0.5:
        return "it has begun to learn the teacher"
    if ratio >= 0.1:
        return "it has learned most of what the teacher's outputs vary by"
    return "it follows the teacher closely"


def read_metrics(folder: pathlib.Path) -> dict[str, list[dict[str, Any]]]:
    """Reads the records of metrics.jsonl by stage; of steps that were taken again, those of the last time.

    Lines that are no records are left out: a run that is killed cuts one off, and takes its last steps again.
    """
    try:
        text = (folder / "metrics.jsonl").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return {}
    stages: dict[str, list[dict[str, Any]]] = {}
    for line in text.splitlines():
        if (record := _record(line)) is None:
            continue
        records = stages.setdefault(record["stage"], [])
        while records and record["step"] <= records[-1]["step"]:
            records.pop()
        records.append(record)
    return stages


def _record(line: str) -> dict[str, Any] | None:
    """Returns the record that a line of metrics.jsonl holds, or None: a stage, a step and a loss."""
    try:
        record = json.loads(line)
        is_record = isinstance(record["stage"], str) and type(record["step"]) is int and math.isfinite(record["loss"])
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError):
        return None
    return record if is_record else None
