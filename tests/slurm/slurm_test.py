"""launch/slurm.sbatch and launch/slurm_array.sbatch in a private Slurm of two nodes, with real runs of tiny rows.

Shows what happens and when with `python -m pytest -m slurm -n 0 -s`.
"""

import pathlib
import re
import subprocess
import sys
import time

import pytest

from brittle_jax.results import read_metrics
from tests.slurm.private_slurm import PrivateSlurm, lacks, private_slurm
from tests.small_runs import read, without_times

ROOT = pathlib.Path(__file__).parent.parent.parent
ROW = "cats_vs_dogs_random:smoke"
SMALL = ["--config.network.name=mini", "--config.evaluate.bootstrap_samples=20", "--config.probe.max_train_samples=32"]
SMALL += ["--config.data.max_train_samples=16", "--config.data.max_test_samples=8", "--config.pretrain.batch_size=16"]
SMALL += ["--config.pretrain.warmup_epochs=0"]
ONE = [*SMALL, "--config.data.configurations=cat"]
SECONDS_AT_MOST = 200

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(lacks()), reason=lacks()),
]


class Jobs:
    """Submits the project's jobs, and says what becomes of them."""

    def __init__(self, slurm: PrivateSlurm, folder: pathlib.Path, data_dir: str):
        self.slurm, self.folder, self.runs, self.plain = slurm, folder, folder / "rows", None
        python = folder / "python"
        program = ROOT / "tests" / "slurm" / "small_python.py"
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{program}" "$@"\n', encoding="utf-8")
        python.chmod(0o755)
        self._environment = {**slurm.environment, "XLA_FLAGS": "", "PYTHON": str(python), "RUNS": str(self.runs)}
        self._environment |= {"TFDS_DATA_DIR": data_dir, "RETRY_MINUTES": "0", "CHECKOUT": str(ROOT)}
        self._environment |= {"JAX_COMPILATION_CACHE_DIR": str(ROOT / ".pytest_cache" / "compiled")}

    def submit(self, script, *arguments, options=(), seconds_per_update=0.0) -> str:
        """Returns the job's ID."""
        command = ["sbatch", "--parsable", *options, ROOT / "launch" / script, *arguments]
        environment = self._environment | {"SECONDS_PER_UPDATE": str(seconds_per_update)}
        job = self.slurm.call(*command, cwd=self.folder, env=environment)
        self.say(job, f"submitted {script}")
        return job

    def start_plainly(self, row, *settings):
        """Starts a run outside Slurm, the process `plain`, in the folder `plain`."""
        command = [self._environment["PYTHON"], "-m", "brittle_jax.main", f"--config={row}", *settings]
        command += [f"--workdir={self.folder / 'plain'}"]
        with open(self.folder / "plain.log", "w", encoding="utf-8") as log:
            self.plain = subprocess.Popen(command, cwd=ROOT, env=self._environment, stdout=log, stderr=log)

    def log(self, job) -> str:
        file = self.folder / f"slurm-{job}.log"
        return file.read_text(encoding="utf-8") if file.exists() else ""

    def state(self, job) -> str:
        return self.slurm.call("squeue", "--noheader", f"--jobs={job}", "--states=all", "--format=%T")

    def restarts(self, job) -> int:
        return int(re.search(r"Restarts=(\d+)", self.slurm.call("scontrol", "show", "job", job))[1])

    def wait_until(self, job, what, condition):
        """Waits for something that happens before the job ends, or for its end."""
        end = time.monotonic() + SECONDS_AT_MOST
        while not condition():
            state = self.state(job)
            is_over = state in ("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "NODE_FAIL") and not condition()
            assert not is_over and time.monotonic() < end, f"{job} is {state}, not {what}\n{self.log(job)}"
            time.sleep(0.2)
        self.say(job, what)

    def wait_for_end(self, job, state="COMPLETED"):
        self.wait_until(job, state, lambda: self.state(job) == state)

    @staticmethod
    def say(job, what):
        print(f"[{time.strftime('%X')}] job {job}: {what}", flush=True)


@pytest.fixture(scope="module")
def slurm():
    with private_slurm() as its:
        yield its


@pytest.fixture
def jobs(slurm, tmp_path, data_dir):
    its = Jobs(slurm, tmp_path, data_dir)
    yield its
    if its.plain is not None:
        its.plain.kill()
        its.plain.wait()


def assert_equal_runs(folder, other):
    """Asserts that two runs have the same results, and the same scores byte for byte."""
    results, expected = (without_times(read(each, "results.json")) for each in (folder, other))
    assert results.pop("environment").keys() == expected.pop("environment").keys()
    assert results == expected
    files, expected_files = (
        {file.relative_to(each / "scores"): file.read_bytes() for file in (each / "scores").rglob("*.*")}
        for each in (folder, other)
    )
    assert files and files == expected_files


def done_before(log) -> list[int]:
    """Returns how many updates of a network were done each time when its training went on."""
    return [int(number.replace(",", "")) for number in re.findall(r"distill \S+: ([\d,]+) of [\d,]+ updates done", log)]


def test_tasks_of_an_array_train_a_shared_teacher_once(jobs):
    rows = ["cifar10_stl_classification", "cats_vs_dogs_stl_classification"]
    settings = [*SMALL, "--config.distill.update_steps=2", "--config.pretrain.num_epochs=600"]
    array = jobs.submit(
        "slurm_array.sbatch", *(f"{row}:smoke" for row in rows), "--", *settings, options=["--array=0-1"]
    )
    tasks = [f"{array}_{number}" for number in (0, 1)]
    folders = [jobs.runs / f"{row}-smoke" for row in rows]
    for task in tasks:
        jobs.wait_for_end(task)
    logs = [jobs.log(task) for task in tasks]
    assert all((folder / "results.json").exists() for folder in folders)
    stages = [{stage.split()[0] for stage in read_metrics(folder)} for folder in folders]
    assert sum("pretrain" in each for each in stages) == 1
    row_logs = [folder.with_suffix(".log").read_text(encoding="utf-8") for folder in folders]
    assert sum(": trained before, read from" in log for log in row_logs) == 1
    assert sum("put off, busy: teacher classification-stl10-" in log for log in logs) == 1, logs
    assert sum("requeued, to start in 0 minutes" in log for log in logs) >= 1, logs
    nodes = {re.search(r"attempt 1 on (\S+)", log)[1] for log in logs}
    assert nodes == {"n1", "n2"}


def test_a_job_that_is_requeued_in_flight_goes_on(jobs):
    settings = [*ONE, "--config.distill.update_steps=200"]
    jobs.start_plainly(ROW, *settings)
    job = jobs.submit("slurm.sbatch", ROW, "--", *settings, seconds_per_update=0.05)
    folder = jobs.runs / ROW.replace(":", "-")
    jobs.wait_until(job, "training", lambda: any("distill" in stage for stage in read_metrics(folder)))
    jobs.slurm.call("scontrol", "requeue", job)
    jobs.wait_until(job, "requeued", lambda: jobs.restarts(job) == 1)
    jobs.wait_for_end(job)
    assert jobs.plain.wait(SECONDS_AT_MOST) == 0
    assert len(done_before(jobs.log(job))) == 1, jobs.log(job)
    assert_equal_runs(folder, jobs.folder / "plain")


def test_a_cancelled_job_saves_its_work_and_does_not_come_back(jobs):
    job = jobs.submit("slurm.sbatch", ROW, "--", *ONE, "--config.distill.update_steps=100000")
    folder = jobs.runs / ROW.replace(":", "-")
    jobs.wait_until(job, "training", lambda: any("distill" in stage for stage in read_metrics(folder)))
    jobs.slurm.call("scancel", job)
    jobs.wait_for_end(job, "CANCELLED")
    log = jobs.log(job)
    assert "stopped by SIGTERM; distill cat: " in log and "because Slurm ended the job" in log
    assert jobs.restarts(job) == 0


def test_nothing_is_left_when_a_block_fails():
    with pytest.raises(ZeroDivisionError), private_slurm() as slurm:
        job = slurm.call("sbatch", "--parsable", "--output=/dev/null", "--wrap=trap '' TERM; sleep 300; sleep 300")
        while slurm.call("squeue", "--noheader", f"--jobs={job}", "--format=%T") != "RUNNING":
            time.sleep(0.1)
        assert slurm.processes()
        raise ZeroDivisionError
    assert not slurm.processes()


def test_a_job_that_meets_its_time_limit_goes_on_inside_the_network(jobs):
    # The time limit, a minute, is Slurm's shortest: the updates alone take longer.
    settings = [*ONE, "--config.distill.update_steps=650"]
    jobs.start_plainly(ROW, *settings)
    options = ["--time=1", "--signal=B:TERM@5"]
    job = jobs.submit("slurm.sbatch", ROW, "--", *settings, options=options, seconds_per_update=0.1)
    jobs.wait_until(job, "stopped before the time limit", lambda: "stopped by SIGTERM" in jobs.log(job))
    jobs.wait_until(job, "requeued", lambda: "requeued, to go on where it stopped" in jobs.log(job))
    jobs.wait_for_end(job)
    assert jobs.plain.wait(SECONDS_AT_MOST) == 0
    done = done_before(jobs.log(job))
    assert done and done == sorted(done) and done[0] > 0, jobs.log(job)
    assert_equal_runs(jobs.runs / ROW.replace(":", "-"), jobs.folder / "plain")
