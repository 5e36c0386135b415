import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brittle_jax.models import convolution, winograd
from brittle_jax.models.convolution import conv_general_dilated
from brittle_jax.models.densenet import DenseNet
from brittle_jax.models.layers import conv
from brittle_jax.models.network import Network, Representation, init_variables
from brittle_jax.models.resnet import SmallResNet

SAME = ((1, 1), (1, 1))


def plain(images, kernel, strides, padding, **options):
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(images, kernel, strides, padding, dimension_numbers=layout, **options)


@pytest.fixture
def on_a_gpu(monkeypatch):
    """Traces convolutions as for a GPU; programs still run here."""
    monkeypatch.setattr(convolution, "default_platform", lambda: "gpu")


def draw(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def outputs_and_gradients(function, images, kernel):
    """Returns the outputs of a convolution and its gradients with respect to images and kernel."""

    @jax.jit  # as one program: that compiles faster than its operations one by one
    def both(images, kernel):
        outputs, vjp = jax.vjp(function, images, kernel)
        return outputs, *vjp(jnp.asarray(draw(outputs.shape, 1), images.dtype))

    return both(images, kernel)


def assert_all_close(actual, expected, tolerance):
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * float(jnp.abs(other).max(initial=1)))


@pytest.mark.parametrize(
    ("shape", "size", "features", "strides", "padding"),
    [
        ((3, 8, 6, 3), (3, 3), 64, (1, 1), SAME),
        ((3, 8, 6, 20), (3, 3), 7, (1, 1), SAME),
        ((3, 8, 6, 40), (3, 3), 33, (1, 1), ((0, 0), (0, 0))),
        ((3, 8, 6, 40), (3, 2), 33, (1, 1), ((0, 3), (4, 1))),  # borders wider than the kernel
        ((3, 8, 6, 4), (4, 2), 33, (1, 1), "SAME"),
        ((3, 9, 6, 4), (3, 3), 33, (2, 1), SAME),
        ((8, 8, 8, 64), (3, 3), 128, (1, 1), SAME),  # Winograd
        ((11, 7, 5, 64), (3, 3), 64, (1, 1), SAME),  # Winograd, odd sizes
        ((7, 8, 8, 64), (3, 3), 128, (1, 1), SAME),  # too few tiles for Winograd
        ((2, 20, 23, 3), (7, 7), 32, (2, 2), ((3, 3), (3, 3))),
        ((2, 9, 9, 8), (3, 3), 32, (2, 2), "SAME"),
        ((2, 5, 5, 8), (1, 1), 6, (1, 1), ((0, 0), (0, 0))),
        ((2, 5, 5, 8), (1, 1), 32, (1, 1), SAME),
        ((2, 9, 9, 8), (1, 1), 32, (2, 2), ((0, 0), (0, 0))),
        ((0, 8, 8, 64), (3, 3), 128, (1, 1), SAME),
        ((0, 5, 5, 8), (1, 1), 6, (1, 1), ((0, 0), (0, 0))),
    ],
)
def test_convolution_and_its_gradients_equal_the_plain_ones(shape, size, features, strides, padding):
    with jax.enable_x64(True):  # in 64 bits a wrong formula stands out from rounding
        images, kernel = jnp.asarray(draw(shape)), jnp.asarray(draw((*size, shape[-1], features), 2))
        actual = outputs_and_gradients(lambda x, k: conv_general_dilated(x, k, strides, padding), images, kernel)
        expected = outputs_and_gradients(lambda x, k: plain(x, k, strides, padding), images, kernel)
        assert_all_close(actual, expected, 1e-12)


@pytest.mark.parametrize(
    ("shape", "size", "strides", "padding"),
    [
        ((3, 8, 6, 5), (3, 3), (1, 1), "SAME"),
        ((3, 9, 6, 5), (5, 5), (2, 2), "SAME"),
        ((2, 9, 8, 40), (5, 3), (2, 3), ((2, 1), (0, 4))),
        ((2, 9, 8, 3), (2, 4), (3, 1), ((0, 0), (0, 0))),
        ((2, 9, 8, 3), (3, 3), (2, 2), ((3, 4), (4, 3))),  # borders wider than the kernel
        ((2, 2, 3, 3), (5, 5), (2, 2), "SAME"),  # a kernel larger than the images
        ((2, 6, 6, 3), (1, 1), (2, 2), "SAME"),
        ((2, 6, 6, 1), (3, 3), (1, 1), "SAME"),
        ((0, 6, 6, 3), (3, 3), (1, 1), "SAME"),
    ],
)
def test_depthwise_convolution_and_its_gradients_equal_the_plain_ones(shape, size, strides, padding):
    with jax.enable_x64(True):
        images, kernel = jnp.asarray(draw(shape)), jnp.asarray(draw((*size, 1, shape[-1]), 2))
        groups = {"feature_group_count": shape[-1]}
        actual = outputs_and_gradients(
            lambda x, k: conv_general_dilated(x, k, strides, padding, **groups), images, kernel
        )
        expected = outputs_and_gradients(lambda x, k: plain(x, k, strides, padding, **groups), images, kernel)
        assert_all_close(actual, expected, 1e-12)


