"""Which runs are pooled, which are told apart, and which may stand in one figure."""

import numpy as np
import pytest

from brittle_jax.report.paper.collection import collect
from brittle_jax.report.paper.measured import cohorts_of, differences, lines_of, movement_of
from tests.report.paper.made_up import MEASUREMENT, entry_of, write_rows, write_run

ROW = "cifar10_cifar_rotnet"


def lines_in(folder):
    return lines_of(collect(folder).runs)


def names_in(folder):
    return [[run.name for run in line.runs] for line in lines_in(folder)]


def write(folder, *, kd=0.6, name="unimodal/cat", **changes):
    write_run(folder, ROW, [entry_of(name, kd, 0.05)], **changes)


def test_seeds_of_one_row_are_averaged_with_their_deviation(tmp_path):
    for seed, kd in enumerate((0.5, 0.6, 0.8)):
        write(tmp_path / f"seed{seed}", kd=kd, seed=seed)
    (line,) = lines_in(tmp_path)
    numbers = line.numbers("unimodal")
    assert numbers.means["kd"] == pytest.approx(100 * np.mean([0.5, 0.6, 0.8]))
    assert numbers.sds["kd"] == pytest.approx(100 * np.std([0.5, 0.6, 0.8], ddof=1))
    assert numbers.configurations == ("unimodal/cat",) and not numbers.is_complete


def test_classes_in_folders_of_their_own_are_one_line(tmp_path):
    for number, name in enumerate(("cat", "dog", "frog")):
        write(tmp_path / name, kd=0.5 + number / 10, name=f"unimodal/{name}")
    (line,) = lines_in(tmp_path)
    assert line.numbers("unimodal").means["kd"] == pytest.approx(60)
    assert line.numbers("unimodal").sds == {}
    assert line.numbers("unimodal", ["unimodal/dog"]).means["kd"] == pytest.approx(60)
    assert line.numbers("multimodal") is None and line.numbers("cifar10") is None


def test_classes_and_seeds_in_folders_of_their_own_are_one_line(tmp_path):
    for seed in (0, 1):
        for name in ("cat", "dog"):
            write(tmp_path / f"{name}-{seed}", kd=0.5 + seed / 10, name=f"unimodal/{name}", seed=seed)
    (line,) = lines_in(tmp_path)
    assert len(line.runs) == 4 and line.numbers("unimodal").means["kd"] == pytest.approx(55)


def test_two_runs_of_the_same_seed_and_class_are_two_lines_the_latest_first(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "b")
    assert names_in(tmp_path) == [["a"], ["b"]]
    write(tmp_path / "c", finished_at="2022-04-21T00:00:00+00:00")
    assert names_in(tmp_path) == [["c"], ["a"], ["b"]]


@pytest.mark.parametrize(
    "changes",
    [
        {"synthetic_data": True},
        {"reduced": {"distill.num_epochs": [20, 2]}},
        {"data_path": "/mine"},
        {"measurement": {**MEASUREMENT, "gradient_path": "both"}},
        {"measurement": {**MEASUREMENT, "random_batch_norm": "initial"}},
    ],
)
def test_what_was_measured_otherwise_is_never_averaged_in(changes, tmp_path):
    write(tmp_path / "a", seed=0)
    write(tmp_path / "b", seed=1, **changes)
    assert len(lines_in(tmp_path)) == 2


def test_settings_that_choose_classes_or_parcels_are_no_other_measurement(tmp_path):
    write(tmp_path / "a", seed=0, reduced={"data.parcels.seed": [0, 311]})
    write(tmp_path / "b", seed=0, reduced={"data.parcels.seed": [0, 312], "data.configurations": ["all", "x"]})
    assert names_in(tmp_path) == [["a", "b"]]
    assert lines_in(tmp_path)[0].marks == []


def test_marks_say_what_keeps_a_line_from_being_compared(tmp_path):
    reduced = {"network.name": [1, 2], "distill.num_epochs": [20, 2], "distill.batch_size": [1, 2]}
    write(tmp_path / "a", synthetic_data=True, data_path="/mine", reduced=reduced)
    assert lines_in(tmp_path)[0].marks == ["synthetic", "own images", "reduced: distill, network"]


def test_versions_differ_in_readings_and_in_movement_but_not_in_those_of_a_teacher(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "a2", seed=1)
    write(tmp_path / "b", measurement={**MEASUREMENT, "random_batch_norm": "initial"})
    write(tmp_path / "c", measurement={**MEASUREMENT, "gradient_path": "both"})
    write_run(tmp_path / "d", ROW, [entry_of("unimodal/cat", 0.6, 0.05, movement=160.0)])
    write_run(tmp_path / "e", ROW, [entry_of("unimodal/cat", 0.6, 0.05, distillation={"loss": 1})])
    versions = {line.runs[0].name: line.version for line in lines_in(tmp_path)}
    assert versions["a"] == versions["b"] == "A"
    assert len(set(versions.values())) == 4
    movements = {run.name: movement_of(run) for run in collect(tmp_path).runs}
    assert movements["a"] == "as far as in the row's recipe"
    assert movements["d"] == "100 times as far as in the row's recipe"
    assert movements["e"] == "not recorded"


