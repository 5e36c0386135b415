"""What a run says of itself, at its beginning and at its end."""

import pathlib
import shlex
from collections.abc import Mapping
from typing import Any

import ml_collections

from brittle_jax import __version__, console, results
from brittle_jax.data.one_class import Configuration
from brittle_jax.devices import DeviceGroup
from brittle_jax.recipes import other_teacher
from brittle_jax.run import settings
from brittle_jax.run.row import Row

_MOST_FIELDS = 4  # that are named


def say_what_runs(config: ml_collections.ConfigDict, devices: DeviceGroup) -> None:
    """Says which row runs, on which devices, with which teacher and network."""
    word = f" ({config.word})" if config.word else ""
    kinds = sorted(set(devices.kinds))
    own = {"teacher": config.teacher.seed, "student": config.distill.seed}
    seeds = "".join(f", of the {network} {seed}" for network, seed in own.items() if seed >= 0)
    console.say(f"brittle_jax {__version__}: {config.row}{word}, seed {config.seed}{seeds}")
    console.say(f"devices: {devices.size} x {', '.join(kinds)} ({devices.platform})")
    side = settings.preprocessing_of(config).side_pixels
    levels = f" ({config.network.levels})" if config.network.levels else ""
    student = f"; student: {config.network.student}" if config.network.student else ""
    targets = f"; targets: {config.distill.targets}" if config.distill.targets != "raw" else ""
    console.say(
        f"teacher: {config.teacher.task}; network: {config.network.name}{levels}{student}{targets}, on images of "
        f"{side} x {side} pixels"
    )
    if hint := other_teacher(config):
        console.say(hint)


def say_what_was_read(row: Row, splits: Mapping[str, Any]) -> None:
    """Says which data are synthetic, and warns of pictures that both train and test."""
    for synthetic in (each for each in row.datasets if each.synthetic):
        console.say(f"SYNTHETIC DATA: the images of {synthetic.name} are made up; results say nothing about real ones")
    if splits["identical_across_splits"]:
        console.warn(
            f"{console.count(len(splits['identical_across_splits']), 'pair')} of equal pictures on two sides of the "
            "split, splits.json names them: the test is not independent of the training"
        )


def say_configuration(configuration: Configuration, number: int, total: int) -> None:
    """Says which configuration runs now, the `number`th of all."""
    held_back = len(configuration.calibration)
    calibrating = f"{console.count(held_back, 'normal sample')} held back for calibration, " if held_back else ""
    console.say(
        f"[{number}/{total}] {configuration.name}: "
        f"{console.count(len(configuration.train), 'normal training sample')}, {calibrating}"
        f"{console.count(len(configuration.test), 'test sample')}"
    )


def say_finished(folder: pathlib.Path, content: Mapping[str, Any]) -> None:
    """Says that the run in a folder is finished, and where its page is; `content` is that of results.json."""
    page = folder / "report" / "index.html"
    console.say(f"{folder} is finished: see {page} and results.json, or start anew with --overwrite")
    _say_synthetic(content)


def say_results(content: Mapping[str, Any], folder: pathlib.Path) -> None:
    """Says how well anomalies are told apart, what qualifies that, and where everything is."""
    console.say("\nAUROC in percent: how often an anomalous test sample scores higher than a normal one; 50 is chance.")
    console.say("kd compares student and teacher; the others compare the teacher's output with those of normal images.")
    console.say(results.table(content))
    recommended = [entry.get("recommended") for entry in content["configurations"]]
    if len(recommended) == 1 and recommended[0] is not None:  # a run that an earlier version began may lack it
        (recommended,) = recommended
        console.say(f"  recommended: {recommended['detector']}. {recommended['why']}")
    _say_synthetic(content)
    if content["skipped_inputs"]:
        left_out = console.count(len(content["skipped_inputs"]), "sample")
        console.say(f"  WITHOUT {left_out} that cannot be read, see results.json")
    if content["reduced"]:
        fields = list(content["reduced"])
        more = f", and {len(fields) - _MOST_FIELDS} more" if len(fields) > _MOST_FIELDS else ""
        console.say(f"  REDUCED: these settings differ from the recipe: {', '.join(fields[:_MOST_FIELDS])}{more}")
    times = ", ".join(f"{stage} {console.duration(value)}" for stage, value in content["seconds"].items())
    console.say(f"time: {times}")
    console.say(f"page: {folder / 'report' / 'index.html'}")
    console.say(f"results: {folder / 'results.json'}; scores: {folder / 'scores'}; log: tensorboard --logdir={folder}")
    if content["data_path"]:
        command = f"python -m brittle_jax.score --run={shlex.quote(str(folder))} --images=DIR --out=scores.csv"
        console.say(f"to score new images: {command}")


def say_results_over_seeds(content: Mapping[str, Any], folder: pathlib.Path) -> None:
    """Says what the runs of a repeated row have in common, and where everything is."""
    seeds = ", ".join(str(each["seed"]) for each in content["runs"])
    console.say(f"\nMeans over seeds {seeds}; AUROC and accuracy in percent.")
    console.say(results.table_over_seeds(content))
    _say_synthetic(content)
    console.say(f"page: {folder / 'report' / 'index.html'}")
    console.say(f"results: {folder / 'results.json'}; runs: {folder / content['runs'][0]['folder']} and so on")


def _say_synthetic(content: Mapping[str, Any]) -> None:
    if content["synthetic_data"]:
        console.say("  on SYNTHETIC data: not comparable with the published numbers")
