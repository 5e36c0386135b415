import json
import os
import shutil

import filelock
import numpy as np
import pytest

from brittle_jax import checkpoint
from brittle_jax.data.parcels import VERSION
from brittle_jax.errors import UserError
from brittle_jax.run import workdir
from tests.damage import as_earlier_versions_saved

SPLITS = {"images": {"name": "cifar10", "synthetic": True}}


def begin(folder, config, *, splits=SPLITS, overwrite=False):
    workdir.check(folder, config, overwrite=overwrite)
    with workdir.opened(folder, config, splits, overwrite=overwrite):
        pass


def test_a_new_folder_is_made_with_the_config_in_it(tmp_path, cifar10_config):
    folder = tmp_path / "runs" / "row with spaces, ünïcode"
    begin(folder, cifar10_config)
    assert json.loads((folder / "config.json").read_text())["network.name"] == "mini"
    assert not workdir.is_finished(folder)
    begin(folder, cifar10_config)


def test_another_configs_folder_is_refused_by_the_first_field_that_differs(tmp_path, cifar10_config):
    begin(tmp_path, cifar10_config)
    cifar10_config.seed = 3
    with pytest.raises(UserError, match="belongs to a run with seed=0, not 3.*--overwrite"):
        begin(tmp_path, cifar10_config)


def test_the_images_may_have_moved_but_not_have_changed(tmp_path, cifar10_config):
    begin(tmp_path, cifar10_config)
    cifar10_config.data.dir = "elsewhere"
    begin(tmp_path, cifar10_config)
    with pytest.raises(UserError, match="on made-up images, not on those that data.path or data.dir has: name another"):
        begin(tmp_path, cifar10_config, splits={"images": {"name": "cifar10", "synthetic": False}})
    assert json.loads((tmp_path / "splits.json").read_text()) == SPLITS


def test_overwrite_drops_an_earlier_run_and_nothing_else(tmp_path, cifar10_config):
    begin(tmp_path, cifar10_config)
    for name in ("results.json", "metrics.jsonl", "thesis.tex"):
        (tmp_path / name).write_text("{}")
    for name in ("scores", "calibration", "recalibration", "brittleness", "checkpoints", "progress", "data"):
        (tmp_path / name / "inner").mkdir(parents=True)
    cifar10_config.seed = 3
    begin(tmp_path, cifar10_config, overwrite=True)
    names = {entry.name for entry in tmp_path.iterdir()}
    assert names - {".lock"} == {"config.json", "splits.json", "thesis.tex", "data"}
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 3


def test_a_repeated_row_has_no_splits_of_its_own(tmp_path, cifar10_config):
    cifar10_config.seeds = "0,1"
    begin(tmp_path, cifar10_config, splits=None)
    assert {entry.name for entry in tmp_path.iterdir()} - {".lock"} == {"config.json"}
    begin(tmp_path, cifar10_config, splits=None)


def test_overwrite_drops_the_runs_of_all_seeds_and_nothing_else(tmp_path, cifar10_config):
    begin(tmp_path, cifar10_config)
    begin(workdir.folder_of_seed(tmp_path, 3), cifar10_config)
    begin(tmp_path / "seed-best", cifar10_config)
    (tmp_path / "seed-4").mkdir()
    (tmp_path / "seed-4" / "results.json").write_text("{}")  # of something else
    (tmp_path / "seed-3" / "thesis.tex").touch()
    begin(tmp_path, cifar10_config, overwrite=True)
    left = {entry.relative_to(tmp_path).as_posix() for entry in tmp_path.glob("seed-*/*") if entry.name != ".lock"}
    assert left == {"seed-3/thesis.tex", "seed-best/config.json", "seed-best/splits.json", "seed-4/results.json"}


def test_the_run_of_a_seed_that_another_process_holds_is_not_overwritten(tmp_path, cifar10_config):
    begin(tmp_path, cifar10_config)
    seed = workdir.folder_of_seed(tmp_path, 3)
    begin(seed, cifar10_config)
    with filelock.FileLock(seed / ".lock"), pytest.raises(UserError, match="seed-3 is in use by another process"):
        begin(tmp_path, cifar10_config, overwrite=True)
    assert (seed / "splits.json").exists() and (tmp_path / "splits.json").exists()


