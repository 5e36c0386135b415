"""A row repeated over several seeds: each has a run of its own, and their results are averaged."""

import contextlib
import functools
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from brittle_jax import console, files, results
from brittle_jax.config import completed, seeds_of
from brittle_jax.devices import DeviceGroup
from brittle_jax.errors import UserError
from brittle_jax.loop import SECONDS_BETWEEN_SAVES
from brittle_jax.report import page, seeds_page
from brittle_jax.run import announcements, experiment, settings, workdir
from brittle_jax.run.holding import Held

_NUMBERS = ("auroc", "brittleness", "probe_accuracy")  # that are averaged


def run(
    config: ml_collections.ConfigDict,
    folder: str,
    *,
    recipe: ml_collections.ConfigDict | None = None,
    overwrite: bool = False,
    devices: DeviceGroup | None = None,
    seconds_between_saves: float = SECONDS_BETWEEN_SAVES,
    wait: bool = True,
) -> dict[str, Any]:
    """Runs a row once for each of its `seeds`, and returns the content of results.json; without `seeds`, runs it once.

    Seed N has a full run in FOLDER/seed-N. After the last, FOLDER gets a results.json and a page, with means, standard
    deviations over seeds and spreads over configurations. Settings and folders of all seeds are checked before the
    first run. A repeated row that was stopped goes on; finished seeds are not run again.

    Arguments and errors are those of `experiment.run`.
    """
    devices = devices or DeviceGroup()
    run_once = functools.partial(
        experiment.run, recipe=recipe, devices=devices, seconds_between_saves=seconds_between_saves, wait=wait
    )
    if not seeds_of(config):
        return run_once(config, folder, overwrite=overwrite)
    config, folder = completed(config), pathlib.Path(folder).expanduser()
    runs = _checked_runs(config, folder, devices, overwrite=overwrite, wait=wait)
    with contextlib.ExitStack() as stack:

        @functools.cache
        def hold() -> Held:
            return stack.enter_context(workdir.opened(folder, config, None, overwrite=overwrite))

        for number, (seed, own) in enumerate(runs.items(), 1):
            console.say(f"seed {seed}, {number} of {len(runs)}")
            own_folder, is_first = workdir.folder_of_seed(folder, seed), number == 1
            # The first run that writes holds the folder; with `overwrite`, that deletes the earlier runs of all seeds.
            run_once(own, own_folder, overwrite=overwrite and is_first, before_writing=hold)
        return _finish(folder, over_seeds(folder, list(runs)), hold)


def _checked_runs(
    config: ml_collections.ConfigDict, folder: pathlib.Path, devices: DeviceGroup, *, overwrite: bool, wait: bool
) -> dict[int, ml_collections.ConfigDict]:
    """Returns the settings of each seed's run; raises UserError where one of them cannot run."""
    lender = config.teacher.from_run
    if lender and folder.resolve() in pathlib.Path(lender).expanduser().resolve().parents:
        raise UserError(f"teacher.from_run={lender} is inside this run's own folder: name another")
    workdir.check(folder, config, overwrite=overwrite)
    runs = {seed: settings.for_seed(config, seed, folder) for seed in seeds_of(config)}
    for seed, own in runs.items():
        experiment.check_settings(own, workdir.folder_of_seed(folder, seed), devices, wait=wait)
        workdir.check(workdir.folder_of_seed(folder, seed), own, overwrite=overwrite)
    return runs


def _finish(folder: pathlib.Path, content: dict[str, Any], hold: Callable[[], Held]) -> dict[str, Any]:
    """Writes results and page, unless they are there already."""
    damage = workdir.damage(folder) if workdir.is_finished(folder) else {}
    if damage:
        console.warn(
            f"{folder} was finished, but has changed since: {workdir.describe_damage(damage)}. It is written again"
        )
    if workdir.is_finished(folder) and not damage and _is_recorded(folder, content):
        if not page.is_sound(folder):
            seeds_page.write_page(folder, content)
        announcements.say_finished(folder, content)
        return content
    hold().check()
    workdir.finish(folder, content)
    seeds_page.write_page(folder, content)
    announcements.say_results_over_seeds(content, folder)
    return content


