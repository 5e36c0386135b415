"""The command that scores image files, from its flags to its lines."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from brittle_jax import command_line, load_detector, results, score
from brittle_jax.apply import heat_maps, overlays
from brittle_jax.errors import UserError
from brittle_jax.evaluate import calibration as calibration_lib
from brittle_jax.evaluate import conformal
from brittle_jax.results import DETECTORS
from brittle_jax.run import workdir
from tests.conftest import save_noise
from tests.small_runs import dataset_of, read


def run_score(*words):
    """Runs the command in this process; returns its exit code."""
    arguments = command_line.parse(["score", *map(str, words)], score.define_flags, needs_config=False, takes_rows=True)
    try:
        score.main(arguments)
    except SystemExit as error:
        return error.code
    return 0


def lines_of(file):
    if file.suffix == ".jsonl":
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    with open(file, encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


@pytest.fixture(autouse=True)
def own_settings(monkeypatch):
    """Leaves the settings of this process as the tests have them."""
    monkeypatch.setattr("brittle_jax.runtime.set_up", lambda: None)


@pytest.fixture
def run(small_own_run, tmp_path):
    """A copy that may be changed."""
    shutil.copytree(small_own_run[0], tmp_path / "run")
    return tmp_path / "run"


def test_pictures_that_the_run_tested_get_its_scores_p_values_and_decisions(small_own_run, tmp_path, capsys):
    run, pictures = small_own_run
    assert run_score(f"--run={run}", f"--images={pictures}", f"--out={tmp_path / 'o.csv'}", "--detector=mse") == 0
    lines = {os.path.relpath(line["path"], pictures): line for line in lines_of(tmp_path / "o.csv")}
    assert list(lines) == sorted(lines) and len(lines) == 54
    calibration = results.read_scores(run / "calibration" / "normal.csv").scores["mse"]
    threshold = conformal.threshold(calibration, 0.05)
    tested = results.read_scores(run / "scores" / "normal.csv")
    for number, name in enumerate(tested.ids):
        line = lines[name]
        assert [float(line[detector]) for detector in DETECTORS] == [tested.scores[each][number] for each in DETECTORS]
        (p_value,) = conformal.p_values(calibration, tested.scores["mse"][[number]])
        assert float(line["p_value"]) == p_value and line["error"] == ""
        assert line["decision"] == ("anomalous" if tested.scores["mse"][number] > threshold else "normal")
    said = capsys.readouterr().out
    assert (
        f"mse above {threshold:.6g}, a false-alarm rate of 0.05 on average over draws of 20 calibration images" in said
    )
    assert f"with confidence 95% of at most {conformal.rate_bound(20, 0.05):.3g}" in said
    assert "o.csv: 54 images scored" in said


def test_one_that_cannot_be_read_is_a_line_with_its_error(run, tmp_path, capsys):
    save_noise(tmp_path / "new", 5)
    (tmp_path / "new" / "002.png").write_bytes(b"no picture")
    out = tmp_path / "o.jsonl"
    words = [f"--run={run}", "--images", tmp_path / "new", f"--out={out}", "--threshold=1e9"]
    assert run_score(*words) == 3
    lines = lines_of(out)
    assert [line["error"] for line in lines] == [None, None, "not a picture", None, None]
    assert lines[2] == {name: None for name in lines[0]} | {"path": lines[2]["path"], "error": "not a picture"}
    assert [line["decision"] for line in lines] == ["normal", "normal", None, "normal", "normal"]
    assert "1 image of 5 could not be read" in capsys.readouterr().err
    assert run_score(*words, "--only_anomalies") == 3
    assert [line["error"] for line in lines_of(out)] == ["not a picture"]


def test_only_anomalies_are_those_above_the_threshold(run, tmp_path):
    save_noise(tmp_path / "new", 6)
    words = [f"--run={run}", f"--images={tmp_path / 'new'}", f"--out={tmp_path / 'o.csv'}", "--detector=kd"]
    run_score(*words)
    scores = sorted(float(line["kd"]) for line in lines_of(tmp_path / "o.csv"))
    run_score(*words, f"--threshold={scores[3]!r}", "--only_anomalies")
    found = lines_of(tmp_path / "o.csv")
    assert sorted(float(line["kd"]) for line in found) == scores[4:]
    assert {line["decision"] for line in found} == {"anomalous"}


def test_several_files_keep_the_order_in_which_they_are_named(run, tmp_path):
    save_noise(tmp_path / "new", 3)
    named = [tmp_path / "new" / f"00{number}.png" for number in (2, 0, 1)]
    run_score(f"--run={run}", f"--out={tmp_path / 'o.csv'}", "--images", *named)
    assert [line["path"] for line in lines_of(tmp_path / "o.csv")] == list(map(str, named))


def test_too_few_calibration_images_for_a_rate_are_refused_with_the_number_it_takes(run, tmp_path):
    save_noise(tmp_path / "new", 2)
    with pytest.raises(UserError, match=r"false-alarm rate of 0\.01 needs 99 calibration images .*, not 20"):
        run_score(
            f"--run={run}", f"--images={tmp_path / 'new'}", f"--out={tmp_path / 'o.csv'}", "--false_alarm_rate=0.01"
        )
    assert not (tmp_path / "o.csv").exists()


def test_without_calibration_images_p_values_are_empty_and_it_says_how_to_get_them(small_run, tmp_path, capsys):
    save_noise(tmp_path / "new", 2)
    words = [f"--run={small_run}", f"--images={tmp_path / 'new'}", f"--out={tmp_path / 'o.csv'}"]
    assert run_score(*words) == 0
    assert {(line["p_value"], line["decision"]) for line in lines_of(tmp_path / "o.csv")} == {("", "")}
    said = capsys.readouterr().err
    assert "p-values and decisions stay empty" in said and f"--run={small_run} --recalibrate=DIR" in said
    for more in ("--false_alarm_rate=0.05", "--only_anomalies"):
        with pytest.raises(UserError, match="calibration images"):
            run_score(*words, more)


def heat_maps_in(folder):
    """Returns the pixels of all overlays and masks, by path below the folder."""
    return {file.relative_to(folder).as_posix(): np.asarray(Image.open(file)) for file in sorted(folder.rglob("*.png"))}


def test_each_picture_gets_an_overlay_and_a_mask_on_the_scale_of_the_run(small_own_run, tmp_path, capsys):
    run, _ = small_own_run
    save_noise(tmp_path / "new" / "kind", 5)
    (tmp_path / "new" / "kind" / "bad.png").write_bytes(b"")
    words = [f"--run={run}", f"--images={tmp_path / 'new'}", f"--out={tmp_path / 'o.csv'}", "--detector=mse"]
    assert run_score(*words, f"--heatmaps={tmp_path / 'maps'}") == 3
    found = heat_maps_in(tmp_path / "maps")
    names = [f"{folder}/kind/00{number}.png" for folder in ("masks", "overlays") for number in range(5)]
    assert list(found) == names
    assert "heat maps of 5 images, in overlays/ and masks/" in capsys.readouterr().out
    pictures = np.stack([np.asarray(Image.open(tmp_path / "new" / "kind" / f"00{number}.png")) for number in range(5)])
    loaded = load_detector(run)
    maps = loaded.explain(pictures, "mse")
    for number, (picture, heat_map) in enumerate(zip(pictures, maps, strict=True)):
        overlays.write(tmp_path / "expected", f"{number}.png", picture, heat_map, loaded.heat_map_scales()["mse"])
    expected = heat_maps_in(tmp_path / "expected")
    for name, pixels in zip(names, expected.values(), strict=True):
        np.testing.assert_allclose(found[name].astype(int), pixels.astype(int), atol=1 if pixels.ndim == 3 else 8)


def test_only_anomalies_get_heat_maps_where_only_these_are_asked_for(small_own_run, tmp_path):
    save_noise(tmp_path / "new", 6)
    words = [f"--run={small_own_run[0]}", f"--images={tmp_path / 'new'}", f"--out={tmp_path / 'o.csv'}"]
    run_score(*words, "--detector=kd")
    threshold = sorted(float(line["kd"]) for line in lines_of(tmp_path / "o.csv"))[3]
    words += ["--detector=kd", f"--threshold={threshold!r}", "--only_anomalies"]
    assert run_score(*words, f"--heatmaps={tmp_path / 'maps'}") == 0
    flagged = [os.path.basename(line["path"]) for line in lines_of(tmp_path / "o.csv")]
    assert len(flagged) == 2
    assert list(heat_maps_in(tmp_path / "maps")) == [
        f"{kind}/{name}" for kind in ("masks", "overlays") for name in flagged
    ]


def test_a_parcel_gets_a_heat_map_for_each_view(xray_run, tmp_path):
    run, config = xray_run
    shutil.copytree(run, tmp_path / "run")
    dataset = dataset_of(config)
    heat_maps.write_scales(tmp_path / "run", "soc", dict.fromkeys(DETECTORS, 1e-3))
    (tmp_path / "new").mkdir()
    for view, end in enumerate(dataset.views):
        Image.fromarray(dataset.read_view(0, view)).save(tmp_path / "new" / f"7_{end}.png")
    words = [f"--run={tmp_path / 'run'}", f"--images={tmp_path / 'new'}", f"--out={tmp_path / 'o.csv'}"]
    assert run_score(*words, "--detector=kd", f"--heatmaps={tmp_path / 'maps'}") == 0
    found = heat_maps_in(tmp_path / "maps")
    assert list(found) == sorted(f"{kind}/7_{end}.png" for kind in ("masks", "overlays") for end in dataset.views)
    detector = load_detector(run).detector
    for view, end in enumerate(dataset.views):
        pixels = dataset.read_view(0, view)
        images, boxes = detector.preprocessing.images_and_boxes(pixels)
        maps = heat_maps.explain(detector, np.float32(images) / 255, "kd")
        expected = np.clip(
            heat_maps.assemble(np.asarray(maps), boxes, pixels.shape[:2]) / 1e-3 / overlays.LARGEST, 0, 1
        )
        np.testing.assert_allclose(found[f"masks/7_{end}.png"] / 65535, expected, atol=1e-3)
        assert expected.any()


def test_without_a_scale_it_says_how_to_get_one(small_run, tmp_path, capsys):
    save_noise(tmp_path / "new", 2)
    words = [f"--run={small_run}", f"--images={tmp_path / 'new'}", f"--out={tmp_path / 'o.csv'}"]
    with pytest.raises(UserError, match=r"no scale for heat maps: measure it .* --run=.* --recalibrate=DIR, or train"):
        run_score(*words, f"--heatmaps={tmp_path / 'maps'}")
    assert capsys.readouterr().err == ""
    assert not (tmp_path / "maps").exists() and not (tmp_path / "o.csv").exists()


def test_a_folder_of_heat_maps_that_cannot_be_written_is_named_before_anything_is_computed(small_own_run, tmp_path):
    save_noise(tmp_path / "new", 2)
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "masks").write_text("", encoding="utf-8")
    words = [f"--run={small_own_run[0]}", f"--images={tmp_path / 'new'}", f"--out={tmp_path / 'o.csv'}"]
    with pytest.raises(UserError, match=r"maps/masks cannot be written .*: move away what is in its place"):
        run_score(*words, f"--heatmaps={tmp_path / 'maps'}")
    assert sorted(os.listdir(tmp_path)) == ["maps", "new"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--images=new", "--heatmaps=new/001.png"], "--heatmaps=new/001.png is not a folder"),
        (["--images=new", "--heatmaps="], "--heatmaps= is not a folder"),
        (["--images=new", "--heatmaps=new/maps"], "--heatmaps=new/maps is inside --images=new, so heat maps would be"),
        (["--images=other/../new", "--heatmaps=new"], "inside --images=other/../new"),
        (["--recalibrate=new", "--heatmaps=maps"], "--heatmaps and --recalibrate are given"),
        (["--images=new/000.png", "new/009.png"], "new/009.png: no such folder or file"),
        (["--recalibrate=other"], "other: no such folder or file"),
    ],
)
def test_mistaken_paths_are_named_before_the_run_is_read(words, message, tmp_path, monkeypatch):
    save_noise(tmp_path / "new", 2)
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("brittle_jax.apply.loaded.load_detector", pytest.fail)
    out = [] if "--recalibrate" in words[0] else ["--out=o.csv"]
    with pytest.raises(UserError, match=re.escape(message)):
        run_score("--run=run", *out, *words)


def test_a_run_is_calibrated_anew_by_group_and_duplicate(run, tmp_path, capsys):
    for folder in ("one", "two", "three"):
        save_noise(tmp_path / "normal" / folder, 4)
    shutil.copy(tmp_path / "normal" / "one" / "000.png", tmp_path / "normal" / "three" / "same.png")
    (tmp_path / "normal" / "bad.png").write_bytes(b"")
    assert run_score(f"--run={run}", f"--recalibrate={tmp_path / 'normal'}") == 3
    # Folders of equally long names hold the same noise here.
    assert "calibrated normal on 13 images, which count as 8: false-alarm rates from 0.11 on" in capsys.readouterr().out
    assert run_score(f"--run={run}", f"--recalibrate={tmp_path / 'normal'}", "--group_by=folder") == 3
    assert "calibrated normal on 13 images, which count as 1" in capsys.readouterr().out
    save_noise(tmp_path / "normal" / "seventeen", 30)
    run_score(f"--run={run}", f"--recalibrate={tmp_path / 'normal'}")
    out = tmp_path / "o.csv"
    run_score(f"--run={run}", f"--images={tmp_path / 'normal' / 'seventeen'}", f"--out={out}", "--detector=kd")
    lines = lines_of(out)
    calibration = calibration_lib.read(run / "recalibration", "normal")
    assert len(calibration) == 43 and calibration.num_groups == 38
    expected = conformal.p_values(calibration.scores_of("kd"), np.array([float(line["kd"]) for line in lines]))
    assert [float(line["p_value"]) for line in lines] == expected.tolist()
    pictures = [np.asarray(Image.open(file)) for file in (tmp_path / "normal").rglob("*.png") if file.stem != "bad"]
    maps = load_detector(run).explain(pictures, "kd")
    assert len(maps) == 43
    np.testing.assert_allclose(load_detector(run).heat_map_scales()["kd"], np.percentile(maps, 99), rtol=1e-4)
    # The run is as it was: its own calibration images, and its manifest, which does not list the new ones.
    assert read(run, "splits.json")["configurations"]["normal"]["calibration"]
    assert workdir.damage(run) == {}


def test_images_unlike_the_calibration_images_are_warned_of(run, tmp_path, capsys):
    folder = tmp_path / "dark"
    folder.mkdir()
    for number in range(30):
        Image.fromarray(np.full((40, 30), number, np.uint8)).save(folder / f"{number}.png")
    run_score(f"--run={run}", f"--images={folder}", f"--out={tmp_path / 'o.csv'}")
    said = capsys.readouterr().err
    assert "scores look unlike those of the calibration images" in said
    assert "another size than 24 x 24 pixels (30 of 30)" in said and "other colours than colour (30 of 30)" in said


def test_images_like_the_calibration_images_are_not_warned_of(small_own_run, tmp_path, capsys):
    run, _ = small_own_run
    save_noise(tmp_path / "like_them", 20)
    run_score(f"--run={run}", f"--images={tmp_path / 'like_them'}", f"--out={tmp_path / 'o.csv'}")
    assert capsys.readouterr().err == ""


def test_a_parcel_tells_the_view_and_patch_that_decided(xray_run, tmp_path):
    run, config = xray_run
    dataset = dataset_of(config)
    samples = results.read_scores(run / "scores" / "soc.csv")
    for name in samples.ids[:3]:
        for view, end in enumerate(dataset.views):
            pixels = dataset.read_view(int(np.flatnonzero(dataset.samples.ids == name)[0]), view)
            Image.fromarray(pixels).save(tmp_path / f"{name}_{end}.png")
    run_score(f"--run={run}", f"--images={tmp_path}", f"--out={tmp_path / 'o.jsonl'}", "--threshold=0", "--detector=kd")
    by_name = {os.path.basename(line["path"]): line for line in lines_of(tmp_path / "o.jsonl")}
    for number, name in enumerate(samples.ids[:3]):
        line = by_name[name]
        np.testing.assert_allclose(line["kd"], samples.scores["kd"][number], rtol=1e-5)
        assert line["view"] in dataset.views and line["decision"] == "anomalous"
        sample = int(np.flatnonzero(dataset.samples.ids == name)[0])
        of_sample = dataset.images_of(np.array([sample]))
        assert line["patch"] in dataset.box_of_image[of_sample].tolist()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--run is missing"),
        (["--run=r"], "--images is missing: name a folder of images"),
        (["--run=r", "--images=i"], "--out is missing: name a file to write"),
        (["--run=r", "--images=i", "--out=o.txt"], "must end in .csv or .jsonl"),
        (["--run=r", "--images=i", "--out=o.csv", "--threshold=1", "--false_alarm_rate=0.1"], "give one of them"),
        (["--run=r", "--images=i", "--out=o.csv", "--threshold=nan"], "--threshold=nan is not a score"),
        (["--run=r", "--images=i", "--out=o.csv", "--group_by=folder"], "without --recalibrate"),
        (["--run=r", "--images=i", "--out=o.csv", "--detector=foo"], "--detector=foo is not one of kd, mse, mahal"),
        (["--run=r", "--images=i", "--out=o.csv", "--detector=KD"], "did you mean kd"),
        (["--run=r", "--images=i", "--recalibrate=n"], "calibrate first, then score"),
        (["--run=r", "--recalibrate=n", "other"], "'other' is a stray argument"),
        (["--run=r", "--images=i", "--out=o.csv", "--config.seed=1"], "a finished run has its settings"),
        (["--run=nowhere", "--images=i", "--out=o.csv"], "nowhere is not a folder: name that of a finished run"),
        (["--run=r", "--image=i"], "--image is not a flag of this command .did you mean --images"),
    ],
)
def test_mistakes_are_one_line(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message) as raised:
        run_score(*words)
    assert "\n" not in str(raised.value)


def test_help_is_answered_at_once_and_names_every_flag():
    command = [sys.executable, "-m", "brittle_jax.score", "--help"]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (
        "--recalibrate" in finished.stdout
        and "--heatmaps" in finished.stdout
        and "--[no]only_anomalies" in finished.stdout
    )


def test_a_command_that_is_stopped_leaves_no_file_but_whole_heat_maps(run, tmp_path):
    folder, out = tmp_path / "new", tmp_path / "o.csv"
    save_noise(folder, 50)
    code = (
        "import signal, os, sys; sys.argv = ['score', *sys.argv[1:]]\n"
        "from tests.mini_network import MINI\n"
        "from brittle_jax.models.network import ARCHITECTURES; ARCHITECTURES['mini'] = MINI\n"
        "from brittle_jax import command_line, score\n"
        "from brittle_jax.apply import scoring\n"
        "first = scoring.scored_samples\n"
        "def stopping(*arguments, **options):\n"
        "    for number, each in enumerate(first(*arguments, **options)):\n"
        "        yield each\n"
        "        if number == 10: os.kill(os.getpid(), signal.SIGTERM)\n"
        "scoring.scored_samples = stopping\n"
        "command_line.run(score.main, score.define_flags, needs_config=False, takes_rows=True, goes_on=False)\n"
    )
    maps = tmp_path / "maps"
    command = [sys.executable, "-c", code, f"--run={run}", f"--images={folder}", f"--out={out}", f"--heatmaps={maps}"]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == command_line.EXIT_INTERRUPTED, finished.stderr
    assert finished.stderr.count("\n") == 1 and "stopped by SIGTERM" in finished.stderr
    assert "run the same command again, from the beginning" in finished.stderr
    assert not list(tmp_path.glob("o.csv*"))
    assert 0 < len(heat_maps_in(maps)) < 20 and not list(maps.rglob("*.partial"))  # whole ones, of what was scored