def test_a_link_in_the_place_of_a_seeds_run_is_refused(tmp_path, cifar10_config):
    begin(tmp_path / "run", cifar10_config)
    (tmp_path / "run" / "seed-0").symlink_to(tmp_path)
    with pytest.raises(UserError, match="seed-0 is a link"):
        begin(tmp_path / "run", cifar10_config, overwrite=True)


@pytest.mark.parametrize("content", [None, "not json", "[1, 2]", '"text"', '{"model_type": "bert"}'])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_is_not_a_runs_is_never_touched(tmp_path, cifar10_config, content, overwrite):
    (tmp_path / "thesis.tex").write_text("ten years of work")
    if content:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match="is not empty, and has no config.json of a run"):
        begin(tmp_path, cifar10_config, overwrite=overwrite)
    assert {entry.name for entry in tmp_path.iterdir()} <= {"thesis.tex", "config.json"}


def test_a_folder_is_one_processs_at_a_time(tmp_path, cifar10_config):
    begin(tmp_path, cifar10_config)
    with filelock.FileLock(tmp_path / ".lock"), pytest.raises(UserError, match="in use by another process"):
        begin(tmp_path, cifar10_config)


def test_a_run_that_goes_on_is_not_overwritten(run, cifar10_config):
    with (
        workdir.opened(run, cifar10_config, SPLITS, overwrite=False),
        pytest.raises(UserError, match=f"in use by process {os.getpid()} on .*: wait for it, or name another"),
    ):
        begin(run, cifar10_config, overwrite=True)
    assert (run / "checkpoints" / "teacher").is_dir()


def test_a_folder_that_vanishes_while_a_run_writes_to_it_is_noticed(tmp_path, cifar10_config):
    with workdir.opened(tmp_path / "run", cifar10_config, SPLITS, overwrite=False) as held:
        held.check()
        (tmp_path / "run").rename(tmp_path / "moved")
        with pytest.raises(UserError, match="was moved or deleted while this run was writing to it"):
            held.check()
    begin(tmp_path / "moved", cifar10_config)


def test_what_a_crash_left_before_the_config_is_no_obstacle(tmp_path, cifar10_config):
    for name in (".lock", ".holder.json", ".holder.json.partial", "config.json.partial"):
        (tmp_path / name).touch()
    begin(tmp_path, cifar10_config)
    assert {entry.name for entry in tmp_path.iterdir()} == {".lock", "config.json", "splits.json"}


def test_a_crash_while_overwriting_leaves_a_folder_that_can_be_overwritten(run, cifar10_config):
    (run / "thesis.tex").write_text("mine")
    (run / "config.json.partial").mkdir()  # so that it stops after the earlier run is deleted
    with pytest.raises(UserError, match="config.json cannot be written"):
        begin(run, cifar10_config, overwrite=True)
    assert not (run / "checkpoints").exists()
    (run / "config.json.partial").rmdir()
    begin(run, cifar10_config, overwrite=True)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_is_told_apart_from_a_folder_that_cannot_be_used(tmp_path, cifar10_config):
    (tmp_path / "config.json.partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        begin(tmp_path, cifar10_config)
    begin(tmp_path, cifar10_config)


@pytest.mark.parametrize("inner", ["", "run"])
def test_a_file_is_refused(tmp_path, cifar10_config, inner):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file, name a folder"):
        begin(tmp_path / "file" / inner, cifar10_config)


def test_a_name_that_is_too_long_is_refused(tmp_path, cifar10_config):
    with pytest.raises(UserError, match="cannot be used: File name too long"):
        begin(tmp_path / ("x" * 300), cifar10_config)


@pytest.fixture
def run(tmp_path, cifar10_config):
    """A run that has a network, but no results."""
    begin(tmp_path, cifar10_config)
    made_from = workdir.made_from(cifar10_config, SPLITS)
    checkpoint.save(tmp_path / "checkpoints" / "teacher", {"w": np.zeros(3)}, {}, made_from)
    return tmp_path


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"a": 1}'])
@pytest.mark.parametrize("name", ["config.json", "splits.json"])
def test_a_damaged_file_is_written_again_where_the_networks_tell_that_it_is_the_same_run(
    run, cifar10_config, name, content
):
    sound = (run / name).read_text()
    (run / name).unlink()
    if content is not None:
        (run / name).write_text(content)
    begin(run, cifar10_config)
    assert (run / name).read_text() == sound


