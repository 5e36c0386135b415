"""Chooses a teacher and a detector from normal pictures alone: runs the candidates, measures them, and decides."""

import math
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from brittle_jax import console, files
from brittle_jax.config import completed
from brittle_jax.devices import DeviceGroup
from brittle_jax.errors import UserError
from brittle_jax.evaluate import selection, statistics
from brittle_jax.evaluate.selection import Standing, Trial
from brittle_jax.run import candidates as candidates_lib
from brittle_jax.run import estimates, workdir
from brittle_jax.run.candidates import Candidate
from brittle_jax.run.estimate import Estimate
from brittle_jax.run.job import Job

FORMAT_VERSION = 1
SUMMARY = "choose.json"
_LEAST_HELD_BACK = 10  # pictures, without which an AUROC says nothing
_OTHER_CHOICE = "this choice began with other settings or images, name another --out"
_ONLY_REFERENCES = "no candidate can be chosen: random is a reference only; name another teacher"


def choose(
    candidates: Sequence[Candidate],
    pictures: pathlib.Path,
    folder: pathlib.Path,
    *,
    anomalies: Mapping[str, Sequence[pathlib.Path]],
    budget_seconds: float | None,
    most_pictures: int,
    num_students: int,
    seed: int,
    estimate_of: Callable[[Job], Estimate] = estimates.estimate_apart,
) -> dict[str, Any]:
    """Runs all candidates, and decides among them and their detectors.

    Candidates that are finished in the folder are not run again.

    Args:
        pictures: folder with the normal pictures in `normal`.
        folder: of the choice; each candidate has a run in `candidates/NAME`.
        anomalies: files of each kind of real anomalies; they are scored after the choice, and change nothing in it.
        budget_seconds: for all runs together; the costliest candidates are dropped until the estimates keep it.
        most_pictures: for selection and for the test, each.
        num_students: of each candidate; their brittleness is compared, and the first one is the detector.
        seed: of splits, networks and synthetic anomalies.

    Returns:
        The content of choose.json, which is written, too.

    Raises:
        UserError: if a candidate or an anomaly cannot be used, or too few pictures are held back, or the budget keeps
            none.
    """
    if all(each.is_reference for each in candidates):
        raise UserError(_ONLY_REFERENCES)
    candidates_lib.check_anomalies(anomalies, candidates[0].config)
    devices = DeviceGroup()
    num_held_back = min(candidates_lib.prepare(candidates, pictures, seed, devices), most_pictures)
    if num_held_back < _LEAST_HELD_BACK:
        raise UserError(
            f"{console.count(num_held_back, 'picture')} would be held back to choose by, fewer than "
            f"{_LEAST_HELD_BACK}: give more normal pictures"
        )
    folders = {each.name: folder / "candidates" / each.name for each in candidates}
    kept, dropped = _within_budget(candidates, folders, budget_seconds, estimate_of)
    for each in kept:
        workdir.check(folders[each.name], completed(each.config), overwrite=False, advice=_OTHER_CHOICE)
    measured, trials = [], {}
    for number, candidate in enumerate(kept, 1):
        console.say(f"[{number}/{len(kept)}] candidate {candidate.name}")
        began = time.monotonic()
        with console.silenced():  # each would say which detector it recommends, which is not the choice
            content = candidates_lib.run(candidate, folders[candidate.name], devices)
        held_back = candidates_lib.held_back(folders[candidate.name], pictures, most=most_pictures, seed=seed)
        took = max(time.monotonic() - began, sum(content["seconds"].values()))
        figures, tried = candidates_lib.measure(candidate, folders[candidate.name], content, held_back, seed, took)
        with console.silenced():
            more = candidates_lib.run_more_students(candidate, folders[candidate.name], num_students, devices)
        figures["brittleness_of_students"] = [figures["brittleness"], *more]
        console.say(f"  {console.duration(figures['seconds'])}; its page: {folders[candidate.name]}/report/index.html")
        measured.append(figures)
        if not candidate.is_reference:
            trials |= {f"{candidate.name}, {detector}": trial for detector, trial in tried.items()}
    content = {
        "format_version": FORMAT_VERSION,
        "pictures": str(pictures),
        "seed": seed,
        "num_pictures": {name: len(getattr(held_back, name)) for name in ("selection", "test")},
        "candidates": measured,
        "dropped": dropped,
        **decide(measured, trials, seed),
        "regrets": {},
    }
    if anomalies:
        for figures in measured:
            found = candidates_lib.against_anomalies(folders[figures["name"]], held_back, anomalies)
            figures["anomalies"] = found
        content["regrets"] = regrets(content)
    files.write_json(folder / SUMMARY, content)
    return content


def decide(measured: Sequence[Mapping[str, Any]], trials: Mapping[str, Trial], seed: int) -> dict[str, Any]:
    """Decides by synthetic anomalies, and says what brittleness would choose where it can be compared.

    Args:
        measured: of each candidate, as `candidates.measure` returns it; brittleness at equal error is added.
        trials: by candidate and detector, of those that can be chosen.
    """
    if not trials:
        raise UserError(_ONLY_REFERENCES)
    standings = selection.rank_by_synthetic(trials, seed=seed)
    best = standings[0]
    candidate, detector = best.name.split(", ")
    return {
        "choice": {
            "candidate": candidate,
            "detector": detector,
            "auroc": best.auroc,
            "interval": list(best.interval),
            "too_close": [each.name for each in standings[1:] if each.is_too_close],
        },
        "standings": [_as_json(each) for each in standings],
        "brittleness": [_of_group(group, measured, standings) for group in dict.fromkeys(e["group"] for e in measured)],
    }


