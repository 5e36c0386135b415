"""The finished runs below a folder: found, read as far as tables and figures need them, and what had to be left out."""

import dataclasses
import math
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from brittle_jax import files
from brittle_jax.errors import DamagedError
from brittle_jax.published import DETECTORS
from brittle_jax.report.paper.layout import is_paper_row
from brittle_jax.results import FORMAT_VERSION

# Settings that do not make another measurement: which classes were run, which parcels a seed draws, how fast it went.
_NOT_REDUCING = {"data.configurations", "data.parcels.seed", "evaluate.batch_size", "evaluate.bootstrap_samples"}
# Readings that earlier versions did not record, as they had no other.
_OF_EARLIER_VERSIONS = {"targets": "raw"}
# Fields of a configuration's entry that are read, and the numbers in them.
_READ = ("name", "auroc", "brittleness", "gradient_norm", "error_trace", "probe", "distillation")
_READ_OF_DISTILLATION = ("loss", "mean_predictor_loss", "movement", "recipe_movement")
_READ_ON_THE_WAY = ("update_steps", "error_ratio", "kd_auroc", "brittleness")


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run: one seed of one row, over some of its configurations.

    Attributes:
        name: its folder below the folder of all runs.
        entries: the entries of `configurations` in its results.json, by name.
        seeds: those of the splits, the teacher and the student, and of made-up parcels.
        reduced: the settings in which it leaves its row's recipe, each with the value that was used; without those
            that leave the numbers of a configuration as they are.
        measurement: how the paper's open points were read.
    """

    name: str
    folder: pathlib.Path
    row: str
    dataset: str
    synthetic: bool
    data_path: str | None
    seeds: tuple[tuple[str, int], ...]
    reduced: Mapping[str, Any]
    measurement: Mapping[str, Any]
    entries: Mapping[str, Mapping[str, Any]]
    random_on_same_test: Mapping[str, Mapping[str, Any]]
    num_skipped: int
    finished_at: str

    @property
    def is_own_data(self) -> bool:
        """Whether the images are the user's; Plant Pathology is named by its folder too, and is the paper's."""
        return bool(self.data_path) and self.dataset != "plant_pathology"

    @property
    def is_of_paper(self) -> bool:
        """Whether it is of a row of the paper, whatever its images are."""
        return is_paper_row(self.row)

    @property
    def page(self) -> pathlib.Path:
        """Where its own page is."""
        return self.folder / "report" / "index.html"


class Collection(NamedTuple):
    """What was found below a folder.

    Attributes:
        runs: finished ones, by name.
        left_out: why a run could not be read, by name.
    """

    runs: list[Run]
    left_out: dict[str, str]


def collect(folder: pathlib.Path) -> Collection:
    """Reads results.json of all finished runs below a folder; of a repeated row, that of each seed.

    Nothing else in a run's folder is opened. Hidden folders and links to folders are passed over.
    """
    runs, left_out = [], {}
    for run_folder, is_finished in sorted(_runs_below(folder)):
        name = run_folder.relative_to(folder).as_posix()
        name = folder.resolve().name if name == "." else name
        if not is_finished:
            left_out[name] = "unfinished"
            continue
        try:
            content = files.read_json(run_folder / "results.json")
            if _is_repeated(content):
                left_out |= {
                    f"{name}/{each}": "its results are missing, though its row lists it"
                    for each in _folders_of_seeds(content)
                    if not (run_folder / each / "results.json").is_file()
                }
                continue  # its seeds are runs of their own
            runs.append(_run(name, run_folder, content))
        except DamagedError as error:
            left_out[name] = f"results.json is damaged ({error.reason})"
        except _OtherFormatError as error:
            left_out[name] = str(error)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            left_out[name] = f"results.json is damaged (not the results of a run: {type(error).__name__}, {error})"
    return Collection(runs, left_out)


class _OtherFormatError(Exception):
    """The results were written by another version of this software."""


def _runs_below(folder: pathlib.Path) -> Iterator[tuple[pathlib.Path, bool]]:
    """Yields the folders of runs, and whether each is finished; inside of a run, only folders of seeds are entered."""
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        is_finished = "results.json" in names
        if is_finished or ("config.json" in names and _is_config(pathlib.Path(parent, "config.json"))):
            folders[:] = [name for name in folders if name.startswith("seed-")]
            yield pathlib.Path(parent), is_finished


def _is_config(path: pathlib.Path) -> bool:
    """Returns whether a file is, or was, the settings of a run: other software has files of this name, too."""
    try:
        content = files.read_json(path)
    except DamagedError:
        return True
    return isinstance(content, dict) and {"row", "data.name"} <= content.keys()


def _is_repeated(content: Any) -> bool:
    return isinstance(content, dict) and isinstance(content.get("runs"), list)


def _folders_of_seeds(content: Mapping[str, Any]) -> list[str]:
    return [str(run["folder"]) for run in content["runs"]]


def _run(name: str, folder: pathlib.Path, content: Mapping[str, Any]) -> Run:
    """Returns the run that a results.json describes; raises one of several errors where it does not."""
    version = content["format_version"]
    if version != FORMAT_VERSION:
        raise _OtherFormatError(
            f"results.json has format version {version}; this version of brittle_jax reads {FORMAT_VERSION}"
        )
    entries = {str(entry["name"]): _checked(entry) for entry in content["configurations"]}
    if not entries:
        raise ValueError("no configurations")
    if len(entries) < len(content["configurations"]):
        raise ValueError("two configurations have the same name")
    reduced = {str(setting): used for setting, (_, used) in content["reduced"].items()}
    seeds = dict(content.get("seeds") or {"splits": content["seed"]})
    seeds |= {"parcels": reduced["data.parcels.seed"]} if "data.parcels.seed" in reduced else {}
    return Run(
        name=name,
        folder=folder,
        row=str(content["row"]),
        dataset=str(content["dataset"]),
        synthetic=bool(content["synthetic_data"]),
        data_path=content.get("data_path"),
        seeds=tuple(sorted((str(what), int(seed)) for what, seed in seeds.items())),
        reduced={setting: used for setting, used in reduced.items() if setting not in _NOT_REDUCING},
        measurement=_OF_EARLIER_VERSIONS | content["measurement"],
        entries=entries,
        random_on_same_test={str(entry["name"]): _checked(entry) for entry in content.get("random_on_same_test", ())},
        num_skipped=len(content.get("skipped_inputs", ())),
        finished_at=str(content.get("finished_at", "")),
    )


def _checked(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns an entry of a configuration; raises an error where a number that tables need is missing or is none."""
    kept = {name: entry.get(name) for name in _READ}
    aurocs = [entry["auroc"][detector] for detector in DETECTORS]
    probe, distillation = kept["probe"] or {}, kept["distillation"] or {}
    points = distillation.get("course") or ()
    numbers = [
        *(entry["brittleness"], kept["gradient_norm"], kept["error_trace"], probe.get("accuracy")),
        *(distillation.get(name) for name in _READ_OF_DISTILLATION),
        *(point.get(name) for point in points for name in _READ_ON_THE_WAY),
    ]
    for value in (*aurocs, *numbers):
        if value is not None and not math.isfinite(value):
            raise ValueError(f"a number of {entry['name']} is not finite")
    if not all(value is None or 0 <= value <= 1 for value in aurocs):
        raise ValueError(f"AUROC of {entry['name']} is not between 0 and 1")
    return kept
