"""Experiments with every kind of teacher, trunk, data and setting, each small enough to take seconds."""

import csv
import dataclasses
import shutil

import flax.linen as nn
import numpy as np
import pytest
from PIL import Image

from brittle_jax import command_line, main, runtime
from brittle_jax.loop import Loop
from brittle_jax.models.layers import batch_norm
from brittle_jax.models.network import ARCHITECTURES, Architecture
from brittle_jax.recipes import densenet_row, small_resnet_row
from brittle_jax.run import experiment
from tests.mini_network import MINI
from tests.small_runs import read, shrink


@pytest.mark.parametrize(
    "task",
    [
        "random",
        "rotnet",
        pytest.param("simclr", marks=pytest.mark.long),
        *(
            pytest.param(task, marks=pytest.mark.slow)
            for task in ("baseline", "classification", "autoencoder", "denoising")
        ),
    ],
)
def test_every_kind_of_teacher_runs_on_pictures(tmp_path, data_dir, task):
    data = {"random": "", "classification": "fashion_mnist"}.get(task, "cifar10")
    config = shrink(small_resnet_row("mine", "smoke", data="cifar10", teacher=task, teacher_data=data))
    config.data.dir, config.network.name = data_dir, "mini"
    config.data.configurations = "unimodal/airplane,multimodal/cat"
    config.teacher.batch_norm_batch_size = 16
    experiment.run(config, tmp_path)
    results = read(tmp_path, "results.json")
    assert [entry["name"] for entry in results["configurations"]] == ["unimodal/airplane", "multimodal/cat"]
    assert results["summary"].keys() == {"unimodal", "multimodal"}
    # One teacher serves all configurations, unless it depends on which images are normal.
    shared = task in ("baseline", "classification")
    assert (tmp_path / "checkpoints" / "teacher").is_dir() == shared
    assert (tmp_path / "checkpoints" / "unimodal" / "airplane" / "teacher").is_dir() != shared
    probes = [entry["probe"]["accuracy"] for entry in results["configurations"]]
    assert results["probe_accuracy"] == pytest.approx(np.mean(probes))
    assert results["probe_accuracy_sd"] == pytest.approx(np.std(probes))


def test_leaves_run_and_weights_that_stand_in_are_called_synthetic(tmp_path, data_dir, monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "densenet_mini", MINI)
    config = shrink(densenet_row("plant_imagenet", "smoke", data="plant_pathology", teacher="imagenet"))
    config.data.dir, config.network.name, config.teacher.batch_norm_batch_size = data_dir, "densenet_mini", 16
    experiment.run(config, tmp_path)
    results = read(tmp_path, "results.json")
    (entry,) = results["configurations"]
    assert (entry["name"], entry["teacher"]["synthetic_weights"]) == ("healthy", True)
    assert results["synthetic_data"] is True


def test_the_xray_baseline_runs_with_a_random_teacher_on_the_same_test(tmp_path, xray_config):
    xray_config.row, xray_config.teacher.task = "xray_baseline", "baseline"
    shrink(xray_config)
    experiment.run(xray_config, str(tmp_path))
    results = read(tmp_path, "results.json")
    (entry,), (reference,) = results["configurations"], results["random_on_same_test"]
    assert 0 <= entry["teacher"]["held_out_auroc"] <= 1
    assert reference["name"] == "soc/random"
    assert reference["teacher"] == {}
    assert entry["auroc"] != reference["auroc"]
    tests = [
        [row["id"] for row in csv.DictReader((tmp_path / "scores" / name).read_text().splitlines())]
        for name in ("soc.csv", "soc/random.csv")
    ]
    assert tests[0] == tests[1] == read(tmp_path, "splits.json")["configurations"]["soc"]["test"]


@pytest.mark.usefixtures("empty_page")
@pytest.mark.parametrize(
    ("data", "configuration", "task"),
    [
        ("cifar10", "unimodal/airplane", "rotnet"),
        pytest.param("cifar10", "multimodal/cat", "simclr", marks=pytest.mark.long),
        ("cats_vs_dogs", "cat", "rotnet"),
        ("cats_vs_dogs", "dog", "denoising"),
    ],
)
def test_teacher_and_student_see_normal_training_images_alone(
    tmp_path, data_dir, monkeypatch, data, configuration, task
):
    config = small_resnet_row("mine", "smoke", data=data, teacher=task, teacher_data=data)
    config.data.dir, config.network.name = data_dir, "mini"
    shrink(config)
    config.data.configurations = configuration
    seen, kinds, is_training = set(), [], False
    original_load = experiment.load

    def recording_load(name, config):
        dataset = original_load(name, config)

        def read(index):
            if is_training:
                seen.add(dataset.samples.ids[dataset.sample_of_image[index]])
            return dataset.images.read(index)

        return dataclasses.replace(dataset, images=dataclasses.replace(dataset.images, read=read))

    run = Loop.run

    def recording_run(loop, work, until=None):
        nonlocal is_training
        before, is_training = is_training, work.unit == "update"
        kinds.append(work.kind)
        state = run(loop, work, until)
        is_training = before
        return state

    monkeypatch.setattr(experiment, "load", recording_load)
    monkeypatch.setattr(Loop, "run", recording_run)
    experiment.run(config, tmp_path)
    assert [kind for kind in kinds if kind in ("pretrain", "distill")] == ["pretrain", "distill"]
    splits = read(tmp_path, "splits.json")["configurations"][configuration]
    assert len(seen) >= 10
    assert seen <= set(splits["train"])
    normal, is_anomalous = configuration.rpartition("/")[2], configuration.startswith("multimodal")
    assert all((f"_{normal}_" in sample) != is_anomalous for sample in seen)


