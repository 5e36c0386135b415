import numpy as np
import pytest

from brittle_jax.data import synthetic_anomalies

RNG = np.random.default_rng(0)
PICTURES = {
    "wide": RNG.integers(0, 256, (40, 90, 3), dtype=np.uint8),
    "tiny": RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8),
}


@pytest.mark.parametrize("kind", synthetic_anomalies.KINDS)
@pytest.mark.parametrize("name", PICTURES)
def test_a_small_part_of_a_picture_changes(kind, name):
    picture = PICTURES[name]
    before = picture.copy()
    for number in range(20):
        made = synthetic_anomalies.make(picture, kind, seed=0, name=str(number))
        assert made.shape == picture.shape and made.dtype == np.uint8
        changed = (made != picture).any(axis=-1)
        assert changed.any()
        assert changed.mean() < 0.35  # a part of at most 15%, or a few pixels of a tiny picture
    np.testing.assert_array_equal(picture, before)


@pytest.mark.parametrize("kind", synthetic_anomalies.KINDS)
def test_an_anomaly_depends_on_seed_and_name_alone(kind):
    picture = PICTURES["wide"]
    first = synthetic_anomalies.make(picture, kind, seed=0, name="a")
    np.testing.assert_array_equal(first, synthetic_anomalies.make(picture, kind, seed=0, name="a"))
    assert (first != synthetic_anomalies.make(picture, kind, seed=0, name="b")).any()
    assert (first != synthetic_anomalies.make(picture, kind, seed=1, name="a")).any()


def test_a_pasted_part_is_of_the_picture_itself():
    # In one colour, a paste changes no more than brightness.
    picture = np.full((64, 64, 3), (200, 100, 50), np.uint8)
    for kind in ("cut_paste", "scar"):
        made = synthetic_anomalies.make(picture, kind, seed=0, name="a").astype(int)
        ratio = made / picture
        assert np.abs(ratio - 1).max() <= 0.111
        assert np.ptp(ratio, axis=-1).max() < 0.03  # the hue stays, but for rounding


def test_blur_lowers_contrast_inside_and_noise_raises_it():
    checks = np.kron(np.indices((32, 32)).sum(axis=0) % 2, np.ones((2, 2)))[..., None]
    picture = np.repeat(60 + 120 * checks, 3, axis=-1).astype(np.uint8)
    blurred = synthetic_anomalies.make(picture, "blur", seed=0, name="a")
    inside = (blurred != picture).any(axis=-1)
    assert blurred[inside].std() < 0.5 * picture[inside].std()
    grey = np.full_like(picture, 128)
    noisy = synthetic_anomalies.make(grey, "noise", seed=0, name="a")
    inside = (noisy != grey).any(axis=-1)
    assert 30 < noisy[inside].std() < 60  # 0.2 of 255 is 51, less what is cut off at black and white