def test_a_reading_that_does_not_apply_is_as_one_of_a_version_that_lacks_it(tmp_path):
    for name, more in (("earlier", {}), ("later", {"levels": None}), ("other", {"levels": "three"})):
        measurement = {**MEASUREMENT, **more}
        write(tmp_path / name, measurement=measurement)
    versions = {line.first.name: line.version for line in lines_in(tmp_path)}
    assert versions == {"earlier": "A", "later": "A", "other": "B"}


def test_a_run_of_a_version_that_knew_raw_targets_alone_is_pooled_with_later_ones(tmp_path):
    write(tmp_path / "a", name="unimodal/cat")
    write(tmp_path / "b", name="unimodal/dog", measurement={**MEASUREMENT, "targets": "raw", "levels": None})
    write(tmp_path / "c", name="unimodal/frog", measurement={**MEASUREMENT, "targets": "standardised"})
    assert names_in(tmp_path) == [["a", "b"], ["c"]]


def test_differences_name_what_differs(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "b", reduced={"distill.num_epochs": [20, 2]}, synthetic_data=True)
    assert differences(collect(tmp_path).runs) == {"distill.num_epochs": ["-", "2"], "images": ["-", "synthetic"]}


def test_cohorts_keep_apart_what_differs_beyond_the_teacher(tmp_path):
    write_rows(tmp_path / "full", [(0.9, 0.1), (0.5, 0.2), (0.6, 0.3)], reduced={"probe.max_train_samples": [0, 5]})
    write_rows(tmp_path / "made", [(0.9, 0.1)] * 4, synthetic_data=True)
    write_rows(tmp_path / "short", [(0.9, 0.1)] * 4, reduced={"distill.num_epochs": [20, 2]})
    write_run(tmp_path / "teacher", "cifar10_random", [entry_of("unimodal/cat", 1, 1)], reduced={"teacher.x": [1, 2]})
    write(tmp_path / "pretrained", reduced={"pretrain.num_epochs": [1, 2], "probe.max_train_samples": [0, 5]})
    cohorts = cohorts_of(lines_in(tmp_path))["cifar10"]
    assert [len(cohort.lines) for cohort in cohorts] == [4, 1, 4, 4]
    assert cohorts[0].is_of_recipe and "probe" in cohorts[0].title
    assert "distill" in cohorts[2].title and not cohorts[2].is_of_recipe
    assert cohorts[3].title == "synthetic images, the row's recipe, version A"


def test_of_two_lines_of_a_row_the_one_nearer_to_the_recipe_is_drawn(tmp_path):
    write(tmp_path / "a", kd=0.5, reduced={"teacher.x": [1, 2]})
    write(tmp_path / "b", kd=0.7)
    (cohort,) = cohorts_of(lines_in(tmp_path))["cifar10"]
    assert cohort.teachers("unimodal").columns["kd"] == pytest.approx([70])
    assert [line.runs[0].name for line in cohort.others] == ["a"]


def test_teachers_are_compared_over_the_classes_that_all_of_them_have(tmp_path):
    entries = [entry_of(f"unimodal/{name}", kd, 0.1) for name, kd in (("cat", 0.5), ("dog", 0.7), ("frog", 0.9))]
    write_run(tmp_path / "a", "cifar10_baseline", entries)
    write_run(tmp_path / "b", "cifar10_random", entries[:2])
    write_run(tmp_path / "c", ROW, entries[2:])  # has no class in common with the one before
    (cohort,) = cohorts_of(lines_in(tmp_path))["cifar10"]
    assert cohort.configurations("unimodal") == ["unimodal/cat", "unimodal/dog"]
    teachers = cohort.teachers("unimodal")
    assert teachers.rows == ["cifar10_baseline", "cifar10_random"]
    assert teachers.columns["kd"] == pytest.approx([60, 60])


def test_one_teacher_of_many_classes_does_not_displace_several_of_others(tmp_path):
    names = [f"unimodal/{name}" for name in ("cat", "dog", "frog")]
    write_run(tmp_path / "a", "cifar10_baseline", [entry_of(name, 0.9, 0.1) for name in names[:2]])
    for row in ("cifar10_random", ROW):
        write_run(tmp_path / row, row, [entry_of(names[2], 0.6, 0.1)])
    (cohort,) = cohorts_of(lines_in(tmp_path))["cifar10"]
    assert cohort.teachers("unimodal").rows == ["cifar10_random", ROW]
    assert cohort.configurations("unimodal") == names[2:]
