"""The page of a row: one file that needs nothing beside it, made from what the run wrote to its folder."""

import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import jinja2
from markupsafe import Markup, escape

from brittle_jax import __version__, console, results
from brittle_jax.errors import UserError
from brittle_jax.evaluate.metrics import roc_band
from brittle_jax.report import figures
from brittle_jax.report.figures import to_svg

_DETECTORS = {
    "kd": "KD",
    "mse": "MSE",
    "mahalanobis_diag": "Mahalanobis, diagonal",
    "mahalanobis_full": "Mahalanobis, full",
}
_BAND_SAMPLES = 200


def write_page(folder: pathlib.Path, content: Mapping[str, Any]) -> pathlib.Path:
    """Writes report/index.html, and returns where it is.

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
            configurations.append(_configuration(folder, entry, stages))
            progress.update(1)
    text = (
        _environment()
        .get_template("page.html")
        .render(
            results=content,
            comparisons=results.compare(content),
            is_comparable=not (content["synthetic_data"] or content["reduced"]),
            overview=to_svg(figures.auroc_overview(own, _DETECTORS)) if _has_anomalies(own[0]) else None,
            configurations=configurations,
            shared_curves=_curves({stage: records for stage, records in stages.items() if _owner(stage) not in names}),
            detectors=_DETECTORS,
            version=__version__,
        )
    )
    path = folder / "report" / "index.html"
    try:
        path.parent.mkdir(exist_ok=True)
        partial = path.with_name(f"{path.name}.partial")
        partial.write_text(text, encoding="utf-8")
        partial.rename(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): the results are safe, run again") from error
    return path


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("brittle_jax", "report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["percent"] = lambda fraction: "-" if fraction is None else f"{100 * fraction:.2f}"
    environment.filters["duration"] = console.duration
    environment.filters["moment"] = lambda text: text.replace("T", " ").replace("+00:00", " UTC")
    # A name may be broken after each underscore and slash.
    environment.filters["breakable"] = lambda name: Markup(re.sub("([_/])", r"\1<wbr>", str(escape(name))))
    environment.filters["words"] = lambda name: name.replace("_", " ")
    return environment


def _configuration(folder: pathlib.Path, entry: Mapping[str, Any], stages: Mapping[str, list]) -> dict[str, Any]:
    name = entry["name"]
    labels, scores = results.read_scores(folder / "scores" / f"{name}.csv")
    cards = []
    for detector, title in _DETECTORS.items():
        auroc, interval = entry["auroc"][detector], entry["auroc_interval"][detector]
        roc = None
        if _has_anomalies(entry):
            band = roc_band(labels, scores[detector], num_samples=_BAND_SAMPLES, seed=0)
            roc = to_svg(figures.roc_curve(band, title, name, auroc, interval))
        cards.append(
            {
                "title": title,
                "auroc": auroc,
                "interval": interval,
                "histogram": to_svg(figures.score_histogram(labels, scores[detector], title, name)),
                "roc": roc,
            }
        )
    return {
        "entry": entry,
        "cards": cards,
        "examples": json.loads((folder / "examples" / f"{name}.json").read_text()),
        "curves": _curves({stage: records for stage, records in stages.items() if _owner(stage) == name}),
    }


def _has_anomalies(entry: Mapping[str, Any]) -> bool:
    return entry["num_test_anomalous"] > 0


def _owner(stage: str) -> str:
    """Returns the configuration of a stage such as "distill unimodal/airplane"; empty where all share it."""
    return stage.partition(" ")[2]


def _curves(stages: Mapping[str, list]) -> list[dict[str, Any]]:
    return [
        {"stage": stage, "plot": to_svg(figures.training_curve(records, stage))} for stage, records in stages.items()
    ]
