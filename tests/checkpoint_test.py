import contextlib
import errno
import os
import pathlib
import shutil
import types

import jax
import numpy as np
import pytest

from brittle_jax import checkpoint
from brittle_jax.errors import DamagedError
from brittle_jax.models.network import ARCHITECTURES, init_variables
from tests.damage import NUM_FLIPS, as_earlier_versions_saved, flipped_bit

MODULE = ARCHITECTURES["small_resnet_tiny"].with_output(16)


def test_weights_and_description_come_back_bit_for_bit(tmp_path):
    variables = init_variables(MODULE, 0, (32, 32, 3))
    assert not checkpoint.exists(tmp_path / "teacher")
    checkpoint.save(tmp_path / "teacher", variables, {"held_out_accuracy": 0.5}, {"seed": 0})
    assert checkpoint.exists(tmp_path / "teacher")
    restored, description = checkpoint.restore(tmp_path / "teacher", init_variables(MODULE, 1, (32, 32, 3)))
    assert description == {"held_out_accuracy": 0.5}
    assert checkpoint.made_from(tmp_path / "teacher") == {"seed": 0}
    for before, after in zip(jax.tree.leaves(variables), jax.tree.leaves(restored), strict=True):
        np.testing.assert_array_equal(before, after)


def test_nothing_is_saved_where_there_is_no_room(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=1000))
    with pytest.raises(OSError) as raised:
        checkpoint.save(tmp_path / "teacher", init_variables(MODULE, 0, (32, 32, 3)), {}, {})
    assert raised.value.errno == errno.ENOSPC and raised.value.filename == str(tmp_path / "teacher")
    assert not [*(tmp_path / "teacher").iterdir()] and not checkpoint.exists(tmp_path / "teacher")


def test_what_an_interrupted_run_left_is_replaced(tmp_path):
    folder = tmp_path / "teacher"
    (folder / "variables").mkdir(parents=True)
    (folder / "variables" / "half").write_text("")
    assert not checkpoint.exists(folder)
    checkpoint.save(folder, init_variables(MODULE, 0, (32, 32, 3)), {}, {})
    assert not (folder / "variables" / "half").exists()


@pytest.fixture
def saved(tmp_path) -> pathlib.Path:
    checkpoint.save(tmp_path / "teacher", init_variables(MODULE, 0, (32, 32, 3)), {"held_out_accuracy": 0.5}, {})
    return tmp_path / "teacher"


def test_a_flipped_bit_never_goes_unnoticed(saved):
    like = init_variables(MODULE, 1, (32, 32, 3))
    for number in range(NUM_FLIPS):
        with flipped_bit(saved, number) as file:
            name = file.relative_to(saved)
            with pytest.raises(DamagedError, match=f"teacher is damaged .{name}: changed"):
                checkpoint.restore(saved, like)
    checkpoint.restore(saved, like)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of flips that Orbax does notice
def test_without_digests_a_flipped_bit_is_restored_in_silence(saved):
    """It is the digests that notice, not Orbax: without them the test above would fail."""
    like = init_variables(MODULE, 1, (32, 32, 3))
    sound, _ = checkpoint.restore(saved, like)
    num_silent = 0
    for number in range(0, NUM_FLIPS, 2):  # those in the arrays
        with flipped_bit(saved, number), contextlib.suppress(DamagedError):  # a bit of a compressed array's header
            damaged, _ = checkpoint.restore(saved, like, verify=False)
            leaves = zip(jax.tree.leaves(sound), jax.tree.leaves(damaged), strict=True)
            num_silent += any(np.any(before != after) for before, after in leaves)
    assert num_silent >= NUM_FLIPS / 4


def test_a_network_that_is_cut_short_is_told_before_orbax_reads_it(saved, capfd):
    like = init_variables(MODULE, 1, (32, 32, 3))
    for file in (each for each in (saved / "variables").rglob("*") if each.is_file()):
        content = file.read_bytes()
        os.truncate(file, len(content) // 2)
        assert checkpoint.recover(saved, like) is None
        file.write_bytes(content)
    out, err = capfd.readouterr()
    assert out == "" and all(line.startswith("warning: ") and "is damaged" in line for line in err.splitlines())


def test_links_in_a_network_are_not_followed(saved, tmp_path):
    like = init_variables(MODULE, 1, (32, 32, 3))
    os.rename(saved / "network.json", tmp_path / "elsewhere.json")
    os.symlink(tmp_path / "elsewhere.json", saved / "network.json")
    with pytest.raises(DamagedError, match="network.json: a link"):
        checkpoint.restore(saved, like)
    os.rename(tmp_path / "elsewhere.json", saved / "network.json")
    os.rename(saved, tmp_path / "moved")
    os.symlink(tmp_path / "moved", saved)
    with pytest.raises(DamagedError, match="teacher is damaged .a link"):
        checkpoint.restore(saved, like)
    checkpoint.save(saved, like, {}, {})  # and nothing is written through one
    checkpoint.restore(tmp_path / "moved", like)


def test_networks_without_digests_are_read_and_called_unverified(saved, capsys):
    like = init_variables(MODULE, 1, (32, 32, 3))
    as_earlier_versions_saved(saved)
    _, description = checkpoint.recover(saved, like)
    assert description == {"held_out_accuracy": 0.5}
    assert "teacher is unverified" in capsys.readouterr().err


def test_what_was_killed_before_its_manifest_does_not_count(saved, capsys):
    (saved / "manifest.json").unlink()
    assert not checkpoint.exists(saved)
    for name in ("manifest.json", "made_from.json"):  # nor does it pass for one that an earlier version saved
        (saved / name).unlink(missing_ok=True)
        assert checkpoint.recover(saved, init_variables(MODULE, 1, (32, 32, 3))) is None
        assert "teacher has no manifest.json: it was never finished, or is damaged" in capsys.readouterr().err


def test_a_file_in_the_place_of_a_network_is_replaced(tmp_path):
    (tmp_path / "teacher").write_text("no folder")
    checkpoint.save(tmp_path / "teacher", init_variables(MODULE, 0, (32, 32, 3)), {}, {})
    checkpoint.check(tmp_path / "teacher")
