"""The page of a row: one file that needs nothing beside it, made from what the run wrote to its folder."""

import functools
import pathlib
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jinja2
import numpy as np
from markupsafe import Markup

from brittle_jax import __version__, console, files, results
from brittle_jax.errors import MISSING, DamagedError, UserError
from brittle_jax.evaluate import calibration as calibration_lib
from brittle_jax.evaluate import conformal
from brittle_jax.evaluate.calibration import Calibration
from brittle_jax.evaluate.metrics import roc_band
from brittle_jax.report import figures, words
from brittle_jax.report.examples import DETECTOR, Examples, read_examples
from brittle_jax.report.figures import to_svg

_DETECTORS = {
    "kd": "KD",
    "mse": "MSE",
    "mahalanobis_diag": "Mahalanobis, diagonal",
    "mahalanobis_full": "Mahalanobis, full",
}
_COURSE_PLOTS = {"kd_auroc": ("KD AUROC, %", 100), "error_ratio": ("error ratio", 1), "brittleness": ("brittleness", 1)}
_LOSSES = ("loss", "mean_predictor_loss")
_NORMS = {"l2": "L2", "linf": "L∞"}
_BAND_SAMPLES = 200
_RANKED_SAMPLES = 2000  # on one page, over all configurations
_NAMED_KINDS = 4  # in a heading

_Content = TypeVar("_Content")


