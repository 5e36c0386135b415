import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brittle_jax import inference
from brittle_jax.data.datasets.loading import load
from brittle_jax.devices import DeviceGroup, padded_batches
from brittle_jax.errors import UserError
from brittle_jax.evaluate.detectors import fit_gaussian
from brittle_jax.evaluate.moments import covariance_of
from brittle_jax.models.network import ARCHITECTURES, Network, init_variables


def network(seed):
    module = ARCHITECTURES["small_resnet_tiny"].with_output(16)
    return Network(module, init_variables(module, seed, (32, 32, 3)))


@pytest.fixture
def images(cifar10_config):
    return load("cifar10", cifar10_config)


def test_evaluations_multiply_in_float32(one_device):
    seen = []

    def product(model, batch):
        seen.append(str(jax.make_jaxpr(jnp.dot)(model, batch["image"])))
        return batch["image"]

    batches = [{"image": np.ones((2, 2), np.float32)}]
    list(one_device.evaluation(product)(np.ones((2, 2), np.float32), batches))
    list(one_device.accumulation(lambda model, total, batch: product(model, batch))(np.ones((2, 2)), 0.0, batches))
    assert len(seen) == 2 and all("HIGHEST" in each for each in seen)


def test_five_images_on_four_devices_give_five_scores(images, four_devices, one_device):
    student, teacher = network(1), network(2)
    indices = np.arange(5)
    representations = inference.Representations(teacher, images, 8, four_devices)
    assert representations.outputs_of(np.arange(40)).shape == (40, 16)
    gaussian = fit_gaussian(representations.moments(np.arange(40)))
    scores = inference.score(student, representations, gaussian, images, indices, 8, four_devices)
    representations = inference.Representations(teacher, images, 1, one_device)
    alone = inference.score(student, representations, gaussian, images, indices, 1, one_device)
    for name in scores:
        assert scores[name].shape == (5,)
        np.testing.assert_allclose(scores[name], alone[name], rtol=1e-5)


def test_an_evaluation_on_four_devices_equals_one_device(images, four_devices, one_device):
    student, teacher = network(1), network(2)
    indices = np.arange(37)
    results = []
    for devices in (one_device, four_devices):
        representations = inference.Representations(teacher, images, 8, devices)
        terms = inference.measure_brittleness(
            student, teacher, representations, images, indices, 8, devices, path="student"
        )
        covariance = covariance_of(representations.moments(indices))
        results.append((representations.outputs_of(indices), covariance, terms.gradient_norm, terms.error_trace))
    for one, four in zip(*results, strict=True):
        np.testing.assert_allclose(four, one, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("platform", "asked_for"), [("cpu", [1, 2, 3]), ("gpu", [2, 3, 3])])
def test_the_next_batch_is_asked_for_early_but_on_a_cpu(monkeypatch, one_device, platform, asked_for):
    monkeypatch.setattr(DeviceGroup, "platform", platform)
    taken = []

    def batches():
        for number in range(3):
            taken.append(number)
            yield {"x": np.full(4, number, np.float32)}

    evaluate = one_device.evaluation(lambda model, batch: model * batch["x"])(np.float32(2), batches())
    assert [(outputs[0], len(taken)) for _, outputs in evaluate] == list(zip([0, 2, 4], asked_for, strict=True))
    taken.clear()
    accumulate = one_device.accumulation(lambda model, total, batch: total + model * batch["x"].sum())
    totals = accumulate(np.float32(2), np.float32(0), batches())
    assert [(total[0], len(taken)) for _, total in totals] == list(zip([0, 8, 24], asked_for, strict=True))


def test_functions_are_compiled_once(one_device):
    calls = []

    def function(scale, model, batch):
        calls.append(scale)
        return model * batch["x"] * scale

    for _ in range(3):
        ((_, outputs),) = one_device.evaluation(function, 2.0)(np.float32(3), [{"x": np.ones(4, np.float32)}])
    np.testing.assert_array_equal(outputs, np.full(4, 6.0))
    assert calls == [2.0]


def test_totals_are_compiled_once_and_handed_over_in_order(four_devices):
    traced = []

    def add(model, total, batch):
        traced.append(1)
        return total + (model * batch["x"]).sum()

    batches = [{"x": np.full(8, number, np.float32)} for number in range(3)]
    results = list(four_devices.accumulation(add)(np.float32(2), np.float32(0), batches))
    assert [batch["x"][0] for batch, _ in results] == [0, 1, 2]
    assert [float(total.sum()) for _, total in results] == [0, 16, 48]
    assert len(traced) == 1


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


def test_padding_fills_the_last_batch_only():
    batches = [{"x": np.ones((4, 2))}, {"x": np.ones((1, 2))}]
    first, last = padded_batches(batches, 4)
    assert first["mask"].all()
    assert last["mask"].tolist() == [True, False, False, False]
    assert last["x"].tolist() == [[1, 1], [0, 0], [0, 0], [0, 0]]


def test_replication_puts_a_whole_copy_on_each_device(four_devices):
    copies = four_devices.replicate({"x": np.arange(3)})["x"]
    assert copies.sharding.device_set == set(jax.devices())
    assert all(shard.data.shape == (3,) for shard in copies.addressable_shards)
