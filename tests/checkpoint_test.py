import contextlib
import errno
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brittle_jax import checkpoint, files, interrupt
from brittle_jax.background import Background
from brittle_jax.checkpoint import Steps
from brittle_jax.errors import DamagedError, Interrupted
from brittle_jax.models.network import ARCHITECTURES, init_variables
from brittle_jax.train.optimizers import adam, sgd
from brittle_jax.train.steps import create_state
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


def test_a_signal_is_answered_when_a_network_is_read(saved, monkeypatch):
    read_text, reached = files.read_text, []

    def interrupted(path):
        os.kill(os.getpid(), signal.SIGTERM)
        reached.append(path.name)
        return read_text(path)

    monkeypatch.setattr(files, "read_text", interrupted)
    with pytest.raises(Interrupted), interrupt.handled():
        checkpoint.restore(saved, init_variables(MODULE, 1, (32, 32, 3)), verify=False)
    assert reached == ["network.json"]


def test_a_file_in_the_place_of_a_network_is_replaced(tmp_path):
    (tmp_path / "teacher").write_text("no folder")
    checkpoint.save(tmp_path / "teacher", init_variables(MODULE, 0, (32, 32, 3)), {}, {})
    checkpoint.check(tmp_path / "teacher")


MADE_FROM = {"teacher": "a digest", "batch": (8, 1)}  # a tuple, which JSON has not
ADAM = adam(1e-3)


def state_at(step, optimizer=ADAM):
    """Returns a small training state that no other step has, as after some updates."""
    rng = np.random.default_rng(step)
    draw = lambda leaf: rng.standard_normal(leaf.shape).astype(leaf.dtype)  # noqa: E731
    variables = {"params": {"conv": {"kernel": jnp.ones((3, 2))}}, "batch_stats": {"mean": jnp.zeros(2)}}
    state = create_state(variables, optimizer, seed=step)
    state = state.replace(opt_state=jax.tree.map(draw, state.opt_state), params=jax.tree.map(draw, state.params))
    return state.replace(step=jnp.int32(step))


