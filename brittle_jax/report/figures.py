"""Plots of a run, and how they become SVG for a page: text stays text, colours are the page's own, light or dark."""

import contextlib
import io
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from brittle_jax import console, files

# The page's colours on white; in a page they become the page's own.
INK, NORMAL, ANOMALOUS = "#1b1f24", "#0072b2", "#c24e00"
_PAGE_COLOURS = {INK: "currentColor", NORMAL: "var(--normal)", ANOMALOUS: "var(--anomalous)"}
_STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 11,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
}
_WIDTH, _HEIGHT, _POINTS_PER_INCH = 210, 170, 72  # so that two side by side can be read on a phone
_PNG_DOTS_PER_INCH = 150
_OVERVIEW_WIDTH = 360
_MARKERS = "os^D"
_SHARE_IN_RANGE = 99.5  # percent; a few scores far out would press all others into one bin


class Plot(NamedTuple):
    """A figure, and what it shows in words, for those who do not see it."""

    figure: Figure
    description: str


def auroc_overview(entries: Sequence[Mapping[str, Any]], detectors: Mapping[str, str]) -> Plot:
    """Plots the AUROC of each detector for each configuration, with its interval.

    Args:
        entries: of results.json's configurations.
        detectors: their titles by name.
    """
    names = [entry["name"] for entry in entries]
    line_height = 16 if len(entries) < 5 else 8
    height = 90 + (len(detectors) + 1) * line_height * len(entries)
    with style():
        left = min(18 + 6 * max(map(len, names)), _OVERVIEW_WIDTH - 100)
        figure, axes = new_figure(_OVERVIEW_WIDTH, height, left=left, top=46)
        step = 1 / (len(detectors) + 1)
        for line, (name, title) in enumerate(detectors.items()):
            aurocs = np.array([100 * entry["auroc"][name] for entry in entries])
            low, high = 100 * np.array([entry["auroc_interval"][name] for entry in entries]).T
            axes.errorbar(
                aurocs,
                np.arange(len(entries)) + step * (line - (len(detectors) - 1) / 2),
                xerr=np.maximum([aurocs - low, high - aurocs], 0),
                fmt=_MARKERS[line],
                color=INK,
                markersize=line_height / 3,
                elinewidth=1,
                label=title,
            )
        axes.axvline(50, color=INK, linewidth=0.6, linestyle=":")
        axes.set(yticks=range(len(entries)), yticklabels=names)
        axes.set(xlabel="AUROC, %, with its 95% interval", ylim=(len(entries) - 0.5, -0.5))
        figure.legend(loc="upper right", frameon=False, ncols=2)
    best = max(entries, key=lambda entry: entry["auroc"]["kd"])
    return Plot(
        figure,
        f"AUROC of {len(detectors)} detectors for {console.count(len(entries), 'configuration')}; highest of KD: "
        f"{best['name']}, {100 * best['auroc']['kd']:.1f}%.",
    )


def score_histogram(labels: np.ndarray, scores: np.ndarray, detector: str, configuration: str) -> Plot:
    """Plots how the scores of normal and of anomalous samples are distributed, each as a share of its class.

    Args:
        labels: [S], 0 normal, 1 anomalous.
        scores: [S], higher is more anomalous; the topmost half percent is counted in the last bin.
    """
    low, high = scores.min(), np.percentile(scores, _SHARE_IN_RANGE)
    if low == high:
        high = low + max(abs(low), 1e-30)
    drawn = ((0, "normal", NORMAL, "-"), (1, "anomalous", ANOMALOUS, "--"))[: 1 + labels.max()]
    num_bins = np.clip(2 * np.sqrt(np.bincount(labels).min()), 8, 40).astype(int)
    edges = np.linspace(low, high, num_bins + 1)
    with style():
        figure, axes = new_figure(top=30)
        for label, name, colour, line in drawn:
            of_class = np.minimum(scores[labels == label], high)
            shares = 100 * np.histogram(of_class, edges)[0] / len(of_class)
            axes.stairs(shares, edges, fill=True, color=colour, alpha=0.25)
            axes.stairs(shares, edges, color=colour, linestyle=line, linewidth=1.5, label=name)
        axes.set(xlabel="score", ylabel="% of the class")
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.ticklabel_format(axis="x", scilimits=(-2, 4))
        axes.legend(
            loc="lower right", bbox_to_anchor=(1.1, 0.98), ncols=2, columnspacing=1, handlelength=1.5, frameon=False
        )
    described = [
        f"{console.count(np.sum(labels == label), noun)}, median {np.median(scores[labels == label]):.3g}"
        for (label, *_), noun in zip(drawn, ("normal sample", "anomalous one"), strict=False)
    ]
    return Plot(figure, f"{configuration}: histogram of the {detector} scores of {', and '.join(described)}.")


