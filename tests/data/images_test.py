import numpy as np
import pytest

from brittle_jax.data.images import Images

PICTURES = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), np.uint8)
BYTES = 6 * 4 * 4 * 3


@pytest.mark.parametrize(("most_bytes", "is_cached"), [(BYTES, True), (BYTES - 1, False)])
def test_images_are_decoded_once_if_all_fit(most_bytes, is_cached):
    decoded = []

    def read(index):
        decoded.append(index)
        return PICTURES[index]

    images = Images(6, (4, 4, 3), read).cached(most_bytes)
    for index in (0, 5, 0, 3, 5):
        np.testing.assert_array_equal(images.read(index), PICTURES[index])
    assert decoded == ([0, 5, 3] if is_cached else [0, 5, 0, 3, 5])


def test_by_default_what_fits_into_256_mib_is_cached():
    def images(count):
        return Images(count, (32, 32, 3), lambda index: None)

    fits = 2**28 // (32 * 32 * 3)
    assert images(fits).cached_bytes == fits * 32 * 32 * 3
    assert images(fits + 1).cached_bytes == 0
    assert len(images(fits)) == fits
