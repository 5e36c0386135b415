import jax
import numpy as np
import pytest

from brittle_jax import inference
from brittle_jax.data import one_class
from brittle_jax.data.datasets.loading import load
from brittle_jax.loop import MetricLog, train
from brittle_jax.models.network import ARCHITECTURES, Network, init_variables
from brittle_jax.student import num_updates, prepare_distillation
from brittle_jax.train import teacher as teacher_lib


@pytest.fixture
def images(cifar10_config):
    return load("cifar10", cifar10_config)


@pytest.fixture
def log(tmp_path):
    log = MetricLog(tmp_path)
    yield log
    log.close()


def obtain(config, images, folder, devices, log):
    configuration = one_class.configurations(images, config)[0]
    return teacher_lib.obtain_teacher(
        config, images, None, configuration, folder, made_from={}, devices=devices, log=log
    )[0]


def test_measured_averages_make_the_outputs_vary(cifar10_config, images, tmp_path, four_devices, log):
    pictures = np.stack([images.read_image(index) for index in range(64)]).astype(np.float32) / 255
    outputs = {}
    for setting in ("initial", "normal_images"):
        cifar10_config.teacher.random_batch_norm = setting
        network = obtain(cifar10_config, images, tmp_path / setting, four_devices, log)
        outputs[setting] = np.asarray(network(pictures))
    spread = {setting: values.std(axis=0).mean() for setting, values in outputs.items()}
    assert spread["normal_images"] > 3 * spread["initial"]


def test_measured_averages_are_those_of_the_normal_training_images(cifar10_config, images, four_devices):
    module = ARCHITECTURES["small_resnet_tiny"].with_output(16)
    variables = init_variables(module, 0, images.image_shape)
    indices = np.arange(32)
    cifar10_config.teacher.batch_norm_batch_size = 16
    measured = teacher_lib.measure_batch_norm(module, variables, images, indices, cifar10_config, four_devices)
    # The first layer's mean does not depend on how the images fall into batches.
    pictures = np.stack([images.read_image(index) for index in indices]) / 255
    normalised = ((pictures - np.array(module.mean)) / np.array(module.std)).astype(np.float32)
    kernel = np.asarray(variables["params"]["trunk"]["prep"]["Conv_0"]["kernel"])
    outputs = jax.lax.conv_general_dilated(
        normalised, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    mean = measured["batch_stats"]["trunk"]["prep"]["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(mean, outputs.mean(axis=(0, 1, 2)), atol=1e-5)
    for before, after in zip(jax.tree.leaves(variables["params"]), jax.tree.leaves(measured["params"]), strict=True):
        np.testing.assert_array_equal(before, after)


def test_teacher_and_student_never_share_a_draw(cifar10_config, images, tmp_path, four_devices, log):
    teacher = obtain(cifar10_config, images, tmp_path / "teacher", four_devices, log)
    cifar10_config.distill.update_steps = 1
    cifar10_config.distill.learning_rate = 1e-12
    representations = inference.Representations(teacher, images, 16, four_devices)
    training = prepare_distillation(
        teacher.module,
        images,
        np.arange(10),
        representations,
        cifar10_config,
        name="unimodal/airplane",
        devices=four_devices,
    )
    student = train(training, log)
    for path, leaf in jax.tree_util.tree_leaves_with_path(teacher.variables["params"]):
        theirs = np.asarray(leaf).ravel()
        ours = student.params
        for key in path:
            ours = ours[key.key]
        if path[-1].key == "kernel":
            assert abs(np.corrcoef(theirs, np.asarray(ours).ravel())[0, 1]) < 0.2


def test_a_teacher_is_read_back_from_its_folder(cifar10_config, images, tmp_path, four_devices, log, capsys):
    first, again = (obtain(cifar10_config, images, tmp_path / "teacher", four_devices, log) for _ in range(2))
    assert "finished before" in capsys.readouterr().out
    assert isinstance(again, Network) and again.module == first.module
    for one, other in zip(jax.tree.leaves(first.variables), jax.tree.leaves(again.variables), strict=True):
        np.testing.assert_array_equal(one, other)


def test_updates_follow_epochs_unless_they_are_set(cifar10_config):
    distill = cifar10_config.distill
    distill.num_epochs, distill.batch_size = 20.0, 64
    assert num_updates(5000, distill) == 1580
    assert num_updates(413, distill) == 140
    distill.update_steps = 7
    assert num_updates(5000, distill) == 7
