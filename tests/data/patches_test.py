import dataclasses
import math

import numpy as np
import pytest

from brittle_jax.data import patches


def parcel(height=60, width=80, box=(10, 20, 40, 70)):
    image = np.full((height, width, 3), 250, np.uint8)
    top, left, bottom, right = box
    image[top:bottom, left:right] = [200, 100, 50]
    return image


def test_air_is_removed_up_to_the_margin():
    assert patches.remove_air(parcel(), 0.92, 0) == (10, 20, 40, 70)
    assert patches.remove_air(parcel(), 0.92, 4) == (6, 16, 44, 74)
    assert patches.remove_air(parcel(), 0.92, 15) == (0, 5, 55, 80)


def test_one_dark_channel_is_not_air():
    image = np.full((10, 10, 3), 250, np.uint8)
    image[4, 5, 2] = 100
    assert patches.remove_air(image, 0.92, 0) == (4, 5, 5, 6)


def test_an_image_of_air_is_kept_whole():
    assert patches.remove_air(np.full((7, 9, 3), 255, np.uint8), 0.92, 2) == (0, 0, 7, 9)


@pytest.mark.parametrize("length", [224, 225, 336, 337, 400, 447, 448, 449, 1000])
def test_windows_are_even_flush_and_as_few_as_the_stride_allows(length):
    starts = patches.window_starts(length, 224, 112)
    assert len(starts) == math.ceil((length - 224) / 112) + 1
    assert starts[0] == 0
    assert starts[-1] == length - 224
    strides = np.diff(starts)
    assert (strides <= 112).all()
    assert len(strides) == 0 or strides.max() - strides.min() <= 1


def test_windows_cover_every_pixel():
    covered = np.zeros(397, bool)
    for start in patches.window_starts(397, 64, 32):
        covered[start : start + 64] = True
    assert covered.all()


def test_a_short_axis_gets_one_centred_window():
    assert patches.window_starts(100, 224, 112) == [-62]


def test_patches_are_cut_line_by_line_and_filled_with_air_outside_the_box():
    image, box = parcel(), (10, 20, 40, 70)
    origins = patches.patch_origins(box, 32, 16)
    rows, columns = patches.window_starts(30, 32, 16), patches.window_starts(50, 32, 16)
    assert origins == [(10 + row, 20 + column) for row in rows for column in columns]
    patch = patches.cut_patch(image, box, origins[0], 32)
    assert patch.shape == (32, 32, 3)
    assert (patch[1:31] == [200, 100, 50]).all()
    assert (patch[[0, 31]] == patches.WHITE).all()


def test_an_inner_patch_is_the_image_itself():
    image = np.random.default_rng(0).integers(0, 200, (100, 120, 3), np.uint8)
    patch = patches.cut_patch(image, (0, 0, 100, 120), (30, 40), 32)
    np.testing.assert_array_equal(patch, image[30:62, 40:72])


def test_the_inset_leaves_out_the_rim_of_the_parcel_not_of_the_image():
    settings = patches.PatchSettings(size_pixels=16, max_stride_pixels=8, air_level=0.92, margin_pixels=2)
    assert patches.inside(parcel(), settings) == (8, 18, 42, 72)
    assert patches.inside(parcel(), dataclasses.replace(settings, inset_pixels=7)) == (15, 25, 35, 65)


def test_an_inset_that_is_wider_than_the_parcel_keeps_its_middle():
    settings = patches.PatchSettings(
        size_pixels=16, max_stride_pixels=8, air_level=0.92, margin_pixels=0, inset_pixels=20
    )
    assert patches.inside(parcel(box=(10, 20, 41, 70)), settings) == (25, 40, 26, 50)
    assert patches.inside(parcel(), settings) == (24, 40, 26, 50)
