import os
import platform
import subprocess
import sys

import pytest


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone")
def test_freed_memory_is_kept_for_the_next_computation():
    program = """
import resource
import numpy as np
from brittle_jax import heap

def new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        np.ones(2**24, np.float32)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

given_back = new_pages()
heap.keep_freed_memory()
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
from brittle_jax import heap
from brittle_jax.devices import DeviceGroup
from brittle_jax.run.stages import Stages

def resident_mib():
    return int(re.search(r"VmRSS:\\s*(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) // 2**10

heap.keep_freed_memory()
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
