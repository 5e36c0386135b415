"""Runs that others have made: nothing in them runs, no link is followed, and claims of sizes are checked."""

import os
import pickle
import shutil
import sys

import pytest

from brittle_jax import files
from brittle_jax.apply import detector as detector_lib
from brittle_jax.apply.loaded import load_detector
from brittle_jax.errors import UserError
from tests.small_runs import read

DETECTOR = "checkpoints/normal/detector"


@pytest.fixture
def run(small_own_run, tmp_path):
    shutil.copytree(small_own_run[0], tmp_path / "run")
    return tmp_path / "run"


def seal(folder):
    """Makes a manifest that fits what is in a network's folder, as whoever tampers with it would."""
    (folder / files.MANIFEST).unlink()
    files.write_manifest(folder, files.digests_of(folder))


def refusal(run):
    with pytest.raises(UserError) as raised:
        load_detector(run, "normal")
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 500
    return str(raised.value)


@pytest.mark.parametrize(
    ("group", "changes", "message"),
    [
        ("network", {"output_features": 10**9}, "output_features of 1000000000, not from 0 to 65536"),
        ("network", {"output_features": 60_000}, "is damaged"),
        ("network", {"output_features": -1}, "output_features of -1"),
        ("network", {"output_features": "many"}, "TypeError"),
        ("network", {"name": ["mini"]}, "TypeError"),
        ("network", {"command": "rm"}, "TypeError"),
        ("preprocessing", {"side_pixels": 10**6}, "1000000] pixels, not from 1 to 4096"),
        ("preprocessing", {"side_pixels": 0}, "pixels, not from 1"),
        ("preprocessing", {"patches": {"size_pixels": 8}}, "TypeError"),
        ("preprocessing", {"intensity_range": 5}, "TypeError"),
        (None, {"targets": "gold"}, "has targets 'gold', which are not one of raw"),
        (None, {"student": "../../../../elsewhere"}, "elsewhere is damaged (outside of "),
        (None, {"student": "/etc"}, "/etc is damaged (outside of "),
        (None, {"student": 7}, "TypeError"),
        (None, {"format_version": "new"}, "TypeError"),
        (None, {"network": None}, "TypeError"),
    ],
)
def test_claims_that_no_run_makes_are_refused(run, group, changes, message):
    description = read(run / DETECTOR, "network.json")
    (description if group is None else description[group]).update(changes)
    files.write_json(run / DETECTOR / "network.json", description)
    seal(run / DETECTOR)
    assert message in refusal(run)


def test_a_description_that_is_a_list_is_refused(run):
    files.write_json(run / DETECTOR / "network.json", [])
    seal(run / DETECTOR)
    assert "not as it was written" in refusal(run)


@pytest.mark.parametrize(
    "path",
    [
        DETECTOR,
        f"{DETECTOR}/network.json",
        f"{DETECTOR}/manifest.json",
        f"{DETECTOR}/variables",
        f"{DETECTOR}/variables/manifest.ocdbt",
        "checkpoints",
        "checkpoints/normal/student",
        "checkpoints/normal/teacher/variables/_METADATA",
        "calibration",
        "calibration/normal.csv",
        "calibration/normal.json",
        "config.json",
        "results.json",
    ],
)
def test_links_are_not_followed(run, path):
    (run / path).rename(run.parent / "elsewhere")
    (run / path).symlink_to(run.parent / "elsewhere")
    assert f"{run / path} is damaged (a link)" in refusal(run)


def test_a_link_to_the_run_itself_is_the_users(run):
    (run.parent / "link").symlink_to(run)
    assert load_detector(run.parent / "link").configuration == "normal"


@pytest.mark.parametrize(
    "path", [f"{DETECTOR}/manifest.json", f"{DETECTOR}/network.json", "config.json", "calibration/normal.csv"]
)
def test_files_of_absurd_size_are_not_read(run, path):
    os.truncate(run / path, 2**33)  # takes no room on the disk
    assert "8,589,934,592 bytes, more than" in refusal(run)


def test_a_configuration_cannot_lead_out_of_the_run(run):
    with pytest.raises(UserError, match=r"is damaged \(outside of"):
        detector_lib.load(run, "../../../elsewhere")


class Malicious:
    def __reduce__(self):
        return os.system, ("false",)


_events, _is_watching = [], []


def _watch(event, arguments):
    if _is_watching and event in ("pickle.find_class", "os.system", "subprocess.Popen", "import", "os.exec"):
        _events.append((event, str(arguments)))


def test_loading_a_run_runs_nothing_that_is_in_it(run):
    payload = pickle.dumps(Malicious())

    def plant(*names):
        for folder in (DETECTOR, "checkpoints/normal/student", "checkpoints/normal/teacher"):
            for name in names:
                (run / folder / "variables" / name).write_bytes(payload)
            seal(run / folder)

    plant("aggregate", "data.pkl", "_sharding", "__init__.py", "variables.py")
    sys.addaudithook(_watch)  # for good, so it is idle outside of this test
    _is_watching.append(True)
    try:
        load_detector(run)
        plant("checkpoint")  # Orbax unpacks a file of this name as MessagePack, which holds no code
        assert "is damaged" in refusal(run)
        assert not [each for each in _events if each[0] != "import" or str(run) in each[1]]
        pickle.loads(pickle.dumps(os.getcwd))
        assert _events[-1][0] == "pickle.find_class"  # it would have been noticed
    finally:
        _is_watching.clear()
