"""The main job end to end: through the command where users go through it, small otherwise."""

import csv
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from brittle_jax import checkpoint, command_line, files, main, rows, runtime
from brittle_jax.devices import DeviceGroup
from brittle_jax.errors import UserError
from brittle_jax.evaluate.localisation import hit_rate
from brittle_jax.results import DETECTORS
from brittle_jax.run import experiment
from brittle_jax.run.detection import make_detector
from tests.small_runs import dataset_of, read, read_row, shrink, without_times


def records(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """README's first command, run once for the tests below."""
    folder = tmp_path_factory.mktemp("smoke")
    environment = {**os.environ, "XLA_FLAGS": "", "TFDS_DATA_DIR": str(folder / "data")}
    command = [sys.executable, "-m", "brittle_jax.main", "--config=configs/xray_rotnet.py:smoke"]
    command.append(f"--workdir={folder / 'run'}")
    finished = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert finished.returncode == 0, finished.stderr
    return folder / "run", finished, command, environment


@pytest.mark.long
def test_smoke_learns_in_every_stage(smoke):
    folder, *_ = smoke
    for stage in ("pretrain soc", "distill soc"):
        losses = [record["loss"] for record in records(folder) if record["stage"] == stage]
        assert len(losses) >= 30
        assert np.mean(losses[-8:]) < 0.95 * np.mean(losses[:8]), stage
    distillation = read(folder, "results.json")["configurations"][0]["distillation"]
    assert distillation["loss"] < distillation["mean_predictor_loss"]


@pytest.mark.long
def test_smoke_writes_every_file_of_the_contract(smoke):
    folder, *_ = smoke
    names = {file.relative_to(folder).as_posix() for file in folder.rglob("*")}
    assert {"results.json", "scores/soc.csv", "splits.json", "config.json", "metrics.jsonl"} <= names
    assert {"report/index.html", "examples/soc.json", "brittleness/soc.npz"} <= names
    assert any(name.startswith("tensorboard/events.out") for name in names)
    for network in ("teacher", "student", "detector"):
        assert checkpoint.exists(folder / "checkpoints" / "soc" / network)
    results = read(folder, "results.json")
    assert results["format_version"] == 1
    assert results["row"] == "xray_rotnet" and results["word"] == "smoke"
    assert results["teacher"] == {"task": "rotnet", "dataset": "xray"}
    assert results["synthetic_data"] is True
    assert results["reduced"]["network.name"] == ["densenet161", "densenet_tiny"]
    assert results["published"]["groups"]["soc"]["auroc"]["kd"] == 0.9641
    assert results["measurement"]["gradient_path"] == "student"
    (entry,) = results["configurations"]
    for metric in ("auroc", "auroc_interval", "average_precision", "fpr_at_95_tpr"):
        assert entry[metric].keys() == set(DETECTORS)
    assert entry["auroc_by_view"].keys() == {"top", "side"}
    assert results["probe_accuracy"] == entry["probe"]["accuracy"] > 0.5
    for name in ("balanced_accuracy", "auroc", "majority_accuracy"):
        assert results[f"probe_{name}"] == entry["probe"][name]
    assert entry["probe"]["num_classes"] == 2 and 0 < entry["probe"]["accuracy_by_sample"] <= 1
    assert entry["brittleness"] == pytest.approx(entry["gradient_norm"] / entry["error_trace"])
    assert results["summary"]["all"]["auroc"] == entry["auroc"]
    stages = ["data", "pretrain", "represent", "distill", "probe", "score", "brittleness", "metrics", "examples"]
    assert list(results["seconds"]) == list(results["peak_memory_mib"]) == stages
    assert 100 < results["peak_memory_mib"]["data"] <= results["peak_memory_mib"]["brittleness"] < 8000


@pytest.mark.long
def test_scores_and_splits_agree_with_the_results(smoke):
    folder, *_ = smoke
    (entry,) = read(folder, "results.json")["configurations"]
    with open(folder / "scores" / "soc.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    labels = [int(line["label"]) for line in lines]
    for name in DETECTORS:
        assert entry["auroc"][name] == pytest.approx(roc_auc_score(labels, [float(line[name]) for line in lines]))
        low, high = entry["auroc_interval"][name]
        assert low <= entry["auroc"][name] <= high
    splits = read(folder, "splits.json")["configurations"]["soc"]
    assert [line["id"] for line in lines] == splits["test"]
    assert not set(splits["train"]) & set(splits["test"])
    assert not any(sample.startswith("threat") for sample in splits["train"])
    assert [sample.startswith("threat") for sample in splits["test"]] == [label == 1 for label in labels]


@pytest.mark.long
def test_the_page_frames_the_patch_that_decided(smoke):
    folder, *_ = smoke
    with open(folder / "scores" / "soc.csv", newline="") as file:
        kd = {line["id"]: float(line["kd"]) for line in csv.DictReader(file)}
    examples = read(folder, "examples/soc.json")
    assert examples["groups"]["Most anomalous"] == sorted(kd, key=kd.get, reverse=True)[:6]
    page = (folder / "report" / "index.html").read_text()
    for sample, content in examples["samples"].items():
        assert content["scores"]["kd"] == kd[sample]
        assert sum(view["deciding_box"] is not None for view in content["views"]) == 1
        assert all(view["picture"] in page for view in content["views"])


def test_parcels_tell_whether_the_deciding_patch_shows_the_threat(xray_run):
    folder, config = xray_run
    (entry,) = read(folder, "results.json")["configurations"]
    found, dataset = entry["localisation"], dataset_of(config)
    assert found["num_samples"] == entry["num_test_anomalous"] == 6
    shown = read(folder, "examples/soc.json")
    threats = shown["groups"]["Anomalous with the lowest scores"]  # all of them
    places, boxes = [], []
    for name in threats:
        ((view, place),) = [
            (number, each["deciding_box"])
            for number, each in enumerate(shown["samples"][name]["views"])
            if each["deciding_box"]
        ]
        sample = dataset.samples.ids.tolist().index(name)
        of_view = (dataset.anomaly_boxes[:, :2] == (sample, view)).all(axis=1)
        places.append(place)
        boxes.append(dataset.anomaly_boxes[of_view, 2:])
    assert found["hit_rate"]["kd"] == pytest.approx(hit_rate(np.array(places), boxes))
    assert 0 < found["random_hit_rate"] < 1


@pytest.mark.long
def test_smoke_says_what_it_does(smoke):
    _, finished, *_ = smoke
    for text in (
        "devices: 1 x cpu",
        "SYNTHETIC",
        "pretrain soc",
        "distill soc",
        "input gradients",
        "REDUCED",
    ):
        assert text in finished.stdout
    assert "published" in finished.stdout and "results.json" in finished.stdout
    assert finished.stderr == ""


@pytest.fixture
def run_again(smoke, monkeypatch):
    """Runs README's first command again in this process, which has imported JAX already."""
    folder, _, command, environment = smoke
    monkeypatch.setattr(runtime, "set_up", lambda: None)  # its settings of JAX would outlive the test
    monkeypatch.setenv("TFDS_DATA_DIR", environment["TFDS_DATA_DIR"])

    def run(*arguments, workdir=folder):
        again = ["main", *command[3:-1], f"--workdir={workdir}", *arguments]
        main.main(command_line.parse(again, main.define_flags))

    return run


@pytest.mark.long
def test_a_finished_workdir_is_left_as_it_is(smoke, run_again, capsys):
    folder, *_ = smoke
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*")}
    run_again()
    printed = capsys.readouterr().out
    assert "is finished" in printed and "index.html" in printed
    with pytest.raises(UserError, match="belongs to a run with seed=0, not 1"):
        run_again("--config.seed=1")
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*")} == before


@pytest.mark.long
def test_a_finished_run_without_its_page_gets_it_back(smoke, run_again, tmp_path):
    folder, *_ = smoke
    page = (folder / "report" / "index.html").read_bytes()
    shutil.copytree(folder, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "report")
    run_again(workdir=tmp_path / "run")
    assert (tmp_path / "run" / "report" / "index.html").read_bytes() == page


@pytest.mark.usefixtures("empty_page")
def test_the_same_seed_gives_the_same_results_bit_for_bit(tmp_path, xray_run):
    first, config = xray_run
    again = tmp_path / "run"  # beside no teacher: it trains one of its own
    experiment.run(config, again)
    assert without_times(read(first, "results.json")) == without_times(read(again, "results.json"))
    assert (first / "scores" / "soc.csv").read_bytes() == (again / "scores" / "soc.csv").read_bytes()


def test_rows_that_memory_cannot_hold_give_the_same_results(
    tmp_path, small_run, small_config, four_devices, monkeypatch
):
    folders = []

    class Recorded(rows.RowFile):
        def __init__(self, num_rows, num_features, folder):
            super().__init__(num_rows, num_features, folder)
            folders.append(folder)

    monkeypatch.setattr(rows, "RowFile", Recorded)
    row, (configuration,) = read_row(small_config, tmp_path / "run", four_devices)
    entry = experiment.run_configuration(dataclasses.replace(row, most_bytes_in_memory=0), configuration)
    assert folders == 2 * [tmp_path / "run"]  # of representations, and of errors
    files.write_json(tmp_path / "entry.json", entry)
    assert read(tmp_path, "entry.json") == read(small_run, "results.json")["configurations"][0]
    for name in ("scores/unimodal/airplane.csv", "brittleness/unimodal/airplane.npz"):
        assert (tmp_path / "run" / name).read_bytes() == (small_run / name).read_bytes()


@pytest.mark.usefixtures("empty_page")
def test_another_seed_gives_other_results(tmp_path, small_run, small_config):
    config = small_config.copy_and_resolve_references()
    config.seed = 1
    experiment.run(config, tmp_path)
    entries = [read(run, "results.json")["configurations"][0] for run in (small_run, tmp_path)]
    assert entries[0]["brittleness"] != entries[1]["brittleness"]


@pytest.mark.usefixtures("empty_page")
def test_an_unfinished_run_goes_on_and_ends_the_same(tmp_path, xray_run, capsys):
    undisturbed, config = xray_run
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    student = run / "checkpoints" / "soc" / "student"
    for lost, read_back in ((None, ["teacher", "student"]), (student, ["teacher"]), (student.parent, [])):
        (run / "results.json").unlink()
        shutil.rmtree(tmp_path / "teachers", ignore_errors=True)
        if lost is not None:
            shutil.rmtree(lost)
        capsys.readouterr()
        experiment.run(config, run)
        assert re.findall(r"(\w+): finished before", capsys.readouterr().out) == read_back
        assert without_times(read(run, "results.json")) == without_times(read(undisturbed, "results.json"))


_RANDOM = ["batch norm", "features to probe", "outputs", "distillation", "input gradients"]
_ROTNET = ["pre-training", "held-out accuracy", *_RANDOM[1:]]  # a teacher of each, trained for as long as it has images


@pytest.mark.usefixtures("empty_page")
@pytest.mark.parametrize(
    ("task", "keeps_examples", "programs"),
    [
        ("random", False, _RANDOM),
        pytest.param("rotnet", False, _ROTNET, marks=pytest.mark.slow),
        ("rotnet", True, _ROTNET),  # as on a GPU or TPU
    ],
)
def test_a_second_configuration_compiles_nothing_again(
    tmp_path, cifar10_config, monkeypatch, task, programs, keeps_examples
):
    monkeypatch.setattr(DeviceGroup, "keeps_examples", keeps_examples)
    shrink(cifar10_config).data.configurations = "unimodal/airplane,multimodal/airplane"
    cifar10_config.teacher.task, cifar10_config.teacher.data = task, "cifar10" if task == "rotnet" else ""
    cifar10_config.data.max_train_samples = cifar10_config.pretrain.max_train_samples = 0  # all of them
    compiled, before_each = [], []

    def count(event, duration_secs, fun_name="", **others):
        if event.endswith("backend_compile_duration"):
            compiled.append(fun_name)

    run_configuration = experiment.run_configuration

    def counted(row, configuration):
        before_each.append(len(compiled))
        return run_configuration(row, configuration)

    monkeypatch.setattr(experiment, "run_configuration", counted)
    jax.clear_caches()  # of what other tests compiled
    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        experiment.run(cifar10_config, tmp_path / "run", devices=DeviceGroup((jax.devices()[1],)))
    finally:
        jax.monitoring.unregister_event_duration_listener(count)
    first, second = before_each
    assert compiled[first:second].count("jit(_fun)") == len(programs)  # as JAX calls what all devices share
    assert compiled[second:] == []
    entries = read(tmp_path / "run", "results.json")["configurations"]
    assert entries[0]["num_train"] < entries[1]["num_train"]


@pytest.mark.parametrize(("batch_norm", "are_shared"), [("initial", True), ("normal_images", False)])
def test_configurations_share_representations_as_they_share_the_teacher(
    tmp_path, cifar10_config, four_devices, batch_norm, are_shared
):
    shrink(cifar10_config).data.configurations = "unimodal/airplane,multimodal/airplane"
    cifar10_config.teacher.random_batch_norm = batch_norm
    row, configurations = read_row(cifar10_config, tmp_path, four_devices)
    made = [make_detector(row, configuration) for configuration in configurations]
    assert (made[0].representations is made[1].representations) == are_shared
    pictures = np.stack([row.dataset.images.read(index) for index in range(8)]) / np.float32(255)
    for each in made:
        expected = each.detector.teacher(pictures)
        np.testing.assert_allclose(each.representations.outputs_of(np.arange(8)), expected, rtol=1e-4, atol=1e-5)


def test_networks_trained_on_made_up_images_never_score_others(tmp_path, small_run, small_config):
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    (run / "results.json").unlink()
    dataset = dataset_of(small_config)
    samples = dataclasses.replace(dataset.samples, ids=np.char.add(dataset.samples.ids, "x"))
    others = dataclasses.replace(dataset, samples=samples)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError, match="belongs to a run on other images"):
        patch.setattr(experiment, "load", lambda name, config: others)
        experiment.run(small_config, run)


@pytest.mark.parametrize("update_steps", [1, 8])
def test_training_that_diverges_ends_the_run(tmp_path, cifar10_config, update_steps):
    shrink(cifar10_config)
    cifar10_config.distill.update_steps = update_steps
    cifar10_config.distill.learning_rate = 1e30
    with pytest.raises(UserError, match="lower distill.learning_rate$"):
        experiment.run(cifar10_config, tmp_path)
    assert not (tmp_path / "results.json").exists()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("distill.batch_size", 30, "distill.batch_size=30 cannot be shared evenly by 4"),
        ("data.configurations", "unimodal/aeroplane", "no configuration 'unimodal/aeroplane'"),
        ("network.name", "small_resnet_tinny", "is not one of .*did you mean small_resnet_tiny"),
        ("teacher.task", "imagenet", "network.name='mini': published weights exist for DenseNets only"),
    ],
)
def test_a_mistake_leaves_nothing_behind(tmp_path, cifar10_config, field, value, message):
    cifar10_config.update_from_flattened_dict({field: value})
    with pytest.raises(UserError, match=message):
        experiment.run(cifar10_config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
