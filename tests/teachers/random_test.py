import jax
import numpy as np
import pytest

from brittle_jax.errors import UserError
from brittle_jax.loop import Loop
from brittle_jax.models.network import Network, init_variables
from brittle_jax.teachers.random import Random, batch_norm_measurement
from tests.conftest import make_dataset
from tests.mini_network import MINI
from tests.small_teachers import assert_equal, obtain_teacher

PICTURES = np.random.default_rng(0).integers(0, 256, (32, 16, 16, 3), np.uint8)


def test_measured_averages_make_the_outputs_vary(cifar10_config, tmp_path, four_devices):
    pictures = PICTURES.astype(np.float32) / 255
    spread = {}
    for setting in ("initial", "normal_images"):
        cifar10_config.teacher.random_batch_norm = setting
        network, description = obtain_teacher(cifar10_config, tmp_path / setting, four_devices)
        spread[setting] = np.asarray(network(pictures)).std(axis=0).mean()
        assert description == {}
    assert spread["normal_images"] > 3 * spread["initial"]


def test_measured_averages_are_those_of_the_normal_training_images(four_devices):
    images = make_dataset(PICTURES).images
    module = MINI.with_output(8)
    network = Network(module, init_variables(module, 0, images.shape))
    work = batch_norm_measurement(network, images, np.arange(32), batch_size=16, seed=0, devices=four_devices)
    measured = Loop(four_devices, 16).run(work).variables
    # The first layer's mean does not depend on how the images fall into batches.
    normalised = ((PICTURES / 255 - np.array(module.mean)) / np.array(module.std)).astype(np.float32)
    outputs = jax.lax.conv_general_dilated(
        normalised,
        np.asarray(network.variables["params"]["trunk"]["conv"]["kernel"]),
        (2, 2),
        ((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    mean = measured["batch_stats"]["trunk"]["norm"]["mean"]
    np.testing.assert_allclose(mean, outputs.mean(axis=(0, 1, 2)), atol=1e-5)
    assert_equal(measured["params"], network.variables["params"])


@pytest.mark.parametrize(("batch_norm", "is_shared"), [("initial", True), ("normal_images", False)])
def test_configurations_share_it_unless_their_own_images_are_measured(batch_norm, is_shared):
    kind = Random(0, batch_norm, 64)
    assert kind.is_shared == is_shared
    assert (kind.dataset, kind.keeps_head, kind.learns_anomalies) == ("", False, False)
    assert kind.readings == {"random_batch_norm": batch_norm}


def test_images_that_are_measured_together_must_be_shared_evenly(four_devices):
    Random(0, "normal_images", 8).check(four_devices)
    with pytest.raises(UserError, match="teacher.batch_norm_batch_size=30 cannot be shared evenly by 4 device"):
        Random(0, "normal_images", 30).check(four_devices)
