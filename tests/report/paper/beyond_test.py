"""Sections beyond the paper: what they say of the published numbers, and of runs made so that the answer is known."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from brittle_jax.report.paper import beyond, beyond_runs, beyond_samples
from brittle_jax.report.paper.collection import collect
from brittle_jax.report.paper.layout import teachers
from brittle_jax.report.paper.measured import cohorts_of, lines_of
from brittle_jax.results import read_scores
from tests.report.paper.made_up import UNIMODAL, entry_of, write_files, write_rows, write_run


def rows_of(section, *start):
    """Returns the lines of a section's table that begin with some cells."""
    return [row for row in section.table.rows if tuple(row[: len(start)]) == start]


def cohorts_in(folder):
    return cohorts_of(lines_of(collect(folder).runs))


@pytest.fixture(scope="module")
def published_choice():
    return beyond.choice({})


TITLES = ("cat", "dog", "CIFAR-10 unimodal", "CIFAR-10 multimodal", "Plant Pathology", "X-ray")


@pytest.mark.parametrize(
    ("pool", "by_brittleness", "by_probe"),
    [
        ("all but the baseline", (0, 0, 0.06, 0, 0, 0), (0, 0, 31.17, 26.91, 0, 20.05)),
        ("random and own data", (2.21, 0, 25.26, 10.37, 5.59, 0), None),
    ],
)
def test_the_published_cost_of_a_choice(published_choice, pool, by_brittleness, by_probe):
    found = [rows_of(published_choice, f"{title}, published", pool)[0] for title in TITLES]
    assert [float(row[3]) for row in found] == pytest.approx(by_brittleness, abs=0.005)
    if by_probe:
        assert [float(row[5]) for row in found] == pytest.approx(by_probe, abs=0.005)


def test_without_random_the_published_cost_is_small(published_choice):
    costs = [float(row[3]) for row in published_choice.table.rows if row[1] == "own data"]
    assert len(costs) == 4 and max(costs) == 1.28  # Plant Pathology and X-ray have one candidate, hence no choice


def test_cat_and_dog_have_brittleness_against_each_other():
    section = beyond.cat_and_dog({})
    cat, dog, both = section.table.rows
    assert (cat[1], cat[2], cat[6]) == ("brittleness and KD on cat", "10", "-0.697")
    assert (dog[1], dog[6]) == ("brittleness and KD on dog", "0.863")
    assert both[1] == "KD on cat and KD on dog" and float(both[6]) < -0.8
    assert "not run" in section.missing and len(section.plots) == 1


def test_the_published_shares_of_the_variance():
    shares = [float(row[1]) for row in beyond.variance({}).table.rows]
    assert shares == pytest.approx([91, 93, 94, 69, 92, 14], abs=0.5)


def test_sections_without_data_say_what_would_give_it():
    sections = [beyond.terms({}), *beyond_runs.sections({}, {}), beyond_samples.differences({}, {})]
    for section in sections:
        assert section.table is None and not section.plots, section.name
        assert "launch/all_rows.sh" in section.missing or "measure_at" in section.missing


COURSE_STEPS = (10, 100)


