import numpy as np
import pytest

from brittle_jax.auxiliary import TASKS
from brittle_jax.data import one_class
from brittle_jax.data.datasets.loading import load
from brittle_jax.data.one_class import Lesson
from brittle_jax.models.network import Network, init_variables
from brittle_jax.probe import feature_network, fit_and_predict, probe_teacher
from brittle_jax.train import probe
from tests.conftest import make_image_set
from tests.mini_network import MINI


def blobs(seed, spread=1.0):
    """Two classes of Gaussian points, and the accuracy of the best linear rule: Phi(distance / 2)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 4000)
    features = rng.normal(size=(4000, 5)) * spread + 5 * spread
    features[:, 0] += 2 * spread * labels
    return features.astype(np.float32), labels


@pytest.mark.parametrize("spread", [1e-3, 1.0, 1e3])
def test_the_probe_reaches_the_best_linear_rule_whatever_the_scale(spread):
    predicted = fit_and_predict(*blobs(0, spread), blobs(1, spread)[0], 1.0)
    assert (predicted == blobs(1, spread)[1]).mean() == pytest.approx(0.841, abs=0.02)


def test_the_probe_says_when_it_does_not_converge(capsys, monkeypatch):
    monkeypatch.setattr("brittle_jax.probe._MAX_ITERATIONS", 1)
    fit_and_predict(*blobs(0), blobs(1)[0], 1.0)
    assert "did not converge in 1 iterations" in capsys.readouterr().err


@pytest.mark.parametrize("task", ["random", *TASKS])
def test_the_probe_sees_pooled_features_or_the_code_of_an_autoencoder(cifar10_config, task):
    cifar10_config.teacher.task = task
    module = MINI.with_output(7)
    images = np.random.default_rng(0).uniform(size=(3, 32, 32, 3)).astype(np.float32)
    teacher = Network(module, init_variables(module, 0, (32, 32, 3)))
    features = np.asarray(feature_network(cifar10_config, teacher)(images))
    if task in ("autoencoder", "denoising"):
        np.testing.assert_array_equal(features, teacher(images))
    else:
        head = np.asarray(teacher.variables["params"]["head"]["linear"]["kernel"])
        np.testing.assert_allclose(features @ head, teacher(images), atol=1e-4)


def test_the_probe_of_parcels_learns_what_the_supervised_baseline_would(xray_config):
    images = load("xray", xray_config)
    xray_config.probe.max_train_samples = xray_config.probe.max_test_samples = 0
    lesson = one_class.plan_probe(xray_config, images)
    assert np.bincount(images.labels[lesson.train]).tolist() == [16, 3]
    assert np.bincount(images.labels[lesson.held_out]).tolist() == [4, 3]
    xray_config.teacher.task = "baseline"
    (configuration,) = one_class.configurations(images, xray_config)
    assert set(lesson.held_out) == set(configuration.test)


def test_a_parcel_is_a_threat_if_any_of_its_patches_is(xray_config, one_device):
    images = load("xray", xray_config)
    module = MINI.with_output(0)
    teacher = Network(module, init_variables(module, 0, images.image_shape))
    probe = probe_teacher(xray_config, teacher, images, one_device)
    assert probe["num_classes"] == 2
    assert probe["num_test_images"] > 7
    assert probe["accuracy_by_sample"] * 7 == pytest.approx(round(probe["accuracy_by_sample"] * 7))


def test_leaves_are_probed_as_healthy_or_diseased(cifar10_config):
    cifar10_config.data.name, cifar10_config.data.image_size_pixels = "plant_pathology", 32
    cifar10_config.data.configurations = "all"
    images = load("plant_pathology", cifar10_config)
    cifar10_config.probe.max_train_samples = cifar10_config.probe.max_test_samples = 0
    lesson = one_class.plan_probe(cifar10_config, images)
    assert lesson.images.classes == ("healthy", "anomalous")
    assert np.bincount(lesson.images.labels).tolist() == [130, 390]
    (configuration,) = one_class.configurations(images, cifar10_config)
    assert not set(lesson.train) & set(configuration.test)
    # As many diseased leaves as healthy ones test, evenly of the three diseases.
    cifar10_config.data.max_test_samples = 0
    (configuration,) = one_class.configurations(images, cifar10_config)
    assert np.bincount(images.labels[configuration.test]).tolist() == [26, 9, 9, 8]


def test_a_strong_penalty_leaves_the_majority():
    features, labels = np.array([[0.0], [1.0], [1.1], [1.2]]), np.array([1, 0, 0, 0])
    assert probe.fit_and_predict(features, labels, features, 1e3).tolist() == [1, 0, 0, 0]
    assert probe.fit_and_predict(features, labels, features, 1e-9).tolist() == [0, 0, 0, 0]


def test_one_patch_makes_a_parcel_a_threat():
    images = make_image_set(
        np.zeros((3, 1, 1, 3)), labels=np.array([0, 1, 1]), sample_of_image=np.array([0, 0, 1, 1, 2, 2])
    )
    lesson = Lesson(images, np.array([0]), np.array([0, 1, 2]))
    predicted = np.array([0, 0, 0, 1, 0, 0])
    assert probe._accuracy_by_sample(lesson, np.arange(6), predicted) == pytest.approx(2 / 3)
    assert probe._accuracy_by_sample(lesson, np.arange(6), np.array([1, 0, 0, 1, 1, 1])) == pytest.approx(2 / 3)
