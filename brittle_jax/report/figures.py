"""Plots as SVG for a page: text stays text, and colours are the page's own, so that they follow light and dark."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Stand for the page's colours until the SVG is written.
_INK, _NORMAL, _ANOMALOUS = "#010203", "#010204", "#010205"
_PAGE_COLOURS = {_INK: "currentColor", _NORMAL: "var(--normal)", _ANOMALOUS: "var(--anomalous)"}
_STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
}
_WIDTH, _HEIGHT, _POINTS_PER_INCH = 250, 180, 72
_MARKERS = "os^D"
_SHARE_IN_RANGE = 99.5  # percent; a few scores far out would press all others into one bin


def auroc_overview(entries: Sequence[Mapping[str, Any]], detectors: Mapping[str, str]) -> Markup:
    """Plots the AUROC of each detector for each configuration, with its interval.

    Args:
        entries: of results.json's configurations.
        detectors: their titles by name.
    """
    line_height = 14 if len(entries) < 5 else 8
    height = 80 + (len(detectors) + 1) * line_height * len(entries)
    names = [entry["name"] for entry in entries]
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(_WIDTH + 60, height, left=14 + 5 * max(map(len, names)), top=46)
        step = 1 / (len(detectors) + 1)
        for line, (name, title) in enumerate(detectors.items()):
            aurocs = np.array([100 * entry["auroc"][name] for entry in entries])
            bounds = 100 * np.array([entry["auroc_interval"][name] for entry in entries]).T
            axes.errorbar(
                aurocs,
                np.arange(len(entries)) + step * (line - (len(detectors) - 1) / 2),
                xerr=np.abs(bounds - aurocs),
                fmt=_MARKERS[line],
                color=_INK,
                markersize=line_height / 3,
                elinewidth=1,
                label=title,
            )
        axes.axvline(50, color=_INK, linewidth=0.6, linestyle=":")
        axes.set(yticks=range(len(entries)), yticklabels=names)
        axes.set(xlabel="AUROC, %, with its 95% interval", ylim=(len(entries) - 0.5, -0.5))
        figure.legend(loc="upper right", frameon=False, ncols=2)
        best = max(entries, key=lambda entry: entry["auroc"]["kd"])
        return _svg(
            figure,
            f"AUROC of {len(detectors)} detectors for {len(entries)} configuration(s); highest of KD: "
            f"{best['name']}, {100 * best['auroc']['kd']:.1f}%. The tables give the numbers.",
        )


def score_histogram(labels: np.ndarray, scores: np.ndarray, detector: str) -> Markup:
    """Plots how the scores of normal and of anomalous samples are distributed, each as a share of its class.

    Args:
        labels: [S], 0 normal, 1 anomalous.
        scores: [S], higher is more anomalous; the topmost half percent is counted in the last bin.
    """
    low, high = scores.min(), max(np.percentile(scores, _SHARE_IN_RANGE), scores.min() + 1e-12)
    num_bins = np.clip(2 * np.sqrt(np.bincount(labels).min()), 8, 40).astype(int)
    edges = np.linspace(low, high, num_bins + 1)
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure()
        for label, name, colour, line in ((0, "normal", _NORMAL, "-"), (1, "anomalous", _ANOMALOUS, "--")):
            of_class = np.minimum(scores[labels == label], high)
            shares = np.histogram(of_class, edges)[0] / len(of_class)
            axes.stairs(shares, edges, fill=True, color=colour, alpha=0.25)
            axes.stairs(shares, edges, color=colour, linestyle=line, label=name)
        axes.set(xlabel="score", ylabel="share of the class")
        axes.legend(frameon=False)
        medians = [np.median(scores[labels == label]) for label in (0, 1)]
        return _svg(
            figure,
            f"Histogram of the {detector} scores of {np.sum(labels == 0)} normal samples, median {medians[0]:.3g}, "
            f"and {np.sum(labels == 1)} anomalous ones, median {medians[1]:.3g}.",
        )


def roc_curve(band: Mapping[str, np.ndarray], detector: str, auroc: float, interval: Sequence[float]) -> Markup:
    """Plots a ROC curve with its band, as `metrics.roc_band` returns it."""
    rates = 100 * band["false_positive_rate"]
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure()
        axes.plot([0, 100], [0, 100], color=_INK, linewidth=0.6, linestyle=":")
        axes.fill_between(rates, 100 * band["low"], 100 * band["high"], step="post", color=_INK, alpha=0.15)
        axes.step(rates, 100 * band["true_positive_rate"], where="post", color=_INK)
        axes.set(xlabel="false alarms, % of normal", ylabel="found, % of anomalous", xlim=(0, 100), ylim=(0, 101))
        low, high = interval
        return _svg(
            figure,
            f"ROC curve of {detector}: area {100 * auroc:.1f}%, 95% interval {100 * low:.1f}% to {100 * high:.1f}%.",
        )


def training_curve(records: Sequence[Mapping[str, Any]], stage: str) -> Markup:
    """Plots the loss of a stage over its updates, on a logarithmic scale."""
    steps, losses = ([record[name] for record in records] for name in ("step", "loss"))
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure()
        axes.plot(steps, losses, color=_INK, linewidth=1)
        axes.set(xlabel="updates", ylabel="training loss")
        if min(losses) > 0:
            axes.set_yscale("log")
        return _svg(
            figure, f"Training loss of {stage}: from {losses[0]:.3g} to {losses[-1]:.3g} in {steps[-1]} updates."
        )


def _figure(width: int = _WIDTH, height: int = _HEIGHT, left: int = 44, top: int = 8) -> tuple[Figure, Axes]:
    """Returns a figure and its axes, with fixed margins in points: automatic ones take as long as the drawing."""
    figure = Figure(figsize=(width / _POINTS_PER_INCH, height / _POINTS_PER_INCH))
    right, bottom = 8, 34
    return figure, figure.add_axes(
        (left / width, bottom / height, 1 - (left + right) / width, 1 - (top + bottom) / height)
    )


def _svg(figure: Figure, description: str) -> Markup:
    """Returns a figure as an SVG element with a description for those who do not see it."""
    buffer = io.StringIO()
    # One salt a figure: the ids inside must differ from those of all other figures on the page.
    with matplotlib.rc_context({"svg.hashsalt": description}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<(metadata|style).*?</\1>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)  # names that repeat in every figure and that nothing refers to
    svg = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), svg)  # half of the bytes
    width, height = (round(inches * _POINTS_PER_INCH) for inches in figure.get_size_inches())
    opening = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(description)}">'
    svg = re.sub(r"<svg [^>]*>", lambda _: opening, svg, count=1)
    for placeholder, colour in _PAGE_COLOURS.items():
        svg = svg.replace(placeholder, colour)
    return Markup(svg)
