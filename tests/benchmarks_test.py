import re
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import mirrored, parcels, pooling, predicted_errors, vulnerability
from brittle_jax.config import validate

NAMES = [
    "against_pytorch",
    "growth",
    "students",
    "representations",
    "input_pipeline",
    "parcels",
    "movement",
    "courses",
    "own_images",
    "predicted_errors",
    "mirrored",
    "vulnerability",
]

# As `python -m benchmarks.NAME --help` for one after the other: each would import JAX and PyTorch again.
_PROGRAM = """
import runpy, sys

for name in sys.argv[1:]:
    sys.argv = [name, "--help"]
    try:
        runpy.run_module(f"benchmarks.{name}", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        assert ended.code == 0, name
        print(f"ended: {name}")
"""


@pytest.mark.reference
def test_benchmarks_can_be_asked_for_help(torch):
    finished = subprocess.run([sys.executable, "-c", _PROGRAM, *NAMES], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    *helps, rest = re.split(r"^ended: (?:\w+)\n", finished.stdout, flags=re.MULTILINE)
    assert len(helps) == len(NAMES) and rest == ""
    assert all(text.startswith("usage") for text in helps)


def test_cells_are_shared_out_among_pieces():
    cells = vulnerability.cells(("a", "b"), ("cat", "dog"), (0, 1))
    pieces = [vulnerability.piece_of(cells, f"{number}/3") for number in (1, 2, 3)]
    assert sorted(map(len, pieces)) == [2, 3, 3] and set().union(*pieces) == set(cells) and len(cells) == 8
    with pytest.raises(ValueError, match="no piece 4/3"):
        vulnerability.piece_of(cells, "4/3")


def test_a_course_is_read_where_it_first_reaches_an_error_ratio():
    points = [vulnerability.Point(*values) for values in ((1.6, 1, 0, 0, 4), (0.4, 3, 1, 2, 8), (0.2, 5, 1, 2, np.inf))]
    halfway = vulnerability.at_error_ratio(points, 0.8)
    assert (halfway.error_ratio, halfway.brittleness, halfway.distance) == pytest.approx((1, 2, 6))
    assert vulnerability.at_error_ratio(points, 0.4).brittleness == 3
    assert vulnerability.at_error_ratio(points, 0.3).distance == np.inf
    assert vulnerability.at_error_ratio(points, 0.1) is None and vulnerability.at_error_ratio(points, 2) is None


def made_up_courses(sign):
    """Returns courses of five teachers, whose growth rises and whose distance falls with brittleness; or, -1, not."""
    courses = {}
    for normal in ("cat", "dog", "frog"):
        for number in range(5):
            value = 0.1 + number
            point = vulnerability.Point(1.0, value, value**sign, value**sign, 1 / value**sign)
            courses[vulnerability.Cell(f"t{number}", normal, 0)] = [point] * len(vulnerability.POINTS)
    return courses


def test_the_verdict_follows_the_rule():
    for sign, expected in ((1, "brittleness predicts vulnerability"), (-1, "it does not")):
        last = {cell: points[-1] for cell, points in made_up_courses(sign).items()}
        by_class = vulnerability.correlations(last, "growth")
        assert by_class == {normal: pytest.approx([sign]) for normal in ("cat", "dog", "frog")}
        assert vulnerability.verdict(last) == expected
    few = {cell: point for cell, point in last.items() if cell.teacher in ("t0", "t1", "t2")}
    assert vulnerability.verdict(few) == "no class and seed has enough teachers"


def test_intervals_draw_whole_classes():
    mean, low, high = vulnerability.clustered_mean({"cat": [1.0] * 5, "dog": [0.0] * 5})
    assert (mean, low, high) == (0.5, 0, 1)
    assert vulnerability.clustered_mean({"cat": [0.2, 0.6], "dog": [0.4, 0.4]})[1:] == pytest.approx((0.4, 0.4))


def test_the_tables_give_both_analyses():
    text = "\n".join(vulnerability.tables(made_up_courses(1)))
    assert text.count("| growth | 1.00 [1.00, 1.00] | cat 1.00, dog 1.00, frog 1.00 |") == 2
    assert text.count("**brittleness predicts vulnerability**") == 2 and "| t4 | 1.00 (1.00 to 1.00) |" in text


def test_the_settings_of_a_cell_are_valid():
    config = vulnerability.settings(vulnerability.Cell("cifar10_cifar_rotnet", "ship", 2), "data")
    validate(config)
    assert config.attack.enabled and config.seed == 2 and config.data.configurations == "unimodal/ship"


def test_students_that_predict_nothing_leave_full_mahalanobis():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(900, 4)) @ rng.normal(size=(4, 4))
    rows -= rows[:600].mean(axis=0)
    scores = predicted_errors.scores_of(rows, -rows[:600], np.repeat(-rows[None, 600:], 5, axis=0))
    for name in ("errors", "halved", "weighted"):
        np.testing.assert_allclose(scores[name], scores["full"], rtol=1e-6)


