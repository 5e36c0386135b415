"""launch/tpu_vm.sh: what a dry run prints, and what the script runs, by a `gcloud` that only takes notes."""

import os
import pathlib
import shlex
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent
SCRIPT = ROOT / "launch" / "tpu_vm.sh"
ALL = ["disks describe", "disks create", "describe", "create", "ssh", "scp", "ssh", "ssh", "ssh", "scp", "delete"]

# Notes its arguments, one call a line, and answers as STATE and FAIL say.
GCLOUD = r"""#!/usr/bin/env bash
printf '%q ' "$@" >>"$CALLS"; echo >>"$CALLS"
case $* in
  *'disks describe'*) echo "$DISK" ;;
  *'tpu-vm describe'*) echo "$STATE" ;;
esac
[[ -z $FAIL || $* != *$FAIL* ]] || exit 75
"""


@pytest.fixture
def run(tmp_path):
    """A function that runs the script; returns the finished process and the calls of gcloud, each a list of words."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "gcloud").write_text(GCLOUD, encoding="utf-8")
    (folder / "git").write_text("#!/bin/sh\n", encoding="utf-8")
    for name in ("gcloud", "git"):
        (folder / name).chmod(0o755)
    calls = tmp_path / "calls"

    def run(*arguments, answer="", **settings):
        calls.write_text("", encoding="utf-8")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TPU_")}
        environment = {**kept, "PATH": f"{folder}:{os.environ['PATH']}", "CALLS": str(calls)}
        environment |= {"DISK": "", "STATE": "", "FAIL": "", "TPU_PROJECT": "lab", "TPU_RESULTS": str(tmp_path / "to")}
        finished = subprocess.run(
            ["bash", SCRIPT, *arguments], input=answer, capture_output=True, text=True, env={**environment, **settings}
        )
        # %q keeps a call on one line; its words are split at spaces, which is enough to see what it does.
        return finished, [line.split() for line in calls.read_text(encoding="utf-8").splitlines()]

    return run


def printed(finished):
    """Returns the commands that a dry run has printed, each a list of words, as a shell reads them back."""
    lexer = shlex.shlex(finished.stdout, posix=True, punctuation_chars="\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " ", True, ""
    commands = [[]]
    for word in lexer:
        if word.strip("\n"):
            commands[-1].append(word)
        else:
            commands.append([])
    return [command for command in commands if command]


def verb(command):
    """Returns what a command of gcloud does: `create` (of a TPU VM), `disks create`, ..."""
    words = command[command.index("compute") + 1 :]
    return words[2] if words[:2] == ["tpus", "tpu-vm"] else " ".join(words[:2])


def remote(command):
    """Returns the script that a command runs on the VM."""
    return next(word.removeprefix("--command=") for word in command if word.startswith("--command="))


def test_a_dry_run_prints_every_command_in_order_and_runs_none(run):
    finished, calls = run("all", "--dry_run")
    assert (finished.returncode, finished.stderr, calls) == (0, "", [])
    commands = printed(finished)
    assert [verb(command) for command in commands if command[0] == "gcloud"] == ALL
    assert [command[0] for command in commands if command[0] != "gcloud"] == ["mkdir", "git", "mkdir"]
    assert all({"--project=lab", "--zone=us-west4-a"} <= set(command) for command in commands if command[0] == "gcloud")
    for command in commands:
        if "ssh" in command:
            subprocess.run(["bash", "-n", "-c", remote(command)], check=True)


def test_the_vm_is_created_with_the_disk_that_outlives_it(run):
    finished, _ = run("create", "--dry_run", TPU_NAME="mine", TPU_ZONE="z", TPU_TYPE="v4-8", TPU_VERSION="os")
    disk = "--data-disk=source=projects/lab/zones/z/disks/mine-disk,mode=read-write"
    create = printed(finished)[-1]
    assert create[:6] == ["gcloud", "compute", "tpus", "tpu-vm", "create", "mine"]
    assert {disk, "--zone=z", "--accelerator-type=v4-8", "--version=os", "--spot"} <= set(create)


def test_a_vm_that_is_not_spot(run):
    finished, _ = run("create", "--dry_run", TPU_SPOT="false")
    assert "--spot" not in finished.stdout


def test_rows_and_options_reach_the_vm_word_for_word(run):
    options = "--config.data.configurations='unimodal/automobile,multimodal/cat' --config.seed=1"
    finished, _ = run("run", "--dry_run", TPU_ROWS="xray plant_rotnet", TPU_OVERRIDES=options)
    (command,) = printed(finished)
    assert remote(command).endswith(f"/all_rows.sh xray plant_rotnet --runs=/mnt/brittle_jax/runs -- {options}")


def test_another_folder_of_results_is_written_and_fetched(run):
    for command in ("run", "estimate"):
        finished, _ = run(
            command, "--dry_run", TPU_ROWS="xray", TPU_RUNS="runs-seed-1", TPU_OVERRIDES="--config.seed=1"
        )
        (ssh,) = printed(finished)
        assert remote(ssh).endswith(" xray --runs=/mnt/brittle_jax/runs-seed-1 -- --config.seed=1")
    finished, _ = run("fetch", "--dry_run", TPU_RUNS="runs-seed-1")
    assert "brittle-jax:/mnt/brittle_jax/runs-seed-1" in printed(finished)[-1]
    finished, _ = run("fetch", "--dry_run")
    assert "brittle-jax:/mnt/brittle_jax/runs" in printed(finished)[-1]


@pytest.mark.parametrize(("extras", "installed"), [("", "code[tpu,prepare]"), ("weights", "code[tpu,prepare,weights]")])
def test_more_extras_are_installed(run, extras, installed):
    finished, _ = run("install", "--dry_run", TPU_EXTRAS=extras)
    assert f'--editable "{installed}"\n' in remote(printed(finished)[-1])


def test_a_dry_run_needs_no_project(run):
    finished, calls = run("all", "--dry_run", TPU_PROJECT="")
    assert (finished.returncode, finished.stderr, calls) == (0, "", [])
    commands = [command for command in printed(finished) if command[0] == "gcloud"]
    assert [verb(command) for command in commands] == ALL
    assert all("--project=YOUR-PROJECT" in command for command in commands)
    create = next(command for command in commands if verb(command) == "create")
    assert "--data-disk=source=projects/YOUR-PROJECT/zones/us-west4-a/disks/brittle-jax-disk,mode=read-write" in create


def test_all_runs_what_a_dry_run_prints(run):
    finished, calls = run("all", "--yes")
    assert finished.returncode == 0, finished.stderr
    assert [verb(call) for call in calls] == ALL


def test_a_vm_that_is_there_is_not_created_again(run):
    _, calls = run("create", DISK="brittle-jax-disk", STATE="READY")
    assert [verb(call) for call in calls] == ["disks describe", "describe"]


def test_a_preempted_vm_is_replaced_and_its_disk_kept(run):
    _, calls = run("create", DISK="brittle-jax-disk", STATE="PREEMPTED")
    assert [verb(call) for call in calls] == ["disks describe", "describe", "delete", "create"]


def test_a_vm_in_another_state_is_left_alone(run):
    finished, calls = run("create", STATE="REPAIRING", DISK="brittle-jax-disk")
    assert (finished.returncode, [verb(call) for call in calls]) == (2, ["disks describe", "describe"])
    assert "brittle-jax is REPAIRING" in finished.stderr


def test_rows_that_do_not_end_well_leave_the_vm_and_pass_on_their_exit_code(run):
    finished, calls = run("all", "--yes", FAIL="ExecMainStatus")
    assert (finished.returncode, verb(calls[-1])) == (75, "ssh")
    assert "exit code 75" in finished.stderr


@pytest.mark.parametrize("command", ["delete", "delete_disk"])
@pytest.mark.parametrize("answer", ["", "n\n", "\n"])
def test_nothing_is_deleted_without_a_yes(run, command, answer):
    finished, calls = run(command, answer=answer)
    assert (finished.returncode, calls) == (2, [])


@pytest.mark.parametrize(("arguments", "answer"), [([], "y\n"), (["--yes"], "")])
def test_a_yes_deletes_the_vm_and_not_the_disk(run, arguments, answer):
    finished, calls = run("delete", *arguments, answer=answer)
    assert finished.returncode == 0
    assert [verb(call) for call in calls] == ["delete"]
    assert "the disk brittle-jax-disk stays" in finished.stdout


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        (["all"], {"TPU_PROJECT": ""}, "TPU_PROJECT is empty"),
        (["create"], {"TPU_TYPE": "v4-16"}, "TPU_TYPE=v4-16 is not one of"),
        (["create"], {"TPU_SPOT": "yes"}, "TPU_SPOT=yes: give true or false"),
        (["run"], {"TPU_RUNS": "code"}, "TPU_RUNS=code: give a name such as runs-seed-1"),
        (["run"], {"TPU_RUNS": "runs/../code"}, "TPU_RUNS=runs/../code: give a name such"),
        (["fetch"], {"TPU_RUNS": "runs; reboot"}, "TPU_RUNS=runs; reboot: give a name"),
        ([], {}, "name a command"),
        (["create", "run"], {}, "give one command"),
        (["launch"], {}, "unknown argument launch"),
    ],
)
def test_a_mistake_is_named_before_anything_runs(run, arguments, settings, message):
    finished, calls = run(*arguments, **settings)
    assert (finished.returncode, calls) == (2, [])
    assert message in finished.stderr


def test_bash_can_read_the_script():
    subprocess.run(["bash", "-n", SCRIPT], check=True)


def test_shellcheck_finds_nothing():
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed")
    subprocess.run(["shellcheck", SCRIPT], check=True)
