import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brittle_jax.auxiliary.augmentation import CUTOUT_VALUE, Augmentation, cutout, random_crop
from brittle_jax.auxiliary.classification import Classification
from brittle_jax.auxiliary.rotnet import RotNet

NOTHING = Augmentation(crop_padding_pixels=0, flip=False, cutout_pixels=0)
EVERYTHING = Augmentation(crop_padding_pixels=4, flip=True, cutout_pixels=8)
IMAGES = np.random.default_rng(0).uniform(size=(6, 32, 32, 3)).astype(np.float32)


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def test_rotations_equal_numpy_on_an_asymmetric_image():
    images = np.arange(2 * 4 * 4 * 3, dtype=np.float32).reshape(2, 4, 4, 3)
    inputs, targets = RotNet(NOTHING).prepare(images, np.zeros(2, int), None)
    expected = np.concatenate([np.rot90(images, turns, axes=(1, 2)) for turns in range(4)])
    np.testing.assert_array_equal(inputs, expected)
    np.testing.assert_array_equal(targets, [0, 0, 1, 1, 2, 2, 3, 3])
    assert len({np.asarray(view).tobytes() for view in inputs}) == 8


def test_rotnet_never_mirrors_even_if_asked_to():
    inputs, _ = RotNet(Augmentation(0, flip=True, cutout_pixels=0)).prepare(IMAGES, np.zeros(6, int), keys(6))
    np.testing.assert_array_equal(inputs[:6], IMAGES)


def test_an_image_keeps_its_augmentation_in_all_rotations():
    task = RotNet(Augmentation(4, flip=False, cutout_pixels=8))
    inputs, _ = task.prepare(IMAGES, np.zeros(6, int), keys(6))
    for turns in range(1, 4):
        np.testing.assert_array_equal(inputs[6 * turns : 6 * turns + 6], jnp.rot90(inputs[:6], turns, axes=(1, 2)))


def test_classification_keeps_images_and_labels():
    inputs, targets = Classification(10, EVERYTHING).prepare(IMAGES, np.arange(6), None)
    np.testing.assert_array_equal(inputs, IMAGES)
    np.testing.assert_array_equal(targets, np.arange(6))


@pytest.mark.parametrize("task", [Classification(4, NOTHING), RotNet(NOTHING)])
def test_losses_are_cross_entropies(task):
    outputs = np.array([[0.0, 0.0, 0.0, 0.0], [2.0, 0.0, 0.0, 0.0]], np.float32)
    losses = task.losses(outputs, np.array([3, 0]))
    np.testing.assert_allclose(losses, [np.log(4), np.log(np.exp(2) + 3) - 2], rtol=1e-6)
    np.testing.assert_array_equal(task.is_correct(outputs, np.array([3, 0])), [False, True])


def test_augmentation_of_an_image_depends_on_its_own_key_alone():
    together = EVERYTHING(keys(6), IMAGES)
    alone = jnp.concatenate([EVERYTHING(keys(6)[i : i + 1], IMAGES[i : i + 1]) for i in range(6)])
    np.testing.assert_array_equal(together, alone)
    assert not np.array_equal(together, EVERYTHING(keys(6, seed=1), IMAGES))


def test_crops_reach_every_place_and_cut_from_a_reflected_border():
    image = IMAGES[0]
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)), mode="reflect")
    windows = {padded[r : r + 32, c : c + 32].tobytes(): (r, c) for r in range(9) for c in range(9)}
    crops = jax.vmap(lambda key: random_crop(key, image, 4))(keys(2000))
    places = [windows[np.asarray(crop).tobytes()] for crop in crops]
    assert len(set(places)) == 81


def test_half_of_the_images_are_mirrored():
    flipped = Augmentation(0, flip=True, cutout_pixels=0)(keys(1000), np.repeat(IMAGES[:1], 1000, axis=0))
    mirrored = np.array([np.array_equal(image, IMAGES[0][:, ::-1]) for image in flipped])
    assert 430 < mirrored.sum() < 570
    assert all(np.array_equal(image, IMAGES[0]) for image in flipped[~mirrored])


def test_cutout_blanks_one_whole_square_anywhere():
    blanked = jax.vmap(lambda key: cutout(key, IMAGES[0, :16, :16], 8))(keys(2000))
    is_blank = np.asarray((blanked == CUTOUT_VALUE).all(axis=-1))
    assert (is_blank.sum(axis=(1, 2)) == 64).all()
    assert is_blank.any(axis=0).all()
