import errno
import shutil
import types

import jax
import numpy as np
import pytest

from brittle_jax import checkpoint
from brittle_jax.models.network import ARCHITECTURES, init_variables

MODULE = ARCHITECTURES["small_resnet_tiny"].with_output(16)


def test_weights_and_description_come_back_bit_for_bit(tmp_path):
    variables = init_variables(MODULE, 0, (32, 32, 3))
    assert not checkpoint.exists(tmp_path / "teacher")
    checkpoint.save(tmp_path / "teacher", variables, {"held_out_accuracy": 0.5})
    assert checkpoint.exists(tmp_path / "teacher")
    restored, description = checkpoint.restore(tmp_path / "teacher", init_variables(MODULE, 1, (32, 32, 3)))
    assert description == {"held_out_accuracy": 0.5}
    for before, after in zip(jax.tree.leaves(variables), jax.tree.leaves(restored), strict=True):
        np.testing.assert_array_equal(before, after)


def test_nothing_is_saved_where_there_is_no_room(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=1000))
    with pytest.raises(OSError) as raised:
        checkpoint.save(tmp_path / "teacher", init_variables(MODULE, 0, (32, 32, 3)), {})
    assert raised.value.errno == errno.ENOSPC and raised.value.filename == str(tmp_path / "teacher")
    assert not [*(tmp_path / "teacher").iterdir()] and not checkpoint.exists(tmp_path / "teacher")


def test_what_an_interrupted_run_left_is_replaced(tmp_path):
    folder = tmp_path / "teacher"
    (folder / "variables").mkdir(parents=True)
    (folder / "variables" / "half").write_text("")
    assert not checkpoint.exists(folder)
    checkpoint.save(folder, init_variables(MODULE, 0, (32, 32, 3)), {})
    assert not (folder / "variables" / "half").exists()
