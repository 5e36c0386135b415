import jax
import numpy as np
import optax
import pytest

from brittle_jax.auxiliary.augmentation import Augmentation
from brittle_jax.auxiliary.classification import Classification
from brittle_jax.auxiliary.rotnet import RotNet
from brittle_jax.devices import DeviceGroup
from brittle_jax.models.network import init_variables
from brittle_jax.train.feed import build_feed
from brittle_jax.train.optimizers import ConstantRate, Optimizer
from brittle_jax.train.steps import create_state, distill_step, pretrain_step
from tests.conftest import make_dataset
from tests.mini_network import MINI

PICTURES = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
TARGETS = np.random.default_rng(1).normal(size=(20, 8)).astype(np.float32)
INDICES = np.arange(3, 20)
OPTIMIZER = Optimizer(optax.identity(), ConstantRate(np.float32(0.01)))


def distillation():
    module = MINI.with_output(8)
    return distill_step, (module, OPTIMIZER.tx), {"targets": lambda indices: TARGETS[indices]}


def rotnet():
    task = RotNet(Augmentation(crop_padding_pixels=2, flip=False, cutout_pixels=4))
    module = task.build_module(MINI, 8, (16, 16, 3))
    return pretrain_step, (module, OPTIMIZER.tx, task), {}


def classification():
    task = Classification(10, Augmentation(crop_padding_pixels=2, flip=True, cutout_pixels=4))
    module = task.build_module(MINI, 8, (16, 16, 3))
    return pretrain_step, (module, OPTIMIZER.tx, task), {}


def trained(monkeypatch, work, devices, counts, *, on_device, indices=INDICES):
    """Returns state and metrics of each update after as many updates at a time as `counts` says."""
    step, static, targets = work
    monkeypatch.setattr(DeviceGroup, "keeps_examples", on_device)
    feed = build_feed(
        step,
        static,
        make_dataset(PICTURES).images,
        indices,
        labels=(np.arange(20) % 10)[indices],
        batch_size=8,
        seed=0,
        devices=devices,
        **targets,
    )
    assert (feed.most_at_once > 1) == on_device
    state = devices.replicate(create_state(init_variables(static[0], 0, (16, 16, 3)), OPTIMIZER, seed=0))
    records, first = [], 0
    for count in counts:
        state, metrics = feed(state, first, count)
        first += count
        records.append({name: np.atleast_1d(values)[:count] for name, values in metrics.items()})
    return state, {name: np.concatenate([record[name] for record in records]) for name in records[0]}


@pytest.mark.parametrize("make_work", [distillation, rotnet, classification])
def test_images_on_the_devices_train_as_those_that_are_handed_over(monkeypatch, four_devices, make_work):
    work = make_work()
    streamed, one_by_one = trained(monkeypatch, work, four_devices, [1] * 5, on_device=False)
    kept, together = trained(monkeypatch, work, four_devices, [1, 3, 1], on_device=True)
    assert int(kept.step) == int(streamed.step) == 5
    for name, values in one_by_one.items():
        assert values.shape == (5,)
        np.testing.assert_allclose(together[name], values, rtol=1e-3)
    for one, other in zip(jax.tree.leaves(kept.variables), jax.tree.leaves(streamed.variables), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


def test_another_number_of_updates_or_images_compiles_nothing(monkeypatch, one_device):
    traced = []

    def step(module, tx, state, batch):
        traced.append(len(batch["image"]))
        return distill_step(module, tx, state, batch)

    _, static, targets = distillation()
    trained(monkeypatch, (step, static, targets), one_device, [1], on_device=True)
    once = len(traced)
    trained(monkeypatch, (step, static, targets), one_device, [2, 5, 1], on_device=True)
    trained(monkeypatch, (step, static, targets), one_device, [2], on_device=True, indices=np.arange(9))
    assert len(traced) == once


def test_images_that_are_too_many_for_the_devices_are_handed_over(monkeypatch, one_device):
    monkeypatch.setattr(DeviceGroup, "keeps_examples", True)
    step, static, targets = distillation()
    settings = {"batch_size": 8, "seed": 0, "devices": one_device, **targets}
    settings["most_bytes_on_device"] = PICTURES.nbytes - 1
    images = make_dataset(PICTURES).images
    assert build_feed(step, static, images, np.arange(20), **settings).most_at_once == 1
    assert build_feed(step, static, images, np.arange(19), **settings).most_at_once > 1
