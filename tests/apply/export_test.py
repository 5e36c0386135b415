"""A detector that was exported: it gives the run's scores and decisions, without this package."""

import csv
import json
import os
import pathlib
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

import brittle_jax
from brittle_jax import command_line, files
from brittle_jax.apply import detector as detector_lib
from brittle_jax.apply import exported
from brittle_jax.data.preprocess import to_unit_range
from brittle_jax.errors import DegenerateDataError, UserError
from brittle_jax.results import DETECTORS
from tests.small_runs import dataset_of

pytest.importorskip("flatbuffers")

RATE = 0.5  # of few calibration pictures, some are above the threshold
ROOT = pathlib.Path(__file__).parent.parent.parent

# What the reader must do without: this package, and all that it stands on but JAX, NumPy and flatbuffers. JAX itself
# needs SciPy and ml_dtypes.
_BLOCKED = """
import sys

BLOCKED = {"brittle_jax", "flax", "orbax", "tensorflow_datasets", "PIL", "sklearn", "optax", "absl"}

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
"""
_SCORE = (
    _BLOCKED
    + """
import json
import numpy as np
import exported

detector = exported.load(sys.argv[1])
pictures = [np.load(file) for file in sys.argv[2:]]
scores = detector.score(pictures)
decisions = detector.is_anomalous(scores)
verified = detector.verify()
print(json.dumps([{name: values.tolist() for name, values in each.items()} for each in (scores, decisions)]))
print(verified, file=sys.stderr)
assert verified.agrees and verified.num_inputs == 6
"""
)


def lines_of(run, kind="scores"):
    with open(run / kind / "normal.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def run(*words):
    environment = {**os.environ, "XLA_FLAGS": ""}
    return subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, env=environment, cwd=ROOT)


@pytest.fixture(scope="module")
def own_export(own_run, tmp_path_factory):
    """The detector of `own_run`, as the command exports it."""
    file = tmp_path_factory.mktemp("export") / "own.zip"
    finished = run("-m", "brittle_jax.export", f"--run={own_run[0]}", f"--out={file}", f"--false_alarm_rate={RATE}")
    assert finished.returncode == 0, finished.stderr
    assert f"{file}: normal, " in finished.stdout and "for cpu, cuda, tpu\n" in finished.stdout
    return file


@pytest.fixture(scope="module")
def parcel_export(xray_run, tmp_path_factory):
    """The exported detector of `xray_run`, which takes patches."""
    file = tmp_path_factory.mktemp("export") / "parcels.zip"
    brittle_jax.export_detector(xray_run[0], file, platforms=("cpu",))
    return file


def test_the_file_alone_gives_the_scores_and_decisions_of_the_run(own_run, own_export, tmp_path):
    run, pictures = own_run
    lines = lines_of(run) + lines_of(run, "calibration")
    tables = []
    for number, line in enumerate(lines):
        tables.append(tmp_path / f"{number}.npy")
        np.save(tables[-1], np.asarray(Image.open(pictures / line["id"])))
    with zipfile.ZipFile(own_export) as archive:
        archive.extract("exported.py", tmp_path)
    (tmp_path / "score.py").write_text(_SCORE, encoding="utf-8")
    command = [sys.executable, "-P", "score.py", str(own_export), *map(str, tables)]
    environment = {"PYTHONPATH": ":".join([str(tmp_path), *_site_of("flatbuffers")]), "JAX_PLATFORMS": "cpu"}
    finished = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert finished.returncode == 0, finished.stderr
    scores, decisions = json.loads(finished.stdout)
    loaded = brittle_jax.load_detector(run)
    for name in DETECTORS:
        expected = np.array([float(line[name]) for line in lines])
        np.testing.assert_allclose(scores[name], expected, rtol=1e-5)
        assert decisions[name] == (expected > loaded.threshold(RATE, name)).tolist()
        assert any(decisions[name]) and not all(decisions[name])


def _site_of(package):
    """Returns the folder that a package is in, where it is not that of the interpreter."""
    module = __import__(package)
    return [str(pathlib.Path(module.__file__).parent.parent)]