def _of_group(group: str, measured: Sequence[Mapping[str, Any]], standings: Sequence[Standing]) -> dict[str, Any]:
    """Compares brittleness within a group, at the error that all of its students reach; random is not chosen."""
    members = [each for each in measured if each["group"] == group]
    ratio = candidates_lib.common_error_ratio(members)
    values = {each["name"]: _brittleness_at(each, ratio) for each in members}
    eligible = {each["name"]: values[each["name"]] for each in members if not each["is_reference"]}
    chosen = max(eligible, key=eligible.get) if len(eligible) > 1 and None not in eligible.values() else None
    of_kd = [each.name.split(", ")[0] for each in standings if each.name.endswith(", kd")]
    by_synthetic = next((name for name in of_kd if name in eligible), None)
    return {
        "group": group,
        "error_ratio": ratio,
        "values": values,
        "choice": chosen,
        "synthetic_choice": by_synthetic,
        "agrees": None if chosen is None else chosen == by_synthetic,
    }


def _brittleness_at(figures: Mapping[str, Any], ratio: float | None) -> float | None:
    if ratio is None:
        return None
    points = [each for each in figures["course"] if each["error_ratio"]]
    ratios, values = (np.array([each[name] for each in points]) for name in ("error_ratio", "brittleness"))
    return statistics.value_at(ratios, values, ratio)


def regrets(content: Mapping[str, Any]) -> dict[str, float]:
    """Returns what each rule costs on the real anomalies, in mean AUROC over their kinds.

    The rules choose among all pairs of a candidate and a detector, random left out; that of rotations among those whose
    own task they are not. Brittleness chooses among the KD detectors of each group, and so do the others there.
    """
    synthetic = {each["name"]: each["auroc"] for each in content["standings"]}
    pairs = [
        {
            "candidate": each["name"],
            "detector": detector,
            "auroc": sum(kinds.values()) / len(kinds),
            "synthetic anomalies": synthetic[f"{each['name']}, {detector}"],
            "rotations": (each["rotations"] or {}).get(detector, np.nan),
        }
        for each in content["candidates"]
        if not each["is_reference"]
        for detector, kinds in each["anomalies"].items()
    ]
    found = _regrets(pairs, ["synthetic anomalies"])
    turned = [each for each in pairs if not np.isnan(each["rotations"])]
    best = max(each["auroc"] for each in pairs)
    if turned:
        found["rotations"] = best - max(turned, key=lambda each: each["rotations"])["auroc"]
    for group in content["brittleness"]:
        if group["choice"] is not None:
            members = [
                {**each, "brittleness": group["values"][each["candidate"]]}
                for each in pairs
                if each["detector"] == "kd" and each["candidate"] in group["values"]
            ]
            of_group = _regrets(members, ["brittleness", "synthetic anomalies"])
            found |= {f"{rule}, KD, {group['group']}": value for rule, value in of_group.items()}
    return found


def _regrets(pairs: Sequence[Mapping[str, Any]], rules: Sequence[str]) -> dict[str, float]:
    if len(pairs) < 2:
        return dict.fromkeys([*rules, "at random"], 0.0)
    columns = {name: np.array([each[name] for each in pairs]) for name in ("auroc", *rules)}
    return {rule: each.of_all for rule, each in statistics.regrets(columns, "auroc", rules).items()}


def _within_budget(
    candidates: Sequence[Candidate],
    folders: Mapping[str, pathlib.Path],
    budget_seconds: float | None,
    estimate_of: Callable[[Job], Estimate],
) -> tuple[list[Candidate], list[dict[str, Any]]]:
    """Returns the candidates that fit, and those that were dropped with their estimates; finished ones cost nothing."""
    if budget_seconds is None:
        return list(candidates), []
    seconds = {}
    for candidate in candidates:
        finished = workdir.is_finished(folders[candidate.name])
        job = Job(candidate.name, folders[candidate.name], candidate.config)
        seconds[candidate.name] = 0.0 if finished else estimate_of(job).seconds
        console.say(f"  {candidate.name}: about {console.duration(seconds[candidate.name])}")
    kept, dropped = list(candidates), []
    while kept and math.fsum(seconds[each.name] for each in kept) > budget_seconds:
        costliest = max(kept, key=lambda each: seconds[each.name])
        kept.remove(costliest)
        dropped.append({"name": costliest.name, "seconds": seconds[costliest.name]})
        time_needed = console.duration(seconds[costliest.name])
        console.warn(f"{costliest.name} would take about {time_needed}: dropped, to keep the budget")
    if not any(not each.is_reference for each in kept):
        raise UserError("the budget keeps no candidate: raise --budget, or name a cheaper teacher")
    return kept, dropped


def _as_json(standing: Standing) -> dict[str, Any]:
    return {
        "name": standing.name,
        "auroc": standing.auroc,
        "interval": list(standing.interval),
        "behind": standing.behind,
        "behind_interval": list(standing.behind_interval),
        "is_too_close": standing.is_too_close,
    }
