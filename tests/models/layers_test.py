import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brittle_jax.models.layers import BatchNorm, average_pool_2x2, max_pool_2x2, max_pool_3x3, max_pool_all


def draw(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def variables_of(channels):
    scale, bias, mean, variance = draw((4, channels), 1)
    return {"params": {"scale": scale, "bias": bias}, "batch_stats": {"mean": mean, "var": variance**2}}


@pytest.mark.parametrize("is_evaluated", [True, False])
def test_batch_norm_and_its_gradients_equal_those_of_flax(is_evaluated):
    with jax.enable_x64(True):
        x, weights = jnp.asarray(3 + draw((4, 5, 6, 7))), jnp.asarray(draw((4, 5, 6, 7), 2))
        variables = jax.tree.map(jnp.asarray, variables_of(7))

        def results(module):
            def loss(params, x):
                batch_stats = variables["batch_stats"]
                outputs, updated = module.apply(
                    {"params": params, "batch_stats": batch_stats}, x, mutable="batch_stats"
                )
                return jnp.sum(weights * outputs), (outputs, updated)

            return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(variables["params"], x)

        ours = results(BatchNorm(is_evaluated, momentum=0.9))
        theirs = results(
            nn.BatchNorm(is_evaluated, momentum=0.9, epsilon=1e-5, dtype=jnp.float64, param_dtype=jnp.float64)
        )
        assert jax.tree.structure(ours) == jax.tree.structure(theirs)
        for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


def test_batch_norm_keeps_its_statistics_in_float32():
    x = (100 + draw((64, 8, 8, 3))).astype(jnp.bfloat16)
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), variables_of(3))
    outputs, updated = BatchNorm(False, momentum=0.0).apply(variables, x, mutable="batch_stats")
    assert outputs.dtype == jnp.bfloat16
    expected = x.astype(np.float64).mean(axis=(0, 1, 2))
    np.testing.assert_allclose(updated["batch_stats"]["mean"], expected, rtol=1e-5)
    variance = x.astype(np.float64).var(axis=(0, 1, 2))
    np.testing.assert_allclose(updated["batch_stats"]["var"], variance, rtol=1e-2)


@pytest.mark.parametrize(
    ("ours", "theirs", "shape"),
    [
        (max_pool_2x2, lambda x: nn.max_pool(x, (2, 2), (2, 2)), (2, 6, 4, 3)),
        (average_pool_2x2, lambda x: nn.avg_pool(x, (2, 2), (2, 2)), (2, 7, 4, 3)),
        (max_pool_3x3, lambda x: nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1))), (2, 8, 5, 3)),
        (max_pool_3x3, lambda x: nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1))), (2, 1, 2, 3)),
        (max_pool_all, lambda x: nn.max_pool(x, x.shape[1:3])[:, 0, 0], (2, 4, 4, 3)),
        (max_pool_all, lambda x: nn.max_pool(x, x.shape[1:3])[:, 0, 0], (2, 3, 5, 3)),
    ],
)
@pytest.mark.parametrize("has_ties", [False, True])
def test_pooling_and_its_gradient_equal_those_of_flax(ours, theirs, shape, has_ties):
    x = jnp.asarray(np.random.default_rng(0).integers(0, 3, shape) if has_ties else draw(shape), jnp.float32)
    result, pull_back = jax.vjp(ours, x)
    expected, their_pull_back = jax.vjp(theirs, x)
    np.testing.assert_allclose(result, expected, rtol=1e-6)
    gradient = jnp.asarray(draw(expected.shape, 2), jnp.float32)
    np.testing.assert_allclose(pull_back(gradient)[0], their_pull_back(gradient)[0], rtol=1e-6)


@pytest.mark.parametrize("pool", [max_pool_2x2, max_pool_3x3, max_pool_all])
@pytest.mark.parametrize("place", [0, 1, slice(None)])
def test_a_value_that_is_no_number_is_not_pooled_away(pool, place):
    x = draw((1, 2, 2, 1))
    x.reshape(-1)[place] = np.nan
    assert np.isnan(pool(jnp.asarray(x))).all()
