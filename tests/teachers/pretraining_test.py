import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brittle_jax.auxiliary import build_task
from brittle_jax.auxiliary.autoencoder import Reconstruction
from brittle_jax.config import get_base_config
from brittle_jax.loop import Loop
from brittle_jax.teachers.pretraining import Recipe, held_out_auroc, held_out_metric, reconstructions
from brittle_jax.train.optimizers import adam
from tests.conftest import make_dataset

RECIPE = dataclasses.replace(Recipe(**get_base_config().pretrain), num_epochs=2.0, batch_size=8)


@pytest.fixture
def loop(one_device):
    return Loop(one_device, batch_size=3)


def by_brightness(weight, images):
    brightness = images.mean(axis=(1, 2, 3))
    return jnp.stack([-weight * brightness, weight * brightness], axis=1)


def of_brightness(values, **changes):
    """Returns a data set of grey pictures."""
    pixels = np.array(values, np.uint8)
    return make_dataset(np.broadcast_to(pixels[:, None, None, None], (len(pixels), 4, 4, 3)), **changes)


@pytest.mark.parametrize(("weight", "expected"), [(1.0, 0.75), (-1.0, 0.375)])
def test_held_out_auroc_takes_the_largest_log_odds_of_each_sample(loop, weight, expected):
    # Two images a sample, brighter is the second class. Largest: 30, 60 against 50, 70, three of four pairs in order.
    # Turned round the darkest counts: 10, 20 against 20, 15, one of four pairs in order and one a tie.
    names = np.array(list("abcd"))
    dataset = of_brightness(
        [10, 30, 60, 20, 50, 20, 15, 70],
        ids=names,
        groups=names,
        digests=names[:, None],
        labels=np.array([0, 0, 1, 1]),
        sample_of_image=np.repeat(np.arange(4), 2),
    )
    network = jax.tree_util.Partial(by_brightness, jnp.float32(weight))
    assert held_out_auroc(network, dataset, np.arange(8), loop) == pytest.approx(expected)


def test_held_out_accuracy_is_the_share_of_images_that_are_told(loop):
    images = of_brightness([100, 200, 0, 50, 150]).images
    network = jax.tree_util.Partial(lambda half, inputs: by_brightness(1.0, inputs - half), jnp.float32(0.5))
    task, chosen, labels = build_task("classification", RECIPE, 2), np.array([1, 2, 3, 4]), np.array([1, 1, 0, 1])
    assert held_out_metric(network, task, images, chosen, labels, loop) == 0.75


def test_reconstructions_show_originals_inputs_and_outputs():
    pictures = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3)).astype(np.uint8)
    halve = jax.tree_util.Partial(lambda half, inputs: half * inputs, jnp.float32(0.5))
    sheet = reconstructions(halve, Reconstruction(0.1), make_dataset(pictures).images, np.array([1, 3]))
    assert sheet.shape == (12, 8, 3) and sheet.dtype == np.uint8
    originals, inputs, outputs = (
        sheet[4 * row : 4 * row + 4].reshape(4, 2, 4, 3).swapaxes(0, 1).astype(int) for row in range(3)
    )
    np.testing.assert_array_equal(originals, pictures[[1, 3]])
    noise = (inputs - originals)[(inputs > 0) & (inputs < 255)] / 255
    assert 0.05 < noise.std() < 0.15
    inside = (inputs > 0) & (inputs < 255)
    assert np.abs(outputs - inputs / 2)[inside].max() <= 1


@pytest.mark.parametrize(
    ("task", "num_epochs", "num_images", "expected"),
    [
        ("classification", 2.0, 16, 4),
        ("classification", 2.0, 17, 6),  # the last batch of an epoch is filled up
        ("rotnet", 2.0, 16, 16),  # four views an image
        ("classification", 0.75, 17, 2),
        ("classification", 0.01, 17, 1),
    ],
)
def test_updates_follow_the_epochs_of_whole_batches(task, num_epochs, num_images, expected):
    recipe = dataclasses.replace(RECIPE, num_epochs=num_epochs)
    assert recipe.num_updates(num_images, build_task(task, recipe, 10)) == expected


@pytest.mark.parametrize(("warmup_epochs", "peak_step"), [(0, 0), (2, 6), (100, 9)])
def test_the_rate_rises_from_above_0_to_its_peak_and_falls_to_above_0(warmup_epochs, peak_step):
    # Three updates an epoch, ten in all.
    recipe = dataclasses.replace(RECIPE, num_epochs=10 / 3, warmup_epochs=float(warmup_epochs))
    _, learning_rate = recipe.build_optimizer(24, build_task("classification", recipe, 10))
    rates = np.array([learning_rate.at(step) for step in range(10)])
    assert rates.argmax() == peak_step and rates.max() == pytest.approx(0.4)
    assert rates.min() > 0
    np.testing.assert_allclose(np.diff(rates[: peak_step + 1], 2), 0, atol=1e-6)
    np.testing.assert_allclose(np.diff(rates[peak_step:], 2), 0, atol=1e-6)


def test_adam_keeps_its_rate():
    recipe = dataclasses.replace(RECIPE, optimizer="adam", peak_learning_rate=1e-3)
    optimizer = recipe.build_optimizer(24, build_task("classification", recipe, 10))
    assert optimizer.tx is adam(1e-3).tx
    assert [float(optimizer.learning_rate.at(step)) for step in (0, 9)] == pytest.approx([1e-3, 1e-3])
