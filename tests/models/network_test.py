import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brittle_jax.errors import UserError
from brittle_jax.models.densenet import DenseNet
from brittle_jax.models.layers import kernel_init
from brittle_jax.models.network import ARCHITECTURES, Network, check_architecture, init_variables, shapes_of
from brittle_jax.models.resnet import SmallResNet
from tests.mini_network import MINI

TINY = ARCHITECTURES["small_resnet_tiny"].with_output(16)


def count_parameters(module, side):
    variables = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, side, side, 3)))
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize(
    ("name", "side", "classes", "without_head", "with_head"),
    [
        ("small_resnet", 32, 10, 6_568_000, 6_573_120),
        ("densenet161", 224, 1000, 26_472_000, 28_681_000),
        ("efficientnet_lite0", 32, 1000, 3_371_008, 4_652_008),
    ],
)
def test_published_networks_have_the_published_parameter_counts(name, side, classes, without_head, with_head):
    architecture = ARCHITECTURES[name]
    assert count_parameters(architecture.with_output(0), side) == without_head
    assert count_parameters(architecture.with_classifier(classes), side) == with_head


@pytest.mark.reference
@pytest.mark.parametrize(
    ("name", "side", "batch"),
    [("small_resnet", 32, 4), ("densenet_tiny", 96, 2)],  # the tiny ResNet: below; 161: published_weights_test
)
def test_forward_pass_equals_torch(torch, name, side, batch):
    from tests.reference import torch_networks

    trunk = ARCHITECTURES[name].trunk
    images = np.random.default_rng(1).uniform(size=(batch, side, side, 3)).astype(np.float32)
    variables = torch_networks.random_norms(jax.jit(trunk.init)(jax.random.key(0), images[:1]))
    if isinstance(trunk, SmallResNet):
        reference = torch_networks.SmallResNet(trunk.widths)
    else:
        reference = torch_networks.DenseNet(trunk.growth, trunk.block_sizes, trunk.initial_features)
    reference.load(variables)
    with torch.no_grad():
        expected = reference.eval()(torch.tensor(images.transpose(0, 3, 1, 2))).numpy()
    outputs = np.asarray(jax.jit(trunk.apply)(variables, images))
    assert np.abs(outputs - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.reference
def test_gradients_equal_torch(torch):
    from tests.reference import torch_networks

    trunk = SmallResNet(widths=(8, 16, 32, 64))
    images = np.random.default_rng(1).uniform(size=(2, 32, 32, 3)).astype(np.float32)
    variables = torch_networks.random_norms(jax.jit(trunk.init)(jax.random.key(0), images))
    reference = torch_networks.SmallResNet(trunk.widths).eval()
    reference.load(variables)
    torch_images = torch.tensor(images.transpose(0, 3, 1, 2), requires_grad=True)
    reference(torch_images).square().sum().backward()
    gradient = jax.jit(jax.grad(lambda x: jnp.square(trunk.apply(variables, x)).sum()))(images)
    expected = torch_images.grad.numpy().transpose(0, 2, 3, 1)
    assert np.abs(gradient - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("small_resnet_tinny", 16),
            "^network.name='small_resnet_tinny' is not one of 'small_resnet', .*small_resnet_tiny",
        ),
        (("densenet_tiny", 16), "^network.name='densenet_tiny' has no decoder, .* use one of small_resnet, "),
        (("small_resnet_tiny", 0), "^network.output_features=0: set the width of this teacher's bottleneck$"),
    ],
)
def test_an_unsuitable_architecture_is_refused_with_a_remedy(arguments, message):
    with pytest.raises(UserError, match=message):
        check_architecture(*arguments, needs_decoder=True)


def test_weights_are_uniform_within_the_bound_of_torch():
    kernel = kernel_init(jax.random.key(0), (3, 3, 64, 128), jnp.float32)
    bound = (3 * 3 * 64) ** -0.5
    assert float(jnp.abs(kernel).max()) == pytest.approx(bound, rel=1e-3)
    assert float(kernel.std()) == pytest.approx(bound / 3**0.5, rel=1e-2)


@pytest.mark.reference
@pytest.mark.parametrize(("trunk", "num_kernels"), [(DenseNet(block_sizes=(2, 1)), 8), (SmallResNet(), 8)])
def test_every_kernel_is_drawn_as_torch_draws_it(torch, trunk, num_kernels):
    from tests.reference import torch_networks

    is_densenet = isinstance(trunk, DenseNet)
    reference = torch_networks.DenseNet(block_sizes=trunk.block_sizes) if is_densenet else torch_networks.SmallResNet()
    torch.manual_seed(0)
    if is_densenet:  # as torchvision does; the ResNet of cifar10-fast keeps the default of its layers
        for conv in reference.convs.values():
            torch.nn.init.kaiming_normal_(conv.weight)
    expected = [layer.weight.detach().numpy() for layer in reference.modules() if isinstance(layer, torch.nn.Conv2d)]
    params = init_variables(trunk, 0, (32, 32, 3))["params"]
    actual = [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params) if path[-1].key == "kernel"]
    assert len(actual) == len(expected) == num_kernels
    actual = [np.asarray(kernel, np.float64).transpose(3, 2, 0, 1) for kernel in actual]
    pairs = zip(*(sorted(kernels, key=operator.attrgetter("shape")) for kernels in (actual, expected)), strict=True)
    for one, other in pairs:
        assert one.shape == other.shape
        for power in (1, 2, 4):
            powers = one**power, other.astype(np.float64) ** power
            error = np.hypot(*(values.std() / values.size**0.5 for values in powers))
            assert abs(powers[0].mean() - powers[1].mean()) < 5 * error, (one.shape, power)


