import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brittle_jax.data.image_set import ImageSet
from brittle_jax.train.pretrain import held_out_auroc


def by_brightness(weight, images):
    brightness = images.mean(axis=(1, 2, 3))
    return jnp.stack([-weight * brightness, weight * brightness], axis=1)


@pytest.mark.parametrize(("weight", "expected"), [(1.0, 0.75), (-1.0, 0.375)])
def test_held_out_auroc_takes_the_largest_log_odds_of_each_sample(one_device, weight, expected):
    # Two images a sample, brighter is the second class. Largest: 30, 60 against 50, 70, three of four pairs in order.
    # Turned round the darkest counts: 10, 20 against 20, 15, one of four pairs in order and one a tie.
    pixels = np.array([[10, 30], [60, 20], [50, 20], [15, 70]], np.uint8).ravel()
    images = ImageSet(
        name="made",
        classes=("normal", "anomalous"),
        synthetic=True,
        ids=np.array(list("abcd")),
        labels=np.array([0, 0, 1, 1]),
        official_split=None,
        sample_of_image=np.repeat(np.arange(4), 2),
        views=("",),
        view_of_image=np.zeros(8, int),
        read_image=lambda index: np.full((4, 4, 3), pixels[index], np.uint8),
        image_shape=(4, 4, 3),
        read_view=lambda sample, view: None,
        box_of_image=None,
    )
    network = jax.tree_util.Partial(by_brightness, jnp.float32(weight))
    assert held_out_auroc(network, images, np.arange(8), 3, one_device) == pytest.approx(expected)
