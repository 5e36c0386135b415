"""Runs on pictures of one's own: their folder, its spelling, and their names."""

import csv
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from brittle_jax.errors import UserError
from brittle_jax.recipes import image_folder_row
from brittle_jax.run import experiment
from tests.small_runs import read, shrink


def save_noise(folder, count, name="{:03d}.png"):
    rng = np.random.default_rng(len(folder.name))
    folder.mkdir(parents=True)
    for number in range(count):
        Image.fromarray(rng.integers(0, 256, (24, 24, 3), np.uint8)).save(folder / name.format(number))


@pytest.fixture
def config(tmp_path, data_dir):
    save_noise(tmp_path / "own" / "normal", 30)
    save_noise(tmp_path / "own" / "scratch", 4)
    save_noise(tmp_path / "own" / "dent", 4)
    config = shrink(image_folder_row("smoke"))
    config.network.name, config.teacher.task, config.teacher.data = "mini", "random", ""
    config.data.dir, config.data.path = data_dir, str(tmp_path / "own")
    return config


def test_the_same_pictures_under_another_path_are_the_same_run(tmp_path, config, capsys, monkeypatch):
    experiment.run(config, tmp_path / "run")
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


def test_any_name_is_written_whatever_the_locale(tmp_path):
    save_noise(tmp_path / "own" / "normal", 30)
    save_noise(tmp_path / "own" / "Kratzer", 3, "Größe_{:03d}.png")
    command = [sys.executable, "-m", "brittle_jax.main", "--config=configs/image_folder.py:smoke"]
    command += [f"--config.data.path={tmp_path / 'own'}", f"--workdir={tmp_path / 'run'}"]
    command += [f"--config.data.dir={tmp_path / 'data'}", "--config.teacher.task=random", "--config.teacher.data="]
    command += ["--config.distill.update_steps=2", "--config.evaluate.bootstrap_samples=20"]
    locale = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    finished = subprocess.run(command, capture_output=True, env={**os.environ, "XLA_FLAGS": "", **locale})
    assert finished.returncode == 0, finished.stderr
    with open(tmp_path / "run" / "scores" / "normal.csv", encoding="utf-8", newline="") as file:
        names = [line["id"] for line in csv.DictReader(file)]
    assert "Kratzer/Größe_000.png" in names
    assert "Größe" in (tmp_path / "run" / "report" / "index.html").read_text(encoding="utf-8")
