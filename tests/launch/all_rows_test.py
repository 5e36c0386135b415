"""`launch/all_rows.sh`: with a stand-in for the runs, which does what a test says; and with real runs, at the end."""

import contextlib
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest

from brittle_jax.results import read_metrics
from tests.conftest import ONE_DEVICE
from tests.small_runs import read, without_times

ROOT = pathlib.Path(__file__).parent.parent.parent
SCRIPT = ROOT / "launch" / "all_rows.sh"

# Stands in for python in `batch check`: finds that rows lack nothing, and lists them as they are given.
CHECK = """#!/usr/bin/env bash
here=$(dirname "$0")
if [[ $2 == brittle_jax.batch ]]; then
  [[ $3 == check ]] || exec "$REAL_PYTHON" "$@"
  for word in "${@:4}"; do [[ $word == -* ]] || echo "$word"; done >"${4#--list_to=}"
  if [[ -e $here/check ]]; then . "$here/check"; fi
  exit
fi
"""
# Stands in for python: does what a file in its folder says for a row.
STAND_IN = """
for argument in "$@"; do
  case $argument in --config=*) row=${argument#*=} ;; --workdir=*) folder=${argument#*=} ;; esac
done
echo "$row" >>"$here/calls"
finish() { mkdir -p "$folder"; cp "$here/results.json" "$folder"; }
if [[ -e $here/$row ]]; then . "$here/$row"; else finish; fi
"""
RESULTS = {"configurations": [{"auroc": {"kd": 0.5}, "brittleness": 0.01}], "seconds": {"data": 1.0}}

pytestmark = pytest.mark.skipif(shutil.which("flock") is None, reason="flock is not installed")


@contextlib.contextmanager
def heeding_interrupts():
    """Lets the processes that start in the block receive SIGINT.

    A script that starts with SIGINT ignored cannot trap it. Tests that run in the background of a shell without job
    control have SIGINT ignored, and would pass that on.
    """
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class Launcher:
    """Starts the script in a folder of its own, with a stand-in for python."""

    def __init__(self, folder, program=CHECK + STAND_IN):
        self.runs, self.stand_in = folder / "my rows", folder / "stand_in"
        self.stand_in.mkdir()
        self.write_program("python", program)
        (self.stand_in / "results.json").write_text(json.dumps(RESULTS))
        self._environment = {**os.environ, "PYTHON": str(self.stand_in / "python"), "REAL_PYTHON": sys.executable}
        self._environment |= {"PYTHONPATH": str(ROOT), "RETRY_SECONDS": "0.2"}
        self._environment["PATH"] = f"{self.stand_in}:{os.environ['PATH']}"

    def write_program(self, name, text):
        (self.stand_in / name).write_text(text)
        (self.stand_in / name).chmod(0o755)

    def when(self, row, does):
        (self.stand_in / row).write_text(does)

    def start(self, *arguments, settings=()):
        command = [str(SCRIPT), f"--runs={self.runs}", *arguments, *(["--", *settings] if settings else [])]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        with heeding_interrupts():
            return subprocess.Popen(command, env=self._environment, start_new_session=True, **pipes)

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
    code, printed = launcher.run("xray_random", "plant_random", settings=["--config.seed=1"])
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
    os.killpg(process.pid, number)  # as a terminal does: all but the row, which is a process group of its own
    printed, _ = process.communicate(timeout=30)
    assert process.returncode == 75 and launcher.calls == ["xray_random", "stopped"]
    assert states(printed) == {"xray_random": "stopped", "plant_random": "not run"}


def test_a_signal_before_the_first_row_starts_none(launcher):
    (launcher.stand_in / "check").write_text("touch $here/on; while :; do sleep 0.1; done")
    process = launcher.start("xray_random", "--anyway")
    wait_until((launcher.stand_in / "on").exists)
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 75 and not launcher.runs.exists()


