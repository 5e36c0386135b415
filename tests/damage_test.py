"""Damaged runs: whatever happens to a run's files is named, and what the run can make again is made again."""

import json
import os
import shutil

import pytest

from brittle_jax import files
from brittle_jax.errors import UserError
from brittle_jax.run import experiment
from tests.damage import NUM_FLIPS, as_earlier_versions_saved, flip_bit
from tests.small_runs import read, without_times


@pytest.fixture
def finished(small_run, small_config):
    """A small finished run, and its config."""
    return small_run, small_config


@pytest.fixture
def run_with_page(finished, tmp_path):
    """A copy of the run, to be damaged; and its config."""
    folder, config = finished
    shutil.copytree(folder, tmp_path / "run")
    return tmp_path / "run", config


@pytest.fixture
def run(run_with_page, empty_page):
    """The same, where a page that is made again is empty."""
    return run_with_page


def again(run, sound, capsys):
    """Runs the same command again; returns what it warned of, after comparing the results with those of a sound run."""
    folder, config = run
    capsys.readouterr()
    experiment.run(config, folder)
    warned = capsys.readouterr().err
    assert without_times(read(folder, "results.json")) == without_times(read(sound, "results.json"))
    expected, found = (
        {file.relative_to(root) for ending in ("csv", "npz") for file in root.rglob(f"*.{ending}")}
        for root in (sound, folder)
    )
    assert expected == found and len(expected) == 2
    for name in expected:
        assert (folder / name).read_bytes() == (sound / name).read_bytes()
    experiment.run(config, folder)
    captured = capsys.readouterr()
    assert "is finished" in captured.out and captured.err == ""
    return warned


NAMES = [
    "results.json",
    "manifest.json",
    "splits.json",
    "config.json",
    "stages.json",
    "metrics.jsonl",
    "scores/unimodal/airplane.csv",
    "examples/unimodal/airplane.json",
    "brittleness/unimodal/airplane.npz",
    "checkpoints/unimodal/airplane/detector",
    "checkpoints/unimodal/airplane/student",
    "checkpoints/unimodal/airplane/teacher",
]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_missing_from_a_finished_run_is_named_and_made_again_where_it_can_be(run, finished, capsys, name):
    path = run[0] / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    warned = again(run, finished[0], capsys)
    assert "was finished, but has changed since: " in warned
    assert ("is not made again" in warned) == (name == "metrics.jsonl")
    assert name in warned and "missing" in warned