def test_a_direction_that_students_predict_weighs_more():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(900, 2))
    errors = -rows * [1, 0.01]  # the second feature is predicted, but for a hundredth
    errors[-1] = [0, 1]  # and an anomaly breaks it, by no more than its usual range
    scores = predicted_errors.scores_of(rows, errors[:600], np.repeat(errors[None, 600:], 5, axis=0))
    for name in ("errors", "weighted"):
        assert scores[name][-1] > 100 * np.median(scores[name])
    for name in ("full", "halved"):  # half of a prediction leaves half of the second feature
        assert scores[name][-1] < 10 * np.median(scores[name])


def test_mirroring_changes_nothing_where_images_are_symmetric():
    rows = np.random.default_rng(0).normal(size=(900, 4)) * [1, 2, 4, 8]
    plain, learned, averaged = mirrored.scores_of(rows, rows).values()
    np.testing.assert_allclose(learned, plain, rtol=0.1)  # twice the images, so half the shrinkage
    np.testing.assert_allclose(averaged, plain, rtol=1e-9)


def test_fresh_and_last_tasks_share_nothing_with_earlier_ones():
    groups = [pooling.tasks_of(group) for group in ("first", "fresh", "last")]
    assert [len(group) for group in groups] == [12, 14, 10]
    assert [sum(has_defects for *_, has_defects in group.values()) for group in groups] == [4, 7, 5]
    assert len({task for group in groups for task in group.values()}) == 36
    assert groups[1]["ankle boot-defects"] == ("fashion_mnist", "Ankle boot", True)


@pytest.mark.parametrize("is_scaled", [False, True])
def test_a_way_of_pooling_knows_its_own_kinds_and_stages_alone(is_scaled):
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 150)
    features = {name: rng.normal(size=(900, 3)) for name in ("averages 2", "averages 3", "maxima 1")}
    features["maxima 1"][750:] += 10  # anomalies show here alone
    assert pooling.auroc_of(features, labels, {"averages": "2", "maxima": "1"}, is_scaled) == 100
    assert 40 < pooling.auroc_of(features, labels, {"averages": "23"}, is_scaled) < 60


@pytest.mark.long
def test_random_teachers_of_the_parcels_are_averaged(tmp_path):
    sizes = parcels.FULL_SIZES._replace(train=8, held_out=8, random_train=8, random_teachers=2, student_updates=3)
    lab = parcels.Lab(5, str(tmp_path), {"data.parcels.side_pixels": 120}, sizes)
    found = [row for row in parcels.random(lab) if row.name.endswith(", kd") or row.bounds != (0, 1)]
    assert [row.bounds for row in found] == [(0, 1), (0, 1), (0.55, 0.75)]
    first, second, mean = (row.figure for row in found)
    assert first != second and 0 <= min(first, second) and mean == pytest.approx((first + second) / 2)


@pytest.mark.parametrize("text", ["data.patches.size_pixels=a", "data.patches.size_pixels", "seed=1", "data.none=3"])
def test_settings_of_the_parcels_are_whole_numbers(text, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["parcels", "--set", text])
    with pytest.raises(SystemExit) as stopped:
        parcels.main()
    assert stopped.value.code == 2 and f"{text!r}: give NAME=NUMBER" in capsys.readouterr().err
