"""Runs on X-ray and industrial data sets in their published formats."""

import pytest

from brittle_jax.recipes import image_folder_row
from brittle_jax.run import experiment
from tests.data.inspection_sets_test import BOTTLE, write_mvtec
from tests.data.xray_files_test import WRITERS
from tests.small_runs import read, shrink


@pytest.mark.parametrize("kind", ["parcels", "dvxray in one folder", "compass_xp"])
def test_a_set_as_published_runs(xray_config, tmp_path, kind):
    WRITERS[kind](tmp_path / "scans")
    config = xray_config
    config.data.dir, config.data.path = str(tmp_path / "data"), str(tmp_path / "scans")
    config.pretrain.num_epochs = 1.0
    config.distill.num_epochs = 2.0
    experiment.run(config, tmp_path / "run")
    results = read(tmp_path / "run", "results.json")
    assert results["synthetic_data"] is False
    assert results["configurations"][0]["num_test_anomalous"] == (6 if kind == "compass_xp" else 3)
    by_view = results["configurations"][0].get("auroc_by_view", {})
    assert list(by_view) == {"parcels": ["top", "side"], "compass_xp": []}.get(kind, ["OL", "SD"])


def test_a_run_on_mvtec_tests_what_is_published(data_dir, tmp_path):
    write_mvtec(tmp_path / "bottle", BOTTLE)
    config = shrink(image_folder_row("smoke"))
    config.network.name, config.teacher.task, config.teacher.data = "mini", "random", ""
    config.data.dir, config.data.path = data_dir, str(tmp_path / "bottle")
    experiment.run(config, tmp_path / "run")
    (results,) = read(tmp_path / "run", "results.json")["configurations"]
    assert results["num_test_normal"] == 4 and results["num_test_anomalous"] == 5
