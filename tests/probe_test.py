import contextlib

import flax.linen as nn
import numpy as np
import pytest
from sklearn import metrics
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from brittle_jax.apply.detector import Detector
from brittle_jax.auxiliary import TASKS
from brittle_jax.config import completed
from brittle_jax.data.catalogue import CATALOGUE
from brittle_jax.data.one_class import configurations
from brittle_jax.data.splits import Lesson, labelled_lesson
from brittle_jax.loop import Loop
from brittle_jax.models.network import Network, init_variables
from brittle_jax.probe import Answers, figures, fit_and_predict, probe
from brittle_jax.run.detection import MadeDetector, evaluate_detector
from brittle_jax.run.row import Row
from brittle_jax.run.settings import splitting_of
from tests.conftest import make_dataset
from tests.mini_network import MINI
from tests.small_runs import read_row
from tests.small_teachers import kind_of


class Brightness(nn.Module):
    """One feature: how bright an image is."""

    def __call__(self, images):
        return images.mean(axis=(1, 2, 3))[:, None]


@pytest.fixture
def loop(one_device):
    return Loop(one_device, batch_size=8)


def blobs(seed, spread=1.0):
    """Two classes of Gaussian points, and the accuracy of the best linear rule: Phi(distance / 2)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 4000)
    features = rng.normal(size=(4000, 5)) * spread + 5 * spread
    features[:, 0] += 2 * spread * labels
    return features.astype(np.float32), labels


@pytest.mark.parametrize("spread", [1e-3, 1.0, 1e3])
def test_the_probe_reaches_the_best_linear_rule_whatever_the_scale(spread):
    answers = fit_and_predict(*blobs(0, spread), blobs(1, spread)[0], 1.0)
    assert (answers.labels == blobs(1, spread)[1]).mean() == pytest.approx(0.841, abs=0.02)


def test_the_probe_says_when_it_does_not_converge(capsys):
    fit_and_predict(*blobs(0), blobs(1)[0], 1.0)
    assert capsys.readouterr().err == ""
    fit_and_predict(*blobs(0), blobs(1)[0], 1.0, max_iterations=1)
    assert "did not converge in 1 iterations" in capsys.readouterr().err


def test_a_strong_penalty_leaves_the_majority():
    features, labels = np.array([[0.0], [1.0], [1.1], [1.2]]), np.array([1, 0, 0, 0])
    assert fit_and_predict(features, labels, features, 1e3).labels.tolist() == [1, 0, 0, 0]
    assert fit_and_predict(features, labels, features, 1e-9).labels.tolist() == [0, 0, 0, 0]


def test_figures_of_two_classes():
    """Always saying normal: 9 of 10 are right."""
    labels = np.array([0] * 9 + [1])
    always_normal = Answers(np.zeros(10, int), np.arange(10.0) - 99, np.array([0, 1]))
    measured = figures(labels, always_normal)
    assert measured == {"accuracy": 0.9, "balanced_accuracy": 0.5, "auroc": 1.0, "majority_accuracy": 0.9}
    one_higher = always_normal._replace(scores=np.array([0.0] * 6 + [1.0] + [3.0] * 2 + [1.0]))
    assert figures(labels, one_higher)["auroc"] == pytest.approx((6 + 1 / 2) / 9)


def test_figures_of_three_classes():
    labels, named = np.array([0, 0, 0, 0, 1, 2]), np.array([0, 0, 0, 1, 1, 1])
    likely = np.array([0.8, 0.7, 0.6, 0.1, 0.2, 0.3])
    scores = np.stack([likely, (1 - likely) / 2, (1 - likely) / 2], axis=1)
    # Three of class 0 are above both others, one is below both; class 1 is above 4 of 5, class 2 above 3 of 5.
    measured = figures(labels, Answers(named, scores, np.arange(3)))
    assert measured == pytest.approx(
        {
            "accuracy": 4 / 6,
            "balanced_accuracy": (3 / 4 + 1 + 0) / 3,
            "auroc": (6 / 8 + 4 / 5 + 3 / 5) / 3,
            "majority_accuracy": 4 / 6,
        }
    )


@pytest.mark.parametrize(
    ("labels", "balanced_accuracy"),
    [([0, 0], 1 / 2), ([0, 1], 1), ([3, 1], 1 / 2), ([0, 0, 1, 1, 2, 3], (1 / 2 + 1 / 2 + 0 + 0) / 4)],
)
def test_without_exactly_the_learned_classes_there_is_no_auroc(labels, balanced_accuracy):
    labels = np.array(labels)
    named = np.arange(len(labels)) % 2
    measured = figures(labels, Answers(named, np.full((len(labels), 3), 1 / 3), np.arange(3)))
    assert measured["auroc"] is None
    assert measured["balanced_accuracy"] == pytest.approx(balanced_accuracy)


def test_one_class_of_two_has_no_auroc():
    measured = figures(np.array([1, 1]), Answers(np.array([1, 0]), np.array([0.5, -0.5]), np.array([0, 1])))
    assert measured == {"accuracy": 0.5, "balanced_accuracy": 0.5, "auroc": None, "majority_accuracy": 1.0}


@pytest.mark.parametrize("num_classes", [2, 5])
def test_figures_are_those_of_scikit_learn(num_classes):
    rng = np.random.default_rng(num_classes)
    labels = rng.choice(num_classes, 600, p=np.arange(1, num_classes + 1) / np.arange(1, num_classes + 1).sum())
    features = rng.normal(size=(600, 4)) + labels[:, None] * [1, 0, -0.5, 0]
    answers = fit_and_predict(features[:300], labels[:300], features[300:], 1.0)
    reference = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(features[:300], labels[:300])
    probabilities, tested = reference.predict_proba(features[300:]), labels[300:]
    auroc = (
        metrics.roc_auc_score(tested, probabilities[:, 1])
        if num_classes == 2
        else metrics.roc_auc_score(tested, probabilities, multi_class="ovr")
    )
    constant = DummyClassifier(strategy="most_frequent").fit(tested[:, None], tested).score(tested[:, None], tested)
    assert figures(tested, answers) == pytest.approx(
        {
            "accuracy": reference.score(features[300:], tested),
            "balanced_accuracy": metrics.balanced_accuracy_score(tested, reference.predict(features[300:])),
            "auroc": auroc,
            "majority_accuracy": constant,
        }
    )


def test_images_that_are_surely_of_a_class_keep_their_order():
    """Their probabilities are all 1, as float64 has it."""
    features, labels = np.array([[-1.0], [1.0]] * 20), np.array([0, 1] * 20)
    answers = fit_and_predict(features, labels, np.array([[200.0], [300.0], [400.0]]), 1.0)
    assert np.all(1 / (1 + np.exp(-answers.scores)) == 1) and np.all(np.diff(answers.scores) > 0)


def parcels_of(patches, labels):
    """Returns parcels of two grey patches each, [S, 2] in 0 to 255."""
    pixels, names = np.ravel(patches).astype(np.uint8), np.arange(len(labels)).astype(str)
    return make_dataset(
        np.broadcast_to(pixels[:, None, None, None], (len(pixels), 4, 4, 3)),
        ids=names,
        groups=names,
        digests=names[:, None],
        labels=np.array(labels),
        sample_of_image=np.repeat(np.arange(len(labels)), 2),
    )


@pytest.mark.parametrize(
    ("tested", "accuracy", "balanced", "auroc", "balanced_by_sample", "auroc_by_sample"),
    [
        # Patches of the normal parcel, then of threats; a brighter one is likelier a threat.
        ([[10, 20], [10, 240], [20, 10]], 3 / 6, (1 + 1 / 4) / 2, (0.5 + 2 + 1.5 + 0.5) / 8, 3 / 4, 3 / 4),
        ([[240, 10], [10, 230], [250, 250]], 4 / 6, (1 / 2 + 3 / 4) / 2, (0.5 + 1 + 2 + 2) / 8, 1 / 2, 1 / 2),
    ],
)
def test_one_patch_makes_a_parcel_a_threat(
    loop, capsys, tested, accuracy, balanced, auroc, balanced_by_sample, auroc_by_sample
):
    dataset = parcels_of([[10, 20], [230, 240], *tested], [0, 1, 0, 1, 1])
    lesson = Lesson(dataset, np.array([0, 1]), np.array([2, 3, 4]))
    result = probe(Network(Brightness(), {}), lesson, loop, inverse_penalty=1.0)
    assert result["accuracy_by_sample"] == pytest.approx(2 / 3)
    assert result["accuracy"] == pytest.approx(accuracy)
    assert (result["num_train_images"], result["num_test_images"], result["num_classes"]) == (4, 6, 2)
    assert result["balanced_accuracy"] == pytest.approx(balanced)
    assert result["auroc"] == pytest.approx(auroc)
    assert result["balanced_accuracy_by_sample"] == pytest.approx(balanced_by_sample)
    assert result["auroc_by_sample"] == pytest.approx(auroc_by_sample)
    assert result["majority_accuracy"] == result["majority_accuracy_by_sample"] == pytest.approx(2 / 3)
    printed = capsys.readouterr().out
    assert (
        "linear probe, a classifier of 2 classes on the teacher's features: "
        f"accuracy {100 * accuracy:.2f}% (always the most frequent class: 66.67%), "
        f"balanced accuracy {100 * balanced:.2f}%, AUROC {100 * auroc:.2f}\n"
    ) in printed
    assert (
        "the same by sample: accuracy 66.67% (always the most frequent class: 66.67%), balanced accuracy "
        f"{100 * balanced_by_sample:.2f}%, AUROC {100 * auroc_by_sample:.2f}\n"
    ) in printed


@pytest.mark.parametrize(("labels", "held_out"), [([0, 0, 1], [2]), ([0, 1, 1], [])])
def test_without_two_classes_or_tests_there_is_no_probe(loop, labels, held_out):
    lesson = Lesson(parcels_of([[1, 2], [3, 4], [5, 6]], labels), np.array([0, 1]), np.array(held_out, int))
    assert probe(Network(Brightness(), {}), lesson, loop, inverse_penalty=1.0) is None


def test_parcels_are_probed_by_patch_and_by_parcel(xray_config, tmp_path, one_device):
    row, _ = read_row(xray_config, tmp_path, one_device)
    module = MINI.with_output(0)
    network = Network(module, init_variables(module, 0, row.dataset.images.shape))
    splitting = splitting_of(xray_config, learns_anomalies=True)
    lesson = labelled_lesson(row.dataset, splitting, "probe", max_train_samples=0, max_test_samples=0)
    result = probe(network, lesson, row.loop, inverse_penalty=1.0)
    assert result["num_classes"] == 2
    assert result["num_test_images"] > 7
    assert result["accuracy_by_sample"] * 7 == pytest.approx(round(result["accuracy_by_sample"] * 7))


class Probed(Exception):
    """Ends an evaluation at its probe."""


@pytest.fixture
def probed(monkeypatch, one_device):
    """Returns which network an evaluation probes, and by which lesson."""

    def stop(network, lesson, loop, *, inverse_penalty):
        raise Probed(network, lesson)

    def probed(config, dataset, folder, teacher=None):
        config = completed(config)
        kind, loop = kind_of(config, folder), Loop(one_device, 8)
        row = Row(config, dataset, None, kind, loop, contextlib.nullcontext, folder=None, made_from={})
        if teacher is None:
            teacher = Network(row.network.module, init_variables(row.network.module, 0, dataset.images.shape))
        detector = Detector(teacher, teacher, None, row.network, row.preprocessing)
        splitting = splitting_of(config, learns_anomalies=kind.learns_anomalies)
        configuration = configurations(dataset, "all", splitting)[0]
        with monkeypatch.context() as patch, pytest.raises(Probed) as stopped:
            patch.setattr("brittle_jax.probe.probe", stop)
            evaluate_detector(row, MadeDetector(detector, None, {}, None, []), configuration)
        return *stopped.value.args, configuration

    return probed


def images_of(name, labels):
    return make_dataset(
        np.zeros((len(labels), 16, 16, 3), np.uint8), name=name, classes=CATALOGUE[name].classes, labels=labels
    )


@pytest.mark.parametrize("task", ["random", *TASKS])
def test_the_probe_sees_pooled_features_or_the_code_of_an_autoencoder(cifar10_config, tmp_path, probed, task):
    cifar10_config.data.name, cifar10_config.teacher.task = "cats_vs_dogs", task
    cifar10_config.teacher.data = "fashion_mnist" if task == "classification" else ""
    module = MINI.with_output(7)
    teacher = Network(module, init_variables(module, 0, (16, 16, 3)))
    network, _, _ = probed(cifar10_config, images_of("cats_vs_dogs", np.arange(20) % 2), tmp_path, teacher)
    images = np.random.default_rng(0).uniform(size=(3, 16, 16, 3)).astype(np.float32)
    features = np.asarray(network(images))
    if task in ("autoencoder", "denoising"):
        np.testing.assert_array_equal(features, teacher(images))
    else:
        head = np.asarray(teacher.variables["params"]["head"]["linear"]["kernel"])
        np.testing.assert_allclose(features @ head, teacher(images), atol=1e-4)


def test_the_probe_of_parcels_learns_what_the_supervised_baseline_would(xray_config, tmp_path, probed):
    xray_config.probe.max_train_samples = xray_config.probe.max_test_samples = 0
    xray_config.teacher.task = "baseline"
    dataset = images_of("xray", np.repeat([0, 1], [20, 6]))
    _, lesson, configuration = probed(xray_config, dataset, tmp_path)
    assert np.bincount(dataset.samples.labels[lesson.train]).tolist() == [16, 3]
    assert np.bincount(dataset.samples.labels[lesson.held_out]).tolist() == [4, 3]
    assert set(lesson.held_out) == set(configuration.test)
    xray_config.teacher.task = "rotnet"
    _, same, _ = probed(xray_config, dataset, tmp_path)
    assert (same.train.tolist(), same.held_out.tolist()) == (lesson.train.tolist(), lesson.held_out.tolist())


def test_leaves_are_probed_as_healthy_or_diseased(cifar10_config, tmp_path, probed):
    cifar10_config.data.name = "plant_pathology"
    cifar10_config.probe.max_train_samples = cifar10_config.probe.max_test_samples = 0
    dataset = images_of("plant_pathology", np.repeat(np.arange(4), 130))
    _, lesson, configuration = probed(cifar10_config, dataset, tmp_path)
    assert lesson.dataset.samples.classes == ("healthy", "anomalous")
    assert np.bincount(lesson.dataset.samples.labels).tolist() == [130, 390]
    assert not set(lesson.train) & set(configuration.test)
    # As many diseased leaves as healthy ones test, evenly of the three diseases.
    assert np.bincount(dataset.samples.labels[configuration.test]).tolist() == [26, 9, 9, 8]


def test_the_probe_can_be_limited(cifar10_config, tmp_path, probed):
    cifar10_config.data.name = "cats_vs_dogs"
    cifar10_config.probe.max_train_samples, cifar10_config.probe.max_test_samples = 5, 3
    _, lesson, _ = probed(cifar10_config, images_of("cats_vs_dogs", np.arange(20) % 2), tmp_path)
    assert (len(lesson.train), len(lesson.held_out)) == (5, 3)
