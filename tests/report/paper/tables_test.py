"""Tables of the paper, and how they are written."""

import csv
import io

import pytest

from brittle_jax.report.paper import formats
from brittle_jax.report.paper.collection import collect
from brittle_jax.report.paper.measured import lines_of
from brittle_jax.report.paper.tables import table, tables
from tests.report.paper.made_up import MEASUREMENT, UNIMODAL, entry_of, write_run

RANDOM = "cifar10_random"


def lines_of_row(number, folder, row=RANDOM):
    return [line for line in table(number, lines_of(collect(folder).runs)).lines if line.row == row]


def entries(kd=0.61, brittleness=0.054, names=UNIMODAL):
    return [entry_of(name, kd, brittleness) for name in names]


def test_without_runs_every_row_has_its_published_numbers():
    made = {each.number: each for each in tables([])}
    assert [len(made[number].lines) for number in range(2, 12)] == [13, 14, 5, 4, 13, 13, 14, 14, 5, 4]
    line = made[8].lines[0]
    assert (line.teacher, line.marks, line.line) == ("Baseline", ["not run"], None)
    assert line.cells["kd"].published == pytest.approx(95.44) and line.cells["kd"].ours is None
    assert line.cells["kd"].is_published_best and not line.cells["mse"].is_published_best


def test_ours_stand_beside_the_published_means_of_the_same_ten_classes(tmp_path):
    write_run(tmp_path / "run", RANDOM, entries())
    (line,) = lines_of_row(8, tmp_path)
    assert (line.version, line.runs, line.marks) == ("A", ["run"], [])
    kd = line.cells["kd"]
    assert (kd.ours, kd.published, kd.difference) == pytest.approx((61, 60.09, 0.91))
    assert kd.is_best and kd.sd is None
    brittleness = line.cells["brittleness"]
    assert (brittleness.ours, brittleness.difference) == pytest.approx((0.054, 0.001))
    (line,) = lines_of_row(9, tmp_path)
    assert line.line is None and line.marks == ["not run"]


def test_over_fewer_classes_published_means_have_a_line_of_their_own(tmp_path):
    write_run(tmp_path / "run", RANDOM, entries(names=UNIMODAL[:2]))
    ours, published = lines_of_row(8, tmp_path)
    assert ours.marks == ["2 of 10 classes: airplane, automobile"]
    assert ours.cells["kd"].published is ours.cells["kd"].difference is None
    assert published.marks == ["published, 10 classes"] and published.cells["kd"].published == pytest.approx(60.09)


def test_classes_of_two_groups_are_named_with_their_group(tmp_path):
    write_run(tmp_path / "run", RANDOM, entries(names=["unimodal/cat", "multimodal/cat"]))
    ours, _ = lines_of_row(3, tmp_path)
    assert ours.marks == ["2 of 20 classes: unimodal cat, multimodal cat"]


@pytest.mark.parametrize("changes", [{"synthetic_data": True}, {"data_path": "/mine"}])
def test_other_images_have_no_difference(changes, tmp_path):
    write_run(tmp_path / "run", RANDOM, entries(), **changes)
    (line,) = lines_of_row(8, tmp_path)
    assert line.cells["kd"].published is not None and line.cells["kd"].difference is None
    assert line.marks


def test_several_seeds_are_a_mean_and_a_deviation(tmp_path):
    for seed, kd in ((0, 0.6), (1, 0.7)):
        write_run(tmp_path / f"{seed}", RANDOM, entries(kd), seed=seed)
    (line,) = lines_of_row(8, tmp_path)
    assert (line.cells["kd"].ours, line.cells["kd"].sd) == pytest.approx((65, 50**0.5))
    assert line.seeds == 2 and line.runs == ["0", "1"]
    assert "65.00 ± 7.07" in formats.to_markdown(table(8, lines_of(collect(tmp_path).runs)))


