"""Scores of picture files, written as they come; and the calibration of a finished run on new normal pictures."""

import contextlib
import csv
import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO

import numpy as np

from brittle_jax import console, files
from brittle_jax.apply import heat_maps as heat_maps_lib
from brittle_jax.apply.batching import Rows
from brittle_jax.apply.explaining import HeatMaps
from brittle_jax.apply.loaded import LoadedDetector, digest_of_detector, largest
from brittle_jax.apply.sample_files import ReadSample, SampleFile, read_samples
from brittle_jax.errors import DegenerateDataError, UserError
from brittle_jax.evaluate import calibration as calibration_lib
from brittle_jax.evaluate import conformal
from brittle_jax.evaluate.calibration import Calibration, joined_groups
from brittle_jax.results import DETECTORS

ANOMALOUS, NORMAL = "anomalous", "normal"  # decisions
SUFFIXES = (".csv", ".jsonl")
_SUSPICIOUS = 0.01  # p-value of the test of exchangeability
_PARCELS_AHEAD = 8
_MOST_PLACES = 2**22  # of heat maps, from which their scale is measured; 16 MB a detector


@dataclasses.dataclass(frozen=True)
class Rule:
    """When a picture is flagged.

    Attributes:
        detector: whose score decides.
        threshold: a score above it is flagged; None: no decision is made.
    """

    detector: str
    threshold: float | None


@dataclasses.dataclass
class Summary:
    """What came of the pictures that were scored.

    Attributes:
        num_scored: how many could be read.
        num_anomalous: how many of them were flagged.
        errors: why others could not be read, by path.
        scores: [num_scored], of the detector that decides.
        properties: of all files, as `Calibration.properties`.
    """

    num_scored: int = 0
    num_anomalous: int = 0
    errors: dict[str, str] = dataclasses.field(default_factory=dict)
    scores: list[float] = dataclasses.field(default_factory=list)
    properties: list[tuple[int, int, int, int]] = dataclasses.field(default_factory=list)


def scored_samples(
    loaded: LoadedDetector, samples: Sequence[SampleFile], *, with_digests: bool = False
) -> Iterator[tuple[ReadSample, Rows]]:
    """Reads and scores samples in order; memory does not grow with their number.

    Yields:
        Each sample, and the scores [P] of its images, by detector; none if it cannot be read.
    """
    preprocessing = loaded.detector.preprocessing
    # Enough to fill the next batch while the device computes one; a parcel has many images.
    ahead = 2 * loaded.batch_size if preprocessing.patches is None else _PARCELS_AHEAD
    read = read_samples(samples, preprocessing, loaded.max_image_pixels, most_ahead=ahead, with_digests=with_digests)
    with contextlib.closing(read), console.track("scores", len(samples), unit="image") as progress:
        for part in loaded.scores_of_images((each, each.images) for each in read):
            progress.update(len(part))
            yield from part


def score_files(
    loaded: LoadedDetector,
    samples: Sequence[SampleFile],
    out: pathlib.Path,
    rule: Rule,
    *,
    only_anomalies: bool = False,
    heat_maps: HeatMaps | None = None,
) -> Summary:
    """Writes a line for each sample to a file, in order; the file appears once all are scored.

    Args:
        out: ends in .csv or .jsonl.
        only_anomalies: leave out samples that are not flagged; those that cannot be read stay.
        heat_maps: gets the samples that have a line with scores.

    Raises:
        UserError: if the file cannot be written.
        DegenerateDataError: if a score is not finite.
    """
    summary = Summary()
    with files.replacing(out) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        write = _writer(file, out.suffix, loaded.detector.preprocessing.patches is not None)
        with contextlib.closing(_write_lines(loaded, samples, rule, write, summary, only_anomalies)) as written:
            if heat_maps is not None:
                summary.errors |= heat_maps.write(written)
            for _ in written:
                pass
    return summary


def _write_lines(
    loaded: LoadedDetector,
    samples: Sequence[SampleFile],
    rule: Rule,
    write: Callable[[dict[str, Any]], None],
    summary: Summary,
    only_anomalies: bool,
) -> Iterator[ReadSample]:
    """Writes lines as `score_files`, and counts them in `summary`; yields the samples that have one with scores."""
    calibration_scores = None if loaded.calibration is None else np.sort(loaded.calibration.scores_of(rule.detector))
    has_patches = loaded.detector.preprocessing.patches is not None
    for sample, rows in scored_samples(loaded, samples):
        line = _line(sample, rows, rule, calibration_scores)
        if has_patches and rows:
            line |= _deciding(sample, rows[rule.detector])
        _count(summary, sample, line, rule)
        if sample.error or not only_anomalies or line["decision"] == ANOMALOUS:
            write(line)
            if not sample.error:
                yield sample


def _line(sample: ReadSample, rows: Rows, rule: Rule, calibration_scores: np.ndarray | None) -> dict[str, Any]:
    """Returns what is written about a sample, without what is unknown."""
    if sample.error:
        return {"path": sample.file.path, "decision": None, "error": sample.error}
    scores = largest(rows)
    score, decision, p_value = scores[rule.detector], None, None
    if calibration_scores is not None:
        p_value = float(conformal.p_values(calibration_scores, np.array([score]))[0])
    if rule.threshold is not None:
        decision = ANOMALOUS if score > rule.threshold else NORMAL
    return {"path": sample.file.path, **scores, "p_value": p_value, "decision": decision}