def test_what_the_networks_say_counts_more_than_an_edited_file(run, cifar10_config, capsys):
    sound = {name: (run / name).read_text() for name in ("config.json", "splits.json")}
    (run / "config.json").write_text(sound["config.json"].replace('"seed": 0', '"seed": 1'))
    (run / "splits.json").write_text(sound["splits.json"].replace("true", "false"))
    begin(run, cifar10_config)
    assert "config.json is missing or damaged: it is written again" in capsys.readouterr().err
    assert {name: (run / name).read_text() for name in sound} == sound


def test_links_in_the_place_of_a_runs_files_are_refused(run, cifar10_config, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for name, target in (("scores", elsewhere), ("scores", run / "nowhere"), ("progress", elsewhere)):
        (run / name).symlink_to(target)
        with pytest.raises(UserError, match=f"{name} is a link, but a run keeps its files in its own folder"):
            begin(run, cifar10_config)
        (run / name).unlink()


def test_overwrite_drops_whatever_is_in_the_place_of_a_runs_files(run, cifar10_config):
    (run / "results.json" / "inner").mkdir(parents=True)
    (run / "scores").write_text("a file")
    begin(run, cifar10_config, overwrite=True)
    assert not (run / "results.json").exists() and not (run / "scores").exists()


def test_a_damaged_file_lets_no_other_run_in(run, cifar10_config):
    (run / "splits.json").write_text("{")
    with pytest.raises(UserError, match="belongs to a run on other images"):
        begin(run, cifar10_config, splits={"images": {"name": "cifar10", "synthetic": False}})
    begin(run, cifar10_config)
    (run / "config.json").write_text("{")
    cifar10_config.seed = 3
    with pytest.raises(UserError, match="belongs to a run with seed=0, not 3"):
        begin(run, cifar10_config)


def test_a_network_of_an_earlier_version_cannot_tell(run, cifar10_config):
    as_earlier_versions_saved(run / "checkpoints" / "teacher")
    begin(run, cifar10_config)
    (run / "splits.json").unlink()
    with pytest.raises(UserError, match="teacher cannot be told to be of these settings and images"):
        begin(run, cifar10_config)


def test_a_run_of_an_earlier_version_had_the_defaults_of_fields_that_it_lacks(tmp_path, cifar10_config):
    begin(tmp_path, cifar10_config)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["data.view_suffixes"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    begin(tmp_path, cifar10_config)
    (tmp_path / "config.json").write_text(json.dumps(config))
    cifar10_config.data.view_suffixes = "_a,_b"
    with pytest.raises(UserError, match="with data.view_suffixes='_top,_side', not '_a,_b'"):
        begin(tmp_path, cifar10_config)


def test_a_densenet_that_was_drawn_as_earlier_versions_did_is_not_gone_on_with(tmp_path, xray_config):
    xray_config.network.name = "densenet_tiny"
    begin(tmp_path, xray_config)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["network.initialiser"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="with network.initialiser='uniform', not 'he_normal'"):
        begin(tmp_path, xray_config)


@pytest.mark.parametrize(
    ("version", "name"),
    [
        ({"data.parcels.version": "2.0.0"}, "embedded parcels of version 2.0.0"),
        ({}, "earlier embedded parcels, or other images"),  # which runs did not record
    ],
)
def test_parcels_that_an_earlier_version_made_are_not_gone_on_with(tmp_path, xray_config, version, name):
    begin(tmp_path, xray_config)
    begin(tmp_path, xray_config)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["data.parcels.version"]
    (tmp_path / "config.json").write_text(json.dumps({**config, **version}))
    with pytest.raises(UserError, match=f"a run with {name}, not embedded parcels of version {VERSION}: "):
        begin(tmp_path, xray_config)


def test_runs_on_other_images_have_no_version_of_parcels(tmp_path, cifar10_config, xray_config):
    begin(tmp_path / "cifar", cifar10_config)
    xray_config.data.path = str(tmp_path / "scans")
    begin(tmp_path / "scans_run", xray_config)
    for name in ("cifar", "scans_run"):
        assert "data.parcels.version" not in json.loads((tmp_path / name / "config.json").read_text())


CONTENT = {"format_version": 1, "row": "cifar10_random", "configurations": []}


@pytest.fixture
def finished(run):
    for name in ("scores/unimodal/cat.csv", "examples/unimodal/cat.json", "report/index.html", "metrics.jsonl"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("content of it")
    workdir.finish(run, CONTENT)
    return run


def test_a_finished_run_that_is_as_it_was_has_no_damage(finished):
    assert workdir.is_finished(finished) and not workdir.is_unverified(finished)
    (finished / "report" / "index.html").unlink()  # which is made again at will
    (finished / "notes.txt").write_text("mine")
    workdir.finish(finished, CONTENT)
    for name in ("notes.txt", "scores/.DS_Store", ".hidden"):  # what others put there is not the run's
        (finished / name).write_text("changed")
    assert workdir.damage(finished) == {}


def test_a_finished_run_no_longer_has_what_it_needed_to_continue(run):
    (run / "progress" / "cat").mkdir(parents=True)
    (run / "progress" / "cat" / "weights").write_text("half trained")
    workdir.finish(run, CONTENT)
    assert workdir.is_finished(run) and not (run / "progress").exists()
    (run / "progress").mkdir()
    assert workdir.damage(run) == {}


def test_whatever_is_missing_or_changed_is_named(finished):
    shutil.rmtree(finished / "scores")
    (finished / "splits.json").unlink()
    shutil.rmtree(finished / "checkpoints" / "teacher" / "variables")
    text = (finished / "results.json").read_text()
    (finished / "results.json").write_text(text.replace("cifar10_random", "cifar10_Random"))
    damage = workdir.damage(finished)
    assert {"scores/unimodal/cat.csv": "missing", "splits.json": "missing", "results.json": "changed"}.items() <= (
        damage.items()
    )
    assert any(name.startswith("checkpoints/teacher/variables/") for name in damage)
    described = workdir.describe_damage(damage, most=2)
    assert described.endswith(f"and {len(damage) - 2} more") and described.count("(") == 2
    (finished / "manifest.json").unlink()
    assert list(workdir.damage(finished)) == ["splits.json", "manifest.json"]


def test_a_finished_run_of_an_earlier_version_is_unverified(finished):
    (finished / "manifest.json").unlink()
    (finished / "results.json").write_text(json.dumps(CONTENT))
    assert workdir.is_finished(finished) and workdir.is_unverified(finished)
    assert workdir.damage(finished) == {}
    (finished / "splits.json").write_text("{")
    assert list(workdir.damage(finished)) == ["splits.json"]
    (finished / "results.json").write_text("{")
    assert list(workdir.damage(finished)) == ["results.json", "splits.json"]


def test_the_same_folder_in_another_spelling_is_the_same(tmp_path, cifar10_config, monkeypatch):
    cifar10_config.data.path = str(tmp_path / "own")
    begin(tmp_path / "run", cifar10_config)
    monkeypatch.chdir(tmp_path)
    for spelling in (f"{tmp_path}/own/", "own", "./own/.", f"{tmp_path}/run/../own"):
        cifar10_config.data.path = spelling
        assert workdir.names_same_folder(tmp_path / "run", cifar10_config)
        begin(tmp_path / "run", cifar10_config)
    for other in ("elsewhere", ""):
        cifar10_config.data.path = other
        assert not workdir.names_same_folder(tmp_path / "run", cifar10_config)
