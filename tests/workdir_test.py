import json

import filelock
import pytest

from brittle_jax import workdir
from brittle_jax.errors import UserError

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
    with pytest.raises(UserError, match="belongs to a run on other images"):
        begin(tmp_path, cifar10_config, splits={"images": {"name": "cifar10", "synthetic": False}})
    assert json.loads((tmp_path / "splits.json").read_text()) == SPLITS


def test_overwrite_drops_an_earlier_run_and_nothing_else(tmp_path, cifar10_config):
    begin(tmp_path, cifar10_config)
    for name in ("results.json", "metrics.jsonl", "thesis.tex"):
        (tmp_path / name).write_text("{}")
    for name in ("scores", "checkpoints", "data"):
        (tmp_path / name / "inner").mkdir(parents=True)
    cifar10_config.seed = 3
    begin(tmp_path, cifar10_config, overwrite=True)
    names = {entry.name for entry in tmp_path.iterdir()}
    assert names - {".lock"} == {"config.json", "splits.json", "thesis.tex", "data"}
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 3


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


def test_what_a_crash_left_before_the_config_is_no_obstacle(tmp_path, cifar10_config):
    (tmp_path / ".lock").touch()
    begin(tmp_path, cifar10_config)


@pytest.mark.parametrize("inner", ["", "run"])
def test_a_file_is_refused(tmp_path, cifar10_config, inner):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file, name a folder"):
        begin(tmp_path / "file" / inner, cifar10_config)


def test_a_name_that_is_too_long_is_refused(tmp_path, cifar10_config):
    with pytest.raises(UserError, match="cannot be used: File name too long"):
        begin(tmp_path / ("x" * 300), cifar10_config)


def test_a_damaged_file_of_a_run_is_refused(tmp_path, cifar10_config):
    begin(tmp_path, cifar10_config)
    (tmp_path / "splits.json").write_text("{")
    with pytest.raises(UserError, match="cannot be used: Expecting property name"):
        begin(tmp_path, cifar10_config)