@pytest.mark.parametrize(("dtype", "is_xlas"), [(jnp.float32, False), (jnp.bfloat16, True)])
def test_only_depthwise_convolutions_in_full_precision_are_sums_of_shifted_images(dtype, is_xlas):
    images, kernel = jnp.zeros((2, 8, 8, 6), dtype), jnp.zeros((3, 3, 1, 6), dtype)

    def loss(images, kernel):
        return jnp.square(conv_general_dilated(images, kernel, (2, 2), "SAME", feature_group_count=6)).sum()

    text = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(images, kernel).as_text()
    assert ("stablehlo.convolution" in text) == is_xlas


@pytest.mark.parametrize(("side", "count"), [(1, 3), (2, 1), (7, 3), (7, 40), (16, 40)])
def test_winograd_equals_the_plain_convolution_at_any_size(count, side):
    with jax.enable_x64(True):
        images, kernel = jnp.asarray(draw((count, side, side, 2))), jnp.asarray(draw((3, 3, 2, 5), 2))
        outputs, image_gradient, kernel_gradient = outputs_and_gradients(
            lambda x, k: plain(x, k, (1, 1), SAME), images, kernel
        )
        gradient = jnp.asarray(draw(outputs.shape, 1))

        @jax.jit
        def by_winograd(images, kernel, gradient):
            image_gradient = winograd.image_gradient(gradient, kernel)
            return winograd.convolve(images, kernel), image_gradient, winograd.kernel_gradient(images, gradient)

        expected = (outputs, image_gradient, kernel_gradient)
        assert_all_close(by_winograd(images, kernel, gradient), expected, 1e-11)


def test_winograd_rounds_about_as_the_plain_convolution_does():
    images, kernel = draw((4, 16, 16, 128)), draw((3, 3, 128, 64), 2) / np.sqrt(9 * 128)
    with jax.enable_x64(True):
        exact = np.asarray(plain(jnp.asarray(images), jnp.asarray(kernel), (1, 1), SAME))
    images, kernel = images.astype(np.float32), kernel.astype(np.float32)
    errors = [
        np.sqrt(np.square(np.asarray(result, np.float64) - exact).mean())
        for result in (winograd.convolve(images, kernel), plain(images, kernel, (1, 1), SAME))
    ]
    assert errors[0] < 3 * errors[1] < 1e-5


def test_outputs_do_not_depend_on_the_batch():
    # The batch has enough tiles for the Winograd algorithm, one image has not.
    images, kernel = draw((9, 8, 8, 64)).astype(np.float32), draw((3, 3, 64, 128), 2).astype(np.float32)
    together = conv_general_dilated(images, kernel, (1, 1), SAME)
    alone = np.concatenate([conv_general_dilated(image[None], kernel, (1, 1), SAME) for image in images])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("options", [{"rhs_dilation": (2, 2)}, {"feature_group_count": 4}])
