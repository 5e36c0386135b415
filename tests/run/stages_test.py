import platform
import subprocess
import sys
import time

import pytest

from brittle_jax.run.stages import Stages, peak_memory_mib


class Devices:
    """Stands for devices that count their memory: gives one peak after another."""

    def __init__(self, *peaks):
        self._peaks = iter(peaks)

    def peak_memory_mib(self):
        return next(self._peaks)


def take(stages, stage, seconds):
    with stages.measured(stage):
        time.sleep(seconds)


def test_stages_add_up_and_keep_the_highest_memory(tmp_path):
    stages = Stages(Devices(100, 7, 5, None))
    take(stages, "data", 0.1)
    stages.keep_in(tmp_path / "stages.json")
    take(stages, "distill", 0.1)
    take(stages, "distill", 0.2)
    take(stages, "score", 0.05)
    seconds = stages.column("seconds")
    assert list(seconds) == ["data", "distill", "score"]
    assert 0.3 <= seconds["distill"] < 0.8
    assert 0.05 <= seconds["score"] < 0.5
    assert stages.column("peak_memory_mib")["distill"] > 50  # of this process
    assert stages.column("peak_device_memory_mib") == {"data": 100, "distill": 7, "score": None}

    again = Stages(Devices(300, 6))  # the process that goes on
    take(again, "data", 0.1)
    of_this_process = again.column("seconds")["data"]
    again.keep_in(tmp_path / "stages.json")
    assert again.column("seconds") == {**seconds, "data": seconds["data"] + of_this_process}
    take(again, "distill", 0.0)
    assert again.column("peak_device_memory_mib") == {"data": 300, "distill": 7, "score": None}


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