def roc_curve(
    band: Mapping[str, np.ndarray], detector: str, configuration: str, auroc: float, interval: Sequence[float]
) -> Plot:
    """Plots a ROC curve with its band, as `metrics.roc_band` returns it."""
    rates, reached, low, high = (
        100 * band[name] for name in ("false_positive_rate", "true_positive_rate", "low", "high")
    )
    with style():
        figure, axes = new_figure()
        axes.plot([0, 100], [0, 100], color=INK, linewidth=0.6, linestyle=":")
        axes.fill_between(rates, low, high, color=INK, alpha=0.15)
        axes.plot(rates, reached, color=INK)
        axes.set(xlabel="false alarms, % of normal", ylabel="found, % of anomalous", xlim=(0, 100), ylim=(0, 101))
    return Plot(
        figure,
        f"{configuration}: ROC curve of {detector}, area {100 * auroc:.1f}%, "
        f"95% interval {100 * interval[0]:.1f}% to {100 * interval[1]:.1f}%.",
    )


def training_curve(records: Sequence[Mapping[str, Any]], stage: str) -> Plot:
    """Plots the loss of a stage over its updates, on a logarithmic scale where it spans more than a decade."""
    steps, losses = ([record[name] for record in records] for name in ("step", "loss"))
    with style():
        figure, axes = new_figure(left=56)
        axes.plot(steps, losses, color=INK, linewidth=1, marker="o" if len(steps) == 1 else None)
        axes.set(xlabel="updates", ylabel="training loss")
        if min(losses) > 0 and max(losses) > 10 * min(losses):
            axes.set_yscale("log")
        else:
            axes.ticklabel_format(axis="y", scilimits=(-2, 3))
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    extent = f"from {losses[0]:.3g} to {losses[-1]:.3g} in {console.count(steps[-1], 'update')}"
    return Plot(figure, f"Training loss of {stage}: {extent}.")


def course(steps: Sequence[int], values: Sequence[float], label: str) -> Plot:
    """Plots what was measured of a student after some of its updates; `label` says what it is."""
    with style():
        figure, axes = new_figure(left=78)
        axes.plot(steps, values, color=INK, linewidth=1, marker="o", markersize=3)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_formatter("{x:.4g}")
        axes.set(xlabel="updates", ylabel=label, xscale="log")
    listed = ", ".join(f"{value:.3g} after {step:,}" for step, value in zip(steps, values, strict=True))
    return Plot(figure, f"{label} of the student on the way: {listed}.")


def brittleness_histogram(values: np.ndarray, configuration: str) -> Plot:
    """Plots the brittleness of each image [M], whose mean is the teacher's; the last bar has the top half percent."""
    high = max(np.percentile(values, _SHARE_IN_RANGE), 1e-30)
    edges = np.linspace(0, high, int(np.clip(2 * np.sqrt(len(values)), 8, 40)) + 1)
    with style():
        figure, axes = new_figure()
        shares = 100 * np.histogram(np.minimum(values, high), edges)[0] / len(values)
        axes.stairs(shares, edges, fill=True, color=INK, alpha=0.25)
        axes.axvline(values.mean(), color=INK, linewidth=1, linestyle="--")
        axes.set(xlabel="brittleness of an image", ylabel="% of the images")
        axes.xaxis.set_major_locator(MaxNLocator(3))
    low, median, top = np.percentile(values, [5, 50, 95])
    return Plot(
        figure,
        f"{configuration}: histogram of the brittleness of {console.count(len(values), 'image')}, mean "
        f"{values.mean():.3g}, median {median:.3g}, 90% between {low:.3g} and {top:.3g}.",
    )


def brittleness_by_dimension(gradient_norm: np.ndarray, variance: np.ndarray, configuration: str) -> Plot:
    """Plots the shares of each output dimension [F] in both terms of brittleness."""
    of_trace, of_norm = (100 * each / each.sum() for each in (variance, gradient_norm))
    with style():
        figure, axes = new_figure()
        axes.axline((0, 0), slope=1, color=INK, linewidth=0.6, linestyle=":")
        axes.plot(of_trace, of_norm, color=INK, linestyle="", marker="o", markersize=2)
        axes.set(xlabel="% of the variance", ylabel="% of the norm")
    return Plot(
        figure,
        f"{configuration}: shares of {console.count(len(variance), 'output dimension')} in the variance of the "
        f"student's error, up to {of_trace.max():.3g}%, and in the gradient norm, {of_norm.min():.3g}% to "
        f"{of_norm.max():.3g}%.",
    )


def auroc_under_attack(attack: Mapping[str, Any], norm: str, configuration: str) -> Plot:
    """Plots AUROC against the radius of attacks; `attack` is what results.json has of a norm."""
    aurocs = 100 * np.array(attack["auroc"])
    low, high = 100 * np.array(attack["auroc_interval"]).T
    with style():
        figure, axes = new_figure()
        axes.axhline(50, color=INK, linewidth=0.6, linestyle=":")
        _curve(axes, attack["epsilon"], aurocs, low, high, INK)
        axes.set(xlabel=f"radius, {norm}", ylabel="AUROC, %", xscale="log", ylim=(0, 101))
    return Plot(figure, f"{configuration}: AUROC under {norm} attacks: {_listed(attack['epsilon'], aurocs)}.")


