"""Scores image files with the detector of a finished run, and flags those that are anomalous.

    python -m brittle_jax.score --run=DIR --images=DIR --out=FILE.csv

Each image gets a line, in order: its path, four scores, a p-value and a decision. Images that cannot be read get a line
that says why, and the exit code is 3. Several files may follow: --images A.png B.png. --heatmaps=DIR also shows where
in each image its score comes from. With --recalibrate=DIR instead of --images, the run is calibrated on the new normal
images in DIR, for p-values, thresholds and the scale of heat maps.
"""

import math
import pathlib
import sys
from typing import Any

from absl import flags

from brittle_jax import command_line, console
from brittle_jax.errors import UserError
from brittle_jax.published import DETECTORS
from brittle_jax.text import nearest

_FALSE_ALARM_RATE = 0.05
_MOST_ERRORS = 20  # to name


def define_flags(flag_values: flags.FlagValues) -> None:
    """Defines the flags of this command."""
    texts = {
        "run": "folder of a finished run",
        "images": "folder of images, or an image file; more may follow",
        "out": "file to write: .csv, or .jsonl for a JSON object in each line",
        "heatmaps": "folder for heat maps of what --out lists: an overlay and a mask for each image",
        "configuration": "which of the run's detectors, such as unimodal/airplane (default: the only one)",
        "detector": "which score decides: kd, mse, mahalanobis_diag or mahalanobis_full (default: the recommended one)",
        "recalibrate": "folder of new normal images to calibrate the run on, instead of --images",
        "view_suffixes": "how the file names of a parcel's views end, such as _top,_side (default: as in the run)",
    }
    for name, text in texts.items():
        flags.DEFINE_string(name, None, text, flag_values=flag_values)
    flags.DEFINE_enum(
        "group_by", "image", ["image", "folder"], "with --recalibrate: what counts as one", flag_values=flag_values
    )
    flags.DEFINE_float(
        "false_alarm_rate",
        None,
        f"share of normal images that may be flagged (default: {_FALSE_ALARM_RATE})",
        flag_values=flag_values,
    )
    flags.DEFINE_float("threshold", None, "flag scores above it; no rate is kept", flag_values=flag_values)
    flags.DEFINE_bool("only_anomalies", False, "leave out images that are not flagged", flag_values=flag_values)


def main(arguments: command_line.Arguments) -> None:
    """Scores images, or calibrates a run."""
    given = arguments.flags
    _check(arguments)
    named = [given["recalibrate"]] if given["recalibrate"] else [given["images"], *arguments.words]
    _check_paths(given["run"], named)
    # These imports take seconds, so they wait until the flags are known to be possible.
    from brittle_jax import runtime

    runtime.set_up()
    from brittle_jax.apply import loaded as loaded_lib
    from brittle_jax.apply import sample_files

    loaded = loaded_lib.load_detector(given["run"], given["configuration"])
    samples = sample_files.list_samples(named, loaded.view_suffixes(given["view_suffixes"]))
    errors = (_recalibrate if given["recalibrate"] else _score)(loaded, samples, given)
    for path, reason in list(errors.items())[:_MOST_ERRORS]:
        console.warn(f"{path}: {reason}")
    if errors:
        console.warn(f"{console.count(len(errors), 'image')} of {len(samples):,} could not be read")
        sys.exit(command_line.EXIT_SKIPPED_INPUTS)


def _check(arguments: command_line.Arguments) -> None:
    """Raises UserError where flags are missing, or do not go together."""
    given = arguments.flags
    if arguments.overrides:
        raise UserError(f"{arguments.overrides[0]}: a finished run has its settings, leave it out")
    if not given["run"]:
        raise UserError("--run is missing: name the folder of a finished run")
    if given["detector"] is not None and given["detector"] not in DETECTORS:
        hint = nearest(given["detector"].lower(), DETECTORS)
        raise UserError(f"--detector={given['detector']} is not one of {', '.join(DETECTORS)}{hint}")
    if given["recalibrate"]:
        for name in ("images", "out", "heatmaps", "threshold", "false_alarm_rate"):
            if given[name] is not None:
                raise UserError(f"--{name} and --recalibrate are given: calibrate first, then score")
        if arguments.words:
            raise UserError(f"{arguments.words[0]!r} is a stray argument: --recalibrate takes one folder")
        return
    for name, what in {"images": "a folder of images", "out": "a file to write, .csv or .jsonl"}.items():
        if not given[name]:
            raise UserError(f"--{name} is missing: name {what}")
    if pathlib.Path(given["out"]).suffix not in (".csv", ".jsonl"):
        raise UserError(f"--out={given['out']}: its name must end in .csv or .jsonl")
    if given["threshold"] is not None and not math.isfinite(given["threshold"]):
        raise UserError(f"--threshold={given['threshold']} is not a score: give a number")
    if given["threshold"] is not None and given["false_alarm_rate"] is not None:
        raise UserError("--threshold and --false_alarm_rate are given: give one of them")
    if given["group_by"] != "image":
        raise UserError("--group_by is given without --recalibrate: groups count in calibration alone")
    if given["heatmaps"] is not None:
        _check_heat_maps(given["heatmaps"], [given["images"], *arguments.words])


