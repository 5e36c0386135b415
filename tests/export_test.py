"""Mistakes in using the command that exports a detector; tests/apply/export_test.py runs it."""

import os
import pathlib
import subprocess
import sys

import pytest

from brittle_jax import command_line
from brittle_jax import export as command
from brittle_jax.errors import UserError

ROOT = pathlib.Path(__file__).parent.parent


def run(*words):
    environment = {**os.environ, "XLA_FLAGS": ""}
    return subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, env=environment, cwd=ROOT)


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