def flagged_under_attack(attack: Mapping[str, Any], norm: str, configuration: str) -> Plot:
    """Plots the flagged share of each class against the radius of attacks, as `auroc_under_attack`."""
    described = []
    with style():
        figure, axes = new_figure(top=30)
        for name, colour, line in (("normal", NORMAL, "-"), ("anomalous", ANOMALOUS, "--")):
            if None in attack[f"flagged_{name}"]:
                continue
            shares = 100 * np.array(attack[f"flagged_{name}"])
            low, high = 100 * np.array(attack[f"flagged_{name}_interval"]).T
            _curve(axes, attack["epsilon"], shares, low, high, colour, linestyle=line, label=name)
            described.append(f"{name} {_listed(attack['epsilon'], shares)}")
        axes.set(xlabel=f"radius, {norm}", ylabel="flagged, %", xscale="log", ylim=(-1, 101))
        axes.legend(
            loc="lower right", bbox_to_anchor=(1.1, 0.98), ncols=2, columnspacing=1, handlelength=1.5, frameon=False
        )
    return Plot(figure, f"{configuration}: share flagged under {norm} attacks: {'; '.join(described)}.")


def growth_under_attack(attack: Mapping[str, Any], norm: str, configuration: str) -> Plot:
    """Plots by what share attacks raise the score of normal images, and the first-order prediction (dashed)."""
    radii = attack["epsilon"][1:]
    grown, predicted = (100 * np.array(attack[name]) for name in ("growth", "predicted_growth"))
    low, high = 100 * np.array(attack["growth_interval"]).T
    with style():
        figure, axes = new_figure(left=56)
        axes.plot(radii, predicted, color=INK, linewidth=1, linestyle="--", label="predicted")
        axes.fill_between(radii, low, high, color=INK, alpha=0.15, linewidth=0)
        axes.plot(radii, grown, color=INK, marker="o", markersize=3, label="measured")
        axes.set(xlabel=f"radius, {norm}", ylabel="growth, %", xscale="log", yscale="log")
        axes.legend(frameon=False)
    return Plot(
        figure,
        f"{configuration}: growth of the score of normal images under {norm} attacks: {_listed(radii, grown)}; "
        f"predicted {_listed(radii, predicted)}.",
    )


def _curve(
    axes: Axes,
    radii: Sequence[float],
    values: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    colour: str,
    **line: str,
) -> None:
    """Draws values with their band over radii above 0; that of radius 0 is a line to compare with."""
    axes.axhline(values[0], color=colour, linewidth=0.6)
    axes.fill_between(radii[1:], low[1:], high[1:], color=colour, alpha=0.15, linewidth=0)
    axes.plot(radii[1:], values[1:], color=colour, marker="o", markersize=3, **line)


def _listed(radii: Sequence[float], percents: Sequence[float]) -> str:
    return ", ".join(f"{value:.3g}% at {radius:g}" for radius, value in zip(radii, percents, strict=True))


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Sets our style over matplotlib's own, whatever the user's is."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def new_figure(width: int = _WIDTH, height: int = _HEIGHT, left: int = 48, top: int = 12) -> tuple[Figure, Axes]:
    """Returns a figure and its axes, with fixed margins in points: automatic ones take as long as the drawing."""
    figure = Figure(figsize=(width / _POINTS_PER_INCH, height / _POINTS_PER_INCH))
    right, bottom = 20, 40
    box = (left / width, bottom / height, 1 - (left + right) / width, 1 - (top + bottom) / height)
    return figure, figure.add_axes(box)


def write_pictures(plot: Plot, path: pathlib.Path) -> None:
    """Writes a plot as an SVG and a PNG on white, for other documents; `path` lacks the ending."""
    with style():
        matplotlib.rcParams["svg.hashsalt"] = plot.description
        for ending, metadata in (("svg", {"Date": None, "Creator": None}), ("png", {"Software": None})):
            with files.replacing(path.with_name(f"{path.name}.{ending}")) as partial:
                plot.figure.savefig(partial, format=ending, dpi=_PNG_DOTS_PER_INCH, metadata=metadata)


def to_svg(plot: Plot) -> Markup:
    """Returns a plot as an SVG element for a page."""
    buffer = io.StringIO()
    with style():
        # One salt a plot: the ids inside must differ from those of all other plots on the page.
        matplotlib.rcParams["svg.hashsalt"] = plot.description
        plot.figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<(metadata|style).*?</\1>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)  # names that repeat in every figure and that nothing refers to
    svg = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), svg)  # half of the bytes
    width, height = (round(inches * _POINTS_PER_INCH) for inches in plot.figure.get_size_inches())
    opening = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(plot.description)}">'
    svg = re.sub(r"<svg [^>]*>", lambda _: opening, svg, count=1)
    for placeholder, colour in _PAGE_COLOURS.items():
        svg = svg.replace(placeholder, colour)
    return Markup(svg)
