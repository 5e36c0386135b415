import contextlib
import dataclasses

import jax
import numpy as np
import pytest

from brittle_jax import checkpoint, files
from brittle_jax.config import completed
from brittle_jax.loop import Loop
from brittle_jax.models.network import Network
from brittle_jax.run.detection import make_detector
from brittle_jax.run.experiment import needs_reference, reference_of
from brittle_jax.run.row import Row
from brittle_jax.teachers.random import Random
from tests.conftest import make_dataset
from tests.damage import NUM_FLIPS, flip_bit
from tests.small_runs import read_row, shrink
from tests.small_teachers import assert_equal, kind_of, learn_fashion

PARCELS = make_dataset(np.zeros((2, 1, 1, 3)), name="xray", classes=("soc", "threat"))


def row_of(config, dataset, folder):
    config = completed(config)
    kind = kind_of(config, folder)
    return Row(config, dataset, dataset, kind, None, contextlib.nullcontext, folder=folder, made_from={})


def test_a_teacher_is_read_back_from_its_folder(cifar10_config, tmp_path, four_devices, capsys):
    row, (configuration, *_) = read_row(cifar10_config, tmp_path, four_devices)
    (first, description), (again, same) = (row.obtain_teacher(configuration) for _ in range(2))
    assert "finished before" in capsys.readouterr().out
    assert isinstance(again, Network) and again.module == first.module
    assert_equal(again.variables, first.variables)
    assert description == same


