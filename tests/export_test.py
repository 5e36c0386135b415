"""The command that exports a detector and verifies it, and the example that uses what was exported."""

import csv
import os
import pathlib
import subprocess
import sys

import pytest

from brittle_jax import command_line
from brittle_jax import export as command
from brittle_jax.errors import UserError
from brittle_jax.results import DETECTORS

pytest.importorskip("flatbuffers")

ROOT = pathlib.Path(__file__).parent.parent


def run(*words):
    environment = {**os.environ, "XLA_FLAGS": ""}
    return subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, env=environment, cwd=ROOT)


@pytest.fixture(scope="module")
def file(own_run, tmp_path_factory):
    file = tmp_path_factory.mktemp("export") / "own.zip"
    finished = run("-m", "brittle_jax.export", f"--run={own_run[0]}", f"--out={file}", "--false_alarm_rate=0.25")
    assert finished.returncode == 0, finished.stderr
    assert f"{file}: normal, " in finished.stdout and "for cpu, cuda, tpu\n" in finished.stdout
    return file


def test_the_example_gives_the_scores_of_the_run(own_run, file):
    folder, pictures = own_run
    with open(folder / "scores" / "normal.csv", encoding="utf-8", newline="") as table:
        expected = list(csv.DictReader(table))
    finished = run(ROOT / "examples" / "score_pictures.py", file, *(pictures / line["id"] for line in expected))
    assert finished.returncode == 0, finished.stderr
    lines = list(csv.DictReader(finished.stdout.splitlines()))
    assert [line["path"] for line in lines] == [str(pictures / line["id"]) for line in expected] and len(lines) > 5
    for line, of_run in zip(lines, expected, strict=True):
        for name in DETECTORS:
            assert float(line[name]) == pytest.approx(float(of_run[name]), rel=1e-5)
    assert {line["anomalous"] for line in lines} <= {"True", "False"}


def test_verifying_tells_how_far_scores_differ(file):
    finished = run("-m", "brittle_jax.export", "verify", file)
    assert finished.returncode == 0, finished.stderr
    assert f"{file}: 6 stored inputs on cpu: largest relative difference " in finished.stdout
    assert finished.stdout.endswith("decisions the same\n")


def test_a_damaged_file_is_one_line_and_exit_code_2(tmp_path):
    (tmp_path / "own.zip").write_text("no zip", encoding="utf-8")
    finished = run("-m", "brittle_jax.export", "verify", tmp_path / "own.zip")
    assert finished.returncode == command_line.EXIT_USER_ERROR
    assert finished.stderr.startswith(f"error: {tmp_path / 'own.zip'} is damaged") and finished.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out=a.zip"], "--run is missing: write --run=DIR --out=FILE, or verify FILE"),
        (["--run=a"], "--out is missing"),
        (["verify"], "'verify': write either verify FILE, or --run=DIR --out=FILE"),
        (["check", "a.zip"], "'check a.zip': write either verify FILE"),
        (["--", "--config.seed=1"], "--config.seed=1: this command takes no settings"),
    ],
)
def test_mistakes_are_one_line(words, message):
    arguments = command_line.parse(["export", *words], command.define_flags, needs_config=False, takes_rows=True)
    with pytest.raises(UserError) as raised:
        command.main(arguments)
    assert str(raised.value).startswith(message)
