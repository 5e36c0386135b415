"""What is estimated, held against what runs do."""

import functools
import json
import time

import jax.numpy as jnp
import pytest

from brittle_jax import command_line, main, runtime
from brittle_jax.errors import UserError
from brittle_jax.loop import Work
from brittle_jax.run import estimate, experiment
from tests.small_runs import dataset_of, read, read_row, shrink

briefly = functools.partial(estimate.estimate, least_seconds=0.0)  # of a single call of each program


def networks_of(folder):
    """Returns the folders of students and teachers."""
    return [file.parent for file in folder.rglob("network.json") if file.parent.name != "detector"]


def work_of(estimated):
    return {(stage.stage, stage.unit): stage.count for stage in estimated.stages}


def updates_of(folder):
    """Returns how many updates a run made in each kind of stage."""
    last = {}
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        last[record["stage"]] = record["step"]
    kinds = {stage.partition(" ")[0] for stage in last}
    return {kind: sum(step for stage, step in last.items() if stage.startswith(kind)) for kind in kinds}


@pytest.mark.usefixtures("empty_page")
@pytest.mark.parametrize("task", ["rotnet", "classification"])
def test_the_work_is_that_of_the_run(tmp_path, cifar10_config, task):
    shrink(cifar10_config).data.configurations = "unimodal/airplane,multimodal/cat"
    cifar10_config.teacher.task = task
    cifar10_config.teacher.data = {"rotnet": "cifar10", "classification": "fashion_mnist"}[task]
    run = tmp_path / "row" / "run"
    estimated = briefly(cifar10_config, run)
    assert not run.parent.exists()
    experiment.run(cifar10_config, run)
    results, work = read(run, "results.json"), work_of(estimated)
    entries = results["configurations"]
    assert {kind: work[kind, "update"] for kind in ("pretrain", "distill")} == updates_of(run)
    assert work["brittleness", "image"] == sum(entry["num_train"] for entry in entries)
    num_test = sum(entry["num_test_normal"] + entry["num_test_anomalous"] for entry in entries)
    assert work["score", "image"] == num_test
    probes = [entry["probe"] for entry in entries][: 1 if task == "classification" else None]
    assert work["probe", "image"] == sum(probe["num_train_images"] + probe["num_test_images"] for probe in probes)
    assert work["metrics", "configuration"] == 2
    networks = networks_of(run.parent)
    assert estimated.num_networks == len(networks)
    assert all(stage.seconds_per_unit > 0 for stage in estimated.stages)
    assert estimated.seconds == sum(stage.seconds for stage in estimated.stages)
    # What is in the store is neither trained nor kept again.
    again = briefly(cifar10_config, run.parent / "another")
    assert ("pretrain", "update") not in work_of(again)
    assert again.num_networks == len(networks) - len(networks_of(run.parent / "teachers"))


def test_a_random_teacher_takes_its_batch_norm_alone(tmp_path, cifar10_config):
    estimated = estimate.estimate(shrink(cifar10_config), tmp_path)
    assert work_of(estimated)["pretrain", "image"] == 64  # one batch norm batch, filled up
    assert ("pretrain", "update") not in work_of(estimated)
    assert estimated.num_networks == 2


def test_a_repeated_row_takes_the_work_of_all_its_seeds(tmp_path, cifar10_config):
    shrink(cifar10_config)
    once = briefly(cifar10_config, tmp_path / "run")
    cifar10_config.seeds = "4,5,6"
    repeated = briefly(cifar10_config, tmp_path / "run")
    assert work_of(repeated) == {stage: 3 * count for stage, count in work_of(once).items()}
    assert repeated.num_networks == 3 * once.num_networks and repeated.disk_mib == 3 * once.disk_mib
    assert repeated.temporary_disk_mib == once.temporary_disk_mib
    assert "for 3 seeds, that is 3 times the work of the first" in estimate.table(repeated).splitlines()
    assert "seeds" not in estimate.table(once)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("empty_page")
def test_the_teacher_of_a_repeated_row_may_be_in_the_store_beside_it(tmp_path, cifar10_config):
    shrink(cifar10_config)
    cifar10_config.teacher.task, cifar10_config.teacher.data = "classification", "fashion_mnist"
    experiment.run(cifar10_config, tmp_path / "single")
    cifar10_config.seeds = "0,1"
    assert ("pretrain", "update") not in work_of(briefly(cifar10_config, tmp_path / "run"))