def test_a_row_that_is_suspended_has_not_ended(launcher):
    launcher.when("xray_random", "echo $$ >$here/on; sleep 0.2; finish")
    process = launcher.start("xray_random")
    wait_until(lambda: (launcher.stand_in / "on").exists() and (launcher.stand_in / "on").read_text())
    row = int((launcher.stand_in / "on").read_text())
    os.killpg(row, signal.SIGSTOP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.5)
    os.killpg(row, signal.SIGCONT)
    assert states(process.communicate(timeout=30)[0]) == {"xray_random": "finished"}


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
    (launcher.stand_in / "check").write_text("exit 2")
    assert launcher.run("xray_random")[0] == 2 and not launcher.runs.exists()
    assert launcher.run("xray_random", "--anyway")[0] == 0 and launcher.calls == ["xray_random"]


def test_a_mistake_in_the_rows_starts_nothing_at_all(launcher):
    (launcher.stand_in / "check").write_text(': >"${4#--list_to=}"; exit 2')
    assert launcher.run("xray_randon", "--anyway")[0] == 2 and not launcher.runs.exists()


def test_the_results_of_another_run_are_not_those_of_a_row(launcher):
    (launcher.runs / "xray_random").mkdir(parents=True)
    shutil.copy(launcher.stand_in / "results.json", launcher.runs / "xray_random")
    (launcher.stand_in / "check").write_text('echo "xray_random lacks" >"${4#--list_to=}"; exit 2')
    launcher.when("xray_random", "echo 'error: belongs to a run with seed=7, not 0'; exit 2")
    assert launcher.run("xray_random", "--anyway")[0] == 1 and launcher.calls == ["xray_random"]


def test_a_log_that_cannot_be_written_is_named_and_the_rest_goes_on(launcher):
    (launcher.runs / "xray_random.log").mkdir(parents=True)
    code, printed = launcher.run("xray_random", "plant_random")
    assert code == 1 and launcher.calls == ["plant_random"]
    assert f"xray_random: failed, {launcher.runs}/xray_random.log cannot be written [1/2]" in printed
    assert states(printed) == {"xray_random": "failed", "plant_random": "finished"}


def test_a_folder_that_cannot_be_made_is_a_mistake(launcher):
    launcher.runs.touch()
    code, printed = launcher.run("xray_random")
    assert code == 2 and f"error: --runs={launcher.runs} cannot be made" in printed


def test_where_files_cannot_be_locked_rows_run(launcher):
    launcher.write_program("flock", "#!/bin/sh\necho 'flock: No locks available' >&2\nexit 71\n")
    code, printed = launcher.run("xray_random")
    assert code == 0 and launcher.calls == ["xray_random"]


def test_an_unknown_option_is_a_mistake(launcher):
    code, printed = launcher.run("--config.seed=1")
    assert code == 2 and "settings of each row come after --" in printed


SETTINGS = ["--config.network.name=mini", "--config.evaluate.bootstrap_samples=20", "--config.distill.update_steps=2"]
SETTINGS += ["--config.data.max_train_samples=16", "--config.data.max_test_samples=8"]
SETTINGS += ["--config.probe.max_train_samples=32", "--config.pretrain.batch_size=16"]
SETTINGS += ["--config.pretrain.max_train_samples=16", "--config.pretrain.max_test_samples=8"]
SETTINGS += ["--config.pretrain.warmup_epochs=0", "--config.pretrain.num_epochs=1500"]  # a second or two
ROWS = ["cifar10_stl_classification", "cats_vs_dogs_stl_classification"]  # with one teacher


@pytest.fixture(scope="module")
def warm_python(tmp_path_factory):
    """The start of a command that runs modules in copies of a process that has imported JAX already."""
    program = [sys.executable, str(ROOT / "tests" / "launch" / "warm_python.py")]
    path = tmp_path_factory.mktemp("warm") / "socket"
    compiled = ROOT / ".pytest_cache" / "compiled"
    environment = {**os.environ, "XLA_FLAGS": ONE_DEVICE, "JAX_COMPILATION_CACHE_DIR": str(compiled)}
    server = subprocess.Popen([*program, "serve", path], env=environment)
    wait_until(path.exists, seconds=60)
    yield shlex.join([sys.executable, "-S", program[1], "call", str(path)])
    server.kill()
    server.wait()


