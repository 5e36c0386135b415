import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brittle_jax.models import winograd
from brittle_jax.models.convolution import conv_general_dilated
from brittle_jax.models.layers import conv

SAME = ((1, 1), (1, 1))


def plain(images, kernel, strides, padding):
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(images, kernel, strides, padding, dimension_numbers=layout)


def draw(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def assert_equal_with_gradients(ours, theirs, images, kernel, tolerance):
    expected, pull_back = jax.vjp(theirs, images, kernel)
    result, ours_pull_back = jax.vjp(ours, images, kernel)
    np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance)
    gradient = jnp.asarray(draw(expected.shape, 1), images.dtype)
    for one, other in zip(ours_pull_back(gradient), pull_back(gradient), strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * float(jnp.abs(other).max(initial=1)))


@pytest.mark.parametrize(
    ("shape", "size", "features", "strides", "padding"),
    [
        ((3, 8, 8, 3), (3, 3), 64, (1, 1), SAME),  # a first layer: all places of the kernel in one product
        ((3, 8, 6, 20), (3, 3), 40, (1, 1), SAME),  # one product a place
        ((3, 8, 6, 20), (3, 3), 7, (1, 1), SAME),  # too narrow to gain
        ((3, 8, 6, 40), (3, 3), 33, (1, 1), SAME),  # the gradient is the narrower one
        ((3, 8, 6, 40), (3, 3), 33, (1, 1), ((0, 0), (0, 0))),
        ((3, 8, 6, 40), (3, 2), 33, (1, 1), ((0, 3), (4, 1))),  # borders wider than the kernel
        ((3, 8, 6, 40), (4, 2), 33, (1, 1), "SAME"),
        ((3, 9, 6, 40), (3, 3), 33, (2, 1), SAME),
        ((8, 8, 8, 64), (3, 3), 128, (1, 1), SAME),  # Winograd, forward and backward
        ((11, 7, 5, 192), (3, 3), 48, (1, 1), SAME),  # Winograd forward alone; odd sizes
        ((7, 8, 8, 64), (3, 3), 128, (1, 1), SAME),  # too few tiles to gain
        ((2, 20, 23, 3), (7, 7), 32, (2, 2), ((3, 3), (3, 3))),
        ((2, 9, 9, 20), (3, 3), 32, (2, 2), SAME),
        ((2, 5, 5, 8), (1, 1), 6, (1, 1), ((0, 0), (0, 0))),
        ((2, 5, 5, 64), (3, 3), 128, (1, 1), ((0, 0), (0, 0))),
        ((2, 5, 5, 8), (1, 1), 32, (1, 1), SAME),
        ((2, 9, 9, 8), (1, 1), 32, (2, 2), ((0, 0), (0, 0))),
        ((2, 9, 9, 8), (3, 3), 32, (2, 2), "SAME"),
        ((0, 8, 8, 64), (3, 3), 128, (1, 1), SAME),
        ((0, 8, 8, 40), (3, 3), 33, (1, 1), SAME),
    ],
)
def test_convolution_and_its_gradients_equal_the_plain_ones(shape, size, features, strides, padding):
    with jax.enable_x64(True):  # in which all that is left of a wrong formula would stand out
        images, kernel = jnp.asarray(draw(shape)), jnp.asarray(draw((*size, shape[-1], features), 2))
        assert_equal_with_gradients(
            lambda x, k: conv_general_dilated(x, k, strides, padding),
            lambda x, k: plain(x, k, strides, padding),
            images,
            kernel,
            1e-12,
        )


@pytest.mark.parametrize("side", [1, 2, 7, 16])
@pytest.mark.parametrize("count", [1, 3, 40])
def test_winograd_equals_the_plain_convolution_at_any_size(count, side):
    with jax.enable_x64(True):
        images, kernel = jnp.asarray(draw((count, side, side, 2))), jnp.asarray(draw((3, 3, 2, 5), 2))
        expected, pull_back = jax.vjp(lambda x, k: plain(x, k, (1, 1), SAME), images, kernel)
        np.testing.assert_allclose(winograd.convolve(images, kernel), expected, rtol=1e-12, atol=1e-12)
        gradient = jnp.asarray(draw(expected.shape, 1))
        ours = winograd.kernel_gradient(images, gradient)
        np.testing.assert_allclose(ours, pull_back(gradient)[1], rtol=1e-11, atol=1e-11)
        ours = winograd.image_gradient(gradient, kernel)
        np.testing.assert_allclose(ours, pull_back(gradient)[0], rtol=1e-11, atol=1e-11)


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