class Noting(Loop):
    """A loop that notes the weights with which students begin."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.drawn = []

    def run(self, work, until=None):
        if work.kind == "distill":
            self.drawn.append(jax.device_get(work.state.params))
        return super().run(work, until)


def draws_of(config, folder, devices, **fields):
    """Returns the weights of the teacher, and those of its student before and after distillation."""
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(fields)
    loop = Noting(devices, 16)
    row, (configuration, *_) = read_row(config, folder, devices)
    row = dataclasses.replace(row, loop=loop, shared_loop=None, folder=None, progress=None)
    detector = make_detector(row, configuration).detector
    return [detector.teacher.variables, loop.drawn[0], detector.student.variables]


@pytest.mark.parametrize("task", ["random", "rotnet"])
def test_teacher_and_student_have_draws_of_their_own(cifar10_config, tmp_path, one_device, task):
    config = shrink(cifar10_config)
    config.teacher.task, config.teacher.data = task, {"random": "", "rotnet": "cifar10"}[task]

    def draws(name, **fields):
        return draws_of(config, tmp_path / name / "run", one_device, **fields)

    defaults = draws("defaults")
    for one, other in zip(draws("same", **{"teacher.seed": 0, "distill.seed": 0}), defaults, strict=True):
        assert_equal(one, other)
    teacher, drawn, student = draws("student", **{"distill.seed": 1})
    assert_equal(teacher, defaults[0])
    assert differ(drawn, defaults[1]) and differ(student, defaults[2])
    teacher, drawn, student = draws("teacher", **{"teacher.seed": 1})
    assert differ(teacher["params"]["trunk"], defaults[0]["params"]["trunk"])
    assert differ(teacher["params"]["head"], defaults[0]["params"]["head"])
    assert_equal(drawn, defaults[1])
    assert differ(student, defaults[2])  # it has learned from another teacher


def differ(one, other):
    return not all(map(np.array_equal, jax.tree.leaves(one), jax.tree.leaves(other)))


def test_a_flipped_bit_in_the_runs_own_teacher_is_named_and_mended(cifar10_config, tmp_path, one_device, capsys):
    row, (configuration, *_) = read_row(learn_fashion(cifar10_config), tmp_path / "run", one_device)
    first, _ = row.obtain_teacher(configuration)
    folder = row.folder_of(configuration, "teacher")
    assert folder == tmp_path / "run" / "checkpoints" / "teacher"
    for number in range(NUM_FLIPS):
        file, _ = flip_bit(folder, number)
        again, _ = row.obtain_teacher(configuration)
        assert f"{folder} is damaged ({file.relative_to(folder)}: changed" in capsys.readouterr().err
        assert_equal(again.variables, first.variables)


def test_a_row_that_keeps_nothing_draws_its_teacher_each_time(cifar10_config, tmp_path, one_device):
    row, (configuration, *_) = read_row(cifar10_config, tmp_path / "run", one_device)
    row = dataclasses.replace(row, loop=row.loop.kept_in(None), shared_loop=None, folder=None, progress=None)
    first, again = (row.obtain_teacher(configuration)[0] for _ in range(2))
    assert_equal(again.variables, first.variables)
    assert not (tmp_path / "run").exists()


def test_a_reference_stands_beside_rows_whose_test_is_smaller(xray_config, tmp_path):
    assert not needs_reference(row_of(xray_config, PARCELS, tmp_path))
    xray_config.teacher.task = "baseline"
    row = row_of(xray_config, PARCELS, tmp_path)
    assert needs_reference(row)
    samples = dataclasses.replace(PARCELS.samples, official_split=np.array(["train", "test"]))
    assert not needs_reference(dataclasses.replace(row, dataset=dataclasses.replace(PARCELS, samples=samples)))
    assert not needs_reference(dataclasses.replace(row, dataset=dataclasses.replace(PARCELS, name="cifar10")))


def test_the_reference_is_a_random_teacher_on_the_same_data(xray_config, tmp_path):
    xray_config.teacher.task = "baseline"
    row = row_of(xray_config, PARCELS, tmp_path)
    reference = row.reference()
    assert isinstance(reference.kind, Random) and reference.lessons is None
    assert reference.dataset is PARCELS and reference.config is row.config
    assert row.kind.learns_anomalies and row.lessons is PARCELS
    assert not needs_reference(reference)


@pytest.mark.parametrize("batch_norm", ["initial", "normal_images"])
def test_the_reference_shares_nothing_and_keeps_its_networks_apart(xray_config, tmp_path, one_device, batch_norm):
    xray_config.teacher.task, xray_config.teacher.random_batch_norm = "baseline", batch_norm
    row, (configuration, *_) = read_row(xray_config, tmp_path, one_device)
    reference, other = row.reference(), reference_of(configuration)
    assert row.share("probe", lambda: "of the row") == row.share("probe", lambda: "anew") == "of the row"
    assert reference.share("probe", lambda: "its own") == "its own"
    assert reference.share("probe", lambda: "anew") == "anew"
    assert row.folder_of(configuration, "teacher") == tmp_path / "checkpoints" / "teacher"
    assert reference.folder_of(other, "teacher") == tmp_path / "checkpoints" / "soc" / "random" / "teacher"
    assert row.folder_of(configuration, "student") == tmp_path / "checkpoints" / "soc" / "student"


def test_the_reference_is_never_another_runs_teacher(xray_config, tmp_path, monkeypatch):
    xray_config.teacher.task, xray_config.teacher.from_run = "baseline", "somewhere"
    monkeypatch.setattr("brittle_jax.run.borrowing.check", lambda config: (tmp_path, False))
    row = row_of(xray_config, PARCELS, tmp_path)
    assert needs_reference(row)
    assert isinstance(row.reference().kind, Random)


ENTRY = {"name": "unimodal/airplane", "brittleness": 0.5}
RESULT_FILES = ["scores/{}.csv", "calibration/{}.csv", "heat_maps/{}.json", "brittleness/{}.npz", "examples/{}.json"]


def finish(row, configuration):
    """Finishes a configuration whose networks and files are made up."""
    for name in ("teacher", "student", "detector"):
        checkpoint.save(row.folder_of(configuration, name), {"w": np.arange(3.0)}, {}, {})
    for pattern in RESULT_FILES:
        files.write_text(row.folder / pattern.format(configuration.name), "content")
    return row.finish(configuration, ENTRY)


def test_a_finished_configuration_is_known_by_the_next_process(cifar10_config, tmp_path, one_device):
    row, (configuration, other, *_) = read_row(learn_fashion(cifar10_config), tmp_path, one_device)
    assert row.finished(configuration) is None
    assert finish(row, configuration) == ENTRY
    row, _ = read_row(cifar10_config, tmp_path, one_device)
    assert row.finished(configuration) == ENTRY and row.finished(other) is None


@pytest.mark.parametrize("damaged", [*RESULT_FILES, "teacher", "student", "detector"])
def test_a_configuration_with_anything_damaged_is_not_finished(cifar10_config, tmp_path, one_device, damaged, capsys):
    row, (configuration, *_) = read_row(cifar10_config, tmp_path, one_device)
    finish(row, configuration)
    file = row.folder / damaged.format(configuration.name)
    if damaged not in RESULT_FILES:
        file = row.folder_of(configuration, damaged) / "network.json"
    file.write_text("else", encoding="utf-8")
    assert row.finished(configuration) is None
    assert f"{configuration.name} is done again" in capsys.readouterr().err


def test_a_configuration_without_calibration_samples_is_finished_without_their_files(
    cifar10_config, tmp_path, one_device
):
    row, (configuration, *_) = read_row(cifar10_config, tmp_path, one_device)
    finish(row, configuration)
    (tmp_path / "calibration" / f"{configuration.name}.csv").unlink()
    (tmp_path / "heat_maps" / f"{configuration.name}.json").unlink()
    assert row.finish(configuration, ENTRY) == row.finished(configuration) == ENTRY


def test_a_damaged_teacher_that_configurations_share_undoes_them_all(cifar10_config, tmp_path, one_device):
    row, (configuration, other, *_) = read_row(learn_fashion(cifar10_config), tmp_path, one_device)
    assert row.teacher_is_shared
    finish(row, configuration)
    flip_bit(row.folder_of(other, "teacher"), 0)
    assert row.finished(configuration) is None


def test_works_of_a_configuration_are_kept_apart_and_those_of_a_shared_teacher_are_not(
    cifar10_config, tmp_path, one_device
):
    row, (configuration, other, *_) = read_row(learn_fashion(cifar10_config), tmp_path, one_device)
    first, second = row.within(configuration), row.within(other)
    folders = {row.loop.folder, first.loop.folder, second.loop.folder}
    assert len(folders) == 3 and all((tmp_path / "progress") in folder.parents for folder in folders)
    assert first.teacher_loop.folder == second.teacher_loop.folder == row.loop.folder
    reference = row.reference().within(reference_of(configuration))
    assert reference.teacher_loop.folder == reference.loop.folder != first.loop.folder
    finish(first, configuration)
    assert not first.loop.folder.exists()


def test_what_is_known_of_a_shared_teacher_is_remembered_for_all_configurations(cifar10_config, tmp_path, one_device):
    made = []
    row, (configuration, other, *_) = read_row(learn_fashion(cifar10_config), tmp_path, one_device)
    for _ in range(2):
        for each in (configuration, other):
            row.remember(each, "probe", lambda: made.append("shared"))
        reference = row.reference()
        reference.remember(reference_of(configuration), "probe", lambda: made.append("reference"))
    assert made == ["shared", "reference"]


class Recording(Loop):
    """A loop that records how many images each pass has."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.passes = []

    def run(self, work, until=None):
        self.passes.append(work.num_units)
        return super().run(work, until)


