"""`launch/all_rows.sh`: with a stand-in for the runs, which does what a test says; and with real runs, at the end."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from brittle_jax.results import read_metrics

ROOT = pathlib.Path(__file__).parent.parent.parent
SCRIPT = ROOT / "launch" / "all_rows.sh"
pytestmark = pytest.mark.skipif(shutil.which("flock") is None, reason="flock is not installed")

# Stands in for python: lists rows as they are given, and runs what the folder of the stand-in says for a row.
STAND_IN = """#!/usr/bin/env bash
here=$(dirname "$0")
if [[ $2 == brittle_jax.batch ]]; then
  case $3 in
    check) exit "$(cat "$here/check" 2>/dev/null || echo 0)" ;;
    list) shift 3; for word in "$@"; do [[ $word == -* ]] || echo "$word"; done; exit ;;
    *) exec "$REAL_PYTHON" "$@" ;;
  esac
fi
for argument in "$@"; do
  case $argument in --config=*) row=${argument#*=} ;; --workdir=*) folder=${argument#*=} ;; esac
done
echo "$row" >>"$here/calls"
finish() { mkdir -p "$folder"; cp "$here/results.json" "$folder"; }
if [[ -e $here/$row ]]; then . "$here/$row"; else finish; fi
"""
RESULTS = {"configurations": [{"auroc": {"kd": 0.5}, "brittleness": 0.01}], "seconds": {"data": 1.0}}


class Launcher:
    """Starts the script in a folder of its own, with the stand-in."""

    def __init__(self, folder):
        self.runs, self.stand_in = folder / "rows", folder / "stand_in"
        self.stand_in.mkdir()
        (self.stand_in / "python").write_text(STAND_IN)
        (self.stand_in / "python").chmod(0o755)
        (self.stand_in / "results.json").write_text(json.dumps(RESULTS))
        self._environment = {**os.environ, "PYTHON": str(self.stand_in / "python"), "REAL_PYTHON": sys.executable}
        self._environment |= {"PYTHONPATH": str(ROOT), "RETRY_SECONDS": "0.2"}

    def when(self, row, does):
        (self.stand_in / row).write_text(does)

    def start(self, *arguments):
        command = [str(SCRIPT), f"--runs={self.runs}", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, env=self._environment, **pipes)

    def run(self, *arguments, **named):
        """Returns exit code and output."""
        process = self.start(*arguments, **named)
        printed, _ = process.communicate(timeout=60)
        return process.returncode, printed

    @property
    def calls(self):
        return (self.stand_in / "calls").read_text().split()


@pytest.fixture
def launcher(tmp_path):
    return Launcher(tmp_path)


def wait_until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def states(printed):
    """Returns the state of each row in the summary."""
    table = printed.partition("KD AUROC")[2].splitlines()[1:]
    return {line.split()[0]: re.split(r"  +", line)[1] for line in table if re.match(r"[\w:]+  ", line)}


def test_what_fails_is_named_and_the_rest_goes_on(launcher):
    launcher.when("xray_random", "echo 'error: the disk is full'; exit 2")
    code, printed = launcher.run("xray_random", "plant_random", "--", "--config.seed=1")
    assert code == 1 and launcher.calls == ["xray_random", "plant_random"]
    assert states(printed) == {"xray_random": "failed", "plant_random": "finished"}
    assert f"xray_random: error: the disk is full ({launcher.runs}/xray_random.log)" in printed
    assert "--config.seed=1" in (launcher.runs / "plant_random.log").read_text()
    (launcher.stand_in / "xray_random").unlink()
    code, printed = launcher.run("xray_random", "plant_random")
    assert code == 0 and launcher.calls == ["xray_random", "plant_random", "xray_random"]
    assert "plant_random: finished before [2/2]" in printed


def test_a_busy_row_is_tried_after_the_others_and_until_it_is_free(launcher):
    busy = 'n=$(grep -c xray_random "$here/calls"); if ((n < 4)); then echo "busy: teacher"; exit 4; fi; finish'
    launcher.when("xray_random", busy)
    code, printed = launcher.run("xray_random", "plant_random", "plant_rotnet")
    assert code == 0
    assert launcher.calls == [
        "xray_random",
        "plant_random",
        "plant_rotnet",
        "xray_random",
        "xray_random",
        "xray_random",
    ]
    assert "xray_random: put off, busy: teacher" in printed
    assert "xray_random in use by other runs: trying again in 0.2 s" in printed


def test_a_worker_may_leave_busy_rows_to_others(launcher):
    launcher.when("xray_random", "exit 4")
    code, printed = launcher.run("xray_random", "plant_random", "--nowait")
    assert code == 4 and launcher.calls == ["xray_random", "plant_random", "xray_random"]
    assert states(printed) == {"xray_random": "left for later", "plant_random": "finished"}


def test_a_row_without_images_that_cannot_be_read_is_finished(launcher):
    launcher.when("xray_random", "finish; exit 3")
    code, printed = launcher.run("xray_random")
    assert code == 0 and "without images that could not be read [1/1]" in printed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_running_row_and_starts_no_other(launcher, number):
    waits = "touch $here/on; while :; do sleep 0.1; done"
    launcher.when("xray_random", f"trap 'echo stopped >>$here/calls; exit 75' TERM; {waits}")
    process = launcher.start("xray_random", "plant_random")
    wait_until((launcher.stand_in / "on").exists)
    process.send_signal(number)
    printed, _ = process.communicate(timeout=30)
    assert process.returncode == 75 and launcher.calls == ["xray_random", "stopped"]
    assert states(printed) == {"xray_random": "stopped", "plant_random": "not run"}


def test_a_row_that_stops_by_a_signal_of_its_own_ends_the_worker(launcher):
    launcher.when("xray_random", "exit 75")
    code, printed = launcher.run("xray_random", "plant_random")
    assert code == 75 and launcher.calls == ["xray_random"]


def test_workers_on_one_list_run_each_row_once(launcher):
    rows = ["xray_random", "xray_rotnet", "plant_random", "plant_rotnet"]
    for row in rows:
        launcher.when(row, "sleep 0.3; finish")
    launcher.when("plant_random", "sleep 0.3; exit 1")
    workers = [launcher.start(*rows) for _ in range(3)]
    for worker in workers:
        printed, _ = worker.communicate(timeout=30)
        assert worker.returncode == 1
        assert states(printed) == {**dict.fromkeys(rows, "finished"), "plant_random": "failed"}
    assert sorted(launcher.calls) == sorted(rows)


def test_nothing_starts_if_a_row_lacks_something_unless_that_is_wanted(launcher):
    (launcher.stand_in / "check").write_text("2")
    assert launcher.run("xray_random")[0] == 2 and not launcher.runs.exists()
    assert launcher.run("xray_random", "--anyway")[0] == 0 and launcher.calls == ["xray_random"]


def test_an_unknown_option_is_a_mistake(launcher):
    code, printed = launcher.run("--config.seed=1")
    assert code == 2 and "settings of each row come after --" in printed


def test_shellcheck_has_nothing_to_say():
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    for script in sorted((ROOT / "launch").glob("*.sh")):
        found = subprocess.run(["shellcheck", script], capture_output=True, text=True)
        assert found.returncode == 0, found.stdout


FEW_UPDATES = ["--config.distill.update_steps=2"]
MANY_UPDATES = ["--config.distill.update_steps=100"]
SMALL = ["--config.network.name=mini", "--config.evaluate.bootstrap_samples=20", "--config.probe.max_train_samples=32"]
SMALL += ["--config.data.max_train_samples=16", "--config.data.max_test_samples=8", "--config.pretrain.batch_size=16"]
SMALL += ["--config.pretrain.warmup_epochs=0"]


class Runs(Launcher):
    """Starts the script with real runs, on made-up data."""

    def __init__(self, folder, data_dir):
        super().__init__(folder)
        program = ROOT / "tests" / "launch" / "small_python.py"
        (self.stand_in / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{program}" "$@"\n')
        self._environment |= {"XLA_FLAGS": "", "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".pytest_cache" / "compiled")}
        self._settings = ["--", f"--config.data.dir={data_dir}", *SMALL]

    def start(self, *arguments, settings=FEW_UPDATES):
        command = [str(SCRIPT), *arguments, f"--runs={self.runs}", *self._settings, *settings]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, env=self._environment, **pipes)

    def log(self, row):
        file = self.runs / f"{row}-smoke.log"
        return file.read_text() if file.exists() else ""

    def stages(self, row):
        return {stage.split()[0] for stage in read_metrics(self.runs / f"{row}-smoke")}


@pytest.fixture
def real(tmp_path, data_dir):
    return Runs(tmp_path, data_dir)


def test_a_row_that_fails_is_named_and_one_that_was_stopped_goes_on(real):
    smoke = ["xray_random:smoke", "cats_vs_dogs_random:smoke"]
    (real.runs / "xray_random-smoke").mkdir(parents=True)
    (real.runs / "xray_random-smoke" / "thesis.tex").touch()
    process = real.start(*smoke, "--anyway", settings=MANY_UPDATES)
    wait_until(lambda: "normal training samples" in real.log("cats_vs_dogs_random") or process.poll() is not None)
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 75, printed
    assert states(printed) == {"xray_random:smoke": "failed", "cats_vs_dogs_random:smoke": "stopped"}
    assert "stopped by SIGTERM" in real.log("cats_vs_dogs_random")
    code, printed = real.run(*smoke, "--anyway", settings=MANY_UPDATES)
    assert code == 1, printed
    assert states(printed) == {"xray_random:smoke": "failed", "cats_vs_dogs_random:smoke": "finished"}
    assert "xray_random:smoke: error: --workdir=" in printed


def test_workers_train_a_shared_teacher_once(real):
    rows = ["cifar10_stl_classification", "cats_vs_dogs_stl_classification"]
    smoke = [f"{row}:smoke" for row in rows]
    settings = [*FEW_UPDATES, "--config.pretrain.num_epochs=400"]
    first = real.start(*smoke, settings=settings)
    wait_until(lambda: real.stages(rows[0]) == {"pretrain"} or first.poll() is not None)
    trainer = json.loads((real.runs / f"{rows[0]}-smoke" / ".holder.json").read_text())["process"]
    os.kill(trainer, signal.SIGSTOP)
    try:
        second = real.start(*smoke, settings=settings)
        wait_until(lambda: "busy: teacher" in real.log(rows[1]) or second.poll() is not None)
    finally:
        os.kill(trainer, signal.SIGCONT)
    printed = [worker.communicate(timeout=100)[0] for worker in (first, second)]
    for worker, each in zip((first, second), printed, strict=True):
        assert worker.returncode == 0, each
        assert states(each) == dict.fromkeys(smoke, "finished")
    assert f"{smoke[1]}: put off, busy: teacher classification-stl10-" in printed[1]
    assert "pretrain" in real.stages(rows[0]) and "pretrain" not in real.stages(rows[1])
    assert ": trained before, read from" in real.log(rows[1])
