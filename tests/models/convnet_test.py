import jax
import numpy as np
import pytest

from brittle_jax.models.convnet import SmallConvNet
from brittle_jax.models.network import ARCHITECTURES, NetworkSettings, init_variables


def test_the_default_widths_give_the_parameters_that_the_docstring_says():
    params = jax.eval_shape(lambda: init_variables(SmallConvNet(), 0, (32, 32, 3)))["params"]
    assert round(sum(leaf.size for leaf in jax.tree.leaves(params)), -4) == 980_000


@pytest.mark.parametrize("side", [7, 32, 96])
def test_images_of_any_size_give_as_many_outputs_as_are_asked_for(side):
    module = ARCHITECTURES["small_convnet"].with_output(11)
    variables = jax.eval_shape(lambda: init_variables(module, 0, (side, side, 3)))
    images = jax.ShapeDtypeStruct((2, side, side, 3), np.float32)
    assert jax.eval_shape(module.apply, variables, images).shape == (2, 11)


def test_all_convolutions_but_the_last_halve_the_image():
    trunk, sides = SmallConvNet(widths=(2,) * 5), []
    variables = init_variables(trunk, 0, (32, 32, 3))
    _, state = trunk.apply(variables, np.zeros((1, 32, 32, 3), np.float32), capture_intermediates=True)
    for name in trunk.level_names:
        sides.append(state["intermediates"][name]["__call__"][0].shape[1])
    assert sides == [16, 8, 4, 2, 2]


@pytest.mark.parametrize(
    ("settings", "num_outputs"),
    [
        (NetworkSettings("efficientnet_lite0", 0, levels="stage2,stage3,stage5"), 24 + 40 + 112),
        (NetworkSettings("small_resnet_tiny", 128), 128),
        (NetworkSettings("densenet_tiny", 0), 32),
    ],
)
def test_a_student_has_as_many_outputs_as_its_teacher(settings, num_outputs):
    assert settings.student_module == settings.module
    settings = NetworkSettings(settings.name, settings.output_features, levels=settings.levels, student="small_convnet")
    assert settings.student_module == ARCHITECTURES["small_convnet"].with_output(num_outputs)
