import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brittle_jax.apply.brittleness import measure_brittleness
from brittle_jax.apply.detector import Detector, score
from brittle_jax.apply.preprocessing import Preprocessing
from brittle_jax.devices import gather
from brittle_jax.errors import UserError
from brittle_jax.evaluate.detectors import fit_gaussian
from brittle_jax.evaluate.moments import covariance_of, moments_of
from brittle_jax.inference import Representations
from brittle_jax.loop import Loop
from brittle_jax.models.network import ARCHITECTURES, Network, NetworkSettings, init_variables
from tests.conftest import make_dataset


def network(seed):
    module = ARCHITECTURES["small_resnet_tiny"].with_output(16)
    return Network(module, init_variables(module, seed, (32, 32, 3)))


PICTURES = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), np.uint8)
IMAGES = make_dataset(PICTURES).images


def fitted(loop):
    """Returns a detector of drawn networks, and its teacher's representations."""
    student, teacher = network(1), network(2)
    representations = Representations(teacher, IMAGES, loop)
    gaussian = fit_gaussian(moments_of(representations.compute(np.arange(40)), np.arange(40)))
    return (
        Detector(student, teacher, gaussian, NetworkSettings("small_resnet_tiny", 16), Preprocessing(32)),
        representations,
    )


def test_evaluations_multiply_in_float32(one_device):
    seen = []

    def product(model, batch):
        seen.append(str(jax.make_jaxpr(jnp.dot)(model, batch["image"])))
        return batch["image"]

    one_device.evaluation(product)(np.ones((2, 2), np.float32), {"image": np.ones((2, 2), np.float32)})
    assert len(seen) == 1 and "HIGHEST" in seen[0]


def test_five_images_on_four_devices_give_five_scores(four_devices, one_device):
    results = []
    for devices, batch_size in ((four_devices, 8), (one_device, 1)):
        loop = Loop(devices, batch_size)
        detector, _ = fitted(Loop(four_devices, 8))
        results.append(score(detector, IMAGES, np.arange(5), loop))
    for name, scores in results[0].items():
        assert scores.shape == (5,)
        np.testing.assert_allclose(scores, results[1][name], rtol=1e-5)


def test_an_evaluation_on_four_devices_equals_one_device(four_devices, one_device):
    indices, results = np.arange(37), []
    for devices in (one_device, four_devices):
        loop = Loop(devices, 8)
        detector, representations = fitted(loop)
        measured = measure_brittleness(detector, IMAGES, indices, loop)
        covariance = covariance_of(moments_of(representations.compute(indices), indices))
        terms = measured.terms
        results.append((representations.outputs_of(indices), covariance, terms.gradient_norm, terms.error_trace))
    for one, four in zip(*results, strict=True):
        np.testing.assert_allclose(four, one, rtol=1e-5, atol=1e-6)


def test_functions_are_compiled_once_and_give_rows_in_order(four_devices):
    calls = []

    def function(scale, model, batch):
        calls.append(scale)
        return {"scaled": model * batch["x"] * scale}

    for _ in range(3):
        rows = four_devices.evaluation(function, 2.0)(np.float32(3), {"x": np.arange(8, dtype=np.float32)})
    np.testing.assert_array_equal(gather(rows)["scaled"], 6 * np.arange(8))
    assert calls == [2.0]


def test_batches_that_devices_cannot_share_are_refused(four_devices):
    four_devices.check_batch_size(8, "distill.batch_size")
    with pytest.raises(UserError, match="distill.batch_size=10 cannot be shared evenly by 4 device.*use 8"):
        four_devices.check_batch_size(10, "distill.batch_size")
    with pytest.raises(UserError, match="pretrain.batch_size=72 of images in 4 views each .* use 64"):
        four_devices.check_batch_size(72, "pretrain.batch_size", images_per_input=4)


def test_an_evaluations_batches_are_alike_and_bounded(one_device, four_devices):
    assert one_device.fit_batch_size(64, 64, (224, 224, 3)) == 2
    assert one_device.fit_batch_size(64, 11, (224, 224, 3)) == 2
    assert one_device.fit_batch_size(64, 1000, (1000, 1000, 3)) == 1
    assert one_device.fit_batch_size(64, 5, (32, 32, 3)) == 5
    assert one_device.fit_batch_size(64, 10_000, (32, 32, 3)) == 64
    assert four_devices.fit_batch_size(64, 1000, (224, 224, 3)) == 8
    assert four_devices.fit_batch_size(64, 5, (32, 32, 3)) == 8
    assert four_devices.fit_batch_size(64, 66, (32, 32, 3)) == four_devices.fit_batch_size(64, 999, (32, 32, 3)) == 64


def test_replication_puts_a_whole_copy_on_each_device(four_devices):
    copies = four_devices.replicate({"x": np.arange(3)})["x"]
    assert copies.sharding.device_set == set(jax.devices())
    assert all(shard.data.shape == (3,) for shard in copies.addressable_shards)