def test_batch_norms_begin_with_scale_1_and_bias_0():
    for name in ("densenet_tiny", "small_resnet_tiny"):
        params = init_variables(ARCHITECTURES[name].trunk, 0, (32, 32, 3))["params"]
        leaves = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
        assert all((leaf == 1).all() for path, leaf in leaves.items() if "scale" in path)
        assert all((leaf == 0).all() for path, leaf in leaves.items() if "bias" in path)


def test_the_draw_of_the_resnet_is_that_of_earlier_revisions():
    as_for_users = {"xla_backend_optimization_level": 3}  # tests compile without optimisations, which rounds otherwise
    draw = jax.jit(lambda: init_variables(TINY, 0, (32, 32, 3)), compiler_options=as_for_users)
    params = draw()["params"]
    first, head = params["trunk"]["prep"]["Conv_0"]["kernel"], params["head"]["linear"]["kernel"]
    np.testing.assert_array_equal(
        first[0, 0, 0, :3], np.float32([0.11693647503852844, 0.16383124887943268, 0.013807637616991997])
    )
    np.testing.assert_array_equal(
        head[0, :3], np.float32([0.06821486353874207, -0.08707860112190247, -0.006937652826309204])
    )


def test_architectures_describe_their_initialisation():
    assert ARCHITECTURES["small_resnet"].initialiser == "uniform in +-1/sqrt(fan_in)"
    assert ARCHITECTURES["densenet161"].initialiser.startswith("convolutions He normal")
    assert MINI.initialiser.startswith("the network's own")


def test_heads_are_drawn_like_linear_layers_of_torch_on_every_trunk():
    kernel = init_variables(ARCHITECTURES["densenet_tiny"].with_classifier(500), 0, (32, 32, 3))["params"]["head"]
    kernel = np.asarray(kernel["linear"]["kernel"])
    bound = kernel.shape[0] ** -0.5
    assert np.abs(kernel).max() == pytest.approx(bound, rel=1e-3)
    assert kernel.std() == pytest.approx(bound / 3**0.5, rel=2e-2)


def test_the_classifier_of_densenet_has_a_bias_of_0_and_resnet_heads_have_none():
    variables = init_variables(ARCHITECTURES["densenet_tiny"].with_classifier(5), 0, (32, 32, 3))
    bias = variables["params"]["head"]["linear"]["bias"]
    assert bias.shape == (5,) and not bias.any()
    assert set(init_variables(TINY, 0, (32, 32, 3))["params"]["head"]["linear"]) == {"kernel"}


def test_classifier_of_the_resnet_is_scaled():
    module = ARCHITECTURES["small_resnet_tiny"].with_classifier(10)
    variables = init_variables(module, 0, (32, 32, 3))
    images = jax.random.uniform(jax.random.key(1), (2, 32, 32, 3))
    normalised = (images - jnp.array([[[module.mean]]])) / jnp.array([[[module.std]]])
    trunk = {kind: leaves["trunk"] for kind, leaves in variables.items()}
    pooled = jax.jit(module.trunk.apply)(trunk, normalised)
    expected = 0.125 * pooled @ variables["params"]["head"]["linear"]["kernel"]
    np.testing.assert_allclose(jax.jit(module.apply)(variables, images), expected, rtol=1e-4, atol=1e-6)


def test_evaluation_does_not_depend_on_the_batch():
    network = Network(TINY, init_variables(TINY, 0, (32, 32, 3)))
    images = jax.random.uniform(jax.random.key(1), (5, 32, 32, 3))
    apply = jax.jit(lambda network, x: network(x))
    together = apply(network, images)
    alone = jnp.concatenate([apply(network, images[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)


def test_shapes_are_those_of_the_network_without_running_it():
    shapes = shapes_of(TINY, (32, 32, 3))
    drawn = init_variables(TINY, 0, (32, 32, 3))
    assert shapes.num_features == Network(TINY, drawn).num_features((32, 32, 3)) == 16
    assert shapes.variables == jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), drawn)


def test_networks_of_equal_modules_share_a_compilation():
    compilations = 0

    @jax.jit
    def apply(network, images):
        nonlocal compilations
        compilations += 1
        return network(images)

    images = jnp.zeros((1, 32, 32, 3))
    for seed in (0, 1):
        module = ARCHITECTURES["small_resnet_tiny"].with_output(16)
        apply(Network(module, init_variables(module, seed, (32, 32, 3))), images)
    assert compilations == 1


def test_densenet_features_match_its_documentation():
    outputs = jax.eval_shape(lambda: DenseNet().init_with_output(jax.random.key(0), jnp.zeros((2, 224, 224, 3)))[0])
    assert outputs.shape == (2, 2208)
