import jax
import numpy as np
import pytest

from brittle_jax.inference import Representations
from brittle_jax.loop import Loop
from brittle_jax.models.network import NetworkSettings, init_variables
from brittle_jax.student import distillation, movement, num_updates
from tests.small_runs import read_row


def test_updates_follow_epochs_unless_they_are_set():
    assert num_updates(5000, batch_size=64, num_epochs=20.0) == 1580
    assert num_updates(413, batch_size=64, num_epochs=20.0) == 140
    assert num_updates(5000, batch_size=64, num_epochs=20.0, update_steps=7) == 7
    assert num_updates(5, batch_size=64, num_epochs=0.1) == 1


@pytest.mark.parametrize("name", ["small_resnet_tiny", "densenet_tiny", "mini"])
def test_movement_is_the_mean_over_all_weights_in_deviations_of_their_draw(name):
    network = NetworkSettings(name, 128)
    params = init_variables(network.module, 0, (32, 32, 3))["params"]
    drawn = jax.tree_util.tree_leaves_with_path(params)
    kernels = [np.asarray(leaf) for path, leaf in drawn if path[-1].key == "kernel"]
    each = np.concatenate([np.full(kernel.size, 1e-3 * 50 / kernel.std()) for kernel in kernels])
    assert movement(network, 50, 1e-3) == pytest.approx(each.mean(), rel=0.03)


def test_weights_after_the_last_level_do_not_count_as_moved():
    network = NetworkSettings("small_resnet_tiny", 128, levels="prep,layer2")
    params = init_variables(network.module, 0, (32, 32, 3))["params"]
    moved = [
        np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if path[-1].key == "kernel" and not path[1].key.startswith("layer3")
    ]
    assert len(moved) == 6 and moved[0].shape == (8 + 32, 128)
    each = np.concatenate([np.full(kernel.size, 1e-3 * 50 / kernel.std()) for kernel in moved])
    assert movement(network, 50, 1e-3) == pytest.approx(each.mean(), rel=0.03)


def test_the_papers_student_moves_as_the_docstring_says():
    assert movement(NetworkSettings("small_resnet", 128), 1580, 1e-5) == pytest.approx(1.65, abs=0.005)


def test_teacher_and_student_never_share_a_draw(cifar10_config, tmp_path, four_devices):
    row, (configuration, *_) = read_row(cifar10_config, tmp_path, four_devices)
    teacher, _ = row.obtain_teacher(configuration)
    loop = Loop(four_devices, 16)
    work = distillation(
        teacher.module,
        row.dataset.images,
        np.arange(10),
        Representations(teacher, row.dataset.images, loop),
        name=configuration.name,
        seed=cifar10_config.seed,
        num_updates=1,
        batch_size=16,
        learning_rate=1e-12,
        training_dtype="float32",
        devices=four_devices,
    )
    assert work.name == f"distill {configuration.name}"
    params = dict(jax.tree_util.tree_leaves_with_path(loop.run(work).params))
    kernels = [path for path in params if path[-1].key == "kernel"]
    assert len(kernels) == 2
    drawn = dict(jax.tree_util.tree_leaves_with_path(teacher.variables["params"]))
    for path in kernels:
        assert abs(np.corrcoef(np.ravel(params[path]), np.ravel(drawn[path]))[0, 1]) < 0.2
