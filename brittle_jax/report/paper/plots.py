"""Plots of the report, from what statistics return."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from brittle_jax.evaluate.statistics import Correlation
from brittle_jax.report.figures import ANOMALOUS, INK, NORMAL, Plot, new_figure, style
from brittle_jax.report.paper.layout import QUANTITIES, Teachers, task_of, teacher_of

_MARKERS = {"baseline": "*", "random": "x", "class": "s", "rotnet": "^", "ae": "o", "dae": "D", "simclr": "P"}
_LINES = ("-", "--", ":", "-.")
_WIDTH, _HEIGHT = 380, 300  # of a scatter plot, in points
_LEFT = 62  # room for tick labels such as 99.96
_MOST_TICKS = 10
_BARS_WIDTH = 300  # of what stands beside the names of groups
_LABEL_SIZE, _TICK_SIZE = 7, 8
_TITLES = {
    **{name: quantity.title for name, quantity in QUANTITIES.items()},
    "kd": "KD AUROC, %",
    "mahalanobis_full": "Mahalanobis (full) AUROC, %",
    "probe_accuracy": "classification accuracy, %",
    "brittleness": "brittleness",
    "gradient_norm": "numerator: mean gradient norm",
    "inverse_trace": "1 / trace",
    "kd_cat": "KD AUROC on cat, %",
    "kd_dog": "KD AUROC on dog, %",
}


class Panel(NamedTuple):
    """One scatter plot; without teachers it says why there are none."""

    title: str
    teachers: Teachers | None
    x: str
    y: str
    correlation: Correlation | None
    is_published: bool
    why_empty: str = "not run"


def scatter(panel: Panel, heading: str = "") -> Plot:
    """Plots a quantity against another, with a label for each teacher; `heading` is said before what it shows."""
    with style():
        figure, axes = new_figure(_WIDTH, _HEIGHT, left=_LEFT, top=34)
        _draw(axes, panel)
    return Plot(figure, f"{heading} {_described(panel)}".strip())


def scatters(panels: Sequence[Panel], columns: int, description: str) -> Plot:
    """Plots several panels in one picture, row by row."""
    rows = -(-len(panels) // columns)
    with style():
        figure = Figure(figsize=(columns * _WIDTH / 72, rows * _HEIGHT / 72))
        for number, panel in enumerate(panels):
            row, column = divmod(number, columns)
            box = (
                (column + _LEFT / _WIDTH) / columns,
                (rows - row - 1 + 40 / _HEIGHT) / rows,
                (1 - (_LEFT + 20) / _WIDTH) / columns,
                (1 - 74 / _HEIGHT) / rows,
            )
            _draw(figure.add_axes(box), panel)
    return Plot(figure, " ".join([description, *map(_described, panels)]))


def correlation_text(correlation: Correlation) -> str:
    """Returns both correlations and the number of teachers."""
    pearson, spearman = (
        "-" if each.value is None else f"{each.value:.3f}" for each in (correlation.pearson, correlation.spearman)
    )
    return f"Pearson {pearson}, Spearman {spearman}, {correlation.count} teachers"


def _described(panel: Panel) -> str:
    if panel.teachers is None or not panel.teachers.rows:
        return f"{panel.title}: {panel.why_empty}."
    text = f"{panel.title}: {_TITLES[panel.x]} against {_TITLES[panel.y]}"
    return f"{text}; {correlation_text(panel.correlation)}." if panel.correlation else f"{text}."


def _draw(axes: Axes, panel: Panel) -> None:
    axes.set_title(panel.title, loc="left", fontsize=10, fontweight="bold", pad=18)
    if panel.teachers is None or not panel.teachers.rows:
        axes.text(0.5, 0.5, panel.why_empty, transform=axes.transAxes, ha="center", color=INK)
        axes.set(xticks=[], yticks=[])
        return
    if panel.correlation is not None:
        axes.text(0, 1.02, correlation_text(panel.correlation), transform=axes.transAxes, fontsize=8, color=INK)
    colour = INK if panel.is_published else NORMAL
    x, y = panel.teachers.columns[panel.x], panel.teachers.columns[panel.y]
    for row, across, up in zip(panel.teachers.rows, x, y, strict=True):
        task = task_of(row)
        axes.plot(
            across, up, _MARKERS[task], color=ANOMALOUS if task == "baseline" else colour, markersize=5, linestyle=""
        )
    axes.set(xlabel=_TITLES[panel.x], ylabel=_TITLES[panel.y])
    axes.margins(x=0.12, y=0.18)
    axes.xaxis.set_major_locator(_ticks())
    axes.yaxis.set_major_locator(_ticks())
    _label(axes, [teacher_of(row).title for row in panel.teachers.rows], x, y)


def _ticks() -> MaxNLocator:
    return MaxNLocator(5, steps=[1, 2, 5, 10])  # so that percentages have one at 100 and none at 105


def _label(axes: Axes, names: Sequence[str], x: np.ndarray, y: np.ndarray) -> None:
    """Writes names beside points: each where it covers least of points and of names that are there already."""
    axes.autoscale_view()  # so that the places of points are known
    points = axes.transData.transform(np.column_stack([x, y])) * 72 / axes.figure.dpi
    box = axes.get_window_extent().transformed(axes.figure.dpi_scale_trans.inverted()).extents * 72
    taken = [(px - 3, py - 3, px + 3, py + 3) for px, py in points if np.isfinite(px + py)]
    for name, (px, py), across, up in zip(names, points, x, y, strict=True):
        if not np.isfinite(px + py):
            continue
        width, height = 0.55 * _LABEL_SIZE * len(name), 1.1 * _LABEL_SIZE
        places = [
            (px + shift, py + rise)
            for distance in (0, 8, 16, 26)
            for shift, rise in (
                (5, -height / 2 + distance),
                (-5 - width, -height / 2 + distance),
                (5, -height / 2 - distance),
                (-5 - width, -height / 2 - distance),
                (-width / 2, 5 + distance),
                (-width / 2, -5 - height - distance),
            )
        ]
        rectangles = [(left, low, left + width, low + height) for left, low in places]
        costs = [sum(_overlap(each, other) for other in taken) + _outside(each, box) for each in rectangles]
        best = int(np.argmin(costs))
        taken.append(rectangles[best])
        left, low = places[best]
        axes.annotate(
            name,
            (across, up),
            (left - px, low - py),
            textcoords="offset points",
            fontsize=_LABEL_SIZE,
            color=INK,
            arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": INK, "shrinkA": 0, "shrinkB": 2}
            if abs(low - py) > 2 * height
            else None,
        )


def _overlap(a: tuple, b: tuple) -> float:
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def _outside(rectangle: tuple, box: Sequence[float]) -> float:
    area = (rectangle[2] - rectangle[0]) * (rectangle[3] - rectangle[1])
    return 3 * (area - _overlap(rectangle, tuple(box)))


class Bar(NamedTuple):
    """A value with the ends of a range around it, or without."""

    value: float
    low: float | None = None
    high: float | None = None


def dots(groups: Mapping[str, Mapping[str, Bar]], label: str, description: str, *, line_at: float | None = 0) -> Plot:
    """Plots values by group and name: a line for each group, a marker for each name.

    Args:
        groups: by group, such as a data set, the value of each name, such as a criterion.
        label: of the horizontal axis.
        line_at: where a vertical line stands for comparison.
    """
    names = list(dict.fromkeys(name for bars in groups.values() for name in bars))
    left = _room_for(groups)
    columns = min(3, int((left + _BARS_WIDTH) / (40 + 0.62 * _TICK_SIZE * max(map(len, names))))) or 1
    above = 10 + 16 * -(-len(names) // columns)
    with style():
        figure, axes = new_figure(
            left + _BARS_WIDTH, above + 50 + len(groups) * max(18, 9 * len(names)), left=left, top=above
        )
        step = 0.8 / len(names)
        for number, name in enumerate(names):
            present = [(place, bars[name]) for place, bars in enumerate(groups.values()) if name in bars]
            heights = [place + step * (number - (len(names) - 1) / 2) for place, _ in present]
            values = np.array([bar.value for _, bar in present])
            lows, highs = (
                np.array([value if end is None else end for value, end in ends])
                for ends in (
                    [(bar.value, bar.low) for _, bar in present],
                    [(bar.value, bar.high) for _, bar in present],
                )
            )
            axes.errorbar(
                values,
                heights,
                xerr=np.maximum([values - lows, highs - values], 0),
                fmt="os^DvPX*"[number % 8],
                color=(NORMAL, ANOMALOUS, INK)[number % 3],
                markersize=4.5,
                elinewidth=1,
                label=name,
            )
        if line_at is not None:
            axes.axvline(line_at, color=INK, linewidth=0.6, linestyle=":")
        axes.set(yticks=range(len(groups)), yticklabels=list(groups), ylim=(len(groups) - 0.5, -0.5))
        axes.set_xlabel(label, fontsize=min(10, (_BARS_WIDTH + 20) / (0.55 * len(label))))
        axes.tick_params(labelsize=_TICK_SIZE)
        figure.legend(loc="upper right", frameon=False, ncols=columns, fontsize=8)
    return Plot(figure, description)


def _room_for(groups: Iterable[str]) -> int:
    """Returns the width of the longest name, in points."""
    return 20 + int(0.62 * _TICK_SIZE * max(map(len, groups)))


def stacks(groups: Mapping[str, Mapping[str, float]], names: Sequence[str], label: str, description: str) -> Plot:
    """Plots shares that add up to 1, a bar for each group, with its parts in the order of `names`."""
    left = _room_for(groups)
    colours = (NORMAL, ANOMALOUS, INK)
    top = 26 + 16 * (len(names) > 3)
    with style():
        figure, axes = new_figure(left + _BARS_WIDTH, 58 + top + 22 * len(groups), left=left, top=top)
        starts = np.zeros(len(groups))
        for number, name in enumerate(names):
            shares = np.array([100 * shares.get(name, 0) for shares in groups.values()])
            alpha = (0.9, 0.45)[number // 3 % 2] if name != names[-1] else 0.12
            axes.barh(range(len(groups)), shares, left=starts, color=colours[number % 3], alpha=alpha, label=name)
            starts += shares
        axes.set(yticks=range(len(groups)), yticklabels=list(groups), xlabel=label, xlim=(0, 100))
        axes.invert_yaxis()
        axes.tick_params(labelsize=_TICK_SIZE)
        figure.legend(loc="upper right", frameon=False, ncols=3, fontsize=8)
    return Plot(figure, description)


def curves(
    lines: Mapping[str, tuple[np.ndarray, np.ndarray]],
    labels: tuple[str, str],
    description: str,
    *,
    log_x: bool = True,
    log_y: bool = False,
) -> Plot:
    """Plots a line for each row of the paper: its x and y, [P] each."""
    with style():
        figure, axes = new_figure(_WIDTH, _HEIGHT)
        axes.set_position([80 / _WIDTH, 40 / _HEIGHT, 1 - 185 / _WIDTH, 1 - 52 / _HEIGHT])
        for number, (row, (x, y)) in enumerate(lines.items()):
            task = task_of(row)
            colour = ANOMALOUS if task == "baseline" else (NORMAL, INK)[number % 2]
            marker = _MARKERS[task] if len(x) < 20 else None
            line = _LINES[number // 2 % 4]
            axes.plot(x, y, line, color=colour, marker=marker, markersize=4, linewidth=1, label=teacher_of(row).title)
        axes.set(xlabel=labels[0], ylabel=labels[1])
        axes.set_xscale("log" if log_x else "linear")
        axes.set_yscale("log" if log_y else "linear")
        points = sorted({place for x, _ in lines.values() for place in x.tolist()})
        if log_x and len(points) < _MOST_TICKS:
            axes.set_xticks(points, [f"{place:,.0f}" for place in points])
            axes.set_xticks([], minor=True)
        axes.tick_params(which="both", labelsize=_TICK_SIZE)
        figure.legend(loc="upper right", frameon=False, fontsize=_LABEL_SIZE, bbox_to_anchor=(1, 0.98))
    return Plot(figure, description)