def course_of(kd, brittleness):
    """Returns two points of a course: halfway between them in the logarithm, the error ratio is 1."""
    return [
        {"update_steps": step, "error_ratio": ratio, "kd_auroc": kd + shift, "brittleness": brittleness}
        for step, ratio, shift in zip(COURSE_STEPS, (2.0, 0.5), (0.0, 0.1), strict=True)
    ]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Five teachers on two classes, with courses, scores and errors; AUROC falls as brittleness rises."""
    folder = tmp_path_factory.mktemp("runs")
    rows = write_rows(folder, [(0, 0)] * 5)
    for number, row in enumerate(rows):
        kd, brittleness = 0.5 + 0.08 * number, 0.5 - 0.1 * number
        entries = [
            entry_of(name, kd, brittleness, course=course_of(kd, brittleness), error_trace=1.0 + number)
            for name in UNIMODAL[:2]
        ]
        write_run(folder / row, row, entries, with_files=True)
    return folder


def test_each_term_is_correlated_with_auroc(measured):
    section = beyond.terms(cohorts_in(measured))
    label = "CIFAR-10 unimodal, ours, 2 of 10 classes"
    found = {row[2]: float(row[7]) for row in rows_of(section, label, "all")}
    assert found == {"numerator": -1, "1 / trace": -1, "brittleness": -1}
    assert not section.missing and len(section.plots) == 2


def test_variance_has_shares_of_classes_and_none_of_one_seed(measured):
    section = beyond.variance(cohorts_in(measured))
    (row,) = [row for row in section.table.rows if "ours" in row[0]]
    shares = dict(zip(section.table.titles, row, strict=True))
    assert float(shares["class, %"]) == 0 and "seed, %" not in shares
    # Of teachers 8 points apart, and detectors one point apart.
    teachers, detectors = np.var(8.0 * np.arange(4)), np.var(np.arange(4.0))
    assert float(shares["teacher, %"]) == pytest.approx(100 * teachers / (teachers + detectors), abs=0.05)


def test_agreement_along_distillation_and_at_equal_error_ratio(measured):
    section = beyond_runs.along_distillation(cohorts_in(measured))
    where = [row[1] for row in section.table.rows if row[2] == "all"]
    assert where == [
        *("after 10 updates", "after 100 updates"),
        *("at error ratio 2", "at error ratio 1", "at error ratio 0.8", "at error ratio 0.6"),
    ]
    assert {row[7] for row in section.table.rows} == {"-1.000"}
    first, second = section.plots
    lines = {line.get_label(): line.get_ydata() for line in first.figure.axes[0].lines}
    assert lines["Random"] == pytest.approx([58, 68]) and "KD AUROC" in first.description
    assert "brittleness" in second.description


def test_directions_of_errors_and_what_is_missing_to_test_the_hypothesis(measured, tmp_path):
    section = beyond_runs.error_directions(cohorts_in(measured), {})
    (row,) = rows_of(section, "CIFAR-10 unimodal, ours, 2 of 10 classes", "Random")
    # Deviations of 4, 3, 2 and 1 are as spread as 2.5 equal directions; the tighter two have 5 of 30 parts.
    assert row[3].endswith(" of 4") and float(row[3].split()[0]) == pytest.approx(30**2 / 354, rel=0.3)
    assert float(row[4]) == pytest.approx(100 * 5 / 30, rel=0.4)
    assert row[5:] == ["-", "-"] and "kept no errors on test images" in section.missing
    entry = entry_of("unimodal/cat", 0.6, 0.1)
    write_run(tmp_path / "run", "cifar10_random", [entry])
    test_error = np.array([[5.0, 0, 0, 0], [0, 0, 0, 9]], np.float32)
    write_files(tmp_path / "run", entry, test_error=test_error, test_label=np.array([0, 1]))
    section = beyond_runs.error_directions(cohorts_in(tmp_path), {})
    normal, anomalous = map(float, section.table.rows[0][5:])
    assert normal < 20 and anomalous > 80 and not section.missing
    assert "with 1 of 1 teachers" in section.notes[0]


def test_no_tight_directions_are_told_from_fewer_images_than_features(tmp_path):
    entry = entry_of("unimodal/cat", 0.6, 0.1)
    write_run(tmp_path / "run", "cifar10_random", [entry])
    few = np.eye(4, dtype=np.float32)
    write_files(tmp_path / "run", entry, error=few, test_error=few, test_label=np.array([0, 0, 1, 1]))
    section = beyond_runs.error_directions(cohorts_in(tmp_path), {})
    assert section.table.rows[0][5:] == ["-", "-"] and "no more training images than features" in section.missing


def test_real_images_come_before_made_up_ones_of_other_settings(tmp_path):
    for name, synthetic in (("multimodal/cat", False), ("unimodal/cat", True)):
        for row in list(teachers("cifar10"))[:2]:
            entries = [entry_of(name, 0.6, 0.1)]
            write_run(tmp_path / name / row, row, entries, with_files=True, synthetic_data=synthetic)
    labels = [source.label for source in beyond.measured_sources(cohorts_in(tmp_path))]
    assert labels == [
        "CIFAR-10 multimodal, ours, 1 of 10 classes",
        "CIFAR-10 unimodal, ours, synthetic, 1 of 10 classes",
    ]


def test_columns_of_text_come_before_those_of_numbers():
    rows = [["cat", "1 / trace", "-0.5", "<1e-6", "-"], ["dog", "numerator", "-", "0.1 to 0.2", "3"]]
    assert beyond.SectionTable(list("abcde"), rows).num_text == 2
    assert beyond.SectionTable(["a", "b"], [["x", "y z"]]).num_text == 2


def test_differences_are_those_of_the_scores_and_are_corrected(measured):
    section = beyond_samples.differences(cohorts_in(measured), {})
    assert len(section.table.rows) == 5 * 3 + 10
    assert "two families" in section.shows and "Holm" in section.shows
    for row in section.table.rows:
        low, high = map(float, row[5].split(" to "))
        assert row[3] == "1" and low <= float(row[4]) <= high
    p_values = [[row[6], row[7]] for row in section.table.rows if not row[6].startswith("<")]
    assert all(float(corrected) >= float(p_value) for p_value, corrected in p_values)
    assert len(section.notes) == 2 and "of 15 differences of detectors" in section.notes[0]


@pytest.fixture(scope="module")
def over_seeds(tmp_path_factory):
    """Random with seeds 0, 1 and 2, another row with seeds 0 and 1, and a third with seed 7."""
    folder = tmp_path_factory.mktemp("runs")
    first, second, third, *_ = teachers("cifar10")
    for row, seed, kd in [(first, 0, 0.6), (first, 1, 0.9), (first, 2, 0.3), (second, 0, 0.5), (second, 1, 0.5)]:
        entries = [entry_of("unimodal/cat", kd, 0.1)]
        write_run(folder / f"{row}-{seed}", row, entries, with_files=True, **seeds_of(seed))
    write_run(folder / third, third, [entry_of("unimodal/cat", 0.5, 0.1)], with_files=True, **seeds_of(7))
    return folder


def seeds_of(seed):
    return {"seed": seed, "seeds": {"splits": seed, "teacher": seed, "student": seed}}


def test_differences_are_means_over_the_seeds_that_both_have(over_seeds):
    section = beyond_samples.differences(cohorts_in(over_seeds), {})
    first, second, third, *_ = (teacher.title for teacher in teachers("cifar10").values())
    assert {row[3] for row in section.table.rows if row[1] == f"{first}: KD"} == {"3"}
    ((seeds, value),) = [row[3:5] for row in section.table.rows if row[1:3] == [first, second]]
    aurocs = []
    for row, seed in itertools.product(list(teachers("cifar10"))[:2], (0, 1)):
        scores = read_scores(over_seeds / f"{row}-{seed}" / "scores" / "unimodal" / "cat.csv")
        aurocs.append(roc_auc_score(scores.labels, scores.scores["kd"]))
    assert seeds == "2" and float(value) == pytest.approx(50 * (sum(aurocs[:2]) - sum(aurocs[2:])), abs=0.005)
    assert any(f"{first} and {third} have no seed in common" in note for note in section.notes)
    assert len(section.table.rows) == 3 * 3 + 1


def test_other_test_samples_are_not_paired(measured, tmp_path):
    write_rows(tmp_path, [(0.6, 0.1)] * 3, with_files=True)
    path = tmp_path / "cifar10_random" / "scores" / "unimodal" / "cat.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("\n7,", "\nseven,"), encoding="utf-8")
    section = beyond_samples.differences(cohorts_in(tmp_path), {})
    assert any("Random is left out: its test samples" in note for note in section.notes)
    assert not any("Random" in row[1] or "Random" in row[2] for row in section.table.rows)


def test_damaged_files_of_a_run_are_named(tmp_path):
    write_rows(tmp_path, [(0.6, 0.1)] * 3, with_files=True)
    scores = tmp_path / "cifar10_random" / "scores" / "unimodal" / "cat.csv"
    errors = tmp_path / "cifar10_random" / "brittleness" / "unimodal" / "cat.npz"
    scores.write_text("id,label\n", encoding="utf-8")
    errors.write_bytes(b"PK\3\4 cut off")
    problems = {}
    beyond_samples.differences(cohorts_in(tmp_path), problems)
    section = beyond_runs.error_directions(cohorts_in(tmp_path), problems)
    assert set(problems) == {str(scores), str(errors)}
    assert "Random" not in [row[1] for row in section.table.rows]


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"error": np.full((40, 4), np.nan, np.float32)}, "error does not hold finite numbers in 2 dimensions"),
        ({"error": np.zeros(5)}, "error does not hold finite numbers in 2 dimensions"),
        ({"error": np.full((40, 4), "much")}, "error does not hold finite numbers in 2 dimensions"),
        ({"test_error": np.zeros((20, 3))}, "its arrays differ in the number of features"),
        ({"test_label": np.zeros(3, int)}, "its test errors and their labels differ in number"),
        ({"gradient_norm": np.zeros(0)}, "gradient_norm holds no number but 0"),
        ({"error_variance": np.zeros(4)}, "error_variance holds no number but 0"),
    ],
)
def test_arrays_that_do_not_fit_are_named(arrays, reason, tmp_path):
    write_rows(tmp_path, [(0.6, 0.1)] * 3, with_files=True)
    path = tmp_path / "cifar10_random" / "brittleness" / "unimodal" / "cat.npz"
    with np.load(path) as found:
        kept = dict(found)
    np.savez(path, **(kept | {"test_error": np.zeros((20, 4)), "test_label": np.zeros(20, int)} | arrays))
    problems = {}
    for section in (beyond_runs.error_directions, beyond_runs.readings):
        section(cohorts_in(tmp_path), problems)
    assert problems == {str(path): f"damaged ({reason})"}


def test_a_teacher_that_kept_no_errors_is_named(tmp_path):
    write_rows(tmp_path, [(0.6, 0.1)] * 3, with_files=True)
    path = tmp_path / "cifar10_random" / "brittleness" / "unimodal" / "cat.npz"
    with np.load(path) as found:
        kept = dict(found)
    np.savez(path, **(kept | {"error": np.zeros((0, 4), np.float32)}))  # as with evaluate.keep_errors_mib=0
    problems = {}
    section = beyond_runs.error_directions(cohorts_in(tmp_path), problems)
    assert not problems and len(section.table.rows) == 2
    assert any(note.endswith("Random is left out: it has no errors of some class.") for note in section.notes)


def test_readings_of_equal_norms_and_errors_agree(measured):
    section = beyond_runs.readings(cohorts_in(measured), {})
    found = {row[1]: row[6] for row in section.table.rows}
    assert len(found) == 7
    assert found["mean norm"] == "-1.000" and found["1 / trace"] == "-"  # all have the same errors
    assert found["as read: mean norm / trace"] == found["median norm / trace"] == found["root mean square norm / trace"]