@pytest.mark.parametrize("num_anomalous", [0, 4])
def test_own_pictures_run_without_those_that_cannot_be_read(monkeypatch, tmp_path, data_dir, num_anomalous):
    monkeypatch.setattr(runtime, "set_up", lambda: None)  # its settings of JAX would outlive the test
    rng = np.random.default_rng(0)
    for kind, count in (("normal", 20), ("scratch", num_anomalous)):
        for index in range(count):
            file = tmp_path / "own" / kind / f"{index}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (40, 30, 3), np.uint8)).save(file)
    (tmp_path / "own" / "normal" / "bad.png").write_bytes(b"")
    shutil.copy(tmp_path / "own" / "normal" / "0.png", tmp_path / "own" / "normal" / "00.png")
    arguments = command_line.parse(
        [
            "main",
            "--config=image_folder:smoke",
            f"--config.data.path={tmp_path / 'own'}",
            f"--config.data.dir={data_dir}",
            f"--workdir={tmp_path / 'run'}",
            "--config.data.on_bad_image=skip",
            "--config.network.name=mini",
            "--config.pretrain.num_epochs=1",
            "--config.distill.num_epochs=1",
        ],
        main.define_flags,
    )
    for _ in range(2):  # the finished run says the same
        with pytest.raises(SystemExit) as stopped:
            main.main(arguments)
        assert stopped.value.code == 3
    results = read(tmp_path / "run", "results.json")
    assert results["skipped_inputs"] == [["normal/bad.png", "empty file"]]
    assert results["synthetic_data"] is False and results["published"] is None
    (entry,) = results["configurations"]
    assert entry["num_test_anomalous"] == num_anomalous
    assert (entry["auroc"]["kd"] is None) == (results["probe_accuracy"] is None) == (num_anomalous == 0)
    with open(tmp_path / "run" / "scores" / "normal.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 4 + num_anomalous


@pytest.mark.usefixtures("empty_page")
@pytest.mark.parametrize("batch_size", [pytest.param(1, marks=pytest.mark.long), 7])
def test_any_batch_size_runs_on_one_device(tmp_path, cifar10_config, one_device, batch_size):
    shrink(cifar10_config)
    cifar10_config.teacher.batch_norm_batch_size = 16
    cifar10_config.distill.batch_size = cifar10_config.evaluate.batch_size = batch_size
    experiment.run(cifar10_config, tmp_path, devices=one_device)
    assert read(tmp_path, "results.json")["configurations"][0]["num_train"] == 16


@pytest.mark.usefixtures("empty_page")
def test_a_student_that_did_not_learn_is_pointed_out(tmp_path, cifar10_config, capsys):
    shrink(cifar10_config)
    cifar10_config.distill.learning_rate = 1e-9
    experiment.run(cifar10_config, tmp_path)
    assert "has not learned the teacher yet" in capsys.readouterr().err
    (entry,) = read(tmp_path, "results.json")["configurations"]
    assert entry["distillation"]["loss"] >= entry["distillation"]["mean_predictor_loss"]


@pytest.mark.usefixtures("empty_page")
@pytest.mark.parametrize("covariance", ["ridge", "ledoit_wolf"])
def test_the_other_covariances_run(tmp_path, cifar10_config, covariance):
    shrink(cifar10_config)
    cifar10_config.evaluate.covariance = covariance
    experiment.run(cifar10_config, tmp_path)
    (entry,) = read(tmp_path, "results.json")["configurations"]
    assert entry["covariance"]["rank"] == entry["covariance"]["num_features"] == 128


class MeanColour(nn.Module):
    """A trunk of one's own: the mean colour of each quarter of the image, and a batch norm."""

    batch_norm_momentum: float = 0.9

    @nn.compact
    def __call__(self, x, train=False):
        quarters = x.reshape(len(x), 2, x.shape[1] // 2, 2, x.shape[2] // 2, 3).mean(axis=(2, 4)).reshape(len(x), 12)
        return batch_norm(train, self.batch_norm_momentum)(quarters)


@pytest.mark.usefixtures("empty_page")
@pytest.mark.parametrize("task", ["random", "rotnet"])
def test_a_trunk_of_ones_own_runs(tmp_path, cifar10_config, monkeypatch, task):
    statistics = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    mine = Architecture(MeanColour(), classifier_bias=True, classifier_scale=1.0, **statistics)
    monkeypatch.setitem(ARCHITECTURES, "mine", mine)
    shrink(cifar10_config)
    cifar10_config.network.name = "mine"
    cifar10_config.teacher.task, cifar10_config.teacher.data = task, "" if task == "random" else "cifar10"
    experiment.run(cifar10_config, tmp_path / "run")
    (entry,) = read(tmp_path / "run", "results.json")["configurations"]
    assert entry["probe"]["accuracy"] > 0.3  # stand-in classes differ by colour


@pytest.mark.realdata
@pytest.mark.usefixtures("empty_page")
def test_the_real_cifar10_runs(tmp_path, cifar10_config, real_tfds):
    shrink(cifar10_config)
    cifar10_config.data.dir = real_tfds
    experiment.run(cifar10_config, tmp_path)
    assert read(tmp_path, "results.json")["synthetic_data"] is False
