import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brittle_jax.auxiliary.autoencoder import Reconstruction
from brittle_jax.teachers.pretraining import held_out_auroc, reconstructions
from tests.conftest import make_image_set


def by_brightness(weight, images):
    brightness = images.mean(axis=(1, 2, 3))
    return jnp.stack([-weight * brightness, weight * brightness], axis=1)


@pytest.mark.parametrize(("weight", "expected"), [(1.0, 0.75), (-1.0, 0.375)])
def test_held_out_auroc_takes_the_largest_log_odds_of_each_sample(one_device, weight, expected):
    # Two images a sample, brighter is the second class. Largest: 30, 60 against 50, 70, three of four pairs in order.
    # Turned round the darkest counts: 10, 20 against 20, 15, one of four pairs in order and one a tie.
    pixels = np.array([[10, 30], [60, 20], [50, 20], [15, 70]], np.uint8).ravel()
    images = make_image_set(
        np.broadcast_to(pixels[:, None, None, None], (8, 4, 4, 3)),
        ids=np.array(list("abcd")),
        labels=np.array([0, 0, 1, 1]),
        sample_of_image=np.repeat(np.arange(4), 2),
    )
    network = jax.tree_util.Partial(by_brightness, jnp.float32(weight))
    assert held_out_auroc(network, images, np.arange(8), 3, one_device) == pytest.approx(expected)


def test_reconstructions_show_originals_inputs_and_outputs(one_device):
    pictures = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3)).astype(np.uint8)
    images = make_image_set(pictures)
    halve = jax.tree_util.Partial(lambda half, inputs: half * inputs, jnp.float32(0.5))
    sheet = reconstructions(halve, Reconstruction(0.1), images, np.array([1, 3]))
    assert sheet.shape == (12, 8, 3) and sheet.dtype == np.uint8
    originals, inputs, outputs = (
        sheet[4 * row : 4 * row + 4].reshape(4, 2, 4, 3).swapaxes(0, 1).astype(int) for row in range(3)
    )
    np.testing.assert_array_equal(originals, pictures[[1, 3]])
    noise = (inputs - originals)[(inputs > 0) & (inputs < 255)] / 255
    assert 0.05 < noise.std() < 0.15
    inside = (inputs > 0) & (inputs < 255)
    assert np.abs(outputs - inputs / 2)[inside].max() <= 1
