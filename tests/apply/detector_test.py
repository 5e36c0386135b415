"""What a run leaves to be used: its detector, loaded without its data set and its config."""

import csv
import dataclasses
import json
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from brittle_jax import files
from brittle_jax.apply import detector as detector_lib
from brittle_jax.config import flatten
from brittle_jax.data.images import Images
from brittle_jax.errors import UserError
from brittle_jax.loop import Loop
from brittle_jax.models.network import ARCHITECTURES
from brittle_jax.results import DETECTORS
from brittle_jax.run import experiment
from tests.conftest import ONE_DEVICE
from tests.damage import flip_bit
from tests.mini_network import MiniTrunk
from tests.small_runs import dataset_of, read

NAME = "unimodal/airplane"

_PROGRAM = """
import dataclasses, json, sys
import numpy as np
import brittle_jax
from brittle_jax.apply import detector as detector_lib
from brittle_jax.data.images import Images
from brittle_jax.devices import DeviceGroup
from brittle_jax.loop import Loop

run, batch_size, *tables = sys.argv[1:]
detector = detector_lib.load(run, "normal")
for table in tables:
    pictures = np.concatenate([detector.preprocessing.images_of(picture) for picture in np.load(table)])
    images = Images(len(pictures), detector.preprocessing.image_shape, lambda index: pictures[index])
    loop = Loop(DeviceGroup(), int(batch_size))
    scores = detector_lib.score(detector, images, np.arange(len(images)), loop)
    called = detector(pictures / np.float32(255))
    loaded = dataclasses.replace(brittle_jax.load_detector(run), batch_size=int(batch_size)).score(np.load(table))
    found = {
        name: {"score": scores[name].tolist(), "call": np.asarray(called[name]).tolist(), "loaded": own.tolist()}
        for name, own in loaded.items()
    }
    with open(f"{table}.json", "w", encoding="utf-8") as file:
        json.dump(found, file)
"""


def lines_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_new_process_scores_pictures_as_the_run_did_without_its_data_and_config(own_run, tmp_path):
    finished, pictures = own_run
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    (run / "config.json").unlink()
    tables = {}
    for kind in ("scores", "calibration"):
        tables[kind] = tmp_path / f"{kind}.npy"
        ids = [line["id"] for line in lines_of(run / kind / "normal.csv")]
        np.save(tables[kind], np.stack([np.asarray(Image.open(pictures / each)) for each in ids]))
    batch_size = str(read(finished, "config.json")["evaluate.batch_size"])
    command = [sys.executable, "-c", _PROGRAM, str(run), batch_size, *map(str, tables.values())]
    subprocess.run(command, check=True, env={**os.environ, "XLA_FLAGS": ONE_DEVICE})
    for kind, table in tables.items():
        found = json.loads(table.with_name(f"{table.name}.json").read_text(encoding="utf-8"))
        lines = lines_of(run / kind / "normal.csv")
        assert len(lines) > 2 and found.keys() == set(DETECTORS)
        for name in DETECTORS:
            assert [float(line[name]) for line in lines] == found[name]["score"] == found[name]["loaded"]
            np.testing.assert_allclose(found[name]["call"], found[name]["score"], rtol=1e-5)


def test_calibration_samples_are_scored_beside_the_test(own_run):
    run, _ = own_run
    lines = lines_of(run / "calibration" / "normal.csv")
    splits = read(run, "splits.json")["configurations"]["normal"]
    assert [line["id"] for line in lines] == splits["calibration"] and len(lines) > 2
    assert {line["label"] for line in lines} == {"0"}
    assert not set(splits["calibration"]) & {*splits["train"], *splits["test"]}


def test_any_name_is_written_whatever_the_locale(own_run):
    run, _ = own_run
    names = [line["id"] for line in lines_of(run / "scores" / "normal.csv")]
    assert "Kratzer/Größe_000.png" in names
    assert "Größe" in (run / "report" / "index.html").read_text(encoding="utf-8")


