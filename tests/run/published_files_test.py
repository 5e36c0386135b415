"""Runs on X-ray and industrial data sets in their published formats."""

import numpy as np
import pytest
from PIL import Image

import brittle_jax
from brittle_jax.evaluate.localisation import pixel_auroc
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


def save_mask(file, box, size=(20, 30)):
    """Saves a mask that is white in a box: top, left, bottom, right."""
    mask = np.zeros(size, np.uint8)
    mask[box[0] : box[2], box[1] : box[3]] = 255
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(file)


def test_a_run_on_mvtec_tests_what_is_published(data_dir, tmp_path, capsys):
    bottle = tmp_path / "bottle"
    write_mvtec(bottle, BOTTLE)
    save_mask(bottle / "ground_truth" / "broken" / "000_mask.png", (0, 0, 10, 30))
    save_mask(bottle / "ground_truth" / "broken" / "001_mask.png", (0, 15, 20, 30))
    save_mask(bottle / "ground_truth" / "broken" / "002_mask.png", (0, 0, 9, 9), size=(9, 9))
    save_mask(bottle / "ground_truth" / "scratch" / "000_mask.png", (0, 0, 0, 0))
    config = shrink(image_folder_row("smoke"))
    config.network.name, config.teacher.task, config.teacher.data = "mini", "random", ""
    config.data.dir, config.data.path = data_dir, str(tmp_path / "bottle")
    experiment.run(config, tmp_path / "run")
    (results,) = read(tmp_path / "run", "results.json")["configurations"]
    assert results["num_test_normal"] == 4 and results["num_test_anomalous"] == 5
    found = results["localisation"]
    assert found["num_masks"] == 2 and found["num_normal"] == 4  # the masks of scratches are missing, or black
    warnings = capsys.readouterr().err
    size = "002_mask.png: a mask of 9 x 9 pixels for a picture of 30 x 20 pixels; pixel AUROC leaves out test/broken"
    assert size in warnings and "000_mask.png: a mask that is black everywhere; pixel AUROC leaves out" in warnings
    files = [*sorted((bottle / "test" / "good").iterdir()), *sorted((bottle / "test" / "broken").iterdir())[:2]]
    side = config.data.image_size_pixels
    masks = np.zeros((6, side, side))
    masks[4, : side // 2] = masks[5, :, side // 2 :] = 1  # pictures are stretched to squares
    detector = brittle_jax.load_detector(tmp_path / "run")
    for name, auroc in found["pixel_auroc"].items():
        maps = detector.explain([np.asarray(Image.open(file)) for file in files], name)
        stretched = [Image.fromarray(each).resize((side, side), Image.Resampling.BILINEAR) for each in maps]
        assert auroc == pytest.approx(pixel_auroc(np.stack(stretched), masks), abs=1e-4)
