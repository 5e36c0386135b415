import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from brittle_jax.auxiliary.augmentation import Augmentation
from brittle_jax.auxiliary.autoencoder import Reconstruction
from brittle_jax.auxiliary.classification import Classification
from brittle_jax.auxiliary.rotnet import RotNet
from brittle_jax.auxiliary.simclr import SimCLR
from brittle_jax.devices import DeviceGroup
from brittle_jax.models.densenet import DenseNet
from brittle_jax.models.network import ARCHITECTURES, computing_in, init_variables
from brittle_jax.models.resnet import SmallResNet
from brittle_jax.train.optimizers import ConstantRate, Optimizer, sgd
from brittle_jax.train.steps import BatchNormState, batch_norm_step, create_state, distill_step, pretrain_step
from tests.mini_network import MINI

AUGMENTATION = Augmentation(crop_padding_pixels=4, flip=True, cutout_pixels=8)
# Plain gradient descent: Adam divides by the gradient's size, which would magnify rounding where it is near 0.
SGD = optax.identity()
OPTIMIZER = Optimizer(SGD, ConstantRate(np.float32(0.1)))


class ShortResNet(SmallResNet):
    """The small ResNet without its last two layers, which are the same code again, and compile for seconds."""

    level_names = ("prep", "layer1")

    def stages(self, x, train):
        return itertools.islice(super().stages(x, train), len(self.level_names))


_TINY = ARCHITECTURES["small_resnet_tiny"]
RESNET = dataclasses.replace(_TINY, trunk=ShortResNet(_TINY.trunk.widths))
STUDENT = RESNET.with_output(16)


def batch(count=8, side=32, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "image": rng.integers(0, 256, (count, side, side, 3), np.uint8),
        "label": rng.integers(0, 10, count).astype(np.int32),
        "position": np.arange(count, dtype=np.int32),
        "epoch": np.zeros(count, np.int32),
    }


def distill_batch(count=8, seed=0):
    target = np.random.default_rng(seed + 1).normal(size=(count, 16)).astype(np.float32)
    return {"image": batch(count, seed=seed)["image"], "target": target}


def run(devices: DeviceGroup, step, static, batches, seed=0, dtype=np.float32):
    variables = jax.tree.map(lambda leaf: leaf.astype(dtype), init_variables(static[0], seed, (32, 32, 3)))
    state = devices.replicate(create_state(variables, OPTIMIZER, seed))
    for one in batches:
        state, metrics = devices.train_step(step, *static)(state, one)
    return jax.device_get(state), jax.device_get(metrics)


def assert_close(actual, expected, tolerance=1e-5):
    for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def run_exactly(devices: DeviceGroup, step, static, one):
    """Returns the new weights and statistics, and the metrics, of one update in float64.

    ReLU and max have kinks, and where rounding decides between two sides of one, single gradients differ by more than
    rounding; in float64 it does not decide.
    """
    with jax.enable_x64(True):
        state, metrics = run(devices, step, static, [one], dtype=np.float64)
    return state.variables, metrics


def assert_devices_do_not_matter(step, static, one, groups):
    """Compares one update on each group of devices."""
    assert_close(*(run_exactly(group, step, static, one) for group in groups), tolerance=1e-9)


@pytest.mark.parametrize(
    ("step", "task"),
    [(distill_step, None), (pretrain_step, RotNet(AUGMENTATION)), (pretrain_step, Reconstruction(0.1))],
)
def test_training_in_16_bits_keeps_weights_and_loss_in_32(one_device, step, task):
    module = MINI.with_output(16) if task is None else task.build_module(MINI, 16, (32, 32, 3))
    one, rest = (distill_batch(), ()) if task is None else (batch(), (task,))
    state, metrics = run(one_device, step, (module, SGD, *rest), [one] * 3)
    in_16_bits = computing_in(module, "bfloat16")
    other_state, other_metrics = run(one_device, step, (in_16_bits, SGD, *rest), [one] * 3)
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves((other_state.variables, other_metrics["loss"])))
    assert other_metrics["loss"] != metrics["loss"]
    assert_close(other_metrics["loss"], metrics["loss"], 1e-2)
    assert_close(other_state.variables, state.variables, 2e-2)