def _is_recorded(folder: pathlib.Path, content: Mapping[str, Any]) -> bool:
    recorded = files.read_json(folder / "results.json")
    return {name: recorded.get(name) for name in content} == json.loads(files.to_json(content))


def over_seeds(folder: pathlib.Path, seeds: Sequence[int]) -> dict[str, Any]:
    """Returns the content of a repeated row's results.json, from those of its finished runs.

    Means stand where the results of a single run have the numbers themselves. Beside them, `sd_over_seeds` and
    `sd_over_configurations` are sample standard deviations (ddof 1): over seeds, and over the configurations of the
    means over seeds. Either is None if there is but one.
    """
    runs = [files.read_json(workdir.folder_of_seed(folder, seed) / "results.json") for seed in seeds]
    first = runs[0]
    same = ("format_version", "row", "word", "dataset", "data_path", "teacher", "reduced", "published", "measurement")
    entries = _entries([each["configurations"] for each in runs])
    return {
        **{name: first[name] for name in same},
        "synthetic_data": any(each["synthetic_data"] for each in runs),
        "runs": [
            {
                "folder": workdir.folder_of_seed(folder, seed).name,
                **{name: each[name] for name in ("seed", "seeds", "summary", "probe_accuracy")},
            }
            for seed, each in zip(seeds, runs, strict=True)
        ],
        "configurations": entries,
        "summary": {group: _summary(group, entries, runs) for group in first["summary"]},
        "random_on_same_test": _entries([each["random_on_same_test"] for each in runs]),
        "seconds": {stage: sum(each["seconds"].get(stage, 0.0) for each in runs) for stage in first["seconds"]},
        "skipped_inputs": first["skipped_inputs"],
        "finished_at": max(each["finished_at"] for each in runs),
    }


def _measured(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the numbers of a configuration's entry in the results of one run that are averaged."""
    probe = entry["probe"]
    return {
        "auroc": {detector: entry["auroc"][detector] for detector in results.DETECTORS},
        "brittleness": entry["brittleness"],
        "probe_accuracy": None if probe is None else probe["accuracy"],
    }


def _entries(entries_of_runs: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Returns an entry for each configuration, from its entries in each run; all runs have the same configurations."""
    merged = []
    for entries in zip(*entries_of_runs, strict=True):
        numbers = [_measured(entry) for entry in entries]
        named = {name: entries[0][name] for name in ("name", "group")}
        merged.append({**named, **_each(_mean, numbers), "sd_over_seeds": _each(_deviation, numbers)})
    return merged


def _summary(group: str, entries: Sequence[Mapping[str, Any]], runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the entry of a group in `summary`, from the merged entries of configurations, and from the runs."""
    averaged = [{name: entry[name] for name in _NUMBERS} for entry in entries if entry["group"] == group]
    by_run = [
        _each(_mean, [_measured(entry) for entry in each["configurations"] if entry["group"] == group]) for each in runs
    ]
    return {
        "num_configurations": len(averaged),
        **_each(_mean, by_run),
        "sd_over_seeds": _each(_deviation, by_run),
        "sd_over_configurations": _each(_deviation, averaged),
    }


def _each(reduce: Callable[[list[Any]], Any], trees: Sequence[Any]) -> Any:
    """Reduces numbers that stand at the same place in each of several dicts."""
    if isinstance(trees[0], Mapping):
        return {name: _each(reduce, [tree[name] for tree in trees]) for name in trees[0]}
    return None if None in trees else reduce(list(trees))


def _mean(values: list[float]) -> float:
    return float(np.mean(values))


def _deviation(values: list[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None