@pytest.mark.long
def test_pictures_of_any_size_get_the_scores_of_the_detector(own_run, own_export):
    rng = np.random.default_rng(0)
    sizes = [(24, 24), (1, 1), (300, 20), (295, 18), (64, 64)]
    pictures = [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    expected = brittle_jax.load_detector(own_run[0]).score(pictures)
    detector = exported.load(own_export)
    actual = detector.score(pictures)
    for name in DETECTORS:
        np.testing.assert_allclose(actual[name], expected[name], rtol=1e-5)
    assert {name: len(values) for name, values in detector.score([]).items()} == dict.fromkeys(DETECTORS, 0)


def test_the_header_says_what_the_file_is(own_run, own_export):
    header = exported.load(own_export).header
    assert (header["row"], header["configuration"], header["takes"]) == ("image_folder", "normal", "pictures")
    assert header["platforms"] == ["cpu", "cuda", "tpu"] and header["detectors"] == list(DETECTORS)
    assert header["false_alarm_rate"] == RATE and header["num_calibration"] == len(lines_of(own_run[0], "calibration"))
    assert header["made_by"] == f"brittle_jax {brittle_jax.__version__}" and "6 months" in header["compatibility"]
    with zipfile.ZipFile(own_export) as archive:
        program = archive.read("scoring.bin")
    assert header["sha256"]["scoring.bin"] == files.sha256_of_bytes(program)


@pytest.mark.long
def test_a_detector_of_patches_takes_patches_and_refuses_raw_pictures(xray_run, parcel_export):
    run, config = xray_run
    dataset = dataset_of(config)
    patches = np.stack([dataset.images.read(index) for index in range(5)])
    detector = exported.load(parcel_export)
    assert detector.header["takes"] == "patches"
    expected = detector_lib.load(run, "soc")(to_unit_range(patches))
    actual = detector.score(patches)
    for name in DETECTORS:
        np.testing.assert_allclose(actual[name], expected[name], rtol=1e-5)
    with pytest.raises(exported.ExportedDetectorError, match=r"of 300x400 pixels: this detector takes patches of "):
        detector.score([np.zeros((300, 400, 3), np.uint8)])


@pytest.mark.long
def test_without_calibration_pictures_there_is_no_threshold(xray_run, parcel_export, tmp_path):
    detector = exported.load(parcel_export)
    assert detector.header["thresholds"] is None
    with pytest.raises(exported.ExportedDetectorError, match="there is no threshold"):
        detector.is_anomalous({})
    with pytest.raises(UserError, match="has no calibration images"):
        brittle_jax.export_detector(xray_run[0], tmp_path / "parcels.zip", false_alarm_rate=0.05)
    assert not (tmp_path / "parcels.zip").exists()


def test_too_few_calibration_pictures_for_a_rate_are_refused(own_run, tmp_path):
    with pytest.raises(DegenerateDataError, match="needs 99 calibration images"):
        brittle_jax.export_detector(own_run[0], tmp_path / "own.zip", false_alarm_rate=0.01)


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (np.zeros((4, 4, 3), np.float32), r"float32 of shape \(4, 4, 3\), not uint8"),
        (np.zeros((4, 4), np.uint8), r"uint8 of shape \(4, 4\), not uint8 \[height"),
        (np.zeros((0, 4, 3), np.uint8), "convert it"),
        (np.zeros((20_000, 1, 3), np.uint8), "has more than .* pixels on a side"),
    ],
)
def test_pictures_that_it_cannot_score_are_one_line(own_export, picture, reason):
    with pytest.raises(exported.ExportedDetectorError, match=reason) as raised:
        exported.load(own_export).score([picture])
    assert "\n" not in str(raised.value)


def test_another_platform_is_one_line(own_export):
    detector = exported.load(own_export)
    detector.header["platforms"] = ["tpu"]
    with pytest.raises(exported.ExportedDetectorError, match="the program is for tpu, not for cpu"):
        detector.score([np.zeros((4, 4, 3), np.uint8)])


def test_an_unknown_platform_is_refused(own_run, tmp_path):
    with pytest.raises(UserError, match="platforms='abacus': name some of cpu, cuda, tpu"):
        brittle_jax.export_detector(own_run[0], tmp_path / "own.zip", platforms=["abacus"])