@pytest.mark.parametrize("architecture", ["small_resnet_tiny", "densenet_tiny", "efficientnet_lite0"])
def test_every_product_of_a_trunk_in_16_bits_is_in_16_bits(architecture):
    module = computing_in(
        ARCHITECTURES[architecture].with_output(0), "bfloat16"
    )  # the trunk alone: heads compute in 32
    variables = jax.eval_shape(lambda: init_variables(module, 0, (32, 32, 3)))
    variables["params"] = jax.tree.map(lambda leaf: leaf.update(dtype=jnp.bfloat16), variables["params"])
    outputs = jax.eval_shape(module.apply, variables, jnp.zeros((2, 32, 32, 3)))
    text = jax.jit(module.apply).lower(variables, jnp.zeros((2, 32, 32, 3))).as_text()
    products = [line for line in text.splitlines() if "stablehlo.convolution" in line or "dot_general" in line]
    assert outputs.dtype == jnp.float32 and products and all("f32" not in line for line in products)


DENSENET = dataclasses.replace(  # two blocks, one layer each: more of them are the same code, and compile for a minute
    ARCHITECTURES["densenet_tiny"], trunk=DenseNet(growth=4, block_sizes=(1, 1), initial_features=8)
)


@pytest.mark.parametrize(
    "architecture",
    [
        pytest.param(RESNET, id="resnet"),
        pytest.param(DENSENET, id="densenet", marks=pytest.mark.slow),
    ],
)
def test_a_distillation_step_on_four_devices_equals_one_device(one_device, four_devices, architecture):
    module = architecture.with_output(16)
    assert_devices_do_not_matter(distill_step, (module, SGD), distill_batch(), (one_device, four_devices))


@pytest.mark.parametrize(
    "task",
    [
        Classification(10, AUGMENTATION),
        pytest.param(Reconstruction(0.1), marks=pytest.mark.long),
        pytest.param(SimCLR(0.5, 0.5), marks=pytest.mark.long),
        pytest.param(Reconstruction(0.0), marks=pytest.mark.slow),
        pytest.param(RotNet(AUGMENTATION), marks=pytest.mark.slow),
    ],
)
def test_a_pretraining_step_on_four_devices_equals_one_device(one_device, four_devices, task):
    module = task.build_module(MINI, 16, (32, 32, 3))
    assert_devices_do_not_matter(pretrain_step, (module, SGD, task), batch(), (one_device, four_devices))


def test_a_step_equals_the_update_written_out(four_devices):
    one = distill_batch()
    with jax.enable_x64(True):
        state, metrics = run(four_devices, distill_step, (STUDENT, SGD), [one], dtype=np.float64)
        variables = jax.tree.map(lambda leaf: leaf.astype(np.float64), init_variables(STUDENT, 0, (32, 32, 3)))

        @jax.jit
        @functools.partial(jax.value_and_grad, has_aux=True)
        def loss(params):
            apply = jax.vmap(  # an axis of one device, over the whole batch
                lambda x: STUDENT.apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"]),
                axis_name="batch",
            )
            outputs, updated = apply(jnp.asarray(one["image"], jnp.float32)[None] / 255)
            return jnp.square(outputs[0] - one["target"]).mean(), updated

        (expected_loss, updated), grads = loss(variables["params"])
        assert float(metrics["loss"]) == pytest.approx(float(expected_loss), rel=1e-6)
        assert_close(state.params, jax.tree.map(lambda p, g: p - 0.1 * g, variables["params"], grads))
        assert_close(state.batch_stats, jax.tree.map(lambda x: x[0], updated["batch_stats"]))
        assert int(state.step) == 1


