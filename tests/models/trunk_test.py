import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brittle_jax.devices import BATCH_AXIS
from brittle_jax.models.network import ARCHITECTURES, NetworkSettings, init_variables

SIDE = 32
LEVELS = {
    "small_resnet_tiny": {"prep": 8, "layer1": 16, "layer2": 32, "layer3": 64},
    "densenet_tiny": {"block1": 32, "block2": 32, "block3": 32, "block4": 32},
    "efficientnet_lite0": dict(zip((f"stage{n}" for n in range(1, 8)), (16, 24, 40, 80, 112, 192, 320), strict=True)),
}


def images_of(count):
    return np.random.default_rng(1).uniform(size=(count, SIDE, SIDE, 3)).astype(np.float32)


@pytest.mark.parametrize("name", LEVELS)
def test_levels_have_the_channels_of_their_stages_with_or_without_a_head(name):
    channels = LEVELS[name]
    assert ARCHITECTURES[name].level_names == tuple(channels)
    trunks = []
    for levels in ((), tuple(channels)[1:3], tuple(channels)):
        for output_features in (0, 5):
            module = NetworkSettings(name, output_features, levels=", ".join(levels)).module
            init = functools.partial(module.init_with_output, jax.random.key(0))
            outputs, variables = jax.eval_shape(init, images_of(2))
            trunks.append(variables["params"].pop("trunk"))
            width = sum(channels[level] for level in levels)
            if output_features and levels:
                assert variables["params"]["head"]["linear"]["kernel"].shape == (width, 5)
            assert output_features or not levels or outputs.shape == (2, width)
    both = ", ".join(f"{level}:extremes" for level in channels)
    module = NetworkSettings(name, 0, levels=f"{both}, {tuple(channels)[0]}").module
    outputs, variables = jax.eval_shape(functools.partial(module.init_with_output, jax.random.key(0)), images_of(2))
    assert outputs.shape == (2, 2 * sum(channels.values()) + next(iter(channels.values())))
    trunks.append(variables["params"]["trunk"])
    assert all(trunk == trunks[0] for trunk in trunks)  # for weights of the whole network, whatever the levels


@pytest.mark.reference
@pytest.mark.parametrize("name", ["small_resnet_tiny", "densenet_tiny"])  # the other: efficientnet_test
def test_levels_equal_the_averages_of_torch(torch, name):
    from tests.reference import torch_networks

    trunk = ARCHITECTURES[name].trunk
    images = images_of(2)
    variables = torch_networks.random_norms(jax.jit(trunk.init)(jax.random.key(0), images[:1]))
    if name == "densenet_tiny":
        reference = torch_networks.DenseNet(trunk.growth, trunk.block_sizes, trunk.initial_features)
    else:
        reference = torch_networks.SmallResNet(trunk.widths)
    reference.load(variables)
    with torch.no_grad():
        levels = reference.eval().levels(torch.tensor(images.transpose(0, 3, 1, 2)))
    expected = [level.mean(dim=(2, 3)).numpy() for level in levels]
    extremes = [each(levels[1], dim=(2, 3)).numpy() for each in (torch.amax, torch.amin)]
    outputs = np.asarray(jax.jit(lambda *x: trunk.apply(*x, levels=trunk.level_names))(variables, images))
    assert_near(outputs, np.concatenate(expected, axis=1))
    # They are joined in the order of the network, whatever the order of their names.
    chosen = trunk.level_names[2], trunk.level_names[0]
    outputs = np.asarray(jax.jit(lambda *x: trunk.apply(*x, levels=chosen))(variables, images))
    assert_near(outputs, np.concatenate([expected[0], expected[2]], axis=1))
    # The largest and the smallest activations follow the averages of their stage.
    chosen = f"{trunk.level_names[1]}:extremes", trunk.level_names[1], trunk.level_names[0]
    outputs = np.asarray(jax.jit(lambda *x: trunk.apply(*x, levels=chosen))(variables, images))
    assert_near(outputs, np.concatenate([expected[0], expected[1], *extremes], axis=1))


def assert_near(outputs, expected):
    assert np.abs(outputs - expected).max() <= 1e-4 * np.abs(expected).max()


def test_stages_after_the_last_level_are_neither_run_nor_trained():
    module = NetworkSettings("small_resnet_tiny", 4, levels="prep").module
    variables = jax.device_get(init_variables(module, 0, (SIDE, SIDE, 3)))
    images = np.random.default_rng(0).uniform(size=(2, SIDE, SIDE, 3)).astype(np.float32)

    def loss(params, images):
        outputs, updated = module.apply({**variables, "params": params}, images, train=True, mutable=["batch_stats"])
        return jnp.square(outputs).sum(), updated["batch_stats"]

    train = jax.jit(jax.vmap(jax.grad(loss, has_aux=True), (None, 0), axis_name=BATCH_AXIS))
    # Forwards, and the gradient of the kernel.
    assert train.lower(variables["params"], images[None]).as_text().count("stablehlo.convolution") == 2
    results = train(variables["params"], images[None])
    gradients, statistics = jax.tree.map(lambda leaf: np.asarray(leaf)[0], results)
    assert jax.tree.structure(statistics) == jax.tree.structure(variables["batch_stats"])
    for name in ("prep", "layer1", "layer3_residual2"):
        new, old = (jax.tree.leaves(each["trunk"][name]) for each in (statistics, variables["batch_stats"]))
        changed = any((one != other).any() for one, other in zip(new, old, strict=True))
        has_gradient = any(leaf.any() for leaf in jax.tree.leaves(gradients["trunk"][name]))
        assert changed == has_gradient == (name == "prep")