def _check_paths(run: str, named: list[str]) -> None:
    """Raises UserError where a path is wrong, seconds before loading the detector would show it."""
    if not pathlib.Path(run).expanduser().is_dir():
        raise UserError(f"{run} is not a folder: name that of a finished run")
    for path in named:
        if not pathlib.Path(path).expanduser().exists():
            raise UserError(f"{path}: no such folder or file")


def _check_heat_maps(named: str, images: list[str]) -> None:
    folder = pathlib.Path(named).expanduser().resolve()
    if not named or folder.exists() and not folder.is_dir():
        raise UserError(f"--heatmaps={named} is not a folder: name one for heat maps, which need not exist")
    for each in images:
        if folder.is_relative_to(pathlib.Path(each).expanduser().resolve()):
            raise UserError(
                f"--heatmaps={named} is inside --images={each}, so heat maps would be scored next time: "
                "name another folder"
            )


def _score(loaded: Any, samples: list, given: dict[str, Any]) -> dict[str, str]:
    """Scores samples; returns why some could not be read, by path."""
    from brittle_jax.apply import explaining, scoring

    out, folder = (given[name] and pathlib.Path(given[name]).expanduser() for name in ("out", "heatmaps"))
    heat_maps = folder and explaining.HeatMaps(loaded, samples, folder, loaded.known(given["detector"]))
    rule, basis = _rule(loaded, given)
    if given["only_anomalies"] and rule.threshold is None:
        raise UserError(
            f"--only_anomalies needs a threshold, but {basis}: use --recalibrate=DIR first, or give --threshold=X"
        )
    console.say(f"{loaded.run}, {loaded.configuration}: {console.count(len(samples), 'image')}; {basis}")
    options = {"only_anomalies": given["only_anomalies"], "heat_maps": heat_maps}
    summary = scoring.score_files(loaded, samples, out, rule, **options)
    scoring.warn_if_unlike(loaded, summary, rule.detector)
    decided = "" if rule.threshold is None else f", {summary.num_anomalous:,} of them anomalous"
    console.say(f"{out}: {console.count(summary.num_scored, 'image')} scored{decided}")
    if heat_maps:
        console.say(f"{folder}: heat maps of {console.count(heat_maps.num_samples, 'image')}, in overlays/ and masks/")
    return summary.errors


def _rule(loaded: Any, given: dict[str, Any]) -> tuple[Any, str]:
    """Returns when an image is flagged, and why, in words."""
    from brittle_jax.apply import scoring
    from brittle_jax.evaluate import conformal

    detector, threshold, rate = given["detector"], given["threshold"], given["false_alarm_rate"]
    detector = loaded.known(detector)
    if threshold is not None:
        return scoring.Rule(detector, threshold), f"anomalous: {detector} above {threshold:g}, as given"
    calibration = loaded.calibration if rate is None else loaded.calibrated()
    if calibration is None:
        console.warn(f"p-values and decisions stay empty: {_reason(loaded.calibrated)}")
        return scoring.Rule(detector, None), "the run has no calibration images"
    is_default = rate is None
    rate = _FALSE_ALARM_RATE if is_default else rate
    if is_default and calibration.num_groups < conformal.num_needed(rate):
        reason = _reason(lambda: scoring.threshold_of(loaded, detector, rate))
        console.warn(f"decisions stay empty: {reason}")
        return scoring.Rule(detector, None), f"{calibration.num_groups} calibration images are too few"
    threshold = scoring.threshold_of(loaded, detector, rate)
    bound = conformal.rate_bound(calibration.num_groups, rate)
    return scoring.Rule(detector, threshold), (
        f"anomalous: {detector} above {threshold:.6g}, a false-alarm rate of {rate:.3g} on average over draws of "
        f"{console.count(calibration.num_groups, 'calibration image')}, and with confidence 95% of at most {bound:.3g}"
    )


def _reason(call: Any) -> str:
    try:
        call()
    except UserError as error:
        return str(error)
    raise AssertionError("no error")


def _recalibrate(loaded: Any, samples: list, given: dict[str, Any]) -> dict[str, str]:
    """Calibrates a run; returns why some samples could not be read, by path."""
    from brittle_jax.apply import scoring

    calibration, errors = scoring.recalibrate(loaded, samples, by_folder=given["group_by"] == "folder")
    groups = calibration.num_groups
    counted = "" if groups == len(calibration) else f", which count as {groups:,}"
    console.say(
        f"{loaded.run / 'recalibration'}: calibrated {loaded.configuration} on "
        f"{console.count(len(calibration), 'image')}{counted}: false-alarm rates from {1 / (groups + 1):.2g} on"
    )
    return errors


if __name__ == "__main__":
    command_line.run(main, define_flags, needs_config=False, takes_rows=True, goes_on=False)
