"""What is drawn is read back from the plots, and nothing of it is cut off."""

import numpy as np
import pytest

from brittle_jax.report.paper.layout import Teachers
from brittle_jax.report.paper.plots import Bar, Panel, curves, dots, scatter, stacks
from tests.report.figures_test import outside

LONG = "CIFAR-10 unimodal, ours, 2 of 10 classes: random and own data"


def test_dots_have_their_values_and_ranges():
    groups = {LONG: {"brittleness": Bar(5, 1, 9), "at random": Bar(7)}, "cat": {"brittleness": Bar(2, 2, 3)}}
    plot = dots(groups, "KD AUROC lost, points", "Regret.")
    (axes,) = plot.figure.axes
    brittleness, random = axes.containers
    assert brittleness.lines[0].get_xdata() == pytest.approx([5, 2])
    (bars,) = brittleness.lines[2]
    assert [segment[:, 0].tolist() for segment in bars.get_segments()] == [[1, 9], [2, 3]]
    assert random.lines[0].get_xdata() == pytest.approx([7])
    assert [label.get_text() for label in axes.get_yticklabels()] == [LONG, "cat"]
    assert outside(plot.figure) == [] and plot.description == "Regret."


def test_long_labels_and_legends_are_not_cut():
    names = ("KD less MSE", "KD less Mahalanobis (Diagonal)", "KD less Mahalanobis (Full)")
    plot = dots({"STL AE": {name: Bar(1) for name in names}}, f"AUROC, points ({LONG})", "Differences.")
    assert outside(plot.figure) == []
    (legend,) = plot.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(names)


def test_ticks_of_four_digits_leave_room_for_the_label():
    columns = {"kd": np.array([99.85, 100]), "mahalanobis_full": np.array([80, 100.0])}
    teachers = Teachers(["cifar10_random", "cifar10_baseline"], columns)
    figure = scatter(Panel("CIFAR-10, ours", teachers, "mahalanobis_full", "kd", None, is_published=False)).figure
    assert outside(figure) == []
    assert max(figure.axes[0].get_xticks()) <= 105 and 100 in figure.axes[0].get_xticks()


def test_stacks_are_shares_in_percent():
    groups = {LONG: {"teacher": 0.7, "class": 0.2, "rest": 0.1}, "cat": {"teacher": 0.9, "rest": 0.1}}
    plot = stacks(groups, ["teacher", "class", "rest"], "share, %", "Shares.")
    (axes,) = plot.figure.axes
    widths = {bars.get_label(): [bar.get_width() for bar in bars] for bars in axes.containers}
    assert widths == {
        "teacher": pytest.approx([70, 90]),
        "class": pytest.approx([20, 0]),
        "rest": pytest.approx([10, 10]),
    }
    assert axes.containers[2][1].get_x() == pytest.approx(90)
    assert outside(plot.figure) == []


@pytest.mark.parametrize("log_y", [False, True])
def test_curves_are_named_after_their_teachers(log_y):
    x = np.array([50, 100, 1580])
    plot = curves(
        {"cifar10_baseline": (x, x / 2e6), "cifar10_fmnist_classification": (x, x / 1e6)},
        ("updates", "brittleness"),
        "Course.",
        log_y=log_y,
    )
    (axes,) = plot.figure.axes
    assert [line.get_label() for line in axes.lines] == ["Baseline", "FMNIST Class."]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["50", "100", "1,580"]
    np.testing.assert_allclose(axes.lines[1].get_ydata(), x / 1e6)
    assert outside(plot.figure) == []