def test_rows_that_memory_cannot_hold_take_room_on_the_disk(tmp_path, cifar10_config):
    shrink(cifar10_config)
    in_memory = briefly(cifar10_config, tmp_path)
    in_files = briefly(cifar10_config, tmp_path, most_bytes_in_memory=0)
    rows_mib = len(dataset_of(cifar10_config).images) * cifar10_config.network.output_features * 4 / 2**20
    assert in_files.temporary_disk_mib - in_memory.temporary_disk_mib == pytest.approx(2 * rows_mib)
    assert in_memory.temporary_disk_mib > 2 * rows_mib
    assert f"up to {in_memory.temporary_disk_mib:,.1f} MiB more until it has finished" in estimate.table(in_memory)


@pytest.mark.usefixtures("empty_page")
def test_a_baseline_counts_the_random_teacher_beside_it(tmp_path, xray_config):
    xray_config.row, xray_config.teacher.task = "xray_baseline", "baseline"
    shrink(xray_config)
    run = tmp_path / "row" / "run"
    estimated = briefly(xray_config, run)
    experiment.run(xray_config, run)
    assert work_of(estimated)["distill", "update"] == updates_of(run)["distill"] == 2 * xray_config.distill.update_steps
    assert estimated.num_networks == len(networks_of(run.parent))
    # The classifier's accuracy and its AUROC are a pass each; batches of the random teacher's batch norm are filled up.
    _, accuracy, auroc, normed = [stage.count for stage in estimated.stages if stage.stage == "pretrain"]
    description = read(run, "results.json")["configurations"][0]["teacher"]
    assert accuracy == auroc >= description["num_held_out_samples"]
    assert normed == 64 * -(-read(run, "results.json")["configurations"][0]["covariance"]["num_images"] // 64)


def test_passes_of_any_size_are_estimated(tmp_path, cifar10_config, four_devices):
    shrink(cifar10_config).data.configurations = "unimodal/airplane,multimodal/airplane"
    cifar10_config.data.max_train_samples = cifar10_config.data.max_test_samples = 0  # all, so sizes differ
    cifar10_config.data.calibration_fraction = 0.8
    cifar10_config.evaluate.batch_size = 256  # and a batch has all of them
    estimated = briefly(cifar10_config, tmp_path)
    work = work_of(estimated)
    _, configurations = read_row(cifar10_config, tmp_path, four_devices)
    first, second = configurations
    assert len(first.train) < len(second.train) and len(first.test) < len(second.calibration)
    assert work["brittleness", "image"] == len(first.train) + len(second.train)
    assert work["score", "image"] == sum(len(each.test) + len(each.calibration) for each in configurations)
    assert [stage.stage for stage in estimated.stages].count("brittleness") == 1  # whatever its batch sizes


class Timed:
    """A feed of which the first call takes longer, by a clock of its own."""

    most_at_once = 5

    def __init__(self):
        self.clock, self.calls = 0.0, []

    def __call__(self, state, first, count):
        self.clock += 0.25 if self.calls else 2.0
        self.calls.append((first, count))
        return state, jnp.zeros(count)


def test_compiling_is_told_apart_from_work(monkeypatch, one_device):
    feed = Timed()
    monkeypatch.setattr(time, "monotonic", lambda: feed.clock)
    loop = estimate.Rehearsal(one_device, 16, least_seconds=1.0)
    for _ in range(2):  # the second work of a kind is not tried
        with loop.stage("distill"):
            loop.run(Work("distill", feed, jnp.zeros(()), num_steps=100, num_units=100))
    assert loop.estimates() == [estimate.StageEstimate("distill", 200, "update", 0.05, 1.75)]
    assert [count for _, count in feed.calls] == 5 * [5]


def test_the_command_tells_and_leaves_nothing(monkeypatch, tmp_path, data_dir, capsys):
    monkeypatch.setattr(runtime, "set_up", lambda: None)  # its settings of JAX would outlive the test
    monkeypatch.setattr(estimate, "estimate", briefly)
    arguments = [
        "main",
        "--config=cifar10_random:smoke",
        f"--config.data.dir={data_dir}",
        "--config.network.name=mini",
        f"--workdir={tmp_path / 'run'}",
        "--estimate",
    ]
    main.main(command_line.parse(arguments, main.define_flags))
    printed = capsys.readouterr().out
    assert [*tmp_path.iterdir()] == []
    for text in ("distill", "in all", "memory: ", "disk: ", "nothing was trained"):
        assert text in printed
    assert "updates in" not in printed  # of the trials themselves


def test_a_mistake_is_told_before_anything_is_tried(tmp_path, cifar10_config):
    cifar10_config.distill.batch_size = 30
    with pytest.raises(UserError, match="distill.batch_size=30 cannot be shared evenly"):
        briefly(cifar10_config, tmp_path)
