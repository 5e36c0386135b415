import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brittle_jax.devices import BATCH_AXIS
from brittle_jax.models.layers import INITIALISERS, batch_norm, deviation_of_draw, max_pool_2x2


def draw(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_batch_norm_normalises_by_its_averages_and_in_training_by_the_batch():
    x = 3 + draw((4, 5, 6, 3)).astype(np.float32)
    scale, bias, mean, variance = np.abs(draw((4, 3), 1)).astype(np.float32)
    variables = {"params": {"scale": scale, "bias": bias}, "batch_stats": {"mean": mean, "var": variance}}
    evaluated = batch_norm(False, 0.9).apply(variables, x)
    np.testing.assert_allclose(evaluated, scale * (x - mean) / np.sqrt(variance + 1e-5) + bias, rtol=1e-4, atol=1e-4)

    # Each device has half of the batch, and the statistics of all of it.
    norm = batch_norm(True, 0.9)
    halves = jax.vmap(lambda x: norm.apply(variables, x, mutable="batch_stats"), axis_name=BATCH_AXIS)
    trained, updated = halves(x.reshape(2, 2, 5, 6, 3))
    batch_mean, batch_variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    expected = scale * (x - batch_mean) / np.sqrt(batch_variance + 1e-5) + bias
    np.testing.assert_allclose(trained.reshape(x.shape), expected, rtol=1e-4, atol=1e-4)
    for name, old, new in (("mean", mean, batch_mean), ("var", variance, batch_variance)):
        np.testing.assert_allclose(updated["batch_stats"][name][0], 0.9 * old + 0.1 * new, rtol=1e-4)


@pytest.mark.parametrize(
    ("initialiser", "shape", "variance"),
    [
        ("uniform", (3, 3, 8, 64), 1 / (3 * 72)),
        ("he_normal", (3, 3, 8, 64), 2 / 72),
        ("he_normal_fan_out", (3, 3, 8, 64), 2 / 576),
        ("he_normal_fan_out", (5, 5, 1, 64), 2 / 25),  # depthwise: one output for each input
    ],
)
def test_a_draw_has_the_deviation_of_its_initialiser(initialiser, shape, variance):
    kernel = np.asarray(INITIALISERS[initialiser](jax.random.key(0), shape))
    assert kernel.shape == shape
    assert deviation_of_draw(initialiser, shape) == pytest.approx(variance**0.5)
    assert kernel.std() == pytest.approx(variance**0.5, rel=0.05)


def test_batch_norm_keeps_its_statistics_in_float32():
    x = (100 + draw((64, 8, 8, 3))).astype(jnp.bfloat16)
    params = {"scale": jnp.ones(3, jnp.bfloat16), "bias": jnp.zeros(3, jnp.bfloat16)}
    variables = {"params": params, "batch_stats": {"mean": jnp.zeros(3), "var": jnp.ones(3)}}
    norm = batch_norm(True, momentum=0.0)
    outputs, updated = jax.vmap(lambda x: norm.apply(variables, x, mutable="batch_stats"), axis_name=BATCH_AXIS)(
        x[None]
    )
    assert outputs.dtype == jnp.bfloat16
    statistics = {name: np.asarray(value[0]) for name, value in updated["batch_stats"].items()}
    assert {value.dtype for value in statistics.values()} == {np.dtype(np.float32)}
    exact = x.astype(np.float64)
    np.testing.assert_allclose(statistics["mean"], exact.mean(axis=(0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(statistics["var"], exact.var(axis=(0, 1, 2)), rtol=1e-2)


@pytest.mark.parametrize("has_ties", [False, True])
def test_pooling_and_its_gradient_equal_those_of_flax(has_ties):
    shape = (2, 6, 4, 3)
    x = jnp.asarray(np.random.default_rng(0).integers(0, 3, shape) if has_ties else draw(shape), jnp.float32)
    actual, actual_vjp = jax.vjp(max_pool_2x2, x)
    expected, expected_vjp = jax.vjp(lambda x: nn.max_pool(x, (2, 2), (2, 2)), x)
    np.testing.assert_array_equal(actual, expected)
    gradient = jnp.asarray(draw(expected.shape, 2), jnp.float32)
    np.testing.assert_array_equal(actual_vjp(gradient)[0], expected_vjp(gradient)[0])


@pytest.mark.parametrize("position", [0, 1, slice(None)])
def test_max_pooling_keeps_nan(position):
    x = draw((1, 2, 2, 1))
    x.reshape(-1)[position] = np.nan
    assert np.isnan(max_pool_2x2(jnp.asarray(x))).all()
