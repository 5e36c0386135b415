import errno
import os

import jax.numpy as jnp
import numpy as np
import pytest

from brittle_jax.background import Background
from brittle_jax.journal import Journal

NUM_BATCHES = 9


def rows_of(number):
    """The outputs of a batch: an array, in which some bits make no number."""
    rows = np.random.default_rng(number).standard_normal((3, 2)).astype(np.float32)
    rows[0, 0] = np.nan
    return rows


def pair_of(number):
    return rows_of(number), jnp.arange(number, number + 3)


def leaves_of(outputs):
    return outputs if isinstance(outputs, tuple) else (outputs,)


def assert_same_bits(actual, expected):
    assert isinstance(actual, tuple) == isinstance(expected, tuple)
    for one, other in zip(leaves_of(actual), leaves_of(expected), strict=True):
        other = np.asarray(other)
        assert isinstance(one, np.ndarray) and one.dtype == other.dtype and one.shape == other.shape
        assert one.tobytes() == other.tobytes()


def go_on(folder, outputs_of=rows_of, num_batches=NUM_BATCHES, most_pending_bytes=50):
    """Runs a pass as the loop does; returns how many batches it played back, after comparing them."""
    with Background() as background:
        journal, done = Journal(folder, background, most_pending_bytes), 0
        for outputs in journal.play_back():
            assert_same_bits(outputs, outputs_of(done))
            done += 1
        for number in range(done, num_batches):
            journal.add(outputs_of(number))
        journal.save()
    return done


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def kept(tmp_path):
    """The folder of a pass of nine batches of 24 bytes, in three files, and these files in their order."""
    folder = tmp_path / "works" / "pass"
    assert go_on(folder) == 0
    return folder, sorted(folder.iterdir())


@pytest.mark.parametrize("outputs_of", [rows_of, pair_of])
def test_outputs_come_back_bit_for_bit(tmp_path, outputs_of):
    assert go_on(tmp_path / "pass", outputs_of, 5) == 0
    assert go_on(tmp_path / "pass", outputs_of) == 5
    assert go_on(tmp_path / "pass", outputs_of) == NUM_BATCHES


def test_files_are_written_by_size_and_named_after_their_first_batch(kept):
    assert [file.name.split("-")[0] for file in kept[1]] == ["000000000", "000000003", "000000006"]


def test_what_was_not_saved_is_not_there(tmp_path):
    with Background() as background:
        journal = Journal(tmp_path / "pass", background)
        journal.save()  # of nothing
        journal.add(rows_of(0))
    assert not (tmp_path / "pass").exists()
    assert go_on(tmp_path / "pass") == 0


def test_what_is_saved_in_between_goes_on_from_there(tmp_path):
    with Background() as background:
        journal = Journal(tmp_path / "pass", background)
        for number in range(3):
            journal.add(rows_of(number))
            journal.save()
    assert len(list((tmp_path / "pass").iterdir())) == 3
    assert go_on(tmp_path / "pass") == 3


def flip(file, place):
    content = bytearray(file.read_bytes())
    content[place] ^= 1 << place % 8
    file.write_bytes(content)


def replace_by_link(file):
    os.replace(file, file.parent.parent / "elsewhere")
    file.symlink_to(file.parent.parent / "elsewhere")


def replace_by_folder(file):
    file.unlink()
    file.mkdir()
    (file / "inner").touch()


DAMAGES = {
    "a bit": lambda file: flip(file, 130),
    "half": lambda file: os.truncate(file, file.stat().st_size // 2),
    "empty": lambda file: os.truncate(file, 0),
    "longer": lambda file: file.write_bytes(file.read_bytes() + b"\0"),
    "a link": replace_by_link,
    "a dangling link": lambda file: (file.unlink(), file.symlink_to("nowhere")),
    "a folder": replace_by_folder,
    "deleted": lambda file: file.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("which", [0, 1, 2])
def test_what_comes_before_damage_is_used_and_the_rest_written_as_before(kept, which, damage, capsys):
    folder, listed = kept
    sound = contents(folder)
    DAMAGES[damage](listed[which])
    assert go_on(folder) == 3 * which
    warned = capsys.readouterr().err
    if damage == "deleted":
        assert warned == ""
    else:
        assert warned.startswith(f"warning: {listed[which]} is damaged (")
        assert warned.endswith("): what it holds is computed again\n") and warned.count("\n") == 1
    assert contents(folder) == sound and not any(file.is_symlink() for file in folder.iterdir())
    assert go_on(folder) == NUM_BATCHES and capsys.readouterr().err == ""


def test_no_flipped_bit_anywhere_is_played_back(kept, capsys):
    folder, (_, file, _) = kept
    sound = file.read_bytes()
    for place in range(0, len(sound), 17):
        flip(file, place)
        assert go_on(folder) == 3
        assert f"{file} is damaged (changed)" in capsys.readouterr().err
        assert file.read_bytes() == sound


def test_what_a_killed_process_left_half_written_does_not_count(kept, capsys):
    folder, listed = kept
    listed[1].rename(listed[1].with_name(f"{listed[1].name}.partial"))
    assert go_on(folder) == 3
    assert capsys.readouterr().err == "" and sorted(folder.iterdir()) == listed


def test_files_of_other_sizes_after_a_gap_are_used_where_they_fit(kept):
    folder, listed = kept
    listed[0].unlink()
    assert go_on(folder, num_batches=4, most_pending_bytes=30) == 0  # batches 0-1, 2-3
    assert go_on(folder, num_batches=6, most_pending_bytes=30) == 4  # batches 4-5, beside the old 3-5
    assert go_on(folder) == NUM_BATCHES  # the old 6-8


def test_a_file_in_the_place_of_the_folder_holds_no_outputs(tmp_path):
    with Background() as background:
        (tmp_path / "pass").write_text("", encoding="utf-8")
        assert list(Journal(tmp_path / "pass", background).play_back()) == []


def test_a_full_disk_is_met_by_the_next_save_and_the_rows_before_are_good(kept, monkeypatch, capsys):
    folder, listed = kept
    listed[2].unlink()

    def no_room(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, Background() as background:
        patch.setattr(os, "fsync", no_room)
        journal = Journal(folder, background)
        assert len(list(journal.play_back())) == 6
        journal.add(rows_of(6))
        journal.save()
        journal.add(rows_of(7))
        with pytest.raises(OSError, match="No space left on device"):
            journal.save()
    assert sorted(folder.iterdir()) == listed[:2]
    assert go_on(folder) == 6
    assert sorted(folder.iterdir()) == listed and capsys.readouterr().err == ""
