import dataclasses

import numpy as np
import pytest

from brittle_jax import checkpoint
from brittle_jax.errors import UserError
from brittle_jax.teachers.published import Published, Weights
from brittle_jax.teachers.random import Random
from tests.small_teachers import kind_of, obtain_teacher

STAND_IN = Random(0, "normal_images", 8)


@pytest.fixture
def published(torch, xray_config, tmp_path):
    """A file of weights, named in the settings; the kernel of its first convolution."""
    from tests.models.published_weights_test import draw, save, torchvision_names

    _, _, reference = draw(torch, "densenet_tiny", 64)
    path = save(torch, torchvision_names(reference, "old"), tmp_path / "weights.pth")
    xray_config.network.name = "densenet_tiny"
    xray_config.teacher.weights, xray_config.teacher.weights_sha256 = str(path), ""
    return reference.convs["conv0"].weight.detach().numpy().transpose(2, 3, 1, 0)


@pytest.mark.reference
def test_published_weights_become_the_trunk(published, xray_config, tmp_path, one_device):
    xray_config.teacher.task, xray_config.teacher.data = "imagenet", ""
    assert kind_of(xray_config, tmp_path / "run").is_shared
    teacher, description = obtain_teacher(xray_config, tmp_path / "run", one_device)
    np.testing.assert_array_equal(teacher.variables["params"]["trunk"]["conv0"]["kernel"], published)
    assert description == {}
    assert checkpoint.exists(tmp_path / "run" / "checkpoints" / "teacher")


@pytest.mark.long
@pytest.mark.reference
def test_pretraining_can_start_from_published_weights(published, xray_config, tmp_path, one_device):
    xray_config.pretrain.num_epochs, xray_config.pretrain.peak_learning_rate = 0.1, 0.0
    drawn, drawn_description = obtain_teacher(xray_config, tmp_path / "drawn", one_device)
    xray_config.pretrain.from_weights = True
    started, description = obtain_teacher(xray_config, tmp_path / "started", one_device)
    assert description["key"] != drawn_description["key"]
    np.testing.assert_array_equal(started.variables["params"]["trunk"]["conv0"]["kernel"], published)
    assert np.abs(drawn.variables["params"]["trunk"]["conv0"]["kernel"] - published).max() > 0.01


def test_smoke_without_published_weights_says_that_they_are_drawn(xray_config, tmp_path, one_device, capsys):
    xray_config.teacher.task, xray_config.teacher.data = "imagenet", ""
    xray_config.network.name = "densenet_tiny"
    assert not kind_of(xray_config, tmp_path / "run").is_shared  # batch norm is measured on normal images
    _, description = obtain_teacher(xray_config, tmp_path / "run", one_device)
    assert description == {"synthetic_weights": True}
    assert "SYNTHETIC WEIGHTS" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("network", "weights", "stand_in", "message"),
    [
        ("mini", "x.pth", None, "^network.name='mini': published weights exist for DenseNets only$"),
        ("mini", "x.pth", STAND_IN, "^network.name='mini': published weights exist for DenseNets only$"),
        ("mini", "", STAND_IN, "^network.name='mini': published weights exist for DenseNets only$"),
        ("densenet_tiny", "", None, "^teacher.weights='': no such file"),
        ("densenet_tiny", "x.pth", STAND_IN, "^teacher.weights='x.pth': no such file"),
    ],
)
def test_what_cannot_be_used_is_refused_before_any_data_are_read(four_devices, network, weights, stand_in, message):
    with pytest.raises(UserError, match=message):
        Published(Weights(weights, ""), network, (32, 32, 3), stand_in).check(four_devices)


def test_a_stand_in_is_checked_in_place_of_missing_weights(four_devices):
    Published(Weights("", ""), "densenet_tiny", (32, 32, 3), STAND_IN).check(four_devices)
    uneven = dataclasses.replace(STAND_IN, batch_norm_batch_size=6)
    with pytest.raises(UserError, match="teacher.batch_norm_batch_size=6 cannot be shared evenly by 4 device"):
        Published(Weights("", ""), "densenet_tiny", (32, 32, 3), uneven).check(four_devices)