def test_a_run_that_goes_on_computes_representations_in_the_groups_of_the_whole_run(
    cifar10_config, tmp_path, one_device
):
    shrink(cifar10_config).data.configurations = "unimodal/airplane,multimodal/airplane"
    cifar10_config.teacher.random_batch_norm = "initial"  # a teacher that configurations share
    row, (first, second) = read_row(cifar10_config, tmp_path / "run", one_device)
    both = np.intersect1d(first.test, second.test)
    assert 0 < len(both) < len(first.test)

    def passes_of(*configurations):
        loop = Recording(one_device, 16)
        own = dataclasses.replace(row, loop=loop, shared_loop=loop, shared={})
        teacher, _ = own.obtain_teacher(first)
        for configuration in configurations:
            own.representations_of(configuration, teacher).compute(configuration.test)
        return loop.passes

    whole = passes_of(first, second)
    assert whole == [len(first.test), len(second.test) - len(both)]
    assert passes_of(second) == whole


def test_a_row_that_keeps_nothing_remembers_nothing(cifar10_config, tmp_path, one_device):
    row, (configuration, *_) = read_row(cifar10_config, tmp_path / "run", one_device)
    row = dataclasses.replace(row, folder=None, progress=None)
    made = []
    for _ in range(2):
        row.remember(configuration, "probe", lambda: made.append(True))
    assert made == [True, True] and row.within(configuration) is row
    assert row.finish(configuration, ENTRY) == ENTRY and row.finished(configuration) is None
    assert not (tmp_path / "run").exists()
