import json

import pytest

from brittle_jax import workdir
from brittle_jax.errors import UserError


def test_a_new_folder_is_made_with_the_config_in_it(tmp_path, cifar10_config):
    folder = tmp_path / "runs" / "row"
    workdir.check(folder, cifar10_config)
    workdir.prepare(folder, cifar10_config, overwrite=False)
    assert json.loads((folder / "config.json").read_text())["network.name"] == "small_resnet_tiny"
    assert not workdir.is_finished(folder)
    workdir.check(folder, cifar10_config)


def test_another_configs_folder_is_refused_by_the_first_field_that_differs(tmp_path, cifar10_config):
    workdir.prepare(tmp_path, cifar10_config, overwrite=False)
    cifar10_config.seed = 3
    with pytest.raises(UserError, match="belongs to a run with seed=0, not 3.*--overwrite"):
        workdir.check(tmp_path, cifar10_config)


def test_the_images_may_have_moved(tmp_path, cifar10_config):
    workdir.prepare(tmp_path, cifar10_config, overwrite=False)
    cifar10_config.data.dir = "elsewhere"
    workdir.check(tmp_path, cifar10_config)


def test_overwrite_drops_an_earlier_run(tmp_path, cifar10_config):
    workdir.prepare(tmp_path, cifar10_config, overwrite=False)
    (tmp_path / "results.json").write_text("{}")
    workdir.prepare(tmp_path, cifar10_config, overwrite=True)
    assert [file.name for file in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize("content", [None, "not json"])
def test_a_folder_that_is_not_a_runs_is_never_touched(tmp_path, cifar10_config, content):
    (tmp_path / "thesis.tex").write_text("ten years of work")
    if content:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match="is not empty, and has no config.json"):
        workdir.check(tmp_path, cifar10_config)
    with pytest.raises(UserError, match="is not empty, and has no config.json"):
        workdir.prepare(tmp_path, cifar10_config, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "ten years of work"


def test_a_file_is_refused(tmp_path, cifar10_config):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        workdir.check(tmp_path / "file", cifar10_config)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, cifar10_config):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        workdir.prepare(tmp_path / "file" / "run", cifar10_config, overwrite=False)
