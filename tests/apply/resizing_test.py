"""Resizing in JAX: bit for bit what the installed Pillow does."""

import jax
import numpy as np
import pytest
from PIL import Image

from brittle_jax.apply import resizing

SIDE = 24
resize = jax.jit(resizing.resize, static_argnames=("side", "tall_vertical_first"))


@pytest.fixture(scope="module")
def resized():
    """Resizes a picture; all are padded to one size, so that there is one program."""

    def of(picture):
        padded = np.full((200, 200, 3), 77, np.uint8)
        height, width, _ = picture.shape
        padded[:height, :width] = picture
        size = np.array([height, width], np.int32)
        return resize(padded, size, side=SIDE, tall_vertical_first=resizing.tall_is_vertical_first())

    return of


def by_pillow(picture):
    return np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BILINEAR))


SIZES = [(1, 1), (24, 24), (24, 90), (90, 24), (7, 9), (200, 200), (200, 50), (50, 200), (5, 200), (200, 5), (25, 23)]


def test_pixels_are_those_of_pillow_bit_for_bit(resized):
    rng = np.random.default_rng(0)
    for size in [*SIZES, *(tuple(rng.integers(1, 201, 2)) for _ in range(40))]:
        noise = rng.integers(0, 256, (*size, 3), np.uint8)
        for picture in (noise, np.where(noise < 128, np.uint8(0), np.uint8(255))):
            np.testing.assert_array_equal(resized(picture), by_pillow(picture), err_msg=str(size))


def test_the_largest_reduction_is_exact():
    length = resizing.LARGEST_REDUCTION * 2
    picture = np.random.default_rng(0).integers(250, 256, (length, length, 3), np.uint8)
    size = np.array([length, length], np.int32)
    actual = resize(picture, size, 2, tall_vertical_first=resizing.tall_is_vertical_first())
    np.testing.assert_array_equal(
        actual, np.asarray(Image.fromarray(picture).resize((2, 2), Image.Resampling.BILINEAR))
    )


def test_the_order_of_a_pillow_before_13_is_horizontal_first():
    picture = np.random.default_rng(0).integers(0, 256, (60, 40, 3), np.uint8)
    by_hand = Image.fromarray(picture).resize((8, 60), Image.Resampling.BILINEAR)
    by_hand = np.asarray(by_hand.resize((8, 8), Image.Resampling.BILINEAR))
    actual = resize(picture, np.array([60, 40], np.int32), 8, tall_vertical_first=False)
    np.testing.assert_array_equal(actual, by_hand)
