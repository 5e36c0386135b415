import jax
import numpy as np
import pytest

from brittle_jax.models import lite_weights
from brittle_jax.models.efficientnet import EfficientNetLite
from brittle_jax.models.network import ARCHITECTURES, init_variables

LITE = ARCHITECTURES["efficientnet_lite0"]


def features_of_torch(torch, reference, images):
    """Returns the averages of all levels, and the final features, of images [N, H, W, 3] in [0, 1]."""
    x = torch.tensor((2 * images - 1).transpose(0, 3, 1, 2))
    with torch.no_grad():
        return [each.mean(dim=(2, 3)).numpy() for each in reference.levels(x)], reference(x).numpy()


def features(architecture, trunk, images):
    variables = {kind: {"trunk": tree} for kind, tree in trunk.items()}

    @jax.jit  # one program for both: the compiler sees that they share their layers
    def both(variables, images):
        return [architecture.with_output(0, names).apply(variables, images) for names in (architecture.level_names, ())]

    levels, final = map(np.asarray, both(variables, images))
    return np.split(levels, np.cumsum(architecture.trunk.widths)[:-1], axis=1), final


def shapes_of(architecture):
    return jax.eval_shape(lambda: init_variables(architecture.trunk, 0, (32, 32, 3)))


def assert_close(actual, expected):
    for one, other in zip((*actual[0], actual[1]), (*expected[0], expected[1]), strict=True):
        assert one.shape == other.shape
        assert np.abs(one - other).max() <= 1e-4 * np.abs(other).max()


@pytest.mark.reference
def test_every_level_of_the_published_network_equals_torch(torch, lite_file, side=96):
    from tests.reference import torch_networks

    reference = torch_networks.EfficientNetLite().eval()
    reference.load_state_dict(torch.load(lite_file, weights_only=True))
    images = np.random.default_rng(0).uniform(size=(2, side, side, 3)).astype(np.float32)
    trunk = lite_weights.load_trunk(lite_file, shapes_of(LITE))
    assert_close(features(LITE, trunk, images), features_of_torch(torch, reference, images))


@pytest.mark.reference
def test_every_level_of_a_small_network_on_an_odd_side_equals_torch(torch, made_up_lite, side=33):
    small = ARCHITECTURES["efficientnet_lite0"]
    images = np.random.default_rng(0).uniform(size=(2, side, side, 3)).astype(np.float32)
    trunk = lite_weights.load_trunk(lite_weights.find_file(), shapes_of(small))
    assert_close(features(small, trunk, images), features_of_torch(torch, made_up_lite, images))


def test_kernels_are_drawn_by_their_fan_out():
    trunk = EfficientNetLite(repeats=(1,) * 7)
    params = jax.device_get(init_variables(trunk, 0, (32, 32, 3)))["params"]
    fan_outs = {
        "stem_conv": 9 * 32,
        "block0_depthwise_conv": 9,
        "block2_depthwise_conv": 25,
        "block6_expand_conv": 1152,
        "block6_project_conv": 320,
        "head_conv": 1280,
    }
    for name, fan_out in fan_outs.items():
        kernel = params[name]["kernel"]
        error = 5 / np.sqrt(2 * kernel.size)  # five standard errors of a deviation
        assert kernel.std() == pytest.approx((2 / fan_out) ** 0.5, rel=error), name
    for name, leaves in params.items():
        if name.endswith("_norm"):
            assert (leaves["scale"] == 1).all() and (leaves["bias"] == 0).all()
