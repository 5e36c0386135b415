"""What is drawn is read back from the figures, before they become SVG."""

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex

from brittle_jax.evaluate.metrics import roc_band
from brittle_jax.report import figures

LABELS = np.repeat([0, 1], [60, 40])
SCORES = np.concatenate([np.linspace(0, 1, 60), np.linspace(0.5, 2, 40)])
DETECTORS = {"kd": "KD", "mse": "MSE"}


def entry(name, kd, mse):
    return {
        "name": name,
        "auroc": {"kd": kd, "mse": mse},
        "auroc_interval": {"kd": [kd - 0.1, kd + 0.05], "mse": [mse - 0.02, mse + 0.2]},
    }


def outside(figure):
    """Returns the texts that reach beyond the picture."""
    figure.draw_without_rendering()
    texts = [text for text in figure.findobj(matplotlib.text.Text) if text.get_visible() and text.get_text()]
    for axes in figure.axes:  # ticks beyond the axis are not drawn, though they are there
        for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                if not min(limits) <= tick.get_loc() <= max(limits):
                    texts = [text for text in texts if text not in (tick.label1, tick.label2)]
    inside = figure.bbox.padded(0.5)
    return [
        text.get_text()
        for text in texts
        if not all(inside.contains(*corner) for corner in text.get_window_extent().corners())
    ]


def test_the_histogram_gives_each_class_its_own_shares():
    (axes,) = figures.score_histogram(LABELS, SCORES, "KD", "soc").figure.axes
    (normal, anomalous) = [patch for patch in axes.patches if patch.get_label() in ("normal", "anomalous")]
    for patch, label, colour in ((normal, 0, figures.NORMAL), (anomalous, 1, figures.ANOMALOUS)):
        shares, edges, _ = patch.get_data()
        assert shares.sum() == pytest.approx(100)
        expected = np.histogram(np.minimum(SCORES[LABELS == label], edges[-1]), edges)[0] / np.sum(LABELS == label)
        np.testing.assert_allclose(shares, 100 * expected)
        assert to_hex(patch.get_edgecolor()) == colour
    assert anomalous.get_linestyle() == "--"
    assert axes.get_legend() is not None


def test_the_few_topmost_scores_are_counted_in_the_last_bin():
    scores = SCORES.copy()
    scores[-1] = 1e6
    (axes,) = figures.score_histogram(LABELS, scores, "KD", "soc").figure.axes
    shares, edges, _ = axes.patches[-1].get_data()
    assert shares.sum() == pytest.approx(100) and shares[-1] == pytest.approx(100 / 40)


@pytest.mark.parametrize("scale", [1e-13, 1.0, 1e17])
def test_scores_of_any_size_fill_the_axis(scale):
    (axes,) = figures.score_histogram(LABELS, scale * SCORES, "KD", "soc").figure.axes
    _, edges, _ = axes.patches[-1].get_data()
    assert edges[0] == 0 and edges[-1] == pytest.approx(2 * scale, rel=0.1)


def test_the_histogram_says_what_it_shows():
    description = figures.score_histogram(LABELS, SCORES, "KD", "soc").description
    assert "soc: histogram of the KD scores of 60 normal samples, median 0.5, and 40 anomalous ones, median 1.25" in (
        description
    )


def test_the_roc_curve_has_false_alarms_across_and_what_was_found_up():
    band = roc_band(LABELS, SCORES, num_samples=50, seed=0)
    plot = figures.roc_curve(band, "KD", "soc", 0.912, [0.85, 0.96])
    (axes,) = plot.figure.axes
    curve = axes.lines[-1]
    np.testing.assert_allclose(curve.get_xdata(), 100 * band["false_positive_rate"])
    np.testing.assert_allclose(curve.get_ydata(), 100 * band["true_positive_rate"])
    assert axes.get_xlabel().startswith("false alarms") and axes.get_ylabel().startswith("found")
    corners = axes.collections[0].get_paths()[0].vertices
    assert corners[:, 1].min() == pytest.approx(100 * band["low"].min())
    assert corners[:, 1].max() == pytest.approx(100 * band["high"].max())
    assert plot.description == "soc: ROC curve of KD, area 91.2%, 95% interval 85.0% to 96.0%."


def test_the_overview_has_each_value_on_the_line_of_its_name():
    entries = [entry("unimodal/cat", 0.9, 0.6), entry("unimodal/dog", 0.7, 0.3)]
    plot = figures.auroc_overview(entries, DETECTORS)
    (axes,) = plot.figure.axes
    names = dict(zip([text.get_text() for text in axes.get_yticklabels()], axes.get_yticks(), strict=True))
    assert list(names) == ["unimodal/cat", "unimodal/dog"]
    for container, detector in zip(axes.containers, DETECTORS, strict=True):
        points, _, (bars,) = container
        for each, x, y, bar in zip(entries, points.get_xdata(), points.get_ydata(), bars.get_segments(), strict=True):
            assert x == pytest.approx(100 * each["auroc"][detector])
            assert abs(y - names[each["name"]]) < 0.5
            np.testing.assert_allclose(bar[:, 0], 100 * np.array(each["auroc_interval"][detector]))
    assert axes.yaxis_inverted()  # the first on top
    assert "unimodal/cat, 90.0%" in plot.description
    assert [text.get_text() for text in plot.figure.legends[0].get_texts()] == ["KD", "MSE"]


