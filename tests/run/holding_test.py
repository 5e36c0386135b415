import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import filelock
import pytest

from brittle_jax.errors import BusyError, UserError
from brittle_jax.run import holding

HOLD = """
import pathlib, sys, time
from brittle_jax.run import holding
with holding.hold(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def other_process(tmp_path):
    """Another process, which holds tmp_path."""
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_another_process_is_named(tmp_path, other_process):
    named = f"--workdir={tmp_path} is in use by process {other_process.pid} on {socket.gethostname()}, since "
    message = re.escape(named) + "[-0-9]{10} [:0-9]{8}: wait for it, or name another$"
    for _ in range(2):  # the first attempt does not change what the second one says
        with pytest.raises(UserError, match=message), holding.hold(tmp_path):
            pass


def test_a_killed_process_holds_nothing(tmp_path, other_process):
    other_process.send_signal(signal.SIGKILL)
    other_process.wait()
    assert json.loads((tmp_path / ".holder.json").read_text())["process"] == other_process.pid
    with holding.hold(tmp_path):
        assert json.loads((tmp_path / ".holder.json").read_text())["process"] == os.getpid()
    assert [file.name for file in tmp_path.iterdir()] == [".lock"]


@pytest.fixture
def an_hour_east_of_greenwich(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "XYZ-1")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("an_hour_east_of_greenwich")
def test_the_time_is_local(tmp_path):
    holder = {"process": 1234, "host": "node-7", "since": "2026-11-26T11:03:04+00:00"}
    (tmp_path / ".holder.json").write_text(json.dumps(holder))
    with filelock.FileLock(tmp_path / ".lock"), pytest.raises(UserError) as caught, holding.hold(tmp_path):
        pass
    assert str(caught.value) == (
        f"--workdir={tmp_path} is in use by process 1234 on node-7, since 2026-11-26 12:03:04: wait for it, or name "
        "another"
    )


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "[]",
        "{}",
        '{"process": Infinity, "host": "node", "since": "2026-11-26T11:03:04+00:00"}',
        '{"process": 1, "host": "node", "since": "yesterday"}',
        '{"process": 1, "host": "node", "since": 5}',
        '{"process": 1, "host": "node", "since": "0001-01-01T00:00:00+14:00"}',
        '{"process": 1, "host": "two\\nlines", "since": "2026-11-26T11:03:04+00:00"}',
    ],
)
def test_a_holder_that_is_not_known_is_another_process(tmp_path, content):
    if content is not None:
        (tmp_path / ".holder.json").write_text(content)
    with filelock.FileLock(tmp_path / ".lock"), pytest.raises(UserError) as caught, holding.hold(tmp_path):
        pass
    assert str(caught.value) == f"--workdir={tmp_path} is in use by another process: wait for it, or name another"


def test_a_folder_is_free_again_after_an_error(tmp_path):
    with pytest.raises(KeyboardInterrupt), holding.hold(tmp_path):
        raise KeyboardInterrupt
    (tmp_path / ".holder.json").mkdir()
    with pytest.raises(UserError, match="holder.json cannot be written"), holding.hold(tmp_path):
        pass
    (tmp_path / ".holder.json").rmdir()
    with holding.hold(tmp_path):
        pass


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


MOVED = "was moved or deleted while this run was writing to it: move it back and run the same command again$"


@pytest.mark.parametrize("way", ["moved", "deleted", "made again", "a file in its place", "another's"])
def test_a_folder_that_vanishes_is_noticed(folder, way):
    with holding.hold(folder) as held:
        held.check()
        if way == "deleted":
            shutil.rmtree(folder)
        else:
            folder.rename(folder.with_name("moved"))
        if way == "made again":
            folder.mkdir()
        if way == "a file in its place":
            folder.touch()
        if way == "another's":
            folder.mkdir()
            (folder / ".lock").touch()
            (folder / ".holder.json").write_text("another's")
        for _ in range(2):
            with pytest.raises(UserError, match=re.escape(f"--workdir={folder} ") + MOVED):
                held.check()
    if way == "another's":
        assert (folder / ".holder.json").read_text() == "another's"
    else:
        assert not folder.is_dir() or not list(folder.iterdir())


def test_a_folder_that_is_back_in_its_place_is_held_as_before(folder):
    with holding.hold(folder) as held:
        folder.rename(folder.with_name("moved"))
        folder.with_name("moved").rename(folder)
        held.check()
    assert [file.name for file in folder.iterdir()] == [".lock"]


def test_a_deleted_lock_is_noticed(folder):
    with holding.hold(folder) as held:
        (folder / ".lock").unlink()
        with pytest.raises(UserError, match=r"its file \.lock, which keeps other runs out, was deleted"):
            held.check()
        with holding.hold(folder):
            pass


def test_a_folder_that_cannot_be_reached_is_noticed(folder):
    with holding.hold(folder) as held:
        folder.rename(folder.with_name("moved"))
        folder.symlink_to(folder)  # a loop
        with pytest.raises(UserError, match=r"run can no longer be reached \(Too many levels .*\): restore access"):
            held.check()


def test_a_folder_that_is_held_is_not_free(tmp_path, other_process):
    with pytest.raises(BusyError, match=f"is in use by process {other_process.pid} on "):
        holding.check_free(tmp_path)
    other_process.kill()
    other_process.wait()
    holding.check_free(tmp_path)
    holding.check_free(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