def assert_same_state(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def save_steps(folder, *numbers, made_from=MADE_FROM):
    with Background() as background:
        steps = Steps(folder, made_from, background)
        for number in numbers:
            steps.save(number, state_at(number), {"seconds": number / 3})


def newest(folder, like=None, made_from=MADE_FROM):
    with Background() as background:
        return Steps(folder, made_from, background).newest(state_at(0) if like is None else like)


def names(folder):
    return sorted(int(each.name) for each in folder.iterdir())


@pytest.mark.parametrize("optimizer", [ADAM, sgd(0.4, 3, 9, 0.9, 5e-4)], ids=["adam", "sgd"])
def test_a_training_state_comes_back_bit_for_bit(tmp_path, optimizer):
    expected = state_at(7, optimizer)
    with Background() as background:
        Steps(tmp_path / "steps", MADE_FROM, background).save(7, expected, {"since_last_record": [{"loss": 1 / 3}]})
    state, description = newest(tmp_path / "steps", state_at(0, optimizer))
    assert_same_state(state, expected)
    assert description == {"since_last_record": [{"loss": 1 / 3}]}


def test_the_newest_state_is_used_and_two_are_kept(tmp_path):
    assert newest(tmp_path / "steps") is None
    save_steps(tmp_path / "steps", 9, 10, 1100)
    assert names(tmp_path / "steps") == [10, 1100]
    state, description = newest(tmp_path / "steps")
    assert_same_state(state, state_at(1100))
    assert description == {"seconds": 1100 / 3}


def test_states_of_another_training_are_never_used(tmp_path):
    save_steps(tmp_path, 3, made_from={"teacher": "another"})
    assert newest(tmp_path) is None
    save_steps(tmp_path, 2)
    assert int(newest(tmp_path)[0].step) == 2


def test_arrays_that_are_used_up_after_save_do_not_change_what_is_written(tmp_path):
    """Donated buffers are written over: here by hand, as only accelerators do at once."""
    state, expected = jax.tree.map(np.array, state_at(4)), state_at(4)
    with Background() as background:
        background.start(lambda: threading.Event().wait(0.05))
        Steps(tmp_path, MADE_FROM, background).save(4, state, {})
        for leaf in jax.tree.leaves(state):
            leaf[...] = 0
    assert_same_state(newest(tmp_path)[0], expected)


def _flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


@pytest.fixture
def two_states(tmp_path):
    """The folder of a training that was kept after updates 1 and 2."""
    save_steps(tmp_path / "steps", 1, 2)
    return tmp_path / "steps"


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (_flip, "changed"),
        (lambda file: os.truncate(file, file.stat().st_size - 1), "changed"),
        (lambda file: os.truncate(file, 0), "changed"),
        (lambda file: file.unlink(), "missing"),
    ],
    ids=["flip", "cut", "empty", "delete"],
)
def test_damage_to_any_file_of_the_newest_state_is_named_and_the_one_before_used(two_states, damage, what, capsys):
    step = two_states / "000000000002"
    found = sorted(file for file in step.rglob("*") if file.is_file())
    assert len(found) > 8
    for file in found:
        sound = file.read_bytes()
        damage(file)
        state, description = newest(two_states)
        assert_same_state(state, state_at(1))
        assert description == {"seconds": 1 / 3}
        warned = capsys.readouterr().err
        if file.name == "manifest.json":  # it was never finished, or so it seems, if there is none
            assert warned.startswith(f"warning: {step} is damaged (") or (what == "missing" and warned == "")
        else:
            name = file.relative_to(step).as_posix()
            expected = f"{step} is damaged ({name}: {what}): the training goes on from an earlier state"
            assert warned == f"warning: {expected}\n"
        file.write_bytes(sound)
    assert int(newest(two_states)[0].step) == 2 and capsys.readouterr().err == ""


def test_a_link_in_the_place_of_any_file_is_named_and_the_state_before_used(two_states, tmp_path, capsys):
    step, elsewhere = two_states / "000000000002", tmp_path / "elsewhere"
    folders = [each for each in step.rglob("*") if each.is_dir()]
    for each in [step, *folders, *(file for file in step.rglob("*") if file.is_file())]:
        each.rename(elsewhere)
        each.symlink_to(elsewhere)
        assert int(newest(two_states)[0].step) == 1
        warned = capsys.readouterr().err
        assert warned.startswith(f"warning: {step} is damaged (") and "a link" in warned
        each.unlink()
        elsewhere.rename(each)
    assert int(newest(two_states)[0].step) == 2 and capsys.readouterr().err == ""


def test_of_two_damaged_states_none_is_used_and_what_is_saved_then_is_kept(two_states, capsys):
    for name in ("000000000001", "000000000002"):
        _flip(two_states / name / "network.json")
    assert newest(two_states) is None
    assert capsys.readouterr().err.count("is damaged (network.json: changed)") == 2
    save_steps(two_states, 1)  # a state that comes before the damaged one
    assert names(two_states) == [1]
    assert_same_state(newest(two_states)[0], state_at(1))


def test_a_damaged_state_takes_no_place_from_one_before_it(tmp_path):
    save_steps(tmp_path, 5, 9)
    _flip(tmp_path / "000000000009" / "made_from.json")
    save_steps(tmp_path, 6)
    assert names(tmp_path) == [5, 6]


def test_a_damaged_state_takes_no_place_from_one_before_it_whatever_is_saved_next(tmp_path):
    save_steps(tmp_path, 10, 20)
    _flip(tmp_path / "000000000020" / "made_from.json")
    with Background() as background:
        steps = Steps(tmp_path, MADE_FROM, background)
        assert int(steps.newest(state_at(0))[0].step) == 10
        steps.save(25, state_at(25), {})
    assert names(tmp_path) == [10, 25]


