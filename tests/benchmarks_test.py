import re
import subprocess
import sys

import pytest

NAMES = [
    "against_pytorch",
    "growth",
    "students",
    "representations",
    "input_pipeline",
    "parcels",
    "movement",
    "courses",
    "own_images",
]

# As `python -m benchmarks.NAME --help` for one after the other: each would import JAX and PyTorch again.
_PROGRAM = """
import runpy, sys

for name in sys.argv[1:]:
    sys.argv = [name, "--help"]
    try:
        runpy.run_module(f"benchmarks.{name}", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        assert ended.code == 0, name
        print(f"ended: {name}")
"""


@pytest.mark.reference
def test_benchmarks_can_be_asked_for_help(torch):
    finished = subprocess.run([sys.executable, "-c", _PROGRAM, *NAMES], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    *helps, rest = re.split(r"^ended: (?:\w+)\n", finished.stdout, flags=re.MULTILINE)
    assert len(helps) == len(NAMES) and rest == ""
    assert all(text.startswith("usage") for text in helps)