def rewritten(file, to, **changes):
    """Copies an exported file, with some of its entries changed."""
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(to, "w") as other:
        for name in archive.namelist():
            other.writestr(name, changes.get(name.partition(".")[0], lambda content: content)(archive.read(name)))
    return to


def with_version_2(header):
    return json.dumps({**json.loads(header), "format_version": 2}).encode()


def test_files_that_are_no_sound_export_are_one_line(own_export, tmp_path):
    content = own_export.read_bytes()
    (tmp_path / "cut.zip").write_bytes(content[: len(content) // 2])
    flipped = bytearray(content)
    flipped[len(flipped) // 2] ^= 1
    (tmp_path / "flipped.zip").write_bytes(flipped)
    (tmp_path / "text.zip").write_text("no zip", encoding="utf-8")
    rewritten(own_export, tmp_path / "changed.zip", scoring=lambda content: content[:-1] + b"x")
    rewritten(own_export, tmp_path / "headless.zip", header=lambda content: b"[]")
    rewritten(own_export, tmp_path / "newer.zip", header=with_version_2)
    expected = {
        "cut": "is damaged",
        "flipped": "is damaged",
        "text": "is damaged",
        "changed": "is damaged, .* \\(scoring.bin has changed\\)",
        "headless": "is damaged",
        "newer": "has format version 2, this reads up to 1",
        "missing": "does not exist",
    }
    for name, reason in expected.items():
        with pytest.raises(exported.ExportedDetectorError, match=reason) as raised:
            exported.load(tmp_path / f"{name}.zip")
        assert "\n" not in str(raised.value)


def with_other_scores(header):
    content = json.loads(header)
    content["scores"]["kd"][2] *= 1.01
    return json.dumps(content).encode()


def test_verifying_compares_scores_and_decisions(own_export, tmp_path):
    comparison = exported.load(own_export).verify()
    assert comparison.agrees and comparison.largest_difference < 1e-5 and comparison.num_inputs == 6
    other = exported.load(rewritten(own_export, tmp_path / "other.zip", header=with_other_scores)).verify()
    assert not other.agrees and other.largest_difference == pytest.approx(0.0099, rel=0.01)
    assert "largest relative difference 9.9e-03" in str(other)


def test_the_example_gives_the_scores_of_the_run_from_files(own_run, own_export):
    folder, pictures = own_run
    lines = lines_of(folder)
    finished = run(ROOT / "examples" / "score_pictures.py", own_export, *(pictures / line["id"] for line in lines))
    assert finished.returncode == 0, finished.stderr
    found = list(csv.DictReader(finished.stdout.splitlines()))
    assert [line["path"] for line in found] == [str(pictures / line["id"]) for line in lines] and len(found) > 5
    for line, of_run in zip(found, lines, strict=True):
        for name in DETECTORS:
            assert float(line[name]) == pytest.approx(float(of_run[name]), rel=1e-5)
    assert {line["anomalous"] for line in found} <= {"True", "False"}


def test_the_example_says_in_one_line_which_picture_it_cannot_read(own_export, tmp_path):
    (tmp_path / "damaged.png").write_bytes(b"no picture")
    finished = run(ROOT / "examples" / "score_pictures.py", own_export, tmp_path / "damaged.png")
    assert finished.returncode == command_line.EXIT_USER_ERROR
    assert finished.stderr.startswith(f"error: {tmp_path / 'damaged.png'} cannot be read: ")
    assert finished.stderr.count("\n") == 1


@pytest.mark.long
def test_the_command_verifies(own_export, tmp_path):
    finished = run("-m", "brittle_jax.export", "verify", own_export)
    assert finished.returncode == 0, finished.stderr
    assert f"{own_export}: 6 stored inputs on cpu: largest relative difference " in finished.stdout
    assert finished.stdout.endswith("decisions the same\n")
    other = rewritten(own_export, tmp_path / "other.zip", header=with_other_scores)
    finished = run("-m", "brittle_jax.export", "verify", other)
    assert finished.returncode == command_line.EXIT_USER_ERROR
    assert (
        finished.stderr
        == f"error: {other}: scores on this machine are not those that were stored: do not use it here\n"
    )