@pytest.mark.parametrize("name", [name for name in NAMES if "checkpoints" not in name])
def test_what_was_cut_off_is_named_and_made_again(run, finished, capsys, name):
    os.truncate(run[0] / name, (run[0] / name).stat().st_size // 2)
    warned = again(run, finished[0], capsys)
    assert f"{name} (" in warned


def test_an_edited_result_is_named_and_computed_again(run, finished, capsys):
    content = read(run[0], "results.json")
    content["configurations"][0]["auroc"]["kd"] = 0.999
    files.write_json(run[0] / "results.json", content)
    assert "results.json (changed)" in again(run, finished[0], capsys)


def flip_and_run_again(run, finished, capsys, network, numbers):
    for number in numbers:
        folder = run[0] / "checkpoints" / "unimodal" / "airplane" / network
        file, _ = flip_bit(folder, number)
        warned = again(run, finished[0], capsys)
        assert f"{folder} is damaged ({file.relative_to(folder)}: changed): it is made anew" in warned


@pytest.mark.parametrize("network", ["teacher", "student"])
def test_a_flipped_bit_in_a_finished_run_is_named_and_the_results_stay(run, finished, capsys, network):
    flip_and_run_again(run, finished, capsys, network, range(2))


@pytest.mark.slow
@pytest.mark.parametrize("network", ["teacher", "student"])
def test_no_flipped_bit_of_many_goes_unnoticed(run, finished, capsys, network):
    flip_and_run_again(run, finished, capsys, network, range(NUM_FLIPS))


def test_a_flipped_bit_in_an_unfinished_run_is_named_and_the_results_stay(run, finished, capsys):
    for name in ("results.json", "manifest.json"):
        (run[0] / name).unlink()
    flip_bit(run[0] / "checkpoints" / "unimodal" / "airplane" / "student", 0)
    assert "student is damaged" in again(run, finished[0], capsys)


@pytest.mark.parametrize("damage", ["deleted", "cut off", "a folder"])
def test_the_page_is_made_again_whatever_happened_to_it(run_with_page, finished, capsys, damage):
    page = run_with_page[0] / "report" / "index.html"
    sound = page.read_bytes()
    if damage == "deleted":
        shutil.rmtree(run_with_page[0] / "report")
    elif damage == "cut off":
        os.truncate(page, 1000)
    else:
        page.unlink()
        page.mkdir()
        with pytest.raises(UserError, match="the results are safe, but not their page: .*index.html cannot be written"):
            experiment.run(run_with_page[1], run_with_page[0])
        page.rmdir()
    assert again(run_with_page, finished[0], capsys) == ""
    assert page.read_bytes() == sound


@pytest.mark.parametrize("name", ["results.json", "manifest.json", "scores/unimodal/airplane.csv"])
def test_a_folder_in_the_place_of_a_file_is_named(run, name):
    (run[0] / name).unlink()
    (run[0] / name).mkdir()
    with pytest.raises(UserError, match=f"{name} cannot be written .*: move away what is in its place"):
        experiment.run(run[1], run[0])


def test_what_others_write_into_the_folder_changes_nothing(run, finished, capsys):
    for content in ("one", "two"):
        (run[0] / "log.txt").write_text(content)
        (run[0] / "scores" / ".DS_Store").write_text(content)
        assert again(run, finished[0], capsys) == ""


@pytest.mark.parametrize(
    ("name", "before", "after"), [("config.json", '"seed": 0', '"seed": 1'), ("splits.json", "test_", "tast_")]
)
def test_an_edited_file_of_a_finished_run_is_named_and_written_again(run, finished, capsys, name, before, after):
    sound = (run[0] / name).read_text()
    assert before in sound
    (run[0] / name).write_text(sound.replace(before, after, 1))
    assert f"{name} (changed)" in again(run, finished[0], capsys)
    assert (run[0] / name).read_text() == sound


def test_a_damaged_network_never_passes_for_one_that_an_earlier_version_saved(run, finished, capsys):
    student = run[0] / "checkpoints" / "unimodal" / "airplane" / "student"
    flip_bit(student, 0)
    for name in ("manifest.json", "made_from.json"):
        (student / name).unlink()
    assert "student has no manifest.json" in again(run, finished[0], capsys)


def test_damaged_times_are_not_counted(run, capsys):
    folder, config = run
    for content in ('{"data": {"seconds": "nan", "x": []}}', '{"data": {"seconds": 1, "peak_memory_mib": "x"}}', "[]"):
        (folder / "results.json").unlink()
        (folder / "stages.json").write_text(content)
        experiment.run(config, folder)
        assert "stages.json is damaged: what the earlier part of the run took is not counted" in capsys.readouterr().err


def test_the_student_of_another_teacher_is_distilled_anew(run, finished, capsys):
    folder, config = run
    student = folder / "checkpoints" / "unimodal" / "airplane" / "student"
    description = json.loads((student / "network.json").read_text())
    files.write_json(student / "network.json", description | {"teacher_sha256": "0" * 64})
    files.write_manifest(student, files.digests_of(student))
    assert "is the student of another teacher: it is distilled anew" in again(run, finished[0], capsys)


def test_a_run_of_an_earlier_version_is_shown_as_unverified(run, capsys):
    folder, config = run
    content = read(folder, "results.json")
    del content["manifest"]
    files.write_json(folder / "results.json", content)
    for network in ("teacher", "student"):
        as_earlier_versions_saved(folder / "checkpoints" / "unimodal" / "airplane" / network)
    (folder / "manifest.json").unlink()
    experiment.run(config, folder)
    captured = capsys.readouterr()
    assert "is finished" in captured.out and "run is unverified" in captured.err


def test_settings_are_compared_also_where_a_finished_run_is_damaged(run):
    folder, config = run
    (folder / "splits.json").unlink()
    other = config.copy_and_resolve_references()
    other.seed = 3
    with pytest.raises(UserError, match="belongs to a run with seed=0, not 3"):
        experiment.run(other, folder)