def test_a_state_that_was_cut_off_in_writing_does_not_count_and_goes(two_states, capsys):
    (two_states / "000000000002").rename(two_states / "000000000008")
    (two_states / "000000000008" / "manifest.json").unlink()
    assert int(newest(two_states)[0].step) == 1
    assert capsys.readouterr().err == ""
    save_steps(two_states, 4)
    assert names(two_states) == [1, 4]


def test_a_full_disk_is_met_by_the_next_save_and_the_state_before_is_good(two_states, monkeypatch):
    with monkeypatch.context() as patch, Background() as background:
        patch.setattr(shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=1000))
        steps = Steps(two_states, MADE_FROM, background)
        steps.save(3, state_at(3), {})
        with pytest.raises(OSError) as raised:
            steps.save(4, state_at(4), {})
        assert raised.value.errno == errno.ENOSPC
    assert_same_state(newest(two_states)[0], state_at(2))
    save_steps(two_states, 4)
    assert names(two_states) == [2, 4]


def test_a_state_that_could_not_be_written_to_its_end_leaves_the_one_before(two_states, monkeypatch):
    """The disk is full in the middle: the manifest, which is written last, does not fit any more."""
    fsync, calls = os.fsync, []

    def no_room(descriptor):
        calls.append(descriptor)
        if len(calls) == 3:  # description, settings, manifest
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patch, Background() as background:
        patch.setattr(os, "fsync", no_room)
        steps = Steps(two_states, MADE_FROM, background)
        steps.save(3, state_at(3), {})
        with pytest.raises(OSError, match="No space left on device"):
            background.wait()
    assert (two_states / "000000000003" / "variables").is_dir()
    assert_same_state(newest(two_states)[0], state_at(2))


@pytest.mark.skipif(sys.platform != "linux", reason="limits of the size of files differ")
def test_a_state_that_a_disk_refuses_leaves_the_one_before(two_states):
    """In a process of its own, with a real limit, Orbax itself meets the error."""
    code = (
        "import pathlib, resource, sys\n"
        "import numpy as np\n"
        "from brittle_jax.background import Background\n"
        "from brittle_jax.checkpoint import Steps\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16))\n"
        "with Background() as background:\n"
        "    weights = np.random.default_rng(0).standard_normal(100_000)\n"
        "    Steps(pathlib.Path(sys.argv[1]), {}, background).save(3, {'w': weights}, {})\n"
    )
    finished = subprocess.run([sys.executable, "-c", code, two_states], capture_output=True, text=True)
    assert finished.returncode == 1 and "File too large" in finished.stderr
    assert not (two_states / "000000000003" / "manifest.json").exists()
    assert_same_state(newest(two_states)[0], state_at(2))
    save_steps(two_states, 4)
    assert names(two_states) == [2, 4]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ((10**9, 128), "bytes on disk cannot be 512,000,000,000 bytes of weights"),
        ((8, 5), r"\['kernel'\] has the shape \(8, 4\), not \(8, 5\)"),
    ],
)
def test_weights_of_another_shape_are_refused_before_they_are_read(tmp_path, wanted, message):
    checkpoint.save(tmp_path / "network", {"kernel": np.ones((8, 4), np.float32)}, {}, {})
    with pytest.raises(DamagedError, match=message):
        checkpoint.restore(tmp_path / "network", {"kernel": jax.ShapeDtypeStruct(wanted, np.float32)})


def test_matrices_that_are_nearly_all_zeros_are_read(tmp_path):
    matrix = np.zeros((2208, 2208), np.float32)
    matrix[:, -1] = np.random.default_rng(0).normal(size=2208)
    checkpoint.save(tmp_path / "network", {"whitening": matrix}, {}, {})
    restored, _ = checkpoint.restore(
        tmp_path / "network", {"whitening": jax.ShapeDtypeStruct(matrix.shape, np.float32)}
    )
    np.testing.assert_array_equal(restored["whitening"], matrix)
