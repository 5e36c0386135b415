import csv
import pathlib
import re

import jax
import numpy as np
import pytest

from brittle_jax import command_line, config, published
from brittle_jax.auxiliary import TASKS, build_task
from brittle_jax.main import define_flags
from brittle_jax.models.network import ARCHITECTURES

FILES = sorted(command_line.packaged_configs().glob("*.py"))
ROWS = [file.stem for file in FILES]


def load(row, word=""):
    return command_line.parse(["main", f"--config={row}{word}"], define_flags)


def test_these_rows_are_there():
    with open(pathlib.Path(published.__file__).parent / "published.csv", newline="") as file:
        assert ROWS == sorted({line["row"] for line in csv.DictReader(file)})
    assert len(ROWS) == 36


def test_the_list_of_rows_has_every_file_once():
    text = (command_line.packaged_configs() / "README.md").read_text()
    assert sorted(re.findall(r"^\| `(\w+)\.py` \|", text, flags=re.MULTILINE)) == ROWS


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("word", ["", ":smoke"])
def test_a_row_loads_with_every_field_of_the_base_and_no_other(row, word):
    loaded = load(row, word).config
    assert loaded.row == row
    assert config.flatten(loaded).keys() == config.flatten(config.get_base_config()).keys()


@pytest.mark.parametrize("row", ROWS)
def test_a_row_documents_its_published_numbers_and_its_command(row):
    text = pathlib.Path(command_line.packaged_configs() / f"{row}.py").read_text()
    assert f"--config=configs/{row}.py" in text
    for group in published.published_row(row)["groups"].values():
        for name in ("kd", "mse", "mahalanobis_diag", "mahalanobis_full"):
            assert f"{100 * group['auroc'][name]:.2f}" in text


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("word", ["", ":smoke"])
def test_a_row_builds_its_networks(row, word):
    loaded = load(row, word).config
    side = loaded.data.patches.size_pixels if loaded.data.name == "xray" else loaded.data.image_size_pixels
    images = np.zeros((2, side, side, 3), np.float32)
    architecture = ARCHITECTURES[loaded.network.name]
    modules = [architecture.with_output(loaded.network.output_features)]
    if loaded.teacher.task in TASKS:
        task = build_task(loaded.teacher.task, loaded.pretrain, 10)
        modules.append(task.build_module(architecture, loaded.network.output_features, images.shape[1:]))
    for module in modules:
        outputs, _ = jax.eval_shape(lambda module=module: module.init_with_output(jax.random.key(0), images))
        assert outputs.shape[0] == 2


def test_published_numbers_are_fractions():
    row = published.published_row("cifar10_cifar_rotnet")
    assert row["groups"]["unimodal"]["auroc"]["kd"] == 0.8535
    assert row["groups"]["multimodal"]["brittleness"] == 0.048
    assert row["probe_accuracy"] == 0.3727
    assert row["table"] == "8, 9"
    assert published.published_row("mine") is None
