import subprocess
import sys

import pytest


@pytest.mark.reference
@pytest.mark.parametrize(
    "name",
    [
        "against_pytorch",
        "growth",
        "students",
        "representations",
        "input_pipeline",
        "parcels",
        "movement",
        "courses",
        "own_images",
    ],
)
def test_benchmarks_can_be_asked_for_help(torch, name):
    command = [sys.executable, "-m", f"benchmarks.{name}", "--help"]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0 and "usage" in finished.stdout, finished.stderr