def test_training_repeats_bit_for_bit(four_devices):
    task = RotNet(AUGMENTATION)
    module = RESNET.with_classifier(4)
    batches = [batch(seed=seed) for seed in range(3)]
    first, again = (run(four_devices, pretrain_step, (module, SGD, task), batches)[0] for _ in range(2))
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(one, other)


def test_augmentation_is_keyed_by_seed_epoch_and_example(one_device):
    task = Classification(10, AUGMENTATION)
    module = task.build_module(MINI, 16, (32, 32, 3))

    def loss(seed=0, **changes):
        # The weights are always the same draw, so that only the augmentation can differ.
        state = create_state(init_variables(module, 0, (32, 32, 3)), OPTIMIZER, seed)
        _, metrics = one_device.train_step(pretrain_step, module, SGD, task)(
            one_device.replicate(state), {**batch(), **changes}
        )
        return float(metrics["loss"])

    assert loss() == loss()
    assert loss() != loss(seed=1)
    assert loss() != loss(epoch=np.ones(8, np.int32))
    assert loss() != loss(position=np.arange(8, 16, dtype=np.int32))


def test_the_order_of_a_batch_does_not_change_the_augmentation_of_its_images(one_device):
    task = Classification(10, AUGMENTATION)
    module = task.build_module(MINI, 16, (32, 32, 3))
    order = np.array([3, 1, 0, 2, 7, 6, 5, 4])
    one = batch()
    shuffled = {key: values[order] for key, values in one.items()}
    results = [run(one_device, pretrain_step, (module, SGD, task), [each])[1] for each in (one, shuffled)]
    assert_close(*results)


@pytest.mark.reference
def test_the_optimiser_equals_torch(torch):
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=5), rng.normal(size=(12, 5))
    tx, learning_rate = sgd(0.4, 3, 12, 0.9, 5e-4)
    parameters = {"w": jnp.asarray(start, jnp.float32)}
    state = tx.init(parameters)
    expected = torch.nn.Parameter(torch.tensor(start))
    optimiser = torch.optim.SGD([expected], lr=1.0, momentum=0.9, weight_decay=5e-4, nesterov=True)
    rates = [*np.linspace(0.1, 0.4, 4), *np.linspace(0.4, 0, 10)[1:]]
    for step, (gradient, rate) in enumerate(zip(gradients, rates, strict=False)):
        directions, state = tx.update({"w": jnp.asarray(gradient, jnp.float32)}, state, parameters)
        parameters = {"w": parameters["w"] - learning_rate.at(step) * directions["w"]}
        optimiser.param_groups[0]["lr"] = rate
        expected.grad = torch.tensor(gradient)
        optimiser.step()
    np.testing.assert_allclose(parameters["w"], expected.detach().numpy(), rtol=1e-5)


def test_measured_batch_norm_is_the_mean_over_batches(four_devices):
    module = STUDENT.clone(trunk=STUDENT.trunk.clone(batch_norm_momentum=0.0))
    variables = init_variables(STUDENT, 0, (32, 32, 3))
    batches = [{"image": batch(seed=seed)["image"]} for seed in range(3)]
    state = four_devices.replicate(BatchNormState(step=np.int32(0), **variables))
    for one in batches:
        state, _ = four_devices.train_step(batch_norm_step, module)(state, one)
    normalised = [(one["image"] / 255 - np.array(STUDENT.mean)) / np.array(STUDENT.std) for one in batches]
    kernel = np.asarray(variables["params"]["trunk"]["prep"]["Conv_0"]["kernel"])
    outputs = [
        jax.lax.conv_general_dilated(
            x.astype(np.float32), kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        for x in normalised
    ]
    first_layer = jax.device_get(state.batch_stats)["trunk"]["prep"]["BatchNorm_0"]
    np.testing.assert_allclose(
        first_layer["mean"], np.mean([x.mean(axis=(0, 1, 2)) for x in outputs], axis=0), atol=1e-5
    )
    np.testing.assert_allclose(first_layer["var"], np.mean([x.var(axis=(0, 1, 2)) for x in outputs], axis=0), atol=1e-5)
