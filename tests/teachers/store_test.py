import json
import threading
import time

import filelock
import numpy as np
import pytest

from brittle_jax.errors import BusyError, UserError
from brittle_jax.teachers.store import TeacherStore, key_of
from tests.damage import NUM_FLIPS, flip_bit
from tests.small_teachers import assert_equal, obtain_teacher

IDENTITY = {"task": "rotnet", "data": {"name": "cifar10"}, "seed": 0}
TRUNK = {"params": {"kernel": np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)}}


class Training:
    """Returns the same trunk each time that it is asked to train, and counts."""

    def __init__(self):
        self.count = 0

    def __call__(self):
        self.count += 1
        return TRUNK, {"held_out_accuracy": 0.5}


def test_rows_that_name_the_same_teacher_share_it(config, tmp_path, one_device, trainings, capsys):
    first, description = obtain_teacher(config, tmp_path / "a", one_device)
    again, same = obtain_teacher(config, tmp_path / "b", one_device)
    assert trainings == [""]
    assert "trained before, read from" in capsys.readouterr().out
    assert_equal(again.variables, first.variables)
    assert description == same
    (folder,) = [path for path in (tmp_path / "teachers").iterdir() if path.is_dir()]
    assert folder.name == description["key"]
    assert json.loads((folder / "made_from.json").read_text(encoding="utf-8"))["task"] == "classification"


def test_the_store_can_be_elsewhere(config, tmp_path, one_device, trainings):
    config.teacher.store = str(tmp_path / "shared" / "teachers")
    for name in ("x/a", "y/b"):
        obtain_teacher(config, tmp_path / name, one_device)
    assert len(trainings) == 1


def test_a_store_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="^teacher.store=.*/file/teachers cannot be written: "):
        TeacherStore(tmp_path / "file" / "teachers").obtain(IDENTITY, TRUNK, Training())


def test_two_runs_at_once_train_it_once(config, tmp_path, one_device, trainings):
    results = {}

    def run(name):
        results[name] = obtain_teacher(config, tmp_path / name, one_device)

    threads = [threading.Thread(target=run, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(trainings) == 1
    assert_equal(results["a"][0].variables, results["b"][0].variables)


def test_what_a_killed_run_left_in_the_store_is_trained_again_to_the_same_weights(
    config, tmp_path, one_device, trainings
):
    first, description = obtain_teacher(config, tmp_path / "a", one_device)
    (tmp_path / "teachers" / description["key"] / "manifest.json").unlink()
    again, _ = obtain_teacher(config, tmp_path / "b", one_device)
    assert len(trainings) == 2
    assert_equal(again.variables, first.variables)


def test_a_flipped_bit_in_the_store_is_named_and_the_teacher_trained_again(tmp_path, capsys):
    store, train = TeacherStore(tmp_path), Training()
    expected = store.obtain(IDENTITY, TRUNK, train)
    assert expected[1] == {"key": key_of(IDENTITY), "held_out_accuracy": 0.5}
    folder = tmp_path / key_of(IDENTITY)
    for number in range(NUM_FLIPS // 2):
        file, _ = flip_bit(folder, number)
        actual = store.obtain(IDENTITY, TRUNK, train)
        assert f"{folder} is damaged ({file.relative_to(folder)}: changed" in capsys.readouterr().err
        assert train.count == 2 + number
        assert_equal(actual[0], expected[0])
    assert_equal(store.obtain(IDENTITY, TRUNK, train)[0], expected[0])
    assert train.count == 1 + NUM_FLIPS // 2


def test_a_store_that_is_only_read_keeps_nothing_and_gives_what_it_has(tmp_path):
    train, folder = Training(), tmp_path / "teachers"
    trunk, description = TeacherStore(folder, is_read_only=True).obtain(IDENTITY, TRUNK, train)
    assert not folder.exists()
    kept = TeacherStore(folder).obtain(IDENTITY, TRUNK, train)
    assert kept[1] == description
    assert_equal(kept[0], trunk)
    names = sorted(file.name for file in folder.iterdir())
    TeacherStore(folder, is_read_only=True).obtain(IDENTITY, TRUNK, train)
    assert train.count == 2 and sorted(file.name for file in folder.iterdir()) == names


def test_a_key_names_task_and_data_and_changes_with_the_identity():
    key, other = (key_of({**IDENTITY, "seed": seed}) for seed in (0, 1))
    assert key.startswith("rotnet-cifar10-") and len(key) == len("rotnet-cifar10-") + 16
    assert key == key_of(dict(reversed(IDENTITY.items()))) != other


def test_who_does_not_wait_is_told_that_another_run_trains_it(tmp_path):
    train, store = Training(), TeacherStore(tmp_path, wait=False)
    other = filelock.FileLock(tmp_path / f".{key_of(IDENTITY)}.lock")
    with other, pytest.raises(BusyError, match=f"^teacher {key_of(IDENTITY)} is being trained by another run: "):
        store.obtain(IDENTITY, TRUNK, train)
    assert train.count == 0
    store.obtain(IDENTITY, TRUNK, train)
    assert train.count == 1


def test_who_does_not_wait_for_a_training_waits_for_a_reader(tmp_path):
    train, store = Training(), TeacherStore(tmp_path, wait=False)
    expected = store.obtain(IDENTITY, TRUNK, train)
    reads = threading.Event()

    def read():
        with filelock.FileLock(tmp_path / f".{key_of(IDENTITY)}.lock"):
            reads.set()
            time.sleep(0.3)

    reader = threading.Thread(target=read)
    reader.start()
    reads.wait()
    assert_equal(store.obtain(IDENTITY, TRUNK, train)[0], expected[0])
    reader.join()
    assert train.count == 1