@pytest.mark.parametrize(
    ("losses", "scale"),
    [([1.0, 0.5, 0.05], "log"), ([1.6e-4, 1.5e-4, 1.3e-4], "linear"), ([1.0, 0.0, 0.5], "linear"), ([2.0], "linear")],
)
def test_training_curves_show_every_record(losses, scale):
    records = [{"step": 10 * number, "loss": loss} for number, loss in enumerate(losses, 1)]
    plot = figures.training_curve(records, "distill soc")
    (axes,) = plot.figure.axes
    (line,) = axes.lines
    np.testing.assert_allclose(line.get_ydata(), losses)
    np.testing.assert_allclose(line.get_xdata(), [10 * number for number in range(1, len(losses) + 1)])
    assert axes.get_yscale() == scale
    assert len(losses) > 1 or line.get_marker() == "o"
    assert plot.description.startswith(f"Training loss of distill soc: from {losses[0]:.3g} to {losses[-1]:.3g}")


def test_the_course_of_a_student_has_a_point_for_each_measurement():
    plot = figures.course([10, 100], [50.0, 62.5], "KD AUROC, %")
    (line,) = plot.figure.axes[0].lines
    assert line.get_xydata().tolist() == [[10, 50], [100, 62.5]]
    assert plot.description == "KD AUROC, % of the student on the way: 50 after 10, 62.5 after 100."


def plots():
    band = roc_band(LABELS, SCORES, num_samples=10, seed=0)
    yield "roc", figures.roc_curve(band, "KD", "soc", 0.9, [0.8, 1.0])
    for scale in (1e-13, 1.0, 123456.0, 1e17):
        yield f"histogram {scale}", figures.score_histogram(LABELS, scale * SCORES, "KD", "soc")
    for loss, step in ((1.0, 1), (0.00013, 16), (1.1, 960), (35000.0, 1), (0.98765, 20000)):
        for fall in (1.0, 100.0):
            records = [{"step": step * i, "loss": loss * (1 + fall / i)} for i in range(1, 101)]
            yield f"curve {loss} {step} {fall}", figures.training_curve(records, "stage")
    for values in ([0.0002, 0.1234], [99.99, 100.0], [12345.6, 0.5]):
        yield f"course {values}", figures.course([1, 14_080], values, "KD AUROC, %")
    for names in (["soc"], ["soc", "soc/random"], [f"multimodal/automobile{i}" for i in range(20)]):
        yield f"overview {len(names)}", figures.auroc_overview([entry(name, 0.5, 1.0) for name in names], DETECTORS)


def test_no_text_is_cut_off_at_the_border():
    cut_off = {name: outside(plot.figure) for name, plot in plots()}
    assert {name: texts for name, texts in cut_off.items() if texts} == {}


def test_a_very_long_name_is_no_obstacle():
    figures.to_svg(figures.auroc_overview([entry("x" * 200, 0.5, 0.5)], DETECTORS))


def test_svgs_take_the_pages_colours_and_keep_their_text():
    svg = figures.to_svg(figures.score_histogram(LABELS, SCORES, "KD <1>", "soc"))
    assert "var(--normal)" in svg and "var(--anomalous)" in svg and "currentColor" in svg
    assert not {figures.INK, figures.NORMAL, figures.ANOMALOUS} & set(svg.replace('"', " ").replace(";", " ").split())
    assert "% of the class</text>" in svg and "KD &lt;1&gt;" in svg


def test_the_users_matplotlib_settings_change_nothing():
    def svg():
        return figures.to_svg(figures.score_histogram(LABELS, SCORES, "KD", "soc"))

    expected = svg()
    with matplotlib.rc_context({"axes.grid": True, "lines.linewidth": 9, "text.usetex": True, "font.size": 30}):
        assert svg() == expected
        assert matplotlib.rcParams["font.size"] == 30


def test_one_of_something_is_described_as_one():
    assert "of 2 normal samples, median 0.5, and 1 anomalous one, median 2." in (
        figures.score_histogram(np.array([0, 0, 1]), np.array([0.0, 1.0, 2.0]), "KD", "soc").description
    )
    assert "in 1 update." in figures.training_curve([{"step": 1, "loss": 1.0}], "stage").description
    assert "for 1 configuration;" in figures.auroc_overview([entry("soc", 0.9, 0.6)], DETECTORS).description


def test_the_legend_of_a_histogram_stands_above_its_bars():
    figure = figures.score_histogram(LABELS, SCORES, "KD", "soc").figure
    figure.draw_without_rendering()
    (axes,) = figure.axes
    assert axes.get_legend().get_window_extent().y0 >= axes.get_window_extent().y1