def test_a_parcel_scores_as_the_largest_of_the_patches_that_are_cut_from_its_views(xray_run, four_devices):
    run, config = xray_run
    dataset = dataset_of(config)
    detector = detector_lib.load(run, "soc")
    lines = lines_of(run / "scores" / "soc.csv")
    samples = [int(np.flatnonzero(dataset.samples.ids == line["id"])[0]) for line in lines]
    patches = [
        [patch for view in range(2) for patch in detector.preprocessing.images_of(dataset.read_view(sample, view))]
        for sample in samples
    ]
    pictures = np.stack(sum(patches, []))
    sample_of_patch = np.repeat(np.arange(len(patches)), [len(each) for each in patches])
    images = Images(len(pictures), pictures.shape[1:], lambda index: pictures[index])
    loop = Loop(four_devices, config.evaluate.batch_size)
    scores = detector_lib.score(detector, images, np.arange(len(images)), loop)
    for name in DETECTORS:
        found = [scores[name][sample_of_patch == sample].max() for sample in range(len(samples))]
        assert found == [float(line[name]) for line in lines]


def test_a_call_gives_what_score_gives(small_run, small_config, four_devices):
    detector = detector_lib.load(small_run, NAME)
    dataset = dataset_of(small_config)
    indices = np.arange(0, 40, 2)
    expected = detector_lib.score(detector, dataset.images, indices, Loop(four_devices, 16))
    pictures = np.stack([dataset.images.read(index) for index in indices]) / np.float32(255)
    actual = jax.jit(lambda detector, images: detector(images))(detector, pictures)  # a pytree
    assert actual.keys() == expected.keys() == set(DETECTORS)
    for name in DETECTORS:
        np.testing.assert_allclose(actual[name], expected[name], rtol=1e-5)


def test_scoring_hands_out_the_errors_in_the_coordinates_of_the_student(small_run, small_config, four_devices):
    detector = detector_lib.load(small_run, NAME).replace(targets="whitened")
    images, indices = dataset_of(small_config).images, np.arange(0, 40, 2)  # 20: the last batch is not full
    errors = np.full((20, detector.gaussian.mean.size), np.nan, np.float32)
    scores = detector_lib.score(detector, images, indices, Loop(four_devices, 16), take_errors=errors.__setitem__)
    np.testing.assert_allclose(np.square(errors).sum(axis=1), scores["kd"], rtol=1e-5)
    pictures = np.stack([images.read(index) for index in indices]) / np.float32(255)
    expected = jax.jit(detector_lib.Detector.errors)(detector, pictures)
    np.testing.assert_allclose(errors, expected, atol=1e-4 * np.abs(expected).max())


def copy_of(small_run, tmp_path):
    shutil.copytree(small_run, tmp_path / "run")
    return tmp_path / "run"


def load_error(run, configuration=NAME):
    """Returns the message of the error that loading raises."""
    with pytest.raises(UserError) as raised:
        detector_lib.load(run, configuration)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_detector_that_is_missing_is_one_line(small_run, tmp_path):
    expected = f"{small_run} has no detector for 'unimodal/cat' (there are unimodal/airplane)"
    assert load_error(small_run, "unimodal/cat") == expected
    assert load_error(tmp_path / "nowhere") == f"{tmp_path / 'nowhere'} is not a folder: name that of a finished run"


@pytest.mark.parametrize("part", ["detector", "student", "teacher"])
def test_a_detector_that_is_damaged_is_one_line(small_run, tmp_path, part):
    folder = copy_of(small_run, tmp_path) / "checkpoints" / NAME / part
    flip_bit(folder, 0)
    assert load_error(tmp_path / "run").startswith(f"{folder} is damaged (")
    shutil.rmtree(folder)
    missing = "has no detectors" if part == "detector" else f"{folder / 'manifest.json'} is missing: restore it"
    assert missing in load_error(tmp_path / "run")


def test_a_row_of_several_seeds_is_told_to_name_one(tmp_path):
    files.write_json(tmp_path / "run" / "seed-3" / "results.json", {})
    assert load_error(tmp_path / "run").endswith(
        f"run has the runs of several seeds: name one of them, such as {tmp_path / 'run' / 'seed-3'}"
    )