def _deciding(sample: ReadSample, values: np.ndarray) -> dict[str, Any]:
    """Returns the view and the patch that a sample's score comes from."""
    deciding = int(np.argmax(values))
    return {"view": str(sample.views[deciding]), "patch": sample.boxes[deciding].tolist()}


def _writer(file: TextIO, suffix: str, has_patches: bool) -> Callable[[dict[str, Any]], None]:
    names = ["path", *DETECTORS, "p_value", "decision", *(["view", "patch"] if has_patches else []), "error"]
    if suffix == ".jsonl":
        return lambda line: file.write(json.dumps({name: line.get(name) for name in names}) + "\n") and None
    writer = csv.writer(file)
    writer.writerow(names)
    return lambda line: writer.writerow([_as_cell(line.get(name)) for name in names])


def _as_cell(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)


def _count(summary: Summary, sample: ReadSample, line: dict[str, Any], rule: Rule) -> None:
    if sample.error:
        summary.errors[sample.file.path] = sample.error
        return
    summary.num_scored += 1
    summary.num_anomalous += line["decision"] == ANOMALOUS
    summary.scores.append(line[rule.detector])
    summary.properties += sample.properties


def warn_if_unlike(loaded: LoadedDetector, summary: Summary, detector: str) -> None:
    """Warns if pictures that were scored look unlike the calibration images: p-values then mean nothing."""
    calibration = loaded.calibration
    if calibration is None:
        return
    # By picture on both sides: which of the scored ones belong together is not known.
    p_value = conformal.exchangeability(calibration.scores[detector], np.array(summary.scores))
    if p_value < _SUSPICIOUS:
        console.warn(
            f"the {detector} scores look unlike those of the calibration images (p = {p_value:.2g}): most of these "
            "images are anomalous, or camera, light or product have changed. Do not trust p-values and the false-alarm "
            "rate before you have looked at the images"
        )
    if calibration.properties is not None:
        for difference in calibration_lib.unlike(calibration.properties, np.array(summary.properties)):
            console.warn(f"the images differ from the calibration images: {difference}. Do not trust p-values")


def recalibrate(loaded: LoadedDetector, samples: Sequence[SampleFile], *, by_folder: bool) -> tuple[Calibration, dict]:
    """Scores new normal samples, and keeps them in the run's folder, where they take the place of its own.

    The scale of heat maps is measured on them, too.

    Args:
        by_folder: samples of one folder are one group; equal pictures always are.

    Returns:
        The new calibration samples, and why others could not be read, by path.

    Raises:
        UserError: if none can be read, or the folder cannot be written.
    """
    ids, groups, digests, properties, errors = [], [], [], [], {}
    found: dict[str, list[float]] = {name: [] for name in DETECTORS}
    places: dict[str, list[np.ndarray]] = {name: [] for name in DETECTORS}  # of heat maps
    num_places = 0
    for sample, rows, maps in _explained_samples(loaded, samples):
        if sample.error:
            errors[sample.file.path] = sample.error
            continue
        ids.append(sample.file.path)
        groups.append(sample.file.group if by_folder else sample.file.path)
        digests.append(sample.digests)
        properties += sample.properties
        scores = largest(rows)
        for name in DETECTORS:
            found[name].append(scores[name])
            if num_places < _MOST_PLACES:
                places[name].append(maps[name].ravel())
        num_places += maps[DETECTORS[0]].size
    if not ids:
        raise UserError("none of the images can be read, so there is nothing to calibrate on")
    calibration = Calibration(
        ids,
        {name: np.array(values, np.float32) for name, values in found.items()},
        joined_groups(groups, digests),
        np.array(properties),
        digest_of_detector(loaded.run, loaded.configuration),
    )
    later = loaded.run / calibration_lib.LATER
    scales = heat_maps_lib.scales_of({name: np.concatenate(values) for name, values in places.items()})
    heat_maps_lib.write_scales(later, loaded.configuration, scales)
    calibration_lib.write(later, loaded.configuration, calibration)
    return calibration, errors


def _explained_samples(
    loaded: LoadedDetector, samples: Sequence[SampleFile]
) -> Iterator[tuple[ReadSample, Rows, Rows]]:
    """Yields samples, their scores as `scored_samples`, and maps [P, h, w] of the images, by detector."""
    scored = scored_samples(loaded, samples, with_digests=True)
    stacks = (((sample, rows), sample.images) for sample, rows in scored)
    for part in loaded.maps_of_images(stacks, DETECTORS):
        for (sample, rows), maps in part:
            yield sample, rows, maps


def threshold_of(loaded: LoadedDetector, detector: str, false_alarm_rate: float) -> float:
    """Returns the threshold of a rate, as `LoadedDetector.threshold`; every error is a UserError."""
    try:
        return loaded.threshold(false_alarm_rate, detector)
    except DegenerateDataError as error:
        raise UserError(f"{loaded.run}, {loaded.configuration}: {error}") from error
