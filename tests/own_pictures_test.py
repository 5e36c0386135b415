"""Runs on your own pictures: their folder and its spelling."""

import shutil

import numpy as np
import pytest

from brittle_jax.errors import UserError
from brittle_jax.evaluate import calibration as calibration_lib
from brittle_jax.evaluate import conformal
from brittle_jax.recipes import image_folder_row
from brittle_jax.results import DETECTORS, read_scores
from brittle_jax.run import experiment, scoring
from tests.conftest import save_noise
from tests.small_runs import read, shrink


@pytest.fixture
def config(tmp_path, data_dir):
    save_noise(tmp_path / "own" / "normal", 30)
    save_noise(tmp_path / "own" / "scratch", 4)
    save_noise(tmp_path / "own" / "dent", 4)
    config = shrink(image_folder_row("smoke"))
    config.network.name, config.teacher.task, config.teacher.data = "mini", "random", ""
    config.data.dir, config.data.path = data_dir, str(tmp_path / "own")
    return config


@pytest.mark.usefixtures("empty_page")
def test_the_same_pictures_under_another_path_are_the_same_run(tmp_path, config, capsys, monkeypatch):
    experiment.run(config, tmp_path / "run")
    command = f"python -m brittle_jax.score --run={tmp_path / 'run'} --images=DIR --out=scores.csv"
    assert f"to score new images: {command}" in capsys.readouterr().out
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tmp_path / "own", tmp_path / "moved")
    for path in (f"{tmp_path}/own/", "own", str(tmp_path / "moved")):
        config.data.path = path
        capsys.readouterr()
        experiment.run(config, tmp_path / "run")
        assert "is finished" in capsys.readouterr().out
    config.data.path, config.teacher.from_run = str(tmp_path / "moved"), str(tmp_path / "run")
    experiment.run(config, tmp_path / "borrower")
    assert read(tmp_path / "borrower", "results.json")["configurations"][0]["teacher"]["from_run"]


@pytest.mark.usefixtures("empty_page")
def test_other_pictures_are_another_run(tmp_path, config):
    experiment.run(config, tmp_path / "run")
    shutil.copytree(tmp_path / "own", tmp_path / "other")
    (tmp_path / "other" / "scratch" / "000.png").unlink()
    config.data.path = str(tmp_path / "other")
    with pytest.raises(UserError, match="run belongs to a run on other images"):
        experiment.run(config, tmp_path / "run")


def test_a_run_without_a_path_is_on_made_up_pictures_and_says_so_to_the_next_one(tmp_path, config):
    path, config.data.path = config.data.path, ""
    experiment.run(config, tmp_path / "run")
    config.data.path = path
    with pytest.raises(UserError, match="belongs to a run on made-up images"):
        experiment.run(config, tmp_path / "run")
    config.data.path = str(tmp_path / "nowhere")  # a wrong path is told first
    with pytest.raises(UserError, match="nowhere: no such folder or file"):
        experiment.run(config, tmp_path / "run")


def test_calibration_samples_are_recorded_with_what_they_say_about_the_test(small_own_run):
    run, _ = small_own_run
    calibration = calibration_lib.read(run / "calibration", "normal")
    assert calibration.ids == calibration.groups.tolist() and len(calibration) == 20
    assert calibration.properties.tolist() == [[24, 24, 8, 0]] * 20
    (entry,) = read(run, "results.json")["configurations"]
    found, tested = entry["calibration"], read_scores(run / "scores" / "normal.csv")
    assert (found["num_samples"], found["num_groups"], found["num_needed"]) == (20, 20, 19)
    assert found["false_alarm_rate"] == 0.05 and found["bound"] == conformal.rate_bound(20, 0.05)
    for name in DETECTORS:
        assert found["thresholds"][name] == calibration.scores[name].max()
        flagged = tested.scores[name] > found["thresholds"][name]
        assert found["flagged_normal"][name] == flagged[tested.labels == 0].mean()
        assert found["flagged_anomalous"][name] == flagged[tested.labels == 1].mean()


def test_what_too_few_calibration_samples_cannot_say_is_none():
    scores = {name: np.arange(5.0) for name in DETECTORS}
    calibration = calibration_lib.Calibration(list("abcde"), scores, np.array(list("abcca")))
    found = scoring.calibration_in_numbers(calibration, scores, np.zeros(5, int))
    assert (found["num_samples"], found["num_groups"], found["num_needed"], found["bound"]) == (5, 3, 19, None)
    for share in ("thresholds", "flagged_normal", "flagged_anomalous"):
        assert found[share] == dict.fromkeys(DETECTORS)


def test_the_page_is_ranked_by_the_recommended_detector(small_own_run):
    run, _ = small_own_run
    (entry,) = read(run, "results.json")["configurations"]
    assert read(run, "examples/normal.json")["detector"] == entry["recommended"]["detector"]