def test_a_folder_of_candidates_is_told_to_name_the_chosen_one(tmp_path):
    for name in ("random", "rotnet"):
        files.write_json(tmp_path / "candidates" / name / "results.json", {})
    with pytest.raises(
        UserError, match=f"holds the runs of brittle_jax.choose: .* such as {tmp_path}/candidates/random$"
    ):
        detector_lib.only_configuration(tmp_path)
    files.write_json(tmp_path / "choose.json", {"choice": {"candidate": "rotnet", "detector": "kd"}})
    with pytest.raises(UserError, match=f"name the one that it chose, {tmp_path}/candidates/rotnet$"):
        detector_lib.only_configuration(tmp_path)


def test_loading_traces_each_network_once(small_run, monkeypatch):
    calls = []

    class CountedTrunk(MiniTrunk):
        def __call__(self, x, train=False):
            calls.append(x.shape)
            return MiniTrunk.__call__(self, x, train)

    counted = dataclasses.replace(ARCHITECTURES["mini"], trunk=CountedTrunk())
    monkeypatch.setitem(ARCHITECTURES, "mini", counted)
    detector = detector_lib.load(small_run, NAME)
    assert calls == [(1, *detector.preprocessing.image_shape)]  # the student is the teacher's twin


def test_a_detector_whose_architecture_is_not_registered_is_one_line(small_run, monkeypatch):
    monkeypatch.delitem(ARCHITECTURES, "mini")
    assert load_error(small_run).startswith("network.name='mini' is not one of ")


def test_a_run_of_an_earlier_version_is_finished_but_has_no_detector(small_run, small_config, tmp_path, capsys):
    run = copy_of(small_run, tmp_path)
    shutil.rmtree(run / "checkpoints" / NAME / "detector")
    shutil.rmtree(run / "brittleness")
    config = flatten(small_config)
    del config["evaluate.keep_errors_mib"]
    files.write_json(run / "config.json", config)
    listed = read(run, "manifest.json")["sha256"]
    kept = {name: digest for name, digest in listed.items() if (run / name).exists()}
    files.write_manifest(run, kept | {"config.json": files.sha256_of_file(run / "config.json")})
    content = experiment.run(small_config, run)
    captured = capsys.readouterr()
    assert "is finished" in captured.out and captured.err == ""
    assert content == read(small_run, "results.json")
    assert load_error(run).endswith(
        "has no detectors: no run, or one of an earlier version; run it again from the start"
    )


def test_detectors_of_earlier_versions_are_loaded(small_run, tmp_path):
    folder = copy_of(small_run, tmp_path) / "checkpoints" / NAME / "detector"
    description = read(folder, "network.json")

    def rewrite(version):
        description["format_version"] = version
        files.write_json(folder / "network.json", description)
        (folder / files.MANIFEST).unlink()
        files.write_manifest(folder, files.digests_of(folder))

    assert description["format_version"] == 3
    expected = detector_lib.load(small_run, NAME)
    removed = []
    for version, names in ((2, ("student",)), (1, ("student", "levels"))):
        removed += [description["network"].pop(name) for name in names if name in description["network"]]
        description.pop("targets", None)
        rewrite(version)
        loaded = detector_lib.load(tmp_path / "run", NAME)
        assert (loaded.network, loaded.targets) == (expected.network, "raw")
    assert removed == ["", ""]
    description["targets"] = "sharpened"
    rewrite(3)
    message = "has targets 'sharpened', which are not one of raw, standardised, whitened: it is damaged"
    assert load_error(tmp_path / "run").endswith(message)
    rewrite(4)
    assert "has format version 4, this version of brittle_jax reads up to 3: install" in load_error(tmp_path / "run")


def test_what_is_loaded_is_what_was_saved(small_run, small_config, tmp_path):
    detector = detector_lib.load(small_run, NAME)
    checkpoints = small_run / "checkpoints" / NAME
    again = tmp_path / "run" / "checkpoints" / NAME
    shutil.copytree(checkpoints / "student", again / "student")
    shutil.copytree(checkpoints / "teacher", again / "teacher")
    detector_lib.save(
        again / "detector", detector, student=again / "student", teacher=again / "teacher", made_from={"seed": 0}
    )
    loaded = detector_lib.load(tmp_path / "run", NAME)
    assert dataclasses.asdict(loaded.network) == dataclasses.asdict(detector.network)
    assert loaded.preprocessing == detector.preprocessing
    for actual, expected in zip(jax.tree.leaves(loaded), jax.tree.leaves(detector), strict=True):
        np.testing.assert_array_equal(actual, expected)
