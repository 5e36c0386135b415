import os
import pathlib
import subprocess
import sys

import jax
import pytest

from brittle_jax import runtime


@pytest.fixture
def jax_settings():
    """Gives the settings of JAX that a test changes back."""
    names = [
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
        "jax_persistent_cache_min_entry_size_bytes",
    ]
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_the_compilation_cache_is_in_the_users_cache_folder(monkeypatch, tmp_path, jax_settings):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    runtime.set_up()
    assert pathlib.Path(jax.config.jax_compilation_cache_dir) == tmp_path / "brittle_jax" / "compiled"
    assert (tmp_path / "brittle_jax" / "compiled").is_dir()


def test_a_cache_that_cannot_be_written_only_warns(monkeypatch, tmp_path, jax_settings, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "file" / "cache"))
    runtime.set_up()
    assert "warning: compiled programs are not kept between runs" in capsys.readouterr().err
    assert jax.config.jax_compilation_cache_dir is None


@pytest.mark.parametrize(("platforms", "warned"), [("", True), ("cpu", False)])
def test_an_idle_gpu_is_pointed_out_once(monkeypatch, tmp_path, capsys, jax_settings, platforms, warned):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    before = jax.config.jax_platforms
    jax.config.update("jax_platforms", platforms)
    try:
        runtime.set_up()
    finally:
        jax.config.update("jax_platforms", before)
    assert capsys.readouterr().err.count("brittle-jax[cuda12]") == warned


@pytest.mark.parametrize(("start", "has_ended"), [("", False), ("runtime.set_up()", True)])
def test_a_program_on_a_cpu_has_ended_when_the_call_returns(tmp_path, start, has_ended):
    program = f"""
import jax
import numpy as np
from brittle_jax import runtime
from brittle_jax.devices import DeviceGroup

{start}
# Arrays that JAX copies in the background: not where its own would begin, and large.
weights, images = np.frombuffer(bytearray(32 * 2**20 + 4), np.float32, offset=4).reshape(2, 1024, 4096)
devices = DeviceGroup()

def step(weights, batch):
    product = batch["image"][0]
    for _ in range(4):
        product = (product @ weights.T) @ weights
    return weights, product.sum()

update = devices.train_step(step)
update(devices.replicate(weights), {{"image": images[None]}})  # compiled
weights, loss = update(devices.replicate(weights), {{"image": images[None]}})
print(loss.is_ready())
"""
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path), "XLA_FLAGS": ""}  # one device
    printed = subprocess.check_output([sys.executable, "-c", program], env=environment, text=True)
    assert printed.split() == [str(has_ended)]
