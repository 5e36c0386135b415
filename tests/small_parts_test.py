import io
import os
import pathlib
import platform
import re
import subprocess
import sys
import time

import jax
import pytest
from tqdm import tqdm

from brittle_jax import console, runtime
from brittle_jax.run.stages import Stages, peak_memory_mib
from brittle_jax.seeding import derive_seed


@pytest.mark.parametrize(
    ("seconds", "text"), [(8.34, "8.3 s"), (245, "4 min 05 s"), (7500, "2 h 05 min"), (3599.7, "1 h 00 min")]
)
def test_durations_are_readable(seconds, text):
    assert console.duration(seconds) == text


def test_progress_ends_with_a_line_of_what_was_done(capsys):
    with console.track("scores", 10) as progress:
        progress.update(4)
        progress.update(6)
    assert capsys.readouterr().out.startswith("  scores: 10 images in ")


def test_compilation_is_no_work_that_the_time_left_is_judged_by(capsys):
    with console.track("scores", 1000, seconds_between_lines=0.0) as progress:
        time.sleep(0.5)  # as compilation takes before the first update ends
        for _ in range(10):
            progress.update(1)
            time.sleep(0.001)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10 and lines[0].startswith("  scores: 2/1000, ")
    for line in lines[:-1]:
        assert float(re.search(r"([\d.e+]+) images/s, ([\d.]+) s left", line)[2]) < 100  # 500 s with the compilation


def test_the_bar_on_a_terminal_does_not_count_compilation_either():
    bar = tqdm(total=1000, file=io.StringIO())
    progress = console.Progress("scores", 1000, "image", bar, 20.0)
    time.sleep(0.5)
    for _ in range(10):
        progress.update(1)
        time.sleep(0.001)
    shown = bar.format_dict
    assert shown["n"] == 10
    assert shown["elapsed"] < 0.4


@pytest.mark.parametrize(("number", "text"), [(0, "0 pictures"), (1, "1 picture"), (1200, "1,200 pictures")])
def test_counts_are_singular_or_plural(number, text):
    assert console.count(number, "picture") == text


def test_seeds_depend_on_the_run_and_on_the_purpose():
    seeds = {derive_seed(seed, *purpose) for seed in (0, 1) for purpose in (("teacher",), ("student",), ("a", "b"))}
    assert len(seeds) == 6
    assert derive_seed(0, "teacher") == derive_seed(0, "teacher")
    assert all(0 <= seed < 2**32 for seed in seeds)


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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone")
def test_freed_memory_is_kept_for_the_next_computation():
    program = """
import resource
import numpy as np
from brittle_jax import runtime

def new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        np.ones(2**24, np.float32)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

given_back = new_pages()
runtime.keep_freed_memory()
new_pages()
print(given_back, new_pages())
"""
    command, environment = [sys.executable, "-c", program], {**os.environ, "NUMPY_MADVISE_HUGEPAGE": "0"}
    given_back, kept = map(int, subprocess.check_output(command, env=environment, text=True).split())
    assert given_back > 1000 and kept < given_back / 10


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left as they are")
@pytest.mark.parametrize("end", ["jax.jit(lambda x: x + 1)(1)", "with Stages(DeviceGroup()).measured('x'): pass"])
def test_freed_memory_is_given_back_after_a_compilation_and_a_stage(end):
    program = f"""
import pathlib, re
import jax
import numpy as np
from brittle_jax import runtime
from brittle_jax.devices import DeviceGroup
from brittle_jax.run.stages import Stages

def resident_mib():
    return int(re.search(r"VmRSS:\\s*(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) // 2**10

runtime.keep_freed_memory()
DeviceGroup()
blocks = [np.ones(2**20) for _ in range(32)]  # of 8 MiB
before = resident_mib()
del blocks
print(before, resident_mib())
{end}
print(resident_mib())
"""
    measured = subprocess.check_output([sys.executable, "-c", program], text=True)
    before, kept, after = map(int, measured.split())
    assert kept > before - 16 and after < before - 200


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


def test_stages_add_up_and_keep_the_highest_memory(tmp_path, one_device):
    stages = Stages(one_device)
    stages._add("data", seconds=1.0, peak_memory_mib=100, peak_device_memory_mib=None)
    stages.keep_in(tmp_path / "stages.json")
    with stages.measured("distill"):
        pass
    stages._add("distill", seconds=2.0, peak_memory_mib=1, peak_device_memory_mib=7)
    with stages.measured("score"):
        time.sleep(0.05)
    assert list(stages.column("seconds")) == ["data", "distill", "score"]
    assert 2.0 < stages.column("seconds")["distill"] < 2.5
    assert 0.05 <= stages.column("seconds")["score"] < 0.5
    assert stages.column("peak_memory_mib")["distill"] > 50  # of this process
    assert stages.column("peak_device_memory_mib") == {"data": None, "distill": 7, "score": None}

    again = Stages(one_device)  # the process that goes on
    again._add("data", seconds=0.5, peak_memory_mib=300, peak_device_memory_mib=None)
    again.keep_in(tmp_path / "stages.json")
    assert again.column("seconds")["data"] == 1.5
    assert again.column("peak_memory_mib")["data"] == 300
    assert again.column("seconds")["distill"] == stages.column("seconds")["distill"]


@pytest.mark.skipif(platform.system() != "Linux", reason="elsewhere the system does not tell")
def test_memory_is_the_process_s_own_not_its_parent_s():
    child = "from brittle_jax.run.stages import peak_memory_mib; print(peak_memory_mib())"
    parent = (
        "import subprocess, sys; kept = b'1' * 2**30; "
        f"print(subprocess.check_output([sys.executable, '-c', {child!r}], text=True))"
    )
    measured = subprocess.check_output([sys.executable, "-c", parent], text=True)
    assert int(measured) < 1024
    assert peak_memory_mib() > 50


@pytest.mark.reference
@pytest.mark.parametrize("name", ["against_pytorch", "growth", "students", "representations", "input_pipeline"])
def test_benchmarks_can_be_asked_for_help(torch, name):
    command = [sys.executable, "-m", f"benchmarks.{name}", "--help"]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0 and "usage" in finished.stdout, finished.stderr