def test_dilation_and_groups_are_left_to_xla(options):
    images = draw((2, 8, 8, 8)).astype(np.float32)
    kernel = draw((3, 3, 8 // options.get("feature_group_count", 1), 12), 2).astype(np.float32)
    expected = jax.lax.conv_general_dilated(
        images, kernel, (1, 1), SAME, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options
    )
    np.testing.assert_array_equal(conv_general_dilated(images, kernel, (1, 1), SAME, **options), expected)


def test_the_platform_is_that_of_the_default_device():
    assert convolution.default_platform() == "cpu"
    for device in (jax.devices()[1], "cpu"):
        with jax.default_device(device):
            assert convolution.default_platform() == "cpu"
    with jax.default_device("tpu"):  # a name is not looked up before it is used
        assert convolution.default_platform() == "tpu"


@pytest.mark.parametrize("size", [1, 3])
def test_convolutions_on_a_gpu_are_those_of_xla(on_a_gpu, size):
    images, kernel = np.zeros((8, 8, 8, 64), np.float32), np.zeros((size, size, 64, 128), np.float32)

    def loss(images, kernel):
        return conv_general_dilated(images, kernel, (1, 1), "SAME").sum()

    exported = jax.export.export(jax.jit(jax.grad(loss, argnums=(0, 1))), platforms=["cuda"])(images, kernel)
    text = exported.mlir_module()
    assert "stablehlo.convolution" in text and "stablehlo.dot_general" not in text


@pytest.mark.parametrize(
    "trunk", [SmallResNet(widths=(4, 4, 4, 4)), DenseNet(growth=4, block_sizes=(1, 1), initial_features=4)]
)
def test_networks_on_a_gpu_have_forward_mode_derivatives(on_a_gpu, trunk):
    module, side = Representation(trunk, None, (0.5,) * 3, (0.25,) * 3), 16
    variables = init_variables(module, 0, (side, side, 3))
    images, direction = np.random.default_rng(0).random((2, 2, side, side, 3), np.float32)

    def loss(images):
        return jnp.square(Network(module, variables)(images)).sum()

    value, slope = jax.jit(lambda images, direction: jax.jvp(loss, (images,), (direction,)))(images, direction)
    np.testing.assert_allclose(value, jax.jit(loss)(images), rtol=1e-5)
    np.testing.assert_allclose(slope, jnp.vdot(jax.jit(jax.grad(loss))(images), direction), rtol=1e-4)


def test_a_network_can_be_exported_for_any_number_of_images():
    layers = [conv(64, (3, 3), padding=1), conv(48, (1, 1)), conv(64, (3, 3), padding=1)]
    network = nn.Sequential(layers)
    variables = network.init(jax.random.key(0), jnp.zeros((1, 8, 8, 64)))

    def gradient(images):
        return jax.grad(lambda images: jnp.square(network.apply(variables, images)).sum())(images)

    (number,) = jax.export.symbolic_shape("number")
    shape = jax.ShapeDtypeStruct((number, 8, 8, 64), jnp.float32)
    exported = jax.export.export(jax.jit(gradient), platforms=["cpu", "cuda"])(shape)
    images = draw((3, 8, 8, 64)).astype(np.float32)
    np.testing.assert_allclose(exported.call(images), gradient(images), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("shape", "features", "dtype", "is_winograd"),
    [
        ((8, 8, 8, 64), 128, jnp.float32, True),
        ((7, 8, 8, 64), 128, jnp.float32, False),  # too few tiles
        ((8, 8, 8, 63), 128, jnp.float32, False),  # too few channels
        ((8, 8, 8, 192), 48, jnp.float32, False),
        ((8, 8, 8, 64), 128, jnp.bfloat16, False),
        ((11, 7, 5, 64), 64, jnp.float32, True),
    ],
)
def test_only_large_convolutions_in_full_precision_take_the_winograd_algorithm(shape, features, dtype, is_winograd):
    images, kernel = jnp.zeros(shape, dtype), jnp.zeros((3, 3, shape[-1], features), dtype)
    text = jax.jit(lambda *x: conv_general_dilated(*x, (1, 1), SAME)).lower(images, kernel).as_text()
    assert ("stablehlo.convolution" not in text) == is_winograd


def test_flax_layers_use_these_convolutions():
    layer, images = conv(128, (3, 3), padding=1), np.zeros((8, 8, 8, 64), np.float32)
    variables = layer.init(jax.random.key(0), images)

    def loss(variables, images):
        return jnp.square(layer.apply(variables, images)).sum()

    text = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(variables, images).as_text()
    assert "stablehlo.dot_general" in text and "stablehlo.convolution" not in text


@pytest.mark.parametrize("features", [8, 128])
def test_gradients_in_16_bits_are_close_to_the_plain_ones(features):
    images = jnp.asarray(draw((2, 6, 6, 64)), jnp.bfloat16)
    kernel = jnp.asarray(draw((3, 3, 64, features), 2) / 24, jnp.bfloat16)
    _, *actual = outputs_and_gradients(lambda *x: conv_general_dilated(*x, (1, 1), SAME), images, kernel)
    _, *expected = outputs_and_gradients(lambda *x: plain(*x, (1, 1), SAME), images, kernel)
    for one, other in zip(actual, expected, strict=True):
        assert one.dtype == jnp.bfloat16
        np.testing.assert_allclose(one.astype(float), other.astype(float), atol=0.02 * float(jnp.abs(other).max()))


@pytest.mark.parametrize(("features", "size"), [(8, 3), (128, 3), (48, 1)])
def test_second_derivatives_equal_the_plain_ones(features, size):
    padding = ((size // 2, size // 2),) * 2
    with jax.enable_x64(True):
        images, kernel = jnp.asarray(draw((2, 16, 16, 64))), jnp.asarray(draw((size, size, 64, features), 2) / 24)

        def second_derivatives(convolve):
            def loss(images, kernel):
                return jnp.sin(convolve(images, kernel, (1, 1), padding)).sum()

            def gradient_norm(images, kernel):
                return jnp.square(jax.grad(loss)(images, kernel)).sum()

            return jax.jit(jax.grad(gradient_norm, argnums=(0, 1)))(images, kernel)

        assert_all_close(second_derivatives(conv_general_dilated), second_derivatives(plain), 1e-9)
