"""launch/slurm_requeue.sh, and the scripts that use it, with stand-ins for Slurm's commands."""

import os
import pathlib
import signal
import subprocess
import time

import pytest

LAUNCH = pathlib.Path(__file__).parent.parent.parent / "launch"
# Stands in for squeue and scontrol: notes its arguments, and says that the job has the state STATE.
STAND_IN = """#!/bin/sh
echo "$(basename "$0") $*" >>"$CALLS"
case $0 in *squeue) echo "$STATE" ;; *) exit "$SCONTROL" ;; esac
"""


class Job:
    """Starts scripts as Slurm would, with the stand-ins."""

    def __init__(self, folder):
        self.folder, self._calls = folder, folder / "calls"
        for name in ("squeue", "scontrol"):
            (folder / name).write_text(STAND_IN, encoding="utf-8")
            (folder / name).chmod(0o755)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
        self._environment = {**kept, "PATH": f"{folder}:{os.environ['PATH']}", "CALLS": str(self._calls)}
        self._environment |= {"SLURM_JOB_ID": "7", "SLURMD_NODENAME": "n1", "STATE": "RUNNING", "SCONTROL": "0"}

    def start(self, script, *arguments, **settings):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        environment = {**self._environment, **settings}
        return subprocess.Popen([script, *arguments], env=environment, cwd=LAUNCH.parent, **pipes)

    def ends_with(self, code, **settings):
        """Returns the exit code, the output and the calls of scontrol if the command ends with `code`."""
        process = self.start(LAUNCH / "slurm_requeue.sh", "sh", "-c", f"exit {code}", **settings)
        printed, _ = process.communicate(timeout=30)
        return process.returncode, printed, self.calls

    @property
    def calls(self):
        lines = self._calls.read_text(encoding="utf-8").splitlines() if self._calls.exists() else []
        return [line.removeprefix("scontrol ") for line in lines if line.startswith("scontrol ")]


@pytest.fixture
def job(tmp_path):
    return Job(tmp_path)


@pytest.mark.parametrize("code", [0, 1, 2, 3, 137])
def test_other_exit_codes_become_those_of_the_job(job, code):
    exit_code, printed, calls = job.ends_with(code)
    assert (exit_code, calls) == (code, [])
    assert f"job 7: ended with exit code {code}\n" in printed


def test_a_job_that_was_stopped_is_requeued(job):
    code, printed, calls = job.ends_with(75)
    assert (code, calls) == (75, ["requeue 7"])
    assert "attempt 1 on n1" in printed and "requeued, to go on where it stopped" in printed


def test_a_job_that_finds_all_in_use_is_requeued_for_later(job):
    code, printed, calls = job.ends_with(4, RETRY_MINUTES="9", SLURM_RESTART_COUNT="2")
    assert (code, calls) == (4, ["requeue 7", "update JobId=7 StartTime=now+9minutes"])
    assert "attempt 3 on n1" in printed and "requeued, to start in 9 minutes" in printed


def test_a_task_of_an_array_requeues_itself_alone(job):
    _, _, calls = job.ends_with(75, SLURM_ARRAY_JOB_ID="7", SLURM_ARRAY_TASK_ID="0")
    assert calls == ["requeue 7_0"]


@pytest.mark.parametrize("code", [4, 75])
def test_a_job_that_slurm_is_ending_is_left_alone(job, code):
    exit_code, printed, calls = job.ends_with(code, STATE="COMPLETING")
    assert (exit_code, calls) == (code, [])
    assert "because Slurm ended the job" in printed


def test_a_job_that_cannot_be_requeued_says_so(job):
    code, printed, calls = job.ends_with(75, SCONTROL="1")
    assert (code, calls) == (75, ["requeue 7"])
    assert "could not be requeued: submit it again to go on" in printed


def test_sigterm_is_passed_on_once_and_waited_for(job):
    saves = f"""trap 'echo TERM >>"{job.folder}/signals"; sleep 0.5; exit 75' TERM; touch "{job.folder}/on"
    while :; do sleep 0.05; done"""
    process = job.start(LAUNCH / "slurm_requeue.sh", "bash", "-c", saves)
    wait_until((job.folder / "on").exists)
    process.send_signal(signal.SIGTERM)
    wait_until((job.folder / "signals").exists)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert (process.returncode, job.calls) == (75, ["requeue 7"])
    assert (job.folder / "signals").read_text(encoding="utf-8") == "TERM\n"


def test_a_command_that_sigterm_kills_has_lost_nothing(job):
    process = job.start(LAUNCH / "slurm_requeue.sh", "sh", "-c", f"touch {job.folder}/on; exec sleep 60")
    wait_until((job.folder / "on").exists)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert (process.returncode, job.calls) == (75, ["requeue 7"])


def wait_until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def called_with(job):
    """A function that runs a job; returns the words that Python gets first, which then fails."""

    def called_with(script, *arguments):
        (job.folder / "python").write_text(f'#!/bin/sh\necho "$*" >>{job.folder}/run\nexit 2\n', encoding="utf-8")
        (job.folder / "python").chmod(0o755)
        settings = {"SLURM_SUBMIT_DIR": str(LAUNCH.parent), "RUNS": "R", "PYTHON": str(job.folder / "python")}
        process = job.start("bash", LAUNCH / script, *arguments, **settings)
        process.communicate(timeout=30)
        assert process.returncode == 2
        return (job.folder / "run").read_text(encoding="utf-8").split()

    return called_with


def test_a_job_runs_its_row_with_its_settings(called_with):
    words = ["-m", "brittle_jax.main", "--config=xray_random:smoke", "--workdir=R/xray_random-smoke", "--nowait"]
    assert called_with("slurm.sbatch", "xray_random:smoke", "--", "--config.seed=1") == [*words, "--config.seed=1"]


def test_a_row_may_have_no_settings(called_with):
    words = ["-m", "brittle_jax.main", "--config=xray_random", "--workdir=R/xray_random", "--nowait"]
    assert called_with("slurm.sbatch", "xray_random") == words


def test_a_task_of_an_array_is_a_worker_on_the_list(called_with):
    words = called_with("slurm_array.sbatch", "xray", "plant_random", "--", "--config.seed=1")
    assert words[:3] == ["-m", "brittle_jax.batch", "check"]
    assert {"xray", "plant_random", "--runs=R"} < set(words) and words[-2:] == ["--", "--config.seed=1"]


def test_a_task_can_estimate_its_rows(called_with):
    words = called_with("slurm_array.sbatch", "xray", "--estimate", "--", "--config.seed=1")
    assert words == ["-m", "brittle_jax.batch", "estimate", "xray", "--runs=R", "--", "--config.seed=1"]


@pytest.mark.parametrize("arguments", [[], ["xray_random", "xray_rotnet"], ["--config.seed=1"]])
def test_a_job_of_one_row_takes_one_row(job, arguments):
    process = job.start("bash", LAUNCH / "slurm.sbatch", *arguments, SLURM_SUBMIT_DIR=str(LAUNCH.parent))
    printed, _ = process.communicate(timeout=30)
    assert process.returncode == 2 and "error: name one row" in printed


def test_both_jobs_have_the_same_block_for_the_site():
    blocks = []
    for name in ("slurm.sbatch", "slurm_array.sbatch"):
        text = (LAUNCH / name).read_text(encoding="utf-8")
        blocks.append(text[text.index("# ---- Your site") : text.index("# -------")])
    assert blocks[0] == blocks[1] and "#SBATCH --gres=gpu:1" in blocks[0]
