"""Heat maps as pictures: files, colours and masks on the scale of a run."""

import numpy as np
import pytest
from PIL import Image

from brittle_jax.apply import overlays
from brittle_jax.errors import UserError

GREY = np.full((8, 12, 3), 100, np.uint8)


def test_files_are_named_by_folder_and_stem(tmp_path):
    overlays.write(tmp_path / "maps", "scab/a.b.jpg", GREY, np.zeros((2, 3)), 1.0)
    overlays.write(tmp_path / "maps", "top.tiff", GREY, np.zeros((2, 3)), 1.0)
    found = {file.relative_to(tmp_path / "maps").as_posix() for file in tmp_path.rglob("*.*")}
    assert found == {"overlays/scab/a.b.png", "masks/scab/a.b.png", "overlays/top.png", "masks/top.png"}


def test_masks_are_white_at_four_times_the_scale(tmp_path):
    heat_map = np.array([[-1.0, 0.0, 2.0], [4.0, 8.0, 80.0]])
    overlays.write(tmp_path, "1.png", np.zeros((2, 3, 3), np.uint8), heat_map, 2.0)
    with Image.open(tmp_path / "masks" / "1.png") as mask:
        pixels = np.asarray(mask)
    assert pixels.dtype == np.uint16
    np.testing.assert_array_equal(pixels, [[0, 0, 16384], [32768, 65535, 65535]])


def test_maps_are_stretched_to_the_picture(tmp_path):
    overlays.write(tmp_path, "1.png", GREY, np.array([[0.0, 4.0]]), 1.0)
    mask, overlay = (np.asarray(Image.open(tmp_path / kind / "1.png")) for kind in ("masks", "overlays"))
    assert mask.shape == (8, 12) and overlay.shape == (8, 12, 3)
    assert mask[0, 0] == 0 and mask[0, -1] == 65535 and (np.diff(mask[0].astype(int)) >= 0).all()


def test_a_sound_place_is_blue_and_a_hot_one_red():
    levels = np.array([[-5.0, 0.0, 0.5, 1.0], [1.6, 2.4, 3.4, 4.0]])
    red, green, blue = np.moveaxis(overlays.overlay(np.zeros((2, 4, 3), np.uint8), levels).astype(int), -1, 0)
    assert (blue[0] > 2 * np.maximum(red[0], green[0])).all()
    assert red[1, 2] > 4 * max(green[1, 2], blue[1, 2]) and blue[1, 3] == 0
    np.testing.assert_array_equal(red[0, :2], red[0, 0])  # below 0 as at 0


def test_the_picture_shines_through():
    picture = np.zeros((1, 2, 3), np.uint8)
    picture[0, 1] = 255
    dark, light = overlays.overlay(picture, np.zeros((1, 2))).astype(int)[0]
    assert (light - dark > 80).all()


@pytest.mark.parametrize("path", ["../1.png", "/tmp/1.png", "a/../../1.png", "..\\1.png", ""])
def test_paths_that_lead_out_of_the_folder_are_refused(tmp_path, path):
    with pytest.raises(UserError, match="leads out of the folder"):
        overlays.write(tmp_path / "maps", path, GREY, np.zeros((2, 3)), 1.0)
    assert not list(tmp_path.rglob("*.*"))
