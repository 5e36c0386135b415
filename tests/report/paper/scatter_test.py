"""Figures 3 to 6: the published correlations, and those of runs whose correlations are known."""

import matplotlib
import numpy as np
import pytest

from brittle_jax.report.paper import plots
from brittle_jax.report.paper.collection import collect
from brittle_jax.report.paper.layout import published
from brittle_jax.report.paper.measured import cohorts_of, lines_of
from brittle_jax.report.paper.scatter import scatter_figures
from tests.report.paper.made_up import UNIMODAL, write_rows


@pytest.fixture(scope="module")
def of_paper():
    """All figures of the published numbers, by number."""
    return {figure.number: figure for figure in scatter_figures({}, has_runs=False)}


def correlation_of(figure, setting, teachers="all", source="published"):
    lines = [each for each in figure.lines if (each.setting, each.teachers, each.source) == (setting, teachers, source)]
    (line,) = lines
    return line.correlation


def test_figure_4_has_the_correlations_that_the_paper_prints_under_it(of_paper):
    assert correlation_of(of_paper[4], "unimodal").pearson.value == pytest.approx(0.985, abs=5e-4)
    assert correlation_of(of_paper[4], "multimodal").pearson.value == pytest.approx(0.953, abs=5e-4)
    assert [panel.title for panel in of_paper[4].panels] == [
        "CIFAR-10 unimodal, published",
        "CIFAR-10 multimodal, published",
    ]


@pytest.mark.parametrize(
    ("setting", "spearman"),
    [("cat", -0.08), ("dog", 0.91), ("unimodal", 0.19), ("multimodal", 0.24), ("plant", 0.80), ("xray", 1.0)],
)
def test_brittleness_ranks_the_published_teachers_without_the_baseline(of_paper, setting, spearman):
    found = correlation_of(of_paper[6], setting, "without baseline")
    assert found.spearman.value == pytest.approx(spearman, abs=0.005)
    assert found.count == correlation_of(of_paper[6], setting).count - 1


def test_figures_have_the_panels_of_the_paper(of_paper):
    for number in (3, 5, 6):
        titles = [panel.title for panel in of_paper[number].panels]
        assert titles == [f"{name}, published" for name in ("Cats vs. Dogs", "CIFAR-10", "Plant Pathology", "X-ray")]


def test_runs_whose_correlations_are_known(tmp_path):
    # Of KD and brittleness the ranks are 1 2 3 4 and 2 1 4 3; without the first, the baseline, 1 2 3 and 1 3 2.
    numbers = [(0.6, 0.2), (0.7, 0.1), (0.8, 0.4), (0.9, 0.3)]
    write_rows(tmp_path, numbers, names=UNIMODAL)
    figures = scatter_figures(cohorts_of(lines_of(collect(tmp_path).runs)), has_runs=True)
    source = "the row's recipe, version A"
    found = correlation_of(figures[3], "unimodal", source=source)
    assert found.spearman.value == pytest.approx(0.6) and found.pearson.value == pytest.approx(0.6)
    assert correlation_of(figures[3], "unimodal", "without baseline", source).spearman.value == pytest.approx(0.5)
    # AUROC of full Mahalanobis is KD's less 3 points.
    assert correlation_of(figures[1], "unimodal", source=source).pearson.value == pytest.approx(1)
    titles = [panel.title for panel in figures[1].panels]
    assert titles[:2] == ["CIFAR-10 unimodal, published", "CIFAR-10 unimodal, ours"]
    assert figures[1].panels[3].teachers is None  # multimodal was not run
    assert not figures[1].apart


def test_ours_over_fewer_classes_stand_apart(tmp_path):
    write_rows(tmp_path, [(0.6, 0.2), (0.7, 0.1)], names=UNIMODAL[:3], synthetic_data=True)
    figures = scatter_figures(cohorts_of(lines_of(collect(tmp_path).runs)), has_runs=True)
    (panel,) = figures[1].apart
    assert panel.title == "CIFAR-10 unimodal, ours, synthetic, 3 of 10 classes"
    ours, not_run = figures[1].panels[1], figures[1].panels[3]
    assert (ours.teachers, ours.why_empty) == (None, "fewer classes: see below")
    assert (not_run.teachers, not_run.why_empty) == (None, "not run")


def test_every_teacher_has_a_point_and_a_name_inside_the_picture():
    panel = plots.Panel("CIFAR-10", published("multimodal"), "brittleness", "kd", None, True)
    figure = plots.scatter(panel).figure
    (axes,) = figure.axes
    figure.draw_without_rendering()
    assert len(axes.lines) == len(axes.texts) == 14
    assert {text.get_text() for text in axes.texts} >= {"Baseline", "CIFAR SimCLR", "STL DAE"}
    for text in axes.texts:
        corners = text.get_window_extent().corners()
        assert all(figure.bbox.padded(12).contains(*corner) for corner in corners)
    x = [float(np.ravel(line.get_xdata())[0]) for line in axes.lines]
    np.testing.assert_allclose(x, published("multimodal").columns["brittleness"])
    empty = plots.scatter(plots.Panel("X-ray, ours", None, "kd", "kd", None, False))
    assert empty.description == "X-ray, ours: not run."
    assert [text.get_text() for text in empty.figure.findobj(matplotlib.text.Text) if text.get_text() == "not run"]
