"""The linear probe: how well classes can be told apart by a linear layer on a frozen teacher (Sec. 3.4)."""

import warnings
from typing import Any

import ml_collections
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from brittle_jax import console
from brittle_jax.auxiliary import TASKS, build_task
from brittle_jax.data.image_set import ImageSet
from brittle_jax.data.one_class import Lesson, can_be_probed, plan_probe
from brittle_jax.evaluate import passes
from brittle_jax.models.network import ARCHITECTURES, Network
from brittle_jax.parallel import DeviceGroup

_MAX_ITERATIONS = 2000


def probe_teacher(
    config: ml_collections.ConfigDict, teacher: Network, images: ImageSet, devices: DeviceGroup
) -> dict[str, Any] | None:
    """Fits a linear classifier on a teacher's features of labelled training images; returns its test accuracies.

    Logistic regression on standardised features, by L-BFGS to convergence. The features are the pooled ones, without
    the random head; those of an autoencoder are its code.

    Returns:
        `accuracy` over test images; where samples have several, `accuracy_by_sample`, a sample being of the last
        class that any of its images is given; `num_train_images`, `num_test_images`, `num_classes`. None where there
        are no two classes to tell apart.
    """
    lesson = plan_probe(config, images)
    if not can_be_probed(lesson):
        return None
    network = feature_network(config, teacher)
    train, test = (images.images_of(samples) for samples in (lesson.train, lesson.held_out))
    features = {
        name: passes.outputs(
            network, images, indices, config.evaluate.batch_size, devices, f"features to probe, {name}"
        )
        for name, indices in (("train", train), ("test", test))
    }
    labels = lesson.images.labels[images.sample_of_image]
    predicted = fit_and_predict(features["train"], labels[train], features["test"], config.probe.inverse_penalty)
    description = {
        "accuracy": float((predicted == labels[test]).mean()),
        "num_train_images": len(train),
        "num_test_images": len(test),
        "num_classes": len(np.unique(labels[train])),
    }
    if len(test) > len(lesson.held_out):
        description["accuracy_by_sample"] = _accuracy_by_sample(lesson, test, predicted)
    console.say(f"  linear probe: {100 * description['accuracy']:.2f}% of {description['num_classes']} classes")
    return description


def feature_network(config: ml_collections.ConfigDict, teacher: Network) -> Network:
    """Returns the network whose outputs are probed: the trunk, or with its bottleneck where the head was trained."""
    if config.teacher.task in TASKS and build_task(config.teacher.task, config.pretrain, 2).keeps_head:
        return teacher
    variables = {key: {"trunk": tree["trunk"]} for key, tree in teacher.variables.items()}
    return Network(ARCHITECTURES[config.network.name].with_output(0), variables)


def fit_and_predict(
    train_features: np.ndarray, train_labels: np.ndarray, test_features: np.ndarray, inverse_penalty: float
) -> np.ndarray:
    """Returns the labels [M] that logistic regression predicts for features [M, F], fitted to others [N, F]."""
    classifier = make_pipeline(
        StandardScaler(), LogisticRegression(C=inverse_penalty, solver="lbfgs", max_iter=_MAX_ITERATIONS)
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        classifier.fit(train_features, train_labels)
    if any(issubclass(each.category, ConvergenceWarning) for each in caught):
        console.warn(f"the linear probe did not converge in {_MAX_ITERATIONS} iterations: its accuracy may be too low")
    return classifier.predict(test_features)


def _accuracy_by_sample(lesson: Lesson, test: np.ndarray, predicted: np.ndarray) -> float:
    last = np.full(len(lesson.images.ids), -1)
    np.maximum.at(last, lesson.images.sample_of_image[test], predicted)
    return float((last == lesson.images.labels)[lesson.held_out].mean())