def test_two_measurements_of_a_row_are_both_named_with_what_differs(tmp_path):
    write_run(tmp_path / "a", RANDOM, entries())
    write_run(tmp_path / "b", RANDOM, entries(0.5), measurement={**MEASUREMENT, "gradient_path": "both"})
    first, second = lines_of_row(8, tmp_path)
    assert first.runs + second.runs == ["a", "b"] and {first.version, second.version} == {"A", "B"}
    (note,) = first.notes
    assert note == "2 measurements of this row, which differ in gradient_path: student | both"
    remarks = table(8, lines_of(collect(tmp_path).runs)).remarks
    assert any("versions A, B were measured differently" in remark for remark in remarks)


def test_lines_of_other_marks_or_classes_are_not_compared_without_a_word(tmp_path):
    write_run(tmp_path / "a", RANDOM, entries(), reduced={"distill.num_epochs": [20, 2]})
    write_run(tmp_path / "b", "cifar10_baseline", entries(names=UNIMODAL[:1]))
    remarks = " ".join(table(8, lines_of(collect(tmp_path).runs)).remarks)
    assert "reduced in another way" in remarks and "average different classes" in remarks
    assert table(8, []).remarks == []


def test_the_average_of_two_parts_needs_both(tmp_path):
    write_run(tmp_path / "a", "cats_vs_dogs_random", [entry_of("cat", 0.5, 0.06)], dataset="cats_vs_dogs")
    assert lines_of_row(2, tmp_path, "cats_vs_dogs_random")[0].line is None
    write_run(tmp_path / "b", "cats_vs_dogs_random", [entry_of("dog", 0.6, 0.06)], dataset="cats_vs_dogs")
    (line,) = lines_of_row(2, tmp_path, "cats_vs_dogs_random")
    assert line.cells["kd"].ours == pytest.approx(55) and line.runs == ["a", "b"]


def test_an_unknown_number_and_notes(tmp_path):
    entry = entry_of("soc", 0.7, 0.1, probe=None) | {"brittleness": None}
    write_run(
        tmp_path / "a",
        "xray_baseline",
        [entry],
        dataset="xray",
        synthetic_data=True,
        skipped_inputs=[{}, {}],
        random_on_same_test=[entry_of("soc/random", 0.5, 0.1)],
    )
    (line,) = lines_of_row(11, tmp_path, "xray_baseline")
    assert line.cells["brittleness"].ours is None and line.cells["probe_accuracy"].ours is None
    assert line.notes == ["2 images could not be read", "a random teacher on the same test (soc/random): KD 50.00"]


def test_csv_has_every_number_unrounded(tmp_path):
    write_run(tmp_path / "run", RANDOM, entries(0.612345678))
    lines = list(csv.DictReader(io.StringIO(formats.to_csv(table(8, lines_of(collect(tmp_path).runs))))))
    assert len(lines) == 14
    measured = next(line for line in lines if line["row"] == RANDOM)
    assert measured["status"] == "measured" and measured["version"] == "A" and measured["runs"] == "run"
    assert measured["kd"] == "61.2345678" and measured["kd_published"] == "60.09"
    assert lines[0]["status"] == "published" and lines[0]["kd"] == ""


def test_markdown_and_latex_have_the_best_in_bold_and_escape_what_they_must(tmp_path):
    write_run(tmp_path / "a|b_c", RANDOM, entries())
    made = table(8, lines_of(collect(tmp_path).runs))
    markdown, latex = formats.to_markdown(made), formats.to_latex(made)
    assert "| Random | ours | **61.00** | 60.00 | 59.00 | 58.00 | 0.05400 | A |  | a\\|b_c |" in markdown
    assert "| Random | difference | +0.91 | +1.27 |" in markdown
    assert "| Baseline | published | **95.44** |" in markdown and "| not run |" in markdown
    widths = {line.count("|") - line.count("\\|") for line in markdown.splitlines() if line.startswith("|")}
    assert len(widths) == 1
    assert r"Random & ours & \textbf{61.00} & 60.00" in latex and r"\end{table}" in latex
    assert latex.count(r"\\") == 1 + 14 + 2  # the heading, a line for each row, and two more for the one that was run
    assert formats.to_latex(table(2, [])).count("%") == 0
