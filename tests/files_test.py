import errno
import json
import os
import pathlib
import shutil

import numpy as np
import pytest

from brittle_jax import files
from brittle_jax.errors import DISK_FULL, DamagedError, UserError


def test_json_holds_null_for_what_is_not_a_number(tmp_path):
    content = {"a": float("nan"), "b": np.float32(0.5), "c": [np.int64(3), float("inf")], "d": np.arange(2)}
    files.write_json(tmp_path / "x.json", content)
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": None, "b": 0.5, "c": [3, None], "d": [0, 1]}
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_file_whose_writing_fails_stays_as_it_was(tmp_path, error):
    path = tmp_path / "deep" / "x.txt"
    files.write_text(path, "before, ü\r\n")
    with pytest.raises(error), files.replacing(path) as partial:
        partial.write_text("half")
        raise error
    assert path.read_bytes() == "before, ü\r\n".encode()
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("name", ["taken", "taken/inner", "lost/inner"])
def test_what_is_in_the_place_of_a_file_is_named(tmp_path, name):
    (tmp_path / "taken" / "inner").mkdir(parents=True)
    (tmp_path / "lost").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match=f"{name} cannot be written .*: move away what is in its place"):
        files.write_text(tmp_path / name, "text")
    assert not list(tmp_path.rglob("*.partial"))


@pytest.fixture
def read_only_folder(tmp_path):
    """A folder that nobody can write to, not even root, whom permissions do not bind."""
    tmp_path.chmod(0o500)
    is_writable, sysfs = os.access(tmp_path, os.W_OK), pathlib.Path("/sys")
    if is_writable and not sysfs.is_dir():
        pytest.skip("root can write everywhere here")
    yield sysfs if is_writable else tmp_path
    tmp_path.chmod(0o700)


def test_a_read_only_folder_is_to_be_made_writable(read_only_folder):
    with pytest.raises(
        UserError, match=r"x\.json cannot be written \(.+\): make it writable, then run the same command"
    ):
        files.write_text(read_only_folder / "x.json", "text")


def test_a_folder_that_vanishes_while_a_file_is_written_is_to_be_moved_back(tmp_path):
    with (
        pytest.raises(UserError, match="No such file or directory.: its folder was moved or deleted: move it back"),
        files.replacing(tmp_path / "run" / "x.json") as partial,
    ):
        partial.write_text("text")
        shutil.rmtree(tmp_path / "run")


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EISDIR, "move away what is in its place"),
        (errno.EROFS, "make it writable, then run the same command again"),
        (errno.EACCES, "make it writable, then run the same command again"),
        (errno.EPERM, "make it writable, then run the same command again"),
        (errno.ESTALE, "its folder was moved or deleted: move it back, then run the same command again"),
        (errno.EIO, "check the disk and the connection to it, then run the same command again"),
        (errno.EFBIG, "raise the limit of file sizes, see ulimit -f, then run the same command again"),
        (errno.ENAMETOOLONG, "shorten its name"),
        (errno.EBUSY, "remove the cause, then run the same command again"),
    ],
    ids=lambda value: errno.errorcode.get(value),
)
def test_each_reason_why_a_file_cannot_be_written_has_its_remedy(tmp_path, number, remedy):
    path, reason = tmp_path / "x.json", os.strerror(number)
    files.write_text(path, "before")
    with pytest.raises(UserError) as caught, files.replacing(path) as partial:
        partial.write_text("half")
        raise OSError(number, reason)
    assert str(caught.value) == f"{path} cannot be written ({reason}): {remedy}"
    assert [file.read_text() for file in tmp_path.iterdir()] == ["before"]


@pytest.mark.parametrize("number", DISK_FULL)
def test_a_full_disk_is_not_the_users_mistake(tmp_path, number):
    with pytest.raises(OSError, match=os.strerror(number)), files.replacing(tmp_path / "x.json"):
        raise OSError(number, os.strerror(number))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not JSON: Expecting value"),
        (b'{"a": "cut o', "not JSON: Unterminated string"),
        (b"\xff\xfe", "not a text in UTF-8"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_damaged_json_is_named_with_what_to_do(tmp_path, content, reason):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(
        DamagedError, match=f"x.json is damaged \\({reason}.*\\): restore it from a copy, or run the command"
    ):
        files.read_json(tmp_path / "x.json")


@pytest.fixture
def folder(tmp_path):
    for name in ("a.txt", "deep/b.bin", "deep/er/ü.txt", "left out"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    files.write_manifest(tmp_path, files.digests_of(tmp_path, only={"a.txt", "deep"}))
    return tmp_path


def test_undamaged_files_have_no_changes(folder):
    (folder / "left out").write_text("changed")
    (folder / "deep" / "added").write_text("new")
    assert files.changes_since_manifest(folder) == {}


def test_whatever_happens_to_a_listed_file_is_told(folder):
    (folder / "a.txt").write_text("A.txt")
    (folder / "deep" / "b.bin").unlink()
    assert files.changes_since_manifest(folder) == {"a.txt": "changed", "deep/b.bin": "missing"}


def test_links_are_not_followed(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    os.rename(folder / "deep", elsewhere / "deep")
    os.symlink(elsewhere / "deep", folder / "deep")
    os.rename(folder / "a.txt", elsewhere / "a.txt")
    os.symlink(elsewhere / "a.txt", folder / "a.txt")
    assert set(files.changes_since_manifest(folder).values()) == {"a link"}
    assert "a.txt" not in files.digests_of(folder)


def test_every_flipped_bit_of_the_manifest_is_noticed(folder):
    files.write_manifest(folder, files.digests_of(folder, only={"a.txt"}))
    manifest = folder / files.MANIFEST
    sound = manifest.read_bytes()
    for bit in range(8 * len(sound)):
        flipped = bytearray(sound)
        flipped[bit // 8] ^= 1 << bit % 8
        manifest.write_bytes(flipped)
        try:
            assert files.changes_since_manifest(folder), f"bit {bit}"
        except DamagedError:
            pass
    manifest.unlink()
    with pytest.raises(DamagedError, match="manifest.json is missing: restore it from a copy"):
        files.changes_since_manifest(folder)


def test_one_file_can_be_compared_by_itself(folder):
    (folder / "a.txt").write_text("A.txt")
    assert files.is_as_listed(folder, "deep/b.bin")
    assert not files.is_as_listed(folder, "a.txt") and not files.is_as_listed(folder, "left out")
    (folder / files.MANIFEST).unlink()
    assert not files.is_as_listed(folder, "deep/b.bin")


def test_a_manifest_never_leads_out_of_its_folder(folder):
    files.write_manifest(folder, {"../secret": "0" * 64, "/etc/hostname": "0" * 64})
    assert set(files.changes_since_manifest(folder).values()) == {"outside of the folder"}


def test_what_is_no_regular_file_of_bounded_size_is_refused(tmp_path):
    file = tmp_path / "file.json"
    file.write_bytes(b"0123456789")
    files.check_regular(file, 10)
    (tmp_path / "link.json").symlink_to(file)
    os.mkfifo(tmp_path / "pipe.json")
    for name, most, reason in (
        ("file.json", 9, "10 bytes, more than 9"),
        ("link.json", 10, "a link"),
        ("pipe.json", 10, "not a regular file"),
        ("none.json", 10, "missing"),
        ("file.json/below", 10, "Not a directory"),
    ):
        with pytest.raises(DamagedError, match=reason):
            files.check_regular(tmp_path / name, most)