def write_page(folder: pathlib.Path, content: Mapping[str, Any]) -> pathlib.Path:
    """Writes report/index.html, and returns where it is.

    What a run of an earlier version did not record is left out; so is what is missing or damaged in the folder, with
    a warning and a line on the page.

    Args:
        folder: of a run, with its scores, examples and metrics.
        content: of its results.json.
    """
    stages = results.read_metrics(folder)
    own = [*content["configurations"], *content["random_on_same_test"]]
    names = {entry["name"] for entry in own}
    configurations = []
    with console.track("page", len(own), unit="configuration") as progress:
        for entry in own:
            configurations.append(_configuration(folder, entry, stages, content, _RANKED_SAMPLES // len(own)))
            progress.update(1)
    comparisons = results.compare(content)
    text = render(
        "page.html",
        results=content,
        title=_title(content),
        is_own_data=_is_own_data(content),
        comparisons=comparisons,
        kinds_are_above={comparison.title for comparison in comparisons if comparison.by_kind},
        headings={each["entry"]["name"]: each["heading"] for each in configurations},
        is_comparable=not (content["synthetic_data"] or content["reduced"] or _is_own_data(content)),
        overview=to_svg(figures.auroc_overview(own, _DETECTORS)) if _has_anomalies(own[0]) else None,
        configurations=configurations,
        score_command=_score_command(folder, [entry["name"] for entry in content["configurations"]]),
        shared_curves=_curves({stage: records for stage, records in stages.items() if _owner(stage) not in names}),
    )
    return save(folder, text)


def render(template: str, **values: Any) -> str:
    """Returns the text of a page from a template of this folder, which also knows the version and the detectors."""
    return _environment().get_template(template).render(version=__version__, detectors=_DETECTORS, **values)


def save(folder: pathlib.Path, text: str) -> pathlib.Path:
    """Writes the text of a page to report/index.html, with its digest; returns where it is."""
    path = folder / "report" / "index.html"
    try:
        # A path may have bytes that are no text.
        files.write_text(path, text.encode(errors="backslashreplace").decode())
    except (OSError, UserError) as error:
        if isinstance(error, OSError):  # the disk is full
            error = f"{error.strerror}: free some space, then run the same command again"
        raise UserError(f"the results are safe, but not their page: {error}") from None
    files.write_manifest(path.parent, files.digests_of(path.parent))
    return path


def is_sound(folder: pathlib.Path) -> bool:
    """Returns whether the page of the run in a folder is there, and as it was written."""
    return files.is_as_listed(folder / "report", "index.html")


@functools.cache  # it keeps the templates that it has compiled
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("brittle_jax", "report", encoding="utf-8"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["percent"] = lambda fraction: "-" if fraction is None else f"{100 * fraction:.2f}"
    environment.filters["five_decimals"] = lambda number: "-" if number is None else f"{number:.5f}"
    environment.filters["plain"] = lambda number: f"{number:.10g}"
    environment.filters["score"] = lambda score: f"{score:#.4g}".rstrip(".")
    environment.filters["duration"] = console.duration
    environment.filters["moment"] = lambda text: text.replace("T", " ").replace("+00:00", " UTC")
    environment.filters["breakable"] = words.breakable
    environment.filters["shortened"] = words.shortened
    environment.filters["counted"] = console.count
    environment.filters["words"] = lambda name: name.replace("_", " ")
    environment.globals["worst_kinds_first"] = results.worst_kinds_first
    environment.globals["how_far_in_words"] = results.how_far_in_words
    return environment


def _is_own_data(content: Mapping[str, Any]) -> bool:
    """Returns whether the pictures are the user's; Plant Pathology is named by its folder too, and is the paper's."""
    return bool(content.get("data_path")) and content["dataset"] != "plant_pathology"


def _title(content: Mapping[str, Any]) -> str:
    if not _is_own_data(content):
        return content["row"]
    return pathlib.PurePath(content["data_path"]).name or content["data_path"]


def _configuration(
    folder: pathlib.Path,
    entry: Mapping[str, Any],
    stages: Mapping[str, list],
    content: Mapping[str, Any],
    num_ranked: int,
) -> dict[str, Any]:
    name = entry["name"]
    missing: list[str] = []

    def read(reader: Callable[[pathlib.Path], _Content], file: str) -> _Content | None:
        try:
            return reader(folder / file)
        except UserError as error:
            console.warn(str(error))
            missing.append(file)
            return None

    samples = read(lambda path: _read_samples(path, entry), f"scores/{name}.csv")
    calibration = None
    if "calibration" in entry:
        calibration = read(lambda path: _read_calibration(path.parent.parent, name), f"calibration/{name}.csv")
    examples = read(read_examples, f"examples/{name}.json")
    norms = None
    if "brittleness_interval" in entry:  # which earlier versions did not measure
        norms = read(results.read_gradient_norms, f"brittleness/{name}.npz")
    kinds = _kinds(examples, samples)
    detector = DETECTOR if examples is None else examples.detector
    return {
        "entry": entry,
        "heading": _heading(entry, content, kinds),
        "missing": missing,
        "examples": examples,
        "view_ratio": _view_ratio(examples),
        "plots": [] if samples is None else _plots(entry, samples),
        "detector": detector,
        "ranking": None if samples is None else _ranking(samples, kinds, calibration, detector, num_ranked),
        "recommended": results.recommended_detector(entry),
        "curves": _curves({stage: records for stage, records in stages.items() if _owner(stage) == name}),
        "brittleness_plots": [] if norms is None else _brittleness_plots(norms, entry),
        "attacks": _attacks(entry),
        "course": _course(entry["distillation"].get("course", [])),
        "error_ratio": results.error_ratio(**{name: entry["distillation"][name] for name in _LOSSES}),
    }


def _read_samples(path: pathlib.Path, entry: Mapping[str, Any]) -> results.SampleScores:
    samples = results.read_scores(path)
    counts = np.bincount(samples.labels, minlength=2).tolist()
    if counts != [entry["num_test_normal"], entry["num_test_anomalous"]] or set(samples.scores) != set(_DETECTORS):
        raise DamagedError(path, "it does not hold the test samples that results.json counts")
    return samples


def _kinds(examples: Examples | None, samples: results.SampleScores | None) -> list[str] | None:
    """Returns the class of each test sample, or None where the run does not tell."""
    if examples is None or samples is None or len(examples.kinds) != len(samples.ids):
        return None
    return examples.kinds


def _heading(entry: Mapping[str, Any], content: Mapping[str, Any], kinds: Sequence[str] | None) -> Markup:
    """Returns the name of a configuration; of pictures of one's own, what is told from what."""
    if not (_is_own_data(content) or content["dataset"] == "image_folder"):
        return words.breakable(entry["name"])
    normal, _, reference = entry["name"].partition("/")
    pictures = f"{normal} pictures" if content["dataset"] == "image_folder" else normal
    against = Markup("against {}").format(_enumerated(entry, normal, kinds)) if _has_anomalies(entry) else "alone"
    return Markup("{} {}{}").format(pictures, against, ", with a random teacher" if reference else "")


def _enumerated(entry: Mapping[str, Any], normal: str, kinds: Sequence[str] | None) -> str:
    names = list(entry.get("by_kind", {})) or sorted(set(kinds or ()) - {normal, "anomalous"})
    if len(names) > _NAMED_KINDS:
        return f"{len(names)} kinds of anomaly"
    return Markup(", ").join(map(words.shortened, names)) or "anomalous ones"


def _view_ratio(examples: Examples | None) -> float:
    """Returns height by width of the room for a view, at most 1: cards are of one height, whatever the pictures are."""
    views = [view for cards in examples.groups.values() for card in cards for view in card.views] if examples else []
    return min(max((view.height / view.width for view in views), default=1), 1)


class _Plots(NamedTuple):
    """How one detector's scores lie, and its ROC curve where there are anomalies."""

    title: str
    auroc: float | None
    interval: Sequence[float] | None
    histogram: str
    roc: str | None


def _plots(entry: Mapping[str, Any], samples: results.SampleScores) -> list[_Plots]:
    name, labels = entry["name"], samples.labels
    plots = []
    for detector, title in _DETECTORS.items():
        auroc, interval, scores = entry["auroc"][detector], entry["auroc_interval"][detector], samples.scores[detector]
        roc = None
        if _has_anomalies(entry):
            band = roc_band(labels, scores, num_samples=_BAND_SAMPLES, seed=0)
            roc = to_svg(figures.roc_curve(band, title, name, auroc, interval))
        histogram = to_svg(figures.score_histogram(labels, scores, title, name))
        plots.append(_Plots(title, auroc, interval, histogram, roc))
    return plots


class _RankedSample(NamedTuple):
    """A line of the ranked list."""

    rank: int
    id: str
    is_anomalous: bool
    kind: str
    scores: list[float]  # in the order of the detectors
    p_value: float | None  # by the detector that ranks; None without calibration samples


def _ranking(
    samples: results.SampleScores,
    kinds: Sequence[str] | None,
    calibration: Calibration | None,
    detector: str,
    num_ranked: int,
) -> dict[str, Any]:
    """Returns the test samples, the most anomalous first; of equal ones in the order that the examples have."""
    positions = np.argsort(samples.scores[detector], kind="stable")[::-1]
    p_values = [None] * len(positions)
    if calibration is not None:
        p_values = conformal.p_values(calibration.scores_of(detector), samples.scores[detector]).tolist()
    ranked = []
    for rank, position in enumerate(positions[:num_ranked], 1):
        is_anomalous = bool(samples.labels[position])
        kind = (kinds[position] if kinds else "anomalous") if is_anomalous else "normal"
        scores = [float(samples.scores[name][position]) for name in _DETECTORS]
        ranked.append(_RankedSample(rank, samples.ids[position], is_anomalous, kind, scores, p_values[position]))
    return {"samples": ranked, "total": len(positions), "has_p_values": calibration is not None}


def _read_calibration(folder: pathlib.Path, configuration: str) -> Calibration:
    """Reads the run's own calibration samples; raises DamagedError where there are none."""
    found = calibration_lib.read(folder / calibration_lib.OWN, configuration)
    if found is None:
        raise DamagedError(folder / calibration_lib.OWN / f"{configuration}.csv", MISSING)
    return found


def _score_command(folder: pathlib.Path, configurations: Sequence[str]) -> str:
    """Returns the command that scores new images with a run's detector, as a shell takes it."""
    named = [f"--configuration={configurations[0]}"] if len(configurations) > 1 else []
    words = ["python", "-m", "brittle_jax.score", f"--run={folder}", *named, "--images=DIR", "--out=scores.csv"]
    return shlex.join(words)


def _has_anomalies(entry: Mapping[str, Any]) -> bool:
    return entry["num_test_anomalous"] > 0


def _owner(stage: str) -> str:
    """Returns the configuration of a stage such as "distill unimodal/airplane"; empty where all share it."""
    return stage.partition(" ")[2]


def _course(points: Sequence[Mapping[str, Any]]) -> list[Markup]:
    """Returns plots of what was measured of a student on the way; what could not be measured has none."""
    steps = [point["update_steps"] for point in points]
    plots = []
    for quantity, (label, factor) in _COURSE_PLOTS.items():
        values = [point[quantity] for point in points]
        if values and None not in values:
            plots.append(to_svg(figures.course(steps, [factor * value for value in values], label)))
    return plots


def _brittleness_plots(norms: results.GradientNorms, entry: Mapping[str, Any]) -> list[Markup]:
    """Returns the histogram of brittleness over images, and its parts by output dimension if they were measured."""
    plots = [figures.brittleness_histogram(norms.of_images / entry["error_trace"], entry["name"])]
    if norms.by_dimension is not None:
        plots.append(figures.brittleness_by_dimension(norms.by_dimension, norms.error_variance, entry["name"]))
    return [to_svg(plot) for plot in plots]


def _attacks(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns plots of what attacks of each norm make of the score; none where it was not attacked."""
    attacks = []
    for name, attack in entry.get("attack", {}).get("norms", {}).items():
        title = _NORMS[name]
        plots = [figures.flagged_under_attack, figures.growth_under_attack]
        if _has_anomalies(entry):
            plots.insert(0, figures.auroc_under_attack)
        attacks.append(
            {
                "title": title,
                "measured": attack,
                "plots": [to_svg(plot(attack, title, entry["name"])) for plot in plots],
            }
        )
    return attacks


def _curves(stages: Mapping[str, list]) -> list[dict[str, Any]]:
    return [
        {"stage": stage, "plot": to_svg(figures.training_curve(records, stage))} for stage, records in stages.items()
    ]