@pytest.mark.workers  # which start the same warm process
def test_rows_and_settings_reach_the_commands(tmp_path, warm_python):
    launcher = Launcher(tmp_path, f'#!/usr/bin/env bash\nexec {warm_python} "$@"\n')
    row = "xray_random:smok"  # a word that no row has
    code, printed = launcher.run(row, "--anyway", settings=["cifar10"])
    assert code == 2 and "'cifar10' is a stray argument" in printed
    code, printed = launcher.run(row, "--anyway", settings=["--config.seed=1"])
    assert code == 1 and states(printed) == {row: "failed"}
    assert "1 of 1 row cannot run yet" in printed


class Runs(Launcher):
    """Starts the script with real runs, on made-up data."""

    def __init__(self, folder, python, data_dir):
        super().__init__(folder, CHECK + f'exec {python} "$@"\n')
        self._settings = [f"--config.data.dir={data_dir}", *SETTINGS]

    def start(self, *rows):
        return super().start(*rows, settings=self._settings)

    def folder(self, row):
        return self.runs / f"{row}-smoke"

    def log(self, row):
        file = self.runs / f"{row}-smoke.log"
        return file.read_text() if file.exists() else ""

    def stages(self, row):
        return {stage.split()[0] for stage in read_metrics(self.folder(row))}

    def wait_for_training(self, row, process):
        wait_until(lambda: self.stages(row) == {"pretrain"} or process.poll() is not None)


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory, warm_python, data_dir):
    """Runs that two workers on one list have made, and what each of these printed."""
    runs = Runs(tmp_path_factory.mktemp("two"), warm_python, data_dir)
    smoke = [f"{row}:smoke" for row in ROWS]
    first = runs.start(*smoke)
    runs.wait_for_training(ROWS[0], first)
    trainer = json.loads((runs.folder(ROWS[0]) / ".holder.json").read_text())["process"]
    os.kill(trainer, signal.SIGSTOP)
    try:
        second = runs.start(*smoke)
        wait_until(lambda: "busy: teacher" in runs.log(ROWS[1]) or second.poll() is not None)
    finally:
        os.kill(trainer, signal.SIGCONT)
    printed = [worker.communicate(timeout=100)[0] for worker in (first, second)]
    for worker, each in zip((first, second), printed, strict=True):
        assert worker.returncode == 0, each
        assert states(each) == dict.fromkeys(smoke, "finished")
    return runs, printed


@pytest.mark.workers
def test_workers_train_a_shared_teacher_once(two_workers):
    runs, printed = two_workers
    assert f"{ROWS[1]}:smoke: put off, busy: teacher classification-stl10-" in printed[1]
    assert "pretrain" in runs.stages(ROWS[0]) and "pretrain" not in runs.stages(ROWS[1])
    assert ": trained before, read from" in runs.log(ROWS[1])


@pytest.mark.workers
def test_a_row_that_fails_is_named_and_one_that_is_stopped_goes_on(two_workers, tmp_path, warm_python, data_dir):
    runs, row = Runs(tmp_path, warm_python, data_dir), f"{ROWS[0]}:smoke"
    rows = ["xray_random:smok", row, "plant_random:smok"]  # words that no row has
    process = runs.start(*rows)
    runs.wait_for_training(ROWS[0], process)
    process.terminate()
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 75, printed
    assert states(printed) == dict(zip(rows, ("failed", "stopped", "not run"), strict=True))
    assert "stopped by SIGTERM; pretrain" in runs.log(ROWS[0])
    code, printed = runs.run(*rows)
    assert code == 1, printed
    assert states(printed) == dict(zip(rows, ("failed", "finished", "failed"), strict=True))
    assert "xray_random:smok: error: --config=xray_random:smok: " in printed
    of_both = [without_times(read(each.folder(ROWS[0]), "results.json")) for each in (runs, two_workers[0])]
    assert of_both[0] == of_both[1]
