"""Training steps with the optimisers, against optax's own, which have their rates compiled in."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from brittle_jax.devices import BATCH_AXIS
from brittle_jax.models.network import init_variables
from brittle_jax.train.optimizers import adam, sgd
from brittle_jax.train.steps import create_state, distill_step
from tests.mini_network import MINI

MODULE = MINI.with_output(8)
NUM_STEPS = 7


def batches():
    rng = np.random.default_rng(0)
    for _ in range(NUM_STEPS):
        yield {
            "image": rng.integers(0, 256, (1, 4, 16, 16, 3), np.uint8),
            "target": rng.normal(size=(1, 4, 8)).astype(np.float32),
        }


def trained(variables, optimizer):
    step = functools.partial(distill_step, MODULE, optimizer.tx)
    step = jax.jit(jax.vmap(step, (None, 0), (None, None), axis_name=BATCH_AXIS))
    state = create_state(variables, optimizer, seed=0)
    for batch in batches():
        state, _ = step(state, batch)
    return state.params


@jax.jit
@functools.partial(jax.grad, has_aux=True)
def gradients_and_statistics(params, stats, batch):
    outputs, updated = jax.vmap(
        lambda image: MODULE.apply(
            {"params": params, "batch_stats": stats}, image, train=True, mutable=["batch_stats"]
        ),
        axis_name=BATCH_AXIS,
    )(batch["image"].astype(np.float32) / 255)
    return jnp.square(outputs - batch["target"]).mean(), updated["batch_stats"]


def trained_by_optax(variables, tx):
    params, stats, state = variables["params"], variables["batch_stats"], tx.init(variables["params"])
    update = jax.jit(tx.update)
    for batch in batches():
        gradients, updated = gradients_and_statistics(params, stats, batch)
        stats = jax.tree.map(lambda leaf: leaf[0], updated)
        updates, state = update(gradients, state, params)
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_updates_are_those_of_optax(name):
    if name == "adam":
        actual, expected = adam(1e-2), optax.adam(1e-2)
    else:
        actual = sgd(0.4, peak_step=2, num_steps=NUM_STEPS, momentum=0.9, weight_decay=5e-4)
        rates = optax.join_schedules([optax.linear_schedule(0.4 / 3, 0.4, 2), optax.linear_schedule(0.4, 0, 5)], [2])
        expected = optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(rates, momentum=0.9, nesterov=True))
    with jax.enable_x64(True):
        variables = jax.tree.map(lambda leaf: leaf.astype(np.float64), init_variables(MODULE, 0, (16, 16, 3)))
        params, by_optax = trained(variables, actual), trained_by_optax(variables, expected)
        for leaf, other in zip(jax.tree.leaves(params), jax.tree.leaves(by_optax), strict=True):
            np.testing.assert_allclose(leaf, other, rtol=1e-5, atol=1e-6)


def test_equal_settings_give_the_same_direction_whatever_the_rate():
    assert sgd(0.4, 1, 10, 0.9, 5e-4).tx is sgd(0.1, 2, 20, 0.9, 5e-4).tx
    assert sgd(0.4, 1, 10, 0.9, 5e-4).tx is not sgd(0.4, 1, 10, 0.8, 5e-4).tx
    assert adam(1e-3).tx is adam(1e-5).tx