def test_an_image_is_convolved_alike_in_every_batch():
    # Together they are tiles enough for Winograd's way, alone they are not.
    images, kernel = draw((9, 8, 8, 64)).astype(np.float32), draw((3, 3, 64, 128), 2).astype(np.float32)
    together = conv_general_dilated(images, kernel, (1, 1), SAME)
    alone = np.concatenate([conv_general_dilated(image[None], kernel, (1, 1), SAME) for image in images])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("others", [{"rhs_dilation": (2, 2)}, {"feature_group_count": 4}])
def test_what_is_not_written_here_is_left_to_xla(others):
    images = draw((2, 8, 8, 8)).astype(np.float32)
    kernel = draw((3, 3, 8 // others.get("feature_group_count", 1), 12), 2).astype(np.float32)
    others = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), **others}
    expected = jax.lax.conv_general_dilated(images, kernel, (1, 1), SAME, **others)
    np.testing.assert_array_equal(conv_general_dilated(images, kernel, (1, 1), SAME, **others), expected)


def test_other_platforms_get_the_plain_convolution():
    images, kernel = np.zeros((8, 8, 8, 64), np.float32), np.zeros((3, 3, 64, 128), np.float32)

    def loss(images, kernel):
        return conv_general_dilated(images, kernel, (1, 1), SAME).sum()

    exported = jax.export.export(jax.jit(jax.grad(loss, argnums=(0, 1))), platforms=["cuda"])(images, kernel)
    text = exported.mlir_module()
    assert "stablehlo.convolution" in text and "stablehlo.dot_general" not in text


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
        ((8, 8, 8, 64), 96, jnp.float32, False),  # too few channels
        ((8, 8, 8, 64), 128, jnp.bfloat16, False),
        ((11, 7, 5, 192), 48, jnp.float32, True),
    ],
)
def test_winograd_is_left_to_large_convolutions_in_full_precision(shape, features, dtype, is_winograd):
    images, kernel = jnp.zeros(shape, dtype), jnp.zeros((3, 3, shape[-1], features), dtype)
    text = jax.jit(lambda *x: conv_general_dilated(*x, (1, 1), SAME)).lower(images, kernel).as_text()
    assert ("stablehlo.convolution" not in text) == is_winograd


def test_layers_of_flax_come_here():
    layer, images = conv(128, (3, 3), padding=1), np.zeros((8, 8, 8, 64), np.float32)
    variables = layer.init(jax.random.key(0), images)

    def loss(variables, images):
        return jnp.square(layer.apply(variables, images)).sum()

    text = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(variables, images).as_text()
    assert "stablehlo.dot_general" in text and "stablehlo.convolution" not in text


@pytest.mark.parametrize("features", [8, 48, 128])
def test_gradients_in_16_bits_are_about_the_plain_ones(features):
    images = jnp.asarray(draw((2, 6, 6, 64)), jnp.bfloat16)
    kernel = jnp.asarray(draw((3, 3, 64, features), 2) / 24, jnp.bfloat16)
    gradient = jnp.asarray(draw((2, 6, 6, features), 3), jnp.bfloat16)
    ours = jax.vjp(lambda *x: conv_general_dilated(*x, (1, 1), SAME), images, kernel)[1](gradient)
    theirs = jax.vjp(lambda *x: plain(*x, (1, 1), SAME), images, kernel)[1](gradient)
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == jnp.bfloat16
        np.testing.assert_allclose(one.astype(float), other.astype(float), atol=0.02 * float(jnp.abs(other).max()))


@pytest.mark.parametrize(("features", "size"), [(8, 3), (48, 3), (128, 3), (48, 1)])
def test_second_derivatives_are_the_plain_ones(features, size):
    same = ((size // 2, size // 2),) * 2
    with jax.enable_x64(True):
        images, kernel = jnp.asarray(draw((2, 16, 16, 64))), jnp.asarray(draw((size, size, 64, features), 2) / 24)

        def gradient_norm(convolve):
            def loss(images, kernel):
                return jnp.sin(convolve(images, kernel, (1, 1), same)).sum()

            return lambda images, kernel: jnp.square(jax.grad(loss)(images, kernel)).sum()

        ours, theirs = (
            jax.grad(gradient_norm(convolve), argnums=(0, 1))(images, kernel)
            for convolve in (conv_general_dilated, plain)
        )
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-10)
